"""Questions with answers: SQuAD files, and exact match and F1 as the official script counts them (Rajpurkar et al. 2016, 2018)."""

import collections
import json
import re
import string
import warnings


def read_squad(path, on_mismatch="drop"):
    """Reads a file in the format of SQuAD 1.1 or 2.0.

    >>> examples = read_squad("train-v2.0.json")  # doctest: +SKIP
    >>> task.fit((examples["question"], examples["context"]), examples["answers"])  # doctest: +SKIP

    Args:
      path: a JSON file.
      on_mismatch: what to do about an answer whose text is not in its context at its place: `"drop"` leaves it out, and its question if it
        has no other, and says so; `"stop"` raises.

    Returns:
      A dictionary of lists of the same length: `id`, `question`, `context`, and `answers`, a list of `{"text", "start"}` for each
      question, empty where it has none.

    Raises:
      ValueError: the file is not of that format, or an answer is not in its place; file and question are named.
    """
    if on_mismatch not in ("drop", "stop"):
        raise ValueError(f'on_mismatch should be "drop" or "stop", got {on_mismatch!r}')
    with open(path, encoding="utf-8") as file:
        try:
            articles = json.load(file)["data"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a SQuAD file, a JSON object with data ({error!r})") from error
    examples, wrong = {"id": [], "question": [], "context": [], "answers": []}, []
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                context = paragraph["context"]
                for question in paragraph["qas"]:
                    given = [] if question.get("is_impossible") else question["answers"]
                    answers = [{"text": a["text"], "start": a["answer_start"]} for a in given]
                    right = [a for a in answers if context[a["start"] : a["start"] + len(a["text"])] == a["text"] != ""]
                    if len(right) < len(answers):
                        wrong.append(question["id"])
                    if answers and not right:
                        continue
                    for name, value in (("id", question["id"]), ("question", question["question"])):
                        examples[name].append(value)
                    examples["context"].append(context)
                    examples["answers"].append(right)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a SQuAD file: a paragraph or question lacks {error}") from error
    if wrong:
        message = f"{path}: {len(wrong)} questions have an answer that is not in the context at its place: {', '.join(map(str, wrong[:5]))}"
        if on_mismatch == "stop":
            raise ValueError(f'{message}; on_mismatch="drop" leaves such answers out')
        warnings.warn(f"{message}; these answers are left out", stacklevel=2)
    return examples


def normalize_answer(text):
    """What answers are compared by: lower case, no punctuation, no articles, single spaces.

    >>> normalize_answer("The  Bank, of England")
    'bank of england'
    """
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_scores(predictions, answers):
    """Exact match and F1 in percent, the best over each question's right answers.

    >>> squad_scores(["the Bank"], [[{"text": "bank of England"}]])
    {'exact_match': 0.0, 'f1': 50.0}

    Args:
      predictions: a text for each question, empty for no answer.
      answers: for each question its right answers, dictionaries with `text` or texts; none for a question that has no answer.
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


def _overlap(predicted, text):
    """The F1 of two answers as bags of words."""
    ours, theirs = normalize_answer(predicted).split(), normalize_answer(text).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0
