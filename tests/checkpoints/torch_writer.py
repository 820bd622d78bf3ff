"""Writes a pytorch_model.bin without torch, for files too large to be kept among the fixtures."""

import struct
import zipfile

import numpy as np


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(shape, strides, count, offset=0, key="0"):
    """The part of a pickle that describes one float32 tensor."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(count) + b"tQ"
    arguments = storage + number(offset) + numbers(shape) + numbers(strides) + b"\x89}t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"R"


def pickled(tensors):
    """The pickle of a dictionary of tensors, each given as the bytes that describe it."""
    return b"\x80\x02}(" + b"".join(text(name) + value for name, value in tensors.items()) + b"u."


def write_bin(path, arrays):
    """Writes float32 arrays as torch would."""
    described = {}
    with zipfile.ZipFile(path, "w") as archive:
        for key, (name, array) in enumerate(arrays.items()):
            strides = [stride // 4 for stride in np.ascontiguousarray(array).strides]
            described[name] = tensor(array.shape, strides, array.size, key=str(key))
            archive.writestr(f"m/data/{key}", np.ascontiguousarray(array, np.float32).tobytes())
        archive.writestr("m/data.pkl", pickled(described))
