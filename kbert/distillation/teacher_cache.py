"""What a teacher says of each text, computed once: in memory, or in a folder that is read as it is needed."""

import hashlib
import json
import pathlib
import shutil

import numpy as np
import tensorflow as tf

from kbert.files.atomic import written_aside
from kbert.tasks.prediction import Progress
from kbert.training.batches import sorted_batches

# The axes that are as long as the text, by what the name begins with.
AXES = {"hidden_states": (1,), "attentions": (2, 3), "attention_scores": (2, 3), "attention_values": (2,)}
TOKENS_AT_ONCE = 2048
MARK = "made_of.json"


class Leaf:
    """One tensor of each text, `[..., length, ...]`, all of them one after the other in a flat float32 array.

    Args:
      shape: of a batch; what stands at `axes` and in front does not matter.
      axes: those that are as long as the text; the first is the batch's, 0, which a text has not.
      lengths: of all texts.
    """

    def __init__(self, shape, axes, lengths):
        self.rest = [1 if axis in axes else size for axis, size in enumerate(shape)][1:]
        self.axes = [axis - 1 for axis in axes]
        self.lengths = lengths
        sizes = int(np.prod(self.rest)) * lengths.astype(np.int64) ** len(axes)
        self.ends = np.concatenate([[0], np.cumsum(sizes)])

    @property
    def bytes(self):
        return 4 * int(self.ends[-1])

    def shape(self, length):
        return [length if axis in self.axes else size for axis, size in enumerate(self.rest)]

    def place(self, length):
        """Where a text of so many tokens stands in an array of longer ones."""
        return tuple(slice(0, length) if axis in self.axes else slice(None) for axis in range(len(self.rest)))

    def write(self, flat, rows, values):
        for row, value in zip(rows, values):
            flat[self.ends[row] : self.ends[row + 1]] = value[self.place(self.lengths[row])].ravel()

    def read(self, flat, rows):
        """Texts as one array, zero where they are shorter than the longest."""
        lengths = self.lengths[rows]
        found = np.zeros([len(rows), *self.shape(int(lengths.max(initial=0)))], np.float32)
        for values, row, length in zip(found, rows, lengths):
            values[self.place(length)] = flat[self.ends[row] : self.ends[row + 1]].reshape(self.shape(length))
        return found


class Answers:
    """Tensors of a teacher for each of some rows.

    Args:
      compute: a function of row numbers, int64 `[B]`, to a flat dictionary of float32 tensors.
      lengths, masks: of each row, how many tokens it has, and how many masks, or `None`.
      folder: where they are kept; `None` for memory.
      made_of: the fingerprint of texts, teacher and names.
      positional: whether the task's own outputs have an axis as long as the text; with `mask_positions`, as long as there are masks.
    """

    def __init__(self, compute, lengths, masks, folder, made_of, positional):
        folder = None if folder is None else pathlib.Path(folder)
        self.lengths, self.masks, self.positional = lengths, masks, positional
        if folder is not None and folder.exists():
            self._open(folder, made_of)
            return
        groups = sorted_batches(self.lengths, TOKENS_AT_ONCE)
        first = {name: value.numpy() for name, value in compute(groups[0]).items()}
        self.leaves = {name: self._leaf(name, value.shape) for name, value in first.items()}
        if folder is None:
            self.flat = {name: np.empty(leaf.bytes // 4, np.float32) for name, leaf in self.leaves.items()}
            self._fill(compute, groups, first)
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        check_room(folder.parent, sum(leaf.bytes for leaf in self.leaves.values()))
        with written_aside(folder) as aside:
            aside.mkdir()
            self.flat = {
                name: np.lib.format.open_memmap(aside / file_of(name), mode="w+", dtype=np.float32, shape=(leaf.bytes // 4,))
                for name, leaf in self.leaves.items()
            }
            self._fill(compute, groups, first)
            for flat in self.flat.values():
                flat.flush()
            shapes = {name: value.shape for name, value in first.items()}
            (aside / MARK).write_text(json.dumps({"made_of": made_of, "shapes": shapes}))
        self._open(folder, made_of)

    def _leaf(self, name, shape):
        kind = name.split("/")[0]
        if kind != "outputs":
            return Leaf(shape, AXES[kind], self.lengths)
        if not self.positional:
            return Leaf(shape, (), self.lengths)
        return Leaf(shape, (1,), self.lengths if self.masks is None else self.masks)

    def _open(self, folder, made_of):
        if not (folder / MARK).is_file():
            raise ValueError(f"{folder} is there already and holds no answers of a teacher: give another folder")
        kept = json.loads((folder / MARK).read_text())
        if kept["made_of"] != made_of:
            raise ValueError(
                f"{folder} was made for other texts or other losses, or of another teacher: give another folder, or delete it"
            )
        self.leaves = {name: self._leaf(name, shape) for name, shape in kept["shapes"].items()}
        self.flat = {name: np.load(folder / file_of(name), mmap_mode="r") for name in self.leaves}

    def _fill(self, compute, groups, first):
        progress = Progress("auto")
        for group in groups:
            values = first if group is groups[0] else {name: v.numpy() for name, v in compute(group).items()}
            for name, leaf in self.leaves.items():
                leaf.write(self.flat[name], group, values[name])
            progress.advance(len(group), len(self.lengths))

    def of(self, rows):
        """The tensors of row numbers `[B]`, in a graph: a flat dictionary."""
        names = list(self.leaves)
        found = tf.numpy_function(
            lambda rows: [self.leaves[name].read(self.flat[name], rows) for name in names], [rows], [tf.float32] * len(names)
        )
        for name, values in zip(names, found):
            leaf = self.leaves[name]
            values.set_shape([None, *(None if axis in leaf.axes else size for axis, size in enumerate(leaf.rest))])
        return dict(zip(names, found))


def file_of(name):
    return name.replace("/", "-") + ".npy"


def check_room(folder, size):
    """Says that a disk has too little room, before it is filled."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(
            f"the teacher's answers take {size / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left: give a cache on another disk, "
            "train without one, or with fewer losses on layers"
        )


def fingerprint(columns, teacher, names):
    """What a cache is made of: ids of the texts, the teacher, and what of it is kept."""
    digest = hashlib.sha256(json.dumps([teacher.encoder.config.to_dict(), sorted(names)], sort_keys=True).encode())
    for column in columns:
        digest.update(column.values.numpy().tobytes() + column.row_splits.numpy().tobytes())
    for variable in teacher.trainable_variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()
