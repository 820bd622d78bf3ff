"""Models in their folders of versions: the newest is loaded, watched for newer ones, and answers requests in batches."""

from __future__ import annotations

import concurrent.futures
import pathlib
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kbert.export.server.requests import PREDICT, ServingError, as_array

MOST_ROWS = 64  # of a batch
WAIT = 0.002  # seconds for others to join a batch

Arrays = dict[str, np.ndarray]  # inputs or outputs by name


class _Waiting(NamedTuple):
    """A checked request that waits for a batch."""

    signature: str
    inputs: Arrays
    rows: int
    answer: concurrent.futures.Future[Arrays]


class Version:
    """A loaded version of a model. A thread of its own answers its requests in batches.

    Args:
      name: the name of the model.
      folder: the folder of the SavedModel, named by the number of the version.
    """

    def __init__(self, name: str, folder: pathlib.Path) -> None:
        import tensorflow_text  # noqa: F401 - registers the tokenization ops

        self.name, self.number = name, int(folder.name)
        self._model = tf.saved_model.load(str(folder))
        content = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        self.definitions = {
            key: value for key, value in content.meta_graphs[0].signature_def.items() if not key.startswith("__saved_model_")
        }
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closed, self._lock = False, threading.Lock()
        self._warm_up()
        threading.Thread(target=self._answer_batches, daemon=True).start()

    def _warm_up(self) -> None:
        """Runs each signature that takes strings once, so that no client waits for its first trace."""
        for key, definition in self.definitions.items():
            if definition.method_name == PREDICT and all(
                info.dtype == tf.string.as_datatype_enum for info in definition.inputs.values()
            ):
                self._run(key, {name: np.array([b"warm up"], object) for name in definition.inputs})

    def definition(self, signature: str | None, method: str | None = None) -> tuple[str, Any]:
        """Returns the name and the `SignatureDef` of a signature.

        Args:
          signature: its name; None or an empty string for `serving_default`.
          method: the method name that it should have, one of `PREDICT`, `CLASSIFY` and `REGRESS`; None for any.

        Raises:
          ServingError: there is no such signature, or it has another method.
        """
        signature = signature or "serving_default"
        if signature not in self.definitions:
            raise ServingError("INVALID_ARGUMENT", f'Serving signature name: "{signature}" not found in signature def')
        definition = self.definitions[signature]
        if method and definition.method_name != method:
            raise ServingError(
                "INVALID_ARGUMENT", f"Expected {method} as the method of signature {signature}. Was: {definition.method_name}"
            )
        return signature, definition

    def checked(self, definition: Any, inputs: dict[str, Any]) -> Arrays:
        """Returns inputs as arrays of the signature's types and ranks, all with the same number of rows.

        Args:
          definition: the `SignatureDef`.
          inputs: arrays or JSON's lists by the name of the input.

        Raises:
          ServingError: a name, a type, a rank or a number of rows does not fit.
        """
        missing, unknown = sorted(set(definition.inputs) - set(inputs)), sorted(set(inputs) - set(definition.inputs))
        if missing or unknown:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(inputs)}!={len(definition.inputs)}; missing {missing}, "
                f"unknown {unknown}; the inputs are {sorted(definition.inputs)}",
            )
        arrays = {}
        for name, value in inputs.items():
            info = definition.inputs[name]
            dtype, rank = tf.dtypes.as_dtype(info.dtype), len(info.tensor_shape.dim)
            array = as_array(value, dtype, name)
            if array.ndim != rank:
                raise ServingError("INVALID_ARGUMENT", f"input {name} should have {rank} axes, got shape {list(array.shape)}")
            arrays[name] = array
        if len({array.shape[0] for array in arrays.values()}) > 1:
            raise ServingError("INVALID_ARGUMENT", f"inputs differ in size: { {n: a.shape[0] for n, a in arrays.items()} }")
        return arrays

    def answer(self, signature: str | None, inputs: dict[str, Any], method: str | None = None) -> Arrays:
        """Runs a signature, in one batch with other requests that wait if all inputs have one axis.

        Args:
          signature: its name; None or an empty string for `serving_default`.
          inputs: arrays or JSON's lists by the name of the input.
          method: the method name that the signature should have; None for any.

        Returns:
          The outputs by name.

        Raises:
          ServingError: the request does not fit the signature, or the graph refuses it.
        """
        signature, definition = self.definition(signature, method)
        arrays = self.checked(definition, inputs)
        rows = next(iter(arrays.values())).shape[0]
        if rows == 0 or rows >= MOST_ROWS or any(array.ndim > 1 for array in arrays.values()):
            return self._run(signature, arrays)
        future: concurrent.futures.Future[Arrays] = concurrent.futures.Future()
        with self._lock:
            closed = self._closed  # a newer version answers by now, but this request had come to this one
            if not closed:
                self._queue.put(_Waiting(signature, arrays, rows, future))
        return self._run(signature, arrays) if closed else future.result()

    def _run(self, signature: str, arrays: Arrays) -> Arrays:
        """Runs a signature on checked inputs."""
        try:
            outputs = self._model.signatures[signature](**{name: tf.constant(array) for name, array in arrays.items()})
        except (tf.errors.InvalidArgumentError, tf.errors.DataLossError, ValueError) as error:
            raise ServingError("INVALID_ARGUMENT", what_went_wrong(error)) from None
        return {name: output.numpy() for name, output in outputs.items()}

    def _answer_batches(self) -> None:
        """Answers requests until the version is closed: the work of the version's thread."""
        held = None
        while True:
            first = held or self._queue.get()
            if first is None:
                return
            held, batch, rows, until = None, [first], first.rows, time.monotonic() + WAIT
            while rows < MOST_ROWS:
                try:
                    request = self._queue.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if request is None:
                    self._queue.put(None)
                    break
                if request.signature != first.signature:  # another signature begins a batch of its own
                    held = request
                    break
                batch.append(request)
                rows += request.rows
            self._answer_batch(batch)

    def _answer_batch(self, batch: list[_Waiting]) -> None:
        """Answers requests of one signature in one run. If it fails, each request is run by itself, and only bad ones fail."""
        try:
            joined = {name: np.concatenate([request.inputs[name] for request in batch]) for name in batch[0].inputs}
            answers = split(self._run(batch[0].signature, joined), [request.rows for request in batch])
            for request, answer in zip(batch, answers):
                request.answer.set_result(answer)
        except Exception as error:
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            for request in batch:
                self._answer_batch([request])

    def close(self) -> None:
        """Ends the thread as soon as the requests that wait are answered."""
        with self._lock:
            self._closed = True
            self._queue.put(None)


