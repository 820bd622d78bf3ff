"""Temporary folders ("rooms") beside the files that are written. The next writer removes a room whose owner has died."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

PREFIX = ".kbert-"  # TF Serving may watch the parent folder; to it, a name that begins with a dot is no version number


@contextlib.contextmanager
def room_in(parent: pathlib.Path) -> Iterator[pathlib.Path]:
    """Makes a temporary folder that this call owns, and removes it after the block.

    The rooms of owners that have died (by a kill or a loss of power) are removed first. Those of living processes and of other
    threads stay.

    Args:
      parent: an existing folder.

    Yields:
      The path of the new folder.
    """
    remove_dead_rooms(parent)
    room, lock = _owned_room(parent)
    try:
        yield room
    finally:
        _remove(room)
        os.close(lock)


def remove_dead_rooms(parent: pathlib.Path) -> None:
    """Removes the rooms in a folder whose owners have died."""
    for room in dead_rooms(parent):
        _remove(room)


def dead_rooms(parent: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the rooms in a folder whose owners have died. Each room is locked while the caller works on it.

    Where the file system has no locks, no room is known to be dead, and none is yielded.

    Args:
      parent: an existing folder.
    """
    for room in parent.glob(f"{PREFIX}*"):
        try:
            lock = os.open(room, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # it is not a folder, was removed just now, or belongs to another user
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield room
        except OSError:
            continue
        finally:
            os.close(lock)


def unfinished(room: pathlib.Path) -> pathlib.Path | None:
    """Returns the folder that was moved into a room to be replaced, if nothing is in its old place yet; otherwise None."""
    for old in (room / "old").glob("*"):
        if not os.path.lexists(room.parent / old.name):
            return old
    return None


def _owned_room(parent: pathlib.Path) -> tuple[pathlib.Path, int]:
    """Returns a new room and the descriptor by which it is locked. The system frees the lock when the process dies."""
    while True:
        room = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            lock = os.open(room, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # another writer took the room, which was not locked yet, for one of a dead owner
            continue
        except BaseException:
            _remove(room)
            raise
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # it is being removed
            os.close(lock)
            continue
        except OSError:
            return room, lock  # a file system without locks
        except BaseException:
            _remove(room)
            os.close(lock)
            raise
        if os.path.lexists(room):
            return room, lock
        os.close(lock)


def _remove(room: pathlib.Path) -> None:
    """Removes a room, unless it holds the only copy of what a writer was about to replace."""
    if unfinished(room) is None:
        shutil.rmtree(room, ignore_errors=True)
