"""Chooses the task that opens a checkpoint, from what its files say. Classes are named here and not imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kbert.checkpoints.opened import Opened
from kbert.checkpoints.sentence_transformers import read_modules


class Choice(NamedTuple):
    """The task that opens a checkpoint."""

    task: str  # the name of its class
    options: dict[str, Any]  # arguments of its `from_preset` that the head asks for
    notice: str = ""  # why it was chosen, if the files name no task; to be said


# By the checkpoint's head, the class of the task and what its `from_preset` has to be told.
TASKS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "": ("TextEmbedder", {}),
    "SequenceClassification": ("TextClassifier", {}),
    "TokenClassification": ("TokenClassifier", {}),
    "QuestionAnswering": ("QuestionAnswerer", {}),
    "MaskedLM": ("MaskedLM", {}),
    "NextSentencePrediction": ("TextClassifier", {"head": "NextSentencePrediction"}),
    "PreTraining": ("Pretrainer", {}),
}


def choose(opened: Opened) -> Choice:
    """Returns the task that the files of a checkpoint name, or the nearest one with a notice that says why.

    The class in kbert.json counts if its head is the checkpoint's, so that a folder that another library has trained further
    is opened as it is now. sentence-transformers' modules that pool tokens make an embedder of any checkpoint. Otherwise the
    head decides.

    Args:
      opened: the checkpoint.

    Raises:
      ValueError: the configuration names a class that kbert has no task for.
    """
    if "pooling" in read_modules(opened.folder).options:
        return Choice("TextEmbedder", {})
    head = opened.head
    own = opened.own_settings["task"]
    if head is None:
        known = ", ".join(f"{opened.family.name}For{name}" for name in opened.family.heads)
        raise ValueError(
            f"the configuration of {opened} names the class {opened.architecture}, which kbert has no task for; it has tasks "
            f"for {opened.family.name}Model, {known}. A task opens its encoder by itself, for example "
            "kbert.TextClassifier.from_preset(preset, labels=[...])"
        )
    task, options = TASKS[head]
    if own.get("class"):
        return Choice(own["class"] if own.get("options", {}).get("head", head) == head else task, dict(options))
    notice = ""
    if head == "" and not opened.architecture.endswith("TextEmbedder"):
        notice = (
            f"{opened} is an encoder without a head, and is opened as a TextEmbedder, which takes the mean of the tokens' "
            "vectors; kbert.TextClassifier.from_preset and the other tasks open it for training"
        )
    elif head and not opened.architecture:
        notice = f"{opened} names no task, and is opened as a {task}, because its weights hold the head {head}"
    return Choice(task, dict(options), notice)
