"""The figures of a task on labelled data, as plain data: no task, no HTML and no terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from kbert.scoring.classes import Confusion, f1_by_label
from kbert.scoring.correlation import pearson, spearman
from kbert.scoring.entities import check_lengths, entities, read_spans, scores_of_entities
from kbert.scoring.ranking import found_first, mean_reciprocal_rank, ranks
from kbert.scoring.tag_schemes import read_tags


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A text that a task answered wrongly.

    Args:
      text: the text, or the texts of a pair.
      true: the target as it was given, or a list of several.
      answer: what the task answered, or a list of several answers.
      score: the task's confidence in the answer; for a regression the distance from the target. The worst mistake's is largest.
    """

    text: str | tuple[str, ...]
    true: str | float | Sequence[str]
    answer: str | float | Sequence[str]
    score: float


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a task is worth on labelled data; `task.figures(x, y)` returns one.

    Args:
      scores: a number by its name, the most important first.
      head: the names of the columns of `rows`.
      rows: a table with a row for each label or kind of entity; its first column is the name.
      mistakes: the wrong answers, in the order of the texts.
      confusion: the counts of true labels and answers, for classes.
      points: the true numbers and the answers, both `[B]`, for a regression.
    """

    scores: dict[str, float]
    head: tuple[str, ...] = ()
    rows: Sequence[tuple[str | float | int, ...]] = ()
    mistakes: Sequence[Mistake] = ()
    confusion: Confusion | None = None
    points: tuple[np.ndarray, np.ndarray] | None = None


def figures_of_classes(
    texts: Sequence[Any], y: Sequence[Any], targets: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]
) -> Figures:
    """Returns the figures of one label a text: accuracy and macro F1, a table by label, the mistakes, the confusion.

    Args:
      texts: texts, or pairs of them, `B` in all.
      y: the targets as they were given.
      targets: the indices of the targets, int `[B]`.
      probabilities: the probabilities of the labels, `[B, labels]`.
      labels: the names of the classes.
    """
    answers = probabilities.argmax(-1)
    confusion = Confusion.of(targets, answers, labels)
    columns = [column.tolist() for column in (*confusion.by_class(), confusion.counts.sum(1))]
    mistakes = [
        Mistake(texts[n], y[n], labels[answers[n]], float(probabilities[n, answers[n]]))
        for n in np.flatnonzero(answers != targets).tolist()
    ]
    scores = {"accuracy": confusion.accuracy, "macro_f1": confusion.macro_f1}
    head = ("label", "precision", "recall", "F1", "texts")
    return Figures(scores, head, list(zip(labels, *columns)), mistakes, confusion=confusion)


def figures_of_labels(
    texts: Sequence[Any], y: Sequence[Any], targets: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]
) -> Figures:
    """Returns the figures of several labels a text: macro F1 and the share of texts with no wrong label, a table, the mistakes.

    A text is given the labels whose probability is at least 0.5.

    Args:
      texts: texts, or pairs of them, `B` in all.
      y: the targets as they were given.
      targets: 1 where a text has a label, otherwise 0, `[B, labels]`.
      probabilities: the probabilities of the labels, `[B, labels]`.
      labels: the names of the labels.
    """
    chosen = probabilities >= 0.5
    f1 = f1_by_label(targets, chosen)
    farthest = np.abs(probabilities.astype(np.float64) - targets).max(-1)
    mistakes = []
    for n in np.flatnonzero((chosen != targets).any(-1)).tolist():
        likeliest_first = np.argsort(-probabilities[n], kind="stable").tolist()
        answer = [labels[place] for place in likeliest_first if chosen[n, place]]
        mistakes.append(Mistake(texts[n], list(y[n]), answer, float(farthest[n])))
    scores = {"macro_f1": float(np.mean(f1, dtype=np.float64)), "all_labels_right": 1 - len(mistakes) / len(texts)}
    rows = list(zip(labels, f1.tolist(), targets.sum(0).astype(int).tolist()))
    return Figures(scores, ("label", "F1", "texts"), rows, mistakes)


def figures_of_numbers(texts: Sequence[Any], true: np.ndarray, answers: np.ndarray) -> Figures:
    """Returns the figures of a regression: correlations, mean absolute error, and all texts as mistakes.

    Args:
      texts: texts, or pairs of them, `B` in all.
      true: the true numbers, float64 `[B]`.
      answers: the task's numbers, `[B]`.
    """
    answers = answers.astype(np.float64)
    distance = np.abs(answers - true)
    mistakes = [Mistake(*values) for values in zip(texts, true.tolist(), answers.tolist(), distance.tolist())]
    scores = {"pearson": pearson(answers, true), "spearman": spearman(answers, true)}
    return Figures({**scores, "mean_absolute_error": float(distance.mean())}, mistakes=mistakes, points=(true, answers))


def figures_of_entities(
    sentences: Sequence[Any], y: Sequence[Any], answers: Sequence[list], labels: Sequence[str] = ()
) -> Figures:
    """Returns the figures of entities: precision, recall and F1, a table by type, and the wrong entities.

    Args:
      sentences: lists of words, or texts.
      y: for each list of words its tags, with None for a word that has none; for each text its entities in characters, in the
        forms that `read_spans` takes.
      answers: the entities that were found in each sentence, dictionaries with `label`, `text`, `start`, `end` and `score`,
        whose places are characters of the text or of `" ".join(words)`.
      labels: the task's labels. The scheme is read from these labels and the tags in `y` together.
    """
    expected, answered, mistakes = [], [], []
    given_tags = (tag for words, tags in zip(sentences, y) if not isinstance(words, str) for tag in tags)
    scheme = read_tags([*labels, *(tag for tag in given_tags if tag is not None)])
    for place, (words, tags, found) in enumerate(zip(sentences, y, answers)):
        if isinstance(words, str):
            text, true = words, set(read_spans(tags, words, f"y[{place}]"))
        else:
            check_lengths(tags, words)
            text = " ".join(words)
            starts = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()  # of words, in characters
            tagged = [n for n, tag in enumerate(tags) if tag is not None]
            in_words = entities([tags[n] for n in tagged], scheme=scheme)
            true = {(kind, starts[tagged[first]], starts[tagged[beyond - 1] + 1] - 1) for kind, first, beyond in in_words}
        given = [(entity["label"], entity["start"], entity["end"]) for entity in found]
        in_order = [f"{kind}: {text[start:end]}" for kind, start, end in sorted(true, key=lambda entity: entity[1])]
        mistakes += [
            Mistake(text, in_order, f"{entity['label']}: {entity['text']}", entity["score"])
            for entity, span in zip(found, given)
            if span not in true
        ]
        expected.append(true)
        answered.append(set(given))
    scores = scores_of_entities(expected, answered)
    names = ("precision", "recall", "f1")
    rows = [(kind, *(of_kind[name] for name in (*names, "support"))) for kind, of_kind in scores["by_type"].items()]
    head = ("entity", "precision", "recall", "F1", "entities")
    return Figures({name: scores[name] for name in names}, head, rows, mistakes)


def figures_of_search(anchors: Sequence[str], others: Sequence[str], results: Sequence[list]) -> Figures:
    """Returns how often each anchor finds its own other text, and the anchors that find another one first.

    Args:
      anchors: texts.
      others: the text that belongs to each anchor.
      results: for each anchor the texts that it found, the best first, dictionaries with `place` and `score`.
    """
    of_right = ranks([[found["place"] for found in result] for result in results], range(len(results)))
    mistakes = [
        Mistake(anchors[n], others[n], others[result[0]["place"]], result[0]["score"])
        for n, result in enumerate(results)
        if of_right[n] > 1
    ]
    scores = {"found_first": found_first(of_right), "mean_reciprocal_rank": mean_reciprocal_rank(of_right)}
    return Figures(scores, mistakes=mistakes)
