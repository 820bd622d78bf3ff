"""Opens text files: encodings, byte order marks, gzip, and lines that end at line feeds alone."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import IO, cast

Path = str | os.PathLike[str]
# The longer marks first: UTF-16's begins UTF-32's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FIRST = 65536  # the number of bytes from which the kind of a file is guessed


def check_file(path: Path) -> pathlib.Path:
    """Returns the path of a file, or raises a FileNotFoundError if there is none."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return path


def check_encoding(encoding: str) -> str:
    """Returns an encoding; raises a ValueError if Python has no text codec of that name."""
    try:
        "".encode(encoding)
    except (LookupError, UnicodeError, ValueError):
        raise ValueError(f"there is no encoding {encoding!r}; others are utf-8, utf-16, windows-1252, gb18030") from None
    return encoding


def suffix_of(path: Path) -> str:
    """Returns the suffix of a file in lower case; for a compressed file, the suffix before `.gz`.

    >>> suffix_of("a.CSV"), suffix_of("a.jsonl.gz")
    ('.csv', '.jsonl')
    """
    name = pathlib.Path(os.fspath(path).lower())
    return name.with_suffix("").suffix if name.suffix == ".gz" else name.suffix


def open_bytes(path: Path) -> IO[bytes]:
    """Opens a file to read bytes. A file whose name ends in `.gz` is decompressed."""
    return cast(IO[bytes], gzip.open(path)) if os.fspath(path).lower().endswith(".gz") else open(path, "rb")


def read_text(path: Path, encoding: str | None = None) -> str:
    """Returns the whole text of a file.

    Args:
      path: the file.
      encoding: a Python codec's name; by default UTF-8, or what a byte order mark says.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not in this encoding; the message names the line and a likely encoding.
    """
    return "".join(_lines(path, encoding))


def read_lines(path: Path, encoding: str | None = None) -> Iterator[str]:
    """Yields the lines of a file, without their ends.

    A line ends at a line feed, or at a carriage return and a line feed. Other characters that end lines elsewhere (U+2028,
    U+0085, form feeds, a lone carriage return) are part of the text. A file of one line with carriage returns inside is
    refused, because such files come from programs that end lines at carriage returns alone.

    Args:
      path: the file.
      encoding: a Python codec's name. By default UTF-8, or what a byte order mark at the file's beginning says. The mark is not
        part of the text.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not in this encoding; the message names the line and a likely encoding.
    """
    for piece in lines_with_ends(path, encoding):
        yield piece[:-2] if piece.endswith("\r\n") else piece.removesuffix("\n")


def lines_with_ends(path: Path, encoding: str | None = None) -> Iterator[str]:
    """Yields the lines of a file with their ends, `\\n` or `\\r\\n`; see `read_lines` for where lines end.

    Args:
      path: the file.
      encoding: a Python codec's name; by default UTF-8, or what a byte order mark says.
    """
    count, line = 0, ""
    for line in _lines(path, encoding):
        count += 1
        yield line
    if count == 1 and "\r" in line.rstrip("\r\n"):
        raise ValueError(
            f"{path} has no line feeds between its carriage returns: its lines seem to end at carriage returns alone, as on "
            "old Macs; save it with line feeds (LF, or Windows' CRLF)"
        )


def _lines(path: Path, encoding: str | None) -> Iterator[str]:
    """Yields the lines of a file, each with the line feed that ends it."""
    path = check_file(path)
    mark, encoding = _encoding(path, encoding)
    with open_bytes(path) as file:
        file.read(len(mark))
        lines = io.TextIOWrapper(file, encoding, newline="\n")
        try:
            yield from lines
        except UnicodeError:
            raise ValueError(f"{_place(path, encoding)} is not {encoding.upper()} text; {_look(path)}") from None
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} could not be read: {error}") from None


