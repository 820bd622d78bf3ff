"""AdamW as BERT is fine-tuned with it, LAMB for pretraining, and their learning-rate schedule."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import tensorflow as tf

from kbert.arguments import number, share, whole_number
from kbert.training import keras_internals
from kbert.training.accumulation import batches_per_step
from kbert.training.replicas import WholeBatchGradients

NOT_DECAYED = ("bias", "gamma", "beta")


@keras.saving.register_keras_serializable("kbert")
class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly to its peak, then falls linearly to 0 (Devlin et al. 2018, appendix A.2).

    >>> schedule = WarmupLinearDecay(1e-3, total_steps=100)
    >>> [round(float(schedule(step)), 6) for step in (0, 9, 55, 100)]
    [0.0001, 0.001, 0.0005, 0.0]

    Args:
      peak: the highest rate.
      total_steps: the number of optimizer steps from the first one to rate 0, or None until `fit` sets the number by
        `start`. While the number is unknown, the rate rises over 100 steps and stays.
      warmup_fraction: the share of the steps in which the rate rises, from 0 to less than 1.
      first_step: the number of the step at which the schedule begins.
    """

    def __init__(
        self, peak: float = 5e-5, total_steps: int | None = None, warmup_fraction: float = 0.1, first_step: int = 0
    ) -> None:
        number("peak", peak, above=0)
        share("warmup_fraction", warmup_fraction)
        if total_steps is not None:
            whole_number("total_steps", total_steps)
        whole_number("first_step", first_step, least=0)
        self.peak = peak
        self.warmup_fraction = warmup_fraction
        # Variables, so that a second fit of another length does not trace the train step again.
        with tf.init_scope():
            self._first = tf.Variable(first_step, dtype=tf.int64, trainable=False)
            self._total = tf.Variable(total_steps or 0, dtype=tf.int64, trainable=False)
            self._batches = tf.Variable(1, dtype=tf.int64, trainable=False)

    def start(self, first_step: int, total_steps: int | None, batches_per_step: int = 1) -> None:
        """Lays the schedule over the next steps.

        Args:
          first_step: the step at which the schedule begins. Where gradients are accumulated, this is a number of batches,
            because Keras counts batches then.
          total_steps: the number of steps to rate 0, or None if it is unknown.
          batches_per_step: the number of batches whose gradients make one step.
        """
        self._first.assign(first_step)
        self._total.assign(total_steps or 0)
        self._batches.assign(batches_per_step)

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Returns the rate of a step, a float32 scalar.

        Args:
          step: the number of the step, from 0; where gradients are accumulated, the number of the batch.
        """
        step = tf.cast((tf.cast(step, tf.int64) - self._first) // self._batches, tf.float32)
        total = tf.cast(self._total, tf.float32)
        warmup = tf.where(total > 0, tf.maximum(tf.round(total * self.warmup_fraction), 1.0), 100.0)
        falling = tf.where(total > 0, (total - step) / tf.maximum(total - warmup, 1.0), 1.0)
        return self.peak * tf.clip_by_value(tf.minimum((step + 1.0) / warmup, falling), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "total_steps": int(self._total) or None,
            "warmup_fraction": self.warmup_fraction,
            "first_step": int(self._first),
        }


def start_schedule(optimizer: keras.optimizers.Optimizer, batches: int | None, first_batch: int) -> tuple[int, int | None]:
    """Tells an optimizer's `WarmupLinearDecay`, if it has one, how many steps the training has.

    Args:
      optimizer: a Keras optimizer, which may be a `LossScaleOptimizer`.
      batches: the number of batches of the training, or None if it is unknown. The rate then never falls, and a warning
        says so.
      first_batch: the number of batches that the optimizer has seen before (`keras_internals.batches_seen`).

    Returns:
      The number of steps that the optimizer has made before, and the number of steps of the training, or None.
    """
    schedule, accumulated = keras_internals.learning_rate_schedule(optimizer), batches_per_step(optimizer)
    steps = None if batches is None else -(-batches // accumulated)
    if isinstance(schedule, WarmupLinearDecay):
        if steps is None:
            warnings.warn(
                "the data set does not say how many batches it has, so the learning rate stays at its peak after the warm-up; "
                "pass steps_per_epoch or total_steps, or apply tf.data.experimental.assert_cardinality, for it to fall to 0",
                stacklevel=3,
            )
        schedule.start(first_batch, steps, accumulated)
    return first_batch // accumulated, steps


@keras.saving.register_keras_serializable("kbert")
class AdamW(WholeBatchGradients, keras.optimizers.AdamW):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017) that leaves biases and layer norms undecayed.

    >>> optimizer = AdamW(learning_rate=5e-5)

    The update is TensorFlow's fused `ResourceApplyAdam`. Keras's own update, in single ops, takes a tenth of a fine-tuning step
    (MiniLM, batches of 32 tweets, two CPU cores).

    Args:
      learning_rate: a number or a schedule.
      weight_decay: the share of a weight that a step at rate 1 takes off.
      epsilon: a small number that is added to the root of the mean squared gradient.
      global_clipnorm: the norm to which the gradients of all variables together are clipped. It is off if another clipping
        (`clipnorm` or `clipvalue`) is given.
      **kwargs: the other arguments of `keras.optimizers.AdamW`.

    Raises:
      ValueError: `amsgrad` is given, which is not part of BERT's AdamW.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 5e-5,
        weight_decay: float | None = 0.01,
        epsilon: float = 1e-6,
        global_clipnorm: float | None = 1.0,
        **kwargs: Any,
    ) -> None:
        if any(kwargs.get(name) is not None for name in ("clipnorm", "clipvalue")):
            global_clipnorm = None
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            epsilon=epsilon,
            global_clipnorm=global_clipnorm,
            **kwargs,
        )
        if self.amsgrad:
            raise ValueError("amsgrad is not part of BERT's AdamW; use keras.optimizers.AdamW(amsgrad=True)")
        self.exclude_from_weight_decay(var_names=list(NOT_DECAYED))

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates a variable and its moments by one step.

        Args:
          gradient: the gradient, of the variable's shape.
          variable: a trainable variable.
          learning_rate: the rate of this step, a scalar.
        """
        mean, square = keras_internals.moments(self, variable)
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=mean.value.handle,
            v=square.value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, dtype), step),
            lr=tf.cast(learning_rate, dtype),
            beta1=tf.cast(self.beta_1, dtype),
            beta2=tf.cast(self.beta_2, dtype),
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(tf.convert_to_tensor(gradient), dtype),
        )


