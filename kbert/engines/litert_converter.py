"""Functions of tensors become the bytes of a LiteRT model."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from kbert.engines.saved_model import save, without_lines_of_tensorflow

QUANTIZATIONS = (None, "float16", "int8", "int8-static")


def convert(
    functions: dict[str, tuple[Callable[..., Any], dict[str, tf.TensorSpec]]],
    weights: Sequence[tf.Variable] = (),
    quantize: str | None = None,
) -> bytes:
    """Converts functions to one LiteRT model with a signature for each.

    Args:
      functions: a dictionary from the name of a signature to its function and the function's specification. A function takes
        one dictionary of tensors and returns one; the specification is a dictionary of `tf.TensorSpec` with the same keys.
      weights: the variables that the functions read. The signatures share one copy of them.
      quantize: None; `"float16"`, which stores weights in half the bytes; `"int8"`, which stores weights in a quarter of the
        bytes and finds the ranges of products as the model runs; or `"int8-static"`, for functions whose products are
        fake-quantized already.

    Returns:
      The bytes of a `.tflite` file.
    """
    module = tf.Module()
    module.weights = list(weights)
    # AutoGraph would read the functions' source again, and take other code where a file has changed since its import.
    module.functions = {
        name: tf.function(function, input_signature=[spec], autograph=False) for name, (function, spec) in functions.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        # Only a conversion from a SavedModel gives several signatures on one copy of the weights.
        save(module, pathlib.Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        converter.allow_custom_ops = True  # tensorflow-text's ops
        if quantize:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        with without_lines_of_tensorflow():
            return converter.convert()
