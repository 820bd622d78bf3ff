"""The protocol of a checkpoint's weights, which the reader of each format satisfies."""

from __future__ import annotations

import pathlib
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Checkpoint(Protocol):
    """The named tensors of a checkpoint on disk, which are read one at a time.

    The names are those of the file without the family's prefix, as the tables of `Rule` have them.
    """

    @property
    def path(self) -> pathlib.Path:
        """The file to name in an error message."""

    def __contains__(self, name: str) -> bool:
        """Returns whether there is a tensor of that name."""

    def names(self) -> set[str]:
        """Returns the names of all tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor without reading its numbers."""

    def dtype(self, name: str) -> str:
        """Returns the name of the dtype that a tensor is stored in, such as `"float32"`, without reading its numbers."""

    def left_out(self) -> list[str]:
        """Returns the names in the file that are no weights of a model, such as an optimizer's. They are not among `names`."""

    def tensor(self, *names: str) -> np.ndarray:
        """Returns a tensor, or several joined along the axis of a dense layer's outputs. It is valid until the next call.

        That axis is the first in files of torch, which hold `[out, in]`, and the last in the others.
        """

    def close(self) -> None:
        """Closes the files. No tensor can be read afterwards."""
