"""Writes files and folders beside their target and renames them, so that no reader ever sees half a model."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


def check_target(path: str | os.PathLike[str], overwrite: bool) -> pathlib.Path:
    """Raises an error if a file or folder would be replaced. Call it before any long work.

    Args:
      path: where the work's result will be written.
      overwrite: whether a file or folder that is there may be replaced.

    Returns:
      The path as a `pathlib.Path`.

    Raises:
      FileExistsError: something is at `path`, and `overwrite` is False.
    """
    path = pathlib.Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; export to another path, or pass overwrite=True to replace it")
    return path


@contextlib.contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Gives a path beside the target to write to, and renames it to the target when the block ends without an error.

    After an error, or Ctrl-C, the target is as it was before, and nothing else is left.

    Args:
      path: the file or folder to write or replace. Its parent folders are made.

    Yields:
      A path of the same name in a temporary folder beside the target.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # TF Serving may be watching the parent folder. To it, a name that begins with a dot is no version number.
    room = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield room / path.name
        if path.exists():
            os.replace(path, room / ".old")
        os.replace(room / path.name, path)
    finally:
        shutil.rmtree(room, ignore_errors=True)
