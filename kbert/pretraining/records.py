"""Pretraining examples as files: compressed TFRecords of tf.Examples in the layout of Google's `create_pretraining_data.py`.

| feature | of each example |
|---|---|
| `input_ids`, `input_mask`, `segment_ids` | int64 `[max_length]`: the packed pair with its hidden tokens, padded |
| `masked_lm_positions`, `masked_lm_ids`, `masked_lm_weights` | `[max_predictions]`: which were hidden, what they were, 1.0 or 0.0 where there are fewer |
| `next_sentence_labels` | int64 `[1]`: 0 where the second segment follows the first |
"""

import concurrent.futures
import hashlib
import json
import math
import mmap
import os
import pathlib
import tempfile
import threading

import numpy as np
import tensorflow as tf

from kbert.files.atomic import written_aside
from kbert.pretraining.sentence_pairs import draw_pairs, pair_columns, tokenize_documents
from kbert.text.packing import TextPreprocessor
from kbert.training.batches import by_epoch
from kbert.training.losses import NO_LABEL
from kbert.training.masking import mask_tokens

ABOUT = "about.json"  # beside the shards: with which vocabulary and settings they were made
AT_ONCE = 512  # examples that are masked together


def write_records(
    documents, tokenizer, folder, shards=8, max_length=128, copies=5, objective="nsp", whole_words=False, mask_rate=0.15, seed=0,
    progress=None,
):  # fmt: skip
    """Writes shards of examples whose masks are drawn once, each document in `copies` of them with other pairs and masks.

    >>> write_records(read_documents(["corpus.txt"]), tokenizer, "records")  # doctest: +SKIP

    Documents are read as a stream and their pieces kept in a file meanwhile, so that the memory does not grow with the texts; as many shards
    are written at once as there are cores. A run that was stopped goes on with the shards that are not there yet.

    Args:
      documents: as of `Pretrainer.fit`.
      tokenizer: a `WordPieceTokenizer`.
      folder: made if it is not there; one of other settings or another vocabulary is an error.
      shards: files, each of its share of the documents.
      max_length: positions of an example.
      copies: how often each document is used.
      objective: `"nsp"` or `"sop"`: the layout has a label for each pair.
      whole_words, mask_rate: as of `Pretrainer.fit`.
      seed: of pairs and masks.
      progress: called with each finished shard's path.

    Returns:
      The paths of the shards.

    Raises:
      OSError: the disk is full, say; what was finished stays, and the same call goes on from there.
    """
    folder = pathlib.Path(folder)
    if not isinstance(shards, int) or shards < 1:
        raise ValueError(f"shards should be a positive whole number, got {shards!r}")
    if objective == "mlm":
        raise ValueError(
            'records hold pairs: objective should be "nsp" or "sop"; a text without pairs needs no file, see fit()'
        )
    about = {
        "vocabulary": fingerprint(tokenizer), "max_length": max_length, "copies": copies, "objective": objective, "whole_words": whole_words,
        "mask_rate": mask_rate, "seed": seed, "shards_asked": shards,
    }  # fmt: skip
    known = folder / ABOUT
    before = json.loads(known.read_text()) if known.is_file() else None
    if before is not None and {name: before.get(name) for name in about} != about:
        raise_other(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pieces-", dir=folder) as room:
        corpus = tokenize_documents(documents, tokenizer, pathlib.Path(room) / "pieces")
        count = len(corpus.document_splits) - 1
        if count < 2 * shards:
            shards = max(1, count // 2)
        about.update(shards=shards, pieces=len(corpus.pieces))
        if before is not None and before != about:
            raise_other(folder)
        with written_aside(known) as aside:
            aside.write_text(json.dumps(about, indent=2))
        preprocessor = TextPreprocessor(tokenizer, max_length, fixed_length=True)
        stop = threading.Event()  # other shards end when one fails, or at Ctrl-C

        def write(number):
            path = folder / f"examples-{number:05}-of-{shards:05}.tfrecord.gz"
            if path.is_file():
                return path
            random = np.random.default_rng([seed, number])
            try:
                with written_aside(path) as aside, tf.io.TFRecordWriter(str(aside), "GZIP") as writer:
                    for _ in range(copies):
                        pairs, labels = draw_pairs(corpus, max_length - 3, random, objective, range(number, count, shards))
                        order = random.permutation(len(pairs))
                        for start in range(0, len(order), AT_ONCE):
                            if stop.is_set():
                                raise InterruptedError("stopped")
                            rows, draw = order[start : start + AT_ONCE], random.integers(2**31 - 1, size=2)
                            packed = preprocessor.pack(*pair_columns(corpus, pairs[rows]))
                            masked = mask_tokens(packed, tokenizer, mask_rate, draw, whole_words)
                            for example in serialized(*masked, labels[rows], mask_rate).numpy():
                                writer.write(example)
                            forget_pages(corpus.pieces)
            except tf.errors.OpError as error:
                raise OSError(f"{path} could not be written: {error.message}; what was finished is kept") from error
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


def forget_pages(mapped):
    """What was read of a mapped file leaves this process's memory; the system keeps it as long as it has room."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped._mmap.madvise(mmap.MADV_DONTNEED)


def raise_other(folder):
    raise ValueError(
        f"{folder} holds records of another corpus, vocabulary or other settings (see {ABOUT}); write to another folder"
    )


def serialized(packed, hidden, labels, mask_rate):
    """Masked pairs as serialized tf.Examples `[B]`, in ops: Python's protocol buffers take ten times as long.

    Args:
      packed: the dictionary of `mask_tokens`, `[B, L]` with `L` fixed.
      hidden: its labels, `[B, M]`.
      labels: of the pairs, `[B]`.
    """
    size, length = packed["token_ids"].shape
    most = math.ceil(mask_rate * length) + 1
    positions = packed["mask_positions"]
    # What was hidden in the order of the text, as Google's script writes it, and zeros behind.
    order = tf.argsort(tf.where(hidden != NO_LABEL, positions, length), 1, stable=True)[:, :most]
    hidden, positions = (tf.gather(part, order, batch_dims=1) for part in (hidden, positions))
    real = tf.cast(hidden != NO_LABEL, tf.int32)
    room = [[0, 0], [0, most - order.shape[1]]]
    features = {
        "input_ids": packed["token_ids"],
        "input_mask": packed["padding_mask"],
        "segment_ids": packed["segment_ids"],
        "masked_lm_positions": tf.pad(positions * real, room),
        "masked_lm_ids": tf.pad(hidden * real, room),
        "masked_lm_weights": tf.pad(tf.cast(real, tf.float32), room),
        "next_sentence_labels": tf.constant(labels)[:, None],
    }

    def message(kind, **fields):
        sizes = tf.constant([[values.shape[1] for values in fields.values()]] * size, tf.int32)
        return tf.io.encode_proto(sizes, list(fields.values()), list(fields), f"tensorflow.{kind}")[:, None]

    entries = []
    for name, values in features.items():
        if values.dtype == tf.float32:
            feature = message("Feature", float_list=message("FloatList", value=values))
        else:
            feature = message("Feature", int64_list=message("Int64List", value=tf.cast(values, tf.int64)))
        entries.append(message("Features.FeatureEntry", key=tf.fill([size, 1], name), value=feature))
    return message("Example", features=message("Features", feature=tf.concat(entries, 1)))[:, 0]


def record_files(paths, tokenizer=None):
    """The files of examples among files and folders; of folders that say it, those made with this tokenizer."""
    files = []
    for path in map(pathlib.Path, [paths] if isinstance(paths, (str, pathlib.Path)) else paths):
        if path.is_dir():
            about = path / ABOUT
            made_with = json.loads(about.read_text())["vocabulary"] if about.is_file() else None
            if tokenizer is not None and made_with not in (None, fingerprint(tokenizer)):
                raise ValueError(f"{path} was made with another vocabulary than this tokenizer's")
            files += sorted(file for file in path.iterdir() if ".tfrecord" in file.name and not file.name.startswith("."))
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"there is no file {path}")
    if not files:
        raise FileNotFoundError(f"there are no .tfrecord files in {paths}")
    return files


def read_records(paths, batch_size=32, tokenizer=None, shuffle=True, seed=0, max_length=None, count=False):
    """Files of examples, ours or those of Google's script, as a dataset for `Pretrainer.fit`.

    >>> task.fit(read_records(["records"]), epochs=10)  # doctest: +SKIP

    Args:
      paths: TFRecord files, gzipped (by their name, `.gz`) or not, or folders of them.
      batch_size: examples of a batch.
      tokenizer: with which the files should have been made, where they say it.
      shuffle: mix the examples of files that are read side by side, in another order each epoch.
      seed: of the order.
      max_length: the model's; records of more positions are an error.
      count: read the files once to count their examples, so that the dataset knows its length: for the learning rate to fall to 0 at the
        end, and for `fit(resume=)`. It finds a file that breaks off, too, before the training.

    Raises:
      FileNotFoundError, ValueError: there are no files; they were made with another vocabulary; their examples are longer than `max_length`, or
        are not of this layout; with `count`, a file breaks off.
    """
    files = record_files(paths, tokenizer)
    length, predictions = _sizes(files[0])
    if max_length is not None and length > max_length:
        raise ValueError(
            f"{files[0]} has examples of {length} positions, the model reads {max_length}: write records of that length"
        )

    def fixed(size, dtype=tf.int64):
        return tf.io.FixedLenFeature([size], dtype)

    spec = {name: fixed(length) for name in ("input_ids", "input_mask", "segment_ids")}
    spec.update({name: fixed(predictions) for name in ("masked_lm_positions", "masked_lm_ids")})
    spec.update(masked_lm_weights=fixed(predictions, tf.float32), next_sentence_labels=fixed(1))
    names = {
        "token_ids": "input_ids",
        "padding_mask": "input_mask",
        "segment_ids": "segment_ids",
        "mask_positions": "masked_lm_positions",
    }

    @tf.autograph.experimental.do_not_convert
    def parse(serialized):
        found = tf.io.parse_example(serialized, spec)
        inputs = {ours: tf.cast(found[theirs], tf.int32) for ours, theirs in names.items()}
        hidden = tf.where(found["masked_lm_weights"] > 0, tf.cast(found["masked_lm_ids"], tf.int32), NO_LABEL)
        return inputs, {"mlm_logits": hidden, "nsp_logits": tf.cast(found["next_sentence_labels"][:, 0], tf.int32)}

    @tf.autograph.experimental.do_not_convert
    def opened(file):
        gzipped = tf.strings.regex_full_match(file, r".*\.gz")
        return tf.data.TFRecordDataset(file, compression_type=tf.where(gzipped, "GZIP", ""))

    @tf.autograph.experimental.do_not_convert
    def look(number):
        """All examples, in an order that the number of the epoch gives."""
        names = tf.constant([str(file) for file in files])
        if shuffle:
            names = tf.random.experimental.stateless_shuffle(names, tf.stack([tf.cast(seed, tf.int64), number]))
        data = tf.data.Dataset.from_tensor_slices(names)
        data = data.interleave(opened, cycle_length=min(4, len(files)))
        return data.batch(10_000).enumerate().flat_map(lambda *block: mixed(number, *block)) if shuffle else data

    @tf.autograph.experimental.do_not_convert
    def mixed(number, place, block):
        draw = tf.random.experimental.stateless_fold_in(tf.stack([tf.cast(seed, tf.int64), number]), place + 1)
        return tf.data.Dataset.from_tensor_slices(tf.random.experimental.stateless_shuffle(block, draw))

    epochs = []
    data = by_epoch(look, epochs) if shuffle else look(0)
    data = data.batch(batch_size).map(parse, num_parallel_calls=2, deterministic=True)
    if count:
        examples = sum(_count(file) for file in files)
        data = data.apply(tf.data.experimental.assert_cardinality(-(-examples // batch_size)))
    options = tf.data.Options()
    # Of several workers each reads all files and takes its share of each batch, so that they make the steps of one; by file, shares of
    # unequal size would end an epoch early.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = data.with_options(options).prefetch(tf.data.AUTOTUNE)
    data.epochs = epochs  # the counter of epochs, which a training that goes on sets
    return data


def _count(file):
    """The examples of a file; a file that breaks off is named."""
    try:
        records = tf.data.TFRecordDataset(str(file), "GZIP" if file.suffix == ".gz" else "").batch(1024)
        return int(records.reduce(np.int64(0), lambda count, some: count + tf.size(some, tf.int64)))
    except tf.errors.OpError as error:
        raise ValueError(f"{file} breaks off or is damaged: write it again ({error.message})") from error


def _sizes(file):
    """Positions and predictions of a file's examples."""
    compression = "GZIP" if file.suffix == ".gz" else ""
    try:
        first = next(tf.data.TFRecordDataset(str(file), compression).take(1).as_numpy_iterator(), None)
        features = tf.train.Example.FromString(first or b"").features.feature
        sizes = [len(features[name].int64_list.value) for name in ("input_ids", "masked_lm_positions")]
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise ValueError(f"{file} could not be read as TFRecords of examples: {error}") from error
    except Exception as error:  # protobuf's DecodeError has no public home
        raise ValueError(f"{file} holds no tf.Examples: {error}") from error
    if not all(sizes):
        raise ValueError(
            f"{file} has no examples with input_ids and masked_lm_positions, as create_pretraining_data writes them"
        )
    return sizes


def fingerprint(tokenizer):
    """What tells vocabularies apart."""
    settings = [tokenizer.vocabulary, tokenizer.lowercase, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars]
    return hashlib.sha256(json.dumps(settings).encode("utf-8")).hexdigest()
