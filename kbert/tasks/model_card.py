"""The card of a task: the README.md that `save_to_preset` writes, with the header that a hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~>-])")
MOST_LABELS = 50  # in the card

# By layout, the library whose folders look so.
LIBRARIES = {"huggingface": "transformers", "google": "kbert", "keras_hub": "keras-hub"}


def card_of(task: Any, layout: str, name: str) -> str:
    """Returns the card of a task as Markdown with a YAML header.

    >>> print(card_of(task, "huggingface", "emotion"))  # doctest: +SKIP

    Args:
      task: whose `provenance`, labels and `pipeline_tag` it states.
      layout: the layout of the folder: `"huggingface"`, `"google"` or `"keras_hub"`.
      name: the name of the folder.
    """
    from huggingface_hub import EvalResult, ModelCardData

    origin, figures = task.provenance.get("origin", {}), task.provenance.get("figures", {})
    architecture = type(task.encoder).__name__.removesuffix("Encoder")
    library = "sentence-transformers" if task.job == "embedding" else LIBRARIES[layout]
    base = origin.get("base_model") or None
    results = [
        EvalResult(
            task_type=task.pipeline_tag,
            dataset_type="private",
            dataset_name="the data given to evaluate",
            metric_type=metric,
            metric_name=metric,
            metric_value=round(value, 6),
        )
        for metric, value in figures.items()
    ]
    header = ModelCardData(
        model_name=name,
        library_name=library,
        pipeline_tag=task.pipeline_tag,
        tags=list(dict.fromkeys(["kbert", "keras", architecture.lower()])),
        base_model=base[0] if base and len(base) == 1 else base,
        language=origin.get("languages") or None,
        license=origin.get("licence") or None,
        license_name=origin.get("licence_name") or None,
        eval_results=results or None,
    )
    if not results:
        header.model_name = None
    text = [f"# {plain(name)}", f"A {type(task).__name__} of kbert on {_article(architecture)} encoder, {_sizes(task)}."]
    if base:
        text.append(f"Its weights come from {', '.join(map(plain, base))}.")
    labels = getattr(task, "labels", None)
    if labels:
        shown = [f"- {plain(label)}" for label in labels[:MOST_LABELS]]
        more = [f"- and {len(labels) - MOST_LABELS} more"] if len(labels) > MOST_LABELS else []
        text += [f"## Labels\n\nIt has {len(labels)}, in the order of their ids:", "\n".join([*shown, *more])]
    if getattr(task, "problem_type", None):
        text.append(f"Its problem type is {plain(task.problem_type)}.")
    if figures:
        text += [
            "## Figures\n\nThe last evaluation gave:",
            _table("figure", "value", {k: f"{v:.4f}" for k, v in figures.items()}),
        ]
    training = task.provenance.get("training")
    if training:
        text += ["## Training\n\nThe last training had these settings:", _table("setting", "value", training)]
    limit = "" if task.preprocessor is None else f" A text may have {task.preprocessor.max_length} positions."
    text += [
        f"## Use\n\nWith kbert:{limit}",
        _code(["import kbert", f"task = kbert.from_preset({quoted(name)})", *_asked(task)]),
    ]
    others = _of_others(task, layout, name)
    if others:
        text += [f"With {others[0]}:", _code(others[1:])]
    return f"---\n{header.to_yaml()}\n---\n\n" + "\n\n".join(text) + "\n"


def plain(value: Any) -> str:
    """Returns a value as Markdown that shows it as it is, in one line.

    >>> plain("a|b <i>")
    'a\\\\|b &lt;i&gt;'

    Args:
      value: for example a label, which may hold anything.
    """
    text = " ".join(str(value).split()) or '""'
    text = _MARKDOWN.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace("\0", "\ufffd"))
    text = re.sub(r"^(\d+)\.", r"\1\\.", text)  # no item of a numbered list
    return text.replace("\\>", "&gt;")


def quoted(text: str) -> str:
    """Returns a text as a literal of Python in one line."""
    return json.dumps(text, ensure_ascii=False)


def _asked(task: Any) -> list[str]:
    """Returns the lines of Python that ask a task for an answer."""
    return {
        "qa": ['task.answer("Who wrote it?", "It was written by Ada.")'],
        "ner": ['task.classify(["Ada lives in London."])'],
        "fill-mask": ['task.fill("It is a [MASK] day.")'],
        "embedding": ['task.embed(["a first text", "a second text"])'],
        None: [],
    }.get(task.job, ['task.classify(["a first text", "a second text"])'])


def _of_others(task: Any, layout: str, name: str) -> list[str]:
    """Returns another library's name, and the lines that open the folder with it; an empty list if kbert names none."""
    model = quoted(name)
    if layout == "keras_hub":
        kind = {"MaskedLM": "BertMaskedLM", "SequenceClassification": "BertTextClassifier"}.get(task.head, "BertTextEmbedder")
        return ["KerasHub", "import keras_hub", f"model = keras_hub.models.{kind}.from_preset({model})"]
    if layout != "huggingface":
        return []
    if task.job == "embedding":
        lines = ["from sentence_transformers import SentenceTransformer", f"model = SentenceTransformer({model})"]
        return ["sentence-transformers", *lines, 'model.encode(["a first text", "a second text"])']
    if task.head in ("PreTraining", "NextSentencePrediction"):
        kind = f"AutoModelFor{task.head}"
        return ["transformers", f"from transformers import {kind}, AutoTokenizer", f"model = {kind}.from_pretrained({model})"]
    asked = {
        "question-answering": 'pipe(question="Who wrote it?", context="It was written by Ada.")',
        "fill-mask": 'pipe("It is a [MASK] day.")',
    }.get(task.pipeline_tag, 'pipe("a first text")')
    return [
        "transformers",
        "from transformers import pipeline",
        f"pipe = pipeline({quoted(task.pipeline_tag)}, model={model})",
        asked,
    ]


def _article(noun: str) -> str:
    """Returns a noun with its indefinite article."""
    return f"an {noun}" if noun[:1] in "AEIOU" else f"a {noun}"


def _sizes(task: Any) -> str:
    """Returns the sizes of a task's encoder in words."""
    config = task.encoder.config
    size = "" if task.token_count is None else f", with a vocabulary of {task.token_count:,} tokens"
    return f"{config.num_hidden_layers} layers, {config.hidden_size} wide{size}"


def _table(first: str, second: str, values: Mapping[str, Any]) -> str:
    """Returns named values as a table."""
    lines = [f"| {plain(name)} | {plain(value)} |" for name, value in values.items()]
    return "\n".join([f"| {first} | {second} |", "|---|---|", *lines])


def _code(lines: list[str]) -> str:
    """Returns lines of Python as a block of code."""
    return "\n".join(["```python", *lines, "```"])
