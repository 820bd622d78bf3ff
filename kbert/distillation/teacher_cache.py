"""What a teacher computes for each text, once: kept in memory, or in a folder that is read as it is needed."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.distillation.lessons import Lessons, count_tokens
from kbert.files.atomic import written_aside
from kbert.files.json import read_json
from kbert.tasks.progress import Progress
from kbert.tasks.task import Task
from kbert.training.fingerprint import differing, fingerprint
from kbert.training.length_batches import sorted_batches

# The axes of a batch's tensor that are as long as the text, by the beginning of the tensor's name.
LENGTH_AXES = {"hidden_states": (1,), "attentions": (2, 3), "attention_scores": (2, 3), "attention_values": (2,)}
TOKENS_AT_ONCE = 2048  # positions of one step of the teacher
ROWS_AT_ONCE = 1024  # rows whose tokens are counted in one step
DESCRIPTION = "made_of.json"  # beside the arrays of a folder: the fingerprint and the shapes


class FlatLayout:
    """Where the tensor of each text stands in a flat float32 array that holds those of all texts, one after the other.

    Args:
      shape: the shape of a batch's tensor. Its sizes at the batch's axis and at `axes` do not matter.
      axes: the axes that are as long as the text, counted with the batch's axis 0.
      lengths: how long each text is, int `[R]`.
    """

    def __init__(self, shape: Sequence[int], axes: Collection[int], lengths: np.ndarray) -> None:
        self.sizes = [1 if axis in axes else size for axis, size in enumerate(shape)][1:]
        self.axes = [axis - 1 for axis in axes]  # of one text's tensor
        self.lengths = lengths
        counts: np.ndarray = int(np.prod(self.sizes)) * lengths.astype(np.int64) ** len(axes)
        self.ends = np.concatenate([[0], np.cumsum(counts)])

    @property
    def count(self) -> int:
        """How many numbers the flat array has."""
        return int(self.ends[-1])

    def shape(self, length: int) -> list[int]:
        """Returns the shape of the tensor of a text of `length` tokens."""
        return [length if axis in self.axes else size for axis, size in enumerate(self.sizes)]

    def part(self, length: int) -> tuple[slice, ...]:
        """Returns the slices that cut the tensor of a text of `length` tokens out of one that is padded."""
        return tuple(slice(0, length) if axis in self.axes else slice(None) for axis in range(len(self.sizes)))

    def write(self, flat: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
        """Puts a batch's padded tensors `[B, ...]` into the flat array, at row numbers `[B]`."""
        for row, value in zip(rows, values):
            flat[self.ends[row] : self.ends[row + 1]] = value[self.part(self.lengths[row])].ravel()

    def read(self, flat: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Returns the tensors of row numbers `[B]` as one array `[B, ...]`, padded with zeros to the longest."""
        lengths = self.lengths[rows]
        padded: np.ndarray = np.zeros([len(rows), *self.shape(int(lengths.max(initial=0)))], np.float32)
        for values, row, length in zip(padded, rows, lengths):
            values[self.part(length)] = flat[self.ends[row] : self.ends[row + 1]].reshape(self.shape(length))
        return padded


class TeacherCache:
    """Tensors of a teacher for each of `R` rows of texts.

    Args:
      compute: a function of row numbers, int64 `[B]`, that gives a flat dictionary of float32 tensors.
      lengths: how many tokens each row has, int `[R]`.
      masks: how many hidden tokens each row has, int `[R]`, or None if the outputs are not at hidden tokens alone.
      folder: where the tensors are kept; None for memory. If the folder exists, they are read from it, and nothing is computed.
      made_of: the fingerprint of each part that the tensors are computed from, by name (`parts_of_answers`); empty without a
        folder.
      positional: whether the task's own outputs have an axis as long as the text (or, with `masks`, as the hidden tokens).

    Raises:
      ValueError: the folder is not such a cache, is not complete, or holds tensors with other fingerprints.
      OSError: the disk has too little room for the folder.
    """

    def __init__(
        self,
        compute: Callable[[np.ndarray], dict[str, tf.Tensor]],
        lengths: np.ndarray,
        masks: np.ndarray | None,
        folder: str | pathlib.Path | None,
        made_of: dict[str, str],
        positional: bool,
    ) -> None:
        self.lengths, self.masks, self.positional = lengths, masks, positional
        self.layouts: dict[str, FlatLayout] = {}
        self.flat: dict[str, Any] = {}  # arrays, or memory maps of files
        if folder is None:
            self._compute_in_memory(compute)
            return
        folder = pathlib.Path(folder)
        if not folder.exists():
            self._compute_into(folder, compute, made_of)
        self._open(folder, made_of)

    def of(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the tensors of row numbers `[B]` as a flat dictionary, in a graph."""
        names = list(self.layouts)

        def read(rows: np.ndarray) -> list[np.ndarray]:
            return [self.layouts[name].read(self.flat[name], rows) for name in names]

        tensors = dict(zip(names, tf.numpy_function(read, [rows], [tf.float32] * len(names))))
        for name, values in tensors.items():
            layout = self.layouts[name]
            values.set_shape([None, *(None if axis in layout.axes else size for axis, size in enumerate(layout.sizes))])
        return tensors

    def _layout(self, name: str, shape: Sequence[int]) -> FlatLayout:
        """Returns the layout of the tensor `name`, whose shape in a batch is `shape`."""
        kind = name.split("/")[0]
        if kind != "outputs":
            return FlatLayout(shape, LENGTH_AXES[kind], self.lengths)
        if not self.positional:
            return FlatLayout(shape, (), self.lengths)
        return FlatLayout(shape, (1,), self.lengths if self.masks is None else self.masks)

    def _compute_in_memory(self, compute: Callable) -> None:
        """Computes the tensors of all rows into arrays."""
        groups, first = self._first_group(compute)
        self.flat = {name: np.empty(layout.count, np.float32) for name, layout in self.layouts.items()}
        self._fill(compute, groups, first)

    def _compute_into(self, folder: pathlib.Path, compute: Callable, made_of: dict[str, str]) -> None:
        """Computes the tensors of all rows into the files of a new folder."""
        groups, first = self._first_group(compute)
        folder.parent.mkdir(parents=True, exist_ok=True)
        check_room(folder.parent, 4 * sum(layout.count for layout in self.layouts.values()))
        with written_aside(folder) as aside:
            aside.mkdir()
            self.flat = {
                name: np.lib.format.open_memmap(aside / file_of(name), mode="w+", dtype=np.float32, shape=(layout.count,))
                for name, layout in self.layouts.items()
            }
            self._fill(compute, groups, first)
            for flat in self.flat.values():
                flat.flush()
            shapes = {name: value.shape for name, value in first.items()}
            (aside / DESCRIPTION).write_text(json.dumps({"made_of": made_of, "shapes": shapes}))

    def _open(self, folder: pathlib.Path, made_of: dict[str, str]) -> None:
        """Maps the files of a folder; raises a ValueError if it is no cache, is not complete, or has other fingerprints."""
        if not (folder / DESCRIPTION).is_file():
            raise ValueError(f"{folder} is there already and holds no answers of a teacher: give another folder")
        description = read_json(folder / DESCRIPTION)
        others = differing(made_of, description["made_of"])
        if others:
            raise ValueError(f"{folder} was made of other {' and '.join(others)}: give another folder, or delete it")
        self.layouts = {name: self._layout(name, shape) for name, shape in description["shapes"].items()}
        try:
            self.flat = {name: np.load(folder / file_of(name), mmap_mode="r") for name in self.layouts}
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} is not complete: delete it, so that it is made again ({error})") from None
        for name, layout in self.layouts.items():
            if self.flat[name].shape != (layout.count,):
                raise ValueError(f"{folder / file_of(name)} has another size: delete the folder, so that it is made again")

    def _first_group(self, compute: Callable) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """Groups all rows by length, computes the first group, and lays out the tensors by its shapes.

        Returns:
          The groups of row numbers, and the tensors of the first.
        """
        groups = sorted_batches(self.lengths, TOKENS_AT_ONCE)
        first = {name: value.numpy() for name, value in compute(groups[0]).items()}
        self.layouts = {name: self._layout(name, value.shape) for name, value in first.items()}
        return groups, first

    def _fill(self, compute: Callable, groups: list[np.ndarray], first: dict[str, np.ndarray]) -> None:
        """Computes the tensors of all groups but the first, which is given, and writes those of all."""
        progress = Progress("auto")
        for group in groups:
            values = first if group is groups[0] else {name: value.numpy() for name, value in compute(group).items()}
            for name, layout in self.layouts.items():
                layout.write(self.flat[name], group, values[name])
            progress.advance(len(group), len(self.lengths))


