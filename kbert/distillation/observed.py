"""What a loss compares of two networks: their outputs, and the hidden states, attention and values of some layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from kbert.tasks.task import Task


def observe(
    task: Task, inputs: dict[str, tf.Tensor], training: bool | None, layers: Sequence[tuple[str, int]]
) -> dict[str, tf.Tensor]:
    """Returns a task's outputs and some tensors of its layers.

    Args:
      task: a teacher or a student.
      inputs: the packed dictionary.
      training: whether dropout is on.
      layers: `(name, layer)` of each tensor, where `name` is one of the encoder's outputs by layer: `"hidden_states"`,
        `"attentions"`, `"attention_scores"` or `"attention_values"`.

    Returns:
      A flat dictionary of tensors. `"outputs"`, or `"outputs/<name>"` of a task with several outputs, is what calling the task
      gives. `"<name>/<layer>"` is a layer's tensor in float32.
    """
    by_layer: dict[str, Any] = {}
    if not layers:
        outputs = task(inputs, training=training)
    else:
        by_layer = task.encode_tokens(inputs, training, output_hidden_states=True, output_attentions=True)
        outputs = task.head_outputs(by_layer, inputs, training)
    if isinstance(outputs, dict):
        observed = {f"outputs/{name}": value for name, value in outputs.items()}
    else:
        observed = {"outputs": outputs}
    return {**observed, **{f"{name}/{layer}": tf.cast(by_layer[name][layer], tf.float32) for name, layer in layers}}


def outputs_in(observed: dict[str, tf.Tensor]) -> tf.Tensor | dict[str, tf.Tensor]:
    """Returns the outputs that `observe` put into its flat dictionary, as calling the task gives them."""
    if "outputs" in observed:
        return observed["outputs"]
    return {name.removeprefix("outputs/"): value for name, value in observed.items() if name.startswith("outputs/")}
