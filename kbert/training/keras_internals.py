"""Keras's private members: the only file of kbert that reads, sets or overrides one.

Each function and mixin below has a plain name and says which private member stands behind it. A member may move in any
release of Keras. `tests/training/test_keras_internals.py` tries each of them and says in a sentence which one moved, and
`setup.py` bounds Keras to the minor versions that were tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

# Attributes


def hide(owner: Any, name: str, value: Any) -> Any:
    """Sets an attribute that Keras does not track, and returns the value.

    Keras tracks each attribute of a layer or a model. It saves and trains the weights that it finds there, walks the layers,
    and replaces lists and dictionaries by copies of its own. A teacher, a cache of compiled functions or a counter is not
    part of a model's weights, and must not be part of its files. Read the attribute as any other.

    Args:
      owner: a Keras layer, model or optimizer.
      name: the attribute's name.
      value: the attribute's value.
    """
    owner.__dict__[name] = value
    return value


def hidden(owner: Any, name: str, make: Callable[[], Any]) -> Any:
    """Returns an attribute that `hide` set, and makes it at the first use.

    Args:
      owner: a Keras layer, model or optimizer.
      name: the attribute's name.
      make: a function without arguments that returns the value.
    """
    return owner.__dict__[name] if name in owner.__dict__ else hide(owner, name, make())


# Layers and models


def take_strings(layer: keras.layers.Layer) -> None:
    """Lets a layer be called with strings and lists of strings, in place of tensors alone.

    Keras otherwise converts each input to a tensor of floats (`_convert_input_args`) and refuses positional arguments that
    are no tensors (`_allow_non_tensor_positional_args`).
    """
    layer._convert_input_args = False
    layer._allow_non_tensor_positional_args = True


def all_layers(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns a model and the layers inside it at every depth, each once (`_flatten_layers`).

    The public `layers` gives the first level alone.
    """
    return model._flatten_layers()


def strategy_of(model: keras.Model) -> tf.distribute.Strategy | None:
    """Returns the `tf.distribute` strategy under which a model was made, or None without one (`_distribute_strategy`).

    The public `distribute_strategy` gives TensorFlow's default strategy in place of None.
    """
    return model._distribute_strategy


def in_list_order(model: keras.Model, names: Iterable[str]) -> list[str]:
    """Returns the names of a compiled model's figures in the order of Keras's own lists (`_flatten_metrics_in_order`).

    The loss comes first, then the metrics in the order of `compile`. The public `metrics_names` has one name for all metrics.
    """
    names = list(names)
    return model._flatten_metrics_in_order({name: name for name in names}) if len(names) > 1 else names


def asked_by_fit(options: Mapping[str, Any]) -> bool:
    """Returns whether `fit` called `evaluate` for its validation data, rather than a user.

    Args:
      options: the keyword arguments that `evaluate` got. `fit` passes `_use_cached_eval_dataset`.
    """
    return bool(options.get("_use_cached_eval_dataset"))


def set_loss_mean(model: keras.Model, metric: keras.metrics.Metric) -> None:
    """Sets the metric in which a compiled model keeps the mean of its loss over batches (`_loss_tracker`).

    The public `metrics` lists it, and nothing public replaces it.

    Args:
      model: a compiled model.
      metric: a metric that is updated with the loss of each batch, weighted by the number of its rows.
    """
    model._loss_tracker = metric


class BuiltFromFirstBatch:
    """A mixin for a `keras.Model` that chooses from which batch the metrics' variables are made.

    Keras calls `_maybe_symbolic_build` before the first step of `fit` and `evaluate`.
    """

    def batch_to_build_from(self, batch: Any) -> Any:
        """Returns the batch of one replica, which Keras reads for its shapes.

        Args:
          batch: a batch of the distributed dataset: a nest of tensors, or of one value for each replica.
        """
        raise NotImplementedError

    def _maybe_symbolic_build(self, iterator: Iterable | None = None, data_batch: Any = None) -> None:
        if strategy_of(self) is not None and iterator is not None:
            _, _, batches = next(iter(iterator))
            iterator, data_batch = None, self.batch_to_build_from(next(batches))
        super()._maybe_symbolic_build(iterator, data_batch)  # type: ignore[misc]


# Optimizers


