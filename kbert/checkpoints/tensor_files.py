"""Reads tensors from files in which their places are known, one at a time and without a second copy of their numbers."""

from __future__ import annotations

import io
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kbert.files.json import read_json

SCRATCH = 16 << 20  # bytes that are kept between tensors: to get new memory takes longer than to read into it


class Place(NamedTuple):
    """Where in a file a tensor's bytes are, and how to understand them."""

    path: pathlib.Path
    start: int  # byte of the file
    end: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None  # in elements, if the elements do not follow each other in the order of the axes
    unpack: Callable[[memoryview], None] | None = None  # fills memory with the bytes, if they are not in the file as they are


class TensorFiles:
    """The tensors of one file or of several, by name.

    Args:
      path: the file to name in errors.
      places: where the tensors are.
      last_axis: whether tensors are joined along their last axis, as a dense layer's outputs lie in files of TensorFlow.
        torch has them first.
    """

    def __init__(self, path: pathlib.Path, places: Mapping[str, Place], last_axis: bool = False) -> None:
        self.path = path
        self._places = dict(places)
        self._left_out: list[str] = []
        self._last_axis = last_axis
        self._files: dict[pathlib.Path, io.FileIO] = {}
        self._scratch: np.ndarray = np.empty(0, np.uint8)
        self._closed = False

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def names(self) -> set[str]:
        """Returns the names of all tensors."""
        return set(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor."""
        return self._places[name].shape

    def dtype(self, name: str) -> str:
        """Returns the name of the dtype that a tensor is stored in."""
        return str(self._places[name].dtype)

    def left_out(self) -> list[str]:
        """Returns the names in the files that are no weights of a model."""
        return sorted(self._left_out)

    def stored(self, name: str) -> np.ndarray:
        """Returns a tensor in the dtype of the file. It is valid until the next call.

        Args:
          name: the name of the tensor.

        Raises:
          ValueError: the file ends inside the tensor, or was closed.
        """
        place = self._places[name]
        values = self._filled([name]).view(place.dtype)
        if place.strides is None:
            return values.reshape(place.shape)
        # The reader of the file has checked that the strides stay between the first and the last byte.
        strides = [stride * place.dtype.itemsize for stride in place.strides]
        return np.lib.stride_tricks.as_strided(values, place.shape, strides, writeable=False)

    def tensor(self, *names: str) -> np.ndarray:
        """Returns a tensor, or several joined along the axis of a dense layer's outputs, as float32.

        It is valid until the next call.

        Args:
          *names: the names of tensors of one shape.

        Raises:
          ValueError: the file ends inside a tensor, or was closed.
        """
        first = self._places[names[0]]
        joined_last = self._last_axis and len(names) > 1 and len(first.shape) > 1
        axis = len(first.shape) - 1 if joined_last else 0
        shape = list(first.shape) or [1]
        shape[axis] *= len(names)
        as_they_are = all(self._places[name].dtype == np.float32 and self._places[name].strides is None for name in names)
        if as_they_are and not joined_last:
            return self._filled(names).view(np.float32).reshape(shape)
        values: np.ndarray = np.empty(shape, np.float32)
        for part, name in zip(np.split(values, len(names), axis), names):
            part[...] = self.stored(name)
        return values

    def close(self) -> None:
        """Closes the files and frees the memory between them and the weights."""
        for file in self._files.values():
            file.close()
        self._scratch = np.empty(0, np.uint8)
        self._closed = True

    def _filled(self, names: Sequence[str]) -> np.ndarray:
        """Returns the bytes of tensors, one after another."""
        sizes = [self._places[name].end - self._places[name].start for name in names]
        size = sum(sizes)
        if size > len(self._scratch) or len(self._scratch) > max(size, SCRATCH):
            self._scratch = np.empty(0, np.uint8)  # frees the old memory first, so that there is one at a time
            self._scratch = _aligned(size)
        filled = 0
        for name, count in zip(names, sizes):
            self._read(name, self._places[name], self._scratch[filled : filled + count].data)
            filled += count
        return self._scratch[:size]

    def _read(self, name: str, place: Place, room: memoryview) -> None:
        """Fills memory with the bytes of a tensor."""
        if self._closed:
            raise ValueError(f"{self.path} was closed: open it again to read {name}")
        if place.unpack is not None:
            place.unpack(room)
            return
        if place.path not in self._files:
            self._files[place.path] = io.FileIO(place.path)  # unbuffered: numbers go straight to their place
        file = self._files[place.path]
        file.seek(place.start)
        filled = 0
        while filled < len(room):  # one call reads 2 GB at most
            count = file.readinto(room[filled:])
            if not count:
                raise ValueError(f"{place.path} ends inside {name}; fetch it again")
            filled += count


def spanned(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, tuple[int, ...] | None]:
    """Returns how many elements lie between a tensor's first and its last, and the strides if they are not the usual ones.

    >>> spanned((2, 3), (3, 1)), spanned((2, 3), (1, 2)), spanned((0, 3), (3, 1))
    ((6, None), (6, (1, 2)), (0, None))

    Args:
      shape: the shape of the tensor.
      strides: the strides in elements, one for each axis.
    """
    if 0 in shape:
        return 0, None
    usual = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    plain = all(stride == wanted or size == 1 for size, stride, wanted in zip(shape, strides, usual))
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides)), None if plain else tuple(strides)


def files_of(path: pathlib.Path) -> Sequence[pathlib.Path]:
    """Returns a file of weights itself, or the files that an index names.

    Args:
      path: the path of the file, or of an index such as `model.safetensors.index.json`.

    Raises:
      FileNotFoundError: the folder lacks a file that the index names.
      ValueError: the index names no files, or a file outside of its folder.
    """
    if path.suffix != ".json":
        return [path]
    index = read_json(path)
    if not isinstance(index.get("weight_map"), dict) or not index["weight_map"]:
        raise ValueError(f"{path} has no weight_map, which says which file holds which weight")
    names = index["weight_map"].values()
    for name in names:
        # An index comes from outside: it may name files beside itself, and nothing else.
        if not isinstance(name, str) or pathlib.PurePath(name).name != name or "\\" in name:
            raise ValueError(f"{path} names {name!r}, which is not a file beside it; such an index is refused")
        if not (path.parent / name).is_file():
            raise FileNotFoundError(f"{path.parent} lacks {name}, one of the {len(set(names))} files that {path.name} names")
    return [path.parent / name for name in sorted(set(names))]


def _aligned(size: int) -> np.ndarray:
    """Returns memory that begins at a multiple of 64 bytes, which TensorFlow reads without a copy.

    Args:
      size: the number of bytes.
    """
    memory: np.ndarray = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]
