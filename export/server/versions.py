"""A loaded version of a model: the C++ session of its folder, warmed up, and the requests that use it."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from kbert.export.raw_session import RawSession
from kbert.export.server.batch_queues import BatchThreads
from kbert.export.server.calls import Session
from kbert.export.server.errors import of_session
from kbert.export.server.joined_requests import JoiningSession
from kbert.export.server.json_requests import Arrays
from kbert.export.server.settings import PER_MODEL, BatchingParameters, read_batching_parameters


class Joining(NamedTuple):
    """How a server joins requests.

    Args:
      parameters: the parameters of all models.
      per_model: whether a version's own parameters act instead. A version without a file of them is asked without joining.
      threads: the threads that run joined requests.
    """

    parameters: BatchingParameters
    per_model: bool
    threads: BatchThreads

    def parameters_of(self, folder: pathlib.Path) -> BatchingParameters | None:
        """Returns the parameters of a version, or None if its requests are not joined.

        Source: tensorflow_serving/servables/tensorflow/bundle_factory_util.cc, GetPerModelBatchingParams.

        Args:
          folder: the folder of the version.
        """
        if not self.per_model:
            return self.parameters
        path = folder / PER_MODEL
        return read_batching_parameters(path) if path.is_file() else None


class GraphSession:
    """The C++ session of a SavedModel, with errors that a server can answer.

    Args:
      folder: the folder of the SavedModel.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._session = RawSession(folder)
        self.definitions = self._session.definitions

    def run(self, signature: str, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Returns outputs of a signature by name, all of them by default.

        Raises:
          ServingError: the graph refuses the inputs or fails.
        """
        try:
            return self._session.run(signature, inputs, outputs)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise of_session(error) from None

    def close(self) -> None:
        """Frees the session and its variables."""
        self._session.close()


class Version:
    """A loaded version of a model.

    Args:
      name: the name of the model.
      folder: the folder of the SavedModel, named by the number of the version.
      joining: how requests are joined; None for each by itself.

    Raises:
      ServingError: a recorded warm-up request fails.
      ValueError: the batching parameters of the version are wrong.
    """

    def __init__(self, name: str, folder: pathlib.Path, joining: Joining | None = None) -> None:
        from kbert.export.server.warm_up import replay  # it imports what the extra `serving` brings

        self.name, self.number = name, int(folder.name)
        parameters = joining.parameters_of(folder) if joining else None
        self._graph = GraphSession(folder)
        self._joined = JoiningSession(self._graph, parameters, joining.threads) if joining and parameters else None
        self.session: Session = self._joined or self._graph
        self._requests, self._closed, self._lock = 0, False, threading.Lock()
        try:
            replay(self.session, folder)
        except Exception:
            self._free()
            raise

    def begin(self) -> bool:
        """Returns whether a request may use the version, and counts it until `end`."""
        with self._lock:
            self._requests += not self._closed
            return not self._closed

    def end(self) -> None:
        """Ends the use by a request."""
        with self._lock:
            self._requests -= 1
            is_last = self._closed and not self._requests
        if is_last:
            self._free()

    def close(self) -> None:
        """Frees the version as soon as no request uses it."""
        with self._lock:
            is_unused = not self._requests and not self._closed
            self._closed = True
        if is_unused:
            self._free()

    def _free(self) -> None:
        """Frees the session."""
        if self._joined:
            self._joined.close()
        self._graph.close()
