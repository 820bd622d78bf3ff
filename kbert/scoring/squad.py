"""Exact match and F1 of answers, as SQuAD's official script counts them (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import collections
import re
import string
from collections.abc import Sequence
from typing import Any

import numpy as np


def normalize_answer(text: str) -> str:
    """Returns the form in which answers are compared: lower case, no punctuation, no articles, single spaces.

    >>> normalize_answer("The  Bank, of England")
    'bank of england'
    """
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_scores(
    predictions: Sequence[str], answers: Sequence[Sequence[Any]], weights: Sequence[float] | np.ndarray | None = None
) -> dict[str, float]:
    """Computes exact match and F1 in percent, the best over each question's right answers.

    >>> squad_scores(["the Bank"], [[{"text": "bank of England"}]])
    {'exact_match': 0.0, 'f1': 50.0}

    Args:
      predictions: a text for each question, empty for no answer.
      answers: for each question its right answers, texts or dictionaries with `text`; an empty list if it has no answer.
      weights: how often each question counts; by default once.

    Raises:
      ValueError: there are more or fewer predictions than questions.
    """
    exact, f1 = _scores_of_questions(predictions, answers)
    counts = np.ones(len(exact)) if weights is None else np.asarray(weights, np.float64)
    return {"exact_match": _percent(exact, counts), "f1": _percent(f1, counts)}


def squad2_scores(
    predictions: Sequence[str],
    answers: Sequence[Sequence[Any]],
    no_answer: Sequence[float],
    threshold: float = 0.0,
    weights: Sequence[float] | np.ndarray | None = None,
) -> dict[str, float]:
    """Computes the figures of SQuAD 2 as its official script does, where some questions have no answer.

    >>> squad2_scores(["bank", "bank"], [["the bank"], []], no_answer=[-3.0, 2.0])["NoAns_exact"]
    100.0

    Args:
      predictions: a text for each question, the best one that is not empty.
      answers: for each question its right answers, texts or dictionaries with `text`; an empty list if it has no answer.
      no_answer: for each question a number that is larger the surer the task is that there is no answer: the difference of two
        logits, or a probability.
      threshold: if a question's `no_answer` is above this number, its prediction counts as no answer.
      weights: how often each question counts; by default once.

    Returns:
      A dictionary of floats: `exact_match` and `f1` of all questions, in percent, and `total`. `HasAns_exact`, `HasAns_f1` and
      `HasAns_total` are the same figures for the questions with an answer, and `NoAns_...` for those without; either group is
      left out if it is empty. `best_exact` and `best_f1` are the highest figures that any threshold gives, and
      `best_exact_thresh` and `best_f1_thresh` are these thresholds.

    Raises:
      ValueError: there are more or fewer predictions than questions.
    """
    raw = dict(zip(("exact", "f1"), _scores_of_questions(predictions, answers)))
    counts = np.ones(len(answers)) if weights is None else np.asarray(weights, np.float64)
    has_answer, odds = np.array([bool(right) for right in answers], bool), np.asarray(no_answer, np.float64)
    given = {name: np.where(odds > threshold, 1.0 - has_answer, scores) for name, scores in raw.items()}
    figures = {
        "exact_match": _percent(given["exact"], counts),
        "f1": _percent(given["f1"], counts),
        "total": float(counts.sum()),
    }
    for kind, part in (("HasAns", has_answer), ("NoAns", ~has_answer)):
        if part.any():
            figures.update({f"{kind}_{name}": _percent(scores[part], counts[part]) for name, scores in given.items()})
            figures[f"{kind}_total"] = float(counts[part].sum())
    for name, scores in raw.items():
        best, best_threshold = _best_threshold(scores, predictions, has_answer, odds, counts)
        figures.update({f"best_{name}": best, f"best_{name}_thresh": best_threshold})
    return figures


def _best_threshold(
    scores: np.ndarray, predictions: Sequence[str], has_answer: np.ndarray, odds: np.ndarray, counts: np.ndarray
) -> tuple[float, float]:
    """Returns the best mean score in percent that a threshold gives, and the threshold.

    At first no question counts as answered. Then questions are answered one after the other, in the order of their odds of no
    answer, the lowest first. A question that has no answer loses its point when it is answered. The official script begins
    with a threshold of 0, because no probability is below 0. Here the first threshold is below all odds.
    """
    change = np.where(has_answer, scores, -np.array([bool(text) for text in predictions], float)) * counts
    order = np.argsort(odds, kind="stable")
    reached = np.concatenate([[0.0], np.cumsum(change[order])]) + counts[~has_answer].sum()
    best = int(np.argmax(reached))
    lowest = float(odds.min(initial=np.inf))
    below = 0.0 if lowest > 0 else float(np.nextafter(lowest, -np.inf))
    return 100 * float(reached[best]) / (counts.sum() or 1.0), float(odds[order[best - 1]]) if best else below


def _scores_of_questions(predictions: Sequence[str], answers: Sequence[Sequence[Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns exact match, 0 or 1, and F1 of each question, both float64 `[questions]`."""
    if len(predictions) != len(answers):
        raise ValueError(f"{len(answers)} questions have {len(predictions)} predicted answers")
    exact, f1 = np.zeros(len(answers)), np.zeros(len(answers))
    for place, (predicted, right) in enumerate(zip(predictions, answers)):
        texts = [answer["text"] if isinstance(answer, dict) else answer for answer in right]
        texts = [text for text in texts if normalize_answer(text)] or [""]
        exact[place] = max(normalize_answer(predicted) == normalize_answer(text) for text in texts)
        f1[place] = max(_overlap(predicted, text) for text in texts)
    return exact, f1


def _percent(scores: np.ndarray, counts: np.ndarray) -> float:
    return 100 * float((scores * counts).sum()) / (float(counts.sum()) or 1.0)


def _overlap(predicted: str, right: str) -> float:
    """Returns the F1 of two answers as bags of words."""
    predicted_words, right_words = normalize_answer(predicted).split(), normalize_answer(right).split()
    if not predicted_words or not right_words:
        return float(predicted_words == right_words)
    shared = sum((collections.Counter(predicted_words) & collections.Counter(right_words)).values())
    return 2 * shared / (len(predicted_words) + len(right_words)) if shared else 0.0
