"""Reads the tensors of safetensors files without a second copy of their numbers."""

from __future__ import annotations

import io
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import ml_dtypes
import numpy as np

from kbert.files.json import read_json

SCRATCH = 16 << 20  # bytes that are kept between tensors: to get new memory takes longer than to read into it
DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
}


class Place(NamedTuple):
    """Where in a file a tensor's bytes are, and how to understand them."""

    path: pathlib.Path
    start: int  # byte of the file
    end: int
    dtype: np.dtype
    shape: tuple[int, ...]


class SafetensorsFolder:
    """The tensors of a folder's model.safetensors, or of its several files with an index.

    safetensors itself checks a file and says what is in it. The numbers are read from the file directly. Through safetensors'
    memory map they would count twice in the process's memory, and each tensor would be copied once more than needed.

    Args:
      folder: holds `model.safetensors` or `model.safetensors.index.json`.

    Raises:
      FileNotFoundError: the folder has no safetensors file, or lacks one that its index names.
      ValueError: the weights are a pickle, a file is cut, or an index names a file outside of the folder.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = _find(folder)
        self._places: dict[str, Place] = {}
        self._left_out: list[str] = []
        self._files: dict[pathlib.Path, io.FileIO] = {}
        self._scratch: np.ndarray = np.empty(0, np.uint8)
        try:
            for path in _files_of(self.path):
                self._places.update(_places(path))
                self._files[path] = io.FileIO(path)  # unbuffered: numbers go straight to their place
        except BaseException:
            self.close()
            raise

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

    def tensor(self, *names: str) -> np.ndarray:
        """Returns a tensor, or several joined along the first axis, as float32. It is valid until the next call.

        Args:
          *names: of tensors of one shape and dtype.

        Raises:
          ValueError: the file ends inside a tensor, or was closed.
        """
        places = [self._places[name] for name in names]
        size = sum(place.end - place.start for place in places)
        if size > len(self._scratch) or len(self._scratch) > max(size, SCRATCH):
            self._scratch = np.empty(0, np.uint8)  # frees the old memory first, so that there is one at a time
            self._scratch = _aligned(size)
        filled = 0
        for name, place in zip(names, places):
            count = place.end - place.start
            file = self._files[place.path]
            file.seek(place.start)
            if file.readinto(self._scratch[filled : filled + count].data) != count:
                raise ValueError(f"{place.path} ends inside {name}; fetch it again")
            filled += count
        values: np.ndarray = self._scratch[:size].view(places[0].dtype).astype(np.float32, copy=False)
        return values.reshape(len(names) * places[0].shape[0] if places[0].shape else 1, *places[0].shape[1:])

    def close(self) -> None:
        """Closes the files and frees the memory between them and the weights."""
        for file in self._files.values():
            file.close()
        self._scratch = np.empty(0, np.uint8)


def _find(folder: pathlib.Path) -> pathlib.Path:
    """Returns the path of a folder's one file, or of its index."""
    for name in ("model.safetensors", "model.safetensors.index.json"):
        if (folder / name).is_file():
            return folder / name
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles:
        raise ValueError(
            f"{folder} has its weights in {pickles[0]}, a pickle, which can run any code when it is opened and is "
            "refused. Turn it into safetensors where you trust it: "
            "transformers.AutoModel.from_pretrained(folder).save_pretrained(new_folder)"
        )
    raise FileNotFoundError(
        f"{folder} has no model.safetensors; a preset needs its weights (of a hub's repository kbert fetches no pickles: if "
        "it has nothing else, turn it into safetensors first)"
    )


def _files_of(path: pathlib.Path) -> Sequence[pathlib.Path]:
    """Returns the file itself, or the files that an index names."""
    if path.suffix != ".json":
        return [path]
    index = read_json(path)
    if not isinstance(index.get("weight_map"), dict) or not index["weight_map"]:
        raise ValueError(f"{path} has no weight_map, which says which file holds which weight")
    names = set(index["weight_map"].values())
    for name in names:
        # An index comes from outside: it may name files beside itself, and nothing else.
        if not isinstance(name, str) or pathlib.PurePath(name).name != name or "\\" in name:
            raise ValueError(f"{path} names {name!r}, which is not a file beside it; such an index is refused")
        if not (path.parent / name).is_file():
            raise FileNotFoundError(f"{path.parent} lacks {name}, one of the {len(names)} files that {path.name} names")
    return [path.parent / name for name in sorted(names)]


def _places(path: pathlib.Path) -> dict[str, Place]:
    """Returns where the tensors of a safetensors file are, by name.

    The format is the header's length (8 bytes, little-endian), the header (JSON), then the numbers
    (https://github.com/huggingface/safetensors, Format).
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:  # refuses a header that does not fit the file
            names = list(file.keys())
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); fetch it again") from None
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    places = {}
    for name in names:
        entry = header[name]
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{path}: {name} is stored as {entry['dtype']}, which is not among {', '.join(DTYPES)}")
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        places[name] = Place(path, start, end, np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"]))
    return places


def _aligned(size: int) -> np.ndarray:
    """Returns memory that begins at a multiple of 64 bytes, which TensorFlow reads without a copy.

    Args:
      size: in bytes.
    """
    memory: np.ndarray = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]
