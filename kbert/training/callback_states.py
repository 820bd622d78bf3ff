"""Turns the states of callbacks into plain values for a file, so that a training continues with callbacks as they were."""

from __future__ import annotations

import contextlib
import logging
import os
import types
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# These report the figures of others. Their reports begin anew, so that their state is not kept.
REPORTS = (
    *(keras.callbacks.CSVLogger, keras.callbacks.History, keras.callbacks.ProgbarLogger, keras.callbacks.RemoteMonitor),
    keras.callbacks.TensorBoard,
)
OF_KERAS = ("_model", "model", "params")  # attributes that `fit` sets
# Kinds of values that do not change while a training runs, or that the training's state holds already. Functions are recognized
# by `callable` instead.
CONSTANTS = (
    *(types.ModuleType, os.PathLike, logging.Logger, tf.data.Dataset),
    *(keras.Layer, keras.optimizers.Optimizer, keras.optimizers.schedules.LearningRateSchedule),
)


class NotPlain(Exception):
    """An error that says that a value is not made of plain values."""


def check_states(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Raises a ValueError that names a callback whose state cannot be kept.

    Args:
      callbacks: the callbacks of a `fit`, after their `on_train_begin`.
    """
    for callback in callbacks:
        kind = type(callback).__name__
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(f"resume does what {kind} does, and both would put the task into a state: leave one of them out")
        if isinstance(callback, keras.callbacks.CSVLogger) and not callback.append:
            raise ValueError(f"with resume, {kind} needs append=True: otherwise a training that goes on deletes its lines")
        if _has_own_state(callback) or _is_of("keras", callback) or _is_of("kbert", callback):
            continue  # Keras's own hold their state in plain values, and kbert's have none
        for name, value in vars(callback).items():
            if name in OF_KERAS or isinstance(value, CONSTANTS) or callable(value):
                continue
            try:
                packed(value, [])
            except NotPlain as error:
                raise ValueError(
                    f"resume cannot keep the state of the callback {kind}: its attribute {name!r} is a {error}. Give the "
                    "callback get_state(), which returns plain values, and set_state(state); or train without resume"
                ) from None


def settings_of(callbacks: Sequence[keras.callbacks.Callback]) -> list[dict[str, Any]]:
    """Returns the attributes of each callback as a training begins: its arguments, and its state before the first step.

    Args:
      callbacks: the callbacks of a `fit`, after their `on_train_begin`.
    """
    return [
        {name: packed_apart(value) for name, value in vars(callback).items() if name not in OF_KERAS} for callback in callbacks
    ]


def states_of(
    callbacks: Sequence[keras.callbacks.Callback],
    arrays: list[np.ndarray],
    settings: Sequence[Mapping[str, Any]],
    kept: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Returns the state of each callback as JSON's types: the attributes that the training has changed.

    Other attributes are arguments, which the user gives again.

    Args:
      callbacks: the callbacks of a `fit`.
      arrays: a list to which the arrays in the states are appended; the states hold their places in it.
      settings: the result of `settings_of` as the training began.
      kept: the states that an earlier process had kept. All attributes in them are kept again.
    """
    states = []
    before = [state or {} for state in _matched(callbacks, kept)]
    for callback, given, earlier in zip(callbacks, settings, before):
        state: Any = {}
        if _has_own_state(callback):
            state = packed(callback.get_state(), arrays)
        elif not _is_of("kbert", callback) and not isinstance(callback, REPORTS):
            for name, value in vars(callback).items():
                changed = name in earlier.get("state", {}) or not _are_same(given.get(name), packed_apart(value))
                if name not in OF_KERAS and changed:
                    with contextlib.suppress(NotPlain):  # `check_states` lets such values pass only if they are constants
                        state[name] = packed(value, arrays)
        states.append({"class": type(callback).__name__, "state": state})
    return states


def set_states(
    callbacks: Sequence[keras.callbacks.Callback], states: Sequence[dict[str, Any]], arrays: Sequence[np.ndarray]
) -> None:
    """Sets the states of callbacks. Each callback gets the next state of its class, if there is one.

    Args:
      callbacks: the callbacks of a `fit`.
      states: the states that `states_of` returned for an earlier `fit`.
      arrays: the list of arrays that `states_of` filled.
    """
    for callback, kept in zip(callbacks, _matched(callbacks, states)):
        if kept is None:
            continue
        if _has_own_state(callback):
            callback.set_state(unpacked(kept["state"], arrays))
            continue
        for name, value in kept["state"].items():
            vars(callback)[name] = unpacked(value, arrays)


def _matched(
    callbacks: Sequence[keras.callbacks.Callback], states: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any] | None]:
    """Returns for each callback the next state of its class, or None."""
    left, matched = list(states), []
    for callback in callbacks:
        kept = next((state for state in left if state["class"] == type(callback).__name__), None)
        left = [state for state in left if state is not kept]
        matched.append(kept)
    return matched


def packed_apart(value: Any) -> tuple[Any, list[np.ndarray]] | None:
    """Returns the result of `packed` for a value, and copies of its arrays; None if the value is not plain."""
    arrays: list[np.ndarray] = []
    with contextlib.suppress(NotPlain):
        return packed(value, arrays), [array.copy() for array in arrays]
    return None


def _are_same(a: tuple[Any, list[np.ndarray]] | None, b: tuple[Any, list[np.ndarray]] | None) -> bool:
    """Returns whether two results of `packed_apart` stand for equal values."""
    if a is None or b is None:
        return a is b
    return a[0] == b[0] and all(map(np.array_equal, a[1], b[1]))


def _is_of(package: str, callback: keras.callbacks.Callback) -> bool:
    return type(callback).__module__.split(".")[0] == package


def _has_own_state(callback: keras.callbacks.Callback) -> bool:
    return hasattr(callback, "get_state") and hasattr(callback, "set_state")


def packed(value: Any, arrays: list[np.ndarray]) -> Any:
    """Returns plain values as JSON's types; raises `NotPlain` with the type of a value that is not plain.

    Args:
      value: numbers, strings, bytes, arrays, the functions of `keras.ops`, and lists, tuples, sets and dictionaries of these.
      arrays: a list to which arrays are appended.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple, set, frozenset):
        return {type(value).__name__: [packed(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[packed(key, arrays), packed(item, arrays)] for key, item in value.items()]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, (np.ndarray, np.generic, tf.Tensor)) and np.asarray(value).dtype != object:
        arrays.append(np.asarray(value))
        return {"scalar" if isinstance(value, np.generic) else "array": len(arrays) - 1}
    name = getattr(value, "__name__", None)
    if isinstance(name, str) and getattr(keras.ops, name, None) is value:
        return {"operation": name}
    raise NotPlain(type(value).__name__)


def unpacked(value: Any, arrays: Sequence[np.ndarray]) -> Any:
    """Returns the values that `packed` turned into JSON's types.

    Args:
      value: the result of `packed`.
      arrays: the list to which `packed` appended arrays.
    """
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {unpacked(key, arrays): unpacked(item, arrays) for key, item in content}
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind in ("array", "scalar"):
        return arrays[content] if kind == "array" else arrays[content][()]
    if kind == "operation":
        return getattr(keras.ops, content)
    kinds: dict[str, type] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    return kinds[kind](unpacked(item, arrays) for item in content)
