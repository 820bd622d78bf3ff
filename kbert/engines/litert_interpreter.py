"""The bytes of a LiteRT model become an interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def interpreter_maker() -> Callable[[bytes, int], Any]:
    """Returns a function from a model's bytes and a number of threads to an interpreter with tensorflow-text's ops.

    Raises:
      ImportError: LiteRT is not installed. So that this is known before a model is converted, the function is a step by itself.
    """
    try:
        from ai_edge_litert.interpreter import InterpreterWithCustomOps
    except ImportError as error:
        raise ImportError('freeze() computes with LiteRT: pip install "kbert[litert]"') from error
    import tensorflow_text

    registerers = tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS
    return lambda content, threads: InterpreterWithCustomOps(
        model_content=content, num_threads=threads, custom_op_registerers=registerers
    )
