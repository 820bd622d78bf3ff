"""Writes functions of tensors as a SavedModel for inference, without TensorFlow's warnings about gradients."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import threading
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

GRADIENT = "_gradient_op_type"  # the attribute of an op that names its own gradient


def save(module: tf.Module, folder: pathlib.Path) -> None:
    """Writes a SavedModel of a module, whose `functions` are the signatures.

    The functions' own gradients are not written, and neither are the names of these gradients: for a name without its gradient,
    TensorFlow would warn in each process that opens the folder. `fingerprint.pb` is removed, because it no longer fits the
    changed file and TensorFlow has no public function that writes it.

    Args:
      module: owns the weights. `functions` is a dictionary of `tf.function`s.
      folder: the folder to write.
    """
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with without_lines_of_tensorflow():
        tf.saved_model.save(module, str(folder), signatures=dict(module.functions), options=options)
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in model.meta_graphs:
        functions = graph.graph_def.library.function
        for node in [*graph.graph_def.node, *(node for function in functions for node in function.node_def)]:
            node.attr.pop(GRADIENT, None)
    path.write_bytes(model.SerializeToString())
    (folder / "fingerprint.pb").unlink(missing_ok=True)


@contextlib.contextmanager
def without_lines_of_tensorflow() -> Iterator[None]:
    """Hides the messages below the level of an error that TensorFlow's Python code logs in this thread, during the block."""
    thread = threading.get_ident()

    def is_wanted(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno >= logging.ERROR

    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    for logger in loggers:
        logger.addFilter(is_wanted)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_wanted)
