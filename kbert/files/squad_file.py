"""Reads question files in the format of SQuAD (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kbert.files.text_file import Path, read_text


class Question(NamedTuple):
    """A question of a file, with its answers as the file states them, or None where it states none."""

    id: Any
    question: str
    context: str
    answers: list[dict[str, Any]] | None


def read_squad(path: Path, on_mismatch: str = "drop", encoding: str | None = None) -> dict[str, list]:
    """Reads a file in the format of SQuAD 1.1 or 2.0.

    >>> examples = read_squad("train-v2.0.json")  # doctest: +SKIP
    >>> task.fit((examples["question"], examples["context"]), examples["answers"])  # doctest: +SKIP

    Args:
      path: a JSON file.
      on_mismatch: what to do about an answer whose text does not stand in its context at the place that the file states.
        `"drop"` leaves the answer out, and its question if there is no other answer, and warns. `"stop"` raises an error.
      encoding: the file's encoding; by default UTF-8, or what a byte order mark says.

    Returns:
      A dictionary of lists of the same length: `id`, `question`, `context`, and `answers`, a list of `{"text", "start"}` for
      each question, empty if it has no answer.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not of that format or in that encoding, a question has no list of answers, or an answer is not in
        its place and `on_mismatch` is `"stop"`. The message names the file and the question.
    """
    if on_mismatch not in ("drop", "stop"):
        raise ValueError(f'on_mismatch should be "drop" or "stop", got {on_mismatch!r}')
    questions = list(questions_in_place(path, on_mismatch, encoding).values())
    return {name: [getattr(question, name) for question in questions] for name in ("id", "question", "context", "answers")}


def questions_in_place(path: Path, on_mismatch: str = "drop", encoding: str | None = None) -> dict[int, Question]:
    """Returns the questions of a file, without misplaced answers, by their number in the file, counted from 0.

    Args:
      path: a JSON file.
      on_mismatch: `"drop"` leaves misplaced answers out and warns; `"stop"` raises an error. See `read_squad`.
      encoding: the file's encoding; by default UTF-8, or what a byte order mark says.

    Raises:
      ValueError: the file is not of that format, a question has no list of answers, or an answer is misplaced and `on_mismatch`
        is `"stop"`.
    """
    questions: dict[int, Question] = {}
    wrong: list[Any] = []
    for place, question in enumerate(squad_questions(path, encoding)):
        if question.answers is None:
            raise ValueError(f"{path}, question {question.id}: there are no answers, which training and measuring need")
        right = answers_in_place(question.context, question.answers)
        if len(right) < len(question.answers):
            wrong.append(question.id)
        if right or not question.answers:
            questions[place] = question._replace(answers=right)
    report_misplaced(path, wrong, on_mismatch)
    return questions


def report_misplaced(path: Path, wrong: list[Any], on_mismatch: str) -> None:
    """Warns of questions with misplaced answers, or raises a ValueError. Without such questions it does nothing.

    Args:
      path: the file.
      wrong: the ids or places of the questions.
      on_mismatch: `"drop"` warns, `"stop"` raises the error.
    """
    if not wrong:
        return
    first = ", ".join(map(str, wrong[:5]))
    message = f"{path}: {len(wrong)} questions have an answer that is not in the context at its place: {first}"
    if on_mismatch == "stop":
        raise ValueError(f'{message}; on_mismatch="drop" leaves such answers out')
    warnings.warn(f"{message}; these answers are left out, and questions that have no other", stacklevel=3)


def answers_in_place(context: str, answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the answers whose text stands in a context at the stated place.

    Args:
      context: the context.
      answers: dictionaries `{"text", "start"}`. An empty text is never in its place.
    """
    return [a for a in answers if context[a["start"] : a["start"] + len(a["text"])] == a["text"] != ""]


def squad_questions(path: Path, encoding: str | None = None) -> Iterator[Question]:
    """Yields the questions of a file in the format of SQuAD.

    Args:
      path: a JSON file.
      encoding: the file's encoding; by default UTF-8, or what a byte order mark says.

    Raises:
      ValueError: the file is not of that format; the message names the paragraph or the question.
    """
    text = read_text(path, encoding)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a SQuAD file: it is not JSON ({error})") from None
    articles = data.get("data") if isinstance(data, dict) else None
    if not isinstance(articles, list):
        raise ValueError(f"{path} is not a SQuAD file, a JSON object with data, a list of articles")
    for number, article in enumerate(articles, 1):
        paragraphs = _value(article, "paragraphs", list, f"{path} is not a SQuAD file: article {number}")
        for place, paragraph in enumerate(paragraphs, 1):
            where = f"{path} is not a SQuAD file: article {number}, paragraph {place}"
            context = _value(paragraph, "context", str, where)
            for nth, entry in enumerate(_value(paragraph, "qas", list, where), 1):
                yield _question(entry, context, f"{where}, question {nth}", path)


def _question(entry: Any, context: str, where: str, path: Path) -> Question:
    """Returns a question; `where` names its place in the file, for an error about a question without an id."""
    if isinstance(entry, dict) and "id" in entry:
        where = f"{path}, question {entry['id']}"
    text = _value(entry, "question", str, where)
    name = entry.get("id", text)
    if entry.get("is_impossible"):
        return Question(name, text, context, [])
    if "answers" not in entry:
        return Question(name, text, context, None)
    answers = []
    for answer in _value(entry, "answers", list, where):
        start = _value(answer, "answer_start", int, f"{where}, an answer")
        answers.append({"text": _value(answer, "text", str, f"{where}, an answer"), "start": start})
        if start < 0:
            raise ValueError(f"{where}: answer_start should be a place in the context, got {start}")
    return Question(name, text, context, answers)


def _value(holder: Any, name: str, kind: type, where: str) -> Any:
    """Returns a value of an object; raises a ValueError that says `where` if it is missing or of another kind."""
    if not isinstance(holder, Mapping):
        raise ValueError(f"{where} should be an object, got {type(holder).__name__}")
    if name not in holder:
        raise ValueError(f"{where} lacks {name!r}")
    if not isinstance(holder[name], kind) or isinstance(holder[name], bool):
        raise ValueError(f"{where}: {name!r} should be of type {kind.__name__}, got {holder[name]!r:.80}")
    return holder[name]
