"""Training under a `tf.distribute` strategy: the steps that one device would make of the same whole batch."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from kbert.training import keras_internals


def mean_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """Returns the mean of a scalar over all replicas, or the scalar itself where there is one replica.

    Keras takes the mean loss of each replica, and then the mean of these means. A loss that divides by this function's result
    gives each label of the whole batch the same weight.

    Args:
      value: this replica's scalar, for example its number of labels.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    context = tf.distribute.get_replica_context()
    if replicas == 1 or context is None:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value) / replicas


class WholeBatchGradients(keras_internals.SeesGradientsFirst):
    """A mixin for a Keras optimizer that sums gradients over the replicas before it clips and applies them.

    Keras clips the gradients of each replica, and sums the clipped ones. One device with the whole batch clips the sum.
    """

    def prepare_gradients(self, gradients: list[tf.Tensor], variables: list[tf.Variable]) -> list[tf.Tensor]:
        return self.sum_over_replicas(gradients, variables) if self.replicas > 1 else gradients


class DistributedModel(keras_internals.BuiltFromFirstBatch):
    """A mixin for a `keras.Model` with dictionaries as inputs, which Keras 3 cannot train with several workers."""

    def batch_to_build_from(self, batch: Any) -> Any:
        """Returns the first replica's part of a batch.

        Keras would take the mean of all parts, which may differ in shape; it needs the shapes of one.
        """
        values_of = keras_internals.strategy_of(self).experimental_local_results  # type: ignore[union-attr]
        return keras.tree.map_structure(lambda values: values_of(values)[0], batch)

    def compute_metrics(self, *args: Any, **kwargs: Any) -> dict[str, tf.Tensor]:
        """Returns Keras's metrics, with several workers as tensors `[1]`: Keras then takes the mean over their first axis."""
        results = super().compute_metrics(*args, **kwargs)  # type: ignore[misc]
        if isinstance(keras_internals.strategy_of(self), tf.distribute.MultiWorkerMirroredStrategy):
            return keras.tree.map_structure(lambda value: value[None], results)
        return results