def _encoding(path: pathlib.Path, encoding: str | None) -> tuple[bytes, str]:
    """Returns the byte order mark of a file and its encoding.

    Args:
      path: the file.
      encoding: the encoding that was asked for, or None.
    """
    encoding = None if encoding is None else codecs.lookup(check_encoding(encoding)).name
    first = _first_bytes(path)
    mark, marked = next(((mark, name) for mark, name in MARKS if first.startswith(mark)), (b"", None))
    if marked is None:
        if encoding is None and b"\0" in first and (wide := _utf_16(first)):
            raise ValueError(f"{path} looks like {wide} without a byte order mark: give --encoding {wide} (encoding={wide!r})")
        return b"", encoding or "utf-8"
    if encoding is not None and not marked.startswith(encoding.removesuffix("-sig")):
        raise ValueError(f"{path} begins with the byte order mark of {marked}, not of {encoding}: leave --encoding out")
    return mark, marked


def _first_bytes(path: pathlib.Path) -> bytes:
    with open_bytes(path) as file:
        try:
            return file.read(_FIRST)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} could not be read: {error}") from None


def _utf_16(first: bytes) -> str | None:
    """Returns the kind of UTF-16 that bytes look like, or None.

    The high bytes of most spaces and line feeds, or of most units, have to be zero. At least three zeros are needed, because
    text in another encoding may hold a NUL.
    """
    for name, high in (("utf-16-le", first[1::2]), ("utf-16-be", first[::2])):
        low = first[::2] if name == "utf-16-le" else first[1::2]
        of_blanks = [above for below, above in zip(low, high) if below in b" \n"]
        zeros = high.count(0)
        if zeros >= max(3, 4 * low.count(0)) and (2 * of_blanks.count(0) > len(of_blanks) > 0 or zeros > 0.9 * len(high)):
            return name
    return None


def _place(path: pathlib.Path, encoding: str) -> str:
    """Returns the name of a file and the number of its first line that is not in the encoding."""
    if not encoding.startswith(("utf-16", "utf-32")):
        with open_bytes(path) as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode(encoding)
                except UnicodeError:
                    return f"{path}, line {number}"
    return str(path)


def _look(path: pathlib.Path) -> str:
    """Returns words for the error about a file that is not in its encoding: what it looks like, and what to do."""
    first = _first_bytes(path)
    for magic, kind in ((b"PK\x03\x04", "a spreadsheet or a zip archive"), (b"\x1f\x8b", "gzip"), (b"PAR1", "parquet")):
        if first.startswith(magic):
            return f"it looks like {kind}: save it as text, or name it by its kind"
    if wide := _utf_16(first):
        name = wide
    elif b"\0" in first:
        return "it looks like another kind of file than text"
    else:
        with open_bytes(path) as file:
            high = next((line for line in file if not line.isascii() and not _is_utf_8(line)), b"")
        name = _other_encoding(high)
    return f"it looks like {name}: give --encoding {name} (encoding={name!r})"


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeError:
        return False
    return True


def _other_encoding(line: bytes) -> str:
    """Guesses the encoding of a line that is not UTF-8.

    In Western languages, letters beyond ASCII mostly stand alone between ASCII letters. Cyrillic letters and East Asian
    characters stand next to each other.
    """
    high = [place for place, byte in enumerate(line[:2000]) if byte > 127]
    if len(high) > 1 and 2 * len({place + 1 for place in high} & set(high)) > len(high):
        if sum(line[place] >= 0xE0 for place in high) > 0.7 * len(high):
            return "windows-1251"
        for name, first, last, share in (("euc_kr", "\uac00", "\ud7a3", 0.9), ("shift_jis", "\u3040", "\u30ff", 0.2)):
            try:
                characters = [character for character in line.decode(name) if not character.isascii()]
            except UnicodeError:
                continue
            if sum(first <= character <= last for character in characters) > share * len(characters):
                return name
        try:
            line.decode("gb18030")
            return "gb18030"
        except UnicodeError:
            pass
    try:
        line.decode("windows-1252")
    except UnicodeError:
        return "latin-1"
    return "windows-1252"
