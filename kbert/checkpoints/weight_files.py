"""Finds the weights of a Hugging Face folder, which are in files of one of several kinds."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import NamedTuple

from kbert.checkpoints import safetensors_file, torch_pickle
from kbert.checkpoints.tensor_files import Place, TensorFiles, files_of


class Kind(NamedTuple):
    """One kind of files with weights."""

    name: str  # of the one file; its index, if there are several, is called `<name>.index.json`
    places_of: Callable[[pathlib.Path], dict[str, Place]]

    def file_in(self, folder: pathlib.Path) -> pathlib.Path | None:
        """Returns the path of the one file, or else of the index, if a folder has one of them.

        Args:
          folder: a Hugging Face folder.
        """
        paths = [folder / self.name, folder / f"{self.name}.index.json"]
        return next((path for path in paths if path.is_file()), None)


# The first kind that a folder has is read: no pickle where there is something better.
KINDS = (Kind("model.safetensors", safetensors_file.places_of), Kind("pytorch_model.bin", torch_pickle.places_of))


class Weights(NamedTuple):
    """The weights of a folder that are in files of one kind."""

    path: pathlib.Path  # of the one file, or of the index
    kind: Kind

    def places(self) -> dict[str, Place]:
        """Returns where the tensors are, by their names in the files.

        Raises:
          FileNotFoundError: the folder lacks a file that the index names.
          ValueError: a file is cut or refused.
        """
        return {name: place for path in files_of(self.path) for name, place in self.kind.places_of(path).items()}


def weights_in(folder: pathlib.Path) -> list[Weights]:
    """Returns the weights that a folder holds, those to read first.

    Args:
      folder: a Hugging Face folder.

    Raises:
      FileNotFoundError: the folder has no weights.
    """
    found = [(kind.file_in(folder), kind) for kind in KINDS]
    weights = [Weights(path, kind) for path, kind in found if path is not None]
    if not weights:
        raise FileNotFoundError(f"{folder} has no weights: a preset needs {' or '.join(kind.name for kind in KINDS)}")
    return weights


def open_weights(folder: pathlib.Path) -> TensorFiles:
    """Opens the weights of a folder under their names in the files.

    Args:
      folder: holds weights of one of the `KINDS`.

    Raises:
      FileNotFoundError: the folder has no weights, or lacks a file that an index names.
      ValueError: a file is cut or refused.
    """
    first = weights_in(folder)[0]
    return TensorFiles(first.path, first.places())
