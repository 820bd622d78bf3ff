"""Where the members of a ZIP file are, read from its directory alone. Sizes and counts are bounded by the file's own size."""

from __future__ import annotations

import os
import pathlib
import struct
import zlib
from typing import IO, NamedTuple

STORED, DEFLATED = 0, 8
MOST_MEMBERS = 20_000  # of a file of up to 20 MB; a larger one may have one a kilobyte
MOST_UNPACKED = 2  # times the file's size: weights are close to random, and pack by less
CHUNK = 1 << 20  # bytes


class Member(NamedTuple):
    """A member of a ZIP file."""

    start: int  # the first byte of its data in the file
    packed: int  # bytes in the file
    size: int  # bytes unpacked
    deflated: bool


def zip_members(path: pathlib.Path) -> dict[str, Member]:
    """Returns the members of a ZIP file by their names.

    Args:
      path: the path of a file that begins with a member, as those of torch do.

    Raises:
      ValueError: the file is damaged, or has members that no honest writer makes: encrypted, of one name, or far larger
        unpacked than the file.
    """
    file_size = os.path.getsize(path)
    with open(path, "rb") as file:
        try:
            count, size, start = _directory(file, file_size)
            if start + size > file_size or count > max(MOST_MEMBERS, file_size >> 10):
                raise ValueError(f"a directory of {count} members in {size} bytes does not fit a file of {file_size} bytes")
            file.seek(start)
            directory = file.read(size)
            members: dict[str, Member] = {}
            position = 0
            for _ in range(count):
                name, header, member, position = _entry(directory, position)
                if name in members:
                    raise ValueError(f"it has two members of the name {name!r}")
                members[name] = _located(file, header, member, file_size)
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            raise ValueError(f"{path} is not a whole ZIP file ({error}); fetch it again") from None
    unpacked = sum(member.size for member in members.values())
    if unpacked > MOST_UNPACKED * file_size:
        raise ValueError(f"{path} is refused: unpacked it has {unpacked} bytes, more than {MOST_UNPACKED} times its own size")
    return members


def read_member(path: pathlib.Path, member: Member, start: int, room: memoryview) -> None:
    """Fills memory with a part of a member.

    Args:
      path: the path of the ZIP file.
      member: one of its members.
      start: the first byte of the part, counted in the unpacked member.
      room: the memory, which has as many bytes as the part.

    Raises:
      ValueError: the file is damaged.
    """
    with open(path, "rb", buffering=0) as file:
        file.seek(member.start if member.deflated else member.start + start)
        if not member.deflated:
            if file.readinto(room) != len(room):
                raise ValueError(f"{path} ends inside its data; fetch it again")
            return
        unpacker, left, filled, position = zlib.decompressobj(-15), member.packed, 0, 0
        packed = b""
        while filled < len(room):
            if not packed:
                packed = file.read(min(CHUNK, left))
                left -= len(packed)
            try:
                unpacked = unpacker.decompress(packed, CHUNK)
            except zlib.error as error:
                raise ValueError(f"{path} is damaged ({error}); fetch it again") from None
            if not unpacked and not left and not unpacker.unconsumed_tail:
                raise ValueError(f"{path} ends inside its data; fetch it again")
            packed = unpacker.unconsumed_tail
            part = unpacked[max(0, start - position) :][: len(room) - filled]
            position += len(unpacked)
            room[filled : filled + len(part)] = part
            filled += len(part)


def _directory(file: IO[bytes], file_size: int) -> tuple[int, int, int]:
    """Returns how many members the directory at the file's end has, its size, and where it starts."""
    tail_size = min(file_size, 22 + 65535 + 20)
    file.seek(file_size - tail_size)
    tail = file.read(tail_size)
    end = tail.rfind(b"PK\5\6")
    if end < 0:
        raise ValueError("it has no directory at its end")
    _, _, _, count, size, start, _ = struct.unpack_from("<4H2IH", tail, end + 4)
    if end >= 20 and tail[end - 20 : end - 16] == b"PK\6\7":  # ZIP64: the directory of large files
        (place,) = struct.unpack_from("<Q", tail, end - 12)
        file.seek(place)
        record = file.read(56)
        if record[:4] != b"PK\6\6":
            raise ValueError("its ZIP64 directory is missing")
        count, size, start = struct.unpack_from("<3Q", record, 32)
    return count, size, start


def _entry(directory: bytes, position: int) -> tuple[str, int, Member, int]:
    """Returns a member's name, the place of its header, the member without its place, and where the next entry begins."""
    if directory[position : position + 4] != b"PK\1\2":
        raise ValueError("its directory is damaged")
    flags, method = struct.unpack_from("<2H", directory, position + 8)
    packed, size, name_size, extra_size, comment_size = struct.unpack_from("<2I3H", directory, position + 20)
    (header,) = struct.unpack_from("<I", directory, position + 42)
    name = directory[position + 46 : position + 46 + name_size].decode()
    if flags & 1 or method not in (STORED, DEFLATED):
        raise ValueError(f"{name} is encrypted, or packed by method {method}")
    extra, end = position + 46 + name_size, position + 46 + name_size + extra_size
    while extra + 4 <= end:
        kind, length = struct.unpack_from("<2H", directory, extra)
        if kind == 1:  # ZIP64: those of the three numbers that do not fit into four bytes
            fields = [value == 0xFFFFFFFF for value in (size, packed, header)]
            large = iter(struct.unpack_from(f"<{sum(fields)}Q", directory, extra + 4))
            size, packed, header = (next(large) if field else value for field, value in zip(fields, (size, packed, header)))
        extra += 4 + length
    return name, header, Member(0, packed, size, method == DEFLATED), end + comment_size


def _located(file: IO[bytes], header: int, member: Member, file_size: int) -> Member:
    """Returns a member with its place, which its own header says."""
    file.seek(header)
    local = file.read(30)
    if local[:4] != b"PK\3\4":
        raise ValueError("a member's header is missing")
    name_size, extra_size = struct.unpack_from("<2H", local, 26)
    start = header + 30 + name_size + extra_size
    if start + member.packed > file_size or (not member.deflated and member.packed != member.size):
        raise ValueError("a member does not fit into the file")
    return member._replace(start=start)
