"""Reads question files in the format of SQuAD (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from typing import Any


def read_squad(path: str | os.PathLike[str], on_mismatch: str = "drop") -> dict[str, list]:
    """Reads a file in the format of SQuAD 1.1 or 2.0.

    >>> examples = read_squad("train-v2.0.json")  # doctest: +SKIP
    >>> task.fit((examples["question"], examples["context"]), examples["answers"])  # doctest: +SKIP

    Args:
      path: a JSON file.
      on_mismatch: what to do about an answer whose text does not stand in its context at the place that the file states.
        `"drop"` leaves the answer out, and its question if there is no other answer, and warns. `"stop"` raises an error.

    Returns:
      A dictionary of lists of the same length: `id`, `question`, `context`, and `answers`, a list of `{"text", "start"}` for
      each question, empty if it has no answer.

    Raises:
      ValueError: the file is not of that format, or an answer is not in its place; the message names the file and the question.
    """
    if on_mismatch not in ("drop", "stop"):
        raise ValueError(f'on_mismatch should be "drop" or "stop", got {on_mismatch!r}')
    with open(path, encoding="utf-8") as file:
        try:
            articles = json.load(file)["data"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a SQuAD file, a JSON object with data ({error!r})") from error
    examples: dict[str, list] = {"id": [], "question": [], "context": [], "answers": []}
    wrong: list[Any] = []
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                _add_questions(paragraph, examples, wrong)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a SQuAD file: a paragraph or question lacks {error}") from error
    if wrong:
        message = (
            f"{path}: {len(wrong)} questions have an answer that is not in the context at its place: "
            f"{', '.join(map(str, wrong[:5]))}"
        )
        if on_mismatch == "stop":
            raise ValueError(f'{message}; on_mismatch="drop" leaves such answers out')
        warnings.warn(f"{message}; these answers are left out", stacklevel=2)
    return examples


def _add_questions(paragraph: Mapping[str, Any], examples: dict[str, list], wrong: list) -> None:
    """Adds the questions of a paragraph to `examples`, and the ids of those with a misplaced answer to `wrong`."""
    context = paragraph["context"]
    for question in paragraph["qas"]:
        stated = [] if question.get("is_impossible") else question["answers"]
        answers = [{"text": answer["text"], "start": answer["answer_start"]} for answer in stated]
        right = [a for a in answers if context[a["start"] : a["start"] + len(a["text"])] == a["text"] != ""]
        if len(right) < len(answers):
            wrong.append(question["id"])
        if answers and not right:
            continue
        for name, value in (("id", question["id"]), ("question", question["question"])):
            examples[name].append(value)
        examples["context"].append(context)
        examples["answers"].append(right)
