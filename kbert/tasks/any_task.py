"""`kbert.from_preset`: the task that a checkpoint's own files name."""

from __future__ import annotations

import inspect
import os
import warnings
from typing import Any

import keras

from kbert.checkpoints.opened import Opened, open_preset
from kbert.files.targets import KERAS, kind_by_name
from kbert.messages import listed
from kbert.tasks.choosing import TASKS, choose
from kbert.tasks.files import load

ALWAYS = ("dtype", "preprocessor", "vocabulary")  # what `load_task` takes for every task


def from_preset(preset: Any, **options: Any) -> Any:
    """Returns the task that a checkpoint's own files name, with the checkpoint's head.

    >>> task = from_preset("hf://owner/emotion")  # doctest: +SKIP
    >>> task.classify(["I am glad"])  # doctest: +SKIP

    `architectures` in config.json, sentence-transformers' modules.json, KerasHub's class and kbert.json name a task. Where none
    of them does, the weights decide. One warning says which task was chosen and why.

    | the files name | task |
    |---|---|
    | `...ForSequenceClassification`, `BertTextClassifier`, a CrossEncoder | `TextClassifier` |
    | `...ForNextSentencePrediction` | `TextClassifier` with that head |
    | `...ForTokenClassification` | `TokenClassifier` |
    | `...ForQuestionAnswering` | `QuestionAnswerer` |
    | `...ForMaskedLM`, `BertMaskedLM` | `MaskedLM` |
    | `...ForPreTraining` | `Pretrainer` |
    | a pooling module, `BertTextEmbedder`; `...Model`, with a warning | `TextEmbedder` |

    Args:
      preset: a built-in name (`kbert.presets()`), `hf://owner/name[@revision]`, a folder, a live KerasHub model, or a `.keras`
        file, which `kbert.load` opens.
      **options: arguments of the chosen task's `from_preset`, such as `max_length`, `labels` or
        `vocabulary`; of `kbert.load` for a `.keras`
        file. If a classifier's checkpoint does not state its labels, they are called `LABEL_0`, `LABEL_1`, ... with a warning.

    Raises:
      FileNotFoundError: there is no such checkpoint, or its files are not complete.
      TypeError: the chosen task does not take an option.
      ValueError: the configuration names a class that kbert has no task for; or a file or a weight is wrong.
    """
    if isinstance(preset, (str, os.PathLike)) and kind_by_name(preset) == KERAS:
        _check_options("kbert.load", load, options, f"{preset} is a .keras file")
        return load(preset, **options)
    with open_preset(preset, options.pop("vocabulary", None)) as opened:
        choice = choose(opened)
        cls = keras.saving.get_registered_object(f"kbert>{choice.task}")
        if cls is None:
            raise ValueError(f"kbert.json of {opened} names the task {choice.task}, which this release of kbert does not have")
        _check_options(f"a {choice.task}", cls.from_preset, options, f"{opened} is opened as one", cls)
        options = {**choice.options, **options}
        notices = [choice.notice] if choice.notice else []
        if "labels" in inspect.signature(cls.from_preset).parameters and options.get("labels") is None:
            numbered = _numbered_labels(opened)
            if numbered:
                options["labels"] = numbered
                notices.append(f"{opened} does not say its labels; they are called {listed(numbered)} (labels=[...])")
        if notices:
            warnings.warn("; ".join(notices), stacklevel=2)
        return cls.from_preset(opened, **options)


def _check_options(taker: str, function: Any, options: dict[str, Any], why: str, cls: Any = None) -> None:
    """Raises a TypeError for the first option that a function does not take.

    Args:
      taker: what the error calls the function.
      function: its named arguments count.
      options: by name.
      why: the clause that says why this function was chosen.
      cls: the task whose constructor takes the other options, or None.
    """
    takes = {name for name in inspect.signature(function).parameters if name not in ("preset", "path", "kwargs")}
    if cls is not None:
        takes |= {*inspect.signature(cls).parameters, *ALWAYS} - {"encoder", "kwargs"}
    for name in options:
        if name not in takes:
            others = [task for task, _ in TASKS.values() if name in _takes(task)] if cls is not None else []
            cure = f"; kbert.{others[0]}.from_preset takes it" if others else ""
            raise TypeError(f"{taker} takes no {name}=, and {why}: it takes {', '.join(sorted(takes))}{cure}")


def _takes(task: str) -> set[str]:
    """Returns the names of the arguments of a task's `from_preset`."""
    return set(inspect.signature(keras.saving.get_registered_object(f"kbert>{task}").from_preset).parameters)


def _numbered_labels(opened: Opened) -> list[str] | None:
    """Returns a label for each output of a checkpoint's head, or None if the files state labels or there is no such head."""
    rules = opened.family.heads.get(opened.head or "", ())
    bias = next((rule for rule in rules if rule.path == "classifier.bias"), None)
    if bias is None or opened.labels or opened.head == "NextSentencePrediction":
        return None
    return [f"LABEL_{number}" for number in range(opened.checkpoint.shape(bias.names[0])[0])]
