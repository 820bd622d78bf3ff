"""Makes the last step of a training that accumulates gradients over batches, and drops gradients that no step was made of."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import tensorflow as tf

from kbert.training import keras_internals


def batches_per_step(optimizer: keras.optimizers.Optimizer) -> int:
    """Returns the number of batches whose gradients make one step of an optimizer; 1 if it does not accumulate."""
    return keras_internals.unscaled(optimizer).gradient_accumulation_steps or 1


def waiting_batches(optimizer: keras.optimizers.Optimizer) -> int:
    """Returns the number of batches since the last step, whose gradients still wait for one."""
    return keras_internals.batches_seen(optimizer) % batches_per_step(optimizer)


def drop_waiting(optimizer: keras.optimizers.Optimizer) -> None:
    """Drops the gradients that wait for a step, so that those of a stopped training have no part in the next one."""
    waiting = waiting_batches(optimizer)
    if waiting:
        for _, gradient in keras_internals.waiting_gradients(optimizer):
            gradient.assign(tf.zeros_like(gradient.value))
        keras_internals.count_batches(optimizer, keras_internals.batches_seen(optimizer) - waiting)


def step_of_waiting(model: keras.Model) -> None:
    """Makes a step with the mean of the waiting gradients; does nothing if there are none.

    Keras makes a step with the mean over `gradient_accumulation_steps` batches when the last of these batches comes. The
    gradient that is given here as the last one turns this mean into the mean over the batches that there were.

    Args:
      model: a compiled model, whose optimizer was built.
    """
    optimizer = keras_internals.unscaled(model.optimizer)
    waiting, steps = waiting_batches(optimizer), batches_per_step(optimizer)
    if not waiting:
        return
    replicas = model.distribute_strategy.num_replicas_in_sync  # their gradients are summed
    of_variables = [
        (variable, tf.convert_to_tensor(gradient) * ((steps / waiting - 1) / replicas))
        for variable, gradient in keras_internals.waiting_gradients(optimizer)
        if np.any(gradient.numpy())  # a variable without gradients takes no part in a step
    ]
    keras_internals.count_batches(optimizer, keras_internals.batches_seen(optimizer) - waiting + steps - 1)
    if of_variables:
        variables, gradients = zip(*of_variables)
        model.distribute_strategy.run(lambda: optimizer.apply(list(gradients), list(variables)))


def warn_of_too_few(optimizer: keras.optimizers.Optimizer, batches: int | None) -> None:
    """Warns if a training has fewer batches than one step of its optimizer takes; `batches` is None if it is unknown."""
    steps = batches_per_step(optimizer)
    if batches is not None and batches < steps:
        warnings.warn(
            f"gradient_accumulation_steps={steps} makes one step of {steps} batches, and the whole training has {batches}: the "
            "gradients of all of them make a single step; give a smaller number, or more epochs",
            stacklevel=4,
        )


class LastStep(keras.callbacks.Callback):
    """A callback that makes the last step of a training, if its number of batches is no multiple of `batches_per_step`.

    The step comes before the validation of the last epoch, so that the last figures and files are those after all steps.

    Args:
      last_epoch: the number of the training's last epoch.
    """

    def __init__(self, last_epoch: int) -> None:
        super().__init__()
        self.last_epoch, self.epoch = last_epoch, -1

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch

    def on_test_begin(self, logs: dict | None = None) -> None:
        if self.epoch == self.last_epoch:
            step_of_waiting(self.model)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if epoch == self.last_epoch:
            step_of_waiting(self.model)
