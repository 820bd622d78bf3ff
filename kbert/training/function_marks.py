"""Says what a function or an object of the user's computes with, as plain values for a fingerprint."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.training.fingerprint import LEFT_OUT, digest

OF_LIBRARIES = ("builtins", "keras", "kbert", "numpy", "tensorflow")


def mark(value: Any, where: str, inside: tuple[int, ...] = ()) -> Any:
    """Returns a nest of plain values that differs for functions and objects that compute differently.

    >>> mark(functools.partial(round, ndigits=2), "loss")
    ['partial', 'builtins.round', [], [['ndigits', 2]]]

    A function is its code, its defaults, the values that it closes over, and the numbers and strings among the globals that it
    reads. A function or a class of Keras, TensorFlow, NumPy and kbert is its name. An object is its class, its configuration
    and its attributes.

    Args:
      value: a function, an object, or a nest of them and of plain values.
      where: the name of the value in an error.
      inside: the ids of the values around this one, for functions that refer to themselves.

    Raises:
      ValueError: a value is of a kind whose content cannot be read, for example an open file.
    """
    if id(value) in inside:
        return "itself"
    around = (*inside, id(value))

    def of(part: Any, name: str) -> Any:
        return mark(part, f"{where}, {name}", around)

    if value is None or isinstance(value, (bool, int, float, str, bytes, np.ndarray, np.generic)):
        return value
    if isinstance(value, (tf.Tensor, tf.Variable, keras.Variable)):
        return keras.ops.convert_to_numpy(value)
    if isinstance(value, (list, tuple)):
        return [of(item, str(place)) for place, item in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return {digest(of(item, "an item")) for item in value}
    if isinstance(value, Mapping):
        return [[str(key), of(item, str(key))] for key, item in value.items()]
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, functools.partial):
        return ["partial", of(value.func, "func"), of(value.args, "args"), of(value.keywords, "keywords")]
    if isinstance(value, types.MethodType):
        return ["method", of(value.__func__, "function"), of(value.__self__, "self")]
    if isinstance(value, (type, types.BuiltinFunctionType)) or (hasattr(value, "__qualname__") and is_of_library(value)):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, types.FunctionType):
        code, read = value.__code__, {name: value.__globals__.get(name) for name in names_in(value.__code__)}
        numbers = {name: item for name, item in read.items() if isinstance(item, (bool, int, float, str, bytes))}
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        closed = [of(content, name) for name, content in zip(code.co_freevars, cells)]
        return [
            "function",
            of_code(code),
            of([value.__defaults__, value.__kwdefaults__], "defaults"),
            closed,
            of(numbers, "globals"),
        ]
    if isinstance(value, keras.Layer):
        return [type(value).__qualname__, value.get_config(), value.get_weights()]
    if not hasattr(value, "__dict__") or type(value).__module__ in sys.stdlib_module_names:
        raise ValueError(
            f"resume cannot tell whether {where} is the same after a crash, because it holds a {type(value).__name__}: close "
            "over numbers, strings, arrays or functions, or train without resume"
        )
    config = value.get_config() if hasattr(value, "get_config") else {}
    attributes = {} if config and is_of_library(type(value)) else vars(value)
    own = {name: item for name, item in attributes.items() if name[0] != "_" and name not in config and name not in LEFT_OUT}
    return [type(value).__qualname__, config, of(own, "attributes")]


def is_of_library(value: Any) -> bool:
    """Returns whether a function or a class is Keras's, TensorFlow's, NumPy's, kbert's, or built into Python."""
    return str(getattr(value, "__module__", None)).partition(".")[0] in OF_LIBRARIES


def of_code(code: types.CodeType) -> list:
    """Returns what a function's code does, without the places of its lines in a file."""
    constants = [of_constant(item) for item in code.co_consts]
    return [code.co_code, list(code.co_names), constants]


def of_constant(value: Any) -> Any:
    """Returns a constant of a function's code, the same in each process."""
    if isinstance(value, types.CodeType):
        return of_code(value)
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)


def names_in(code: types.CodeType) -> list[str]:
    """Returns the names of globals and attributes in a function's code and in the functions inside it."""
    inside = [name for item in code.co_consts if isinstance(item, types.CodeType) for name in names_in(item)]
    return sorted({*code.co_names, *inside})
