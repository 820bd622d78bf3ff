"""Requests that wait to be run together: queues of batches, and the threads that run them.

The rules are those of tensorflow/core/kernels/batching_util/shared_batch_scheduler.h.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from kbert.export.server.errors import ServingError, invalid
from kbert.export.server.settings import BatchingParameters


class Sized(Protocol):
    """What waits: a request, or a part of one, with a number of rows."""

    rows: int


T = TypeVar("T", bound=Sized)


class _Batch(Generic[T]):
    """Requests that are run together."""

    def __init__(self) -> None:
        self.tasks: list[T] = []
        self.opened = 0.0  # when the first request came

    def rows(self) -> int:
        """Returns the number of rows of all requests."""
        return sum(task.rows for task in self.tasks)


class Queue(Generic[T]):
    """The batches of one signature. Requests come into the last one, which is open; the others are closed.

    Args:
      threads: the threads that run the batches.
      parameters: the sizes and the time.
      run: the function that runs a batch. It raises no error.
      cut: the function that cuts a request into parts of at most `max_execution_batch_size` rows. The first part
        has at most the given number of rows.
    """

    def __init__(
        self,
        threads: BatchThreads,
        parameters: BatchingParameters,
        run: Callable[[list[T]], None],
        cut: Callable[[T, int], list[T]],
    ) -> None:
        self._threads, self._parameters, self.run, self._cut = threads, parameters, run, cut
        self.batches: deque[_Batch[T]] = deque([_Batch()])

    def put(self, task: T) -> None:
        """Lets a request wait for its batch.

        Raises:
          ServingError: INVALID_ARGUMENT if the request has more rows than `max_batch_size`, UNAVAILABLE if the queue is full
            or the server stops.
        """
        limits = self._parameters
        if task.rows > limits.max_batch_size:
            raise invalid(
                f"the request has {task.rows} rows, more than the maximum input batch size {limits.max_batch_size}: "
                "cut it into smaller requests"
            )
        with self._threads.changed:
            if self._threads.stopped:
                raise ServingError("UNAVAILABLE", "the server stops")
            free = limits.most_rows - self.batches[-1].rows()
            if limits.enable_large_batch_splitting:
                capacity = (limits.max_enqueued_batches - len(self.batches)) * limits.most_rows + free
                is_full = task.rows > capacity
            else:
                is_full = task.rows > free and len(self.batches) >= limits.max_enqueued_batches
            if is_full:
                waiting = f"{len(self.batches)} batches wait, and max_enqueued_batches is {limits.max_enqueued_batches}"
                raise ServingError("UNAVAILABLE", f"the queue of the signature is full: {waiting}; try again")
            parts = self._cut(task, free) if limits.enable_large_batch_splitting and task.rows > free else [task]
            for part in parts:
                if self.batches[-1].rows() + part.rows > limits.most_rows:
                    self.batches.append(_Batch())
                if not self.batches[-1].tasks:
                    self.batches[-1].opened = time.monotonic()
                self.batches[-1].tasks.append(part)
            self._threads.changed.notify()

    def due(self) -> float | None:
        """Returns when the first batch may be run, as `time.monotonic` counts; None if no request waits."""
        first = self.batches[0]
        if len(self.batches) > 1:
            return 0.0
        if not first.tasks:
            return None
        is_full = first.rows() >= self._parameters.most_rows
        return 0.0 if is_full else first.opened + self._parameters.batch_timeout_micros / 1e6

    def take(self) -> list[T]:
        """Returns the requests of the first batch, which leaves the queue."""
        batch = self.batches.popleft()
        if not self.batches:
            self.batches.append(_Batch())
        return batch.tasks


class BatchThreads:
    """The threads that run the batches of all queues, one queue after the other.

    Args:
      count: the number of threads.
    """

    def __init__(self, count: int) -> None:
        self.changed = threading.Condition()
        self._queues: list[Queue[Any]] = []
        self._next, self.stopped = 0, False
        for _ in range(count):
            threading.Thread(target=self._work, daemon=True).start()

    def add(self, queue: Queue[Any]) -> None:
        """Adds a queue."""
        with self.changed:
            self._queues.append(queue)

    def remove(self, queue: Queue[Any]) -> None:
        """Removes a queue, for which no request waits."""
        with self.changed:
            self._queues.remove(queue)

    def _work(self) -> None:
        """Runs batches until `stop`: the work of a thread."""
        while True:
            with self.changed:
                batch = self._wait()
            if batch is None:
                return
            batch[0].run(batch[1])

    def _wait(self) -> tuple[Queue[Any], list[Any]] | None:
        """Returns a queue and the requests of a batch that may be run, or None if no request waits after `stop`.

        The lock is held.
        """
        while True:
            now, times = time.monotonic(), []
            for step in range(len(self._queues)):
                place = (self._next + step) % len(self._queues)
                due = self._queues[place].due()
                if due is not None and (due <= now or self.stopped):
                    self._next = place + 1
                    self.changed.notify()  # another thread waits for the next batch
                    return self._queues[place], self._queues[place].take()
                if due is not None:
                    times.append(due)
            if self.stopped:
                return None
            self.changed.wait(min(times) - now if times else None)

    def stop(self) -> None:
        """Ends the threads as soon as the requests that wait are answered."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
