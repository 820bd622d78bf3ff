"""A session that joins requests: their tensors are joined at the first axis, run once, and the outputs are cut again.

The rules are those of tensorflow_serving/batching/batching_session.cc. A request that does not fit its batch fails the batch.
"""

from __future__ import annotations

import concurrent.futures
import functools
import threading
from collections.abc import Sequence

import numpy as np

from kbert.export.server.batch_queues import BatchThreads, Queue
from kbert.export.server.calls import Session
from kbert.export.server.errors import ServingError, invalid
from kbert.export.server.json_requests import Arrays
from kbert.export.server.settings import BatchingParameters


class _Request:
    """A request, or a part of one, that waits.

    Args:
      inputs: its tensors, whose first axes are `rows`.
      rows: the number of rows.
    """

    def __init__(self, inputs: Arrays, rows: int) -> None:
        self.inputs, self.rows = inputs, rows
        self.answer: concurrent.futures.Future[Arrays] = concurrent.futures.Future()


class JoiningSession:
    """A session whose `run` waits for the requests of other threads, and runs them together.

    Args:
      session: the session that runs the joined requests.
      parameters: how they are joined.
      threads: the threads that run them.
    """

    def __init__(self, session: Session, parameters: BatchingParameters, threads: BatchThreads) -> None:
        self._session, self._parameters, self._threads = session, parameters, threads
        self.definitions = session.definitions
        self._queues: dict[tuple[str, tuple[str, ...] | None], Queue[_Request]] = {}
        self._lock = threading.Lock()

    def run(self, signature: str, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Returns outputs of a signature by name. Requests for the same signature and outputs are joined.

        Args:
          signature: the name of the signature.
          inputs: the tensors by the names of the inputs.
          outputs: the names of the outputs to return; all by default.

        Raises:
          ServingError: the request cannot be joined, or its batch fails.
        """
        task = _Request(inputs, rows_of(inputs))
        self._queue(signature, None if outputs is None else tuple(sorted(outputs))).put(task)
        return task.answer.result()

    def _queue(self, signature: str, outputs: tuple[str, ...] | None) -> Queue[_Request]:
        """Returns the queue of a signature and outputs; it is made at the first request."""
        with self._lock:
            if (signature, outputs) not in self._queues:

                def run(tasks: list[_Request]) -> None:
                    self._run(signature, outputs, tasks)

                queue = Queue(self._threads, self._parameters, run, self._cut)
                self._threads.add(queue)
                self._queues[signature, outputs] = queue
            return self._queues[signature, outputs]

    def _run(self, signature: str, outputs: tuple[str, ...] | None, tasks: list[_Request]) -> None:
        """Answers the requests of a batch, all with their outputs or all with the same error (ProcessBatch)."""
        try:
            joined = join([task.inputs for task in tasks], self._parameters.allowed_batch_sizes)
            answers = cut(self._session.run(signature, joined, outputs), [task.rows for task in tasks], rows_of(joined))
        except Exception as error:
            for task in tasks:
                task.answer.set_exception(error)
            return
        for task, answer in zip(tasks, answers):
            task.answer.set_result(answer)

    def _cut(self, task: _Request, first: int) -> list[_Request]:
        """Returns the parts of a request, whose answers become its answer (SplitInputTask)."""
        most = self._parameters.most_rows
        ends = list(range(first or most, task.rows, most)) + [task.rows]
        parts = [
            _Request({name: value[start:end] for name, value in task.inputs.items()}, end - start)
            for start, end in zip([0, *ends], ends)
        ]
        waiting = list(parts)
        lock = threading.Lock()

        def answered(part: _Request, _: object) -> None:
            with lock:
                waiting.remove(part)
                if waiting:
                    return
            try:
                task.answer.set_result(put_together([each.answer.result() for each in parts]))
            except Exception as error:
                task.answer.set_exception(error)

        for part in parts:
            part.answer.add_done_callback(functools.partial(answered, part))
        return parts

    def close(self) -> None:
        """Removes the queues. No request may wait."""
        with self._lock:
            for queue in self._queues.values():
                self._threads.remove(queue)
            self._queues.clear()


def rows_of(inputs: Arrays) -> int:
    """Returns the number of rows of a request: the first axis of all its tensors.

    Source: tensorflow_serving/batching/batching_util.h, ComputeTensorBatchSize.

    Raises:
      ServingError: a tensor has no axis, or their first axes differ.
    """
    if not inputs or any(not value.shape for value in inputs.values()):
        names = ", ".join(sorted(name for name, value in inputs.items() if not value.shape))
        raise invalid(f"a request that is joined with others needs inputs with at least one axis; it has a scalar {names}")
    sizes = {name: value.shape[0] for name, value in inputs.items()}
    if len(set(sizes.values())) > 1:
        raise invalid(f"the inputs should have the same number of rows, got {sizes}")
    return next(iter(sizes.values()))


def join(requests: Sequence[Arrays], allowed_batch_sizes: Sequence[int] = ()) -> Arrays:
    """Returns the tensors of several requests, joined at the first axis (MergeInputTensors).

    Args:
      requests: the tensors of each request by name.
      allowed_batch_sizes: numbers of rows, ascending. The first that is large enough is reached by copies of the first row of
        the last request.

    Raises:
      ServingError: FAILED_PRECONDITION if other axes differ, INTERNAL if types differ.
    """
    rows = sum(rows_of(inputs) for inputs in requests)
    padding = min((size for size in allowed_batch_sizes if size >= rows), default=rows) - rows
    if padding and not rows_of(requests[-1]):
        # Tensor::Slice checks its bounds by a check that ends TF Serving's process.
        raise ServingError("INTERNAL", "a request of no rows cannot be padded to allowed_batch_sizes: TF Serving ends")
    joined = {}
    for name, first in requests[0].items():
        values = [inputs[name] for inputs in requests]
        shapes = sorted({value.shape[1:] for value in values}, key=str)
        if len(shapes) > 1:
            message = f"requests cannot be joined: the axes of input {name} behind the first are {shapes}"
            raise ServingError("FAILED_PRECONDITION", f"{message}; send tensors of one shape")
        if len({value.dtype.kind for value in values}) > 1 or len({value.dtype for value in values}) > 1:
            raise ServingError("INTERNAL", f"requests cannot be joined: the types of input {name} differ")
        values += [values[-1][:1]] * padding
        joined[name] = np.concatenate(values) if len(values) > 1 else first
    return joined


def cut(outputs: Arrays, counts: Sequence[int], rows: int) -> list[Arrays]:
    """Returns the outputs of each of several requests that were run as one (SplitOutputTensors).

    Args:
      outputs: the outputs of the joined requests.
      counts: the number of rows of each request.
      rows: the number of rows that were run, which may be more.

    Raises:
      ServingError: FAILED_PRECONDITION if the first axis of an output is not the rows.
    """
    for name, value in outputs.items():
        if not value.shape or value.shape[0] != rows:
            message = f"output {name} should have the {rows} rows of the joined requests as its first axis"
            raise ServingError("FAILED_PRECONDITION", f"{message}, got shape {list(value.shape)}")
    ends = np.cumsum(counts)
    return [{name: value[end - count : end] for name, value in outputs.items()} for end, count in zip(ends, counts)]


def put_together(parts: Sequence[Arrays]) -> Arrays:
    """Returns the outputs of the parts of a request as one.

    TF Serving compares no shapes here: a wider later part ends its process, and a narrower one gives wrong rows in silence.
    Both are an error here.

    Raises:
      ServingError: INTERNAL if the parts' outputs have different axes behind the first.
    """
    for name in parts[0]:
        shapes = sorted({part[name].shape[1:] for part in parts}, key=str)
        if len(shapes) > 1:
            message = (
                f"output {name} has the axes {shapes} in the parts of a request: set enable_large_batch_splitting to false"
            )
            raise ServingError("INTERNAL", message)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
