"""Writing beside the target and renaming, so that nobody ever sees half a model."""

import contextlib
import os
import pathlib
import shutil
import tempfile


def check_target(path, overwrite):
    """Says that the target is there already, before any long work."""
    path = pathlib.Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; export to another path, or pass overwrite=True to replace it")
    return path


@contextlib.contextmanager
def written_aside(path):
    """Gives a path beside the target to write to; it takes the target's place when the block ends well.

    After an error, or Ctrl-C, what was there before is still there, and nothing else.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that begins with a dot is no version number to TF Serving, which may be watching the folder.
    room = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield room / path.name
        if path.exists():
            os.replace(path, room / ".old")
        os.replace(room / path.name, path)
    finally:
        shutil.rmtree(room, ignore_errors=True)
