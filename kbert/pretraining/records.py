"""Pretraining examples as compressed TFRecord files, which are written once and read as a dataset."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import mmap
import os
import pathlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

from kbert.arguments import whole_number
from kbert.files.atomic import written_aside
from kbert.files.rooms import room_in
from kbert.pretraining.example_layout import parser, serialized, sizes_of
from kbert.pretraining.sentence_pairs import Corpus, Document, Paths, draw_pairs, pair_columns, tokenize_documents
from kbert.pretraining.shards import ABOUT, check_complete, check_file, mark_of, read_about, shard_name
from kbert.text.packing import TextPreprocessor
from kbert.text.tokenizer import WordPieceTokenizer
from kbert.training.fingerprint import digest
from kbert.training.length_batches import by_epoch
from kbert.training.masking import mask_tokens

EXAMPLES_AT_ONCE = 512  # examples that are masked together
SHUFFLED_AT_ONCE = 10_000  # examples that are mixed with each other in reading


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the examples of a folder are made; the fields are arguments of `write_records`."""

    max_length: int
    copies: int
    objective: str
    whole_words: bool
    mask_rate: float
    seed: int


def write_records(
    documents: Iterable[Document],
    tokenizer: WordPieceTokenizer,
    folder: str | pathlib.Path,
    shards: int = 8,
    max_length: int = 128,
    copies: int = 5,
    objective: str = "nsp",
    whole_words: bool = False,
    mask_rate: float = 0.15,
    seed: int = 0,
    progress: Callable[[pathlib.Path], Any] | None = None,
) -> list[pathlib.Path]:
    """Writes shards of examples whose masks are drawn once.

    >>> write_records(read_documents(["corpus.txt"]), tokenizer, "records")  # doctest: +SKIP

    Documents are read as a stream, and their pieces are kept in a file meanwhile, so that the memory does not grow with the
    texts. As many shards are written at once as there are cores. If a run was stopped, the same call writes the shards that are
    missing.

    Args:
      documents: documents, each a text whose lines are its sentences, or a list of sentences.
      tokenizer: the tokenizer of the model to train.
      folder: the folder to write to. It is made if it is not there.
      shards: the number of files. Each has its share of the documents.
      max_length: positions of an example.
      copies: how often each document is used, each time with other pairs and masks.
      objective: `"nsp"` for next-sentence prediction or `"sop"` for sentence-order prediction.
      whole_words: whether words are hidden with all of their pieces.
      mask_rate: the share of tokens to hide.
      seed: a number from which pairs and masks are drawn. The same seed gives the same files.
      progress: a function that is called with the path of each shard that is finished.

    Returns:
      The paths of the shards.

    Raises:
      ValueError: an argument is out of its range, the folder holds records of other settings, another vocabulary or another
        corpus, or a shard that was finished has changed since.
      OSError: a file could not be written, for example because the disk is full. Finished shards stay.
    """
    folder = pathlib.Path(folder)
    whole_number("shards", shards)
    if objective == "mlm":
        raise ValueError(
            'records hold pairs: objective should be "nsp" or "sop"; a text without pairs needs no file, see fit()'
        )
    settings = Settings(max_length, copies, objective, whole_words, mask_rate, seed)
    about = {"vocabulary": fingerprint(tokenizer), **dataclasses.asdict(settings), "shards_asked": shards}
    before = read_about(folder)
    if before and {name: before.get(name) for name in about} != about:
        raise_other(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with room_in(folder) as room:
        corpus = tokenize_documents(documents, tokenizer, room / "pieces")
        if corpus.num_documents < 2 * shards:
            shards = max(1, corpus.num_documents // 2)
        about.update(shards=shards, pieces=len(corpus.pieces))
        if before and {name: value for name, value in before.items() if name != "files"} != about:
            raise_other(folder)
        about["files"] = before.get("files", {})
        _write_about(folder, about)
        return _write_shards(folder, corpus, tokenizer, shards, settings, about, progress)


def _write_about(folder: pathlib.Path, about: dict[str, Any]) -> None:
    with written_aside(folder / ABOUT) as aside:
        aside.write_text(json.dumps(about, indent=2), encoding="utf-8")


def _write_shards(
    folder: pathlib.Path,
    corpus: Corpus,
    tokenizer: WordPieceTokenizer,
    shards: int,
    settings: Settings,
    about: dict[str, Any],
    progress: Callable[[pathlib.Path], Any] | None,
) -> list[pathlib.Path]:
    """Writes the shards that are not there yet, several at once; the first failure stops all.

    Args:
      folder: the folder to write to.
      corpus: the tokenized documents. Shard `n` has the documents `n`, `n + shards`, ...
      tokenizer: the tokenizer that gave the pieces.
      shards: the number of files.
      settings: how the examples are made.
      about: the contents of about.json. Its `files` get an entry for each shard that is finished.
      progress: a function that is called with the path of each shard that is finished, or None.

    Returns:
      The paths of all shards.
    """
    noting = threading.Lock()

    def note(path: pathlib.Path, examples: int) -> None:
        with noting:
            about["files"][path.name] = {"examples": examples, **mark_of(path)}
            _write_about(folder, about)

    stop = threading.Event()  # other shards end when one fails, or at Ctrl-C

    def write(number: int) -> pathlib.Path:
        path = folder / shard_name(number, shards)
        if path.is_file() and path.name not in about["files"]:
            with contextlib.suppress(ValueError):  # the file is damaged, and is written again
                note(path, _count(path))
        if path.is_file() and path.name in about["files"]:
            check_file(path, about["files"])
            return path
        documents = range(number, corpus.num_documents, shards)
        random = np.random.default_rng([settings.seed, number])
        try:
            with written_aside(path) as aside:
                examples = _write_shard(aside, corpus, documents, tokenizer, settings, random, stop)
        except tf.errors.OpError as error:
            raise OSError(f"{path} could not be written: {error.message}; what was finished is kept") from None
        note(path, examples)
        if progress:
            progress(path)
        return path

    with concurrent.futures.ThreadPoolExecutor(min(shards, os.cpu_count() or 1)) as pool:
        waiting = [pool.submit(write, number) for number in range(shards)]
        try:
            for future in concurrent.futures.as_completed(waiting):
                future.result()  # the first failure ends all
        except BaseException:
            stop.set()
            raise
    return [future.result() for future in waiting]


def _write_shard(
    path: pathlib.Path,
    corpus: Corpus,
    documents: range,
    tokenizer: WordPieceTokenizer,
    settings: Settings,
    random: np.random.Generator,
    stop: threading.Event,
) -> int:
    """Writes the examples of some documents to a file, and returns how many there are.

    Args:
      path: the file.
      corpus: the tokenized documents.
      documents: the numbers of the shard's documents.
      tokenizer: the tokenizer that gave the pieces.
      settings: how the examples are made.
      random: a NumPy generator.
      stop: an event that ends the writing with InterruptedError.
    """
    length = settings.max_length
    preprocessor, count = TextPreprocessor(tokenizer, length, fixed_length=True), 0
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for _ in range(settings.copies):
            pairs, labels = draw_pairs(corpus, length - 3, random, settings.objective, documents)
            order = random.permutation(len(pairs))
            for start in range(0, len(order), EXAMPLES_AT_ONCE):
                if stop.is_set():
                    raise InterruptedError("stopped")
                rows, draw = order[start : start + EXAMPLES_AT_ONCE], random.integers(2**31 - 1, size=2)
                packed = preprocessor.pack(*pair_columns(corpus, pairs[rows]))
                inputs, hidden = mask_tokens(packed, tokenizer, settings.mask_rate, draw, settings.whole_words)
                for example in serialized(inputs, hidden, labels[rows], settings.mask_rate).numpy():
                    writer.write(example)
                count += len(rows)
                forget_pages(corpus.pieces)
    return count


def forget_pages(mapped: Any) -> None:
    """Frees the memory of this process that holds parts of a mapped file.

    Args:
      mapped: a `numpy.memmap`, whose parts are read from the file again when they are needed.
    """
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped._mmap.madvise(mmap.MADV_DONTNEED)


def raise_other(folder: pathlib.Path) -> NoReturn:
    """Raises ValueError because the folder holds records that this call would not write."""
    raise ValueError(
        f"{folder} holds records of another corpus, vocabulary or other settings (see {ABOUT}); write to another folder"
    )


def record_files(paths: Paths, tokenizer: WordPieceTokenizer | None = None) -> list[pathlib.Path]:
    """Returns the TFRecord files among files and in folders.

    Args:
      paths: files and folders, one or a list.
      tokenizer: the tokenizer with which the records of folders should have been made, where the folders say it.

    Raises:
      ValueError: a folder's records were made with another vocabulary, or shards are missing, cut off or from another call of
        `write_records`.
      FileNotFoundError: a path does not exist, or there are no TFRecord files.
    """
    files: list[pathlib.Path] = []
    for path in map(pathlib.Path, [paths] if isinstance(paths, (str, pathlib.Path)) else paths):
        if path.is_dir():
            made_with = read_about(path).get("vocabulary")
            if tokenizer is not None and made_with not in (None, fingerprint(tokenizer)):
                raise ValueError(f"{path} was made with another vocabulary than this tokenizer's")
            of_folder = sorted(file for file in path.iterdir() if ".tfrecord" in file.name and not file.name.startswith("."))
            check_complete(path, of_folder)
            files += of_folder
        elif path.is_file():
            if path.name in read_about(path.parent).get("files", {}):
                check_file(path, read_about(path.parent)["files"])
            files.append(path)
        else:
            raise FileNotFoundError(f"there is no file {path}")
    if not files:
        raise FileNotFoundError(f"there are no .tfrecord files in {paths}")
    return files


def read_records(
    paths: Paths,
    batch_size: int = 32,
    tokenizer: WordPieceTokenizer | None = None,
    shuffle: bool = True,
    seed: int = 0,
    max_length: int | None = None,
    count: bool = False,
) -> tf.data.Dataset:
    """Reads files of examples, ours or those of Google's script, as a dataset for `Pretrainer.fit`.

    >>> task.fit(read_records(["records"]), epochs=10)  # doctest: +SKIP

    Args:
      paths: TFRecord files or folders of them, one or a list. A file whose name ends in `.gz` is gzipped.
      batch_size: examples of a batch.
      tokenizer: the tokenizer with which the records should have been made, where their folder says it.
      shuffle: whether the examples of files that are read side by side are mixed, in another order in each epoch.
      seed: a number from which the order is drawn.
      max_length: the most positions that the model reads.
      count: whether the files are read once to count their examples, so that the dataset knows its length. Without it the
        learning rate cannot fall to 0 at the end, and `fit(resume=)` is not possible. Counting also finds a damaged file before
        the training.

    Returns:
      A dataset of `(inputs, {"mlm_logits": int32 [B, M], "nsp_logits": int32 [B]})`.

    Raises:
      FileNotFoundError: there are no files.
      ValueError: the files were made with another vocabulary, have more positions than `max_length` or another layout; a folder
        lacks shards, or a shard is not the one that was written; or, with `count`, a file is damaged.
    """
    files = record_files(paths, tokenizer)
    length, predictions = sizes_of(files[0])
    if max_length is not None and length > max_length:
        raise ValueError(
            f"{files[0]} has examples of {length} positions, the model reads {max_length}: write records of that length"
        )
    epochs: list[tf.Variable] = []
    data = _serialized_examples(files, shuffle, seed, epochs)
    data = data.batch(batch_size).map(parser(length, predictions), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if count:
        examples = sum(_count(file) for file in files)
        data = data.apply(tf.data.experimental.assert_cardinality(-(-examples // batch_size)))
    options = tf.data.Options()
    # Each of several workers reads all files and takes its share of each batch, so that they make the steps of one worker.
    # Shares of whole files would be of unequal size, and the smallest would end the epoch early.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = data.with_options(options).prefetch(tf.data.AUTOTUNE)
    data.epochs = epochs  # the counter of epochs, which a training that goes on sets
    data.made_of = digest([[[file.name, mark_of(file)] for file in files], batch_size, shuffle, seed])
    return data


def _serialized_examples(files: Sequence[pathlib.Path], shuffle: bool, seed: int, epochs: list[tf.Variable]) -> tf.data.Dataset:
    """Returns a dataset of the serialized examples of files.

    Args:
      files: TFRecord files.
      shuffle: whether the order is another one in each epoch.
      seed: a number from which the order is drawn.
      epochs: a list that receives the variable which counts the epochs.
    """

    @tf.autograph.experimental.do_not_convert
    def records(file: tf.Tensor) -> tf.data.Dataset:
        is_gzipped = tf.strings.regex_full_match(file, r".*\.gz")
        return tf.data.TFRecordDataset(file, compression_type=tf.where(is_gzipped, "GZIP", ""))

    @tf.autograph.experimental.do_not_convert
    def examples(number: tf.Tensor | int) -> tf.data.Dataset:
        """Returns all examples, in an order that the number of the epoch gives."""
        names = tf.constant([str(file) for file in files])
        if shuffle:
            names = tf.random.experimental.stateless_shuffle(names, tf.stack([tf.cast(seed, tf.int64), number]))
        data = tf.data.Dataset.from_tensor_slices(names)
        data = data.interleave(records, cycle_length=min(4, len(files)))
        if not shuffle:
            return data
        return data.batch(SHUFFLED_AT_ONCE).enumerate().flat_map(lambda *block: mixed(number, *block))

    @tf.autograph.experimental.do_not_convert
    def mixed(number: tf.Tensor, place: tf.Tensor, block: tf.Tensor) -> tf.data.Dataset:
        draw = tf.random.experimental.stateless_fold_in(tf.stack([tf.cast(seed, tf.int64), number]), place + 1)
        return tf.data.Dataset.from_tensor_slices(tf.random.experimental.stateless_shuffle(block, draw))

    return by_epoch(examples, epochs) if shuffle else examples(0)


def _count(file: pathlib.Path) -> int:
    """Returns the number of a file's examples, or raises ValueError if the file is damaged."""

    @tf.autograph.experimental.do_not_convert
    def add(count: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        return count + tf.size(batch, tf.int64)

    try:
        records = tf.data.TFRecordDataset(str(file), "GZIP" if file.suffix == ".gz" else "").batch(1024)
        return int(records.reduce(np.int64(0), add))
    except tf.errors.OpError as error:
        raise ValueError(f"{file} breaks off or is damaged: write it again ({error.message})") from None


def fingerprint(tokenizer: WordPieceTokenizer) -> str:
    """Returns a digest that differs for tokenizers with another vocabulary or other options."""
    settings = [tokenizer.vocabulary, tokenizer.lowercase, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars]
    more = [tokenizer.clean_text, tokenizer.max_input_chars_per_word, tokenizer.added_tokens, tokenizer.added_words]
    if more != [True, 100, [], []]:  # older digests know none of these
        settings += more
    return hashlib.sha256(json.dumps(settings).encode("utf-8")).hexdigest()
