"""Counting the real tokens of a training, for `tokens_per_second`."""

from __future__ import annotations

import time

import keras
import tensorflow as tf


def counted(data: tf.data.Dataset, count: tf.Variable) -> tf.data.Dataset:
    """Returns a dataset that adds the real tokens of each batch to a variable.

    Args:
      data: a dataset of packed dictionaries, with labels or without.
      count: an int64 variable.
    """

    @tf.autograph.experimental.do_not_convert
    def add(inputs: dict[str, tf.Tensor], *labels: tf.Tensor) -> tuple:
        mask = inputs["padding_mask"] if "padding_mask" in inputs else tf.ones_like(inputs["token_ids"])
        with tf.control_dependencies([count.assign_add(tf.cast(tf.math.count_nonzero(mask), tf.int64))]):
            return (tf.nest.map_structure(tf.identity, inputs), *labels)

    return data.map(add, num_parallel_calls=1, deterministic=True)


class Throughput(keras.callbacks.Callback):
    """A callback that adds `tokens_per_second` to the figures of each epoch. The time of the validation does not count.

    Args:
      count: the int64 variable to which `counted` adds the tokens.
    """

    adds = ("tokens_per_second",)  # the figures that this callback adds to those of each epoch

    def __init__(self, count: tf.Variable) -> None:
        super().__init__()
        self.count = count
        self.since: float | None = None  # when the epoch began
        self.seconds: float | None = None  # how long it took until the validation

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.count.assign(0)
        self.since, self.seconds = time.perf_counter(), None

    def on_test_begin(self, logs: dict | None = None) -> None:
        if self.since is not None and self.seconds is None:
            self.seconds = time.perf_counter() - self.since

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        assert self.since is not None  # the epoch began
        seconds = self.seconds or time.perf_counter() - self.since
        logs["tokens_per_second"] = int(self.count) / seconds
