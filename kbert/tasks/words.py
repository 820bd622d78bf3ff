"""Words: their pieces, their places in the text, and their labels as targets."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kbert.scoring.entities import entities, read_spans
from kbert.scoring.tag_schemes import are_tags, later_labels, read_tags, tags_of_entity
from kbert.tasks.columns import Chunk, are_words
from kbert.tasks.labels import is_no_label, label_index, names_of
from kbert.text.texts import text_list
from kbert.text.tokenizer import WordPieceTokenizer
from kbert.training.losses import NO_LABEL


class Words(NamedTuple):
    """`B` texts with `W` words and `P` pieces in all."""

    texts: list  # of UTF-8 bytes
    ids: tf.RaggedTensor  # int32 [B, (pieces)]
    word: tf.Tensor  # int64 [P], the number of each piece's word among those of all texts
    is_first: tf.Tensor  # bool [P], whether a piece is its word's first
    splits: tf.Tensor  # int64 [B + 1], words of a text
    starts: tf.Tensor  # int64 [W], in characters of the text
    ends: tf.Tensor  # int64 [W]


def read_words(x: Any, tokenizer: WordPieceTokenizer, name: str = "x") -> Words:
    """Returns texts, or lists of words, with their pieces.

    Lists of words are read as the text `" ".join(words)`, so that a word has the pieces that it has by itself. The words of a
    text are what BERT's own pre-tokenizer makes of it: cut at white space, and punctuation by itself.

    Args:
      x: texts, or lists of words.
      tokenizer: the task's tokenizer.
      name: what to call `x` in an error.
    """
    if not are_words(x):
        texts = text_list(x, name)
        ids, starts, ends = tokenizer.tokenize_with_offsets(texts)
        return Words(texts, *_words_of_texts(tokenizer, ids, starts, ends))
    columns = [text_list(words, f"{name}[{place}]") for place, words in enumerate(x)]
    words = tf.RaggedTensor.from_row_lengths(
        tf.constant([word for column in columns for word in column], tf.string), [len(column) for column in columns]
    )
    return Words([b" ".join(column) for column in columns], *_given_words(tokenizer, words))


def _given_words(tokenizer: WordPieceTokenizer, words: tf.RaggedTensor) -> tuple:
    """Returns ragged strings `[B, (words)]` as the parts of `Words`, in ops of a graph."""
    pieces = tokenizer(words.values)  # ragged [W, (pieces)]
    word = pieces.value_rowids()
    ids = tf.RaggedTensor.from_row_splits(pieces.values, tf.gather(pieces.row_splits, words.row_splits))
    length = tf.cast(tf.strings.length(words.values, unit="UTF8_CHAR"), tf.int64)
    beyond = words.with_values(tf.cumsum(length + 1))  # a space after each word; counted over all texts
    before = tf.gather(tf.concat([[0], beyond.values], 0), words.row_splits[:-1])
    ends = beyond.values - 1 - tf.repeat(before, words.row_lengths())
    return ids, word, _first_of_run(word), words.row_splits, ends - length, ends


def _words_of_texts(
    tokenizer: WordPieceTokenizer, ids: tf.RaggedTensor, starts: tf.RaggedTensor, ends: tf.RaggedTensor
) -> tuple:
    """Returns the words that BERT's pre-tokenizer finds as the parts of `Words`; a piece without `##` begins one."""
    continues = tf.constant([token.startswith("##") for token in tokenizer.vocabulary])
    is_first = ~tf.gather(continues, ids.values) | _first_of_run(ids.value_rowids())
    word = tf.cumsum(tf.cast(is_first, tf.int64)) - 1
    splits = tf.gather(tf.concat([[0], word + 1], 0), ids.row_splits)
    is_last = tf.concat([is_first[1:], tf.ones_like(is_first[:1])], 0)
    starts, ends = tf.boolean_mask(starts.values, is_first), tf.boolean_mask(ends.values, is_last)
    return ids, word, is_first, splits, tf.cast(starts, tf.int64), tf.cast(ends, tf.int64)


def _first_of_run(numbers: tf.Tensor) -> tf.Tensor:
    """Returns where numbers `[P]` that never fall go up, and the first of all, bool `[P]`."""
    return tf.concat([tf.ones_like(numbers[:1], tf.bool), numbers[1:] != numbers[:-1]], 0)


# Targets


def piece_targets(labels: list[str], words: Words, chunk: Chunk, tokenizer: WordPieceTokenizer, all_pieces: bool) -> tf.Tensor:
    """Returns the index of the label that each piece is trained on, int32 `[P]`; see `labels_of_pieces`.

    Args:
      labels: the task's labels.
      words: the words of all texts.
      chunk: the rows; its targets are labels of given words, or entities of texts in characters.
      tokenizer: the task's tokenizer.
      all_pieces: whether the pieces that continue a word (##ing) are trained on too.
    """
    of_text = labels_of_given_words if chunk.has_words else labels_of_found_words
    of_texts = [of_text(labels, words, place, given) for place, given in enumerate(chunk.targets or [])]
    of_word = tf.constant([label for text in of_texts for label in text], tf.int32)
    return labels_of_pieces(labels, words, of_word, tokenizer, all_pieces)


