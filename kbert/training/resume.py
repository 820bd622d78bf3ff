"""The state of a training that goes on after a crash: weights, optimizer, schedule, random states and epochs."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.files.atomic import written_aside
from kbert.files.rooms import remove_dead_rooms
from kbert.training.keras_internals import batches_seen

STATE = "training_state.npz"


class EpochNumbers(keras.callbacks.Callback):
    """A callback that tells data which are made anew in each epoch which epoch begins (`length_batches.by_epoch`).

    Such data count their iterations. A training that goes on after a crash begins at a later epoch, and under
    `tf.distribute` there may be more iterations than epochs.

    Args:
      counters: the int64 variables that count iterations.
    """

    def __init__(self, counters: Iterable[tf.Variable]) -> None:
        super().__init__()
        self.counters = [(counter, int(counter)) for counter in counters]

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        for counter, first in self.counters:
            counter.assign(first + epoch)


class TrainingState(keras.callbacks.Callback):
    """A callback that keeps the state of a training in a folder, and brings a task back to the state of a stopped training.

    `fit(resume=folder)` uses it. The file is written aside and renamed, so that a kill at any moment leaves the last whole
    file. It is deleted when the training has ended. Of several workers the first one writes, and all read.

    Args:
      folder: the folder of the state.
      steps: the number of batches of the whole training. The state of a training with another number is refused.
      epochs: the number of epochs of the whole training. The state of a training with another number is refused.
      seconds: the state is also written within an epoch, when so many seconds have passed since the last time.
    """

    def __init__(self, folder: str | pathlib.Path, steps: int, epochs: int, seconds: float) -> None:
        super().__init__()
        self.path = pathlib.Path(folder) / STATE
        self.training = [steps, epochs]
        self.seconds, self.written_at = seconds, time.monotonic()
        self.first_step = 0  # batches that the optimizer had seen before the training
        self.batches_to_skip = 0  # batches of the coming epoch that an earlier process has done
        self.batches_skipped = 0  # batches of the present epoch that an earlier process has done
        self.logs: list[dict[str, float]] = []  # the figures of each finished epoch

    def restore(self, task: keras.Model) -> tuple[int, int]:
        """Puts a task into the state in the folder, if there is one.

        Args:
          task: a compiled task, whose optimizer was built.

        Returns:
          The number of finished epochs, and the number of finished batches in the epoch after these.

        Raises:
          ValueError: the state is that of another training or another model.
        """
        self.first_step = batches_seen(task.optimizer)
        if not self.path.is_file():
            return 0, 0
        with np.load(self.path, allow_pickle=False) as file:
            variables, about = state_of(task), json.loads(str(file["about"]))
            if about["training"] != self.training:
                raise ValueError(
                    f"{self.path} is of a training of {about['training'][0]} steps in {about['training'][1]} epochs, "
                    f"this one has {self.training[0]} in {self.training[1]}: give the same data and arguments, or another "
                    "folder"
                )
            saved = [file[f"variable_{number}"] for number in range(len(file.files) - 1)]
        if [array.shape for array in saved] != [tuple(variable.shape) for variable in variables]:
            raise ValueError(f"{self.path} is of another model: its variables have other shapes; give another folder")
        for variable, array in zip(variables, saved):
            variable.assign(array)
        self.first_step, self.logs, self.batches_to_skip = about["first_step"], about["logs"], about["batches"]
        return len(self.logs), self.batches_to_skip

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.batches_skipped, self.batches_to_skip = self.batches_to_skip, 0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        # Not after the last batch of an epoch: a training that went on from there would lack that epoch's figures.
        # `on_epoch_end` follows at once.
        if time.monotonic() - self.written_at >= self.seconds and batch + 1 < self.params["steps"]:
            self.write(self.batches_skipped + batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.logs.append({name: float(value) for name, value in (logs or {}).items()})
        self.write(0)

    def write(self, batches: int) -> None:
        """Writes the state, in the first worker alone.

        Args:
          batches: the number of finished batches of the present epoch.
        """
        cluster = self.model.distribute_strategy.cluster_resolver
        if cluster is None or not cluster.task_id:
            arrays = {f"variable_{number}": keras.ops.convert_to_numpy(v) for number, v in enumerate(state_of(self.model))}
            about = {"training": self.training, "first_step": self.first_step, "batches": batches, "logs": self.logs}
            with written_aside(self.path) as aside, open(aside, "wb") as file:
                np.savez(file, about=json.dumps(about), **arrays)
        self.written_at = time.monotonic()

    def finish(self) -> None:
        """Deletes the state, and what a killed process left beside it: the training has ended."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir():
            remove_dead_rooms(self.path.parent)


def state_of(task: keras.Model) -> list[keras.Variable]:
    """Returns all variables of a training: the weights, the states of random generators, and the optimizer's variables."""
    return [*task.variables, *task.optimizer.variables]
