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


def share_of_rows(rows: tf.Tensor) -> tf.Tensor:
    """Returns how many rows this replica has of a batch, divided by the mean over the replicas, as a float32 scalar.

    For example, two replicas get 3 and 2 rows of a batch of 5. The mean of their means is the mean over all rows if each is
    multiplied by its share, 1.2 and 0.8.

    Args:
      rows: the number of this replica's rows, an int32 scalar.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return tf.constant(1.0)
    rows = tf.cast(rows, tf.float32)
    return rows / tf.maximum(mean_over_replicas(rows), 1e-9)


def check_replicas(model: keras.Model, part: keras.Model, torn: str | None) -> None:
    """Raises a ValueError if a model cannot make the steps of one device on its strategy's replicas.

    Args:
      model: the model to train or to measure.
      part: the model inside it that has the weights: a task's encoder, a distiller's student.
      torn: a sentence that says why the rows of a batch cannot be split among replicas; None if they can.
    """
    strategy = model.distribute_strategy
    if keras_internals.strategy_of(part) is not keras_internals.strategy_of(model):
        raise ValueError(
            f"the {type(model).__name__} and its {type(part).__name__} were made under different strategies: make both in one "
            "strategy.scope()"
        )
    if strategy.num_replicas_in_sync == 1:
        return
    if torn is not None:
        raise ValueError(f"{torn}; the strategy has {strategy.num_replicas_in_sync} replicas: train it on one device")
    for loss in keras.tree.flatten(getattr(model, "loss", None)):
        reduction = getattr(loss, "reduction", "mean")
        if reduction not in ("mean", "sum_over_batch_size"):
            raise ValueError(
                f"{type(loss).__name__} has reduction={reduction!r}, which {strategy.num_replicas_in_sync} replicas count "
                'otherwise than one device: give the loss reduction="sum_over_batch_size"'
            )


class WholeBatchMean(keras.metrics.Mean):
    """A mean of a loss over batches, weighted by their rows. The mean of the replicas' losses has to be the batch's loss."""

    def update_state(self, values: tf.Tensor, sample_weight: Any = None) -> None:
        if sample_weight is not None:
            sample_weight = mean_over_replicas(tf.cast(sample_weight, tf.float32))
        super().update_state(values, sample_weight=sample_weight)


class WholeBatchGradients(keras_internals.SeesGradientsFirst):
    """A mixin for a Keras optimizer that sums gradients over the replicas before it clips and applies them.

    Keras clips the gradients of each replica, and sums the clipped ones. One device with the whole batch clips the sum.
    """

    def prepare_gradients(self, gradients: list[tf.Tensor], variables: list[tf.Variable]) -> list[tf.Tensor]:
        return self.sum_over_replicas(gradients, variables) if self.replicas > 1 else gradients


class DistributedModel(keras_internals.BuiltFromFirstBatch):
    """A mixin for a `keras.Model` with dictionaries as inputs, which Keras 3 cannot train with several workers.

    Keras takes the mean of the replicas' losses. Here a replica's loss is weighted by its rows, because replicas may have
    different numbers of rows.
    """

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Prepares for training, as `keras.Model.compile` does."""
        super().compile(*args, **kwargs)  # type: ignore[misc]
        strategy = keras_internals.strategy_of(self)
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            keras_internals.set_loss_mean(self, WholeBatchMean(name="loss"))

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor:
        """Returns the loss of this replica's rows, times its share of the rows."""
        strategy = keras_internals.strategy_of(self)
        if strategy is not None and strategy.num_replicas_in_sync > 1 and not tf.distribute.in_cross_replica_context():
            share = share_of_rows(tf.shape(keras.tree.flatten(y)[0])[0])
            if sample_weight is None:  # a weight for each row [B], or [B, 1] where its targets [B, L] have losses of their own
                sample_weight = keras.tree.map_structure(
                    lambda target: tf.ones_like(tf.reduce_sum(target, range(1, target.shape.rank), True), tf.float32), y
                )
            sample_weight = keras.tree.map_structure(lambda weight: tf.cast(weight, tf.float32) * share, sample_weight)
        return super().compute_loss(x, y, y_pred, sample_weight, training)  # type: ignore[misc]

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
