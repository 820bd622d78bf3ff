"""Finds the tensors of safetensors files."""

from __future__ import annotations

import json
import pathlib

import ml_dtypes
import numpy as np

from kbert.checkpoints.tensor_files import Place

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def places_of(path: pathlib.Path) -> dict[str, Place]:
    """Returns where the tensors of a safetensors file are, by name.

    safetensors itself checks a file and says what is in it. The numbers are read from the file directly. Through safetensors'
    memory map they would count twice in the process's memory, and each tensor would be copied once more than needed.

    The format is the header's length (8 bytes, little-endian), the header (JSON), then the numbers
    (https://github.com/huggingface/safetensors, Format).

    Args:
      path: the path of the file.

    Raises:
      ValueError: the file is cut, or a tensor has a dtype that numpy lacks.
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