def unscaled(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns the optimizer that makes the steps. Under `mixed_float16` a `LossScaleOptimizer` wraps it.

    The wrapper has attributes of the same names, but its own rate is 0 and its own count of batches stays the same.
    """
    while isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return optimizer


def learning_rate_schedule(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.schedules.LearningRateSchedule | None:
    """Returns an optimizer's schedule, or None for a constant rate (`_learning_rate`).

    The public `learning_rate` gives the present rate, a number.
    """
    rate = getattr(unscaled(optimizer), "_learning_rate", None)
    return rate if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else None


def optimized(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns the variables that an optimizer was built for, in its order (`_trainable_variables`).

    For a `LossScaleOptimizer` these are the variables of the optimizer inside it.
    """
    return list(unscaled(optimizer)._trainable_variables)


def batches_seen(optimizer: keras.optimizers.Optimizer) -> int:
    """Returns how many batches an optimizer has got gradients of (`_iterations`).

    The public `iterations` counts steps, which are fewer where the optimizer accumulates gradients.
    """
    return int(unscaled(optimizer)._iterations.numpy())


def count_batches(optimizer: keras.optimizers.Optimizer, batches: int) -> None:
    """Sets how many batches an optimizer has got gradients of (`_iterations`)."""
    unscaled(optimizer)._iterations.assign(batches)


def waiting_gradients(optimizer: keras.optimizers.Optimizer) -> list[tuple[keras.Variable, keras.Variable]]:
    """Returns each trainable variable with the sum of its gradients since the last step (`_accumulated_gradients`).

    The optimizer has to be built, with `gradient_accumulation_steps`.
    """
    optimizer = unscaled(optimizer)
    pairs = zip(optimizer._trainable_variables, optimizer._accumulated_gradients)
    return [(variable, waiting) for variable, waiting in pairs if waiting is not None]


def set_direction(metric: keras.metrics.Metric, direction: str) -> None:
    """Sets whether a higher figure of a metric is better, `"up"`, or a lower one, `"down"` (`_direction`).

    `keras.callbacks.EarlyStopping` and its like read it if they are given no `mode`.
    """
    metric._direction = direction


def direction_of(metric: keras.metrics.Metric) -> str:
    """Returns whether a higher figure of a metric is better, `"up"`, or a lower one, `"down"` (`_direction`)."""
    return getattr(metric, "_direction", "up")


def moments(optimizer: keras.optimizers.Optimizer, variable: tf.Variable) -> tuple[keras.Variable, keras.Variable]:
    """Returns the running means of a variable's gradient and squared gradient, of an Adam or LAMB that was built.

    The members are `_momentums`, `_velocities` and `_get_variable_index`.
    """
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


def is_decayed(optimizer: keras.optimizers.Optimizer, variable: tf.Variable) -> bool:
    """Returns whether a variable's weights decay, after `exclude_from_weight_decay` (`_use_weight_decay`)."""
    return optimizer._use_weight_decay(variable)


class DecaysInItsStep:
    """A mixin for a Keras optimizer whose `update_step` decays weights itself.

    Keras's own decay (`_apply_weight_decay`) is off.
    """

    def _apply_weight_decay(self, variables: Iterable[tf.Variable]) -> None:
        """Does nothing: `update_step` has decayed the weights."""


class SeesGradientsFirst:
    """A mixin for a Keras optimizer that may change gradients before Keras clips, accumulates or applies them.

    Keras calls `_backend_apply_gradients` with the gradients of one replica, and sums them over the replicas at the very end
    (`_all_reduce_sum_gradients`). Here `prepare_gradients` has the first word, and the sum at the end is left out.
    """

    def prepare_gradients(self, gradients: list[tf.Tensor], variables: list[tf.Variable]) -> list[tf.Tensor]:
        """Returns the gradients to clip and apply, which should be the same on each replica.

        Args:
          gradients: the gradients of one replica's share of the batch.
          variables: the trainable variables, one for each gradient.
        """
        raise NotImplementedError

    @property
    def replicas(self) -> int:
        """The number of replicas that compute gradients (`_distribution_strategy`)."""
        return self._distribution_strategy.num_replicas_in_sync  # type: ignore[attr-defined]

    def sum_over_replicas(self, gradients: list[tf.Tensor], variables: list[tf.Variable]) -> list[tf.Tensor]:
        """Returns the sums of the gradients over all replicas."""
        summed = super()._all_reduce_sum_gradients(zip(gradients, variables))  # type: ignore[misc]
        return [gradient for gradient, _ in summed]

    def _backend_apply_gradients(self, grads: list[tf.Tensor], trainable_variables: list[tf.Variable]) -> None:
        grads = self.prepare_gradients(grads, trainable_variables)
        super()._backend_apply_gradients(grads, trainable_variables)  # type: ignore[misc]

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        """Returns the gradients as they are: `prepare_gradients` has summed them."""
        return grads_and_vars
