"""Finds the tensors of `pytorch_model.bin`, without torch and without running the pickle.

torch.save writes a ZIP file (since 1.6) or a stream of pickles and numbers (before). In both a pickle says which tensor is
which part of which storage, and the storages are plain numbers. `pickled_values` reads the pickle with the names below, so
that nothing else is built or called. (torch/serialization.py and torch/_utils.py of https://github.com/pytorch/pytorch
describe both layouts.)
"""

from __future__ import annotations

import dataclasses
import math
import mmap
import os
import pathlib
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from kbert.checkpoints.pickled_values import Function, PickleReader
from kbert.checkpoints.tensor_files import Place, spanned
from kbert.files.zip_members import Member, read_member, zip_members

MAGIC, STREAM_VERSION = 0x1950A86A20F9469CFC6C, 1001  # the first two pickles of a stream
MOST_AXES = 8
STORAGES = {
    "Double": np.float64,
    "Float": np.float32,
    "Half": np.float16,
    "BFloat16": ml_dtypes.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}


@dataclasses.dataclass(frozen=True)
class Type:
    """A type that a pickle names. It cannot be called."""

    dtype: np.dtype | None = None  # None for types without numbers


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers, of which tensors are parts."""

    key: str
    dtype: np.dtype
    count: int  # of its elements
    base: int = 0  # the first element in the storage that the file holds


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A part of a storage."""

    storage: Storage
    offset: int  # the first element
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    """Returns a tensor. Whether it needs a gradient, and its hooks, do not matter here."""
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise ValueError("it is no part of a storage")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > MOST_AXES or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("its shape is no shape")
    if len(rest) > 2 and rest[2]:
        raise ValueError("it is the negative or the conjugate of its numbers")
    if offset + spanned(shape, strides)[0] > storage.count:
        raise ValueError(f"it goes beyond the {storage.count} numbers of its storage")
    return Tensor(storage, offset, shape, strides)


def _same(tensor: Any, *rest: Any) -> Tensor:
    """Returns the tensor itself, of a parameter."""
    if type(tensor) is not Tensor:
        raise ValueError("its parameter is no tensor")
    return tensor


