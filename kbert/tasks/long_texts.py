"""Long texts in overlapping windows, whose answer is the mean of the windows' answers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from kbert.arguments import whole_number
from kbert.tasks.columns import Chunk
from kbert.tasks.progress import Progress
from kbert.tasks.task import Task
from kbert.text.truncation import windows


class ReadsLongTexts(Task):
    """A task that reads a text longer than `max_length` in windows, if it has a `window_stride`; else it cuts the text.

    The windows of a text are computed as rows of their own, and the head means their logits by `document`.
    """

    window_stride: int | None  # the pieces that neighbouring windows share

    def check_windows(self) -> None:
        """Raises a ValueError if the windows of the task have no room beside the stride."""
        if self.window_stride is not None:
            whole_number("window_stride", self.window_stride, least=0)
        if self.window_stride is not None and self.preprocessor is not None:
            windows(tf.zeros([0], tf.int32), self._window_room, self.window_stride)

    @property
    def _window_room(self) -> int:
        return self.preprocessor.max_length - 2

    def read(self, columns: tuple[list, ...]) -> tuple[tf.RaggedTensor, ...]:
        if self.window_stride is None:
            return Task.read(self, columns)
        if len(columns) > 1:
            raise ValueError("window_stride is for single texts: for pairs build the task without it")
        return (self.tokenizer(tf.constant(columns[0], tf.string)),)

    def pack(self, *columns: tf.RaggedTensor) -> dict[str, tf.Tensor]:
        if self.window_stride is None:
            return super().pack(*columns)
        packed, cut = self.preprocessor.pack_windows(*columns, self.window_stride)
        return {**packed, "document": cut.document}

    def say_truncated(self, lengths: np.ndarray, columns: int) -> int:
        if self.window_stride is None:
            return super().say_truncated(lengths, columns)
        return max(1, int(lengths.max(initial=0)))  # nothing is cut

    def predict_chunk(self, chunk: Chunk, batch_size: int | None, progress: Progress) -> np.ndarray:
        if self.window_stride is None:
            return Task.predict_chunk(self, chunk, batch_size, progress)
        (pieces,) = self.read(chunk.columns)
        cut = windows(tf.cast(pieces.row_lengths(), tf.int32), self._window_room, self.window_stride)
        logits = self.ordered(*self._compute_pieces((cut.of(pieces),), batch_size, progress))
        first = np.flatnonzero(np.diff(cut.document.numpy(), prepend=-1))
        counts = np.diff(first, append=len(logits))[:, None].astype(np.float32)
        return np.add.reduceat(logits, first) / counts if len(first) else logits

    @property
    def torn_by_replicas(self) -> str | None:
        return None if self.window_stride is None else "replicas would tear the windows of a long text apart"

    @property
    def merges_windows(self) -> bool:
        return self.window_stride is not None

    @property
    def reads_one_window(self) -> bool:
        return self.window_stride is None


def chosen_stride(given: int | None, default: int, room: int | None) -> int:
    """Returns how many pieces neighbouring windows of a long text share.

    Args:
      given: the user's `window_stride`, or None for the default.
      default: the number that is taken by default.
      room: the number of a text's pieces for which every window has room, or None for packed input.

    Raises:
      ValueError: `given` is no whole number from 0 on, or leaves a window no room for other pieces.
    """
    if given is None:
        return default
    whole_number("window_stride", given, least=0)
    if room is not None and given >= room:
        raise ValueError(
            f"window_stride should be less than the {room} pieces of a window, got {given}; choose a smaller "
            "window_stride or a larger max_length"
        )
    return given
