"""Checks whether a folder of records holds all files that were written, and whether they are as they were written."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kbert.files.json import read_json

ABOUT = "about.json"  # beside the shards: the vocabulary and settings that they were made with, and the finished shards
NUMBERED = re.compile(r"(.*)-(\d+)-of-(\d+)(.*)")


def shard_name(number: int, shards: int) -> str:
    """Returns the file name of a shard.

    Args:
      number: the number of the shard, counted from 0.
      shards: the number of all shards.
    """
    return f"examples-{number:05}-of-{shards:05}.tfrecord.gz"


def mark_of(path: pathlib.Path) -> dict[str, Any]:
    """Returns a file's size and its last eight bytes. In a gzipped file these are the checksum and the length of the content.

    Args:
      path: the file.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, size - 8))
        return {"bytes": size, "end": file.read().hex()}


def read_about(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the contents of a folder's about.json; an empty dictionary if there is none, as in folders of other programs.

    Args:
      folder: a folder of records.
    """
    path = folder / ABOUT
    return read_json(path) if path.is_file() else {}


def check_complete(folder: pathlib.Path, files: Iterable[pathlib.Path]) -> None:
    """Raises a ValueError if shards of a folder are missing, cut off, or from another call of `write_records`.

    Args:
      folder: the folder.
      files: its TFRecord files.
    """
    about, names = read_about(folder), {file.name for file in files}
    again = "Write the folder again with the same call, which writes what is missing; or name the files one by one"
    if "shards" in about:
        expected = {shard_name(number, about["shards"]) for number in range(about["shards"])}
        others = sorted(names - expected)
        if others:
            raise ValueError(f"{folder} has {len(others)} files of another writing, such as {others[0]}: move them away")
    else:
        expected = _series(folder, names)
    missing = sorted(expected - names)
    if missing:
        raise ValueError(f"{folder} lacks {len(missing)} of its {len(expected)} files, such as {missing[0]}. {again}")
    if "files" in about:
        for file in files:
            check_file(file, about["files"])


def check_file(file: pathlib.Path, written: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises a ValueError if a file is not the one that was written.

    Args:
      file: a shard.
      written: the mark of each finished shard by its file name, as about.json holds them.
    """
    kept = written.get(file.name)
    if kept is None:
        raise ValueError(f"{file} was not finished: write the folder again with the same call")
    if {name: kept[name] for name in ("bytes", "end")} != mark_of(file):
        raise ValueError(
            f"{file} is not the file that was written ({file.stat().st_size} bytes, {kept['bytes']} were written): delete it, "
            "and write the folder again with the same call"
        )


def _series(folder: pathlib.Path, names: Iterable[str]) -> set[str]:
    """Returns the file names that a folder should have, if its files are numbered like `examples-00002-of-00008`.

    Raises:
      ValueError: the names state several totals, so the files come from several calls.
    """
    expected: set[str] = set()
    totals: dict[tuple[str, str], str] = {}
    for match in filter(None, map(NUMBERED.fullmatch, sorted(names))):
        before, number, total, after = match.groups()
        if totals.setdefault((before, after), total) != total:
            raise ValueError(
                f"{folder} has files of several writings, of {totals[before, after]} and of {total} shards: move one away"
            )
        first = 0 if f"{before}-{'0' * len(number)}-of-{total}{after}" in names else 1
        expected |= {f"{before}-{place:0{len(number)}}-of-{total}{after}" for place in range(first, first + max(1, int(total)))}
    return expected