def what_went_wrong(error: Exception) -> str:
    """Returns the line of TensorFlow's message that names the problem, at most 500 characters of it."""
    around = ("Graph execution error", "Detected at node", "<stack traces")
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.strip().startswith(around)]
    return (lines or [type(error).__name__])[0][:500]


def split(outputs: Arrays, counts: Sequence[int]) -> list[Arrays]:
    """Returns the outputs of each of several requests that were run as one. The first axis of every output is the rows.

    Args:
      outputs: the outputs of the joined requests.
      counts: the number of rows of each request.
    """
    ends = np.cumsum(counts)
    return [{name: value[end - count : end] for name, value in outputs.items()} for end, count in zip(ends, counts)]


class Model:
    """A folder of versions, of which the newest answers. A thread looks for newer ones.

    Args:
      name: the name of the model.
      folder: the folder; each version is a folder in it, named by its number.
      poll: seconds between looks for newer versions.

    Raises:
      FileNotFoundError: there is no such folder, or no version in it can be loaded.
    """

    def __init__(self, name: str, folder: str | pathlib.Path, poll: float = 1.0) -> None:
        self.name, self.folder, self.poll = name, pathlib.Path(folder), poll
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"there is no folder {self.folder}; it should hold a folder for each version, named by its number"
            )
        self._failed: dict[int, str] = {}
        self._stopped = threading.Event()
        newest = self._load_newer(None)
        if newest is None:
            why = f": {next(iter(self._failed.values()))}" if self._failed else "; kbert export writes one, MODEL_FOLDER/1"
            raise FileNotFoundError(f"{self.folder} holds no version that can be served{why}")
        self._current = newest
        threading.Thread(target=self._watch, daemon=True).start()

    def versions(self) -> list[int]:
        """Returns the numbers of the complete versions, the newest first."""
        folders = [path for path in self.folder.iterdir() if path.name.isdigit() and (path / "saved_model.pb").is_file()]
        complete = [path for path in folders if (path / "variables" / "variables.index").is_file()]
        return sorted((int(path.name) for path in complete), reverse=True)

    def _load_newer(self, current: int | None) -> Version | None:
        """Loads the newest version that is newer than the number `current` and can be loaded; None if there is none.

        A version that cannot be loaded is noted, and not tried again.
        """
        for number in self.versions():
            if current is not None and number <= current:
                return None
            if number in self._failed:
                continue
            try:
                return Version(self.name, self.folder / str(number))
            except Exception as error:
                self._failed[number] = f"version {number}: {str(error).splitlines()[0][:300]}"
        return None

    def _watch(self) -> None:
        """Puts newer versions in the place of older ones until the model is stopped."""
        while not self._stopped.wait(self.poll):
            newer = self._load_newer(self._current.number)
            if newer is not None:
                older, self._current = self._current, newer
                older.close()

    def get(self, number: int | None = None) -> Version:
        """Returns the version that answers.

        Args:
          number: the number that it should have; None for any.

        Raises:
          ServingError: another version answers.
        """
        current = self._current
        if number is not None and number != current.number:
            raise ServingError("NOT_FOUND", f"Servable not found for request: Specific({self.name}, {number})")
        return current

    def status(self) -> list[tuple[int, str, str, str]]:
        """Returns number, state, error code and message of the version that answers, and of those that could not be loaded."""
        states = [(self._current.number, "AVAILABLE", "OK", "")]
        return states + [(number, "END", "UNKNOWN", message) for number, message in self._failed.items()]

    def stop(self) -> None:
        """Ends the threads of the model and of its version."""
        self._stopped.set()
        self._current.close()
