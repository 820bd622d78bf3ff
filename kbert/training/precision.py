"""Prepares training in half precision: scales the loss, and refuses weights that cannot be trained."""

from __future__ import annotations

from typing import Any

import keras

# The first factor of a loss in float16. With Keras's own, 32768, a gradient of 2 overflows and the first steps are skipped.
# Keras doubles the factor after 2000 finite steps.
LOSS_SCALE = 1024.0


def with_loss_scale(optimizer: Any, model: keras.Model) -> Any:
    """Returns an optimizer that scales the loss if the model computes in float16, and otherwise the optimizer itself.

    Small gradients are 0 in float16 unless the loss is scaled. Keras does so by itself for a model whose own policy is
    `"mixed_float16"`, but not for one that holds such a model: a task with an encoder, a distiller with a student.

    Args:
      optimizer: a Keras optimizer, or the name of one.
      model: the model whose gradients the optimizer gets: a task's encoder.
    """
    if model.compute_dtype != "float16" or not optimizer:
        return optimizer
    optimizer = keras.optimizers.get(optimizer)
    is_scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if is_scaled:
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=LOSS_SCALE, name="loss_scale_optimizer")


def check_trainable_precision(model: keras.Model) -> None:
    """Raises a ValueError if a model's weights are in half precision, where rounding would undo a step of training.

    Args:
      model: a task's encoder.
    """
    policy = model.dtype_policy
    if policy.variable_dtype in ("float16", "bfloat16"):
        raise ValueError(
            f"weights in {policy.variable_dtype} are for answering: a step of training is smaller than the distance to the "
            f'next number and would change nothing. To train, build it with dtype="mixed_{policy.variable_dtype}", which '
            f"computes in {policy.variable_dtype} and keeps the weights in float32"
        )


def check_float32(model: keras.Model, runtime: str) -> None:
    """Raises a ValueError if a model computes in half precision, of which `runtime`, a file or a program, lacks some ops.

    Args:
      model: a task's encoder.
      runtime: the name of the runtime, for the error.
    """
    if model.compute_dtype in ("float16", "bfloat16"):
        raise ValueError(
            f"{runtime} computes in float32, and this task in {model.compute_dtype}: save it with save_to_preset and open it "
            'with from_preset(folder, dtype="float32")'
        )
