"""Entities in sequences of BIO and BIOES tags, and their precision, recall and F1 as seqeval counts them."""

import collections


def entities(tags, strict=False, bioes=None):
    """The entities of a sequence of tags: `(type, first, beyond)` with places of words.

    >>> entities(["B-city", "I-city", "O", "I-food"])
    [('city', 0, 2), ('food', 3, 4)]
    >>> entities(["B-city", "I-city", "O", "I-food"], strict=True)
    [('city', 0, 2)]

    Args:
      tags: `O`, `B-x`, `I-x`, and `E-x`, `S-x` where the scheme is BIOES.
      strict: an entity must be written as its scheme says: begin with B (or S), and in BIOES end with E (or S). Otherwise, as in
        conlleval, an I that continues nothing of its type begins an entity.
      bioes: whether the scheme is BIOES; by default it is if there is an E or an S.
    """
    if bioes is None:
        bioes = has_ends([tags])
    found, start = [], None
    before = ("O", "")
    for place, tag in enumerate([*tags, "O"]):
        prefix, kind = (tag[0], tag[2:]) if tag != "O" else ("O", "")
        continues = prefix in "IE" and before[0] in ("B", "I") and before[1] == kind and start is not None
        if not continues:
            if start is not None and (not (strict and bioes) or before[0] in ("E", "S")):
                found.append((before[1], start, place))
            start = place if prefix in "BS" or (prefix in "IE" and not strict) else None
        before = (prefix, kind)
    return found


def has_ends(sequences):
    """Whether tags are BIOES rather than BIO."""
    return any(tag[:2] in ("E-", "S-") for tags in sequences for tag in tags)


def entity_scores(true, predicted, strict=False):
    """Precision, recall and F1 of entities, over all types and for each.

    >>> entity_scores([["B-city", "O"]], [["B-city", "B-city"]])["f1"]
    0.6666666666666666

    Args:
      true, predicted: lists of sequences of tags, of the same lengths.
      strict: see `entities`.

    Returns:
      A dictionary with `precision`, `recall`, `f1` (micro averages, 0 where nothing is there) and `by_type`, a dictionary from a type to
      its own three and its `support`.
    """
    counts = collections.defaultdict(lambda: [0, 0, 0])  # right, predicted, true
    bioes = has_ends(true) or has_ends(predicted)
    for tags, answers in zip(true, predicted):
        if len(tags) != len(answers):
            raise ValueError(f"a sequence of {len(tags)} tags has {len(answers)} predicted ones")
        expected, given = set(entities(tags, strict, bioes)), set(entities(answers, strict, bioes))
        for position, group in enumerate((expected & given, given, expected)):
            for kind, *_ in group:
                counts[kind][position] += 1
    total = [sum(column) for column in zip(*counts.values())] or [0, 0, 0]
    by_type = {kind: {**_scores(*counts[kind]), "support": counts[kind][2]} for kind in sorted(counts)}
    return {**_scores(*total), "by_type": by_type}


def _scores(right, predicted, true):
    precision, recall = right / predicted if predicted else 0.0, right / true if true else 0.0
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if right else 0.0,
    }


def check_tags(labels):
    """Raises a ValueError for labels that are not BIO or BIOES tags."""
    wrong = [label for label in labels if label != "O" and (label[:2] not in ("B-", "I-", "E-", "S-") or len(label) < 3)]
    if wrong:
        raise ValueError(
            f"entities are read from BIO or BIOES tags such as B-city, I-city and O; {wrong[0]!r} is none. predict() gives the labels "
            "of words whatever they are called"
        )


def read_bio(path, encoding="utf-8"):
    """Reads a file of words with tags, one a line, and a blank line between sentences.

    >>> sentences, tags = read_bio("train.bio")  # doctest: +SKIP

    Args:
      path: a text file. A line has a word and its tag, with a tab or spaces between them, in either order (`tag TAB word` is told by
        its tags); of lines with more columns, as of CoNLL 2003, the first is the word and the last the tag.

    Returns:
      A list of lists of words, and one of lists of tags.

    Raises:
      ValueError: a line with one column, or a tag that is not BIO or BIOES: file and line are named.
    """
    sentences, numbers = [[]], [[]]
    with open(path, encoding=encoding) as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\r\n")
            if not line.strip():
                if sentences[-1]:
                    sentences.append([])
                    numbers.append([])
                continue
            if line.startswith("-DOCSTART-"):
                continue
            columns = line.split("\t") if "\t" in line else line.split()
            if len(columns) < 2:
                raise ValueError(f"{path}, line {number}: a word and its tag are expected, got {line!r}")
            sentences[-1].append((columns[0], columns[-1]))
            numbers[-1].append(number)
    if not sentences[-1]:
        sentences.pop(), numbers.pop()
    if not sentences:
        raise ValueError(f"{path} holds no sentence")
    # The tags are the column all of whose values are tags; where both are, the last.
    is_tag = [all(_is_tag(pair[place]) for sentence in sentences for pair in sentence) for place in (0, 1)]
    tag = 1 if is_tag[1] or not is_tag[0] else 0
    for sentence, lines in zip(sentences, numbers):
        for pair, number in zip(sentence, lines):
            if not _is_tag(pair[tag]):
                raise ValueError(f"{path}, line {number}: {pair[tag]!r} is not a BIO or BIOES tag")
    words = [[pair[1 - tag] for pair in sentence] for sentence in sentences]
    return words, [[pair[tag] for pair in sentence] for sentence in sentences]


def _is_tag(text):
    return text == "O" or (text[:2] in ("B-", "I-", "E-", "S-") and len(text) > 2)
