"""Builds a task from an opened checkpoint, and says which of its weights are the checkpoint's and which are new."""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from kbert.arguments import whole_numbers
from kbert.checkpoints.opened import Opened, label_names, open_preset
from kbert.checkpoints.untrained_weights import warn_of_new_weights
from kbert.checkpoints.weights import check_left_over, fits, load_weights
from kbert.encoders.bert import BertEncoder
from kbert.encoders.from_preset import read_encoder
from kbert.messages import listed
from kbert.tasks.provenance import origin_of
from kbert.text.packing import TextPreprocessor
from kbert.text.tokenizer import WordPieceTokenizer

if TYPE_CHECKING:
    from kbert.tasks.task import Task

T = TypeVar("T", bound="Task")


def load_task(
    cls: type[T],
    preset: Any,
    describe_head: Callable[[T, Sequence[str]], str],
    max_length: int | None = None,
    dtype: Any = None,
    preprocessor: Any = "auto",
    vocabulary: Any = None,
    **kwargs: Any,
) -> T:
    """Builds a task from a preset: encoder and tokenizer from its files, and the head if the checkpoint holds it.

    Args:
      cls: the task's class, called as `cls(encoder, preprocessor, **kwargs)`.
      preset: a built-in name, `hf://owner/name@revision`, a folder, a live model of KerasHub, or an `Opened`.
      describe_head: a function of the task, and of the paths of its weights that are missing, to what the notice calls them.
      max_length: the most positions of a row. None stands for the folder's own number
        (`model_max_length`, or the saved task's), or else for the encoder's most.
      dtype: a Keras dtype policy for the whole task. None stands for the global one.
      preprocessor: a `TextPreprocessor` in place of the preset's, or None for a task that takes packed input.
      vocabulary: the path of a vocab.txt, or a list of tokens, for a preset that has none.
      **kwargs: arguments of `cls`. If a value is a function, it is called with the dictionary in the configuration file, and
        its result is the argument. If the result is None, or an argument is left out, the saved task's argument is taken if
        that task was of the same class. Otherwise the constructor's default is taken.

    Raises:
      ValueError: the architecture has no such head, `max_length` is too long, it or the vocabulary is given beside a
        preprocessor, the vocabulary is another checkpoint's, or a weight is missing, left over or of a wrong shape.
    """
    whole_numbers(max_length=max_length)
    with open_preset(preset, vocabulary) as opened:
        stated = {key: value(opened.values) for key, value in kwargs.items() if callable(value)}
        given = {key: value for key, value in kwargs.items() if not callable(value)}
        own = opened.own_settings["task"]
        if own.get("class") != cls.__name__:
            own = {}
        taken = inspect.signature(cls).parameters
        options = {key: value for key, value in own.get("options", {}).items() if key in taken}
        options.update({key: value for key, value in stated.items() if value is not None}, **given)
        head = options.get("head", cls.head)
        if head:
            opened.family.head(head)  # raises before the weights are read
        if preprocessor == "auto":
            preprocessor = read_preprocessor(opened, max_length, opened.own_settings["preprocessor"] if own else {})
        elif max_length is not None:
            raise ValueError("give max_length, or a preprocessor that has its own, not both")
        elif opened.given_vocabulary:
            raise ValueError("give vocabulary, or a preprocessor that has its own, not both")
        add_pooling_layer = None if cls.pools else False
        encoder, used, new_weights = read_encoder(BertEncoder, opened, add_pooling_layer, dtype=dtype)
        task = cls(encoder, preprocessor, dtype=dtype, **options)
        used_by_head, missing = _fill_head(task, opened)
        task.remember(own)
        origin = origin_of(opened)
        if origin and (opened.hub_name or "origin" not in task.provenance):  # a model of a hub is itself the base
            task.provenance["origin"] = origin
        check_left_over(opened.checkpoint, used | used_by_head, encoder.config, opened.family)
    if used_by_head and not missing:
        say_kept_head(opened, task)
    task.new_weights[:] = new_weights + ([describe_head(task, missing)] if missing else [])
    warn_of_new_weights(opened.name, task.new_weights)
    return task


