"""What an exported file or a `.keras` file says about itself, read without TensorFlow and without its weights' numbers."""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

from kbert.files.flatbuffer_fields import Table
from kbert.files.protobuf_fields import messages, numbers, text

LARGEST = 16 << 20  # bytes of a list of labels or of a vocabulary in an archive

# The numbers of dtypes in LiteRT's, ONNX's and TensorFlow's schemas.
LITERT_DTYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    5: "string",
    6: "bool",
    9: "int8",
    10: "float64",
}
ONNX_DTYPES = {
    1: "float32",
    3: "int8",
    2: "uint8",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
}
TENSORFLOW_DTYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 7: "string", 9: "int64", 10: "bool", 19: "float16"}


def keras_facts(path: pathlib.Path) -> dict[str, Any]:
    """Returns the facts of a `.keras` file.

    Raises:
      ValueError: the file is no whole archive of Keras's.
    """
    import h5py

    counts: dict[str, int] = {}
    optimizer = []

    def note(name: str, item: Any) -> None:
        if name.startswith("optimizer/"):
            optimizer.append(name)
        elif hasattr(item, "shape") and not name.startswith("_") and "seed_generator" not in name:
            counts[str(item.dtype)] = counts.get(str(item.dtype), 0) + math.prod(item.shape)

    try:
        with zipfile.ZipFile(path) as archive:
            stated = json.loads(archive.read("config.json"))
            version = json.loads(archive.read("metadata.json")).get("keras_version", "")
            with archive.open("model.weights.h5") as weights, h5py.File(weights, "r") as file:
                file.visititems(note)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, AttributeError) as error:
        raise ValueError(f"{path} is not a whole .keras file ({error}); save it again") from None
    config = _dictionary(stated, "config")
    encoder = _dictionary(config, "encoder", "config", "config")
    preprocessor = _dictionary(config, "preprocessor", "config")
    tokenizer = _dictionary(preprocessor, "tokenizer", "config")
    ours = str(stated.get("registered_name", "")).startswith("kbert>")
    vocabulary = tokenizer.get("vocabulary")
    return {
        "kind": "a task in a .keras file" if ours else "a .keras file of a model that is not kbert's",
        "written_with": f"Keras {version}" if version else "",
        "architecture": _dictionary(config, "encoder").get("class_name") or stated.get("class_name"),
        "task": stated.get("class_name") if ours else None,
        "labels": config.get("labels"),
        "problem_type": config.get("problem_type"),
        "sizes": encoder,
        **_counted(counts),
        "vocabulary_size": len(vocabulary) if isinstance(vocabulary, list) else None,
        "lowercase": tokenizer.get("lowercase"),
        "max_length": preprocessor.get("max_length"),
        "training_state": f"{_dictionary(stated, 'compile_config', 'optimizer').get('class_name')}'s" if optimizer else "",
    }


def litert_facts(path: pathlib.Path) -> dict[str, Any]:
    """Returns the facts of a `.tflite` file, with the labels and the vocabulary in its metadata.

    Raises:
      ValueError: the file is cut, or no LiteRT file.
    """
    with _mapped(path) as content:
        try:
            model = Table(content)
            buffers = model.tables(4)
            graph = model.tables(2)[0]
            counts: dict[str, int] = {}
            tensors = graph.tables(0)
            for tensor in tensors:
                buffer = buffers[tensor.number(2, "I")]
                if buffer.length(0) or buffer.number(2, "Q"):
                    dtype = LITERT_DTYPES.get(tensor.number(1, "b"), "other")
                    if dtype not in ("string", "bool"):
                        counts[dtype] = counts.get(dtype, 0) + math.prod(tensor.numbers(0))
            places = {side: {tensors[n].text(3): tensors[n] for n in graph.numbers(field)} for side, field in SIDES}
            for signature in model.tables(7)[:1]:
                for side, field in (("inputs", 0), ("outputs", 1)):
                    places[side] = {entry.text(0): tensors[entry.number(1, "I")] for entry in signature.tables(field)}
            sides = {
                side: {name: _spec(LITERT_DTYPES, tensor.number(1, "b"), tensor.numbers(0)) for name, tensor in entries.items()}
                for side, entries in places.items()
            }
        except IndexError:
            raise ValueError(f"{path} is cut, or no LiteRT file") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return {
        "kind": "a LiteRT file",
        "architecture": model_description(sides),
        **_counted(counts),
        **sides,
        **_packed_files(path),
    }


SIDES = (("inputs", 1), ("outputs", 2))  # of a LiteRT subgraph, and the numbers of their fields


def model_description(sides: Mapping[str, Mapping[str, str]]) -> str:
    """Returns in words what an exported file takes.

    Args:
      sides: the inputs and outputs by name, each with its dtype and shape.
    """
    takes_text = any(spec.startswith("string") for spec in sides["inputs"].values())
    return "takes text" if takes_text else "takes token ids"


def _packed_files(path: pathlib.Path) -> dict[str, Any]:
    """Returns the labels and the size of the vocabulary that Model Maker or MediaPipe packed behind a LiteRT file."""
    found: dict[str, Any] = {}
    if not zipfile.is_zipfile(path):
        return found
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.file_size > LARGEST or not entry.filename.endswith(".txt"):
                    continue
                lines = archive.read(entry).decode("utf-8", "replace").splitlines()
                if "label" in entry.filename:
                    found["labels"] = lines
                elif "vocab" in entry.filename:
                    found["vocabulary_size"] = len(lines)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        found["notes"] = [f"the files in its metadata cannot be read ({error})"]
    return found


