"""Finds the weights of a Hugging Face folder, which are in files of one of several kinds."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import NamedTuple

from kbert.checkpoints import safetensors_file, torch_pickle, transformers_tf
from kbert.checkpoints.tensor_files import Place, TensorFiles, files_of


class Kind(NamedTuple):
    """One kind of files with weights."""

    name: str  # of the one file, or a pattern; the index of several files is called `<name>.index.json`
    places_of: Callable[[pathlib.Path], dict[str, Place]]
    kernels_as_ours: bool = False  # [in, out], as TensorFlow has them; torch has [out, in]

    def file_in(self, folder: pathlib.Path) -> pathlib.Path | None:
        """Returns the path of the one file, or else of the index, if a folder has one of them.

        Args:
          folder: a Hugging Face folder.

        Raises:
          ValueError: several files fit a pattern.
        """
        paths = sorted(folder.glob(self.name)) or [folder / f"{self.name}.index.json"]
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise ValueError(f"{folder} holds several files of weights ({names}); keep the one to open in a folder of its own")
        return paths[0] if paths[0].is_file() else None


# The first kind that a folder has is read: no pickle where there is something better.
KINDS = (
    Kind("model.safetensors", safetensors_file.places_of),
    Kind("pytorch_model.bin", torch_pickle.places_of),
    Kind("tf_model.h5", transformers_tf.places_of_hdf5, kernels_as_ours=True),
)
OF_TENSORFLOW = Kind("model.safetensors", transformers_tf.places_of_safetensors, kernels_as_ours=True)
# What Keras has written around a TFBert, under a name of the user's. It counts where none of the kinds above is there.
OF_KERAS = Kind("*.h5", transformers_tf.places_of_hdf5, kernels_as_ours=True)


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
    weights = [Weights(path, _flavour(path, kind)) for path, kind in found if path is not None]
    if weights:
        return weights
    path = OF_KERAS.file_in(folder)
    if path is None:
        raise FileNotFoundError(f"{folder} has no weights: a preset needs {' or '.join(kind.name for kind in KINDS)}")
    return [Weights(path, OF_KERAS)]


def _flavour(path: pathlib.Path, kind: Kind) -> Kind:
    """Returns the kind, or that of TensorFlow's safetensors if a file has its names."""
    if kind.name != OF_TENSORFLOW.name:
        return kind
    names = safetensors_file.places_of(files_of(path)[0])
    return OF_TENSORFLOW if any(transformers_tf.is_of_tensorflow(name) for name in names) else kind


def kernels_are_ours(folder: pathlib.Path) -> bool:
    """Returns whether a folder's dense kernels are stored as `[in, out]`. Without weights that is False.

    Args:
      folder: a Hugging Face folder. Its weights may be missing or damaged: `open_weights` says so.
    """
    try:
        return weights_in(folder)[0].kind.kernels_as_ours
    except (OSError, ValueError):
        return False


def open_weights(folder: pathlib.Path) -> TensorFiles:
    """Opens the weights of a folder under their names in the files.

    Args:
      folder: holds weights of one of the `KINDS`.

    Raises:
      FileNotFoundError: the folder has no weights, or lacks a file that an index names.
      ValueError: a file is cut or refused.
    """
    first = weights_in(folder)[0]
    return TensorFiles(first.path, first.places(), first.kind.kernels_as_ours)
