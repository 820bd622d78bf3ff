"""The one decoder of entities, in graph ops: Python, SavedModels, LiteRT files and frozen tasks call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from kbert.scoring.tag_schemes import read_tags
from kbert.text.truncation import Windows


class Entities(NamedTuple):
    """`E` entities of several texts, text by text."""

    text: tf.Tensor  # int32 [E], the text of each
    kind: tf.Tensor  # int32 [E], its type, a place in `entity_types`
    first: tf.Tensor  # int32 [E], its first word or piece
    last: tf.Tensor  # int32 [E], its last word or piece
    score: tf.Tensor  # float32 [E], the mean probability of its words' labels


def entity_types(labels: Sequence[str]) -> list[str]:
    """Returns the types of entities that are named by tags, in alphabetical order.

    >>> entity_types(["O", "B-food", "I-food", "B-city"])
    ['city', 'food']
    """
    return sorted({tag.kind for tag in read_tags(labels).values() if tag.prefix != "O"})


def entities_of_words(
    labels: Sequence[str], text: tf.Tensor, probabilities: tf.Tensor, touches: tf.Tensor | None = None
) -> Entities:
    """Returns the entities of words, in ops that LiteRT has too.

    A word continues an entity if its tag is I or E, and the word before it in the text has the tag B or I of the same type.
    If no white space is between the two words, as within U.S., the tag before may also be E or S. An I or E that continues
    nothing begins an entity, as in conlleval. Tags of other schemes are read as BIOES; see `kbert.scoring.tag_schemes`.

    Args:
      labels: tags of one scheme, in the order of their indices.
      text: the text of each word, int32 `[W]`, ascending.
      probabilities: float32 `[W, labels]`.
      touches: whether each word begins where the word before it ends, bool `[W]`; by default no word does.
    """
    best, scores = tf.argmax(probabilities, -1, tf.int32), tf.reduce_max(probabilities, -1)
    types, scheme = entity_types(labels), read_tags(labels)
    tags = [scheme[label] for label in labels]
    prefix = tf.gather(tf.constant(["OBIES".index(tag.prefix) for tag in tags]), best)
    kind = tf.gather(tf.constant([0 if tag.prefix == "O" else types.index(tag.kind) for tag in tags]), best)
    inside, open_before = (prefix == 2) | (prefix == 3), (prefix == 1) | (prefix == 2)

    def previous(values: tf.Tensor, at_start: int | bool) -> tf.Tensor:
        return tf.concat([tf.fill([1], tf.constant(at_start, values.dtype)), values], 0)[:-1]

    is_open = previous(open_before, False)
    if touches is not None:
        is_open |= touches & previous(prefix > 0, False)
    goes_on = inside & is_open & (kind == previous(kind, -1)) & (text == previous(text, -1))
    begins = (prefix > 0) & ~goes_on
    final = (prefix > 0) & ~tf.concat([goes_on[1:], tf.zeros_like(goes_on[:1])], 0)
    first, last = tf.where(begins)[:, 0], tf.where(final)[:, 0]
    within = tf.where(prefix > 0)[:, 0]
    number = tf.gather(tf.cumsum(tf.cast(begins, tf.int32)) - 1, within)
    score = tf.math.segment_sum(tf.gather(scores, within), number)
    words = tf.math.segment_sum(tf.ones_like(within, tf.float32), number)
    return Entities(tf.gather(text, first), tf.gather(kind, first), first, last, score / words)


def entities_of_pieces(
    labels: Sequence[str],
    vocabulary: Sequence[str],
    ids: tf.Tensor,
    rows: tf.Tensor,
    logits: tf.Tensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
) -> Entities:
    """Returns the entities of pieces, with places of pieces; a word's label is that of its first piece.

    Args:
      labels: tags of one scheme, in the order of their indices.
      vocabulary: the tokens; one that does not begin with `##` begins a word.
      ids: the pieces, int32 `[P]`.
      rows: the text of each piece, an integer `[P]`, ascending.
      logits: float32 `[P, labels]`.
      starts: the first character of each piece in its text, int32 `[P]`.
      ends: the character after each piece, int32 `[P]`.
    """
    continues_word = tf.constant([token.startswith("##") for token in vocabulary])
    before = tf.concat([tf.constant([-1], rows.dtype), rows[:-1]], 0)
    is_first = ~tf.gather(continues_word, ids) | (rows != before)
    first_piece = tf.where(is_first)[:, 0]  # [W]
    last_piece = tf.where(tf.concat([is_first[1:], tf.ones_like(is_first[:1])], 0))[:, 0]
    text = tf.cast(tf.gather(rows, first_piece), tf.int32)
    end_before = tf.concat([tf.constant([-1], ends.dtype), ends[:-1]], 0)
    touches = tf.gather(tf.equal(starts, end_before), first_piece)
    found = entities_of_words(labels, text, tf.nn.softmax(tf.gather(logits, first_piece)), touches)
    return found._replace(first=tf.gather(first_piece, found.first), last=tf.gather(last_piece, found.last))


def best_window(ids: tf.RaggedTensor, cut: Windows, length: int | tf.Tensor) -> tf.Tensor:
    """Returns where the logits of each piece are to be read.

    That is the window in which the piece stands farthest from an edge, the first of such.

    Args:
      ids: ragged `[B, (pieces)]`.
      cut: their windows.
      length: positions of a packed window, `L`.

    Returns:
      For each piece a place among all `W * L` positions, int64 `[P]`.
    """
    whole = tf.cast(ids.row_lengths(), tf.int32)
    window = tf.repeat(tf.range(tf.size(cut.length)), cut.length)
    place = tf.ragged.range(cut.length).values
    start, size = tf.gather(cut.start, window), tf.gather(cut.length, window)
    document = tf.gather(cut.document, window)
    far = tf.int32.max // 2  # from the text's own ends no context is missing
    before = tf.where(start > 0, place, far)
    after = tf.where(start + size < tf.gather(whole, document), size - 1 - place, far)
    windows_in_all = tf.cast(tf.size(cut.length), tf.int64)
    order = tf.cast(tf.minimum(before, after), tf.int64) * windows_in_all - tf.cast(window, tf.int64)
    piece = tf.gather(ids.row_splits, document) + tf.cast(start + place, tf.int64)
    count = tf.size(ids.values, tf.int64)
    best = tf.where(tf.equal(order, tf.gather(tf.math.unsorted_segment_max(order, piece, count), piece)))[:, 0]
    position = tf.cast(window, tf.int64) * tf.cast(length, tf.int64) + 1 + tf.cast(place, tf.int64)
    return tf.scatter_nd(tf.gather(piece, best)[:, None], tf.gather(position, best), [count])


def texts_between(texts: tf.Tensor, row: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Returns parts of texts, in ops of a graph. Time and memory grow with the texts and not with their parts times the texts.

    `tf.strings.substr` would need a copy of the whole text for each part, and read it from its beginning.

    Args:
      texts: valid UTF-8 `[B]`.
      row: the text of each part, int32 `[E]`.
      start: the first character of each part, int32 `[E]`.
      end: the character after each part, int32 `[E]`.

    Returns:
      UTF-8 `[E]`.
    """
    characters = tf.strings.unicode_decode(texts, "UTF-8")
    first = tf.gather(characters.row_splits, row) + tf.cast(start, tf.int64)
    places = tf.ragged.range(first, first + tf.cast(end - start, tf.int64))
    return tf.strings.unicode_encode(places.with_values(tf.gather(characters.values, places.values)), "UTF-8")


def entity_answers(
    labels: Sequence[str], texts: list[bytes], entities: Entities, starts: tf.Tensor, ends: tf.Tensor
) -> list[list[dict]]:
    """Returns decoded entities as a list of dictionaries for each text.

    Args:
      labels: tags of one scheme, in the order of their indices.
      texts: the texts, UTF-8.
      entities: their entities.
      starts: the first character of each entity, `[E]`.
      ends: the character after each entity, `[E]`.
    """
    answers: list[list[dict]] = [[] for _ in texts]
    types = entity_types(labels)
    parts = (part.numpy().tolist() for part in (entities.text, entities.kind, starts, ends, entities.score))
    for row, kind, start, end, score in zip(*parts):
        answers[row].append({"label": types[kind], "text": "", "start": start, "end": end, "score": score})
    for text, answer in zip(texts, answers):
        decoded = text.decode("utf-8") if answer else ""
        for entity in answer:
            entity["text"] = decoded[entity["start"] : entity["end"]]
    return answers
