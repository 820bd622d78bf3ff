"""Writes Keras's own files aside, and puts them into their place in one step."""

from __future__ import annotations

import os
import pathlib

import keras

from kbert.files.atomic import written_aside
from kbert.files.targets import KERAS, WEIGHTS, check_target


class WholeFiles(keras.Model):
    """A model whose `save` and `save_weights` leave the old file whole if they are stopped, also if a callback calls them."""

    def save(self, path: str | os.PathLike[str], overwrite: bool = True, zipped: bool | None = None) -> None:
        """Writes a `.keras` file, which `kbert.load` opens. A crash leaves the old file.

        >>> task.save("emotion.keras")  # doctest: +SKIP

        The file of a task also holds its vocabulary and labels.

        Args:
          path: the file to write.
          overwrite: replaces a file that is there.
          zipped: Keras's argument. A `.keras` file is zipped, so that False is refused.

        Raises:
          ValueError: the path does not end in `.keras`, or `zipped` is False.
          FileExistsError: the file is there, and `overwrite` is False.
        """
        if pathlib.Path(path).suffix != KERAS.suffix:
            raise ValueError(
                f"a {type(self).__name__} is saved as a .keras file, got {path}; save_to_preset writes a folder for others, "
                "and a task's export a file or folder for where it is to run"
            )
        if zipped is not None and not zipped:
            raise ValueError("a .keras file is zipped: leave zipped=False out; save_to_preset writes a folder")
        with written_aside(check_target(path, overwrite, KERAS)) as aside:
            super().save(aside)

    def save_weights(
        self, filepath: str | os.PathLike[str], overwrite: bool = True, max_shard_size: float | None = None
    ) -> None:
        """Writes the weights to a `.weights.h5` file. A crash leaves the old file.

        Args:
          filepath: the file to write.
          overwrite: replaces a file that is there.
          max_shard_size: Keras's argument, which is refused. A stopped save of several files would leave new ones beside old
            ones.

        Raises:
          ValueError: the path does not end in `.weights.h5`, or `max_shard_size` is given.
          FileExistsError: the file is there, and `overwrite` is False.
        """
        if max_shard_size is not None:
            raise ValueError(
                "max_shard_size would write several files, which no save replaces as a whole: leave it out; save_to_preset "
                "replaces a folder as a whole"
            )
        if not str(filepath).endswith(".weights.h5"):
            raise ValueError(f"weights are saved as a .weights.h5 file, got {filepath}")
        with written_aside(check_target(filepath, overwrite, WEIGHTS)) as aside:
            super().save_weights(aside)