@keras.saving.register_keras_serializable("kbert")
class Lamb(WholeBatchGradients, keras_internals.DecaysInItsStep, keras.optimizers.Lamb):
    """LAMB (You et al. 2019, algorithm 2), for pretraining with large batches.

    >>> optimizer = Lamb(learning_rate=1e-3)

    Biases and layer norms are neither decayed nor rescaled. As in the paper, the decay is part of the step whose size is set by
    the weights' norm. `keras.optimizers.Lamb` decays the weights after the step.

    Args:
      learning_rate: a number or a schedule.
      weight_decay: the share of a weight that is added to the update before it is rescaled.
      epsilon: a small number that is added to the root of the mean squared gradient.
      global_clipnorm: the norm to which the gradients of all variables together are clipped.
      **kwargs: the other arguments of `keras.optimizers.Lamb`.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1e-3,
        weight_decay: float | None = 0.01,
        epsilon: float = 1e-6,
        global_clipnorm: float | None = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate=learning_rate, weight_decay=weight_decay, epsilon=epsilon, global_clipnorm=global_clipnorm, **kwargs
        )
        self.exclude_from_weight_decay(var_names=list(NOT_DECAYED))

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Updates a variable and its moments by one step.

        Args:
          gradient: the gradient, of the variable's shape.
          variable: a trainable variable.
          learning_rate: the rate of this step, a scalar.
        """
        dtype = variable.dtype
        first, second = keras_internals.moments(self, variable)
        gradient = tf.cast(tf.convert_to_tensor(gradient), dtype)
        step = tf.cast(self.iterations + 1, dtype)
        self.assign_add(first, (gradient - first) * (1 - self.beta_1))
        self.assign_add(second, (tf.square(gradient) - second) * (1 - self.beta_2))
        mean = first / (1 - tf.pow(tf.cast(self.beta_1, dtype), step))
        deviation = tf.sqrt(second / (1 - tf.pow(tf.cast(self.beta_2, dtype), step)))
        update, ratio = mean / (deviation + self.epsilon), tf.ones([], dtype)
        if keras_internals.is_decayed(self, variable):
            update += tf.cast(self.weight_decay or 0.0, dtype) * variable
            of_weights, of_update = tf.norm(variable), tf.norm(update)
            ratio = tf.where((of_weights > 0) & (of_update > 0), of_weights / of_update, 1.0)
        self.assign_sub(variable, tf.cast(learning_rate, dtype) * ratio * update)


def chosen_optimizer(
    optimizer: Any, learning_rate: Any = None, gradient_accumulation_steps: int | None = None
) -> keras.optimizers.Optimizer:
    """Returns the optimizer that the arguments of `compile` ask for.

    >>> round(float(chosen_optimizer("adamw", 2e-5).learning_rate), 7)
    2e-05

    Args:
      optimizer: `"auto"` for AdamW and `"lamb"` for LAMB, both with warm-up and linear decay; the name of an optimizer of
        Keras's; or a Keras optimizer.
      learning_rate: the peak of the rate for `"auto"` and `"lamb"`, 5e-5 by default; the rate itself for an optimizer of
        Keras's, by default that optimizer's own. Or a schedule.
      gradient_accumulation_steps: the number of batches whose mean gradient makes one step, or None for one.

    Raises:
      ValueError: a rate or a number of steps is out of its range, or is given beside a Keras optimizer, which has its own.
    """
    if gradient_accumulation_steps is not None:
        # Keras takes numbers from 2 on, and 1 is no accumulation.
        gradient_accumulation_steps = whole_number("gradient_accumulation_steps", gradient_accumulation_steps)
        gradient_accumulation_steps = None if gradient_accumulation_steps == 1 else gradient_accumulation_steps
    is_schedule = isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule)
    if learning_rate is not None and not is_schedule:
        learning_rate = number("learning_rate", learning_rate, above=0)
    if isinstance(optimizer, str) and optimizer in ("auto", "lamb"):
        rate = learning_rate if is_schedule else WarmupLinearDecay(5e-5 if learning_rate is None else learning_rate)
        kind = AdamW if optimizer == "auto" else Lamb
        return kind(learning_rate=rate, gradient_accumulation_steps=gradient_accumulation_steps)
    given = {"learning_rate": learning_rate, "gradient_accumulation_steps": gradient_accumulation_steps}
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(optimizer, str):
        return keras.optimizers.get({"class_name": optimizer, "config": given})
    if given:
        raise ValueError(f"give {' and '.join(given)} to your optimizer: {type(optimizer).__name__}({next(iter(given))}=...)")
    if optimizer is None:
        raise ValueError('optimizer should be "auto", "lamb", the name of one of Keras\'s optimizers or an optimizer, got None')
    return keras.optimizers.get(optimizer)