def true_entities(labels: list[str], chunk: Chunk) -> list[set]:
    """Returns the entities in the targets of each row as `(type, start, end)`.

    Args:
      labels: the task's labels, tags of one scheme.
      chunk: lists of words with their labels, whose entities are counted in words; or texts with their entities, which are
        counted in characters.
    """
    targets = chunk.targets or []
    if chunk.has_words:
        labelled = [labelled_words(given, given) for given in targets]
        return [entities_of_tags(labels, names_of(labels, given, f"y[{place}]")) for place, given in enumerate(labelled)]
    texts = (text.decode("utf-8") for text in chunk.columns[0])
    return [set(read_spans(given, text, f"y[{place}]")) for place, (text, given) in enumerate(zip(texts, targets))]


def labelled_words(values: list, given: list) -> list:
    """Returns the values of the words that have a label.

    Args:
      values: a value for each word.
      given: a label for each word; -100 for none.
    """
    return [value for value, label in zip(values, given) if not is_no_label(label)]


def entities_of_tags(labels: list[str], tags: list[str]) -> set:
    """Returns the entities `(type, first, beyond)` of a sequence of tags, which are among a task's `labels`."""
    return set(entities(tags, scheme=read_tags(labels)))


def tags_of_words(labels: list[str], given: Any, where: str) -> list[str | None]:
    """Returns the tags of one text's words as names, and None for words without a tag.

    Args:
      labels: the task's labels.
      given: a tag for each word, by its name or its index; -100 for none. The task need not have a tag of that name.
      where: the name of the list in an error.

    Raises:
      TypeError: `given` is no list, or a tag is neither a name nor an index.
      ValueError: there is no tag with that index.
    """
    if not isinstance(given, list):
        raise TypeError(f"{where} is {given!r:.80}; a list of words needs a list with a label for each word")

    def name(label: Any, place: int) -> str | None:
        if isinstance(label, str):
            return label
        return None if is_no_label(label) else labels[label_index(labels, label, f"{where}[{place}]")]

    return [name(label, place) for place, label in enumerate(given)]


def check_entities(given: Any, where: str) -> None:
    """Raises a TypeError if the entities of one text are no list."""
    if not isinstance(given, list):
        raise TypeError(f"{where} is {given!r:.80}; a text has a list of entities, which may be empty")


def labels_of_given_words(labels: list[str], words: Words, place: int, given: list) -> list[int]:
    """Returns the indices of the labels of one text's words.

    Args:
      labels: the task's labels.
      words: the words of all texts.
      place: the number of the text.
      given: a label for each of its words; -100 for none.
    """
    count = int(words.splits[place + 1] - words.splits[place])
    if not isinstance(given, list):
        raise TypeError(f"y[{place}] is {given!r:.80}; a list of words needs a list with a label for each word")
    if len(given) != count:
        raise ValueError(f"x[{place}] has {count} words, y[{place}] {len(given)} labels; each word needs one")
    return [NO_LABEL if is_no_label(label) else label_index(labels, label, f"y[{place}][{n}]") for n, label in enumerate(given)]


def labels_of_found_words(labels: list[str], words: Words, place: int, given: list) -> list[int]:
    """Returns the indices of the tags that entities in characters give one text's words.

    Args:
      labels: the task's labels, tags of one scheme.
      words: the words of all texts.
      place: the number of the text.
      given: its entities in characters, as `read_spans` takes them.

    Raises:
      ValueError: two entities would give one word two tags.
    """
    check_entities(given, f"y[{place}]")
    text = words.texts[place].decode("utf-8")
    of_text = slice(words.splits[place], words.splits[place + 1])
    starts, ends = words.starts[of_text].numpy(), words.ends[of_text].numpy()
    tags, scheme = ["O"] * len(starts), read_tags(labels)
    of_word: dict[int, tuple[str, int, int]] = {}
    for label, start, end in read_spans(given, text, f"y[{place}]"):
        inside = np.flatnonzero((starts < end) & (ends > start))
        taken = next((word for word in inside if of_word.get(int(word), (label, start, end)) != (label, start, end)), None)
        if taken is not None:
            raise ValueError(
                f"y[{place}] has two entities on the word {text[starts[taken] : ends[taken]]!r}, {of_word[int(taken)]} and "
                f"{(label, start, end)}: a word has one tag, keep one of them"
            )
        of_word.update(dict.fromkeys(inside.tolist(), (label, start, end)))
        for word, tag in zip(inside, tags_of_entity(scheme, label, len(inside))):
            tags[word] = tag
    return [label_index(labels, tag, f"y[{place}]") for tag in tags]


def labels_of_pieces(
    labels: list[str], words: Words, of_word: tf.Tensor, tokenizer: WordPieceTokenizer, all_pieces: bool
) -> tf.Tensor:
    """Returns the index of the label that each piece is trained on, int32 `[P]`, or `NO_LABEL` for other pieces.

    A word's first piece has the word's label. A given word with punctuation inside, for example U.S., is several words if the
    same sentence is read as a text. If the labels are tags, the first piece of each of these is trained on too, with a label
    that begins no entity (`later_labels`).

    Args:
      labels: the task's labels.
      words: the words of all texts.
      of_word: the index of each word's label, int32 `[W]`, or `NO_LABEL`.
      tokenizer: the task's tokenizer.
      all_pieces: whether all other pieces of a word are trained on too.
    """
    of_piece = tf.gather(of_word, words.word)
    later = tf.where(of_piece < 0, of_piece, tf.gather(tf.constant(later_labels(labels), tf.int32), tf.maximum(of_piece, 0)))
    if not all_pieces:
        goes_on = tf.constant([token.startswith("##") or not are_tags(labels) for token in tokenizer.vocabulary])
        later = tf.where(tf.gather(goes_on, words.ids.values), NO_LABEL, later)
    return tf.where(words.is_first, of_piece, later)
