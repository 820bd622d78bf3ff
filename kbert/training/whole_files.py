"""Keras's own files, written aside and put into their place in one step."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import keras

from kbert.files.atomic import written_aside
from kbert.files.targets import KERAS, WEIGHTS, check_target


class WholeFiles(keras.Model):
    """A model whose `save` and `save_weights` leave the old file whole if they are stopped, also those of callbacks."""

    def save(self, path: str | os.PathLike[str], overwrite: bool = True, **kwargs: Any) -> None:
        """Writes a `.keras` file. A crash leaves the old file.

        Args:
          path: the file to write.
          overwrite: replaces a file that is there.
          **kwargs: `zipped`, as in `keras.Model.save`.

        Raises:
          ValueError: the path does not end in `.keras`.
          FileExistsError: the file is there, and `overwrite` is False.
        """
        if pathlib.Path(path).suffix != KERAS.suffix:
            raise ValueError(
                f"a {type(self).__name__} is saved as a .keras file, got {path}; save_to_preset writes a folder for others, "
                "and a task's export a file or folder for where it is to run"
            )
        with written_aside(check_target(path, overwrite, KERAS)) as aside:
            super().save(aside, **kwargs)

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True, **kwargs: Any) -> None:
        """Writes the weights to a `.weights.h5` file. A crash leaves the old file.

        Args:
          filepath: the file to write.
          overwrite: replaces a file that is there.
          **kwargs: `max_shard_size`, as in `keras.Model.save_weights`, which then writes several files, and not as a whole.

        Raises:
          ValueError: the path does not end in `.weights.h5`.
          FileExistsError: the file is there, and `overwrite` is False.
        """
        if kwargs.get("max_shard_size") is not None:
            super().save_weights(filepath, overwrite=overwrite, **kwargs)
            return
        if not str(filepath).endswith(".weights.h5"):
            raise ValueError(f"weights are saved as a .weights.h5 file, got {filepath}")
        with written_aside(check_target(filepath, overwrite, WEIGHTS)) as aside:
            super().save_weights(aside, **kwargs)