def cached_lessons(
    lessons: Lessons,
    student: Task,
    teacher: Task,
    compute: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
    names: Collection[str],
    folder: str | pathlib.Path | None,
) -> TeacherCache:
    """Returns the teacher's tensors for each row of lessons, computed now or read from a folder.

    Args:
      lessons: the tokenized texts.
      student: the task whose `pack` makes the teacher's inputs.
      teacher: the task that computes the tensors.
      compute: a function of the packed dictionary that gives the teacher's tensors as a flat dictionary.
      names: the names of the tensors.
      folder: where the tensors are kept; None for memory.
    """

    def of_rows(function: Callable) -> Callable:
        """Compiles a function of the packed dictionary as a function of row numbers."""
        spec = [tf.TensorSpec([None], tf.int64)]
        return tf.function(lambda rows: function(lessons.inputs_of(student.pack, rows)), input_signature=spec, autograph=False)

    rows, count = np.arange(lessons.rows), of_rows(count_tokens)
    lengths = [count(rows[start : start + ROWS_AT_ONCE]) for start in range(0, len(rows), ROWS_AT_ONCE)]
    parts = {} if folder is None else parts_of_answers(lessons, student, teacher, names)
    return TeacherCache(of_rows(compute), np.concatenate(lengths), lessons.masks, folder, parts, teacher.positional)


def file_of(name: str) -> str:
    """Returns the name of the file that holds the tensor `name`."""
    return name.replace("/", "-") + ".npy"


def check_room(folder: pathlib.Path, size: int) -> None:
    """Raises OSError if the disk of `folder` has no room for `size` bytes."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(
            f"the teacher's answers take {size / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left: give a cache on "
            "another disk, train without one, or with fewer losses on layers"
        )


def parts_of_answers(lessons: Lessons, student: Task, teacher: Task, names: Collection[str]) -> dict[str, str]:
    """Returns a fingerprint of each part that a teacher's answers are computed from, by name.

    Labels are not among the parts. Of the student only its tokenizer and its windows are, because they make the inputs.

    Args:
      lessons: the tokenized texts.
      student: the task whose `pack` makes the teacher's inputs.
      teacher: the task that computes the tensors.
      names: the names of the tensors.
    """
    settings, encoder = teacher.preset_settings(), teacher.encoder
    policies = [part.dtype_policy.name for part in (teacher, encoder)]
    return fingerprint(
        texts=[lessons.columns, lessons.mask_positions, lessons.masks],
        tokenizer=student.preprocessor.get_config(),
        windows=getattr(student, "window_stride", None),
        teacher=[settings["class"], settings["options"], type(encoder).__name__, encoder.config.to_dict(), policies],
        weights=list(teacher.weights),
        tensors=sorted(names),
    )