def read_preprocessor(opened: Opened, max_length: int | None, settings: dict[str, Any]) -> TextPreprocessor:
    """Returns a preprocessor with the tokenizer of an opened checkpoint.

    Args:
      opened: the checkpoint.
      max_length: the most positions of a row. None stands for the folder's own number (`model_max_length`, or the one in the
        settings), or else for the encoder's most.
      settings: arguments of the preprocessor in kbert.json. `ragged` among them has no effect. What the other files of the
        folder state counts before them.

    Raises:
      ValueError: `max_length` is more than the encoder has, or the vocabulary is another checkpoint's.
    """
    most, rows = opened.config.max_position_embeddings, opened.config.vocab_size
    if max_length is not None and max_length > most:
        raise ValueError(f"max_length {max_length} is more than the {most} positions of the checkpoint at {opened.folder}")
    tokenizer = WordPieceTokenizer.from_preset(opened)
    if tokenizer.vocabulary_size > rows:
        raise ValueError(
            f"{opened.given_vocabulary or opened.vocabulary_path} has {tokenizer.vocabulary_size} tokens, more than the "
            f"{rows} rows of the embedding: "
            f"line {rows + 1} has no vector; is it another checkpoint's?"
        )
    # KerasHub has no counterpart of each way to cut pairs, so that kbert.json says more than the file of KerasHub's beside it.
    cut = {"truncation": settings["truncation"]} if "truncation" in settings else {}
    settings = {**settings, **opened.preprocessor_options, **cut}
    length = max_length or min(settings.get("max_length", most), most)
    return TextPreprocessor(tokenizer, **{**settings, "max_length": length, "ragged": False})


def _fill_head(task: Task, opened: Opened) -> tuple[set[str], list[str]]:
    """Fills a task's head, if the checkpoint holds one of its shapes.

    Returns:
      The names of the tensors that were read, and the paths of our weights that are new.

    Raises:
      ValueError: the files name another number of labels than their own head has.
    """
    rules = opened.family.head(task.head) if task.head else []
    if not fits(task, rules, opened.checkpoint):
        _check_stated_labels(task, opened)
        return set(), [rule.path for rule in rules]
    return load_weights(task, rules, opened.checkpoint)


def _check_stated_labels(task: Task, opened: Opened) -> None:
    """Raises a ValueError if a checkpoint names as many labels as a task has, but its own head has another number of them."""
    stated, labels = label_names(opened.values), getattr(task, "labels", None)
    if stated and labels and len(stated) == len(labels) and opened.head == task.head:
        raise ValueError(
            f"{opened.checkpoint.path} has a head for another number of labels than the {len(stated)} that the files beside it "
            "name: one of them is another checkpoint's. Correct id2label in config.json, or give labels=[...]: as many as the "
            "head has keep it, another number makes a new one"
        )


def say_kept_head(opened: Opened, task: Task) -> None:
    """Logs that the head's weights are the checkpoint's, and warns if they were trained for labels of other names.

    Args:
      opened: the checkpoint.
      task: whose head was filled.
    """
    trained_for, labels = label_names(opened.values), getattr(task, "labels", None)
    logging.getLogger("kbert").info("the head of %s comes with its weights from the checkpoint %s", task.name, opened.name)
    # LABEL_0, LABEL_1, ... are transformers' names for labels that were not named.
    if labels and trained_for and labels != trained_for and not all(re.fullmatch(r"LABEL_\d+", name) for name in trained_for):
        warnings.warn(
            f"the head of the checkpoint {opened.name} is kept, and was trained for the labels {listed(trained_for)}; you call "
            f"them {listed(labels)}, in this order. Train it with fit(), or leave labels out",
            stacklevel=4,  # the caller of `from_preset`
        )


def stated_labels(preset: Any, labels: Sequence[str] | None) -> Callable[[dict[str, Any]], Sequence[str]]:
    """Returns a function of the dictionary in a config.json to the task's labels.

    Args:
      preset: what an error calls the checkpoint.
      labels: given by the user. They win over the configuration's.
    """

    def labels_for(config: dict[str, Any]) -> Sequence[str]:
        names = labels or label_names(config)
        if names is None:
            raise ValueError(f'{preset} does not say its labels: pass labels=["...", "..."]')
        return names

    return labels_for


def head_dropout(given: float | None, keys: Sequence[str]) -> Callable[[dict[str, Any]], float | None]:
    """Returns a function of the dictionary in a config.json to the dropout rate of the head.

    Args:
      given: the user's rate. None asks the configuration.
      keys: the names of the configuration's keys. The first that states a rate counts.
    """
    return lambda config: next((rate for rate in (given, *map(config.get, keys)) if rate is not None), None)
