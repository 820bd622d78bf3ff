"""Checks callbacks that watch a figure, before the data are read rather than after an epoch of work."""

from __future__ import annotations

import os
import pathlib
import string
from collections.abc import Iterable
from typing import Any

import keras

from kbert.training import keras_internals

RATE_SETTERS = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)


def as_list(callbacks: Any) -> list:
    """Returns the argument `callbacks` of `fit` as a list; it may be one callback, several or None."""
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks] if callbacks else []


def check_callbacks(
    callbacks: Iterable[Any],
    optimizer: keras.optimizers.Optimizer,
    figures: Iterable[str],
    of_validation: Iterable[str] | None,
    scores: Iterable[str] | None = (),
) -> None:
    """Raises an error for a callback that could not do its work, and sets `mode="max"` of callbacks that watch a score.

    Keras knows the direction of metrics alone, and a task's scores are no metrics of Keras's.

    Args:
      callbacks: the callbacks of a `fit`.
      optimizer: the compiled optimizer.
      figures: the names of the figures of an epoch of training.
      of_validation: the names of the figures of validation data, without `val_`; None if there are no such data.
      scores: the names of the task's scores, where a higher figure is better; None if they are unknown.

    Raises:
      TypeError: something is no callback.
      ValueError: a callback sets the learning rate, and so does a schedule. Or it watches a figure, or writes one into a file's
        name, that the training does not have. Or it writes into a folder that cannot be written to.
    """
    callbacks = list(callbacks)
    known = [*figures, *(name for callback in callbacks for name in getattr(callback, "adds", ()))]
    if of_validation is not None:
        known += [f"val_{name}" for name in (*of_validation, *(scores or ()))]
    # A callback of the user's own may add figures, and the scores of a task of the user's own are unknown.
    of_others = [type(callback).__module__.partition(".")[0] not in ("keras", "kbert") for callback in callbacks]
    is_open = any(of_others) or (scores is None and of_validation is not None)
    for callback in callbacks:
        kind = type(callback).__name__
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(f"callbacks should be keras.callbacks.Callback objects, got {callback!r}")
        if isinstance(callback, RATE_SETTERS) and keras_internals.learning_rate_schedule(optimizer) is not None:
            raise ValueError(
                f"{kind} sets the learning rate, and so does the optimizer's schedule: compile with a constant rate, "
                'compile("adamw", learning_rate=2e-5), or leave the callback out'
            )
        for name in figures_asked_by(callback):
            if name.startswith("val_") and of_validation is None:
                raise ValueError(f"{kind} watches {name!r}, and there are no validation data: give validation_data")
            if name not in known and not is_open:
                raise ValueError(f"{kind} watches {name!r}, which this training does not have; it has {', '.join(known)}")
        if isinstance(callback, keras.callbacks.ModelCheckpoint):
            check_folder(pathlib.Path(str(callback.filepath)).parent)
        watched = str(getattr(callback, "monitor", "")).removeprefix("val_")
        if watched in (scores or ()) and getattr(callback, "mode", None) == "auto":
            callback.mode = "max"


def figures_asked_by(callback: keras.callbacks.Callback) -> list[str]:
    """Returns the names of the figures that a callback watches, or writes into the names of its files."""
    names: list[str] = []
    is_checkpoint = isinstance(callback, keras.callbacks.ModelCheckpoint)
    if hasattr(callback, "monitor") and not (is_checkpoint and not callback.save_best_only):
        names.append(str(callback.monitor))
    if is_checkpoint:
        fields = [field for _, field, _, _ in string.Formatter().parse(str(callback.filepath)) if field]
        names += [field for field in fields if field not in ("epoch", "batch")]
    return names


def check_folder(folder: pathlib.Path) -> None:
    """Raises a ValueError if files cannot be written into a folder. The folder need not exist yet."""
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), pathlib.Path("."))
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise ValueError(f"ModelCheckpoint writes into {folder}, and {there} is no folder that can be written to")
