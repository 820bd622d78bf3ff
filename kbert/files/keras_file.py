"""Finds the functions and classes that have to be known before a `.keras` file is opened."""

from __future__ import annotations

import json
import os
import zipfile
from typing import Any

import keras

BUILT_INS = (
    keras.losses,
    keras.metrics,
    keras.activations,
    keras.initializers,
    keras.regularizers,
    keras.constraints,
    keras.ops,
)
LAMBDA = "a lambda"  # the name of a function without one


def unknown_objects(
    path: str | os.PathLike, custom_objects: dict[str, Any], compile: bool, only_compiled: bool = False
) -> list[str]:
    """Returns the names of the functions and classes in a `.keras` file that are neither Keras's nor registered nor given.

    Args:
      path: the file.
      custom_objects: the objects that the caller gives to open the file, by name.
      compile: whether the losses, metrics and optimizer that the task was compiled with are searched too.
      only_compiled: whether the rest of the file is left out of the search.
    """
    try:
        with zipfile.ZipFile(path) as file:
            config = json.loads(file.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError):
        return []  # Keras reports what is wrong with the file
    names: list[str] = []

    def visit(value: Any, counts: bool) -> None:
        for item in value if isinstance(value, list) else ():
            visit(item, counts)
        if not isinstance(value, dict):
            return
        if counts and {"class_name", "config"} <= set(value):
            name: Any = {"function": value["config"], "__lambda__": LAMBDA}.get(value["class_name"], value["class_name"])
            if is_unknown(value, name, custom_objects) and name not in names:
                names.append(name)
        for key, item in value.items():
            if key != "compile_config":
                visit(item, counts)
            elif compile:
                visit(item, True)

    visit(config, not only_compiled)
    return names


def is_unknown(value: dict[str, Any], name: Any, custom_objects: dict[str, Any]) -> bool:
    """Returns whether Keras could not find a serialized function or class.

    Args:
      value: the dictionary that the file holds for the function or class.
      name: its name.
      custom_objects: the objects that the caller gives to open the file, by name.
    """
    if name == LAMBDA:
        return True
    module, registered = value.get("module") or "", value.get("registered_name") or name
    if not isinstance(name, str) or name.startswith("__") or module.split(".")[0] in ("keras", "keras_hub"):
        return False
    if module == "builtins":
        if value["class_name"] != "function" or any(hasattr(part, name) for part in BUILT_INS):
            return False
        registered = name
    return keras.saving.get_registered_object(registered, custom_objects=custom_objects) is None
