"""Opens HDF5 files of others: only datasets that lie in the file itself are read, and no code that Keras stored beside them."""

from __future__ import annotations

import os
import pathlib
from typing import Any

DEEPEST = 64  # groups within groups
MOST_UNPACKED = 16  # times the file's size


class _Refused(ValueError):
    """A file that is whole, and leads elsewhere."""


def open_hdf5(path: pathlib.Path) -> Any:
    """Opens an HDF5 file for reading, as an `h5py.File`.

    Args:
      path: the path of the file.

    Raises:
      ValueError: the file is cut, or no HDF5 file.
    """
    import h5py

    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); fetch it again") from None


def datasets_of(file: Any, path: pathlib.Path) -> dict[str, Any]:
    """Returns the datasets of an open file by their paths in it.

    Args:
      file: an `h5py.File`.
      path: the path of the file, for errors.

    Raises:
      ValueError: the file is damaged, or has a link or a dataset that leads to another place or another file.
    """
    datasets: dict[str, Any] = {}
    try:
        _collect(file, "", datasets, path, set(), os.path.getsize(path))
    except _Refused:
        raise
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, OverflowError) as error:  # all of them are h5py's
        raise ValueError(f"{path} is cut or damaged ({error}); fetch it again") from None
    return datasets


def _collect(group: Any, prefix: str, datasets: dict[str, Any], path: pathlib.Path, seen: set[Any], size: int) -> None:
    """Adds the datasets of a group and of the groups inside it."""
    import h5py

    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        raise _Refused(f"{path}: the group {prefix!r} is inside itself; the file is refused")
    seen.add(address)
    for name in group:
        full_name = prefix + name
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise _Refused(f"{path}: {full_name} is a link to another place; a file of weights has none, and it is refused")
        item = group[name]
        if isinstance(item, h5py.Group):
            if full_name.count("/") >= DEEPEST:
                raise _Refused(f"{path} has more than {DEEPEST} groups within groups; it is refused")
            _collect(item, f"{full_name}/", datasets, path, seen, size)
        elif isinstance(item, h5py.Dataset):
            if item.is_virtual or item.external:
                raise _Refused(f"{path}: the numbers of {full_name} are in another file; it is refused")
            if item.nbytes > MOST_UNPACKED * size:
                raise _Refused(f"{path}: {full_name} has {item.nbytes} bytes in a file of {size}; it is refused")
            datasets[full_name] = item
