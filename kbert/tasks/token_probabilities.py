"""The probabilities of tokens at some positions of rows, for a task with a masked-LM head."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from kbert.tasks.task import Task
from kbert.training import keras_internals

ROWS_AT_ONCE = 64  # rows of one step, for each position has logits of the whole vocabulary


class TokenProbabilities(Task):
    """A task that can say how probable each token is at a position."""

    answers_at_positions = True

    def log_probabilities(self, rows: list[np.ndarray], where: list[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields for each row the logarithms of the probabilities of all tokens at some positions, `[positions, V]`.

        Args:
          rows: ids with [CLS] and [SEP].
          where: the positions of each row.
        """
        for start in range(0, len(rows), ROWS_AT_ONCE):
            batch, places = rows[start : start + ROWS_AT_ONCE], where[start : start + ROWS_AT_ONCE]
            length, most = int(self.preprocessor.row_length(max(map(len, batch)))), max(map(len, places))
            ids: np.ndarray = np.full((len(batch), length), self.tokenizer.pad_token_id, np.int32)
            positions: np.ndarray = np.zeros((len(batch), most), np.int32)
            mask = np.zeros_like(ids)
            for n, (row, at) in enumerate(zip(batch, places)):
                ids[n, : len(row)], mask[n, : len(row)], positions[n, : len(at)] = row, 1, at
            inputs = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": mask, "mask_positions": positions}
            logs = tf.nn.log_softmax(self._forward_at({name: tf.constant(v) for name, v in inputs.items()})).numpy()
            yield from (logs[n, : len(at)] for n, at in enumerate(places))

    @property
    def _forward_at(self) -> Callable:
        """The compiled forward pass at some positions, traced once for every batch size and length, and kept."""

        def make() -> Callable:
            names = ("token_ids", "segment_ids", "padding_mask", "mask_positions")
            spec = {name: tf.TensorSpec([None, None], tf.int32) for name in names}
            return tf.function(lambda inputs: self(inputs, training=False), input_signature=[spec], autograph=False)

        return keras_internals.hidden(self, "_compiled_forward_at", make)
