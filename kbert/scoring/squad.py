"""Exact match and F1 of answers, as SQuAD's official script counts them (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import collections
import re
import string
from collections.abc import Sequence
from typing import Any


def normalize_answer(text: str) -> str:
    """Returns the form in which answers are compared: lower case, no punctuation, no articles, single spaces.

    >>> normalize_answer("The  Bank, of England")
    'bank of england'
    """
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_scores(predictions: Sequence[str], answers: Sequence[Sequence[Any]]) -> dict[str, float]:
    """Computes exact match and F1 in percent, the best over each question's right answers.

    >>> squad_scores(["the Bank"], [[{"text": "bank of England"}]])
    {'exact_match': 0.0, 'f1': 50.0}

    Args:
      predictions: a text for each question, empty for no answer.
      answers: for each question its right answers, texts or dictionaries with `text`; an empty list if it has no answer.

    Raises:
      ValueError: there are more or fewer predictions than questions.
    """
    if len(predictions) != len(answers):
        raise ValueError(f"{len(answers)} questions have {len(predictions)} predicted answers")
    exact = f1 = 0.0
    for predicted, right in zip(predictions, answers):
        texts = [answer["text"] if isinstance(answer, dict) else answer for answer in right] or [""]
        exact += max(normalize_answer(predicted) == normalize_answer(text) for text in texts)
        f1 += max(_overlap(predicted, text) for text in texts)
    count = max(1, len(answers))
    return {"exact_match": 100 * exact / count, "f1": 100 * f1 / count}


def _overlap(predicted: str, right: str) -> float:
    """Returns the F1 of two answers as bags of words."""
    predicted_words, right_words = normalize_answer(predicted).split(), normalize_answer(right).split()
    if not predicted_words or not right_words:
        return float(predicted_words == right_words)
    shared = sum((collections.Counter(predicted_words) & collections.Counter(right_words)).values())
    return 2 * shared / (len(predicted_words) + len(right_words)) if shared else 0.0
