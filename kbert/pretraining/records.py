"""Pretraining examples as files: compressed TFRecords of tf.Examples in the layout of Google's `create_pretraining_data.py`.

| feature | of each example |
|---|---|
| `input_ids`, `input_mask`, `segment_ids` | int64 `[max_length]`: the packed pair with its hidden tokens, padded |
| `masked_lm_positions`, `masked_lm_ids`, `masked_lm_weights` | `[max_predictions]`: which were hidden, what they were, 1.0 or 0.0 where there are fewer |
| `next_sentence_labels` | int64 `[1]`: 0 where the second segment follows the first |
"""

import hashlib
import json
import pathlib

import numpy as np
import tensorflow as tf

from kbert.atomic_files import written_aside
from kbert.pretraining.masking import mask_tokens
from kbert.pretraining.sentence_pairs import draw_pairs, pair_columns, tokenize_documents
from kbert.text.packing import TextPreprocessor
from kbert.training.losses import NO_LABEL

ABOUT = "about.json"  # beside the shards: with which vocabulary and settings they were made
AT_ONCE = 512  # examples that are masked together


def write_records(
    documents, tokenizer, folder, shards=8, max_length=128, copies=5, objective="nsp", whole_words=False, mask_rate=0.15, seed=0,
    progress=None,
):  # fmt: skip
    """Writes shards of examples whose masks are drawn once, each document in `copies` of them with other pairs and masks.

    >>> write_records(read_documents(["corpus.txt"]), tokenizer, "records")  # doctest: +SKIP

    A run that was stopped goes on with the shards that are not there yet.

    Args:
      documents: as of `Pretrainer.fit`.
      tokenizer: a `WordPieceTokenizer`.
      folder: made if it is not there; one of other settings or another vocabulary is an error.
      shards: files, each of its share of the documents.
      max_length: positions of an example.
      copies: how often each document is used.
      objective, whole_words, mask_rate: as of `Pretrainer.fit`.
      seed: of pairs and masks.
      progress: called with each finished shard's path.

    Returns:
      The paths of the shards.
    """
    folder = pathlib.Path(folder)
    if not isinstance(shards, int) or shards < 1:
        raise ValueError(f"shards should be a positive whole number, got {shards!r}")
    corpus = tokenize_documents(documents, tokenizer)
    count = len(corpus.document_splits) - 1
    if count < 2 * shards:
        shards = max(1, count // 2)
    about = {
        "vocabulary": fingerprint(tokenizer), "max_length": max_length, "copies": copies, "objective": objective, "whole_words": whole_words,
        "mask_rate": mask_rate, "seed": seed, "shards": shards, "pieces": int(len(corpus.pieces)),
    }  # fmt: skip
    known = folder / ABOUT
    if known.is_file() and json.loads(known.read_text()) != about:
        raise ValueError(
            f"{folder} holds records of another corpus, vocabulary or other settings (see {ABOUT}); write to another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with written_aside(known) as aside:
        aside.write_text(json.dumps(about, indent=2))
    paths = [folder / f"examples-{number:05}-of-{shards:05}.tfrecord.gz" for number in range(shards)]
    for number, path in enumerate(paths):
        if path.is_file():
            continue
        part = _documents_of(corpus, range(number, count, shards))
        random = np.random.default_rng([seed, number])
        with written_aside(path) as aside, tf.io.TFRecordWriter(str(aside), "GZIP") as writer:
            for _ in range(copies):
                for example in _examples(part, tokenizer, max_length, objective, whole_words, mask_rate, random):
                    writer.write(example)
        if progress:
            progress(path)
    return paths


def _documents_of(corpus, places):
    """Some documents of a corpus."""
    sentences = [np.arange(*corpus.document_splits[place : place + 2]) for place in places]
    order = np.concatenate(sentences)
    sizes = np.diff(corpus.sentence_splits)[order]
    pieces = np.concatenate([corpus.pieces[slice(*corpus.sentence_splits[n : n + 2])] for n in order])
    return type(corpus)(pieces, np.r_[0, np.cumsum(sizes)], np.r_[0, np.cumsum([len(part) for part in sentences])])


def _examples(corpus, tokenizer, max_length, objective, whole_words, mask_rate, random):
    """Serialized examples of a corpus."""
    preprocessor = TextPreprocessor(tokenizer, max_length, fixed_length=True)
    most = int(np.ceil(mask_rate * max_length)) + 1
    pairs, labels = draw_pairs(corpus, max_length - 3, random, objective)
    order = random.permutation(len(pairs))
    for start in range(0, len(order), AT_ONCE):
        rows = order[start : start + AT_ONCE]
        seed = random.integers(2**31 - 1, size=2)
        packed, hidden = mask_tokens(
            preprocessor.pack(*pair_columns(corpus, pairs[rows])), tokenizer, mask_rate, seed, whole_words
        )
        ids, segments, mask = (packed[name].numpy() for name in ("token_ids", "segment_ids", "padding_mask"))
        positions, hidden = packed["mask_positions"].numpy()[:, :most], hidden.numpy()[:, :most]
        for n, row in enumerate(rows):
            real = np.flatnonzero(hidden[n] != NO_LABEL)
            real = real[np.argsort(positions[n][real])]
            rest = [0] * (most - len(real))
            yield tf.train.Example(
                features=tf.train.Features(
                    feature={
                        "input_ids": _integers(ids[n]),
                        "input_mask": _integers(mask[n]),
                        "segment_ids": _integers(segments[n]),
                        "masked_lm_positions": _integers([*positions[n][real], *rest]),
                        "masked_lm_ids": _integers([*hidden[n][real], *rest]),
                        "masked_lm_weights": tf.train.Feature(
                            float_list=tf.train.FloatList(value=[1.0] * len(real) + [0.0] * len(rest))
                        ),
                        "next_sentence_labels": _integers([labels[row]]),
                    }
                )
            ).SerializeToString()


def _integers(values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value) for value in values]))


