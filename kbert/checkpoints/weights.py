"""Copies weights between a checkpoint and the object that owns them, by a table of rules.

An owner is anything with variables at the rules' dotted paths. No class is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from kbert.checkpoints.checkpoint import Checkpoint
from kbert.checkpoints.names import OF_HEADS, Config, Family, Rule


def weight(owner: Any, path: str) -> Any:
    """Returns the variable at a dotted path such as `blocks.3.attention.qkv.kernel`.

    Args:
      owner: the object whose attributes, or items for a number, are followed.
      path: the names of the attributes with dots between them.
    """
    for name in path.split("."):
        owner = owner[int(name)] if name.isdigit() else getattr(owner, name)
    return owner


def load_weights(owner: Any, rules: Iterable[Rule], checkpoint: Checkpoint) -> tuple[set[str], list[str]]:
    """Copies weights from a checkpoint into their owner, tensor by tensor.

    Args:
      owner: what has variables at the rules' paths.
      rules: which tensors fill which variables.
      checkpoint: where the tensors are.

    Returns:
      The names of the tensors that were read, and the paths of our weights that the checkpoint lacks. Those stay as they are.

    Raises:
      ValueError: a tensor has another shape than its variable, or holds integers.
    """
    import ml_dtypes  # noqa: F401 - NumPy knows the names of its dtypes after this import
    import tensorflow as tf

    used: set[str] = set()
    missing: list[str] = []
    # The largest first, while the other matrices of an empty model take no memory yet.
    for rule in sorted(rules, key=lambda rule: rule.path != "embeddings.tokens"):
        if not all(name in checkpoint for name in rule.names):
            missing.append(rule.path)
            continue
        variable = weight(owner, rule.path)
        expected = _stored_shape(variable, rule)
        for name in rule.names:
            if checkpoint.shape(name) != expected:
                raise ValueError(
                    f"{checkpoint.path}: {name} has shape {checkpoint.shape(name)}, the configuration asks for {expected}"
                )
            if np.dtype(checkpoint.dtype(name)).kind in "biu":  # a quantized file has its scales elsewhere
                raise ValueError(
                    f"{checkpoint.path}: {name} is stored as {checkpoint.dtype(name)}, which is quantized; kbert reads "
                    "floating point: open the checkpoint that was quantized"
                )
        value = checkpoint.tensor(*rule.names)
        # raw_ops read the checkpoint's own buffer (tf.convert_to_tensor would copy it first); the variable keeps their result.
        value = tf.raw_ops.Transpose(x=value, perm=[1, 0]) if rule.transposed else tf.raw_ops.DeepCopy(x=value)
        variable.value.assign(tf.cast(value, variable.value.dtype))
        used.update(rule.names)
    return used, missing


def fits(owner: Any, rules: Iterable[Rule], checkpoint: Checkpoint) -> bool:
    """Returns whether all tensors of the rules that the checkpoint holds have the shapes of the owner's variables.

    Args:
      owner: what has variables at the rules' paths.
      rules: which tensors would fill which variables.
      checkpoint: where the tensors are. Tensors that it lacks do not count.
    """
    return all(
        checkpoint.shape(name) == _stored_shape(weight(owner, rule.path), rule)
        for rule in rules
        for name in rule.names
        if name in checkpoint
    )


def _stored_shape(variable: Any, rule: Rule) -> tuple[int, ...]:
    """Returns the shape of each of a rule's tensors in the file."""
    *leading, outputs = variable.shape
    shape = (*leading, outputs // len(rule.names))
    return shape[::-1] if rule.transposed else shape


def weights_of(owner: Any, rules: Iterable[Rule], prefix: str = "") -> dict[str, np.ndarray]:
    """Returns an owner's weights under the names and in the layout of a format.

    Args:
      owner: what has variables at the rules' paths.
      rules: which tensors are made of which variables.
      prefix: what each name begins with.
    """
    tensors = {}
    for rule in rules:
        value = np.asarray(weight(owner, rule.path).numpy())
        for name, slice_ in zip(rule.names, np.split(value, len(rule.names), -1)):
            tensors[prefix + name] = np.ascontiguousarray(slice_.T if rule.transposed else slice_)
    return tensors


def initialize(owner: Any, paths: Sequence[str], first_values: Callable[[tuple[int, ...], Any], Any]) -> None:
    """Gives first values to the matrices of weights that a checkpoint lacks. Biases and norms stay as they are.

    Args:
      owner: what has variables at the paths.
      paths: dotted paths, as `load_weights` returns them.
      first_values: a function of a shape and a dtype to an array.
    """
    for path in paths:
        variable = weight(owner, path)
        if len(variable.shape) > 1:
            variable.assign(first_values(variable.shape, variable.dtype))


def check_left_over(checkpoint: Checkpoint, used: set[str], config: Config, family: Family) -> None:
    """Raises an error for weights that nothing has read, since the model would compute something else without them.

    The head of another task may be left over, and so may the pooler if the encoder has none.

    Args:
      checkpoint: where the tensors are.
      used: the names of the tensors that were read.
      config: the encoder's configuration.
      family: the names of the format.

    Raises:
      ValueError: a tensor is left over; the first one is named.
    """
    left = sorted(name for name in checkpoint.names() - used if not OF_HEADS.match(name))
    if not config.add_pooling_layer:
        pooler = {name for rule in family.pooler for name in rule.names}
        left = [name for name in left if name not in pooler and not name.startswith("pooler")]
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise ValueError(
            f"{checkpoint.path} holds a weight that this architecture does not have: {left[0]}{more}; "
            "does config.json belong to it?"
        )
