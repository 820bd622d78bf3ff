"""Writes files and folders beside their target and puts them there in one step, so that one whole version is always there.

A file takes its place by one `os.replace`. A folder that replaces another one changes places with it in one system call
(`renameat2` of Linux, `renamex_np` of macOS). Where the file system has no such call, the old folder is moved aside and the new
one into its place. After a kill between the two renames, both folders are whole in a temporary folder, and `recover` puts
the new one into its place. Every writer calls `recover`. So do the readers of preset folders, of exported folders, and of the
folders that the commands write.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pathlib
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator

from kbert.files.rooms import dead_rooms, room_in, unfinished

NOT_THERE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)  # the system or the file system lacks the call
SWAP = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
AT_FDCWD = -100  # paths are not relative to an open folder


@contextlib.contextmanager
def written_aside(path: str | os.PathLike[str], keep: Callable[[str], bool] | None = None) -> Iterator[pathlib.Path]:
    """Gives a path beside the target to write to, and puts it into the target's place when the block ends without an error.

    After an error, Ctrl-C, a full disk or a kill at any moment, the target is whole: as it was before, or as it was written.
    The new file or folder is on the disk before it takes its place, and has the permissions of the one that it replaces.

    Args:
      path: the file or folder to write or replace. Its parent folders are made. A symbolic link is followed.
      keep: a function that takes the name of an entry of the old folder and returns whether the new folder gets that entry too,
        as hard links. By default it gets none.

    Yields:
      A path of the same name in a temporary folder beside the target.

    Raises:
      OSError: a file would replace a folder, or a folder a file; or the target cannot be replaced as a whole.
    """
    name = os.path.basename(os.path.abspath(path))  # the name of a symbolic link, since its suffix says the kind
    path = pathlib.Path(os.path.realpath(path))
    recover(path)
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with room_in(path.parent) as room:
        aside = room / "new" / name
        os.mkdir(aside.parent)
        yield aside
        if path.exists() and path.is_dir() != aside.is_dir():
            there, new = ("folder", "file") if path.is_dir() else ("file", "folder")
            raise FileExistsError(f"{path} is a {there} and would be replaced by a {new}; give another path")
        _set_modes(aside, path)
        if keep is not None and path.is_dir():
            _link_entries([entry for entry in path.iterdir() if keep(entry.name)], aside)
        flush(aside)
        _put(aside, path, room)
        flush_folder(path.parent)


def check_replaceable(path: pathlib.Path) -> None:
    """Raises an OSError if a path cannot be replaced as a whole: a device, a mounted file or folder, or a working folder."""
    if not path.exists():
        return
    if not path.is_dir() and not path.is_file():
        raise OSError(f"{path} is neither a file nor a folder (a device or a pipe, say), and cannot be replaced")
    if path.is_file() and os.path.ismount(path):
        raise OSError(
            f"{path} is a mounted file, which cannot be replaced as a whole; mount its folder and give a path inside it"
        )
    if path.is_dir() and (os.path.ismount(path) or path == pathlib.Path.cwd() or path in pathlib.Path.cwd().parents):
        raise OSError(
            f"{path} is a mounted folder, or this process works in it, so that it cannot be replaced as a whole; "
            f"give a folder inside it, such as {path / 'model'}"
        )


def recover(path: str | os.PathLike[str]) -> None:
    """Finishes the replacement of a folder that was killed between two renames.

    Args:
      path: the folder that is about to be read or written. If the path exists, nothing is done.
    """
    path = pathlib.Path(os.path.realpath(path))
    if os.path.lexists(path) or not path.parent.is_dir():
        return
    for room in dead_rooms(path.parent):
        old = unfinished(room)
        if old is not None and old.name == path.name:
            new = next((room / "new").glob("*"), old)  # it was whole before the old one was moved
            os.rename(new, path)
            flush_folder(path.parent)
            return


def _set_modes(aside: pathlib.Path, path: pathlib.Path) -> None:
    """Gives each written file the permissions of the file of the same name that it replaces.

    A file that replaces none gets the permissions of any new file: the writers of some libraries let only the owner read it.
    """
    # The process's umask decides, and a process with threads cannot ask for it: the new folder shows it.
    of_new_files = stat.S_IMODE(aside.parent.stat().st_mode) & 0o666
    for new in [aside, *aside.rglob("*")]:
        old = path / new.relative_to(aside)
        mode = stat.S_IMODE(new.lstat().st_mode)
        if new.is_symlink():
            continue
        if old.exists() and old.is_dir() == new.is_dir():
            wanted = stat.S_IMODE(old.stat().st_mode)
        else:
            wanted = mode if new.is_dir() else mode | of_new_files
        if wanted != mode:
            with contextlib.suppress(PermissionError):  # a file system without permissions
                os.chmod(new, wanted)


def _put(aside: pathlib.Path, path: pathlib.Path, room: pathlib.Path) -> None:
    """Moves the new file or folder into its place. A folder that was replaced is in the room afterwards."""
    if not path.exists() or not aside.is_dir():
        os.replace(aside, path)
    elif not exchange(aside, path):
        old = room / "old" / path.name
        os.mkdir(old.parent)
        try:
            os.rename(path, old)
            os.rename(aside, path)
        except BaseException:
            if unfinished(room) is not None:
                os.rename(old, path)
            raise


def exchange(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Exchanges two folders in one step.

    Args:
      one: a folder.
      other: another folder on the same file system.

    Returns:
      Whether they were exchanged; False if the system or the file system cannot do so.
    """
    library = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    if hasattr(library, "renameat2"):
        result = library.renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], SWAP)
    elif sys.platform == "darwin" and hasattr(library, "renamex_np"):
        result = library.renamex_np(*paths, SWAP)
    else:
        return False
    if result == 0:
        return True
    number = ctypes.get_errno()
    if number in NOT_THERE:
        return False
    if number == errno.EXDEV:
        raise OSError(f"{other} cannot be replaced as a whole: it is of a container's image; give another path, or remove it")
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def flush(path: pathlib.Path) -> None:
    """Waits until a file, or all files of a folder, are on the disk."""
    if not path.is_dir():
        _flush_file(path)
        return
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            file = pathlib.Path(folder, name)
            if stat.S_ISREG(os.lstat(file).st_mode):
                _flush_file(file)
        flush_folder(pathlib.Path(folder))


def _flush_file(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(path: pathlib.Path) -> None:
    """Waits until the names in a folder are on the disk, where the file system can do so."""
    try:
        _flush_file(path)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise


def _link_entries(entries: Iterable[pathlib.Path], folder: pathlib.Path) -> None:
    """Links files and folders into another folder, unless that folder has an entry of the same name."""
    for entry in entries:
        target = folder / entry.name
        if os.path.lexists(target):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, target, symlinks=True, copy_function=_link)
        else:
            _link(entry, target)


def _link(source: str | os.PathLike[str], target: str | os.PathLike[str], **kwargs: object) -> None:
    """Makes a hard link, or a copy where the file system has none; a symbolic link is copied as one."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