def _of_type(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """Returns a tensor that had attributes of its own."""
    if type(function) is not Function or function.call is _of_type or type(kind) is not Type or type(arguments) is not tuple:
        raise ValueError("its type is no tensor's")
    return function.call(*arguments)


def _dictionary(*items: Any) -> dict[Any, Any]:
    """Returns an empty dictionary: its items follow in the pickle."""
    if items and items != ([],):
        raise ValueError("a dictionary is made of other values")
    return {}


def _size(numbers: Any) -> tuple[Any, ...]:
    """Returns a shape."""
    if type(numbers) is not tuple:
        raise ValueError("a size is no tuple")
    return numbers


_PLAIN = Type()
# Everything that a list of weights may name.
NAMES: dict[str, Any] = {
    "collections.OrderedDict": Function(_dictionary),
    "torch._utils._rebuild_tensor": Function(_rebuild),
    "torch._utils._rebuild_tensor_v2": Function(_rebuild),
    "torch._utils._rebuild_parameter": Function(_same),
    "torch._utils._rebuild_parameter_with_state": Function(_same),
    "torch._tensor._rebuild_from_type_v2": Function(_of_type),
    "torch.Size": Function(_size),
    "torch.Tensor": _PLAIN,
    "torch.nn.parameter.Parameter": _PLAIN,
    "builtins.int": _PLAIN,
    "__builtin__.int": _PLAIN,
    **{
        f"{module}.{name}Storage": Type(np.dtype(dtype))
        for name, dtype in STORAGES.items()
        for module in ("torch", "torch.cuda")
    },
    **{f"torch.{np.dtype(dtype)}": Type(np.dtype(dtype)) for dtype in STORAGES.values()},
}


def places_of(path: pathlib.Path) -> dict[str, Place]:
    """Returns where the tensors of a file of torch are, by name.

    Args:
      path: the path of a file that `torch.save(model.state_dict(), path)` has written.

    Raises:
      ValueError: the file is damaged, holds another value than a list of weights, or its pickle names something else.
    """
    with open(path, "rb") as file:
        start = file.read(4)
    return _of_zip(path) if start == b"PK\3\4" else _of_stream(path)


def _of_zip(path: pathlib.Path) -> dict[str, Place]:
    """Returns the places of the tensors of a ZIP file: `<root>/data.pkl` and `<root>/data/<key>`."""
    members = zip_members(path)
    roots = [name.removesuffix("data.pkl") for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1 or roots[0] + "constants.pkl" in members:
        raise ValueError(f"{path} is a ZIP file, but no list of weights that torch.save has written; it is refused")
    root = roots[0]
    _check_little_endian(path, members.get(root + "byteorder"))
    pickle = bytearray(members[root + "data.pkl"].size)
    read_member(path, members[root + "data.pkl"], 0, memoryview(pickle))
    reader = PickleReader(pickle, path, NAMES, os.path.getsize(path) - len(pickle))
    del pickle

    def member_of(storage: Storage) -> Member:
        member = members.get(f"{root}data/{storage.key}")
        if member is None or storage.count * storage.dtype.itemsize > member.size:
            raise ValueError(f"the file lacks numbers of storage {storage.key!r}")
        return member

    def storage_of(identity: Any) -> Storage:
        storage = _storage(identity)
        member_of(storage)
        return storage

    value = reader.read(storage_of)
    places = {}
    for name, tensor in _tensors(value, path).items():
        member = member_of(tensor.storage)
        place = _place(tensor, path, 0 if member.deflated else member.start)
        unpack = partial(read_member, path, member, place.start) if member.deflated else None
        places[name] = place._replace(unpack=unpack)
    return places


def _check_little_endian(path: pathlib.Path, member: Member | None) -> None:
    """Raises a ValueError if a file says that its numbers are big-endian."""
    if member is None:
        return
    order = bytearray(min(member.size, 16))
    read_member(path, member, 0, memoryview(order))
    if order != b"little":
        raise ValueError(f"{path} was written on a big-endian machine; write it again on a usual one")


def _of_stream(path: pathlib.Path) -> dict[str, Place]:
    """Returns the places of the tensors of a stream: five pickles, then for each storage its length and its numbers."""
    size = os.path.getsize(path)
    if not size:
        raise ValueError(f"{path} is empty; fetch it again")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = PickleReader(data, path, NAMES, size)
        if data[0] != 0x80:
            raise ValueError(f"{path} is no list of weights that torch.save has written; fetch it again, or write safetensors")
        if reader.read() != MAGIC or reader.read() != STREAM_VERSION:
            raise ValueError(f"{path} is a pickle, but not one of torch's; it is refused. Write the weights as safetensors")
        system = reader.read()
        if type(system) is not dict or system.get("little_endian") is not True:
            raise ValueError(f"{path} was written on a big-endian machine; write it again on a usual one")
        sizes: dict[str, tuple[int, int]] = {}  # by key: the elements of a storage and the bytes of an element

        def storage_of(identity: Any) -> Storage:
            storage = _storage(identity)
            wanted = (identity[4], storage.dtype.itemsize)
            if sizes.setdefault(storage.key, wanted) != wanted:
                raise ValueError(f"storage {storage.key!r} is described in two ways")
            return storage

        value = reader.read(storage_of)
        keys = reader.read()
        if type(keys) is not list or any(type(key) is not str for key in keys) or sorted(keys) != sorted(sizes):
            raise ValueError(f"{path} is damaged: it does not list the storages that its tensors are parts of")
        starts, position = {}, reader.position
        for key in keys:
            count, itemsize = sizes[key]
            starts[key] = position + 8
            stated = int.from_bytes(data[position : position + 8], "little")
            position += 8 + count * itemsize
            if stated != count or position > size:
                raise ValueError(f"{path} ends inside the numbers of its weights, or is damaged; fetch it again")
    return {name: _place(tensor, path, starts[tensor.storage.key]) for name, tensor in _tensors(value, path).items()}


def _storage(identity: Any) -> Storage:
    """Returns the storage that a persistent id describes: `("storage", type, key, device, elements[, view])`."""
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
        kind = identity[0] if type(identity) is tuple and identity and type(identity[0]) is str else "nothing known"
        raise ValueError(f"its persistent id describes {kind[:40]}" + (": a whole model" if kind == "module" else ""))
    _, kind, key, _, count, *view = identity
    if type(kind) is not Type or kind.dtype is None or type(key) is not str or type(count) is not int or count < 0:
        raise ValueError("its persistent id describes no numbers of a known type")
    if not view or view[0] is None:
        return Storage(key, kind.dtype, count)
    if type(view[0]) is not tuple or len(view[0]) != 3 or any(type(number) is not int for number in view[0][1:]):
        raise ValueError("its persistent id describes no part of a storage")
    _, base, part = view[0]
    if base < 0 or part < 0 or base + part > count:
        raise ValueError(f"its part goes beyond the {count} numbers of storage {key!r}")
    return Storage(key, kind.dtype, part, base)


def _tensors(value: Any, path: pathlib.Path) -> dict[str, Tensor]:
    """Returns the tensors of what a file holds, by name."""
    if type(value) is dict and {"state", "param_groups"} <= set(value):
        raise ValueError(f"{path} holds the state of an optimizer, not weights; give the file of the model")
    if type(value) is not dict or not value:
        kind = "an empty dictionary" if value == {} else f"a {type(value).__name__.lower()}"
        raise ValueError(f"{path} holds {kind}, where a dictionary of weights was expected; write model.state_dict()")
    most = os.path.getsize(path)
    inner = [name for name, part in value.items() if type(part) is dict and Tensor in map(type, part.values())]
    if inner:
        raise ValueError(f"{path} holds its weights under {inner[0]!r}; write that part alone with torch.save")
    for name, tensor in value.items():
        if type(name) is not str or type(tensor) is not Tensor:
            raise ValueError(f"{path}: {name!r} is no tensor ({type(tensor).__name__}); write model.state_dict() alone")
        if math.prod(tensor.shape) * tensor.storage.dtype.itemsize > most:
            raise ValueError(f"{path}: {name!r} repeats its numbers to the shape {tensor.shape}, more than the file holds")
    return value


def _place(tensor: Tensor, path: pathlib.Path, start: int) -> Place:
    """Returns the place of a tensor.

    Args:
      tensor: a part of a storage.
      path: the path of the file.
      start: where the storage begins.
    """
    dtype = tensor.storage.dtype
    elements, strides = spanned(tensor.shape, tensor.strides)
    first = start + (tensor.storage.base + tensor.offset) * dtype.itemsize
    return Place(path, first, first + elements * dtype.itemsize, dtype, tensor.shape, strides)
