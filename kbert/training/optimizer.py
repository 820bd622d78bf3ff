"""AdamW as BERT is fine-tuned with it, and its learning-rate schedule."""

import warnings

import keras
import tensorflow as tf

from kbert.training import keras_internals
from kbert.training.distribute import WholeBatchGradients

NOT_DECAYED = ("bias", "gamma", "beta")


@keras.saving.register_keras_serializable("kbert")
class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to the peak, then falls linearly to 0 (Devlin et al. 2018, appendix A.2).

    >>> schedule = WarmupLinearDecay(1e-3, total_steps=100)
    >>> [round(float(schedule(step)), 6) for step in (0, 9, 55, 100)]
    [0.0001, 0.001, 0.0005, 0.0]

    Args:
      peak: the highest rate.
      total_steps: optimizer steps from the first to rate 0; `None` until `fit` sets it by `start`. While it is
        unknown the rate rises over 100 steps and stays.
      warmup_fraction: the share of the steps that rise.
    """

    def __init__(self, peak=5e-5, total_steps=None, warmup_fraction=0.1, first_step=0):
        if not 0 <= warmup_fraction < 1:
            raise ValueError(f"warmup_fraction should be in [0, 1), got {warmup_fraction}")
        self.peak = peak
        self.warmup_fraction = warmup_fraction
        # Variables, so that a second fit of another length does not trace the train step again.
        with tf.init_scope():
            self._first = tf.Variable(first_step, dtype=tf.int64, trainable=False)
            self._total = tf.Variable(total_steps or 0, dtype=tf.int64, trainable=False)
            self._batches = tf.Variable(1, dtype=tf.int64, trainable=False)

    def start(self, first_step, total_steps, batches_per_step=1):
        """Lays the schedule over the next `total_steps` steps; `None` if their number is unknown.

        Where gradients are accumulated, Keras counts batches: `first_step` is then their number, and `batches_per_step` make a step.
        """
        self._first.assign(first_step)
        self._total.assign(total_steps or 0)
        self._batches.assign(batches_per_step)

    def __call__(self, step):
        step = tf.cast((tf.cast(step, tf.int64) - self._first) // self._batches, tf.float32)
        total = tf.cast(self._total, tf.float32)
        warmup = tf.where(total > 0, tf.maximum(tf.round(total * self.warmup_fraction), 1.0), 100.0)
        falling = tf.where(total > 0, (total - step) / tf.maximum(total - warmup, 1.0), 1.0)
        return self.peak * tf.clip_by_value(tf.minimum((step + 1.0) / warmup, falling), 0.0, 1.0)

    def get_config(self):
        return {
            "peak": self.peak,
            "total_steps": int(self._total) or None,
            "warmup_fraction": self.warmup_fraction,
            "first_step": int(self._first),
        }


def start_schedule(optimizer, batches, first_step):
    """Tells an optimizer's `WarmupLinearDecay`, if it has one, how many batches there will be; None if nobody knows."""
    schedule = keras_internals.learning_rate_schedule(optimizer)
    if not isinstance(schedule, WarmupLinearDecay):
        return
    if batches is None:
        warnings.warn(
            "the data set does not say how many batches it has, so the learning rate stays at its peak after the "
            "warm-up; pass steps_per_epoch or total_steps, or apply tf.data.experimental.assert_cardinality, for it to fall to 0",
            stacklevel=3,
        )
    accumulated = optimizer.gradient_accumulation_steps or 1
    schedule.start(first_step, batches and max(1, batches // accumulated), accumulated)


@keras.saving.register_keras_serializable("kbert")
class AdamW(WholeBatchGradients, keras.optimizers.AdamW):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017) that leaves biases and layer norms undecayed.

    >>> optimizer = AdamW(learning_rate=5e-5)

    Arguments are those of `keras.optimizers.AdamW`, with BERT's defaults. The update is TensorFlow's fused one: a tenth
    of a fine-tuning step on a CPU goes into Keras's own (FACTS S6).
    """

    def __init__(self, learning_rate=5e-5, weight_decay=0.01, epsilon=1e-6, global_clipnorm=1.0, **kwargs):
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

    def update_step(self, gradient, variable, learning_rate):
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
    """LAMB (You et al. 2019, algorithm 2), for pretraining with large batches; biases and layer norms are neither decayed nor rescaled.

    >>> optimizer = Lamb(learning_rate=1e-3)

    Arguments are those of `keras.optimizers.Lamb`, with BERT's defaults. As in the paper the decay is part of the step whose size is set by
    the weights' norm; Keras's own takes it off afterwards.
    """

    def __init__(self, learning_rate=1e-3, weight_decay=0.01, epsilon=1e-6, global_clipnorm=1.0, **kwargs):
        super().__init__(
            learning_rate=learning_rate, weight_decay=weight_decay, epsilon=epsilon, global_clipnorm=global_clipnorm, **kwargs
        )
        self.exclude_from_weight_decay(var_names=list(NOT_DECAYED))

    def update_step(self, gradient, variable, learning_rate):
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
