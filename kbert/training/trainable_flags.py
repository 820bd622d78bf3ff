"""Which layers and weights of a model are trained: read from one model, put into another of the same structure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras


def parts_of(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yields `(name, layer or variable)` of the layers and weights that are attributes of a layer, or in lists of it."""
    for name, value in vars(owner).items():
        if name.startswith("_"):
            continue
        if isinstance(value, (list, tuple)):
            yield from ((f"{name}.{number}", item) for number, item in enumerate(value) if isinstance(item, keras.Layer))
        elif isinstance(value, (keras.Layer, keras.Variable)):
            yield name, value


def paths_of(model: keras.Layer) -> dict[str, Any]:
    """Returns a model's layers that have weights, and its variables, by their dotted paths; those above come first.

    >>> "embeddings.tokens" in paths_of(kbert.BertEncoder(kbert.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1)))
    True

    The path of the model itself is empty.
    """
    found: dict[str, Any] = {"": model}
    seen = {id(model)}

    def visit(path: str, owner: Any) -> None:
        for name, part in parts_of(owner):
            if id(part) in seen or (isinstance(part, keras.Layer) and not part.weights):
                continue
            seen.add(id(part))
            found[f"{path}{name}"] = part
            if isinstance(part, keras.Layer):
                visit(f"{path}{name}.", part)

    visit("", model)
    return found


def trainable_flags(model: keras.Layer) -> dict[str, bool]:
    """Returns the flags of the layers and variables that have another flag than what they are part of, by dotted path.

    >>> encoder = kbert.BertEncoder(kbert.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1))
    >>> encoder.embeddings.trainable = False
    >>> trainable_flags(encoder)
    {'embeddings': False}

    A model that is trained as a whole has none.
    """
    flags: dict[str, bool] = {}
    above = {"": True}
    for path, part in paths_of(model).items():
        inherited = above[max((owner for owner in above if is_inside(path, owner)), key=len)]
        if bool(part.trainable) != inherited:
            flags[path] = bool(part.trainable)
        if isinstance(part, keras.Layer):
            above[path] = bool(part.trainable)
    return flags


def is_inside(path: str, owner: str) -> bool:
    """Returns whether a dotted path is that of `owner`, or of a part of it. All are inside of the empty path."""
    return not owner or path == owner or path.startswith(f"{owner}.")


def set_trainable(model: keras.Layer, flags: Mapping[str, bool]) -> None:
    """Gives the layers and variables of a model the flags that `trainable_flags` read from another one.

    Args:
      model: a model whose layers and variables all have the flag True.
      flags: by dotted path. Those of layers that the model does not have are left out.
    """
    parts = paths_of(model)
    for path, flag in flags.items():  # those above come first, for a layer hands its flag down
        if path in parts:
            parts[path].trainable = flag
