"""Checks paths to write to: a path's suffix says its kind, and only files and folders of kbert's own are replaced."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import pathlib

from kbert.arguments import yes_or_no
from kbert.files.atomic import check_replaceable, recover
from kbert.files.rooms import PREFIX


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file or folder that kbert writes.

    Args:
      name: what an error calls it, with its article.
      suffix: the suffix of such files. It is empty for folders, and for files of any name.
      files: for a folder, the patterns of the files that kbert writes into it; `*` matches slashes too. None for a file. A
        folder without a file of the first pattern is not of this kind.
      cure: words for the error if a path of this kind is given where another kind is written.
    """

    name: str
    suffix: str = ""
    files: tuple[str, ...] | None = None
    cure: str = ""


KERAS = Kind("a .keras file", ".keras", cure="save() writes it")
LITERT = Kind("a LiteRT file", ".tflite", cure='export(format="litert") writes it')
ONNX = Kind("an ONNX file", ".onnx", cure='export(format="onnx") writes it')
WEIGHTS = Kind("a file of weights", ".h5", cure="save_weights() writes it")
SAFETENSORS = Kind("a safetensors file", ".safetensors", cure="save_to_preset() writes it into a folder")
TORCH = Kind("a file of PyTorch", ".pt")
GRAPH = Kind("a graph of TensorFlow", ".pb", cure="a SavedModel is a folder")
SAVED_MODEL = Kind(
    "a SavedModel's folder",
    files=(
        "saved_model.pb",
        "fingerprint.pb",
        "variables/variables.*",
        "assets/*",
        "assets.extra/tf_serving_warmup_requests",
        "batching_params.pbtxt",
    ),
    cure="export() writes it",
)
ANY_FILE = Kind("a file")
FORMATS = {"tf_saved_model": SAVED_MODEL, "litert": LITERT, "onnx": ONNX}  # of `Task.export`
OTHER_FILES = (  # suffixes of model files that kbert does not write
    Kind("a file of weights in Keras's old format", ".hdf5"),
    Kind("a LiteRT file under its old suffix", ".lite", cure="such a file's name ends in .tflite"),
    Kind("a file of PyTorch", ".pth"),
    Kind("a file of PyTorch", ".bin"),
    Kind("a zip archive", ".zip"),
)
NAMED = (KERAS, LITERT, ONNX, WEIGHTS, SAFETENSORS, TORCH, GRAPH, *OTHER_FILES)


def kind_by_name(path: str | os.PathLike[str]) -> Kind | None:
    """Returns the kind of file that the suffix of a path names; None if it names none.

    >>> kind_by_name("models/emotion.tflite").name
    'a LiteRT file'
    """
    suffix = pathlib.Path(path).suffix.lower()
    return next((kind for kind in NAMED if kind.suffix == suffix), None)


def format_by_name(path: str | os.PathLike[str]) -> str:
    """Returns the format of `Task.export` that the suffix of a path names; a SavedModel's if it names none.

    >>> format_by_name("emotion.tflite"), format_by_name("models/emotion/1")
    ('litert', 'tf_saved_model')
    """
    kind = kind_by_name(path)
    return next((name for name, of_format in FORMATS.items() if of_format == kind), "tf_saved_model")


def check_target(path: str | os.PathLike[str], overwrite: bool, kind: Kind = ANY_FILE) -> pathlib.Path:
    """Raises an error if a path is not one to write a file or folder to. Call it before any long work.

    Args:
      path: where the work's result will be written.
      overwrite: whether an existing result of the same kind may be replaced.
      kind: the kind of the result.

    Returns:
      The path as a `pathlib.Path`.

    Raises:
      ValueError: the suffix of the path names another kind.
      FileExistsError: the path exists, and `overwrite` is False, or it is a folder with files that kbert did not write there.
      OSError: the path is a device, a mounted folder or the folder that the process works in, or nothing can be written there.
    """
    yes_or_no(overwrite=overwrite)
    path = pathlib.Path(path)
    named = kind_by_name(path)
    if named is not None and named != kind and kind != ANY_FILE:
        cure = f" ({named.cure})" if named.cure else ""
        raise ValueError(f"{path} is the name of {named.name}{cure}, and {kind.name} is to be written: give another name")
    recover(path)
    check_replaceable(pathlib.Path(os.path.realpath(path)))
    check_writable(path)
    if not path.exists():
        return path
    if not overwrite:
        raise FileExistsError(f"{path} exists; give another path, or pass overwrite=True to replace it")
    if path.is_dir() and kind.files is None:
        raise FileExistsError(f"{path} is a folder, and {kind.name} is a file, which does not replace it: give another path")
    if not path.is_dir() and kind.files is not None:
        raise FileExistsError(f"{path} is a file, which {kind.name} does not replace: give another path")
    if path.is_dir():
        check_own_folder(path, kind)
    return path


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises an error if nothing can be written to a path: a parent is a file, or permissions are missing."""
    nearest = pathlib.Path(path).parent
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise NotADirectoryError(f"{path} cannot be written: {nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be written: you may not write into {nearest.resolve()}")


def check_own_folder(path: pathlib.Path, kind: Kind) -> None:
    """Raises a FileExistsError that names the files of a folder that are not among the files of a kind.

    Args:
      path: the folder. An empty one raises no error.
      kind: the kind of folder that is to be written.
    """
    files = files_in(path)
    if not files:
        return
    foreign = [name for name in files if not any(fnmatch.fnmatchcase(name, pattern) for pattern in kind.files or ())]
    if not foreign and not fnmatch.filter(files, (kind.files or ("*",))[0]):
        foreign = files
    if foreign:
        raise FileExistsError(
            f"{path} is not replaced, because it holds what kbert did not write there as {kind.name}: {some_of(foreign)}; give "
            "another path, or move these away"
        )


def files_in(folder: pathlib.Path) -> list[str]:
    """Returns the paths of a folder's files, relative to the folder and with slashes. kbert's temporary files are left out."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.as_posix() for path in paths if not any(part.startswith(PREFIX) for part in path.parts))


def some_of(names: list[str]) -> str:
    """Returns the first five names as a text, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