def read_records(paths, batch_size=32, tokenizer=None, shuffle=True, seed=0, max_length=None):
    """Files of examples, ours or those of Google's script, as a dataset for `Pretrainer.fit`.

    >>> task.fit(read_records(["records"]), epochs=10)  # doctest: +SKIP

    Args:
      paths: TFRecord files, gzipped (by their name, `.gz`) or not, or folders of them.
      batch_size: examples of a batch.
      tokenizer: with which the files should have been made, where they say it.
      shuffle: mix the examples of files that are read side by side, in another order each epoch.
      seed: of the order.
      max_length: the model's; records of more positions are an error.

    Raises:
      FileNotFoundError, ValueError: there are no files; they were made with another vocabulary; their examples are longer than `max_length`, or
        are not of this layout.
    """
    files = []
    for path in map(pathlib.Path, [paths] if isinstance(paths, (str, pathlib.Path)) else paths):
        if path.is_dir():
            about = path / ABOUT
            if (
                tokenizer is not None
                and about.is_file()
                and json.loads(about.read_text())["vocabulary"] != fingerprint(tokenizer)
            ):
                raise ValueError(f"{path} was made with another vocabulary than this tokenizer's")
            files += sorted(file for file in path.iterdir() if ".tfrecord" in file.name and not file.name.startswith("."))
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"there is no file {path}")
    if not files:
        raise FileNotFoundError(f"there are no .tfrecord files in {paths}")
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

    names_of_files = tf.data.Dataset.from_tensor_slices([str(file) for file in files])
    if shuffle:
        names_of_files = names_of_files.shuffle(len(files), seed=seed)

    @tf.autograph.experimental.do_not_convert
    def opened(file):
        gzipped = tf.strings.regex_full_match(file, r".*\.gz")
        return tf.data.TFRecordDataset(file, compression_type=tf.where(gzipped, "GZIP", ""))

    data = names_of_files.interleave(opened, cycle_length=min(4, len(files)), deterministic=True)
    if shuffle:
        data = data.shuffle(10_000, seed=seed)
    return data.batch(batch_size).map(parse, num_parallel_calls=2, deterministic=True).prefetch(tf.data.AUTOTUNE)


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