def onnx_facts(path: pathlib.Path) -> dict[str, Any]:
    """Returns the facts of an `.onnx` file.

    Raises:
      ValueError: the file is cut, or no ONNX file.
    """
    counts: dict[str, int] = {}
    with _mapped(path) as content:
        view = memoryview(content)
        try:
            if not messages(view, 7):
                raise ValueError("not an ONNX file")
            for tensor in messages(view, 7, 5):
                dtype = ONNX_DTYPES.get(next(iter(numbers(tensor, 2)), 0), "other")
                if dtype not in ("string", "bool"):
                    counts[dtype] = counts.get(dtype, 0) + math.prod(numbers(tensor, 1))
            sides = {side: _onnx_values(messages(view, 7, field)) for side, field in (("inputs", 11), ("outputs", 12))}
            properties = {text(entry, 1): text(entry, 2) for entry in messages(view, 14)}
            producer = f"{text(view, 2)} {text(view, 3)}".strip()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    facts = {"kind": "an ONNX file", "written_with": producer, "architecture": model_description(sides)}
    return {**facts, **_counted(counts), **sides, **({"properties": properties} if properties else {})}


def _onnx_values(values: list[memoryview]) -> dict[str, str]:
    """Returns a graph's inputs or outputs by name, each with its dtype and shape."""
    described = {}
    for value in values:
        tensor = next(iter(messages(value, 2, 1)), memoryview(b""))
        sizes = [next(iter(numbers(size, 1)), None) or text(size, 2) or "?" for size in messages(tensor, 2, 1)]
        described[text(value, 1)] = _spec(ONNX_DTYPES, next(iter(numbers(tensor, 1)), 0), sizes)
    return described


def saved_model_facts(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the facts of a SavedModel's folder.

    Raises:
      ValueError: saved_model.pb is cut.
    """
    path = folder / "saved_model.pb"
    view = memoryview(path.read_bytes())
    try:
        signatures = {text(entry, 1): next(iter(messages(entry, 2)), memoryview(b"")) for entry in messages(view, 2, 5)}
        signatures = {name: signature for name, signature in signatures.items() if not name.startswith("__")}
        first = signatures.get("serving_default", next(iter(signatures.values()), memoryview(b"")))
        sides = {side: _tensor_infos(messages(first, field)) for side, field in (("inputs", 1), ("outputs", 2))}
        version = text(view, 2, 1, 5)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    size = sum(file.stat().st_size for file in (folder / "variables").glob("variables.data*"))
    return {
        "kind": "a SavedModel",
        "written_with": f"TensorFlow {version}" if version else "",
        "architecture": model_description(sides),
        "bytes": size,
        "signatures": sorted(signatures),
        **sides,
    }


def _tensor_infos(entries: list[memoryview]) -> dict[str, str]:
    """Returns a signature's inputs or outputs by name, each with its dtype and shape."""
    described = {}
    for entry in entries:
        info = next(iter(messages(entry, 2)), memoryview(b""))
        sizes = [next(iter(numbers(size, 1)), 0) for size in messages(info, 3, 2)]
        described[text(entry, 1)] = _spec(TENSORFLOW_DTYPES, next(iter(numbers(info, 2)), 0), sizes)
    return dict(sorted(described.items()))


def facts_of_file(path: pathlib.Path) -> dict[str, Any] | None:
    """Returns the facts of a file or folder whose name or first bytes say its kind; None for another.

    Args:
      path: the file, or a SavedModel's folder.
    """
    if (path / "saved_model.pb").is_file():
        return saved_model_facts(path)
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        first = file.read(8)
    if first[4:] == b"TFL3":
        return litert_facts(path)
    reader = {".keras": keras_facts, ".tflite": litert_facts, ".onnx": onnx_facts}.get(path.suffix.lower())
    return None if reader is None else reader(path)


@contextlib.contextmanager
def _mapped(path: pathlib.Path) -> Iterator[Any]:
    """Maps a file into memory for the length of a block, so that only the parts that are read take memory."""
    with open(path, "rb") as file:
        if path.stat().st_size < 8:
            raise ValueError(f"{path} is empty or cut")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            yield content
        finally:
            with contextlib.suppress(BufferError):  # a traceback may still hold a view; the map goes with it
                content.close()


def _counted(counts: Mapping[str, int]) -> dict[str, Any]:
    """Returns the facts of weights that are counted by their dtype."""
    width = {"float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1, "int64": 8, "float64": 8}
    size = sum(width.get(dtype, 4) * count for dtype, count in counts.items())
    return {"parameters": sum(counts.values()), "bytes": size, "dtypes": dict(counts)}


def _spec(dtypes: Mapping[int, str], number: int, shape: list[Any]) -> str:
    """Returns a dtype and a shape as a text, such as `"int32 [1, 128]"`."""
    return f"{dtypes.get(number, 'other')} [{', '.join('?' if size in (-1, 0) else str(size) for size in shape)}]"


def _dictionary(value: Any, *keys: str) -> dict[str, Any]:
    """Returns the dictionary at a path of keys; an empty one if there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
