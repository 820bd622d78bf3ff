"""Says which layers and weights of a model are trained, and sets the same in a model of the same structure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras


def parts_of(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yields `(name, layer or variable)` of the layers and weights in a layer's attributes, and of the layers in its lists."""
    for name, value in vars(owner).items():
        if name.startswith("_"):
            continue
        if isinstance(value, (list, tuple)):
            yield from ((f"{name}.{number}", item) for number, item in enumerate(value) if isinstance(item, keras.Layer))
        elif isinstance(value, (keras.Layer, keras.Variable)):
            yield name, value


def paths_of(model: keras.Layer) -> dict[str, Any]:
    """Returns a model's layers that have weights, and its variables, by their dotted paths. A layer comes before its parts.

    >>> "embeddings.tokens" in paths_of(kbert.BertEncoder(kbert.BertConfig(vocab_size=9, hidden_size=12, num_hidden_layers=1)))
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
    """Returns the `trainable` flags of the layers and variables whose flag is not that of their owner, by dotted path.

    >>> encoder = kbert.BertEncoder(kbert.BertConfig(vocab_size=9, hidden_size=12, num_hidden_layers=1))
    >>> encoder.embeddings.trainable = False
    >>> trainable_flags(encoder)
    {'embeddings': False}

    The result is empty for a model that is trained as a whole.
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
    """Returns whether a dotted path is that of `owner`, or of a part of it. Every path is inside the empty one."""
    return not owner or path == owner or path.startswith(f"{owner}.")


def set_trainable(model: keras.Layer, flags: Mapping[str, bool]) -> None:
    """Sets the flags of a model's layers and variables to those that `trainable_flags` read from another model.

    Args:
      model: a model whose layers and variables all have the flag True.
      flags: the flags by dotted path. Flags of layers that the model does not have are left out.
    """
    parts = paths_of(model)
    for path, flag in flags.items():  # a layer comes before its parts, because it hands its flag down
        if path in parts:
            parts[path].trainable = flag


class TrainsWhatIsRead:
    """A mixin for a `keras.Model` that leaves out of its training the weights on which its outputs do not depend.

    Such weights have no gradient. Keras would warn of each of them in every `fit`.
    """

    @property
    def unread_weights(self) -> list[keras.Variable]:
        """The weights that the model has but that its outputs do not depend on."""
        return []

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The variables that an optimizer changes."""
        return self._read(super().trainable_variables)  # type: ignore[misc]

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        """The weights that an optimizer changes."""
        return self._read(super().trainable_weights)  # type: ignore[misc]

    def _read(self, variables: list[keras.Variable]) -> list[keras.Variable]:
        unread = {id(variable) for variable in self.unread_weights}
        return [variable for variable in variables if id(variable) not in unread]
