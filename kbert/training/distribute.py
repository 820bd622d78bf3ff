"""What training under a `tf.distribute` strategy takes beyond Keras: the steps of one device with the same whole batch."""

import keras
import tensorflow as tf


def mean_over_replicas(value):
    """The mean of a replica's scalar over all replicas; the value itself where there is one.

    Keras means each replica's losses by themselves and then all replicas: divided by this mean, each label of the whole batch counts the same.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    context = tf.distribute.get_replica_context()
    if replicas == 1 or context is None:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value) / replicas


class WholeBatchGradients:
    """For an optimizer: gradients are summed over the replicas before anything is done with them.

    Keras clips each replica's gradients by themselves and sums what is left: another step than one device makes of the whole batch.
    """

    def _backend_apply_gradients(self, grads, trainable_variables):
        if self._distribution_strategy.num_replicas_in_sync > 1:
            summed = super()._all_reduce_sum_gradients(zip(grads, trainable_variables))
            grads = [gradient for gradient, _ in summed]
        super()._backend_apply_gradients(grads, trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars  # they are, by then


class DistributedModel:
    """For a `keras.Model` with dictionaries as inputs: Keras 3's `fit` and `evaluate` take none with several workers."""

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Keras makes the metrics' variables from the mean of the replicas' first batches; it is shapes that it needs, and any replica's do."""
        if self._distribute_strategy is not None and iterator is not None:
            batch = next(next(iter(iterator))[2])
            first = self._distribute_strategy.experimental_local_results
            iterator, data_batch = None, keras.tree.map_structure(lambda values: first(values)[0], batch)
        super()._maybe_symbolic_build(iterator, data_batch)

    def compute_metrics(self, *args, **kwargs):
        """With several workers Keras means what a step gives over its first axis, which a number has not."""
        results = super().compute_metrics(*args, **kwargs)
        if isinstance(self._distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return keras.tree.map_structure(lambda value: value[None], results)
        return results
