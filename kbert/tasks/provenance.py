"""Where a task comes from: the base of its weights, its training and its figures, as plain values for the model card."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import keras

from kbert.checkpoints.opened import Opened
from kbert.training import keras_internals


def origin_of(opened: Opened) -> dict[str, Any]:
    """Returns what the card or the name of an opened checkpoint states: base model, licence and languages.

    Args:
      opened: the checkpoint.
    """
    source = opened.source
    base_model = [opened.hub_name] if opened.hub_name else list(source.base_model)
    stated = {"base_model": base_model, "licence": source.licence, "licence_name": source.licence_name}
    return {key: value for key, value in {**stated, "languages": list(source.languages)}.items() if value}


def training_of(task: Any, history: keras.callbacks.History, batch_size: int | None) -> dict[str, Any]:
    """Returns the settings of a training that has ended.

    Args:
      task: the trained task.
      history: what its `fit` returns.
      batch_size: the rows of a batch, or None if they were not the same.
    """
    optimizer = keras_internals.unscaled(task.optimizer)
    schedule = keras_internals.learning_rate_schedule(optimizer)
    rate: Any
    if schedule is None:
        rate = float(optimizer.learning_rate)
    else:  # a schedule of the user's may have neither attribute
        rate = getattr(schedule, "peak", getattr(schedule, "initial_learning_rate", None))
    loss = task.loss if isinstance(task.loss, str) else getattr(task.loss, "name", None)
    settings = {
        "epochs": len(history.epoch),
        "batch size": batch_size,
        "optimizer": type(optimizer).__name__,
        "learning rate": float(f"{rate:.6g}") if isinstance(rate, (int, float)) else None,  # at most six digits
        "loss": loss if isinstance(loss, str) else None,
        "precision": task.dtype_policy.name,
    }
    return {key: value for key, value in settings.items() if value is not None}


def figures_of(logs: Mapping[str, Any]) -> dict[str, float]:
    """Returns the figures of an evaluation that are finite numbers.

    >>> figures_of({"loss": 0.5, "f1": float("nan"), "per_label": [0.1, 0.2]})
    {'loss': 0.5}

    Args:
      logs: figures by name.
    """
    figures = {name: float(value) for name, value in logs.items() if isinstance(value, numbers.Real)}
    return {name: value for name, value in figures.items() if math.isfinite(value)}
