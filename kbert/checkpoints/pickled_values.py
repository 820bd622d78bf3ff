"""Reads the values of a pickle without running it: a machine with few instructions and a closed list of names.

Python's `pickle` imports and calls whatever a pickle names. This machine builds numbers, strings, tuples, lists and
dictionaries. A name in the pickle has to be a key of a table, and only a `Function` of that table is ever called.
The instructions are described in the standard library's `pickletools`.
"""

from __future__ import annotations

import dataclasses
import mmap
import pathlib
import pickletools
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

LONGEST_TEXT = 1 << 16  # bytes of one string: the names of weights are shorter
LONGEST_INTEGER = 16  # bytes
LARGEST_KEY = 1 << 32  # of a dictionary. Larger integers can all have one hash, and each is then compared with all others.
# Each instruction makes one object at most, of less than 128 bytes; a longer string counts as several. A list of weights takes
# 50 of them for each tensor.
BYTES_A_STEP = 128
FEWEST_STEPS = 100_000  # are allowed even to a small file
MOST_OPEN = 20_000  # values that no tuple, list or dictionary holds yet; a writer hands on 2,000 at once
_KNOWN = {instruction.code: instruction for instruction in pickletools.opcodes}


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of ours that a pickle may call under a name of its own."""

    call: Callable[..., Any]  # raises a ValueError for arguments that are not as they should be


class PickleReader:
    """Reads pickles that follow each other in memory or in a mapped file.

    Args:
      data: the bytes.
      path: the path of the file, for errors.
      names: what stands for each name that a pickle may contain, such as `"collections.OrderedDict"`.
      allowance: how many bytes the values may take: those of the file that are not read as a pickle.
      position: the first byte to read.
    """

    def __init__(
        self,
        data: bytes | bytearray | mmap.mmap,
        path: pathlib.Path,
        names: Mapping[str, Any],
        allowance: int,
        position: int = 0,
    ) -> None:
        self.position = position
        self._data = data
        self._path = path
        self._names = names
        self._steps_left = max(FEWEST_STEPS, allowance // BYTES_A_STEP)
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._persistent: Callable[[Any], Any] | None = None

    def read(self, persistent: Callable[[Any], Any] | None = None) -> Any:
        """Returns the value of the next pickle.

        Args:
          persistent: a function from a persistent id to the value that stands for it. None refuses such ids.

        Raises:
          ValueError: the pickle is cut, has an instruction or a name that is not known here, or is too large.
        """
        self._stack, self._marks, self._memo, self._persistent = [], [], {}, persistent
        while True:
            code = self._take(1)[0]
            if code == ord("."):
                break
            action = _ACTIONS.get(code)
            if action is None:
                known = _KNOWN.get(chr(code))
                raise self.refusal(f"has the instruction {known.name if known else hex(code)}, which no list of weights needs")
            self._steps_left -= 1
            if self._steps_left < 0:
                raise self.refusal("builds more values than a file of its size has weights")
            action(self)
        value = self._pop()
        if self._stack or self._marks:
            raise self.refusal("is damaged: values are left over at its end")
        return value

    def refusal(self, reason: str) -> ValueError:
        """Returns an error that names the file.

        Args:
          reason: completes a sentence that begins with "its pickle".
        """
        return ValueError(
            f"{self._path}: its pickle {reason}. kbert reads tensors and runs nothing; if you trust the file, open it with "
            "torch and write its state_dict as safetensors"
        )

    def _take(self, count: int) -> bytes | bytearray:
        """Returns the next bytes."""
        end = self.position + count
        if end > len(self._data):
            raise ValueError(f"{self._path} ends inside its pickle; fetch it again")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def _number(self, layout: str) -> Any:
        """Returns the next number of a layout of `struct`."""
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _push(self, value: Any) -> None:
        if len(self._stack) >= MOST_OPEN:
            raise self.refusal(f"leaves more than {MOST_OPEN} values open")
        self._stack.append(value)

    def _pop(self) -> Any:
        """Returns the uppermost value above the last mark, and removes it."""
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise self.refusal("is damaged: an instruction lacks its value")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        """Returns the values above the last mark, and removes them and the mark."""
        if not self._marks:
            raise self.refusal("is damaged: an instruction lacks its mark")
        mark = self._marks.pop()
        values, self._stack[mark:] = self._stack[mark:], []
        return values

    def _mark(self) -> None:
        if len(self._marks) >= MOST_OPEN:
            raise self.refusal(f"leaves more than {MOST_OPEN} values open")
        self._marks.append(len(self._stack))

    def _pop_mark_or_value(self) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._pop()

    def _protocol(self) -> None:
        protocol = self._number("<B")
        if not 2 <= protocol <= 5:
            raise self.refusal(f"has protocol {protocol}; torch writes 2 to 5")

    def _text(self, size: int) -> None:
        if size > LONGEST_TEXT:
            raise self.refusal(f"has a string of {size} bytes; no weight has a name of more than {LONGEST_TEXT}")
        try:
            text = self._take(size).decode()
        except UnicodeDecodeError:
            raise self.refusal("has a string that is not UTF-8") from None
        self._steps_left -= sys.getsizeof(text) // BYTES_A_STEP  # one rare character makes all others take four bytes
        self._push(text)

    def _integer(self, size: int) -> None:
        if not 0 <= size <= LONGEST_INTEGER:
            raise self.refusal(f"has an integer of {size} bytes; sizes have {LONGEST_INTEGER} at most")
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    def _tuple(self, count: int) -> None:
        self._push(tuple([self._pop() for _ in range(count)][::-1]))

    def _append(self, values: list[Any]) -> None:
        target = self._pop()
        if type(target) is not list:
            raise self.refusal("is damaged: it appends to a value that is no list")
        self._push(target)
        target.extend(values)

    def _set_items(self, values: list[Any]) -> None:
        target = self._pop()
        if type(target) is not dict or len(values) % 2:
            raise self.refusal("is damaged: it sets an item of a value that is no dictionary")
        self._push(target)
        for key, value in zip(values[::2], values[1::2]):
            if type(key) not in (str, int):
                raise self.refusal(f"has a dictionary whose key is a {type(key).__name__}; names of weights are strings")
            if type(key) is int and not 0 <= key < LARGEST_KEY:
                raise self.refusal(
                    f"has a dictionary with the key {key}; numbers of parameters are from 0 to {LARGEST_KEY - 1}"
                )
            target[key] = value

    def _put(self, number: int) -> None:
        value = self._pop()
        self._push(value)
        self._memo[number] = value

    def _get(self, number: int) -> None:
        if number not in self._memo:
            raise self.refusal("is damaged: it refers to a value that it does not hold")
        self._push(self._memo[number])

    def _global(self) -> None:
        parts = []
        for _ in range(2):
            end = self._data.find(b"\n", self.position, self.position + 256)
            if end < 0:
                raise self.refusal("is damaged: a name has no end")
            parts.append(self._take(end - self.position).decode("utf-8", "replace"))
            self.position += 1
        self._name(*parts)

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise self.refusal("is damaged: a name is no string")
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        full_name = f"{module}.{name}"
        if full_name not in self._names:
            whole = module.split(".")[0] == "transformers" or module.startswith("torch.nn.modules")
            reason = "is a whole model, not its weights: it" if whole else ""
            raise self.refusal(
                f"{reason} names {full_name[:200]!r}, which is not among the few names of lists of weights".strip()
            )
        self._push(self._names[full_name])

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if type(function) is not Function or type(arguments) is not tuple:
            raise self.refusal("calls a value that is no function of a list of weights")
        try:
            self._push(function.call(*arguments))
        except (TypeError, ValueError) as error:
            raise self.refusal(f"has a tensor that cannot be ({error})") from None

    def _build(self) -> None:
        # torch keeps the version of each module as an attribute of the dictionary. Nothing here needs it.
        state, target = self._pop(), self._pop()
        if type(target) is not dict or type(state) is not dict:
            raise self.refusal("sets the state of a value that is no dictionary")
        self._push(target)

    def _persistent_id(self) -> None:
        identity = self._pop()
        if self._persistent is None:
            raise self.refusal("has a persistent id where none belongs")
        try:
            self._push(self._persistent(identity))
        except ValueError as error:
            raise self.refusal(f"has a storage that cannot be ({error})") from None


_ACTIONS: dict[int, Callable[[PickleReader], None]] = {
    ord(code): action
    for code, action in {
        "\x80": PickleReader._protocol,
        "\x95": lambda reader: reader._number("<Q"),  # FRAME: says how much to read ahead
        "(": PickleReader._mark,
        "0": PickleReader._pop_mark_or_value,
        "1": lambda reader: reader._pop_to_mark() and None,
        "N": lambda reader: reader._push(None),
        "\x88": lambda reader: reader._push(True),
        "\x89": lambda reader: reader._push(False),
        "J": lambda reader: reader._push(reader._number("<i")),
        "K": lambda reader: reader._push(reader._number("<B")),
        "M": lambda reader: reader._push(reader._number("<H")),
        "\x8a": lambda reader: reader._integer(reader._number("<B")),
        "\x8b": lambda reader: reader._integer(reader._number("<i")),
        "G": lambda reader: reader._push(reader._number(">d")),
        "X": lambda reader: reader._text(reader._number("<I")),
        "\x8c": lambda reader: reader._text(reader._number("<B")),
        "\x8d": lambda reader: reader._text(reader._number("<Q")),
        "U": lambda reader: reader._text(reader._number("<B")),  # strings of Python 2
        "T": lambda reader: reader._text(reader._number("<I")),
        "}": lambda reader: reader._push({}),
        "]": lambda reader: reader._push([]),
        ")": lambda reader: reader._push(()),
        "t": lambda reader: reader._push(tuple(reader._pop_to_mark())),
        "\x85": lambda reader: reader._tuple(1),
        "\x86": lambda reader: reader._tuple(2),
        "\x87": lambda reader: reader._tuple(3),
        "a": lambda reader: reader._append([reader._pop()]),
        "e": lambda reader: reader._append(reader._pop_to_mark()),
        "s": lambda reader: reader._set_items([reader._pop(), reader._pop()][::-1]),
        "u": lambda reader: reader._set_items(reader._pop_to_mark()),
        "q": lambda reader: reader._put(reader._number("<B")),
        "r": lambda reader: reader._put(reader._number("<I")),
        "\x94": lambda reader: reader._put(len(reader._memo)),
        "h": lambda reader: reader._get(reader._number("<B")),
        "j": lambda reader: reader._get(reader._number("<I")),
        "c": PickleReader._global,
        "\x93": PickleReader._stack_global,
        "R": PickleReader._reduce,
        "b": PickleReader._build,
        "Q": PickleReader._persistent_id,
    }.items()
}
