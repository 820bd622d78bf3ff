"""Answering texts: chunks through the door, one compiled forward pass, outputs in the order given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from kbert.arguments import check_verbose, known_only, whole_numbers
from kbert.encoders.real_tokens import all_positions
from kbert.tasks.columns import Chunk
from kbert.tasks.encoding import Encoding
from kbert.tasks.fit_arguments import are_batches, refuse_beside_batches
from kbert.tasks.inputs import open_input
from kbert.tasks.packed import packed_arrays
from kbert.tasks.progress import Progress
from kbert.training import keras_internals
from kbert.training.length_batches import sorted_batches

if TYPE_CHECKING:
    from kbert.tasks.frozen import FrozenTask

# Positions of one step of predict. On a CPU they are enough for the cores and few enough for the caches. A GPU needs many more
# to give work to its thousands of cores. With a base model they take one or two GB of its memory (computed, not measured).
TOKENS_PER_PREDICTION = {"CPU": 4096, "GPU": 32768}


class Prediction(Encoding):
    """What a task has to do with answers; a part of `Task`.

    A frozen task runs `_predict_texts` and the methods that it calls with its own `_compute` and `_compute_pieces`, so none of
    these methods calls `super()`.
    """

    def predict(self, x: Any, batch_size: int | None = None, verbose: int | str = "auto", **kwargs: Any) -> Any:
        """Returns the outputs for texts as NumPy arrays, in the order given.

        >>> task.predict(["good", "bad"]).shape  # doctest: +SKIP
        (2, 2)

        Args:
          x: a list, an array or a column of texts, or a text; for pairs a tuple of two columns. Or a stream of texts or
            pairs, of which some thousand are held at a time. Or packed dictionaries.
          batch_size: the most texts of one step; by default as many as fill a step with tokens.
          verbose: 1 for a progress bar, 0 for none. By default there is one on a terminal after some seconds.
          **kwargs: `steps` and `callbacks`, as in `keras.Model.predict`, for packed dictionaries.

        Returns:
          What calling the task gives for each text: an array `[B, ...]`, or a dictionary of them.
        """
        if x is None:
            raise TypeError("predict needs texts or packed dictionaries, got None")
        known_only("predict", kwargs, ("steps", "callbacks"))
        whole_numbers(batch_size=batch_size, steps=kwargs.get("steps"))
        check_verbose(verbose)
        if self._is_packed(x):
            x = packed_arrays(x, self.encoder.config)
            if are_batches(x):
                refuse_beside_batches(x, batch_size=batch_size)
            return super().predict(x, batch_size=batch_size, verbose=verbose, **kwargs)
        if kwargs:
            raise TypeError(f"predict takes {', '.join(sorted(kwargs))} with packed dictionaries only")
        return self._predict_texts(x, batch_size, verbose)

    def predict_on_batch(self, x: Any) -> Any:
        """Returns the outputs for one batch of texts, or of packed dictionaries, as NumPy arrays.

        Args:
          x: texts in memory, as `predict` takes them.
        """
        if self._is_packed(x):
            return super().predict_on_batch(packed_arrays(x, self.encoder.config))
        return self._predict_texts(x, None, 0)

    def _predict_texts(self, x: Any, batch_size: int | None, verbose: int | str) -> Any:
        """Returns the outputs for texts in the order given, chunk by chunk."""
        progress = Progress(verbose)
        texts = open_input(self.columns, x)
        parts = []
        for chunk in texts:
            if not texts.in_memory:
                self.check_streamed(chunk)
            parts.append(self.predict_chunk(chunk, batch_size, progress))
        if not parts:  # an empty stream
            parts.append(self.predict_chunk(Chunk(tuple([] for _ in self.columns[0].names)), batch_size, progress))
        return joined(parts, self.positional)

    def check_streamed(self, chunk: Chunk) -> None:
        """Raises a ValueError if `chunk`, rows of a stream, could mean two things."""

    def predict_chunk(self, chunk: Chunk, batch_size: int | None, progress: Progress) -> Any:
        """Returns the outputs for the rows of a chunk, in order.

        The model sees `batch_size` rows at a time, and `progress` is told of each batch.
        """
        return self.ordered(*self._compute(chunk.columns, batch_size, progress))

    def ordered(self, groups: list[np.ndarray], outputs: list) -> Any:
        """Returns the outputs of groups of rows, each output put where its rows belong."""
        return tf.nest.map_structure(lambda *parts: in_order(groups, parts, self.positional), *outputs)

    def _compute(self, columns: tuple[list, ...], batch_size: int | None, progress: Progress) -> tuple[list, list]:
        """Returns groups of row numbers, and the outputs of each group, for plain columns."""
        return self._compute_pieces(self.read(columns), batch_size, progress)

    def _compute_pieces(
        self, ids: tuple[tf.RaggedTensor, ...], batch_size: int | None, progress: Progress
    ) -> tuple[list, list]:
        """Returns groups of row numbers, and the outputs of each group, for ragged ids."""
        lengths = sum(np.diff(column.row_splits.numpy()) for column in ids) + 1 + len(ids)
        lengths = np.minimum(lengths, self.preprocessor.max_length)
        groups = sorted_batches(lengths, tokens_per_prediction(), batch_size) or [np.zeros(0, int)]
        outputs = []
        for rows in groups:
            forward = self._forward(len(ids), padded=len(rows) == 1)
            outputs.append(tf.nest.map_structure(lambda output: output.numpy(), forward(tf.constant(rows, tf.int64), *ids)))
            progress.advance(len(rows), len(lengths))
        return groups, outputs

    def _forward(self, columns: int, padded: bool) -> Callable:
        """Returns the compiled way from rows of ragged ids to outputs: traced once for every batch size and length, and kept.

        One text has no padding. Its shapes are `PaddedView`'s, whose graph has fewer ops, and for one text ops are what takes
        the time.
        """
        functions = keras_internals.hidden(self, "_compiled_forward", dict)
        key = columns, padded and self.real_tokens
        if key not in functions:
            spec = [tf.TensorSpec([None], tf.int64), *[tf.RaggedTensorSpec([None, None], tf.int32, 1, tf.int64)] * columns]

            def forward(rows: tf.Tensor, *ids: tf.RaggedTensor) -> Any:
                packed = self.pack(*(tf.gather(column, rows) for column in ids))
                with all_positions() if padded else contextlib.nullcontext():
                    return self(packed, training=False)

            functions[key] = tf.function(forward, input_signature=spec, autograph=False)
        return functions[key]

    def freeze(self, threads: int | None = None) -> FrozenTask:
        """Returns a read-only copy of the task for the fastest answers on a CPU, with the same verbs.

        >>> fast = task.freeze()  # doctest: +SKIP
        >>> fast.classify(["I could not be happier"])  # doctest: +SKIP

        The weights are those of now: after more training, freeze again. It computes with LiteRT (`pip install
        "kbert[litert]"`), in this process; making it takes some seconds. Threads may share it.

        Args:
          threads: the number of threads of the computation; by default as many as there are cores, 8 at most.

        Raises:
          ValueError: the task has no preprocessor, or computes in half precision.
        """
        from kbert.tasks.frozen import FrozenTask

        return FrozenTask(self, threads)


def tokens_per_prediction() -> int:
    """Returns the positions of one step of predict on the kind of device that TensorFlow computes on."""
    return TOKENS_PER_PREDICTION["GPU" if tf.config.list_logical_devices("GPU") else "CPU"]


def in_order(groups: list[np.ndarray], outputs: Any, positional: bool) -> np.ndarray:
    """Returns the rows of groups, put where they belong; shorter texts have zeros at the positions that they lack.

    Args:
      groups: arrays of row numbers.
      outputs: for each group an array `[rows of the group, ...]`.
      positional: whether the second axis is that of positions, as long as the longest text of the group.
    """
    shape = list(outputs[0].shape[1:])
    if positional:
        shape[0] = max(output.shape[1] for output in outputs)
    result = np.zeros((sum(map(len, groups)), *shape), outputs[0].dtype)
    for rows, output in zip(groups, outputs):
        if positional:
            result[rows, : output.shape[1]] = output
        else:
            result[rows] = output
    return result


def joined(parts: list, positional: bool) -> Any:
    """Returns the answers of chunks, `parts`, as one structure of arrays, or one list. See `in_order` for `positional`."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], list):
        return [answer for part in parts for answer in part]

    def join(*arrays: np.ndarray) -> np.ndarray:
        ends = np.cumsum([len(array) for array in arrays])
        return in_order([np.arange(end - len(a), end) for a, end in zip(arrays, ends)], arrays, positional)

    return tf.nest.map_structure(join, *parts)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities of logits along the last axis, in NumPy."""
    powers = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(-1, keepdims=True)
