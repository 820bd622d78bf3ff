"""Runs a SavedModel in the C++ session that TF Serving uses, where nothing in Python checks the inputs."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from kbert.engines.saved_model import without_lines_of_tensorflow


class RawSession:
    """A C++ session that runs the signatures of a SavedModel. It does not compare the shapes of inputs with the signature.

    Args:
      folder: the SavedModel's folder.
    """

    def __init__(self, folder: str | pathlib.Path) -> None:
        import tensorflow_text  # noqa: F401 - registers the tokenization ops

        self._session = tf.compat.v1.Session(graph=tf.Graph())
        # TensorFlow logs that this loader is deprecated, and there is no other for a session.
        with self._session.graph.as_default(), without_lines_of_tensorflow():
            loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
        self.definitions: dict[str, Any] = {
            name: definition for name, definition in loaded.signature_def.items() if not name.startswith("__saved_model_")
        }
        self._callables: dict[tuple[str, ...], Callable[..., list[np.ndarray]]] = {}

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature by name.

        Args:
          signature: the name of the signature.
          inputs: an array of any shape for each input. Strings are arrays of bytes objects.
          outputs: the names of the outputs to compute; all by default.

        Raises:
          tf.errors.OpError: the graph refuses the inputs.
        """
        definition = self.definitions[signature]
        names = sorted(definition.outputs if outputs is None else outputs)
        key = (signature, *names)
        if key not in self._callables:
            options = config_pb2.CallableOptions()
            options.feed.extend(definition.inputs[name].name for name in sorted(definition.inputs))
            options.fetch.extend(definition.outputs[name].name for name in names)
            self._callables[key] = self._session._make_callable_from_options(options)
        values = self._callables[key](*(inputs[name] for name in sorted(definition.inputs)))
        return dict(zip(names, values))

    def close(self) -> None:
        """Frees the session and its variables."""
        self._callables.clear()
        self._session.close()
