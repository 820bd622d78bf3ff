"""The state of a training that goes on after a crash: weights, optimizer, schedule, random states and epochs."""

from __future__ import annotations

import json
import pathlib
import time
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.files.atomic import written_aside
from kbert.files.rooms import remove_dead_rooms
from kbert.training.callback_states import check_states, set_states, settings_of, states_of
from kbert.training.fingerprint import differing
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


def random_at_start(folder: str | pathlib.Path) -> tuple:
    """Returns the state of NumPy's random generator as a training begins. The orders of the data are drawn from it.

    If the folder has the state of a stopped training, the generator is first set to its state as that training began. The
    training then continues with its own orders, whatever the seed of this process is.

    Args:
      folder: the folder of the state.
    """
    path = pathlib.Path(folder) / STATE
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            kept = json.loads(str(file["about"])).get("random")
        if kept:
            np.random.set_state((kept[0], np.array(kept[1], np.uint32), *kept[2:]))
    return np.random.get_state(legacy=True)  # type: ignore[return-value]


class TrainingState(keras.callbacks.Callback):
    """A callback that keeps the state of a training in a folder, and brings a task back to the state of a stopped training.

    `fit(resume=folder)` uses it. The file is written aside and renamed, so that a kill at any moment leaves the last whole
    file. It is deleted when the training has ended. Of several workers the first one writes, and all read.

    Args:
      folder: the folder of the state.
      steps: the number of batches of the whole training. The state of a training with another number is refused.
      epochs: the number of epochs of the whole training. The state of a training with another number is refused.
      seconds: the state is also written within an epoch, when so many seconds have passed since the last time.
      made_of: the fingerprints of the training's parts, by name. The state of a training with other parts is refused.
      callbacks: the callbacks whose states are kept.
      random: the state of NumPy's random generator as the training began, as `random_at_start` gave it.
    """

    def __init__(
        self,
        folder: str | pathlib.Path,
        steps: int,
        epochs: int,
        seconds: float,
        made_of: Mapping[str, str] = types.MappingProxyType({}),
        callbacks: Sequence[keras.callbacks.Callback] = (),
        random: tuple = (),
    ) -> None:
        super().__init__()
        self.made_of, self.callbacks, self.random = dict(made_of), list(callbacks), random
        self.has_stopped = False  # whether a callback had ended the training
        self._figures: list[np.ndarray] = []  # the values of the metrics' variables, within an epoch
        self._kept: tuple[list, list] = [], []  # the states that the callbacks are put into, and their arrays
        self._settings: list[dict[str, Any]] = []  # what the callbacks hold as the training begins
        self.path = pathlib.Path(folder) / STATE
        self.training = [steps, epochs]
        self._has_begun = False
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
            others = differing(self.made_of, about["made_of"]) if "made_of" in about else []
            if "model" in others:
                raise ValueError(f"{self.path} is of another model, with other settings or sizes; give another folder")
            if about["training"] != self.training:
                raise ValueError(
                    f"{self.path} is of a training of {about['training'][0]} steps in {about['training'][1]} epochs, "
                    f"this one has {self.training[0]} in {self.training[1]}: give the same data and arguments, or another "
                    "folder"
                )
            if others:
                raise ValueError(
                    f"{self.path} is of a training with other {' and '.join(others)}: give the same data and arguments, or "
                    "another folder"
                )
            saved, arrays, self._figures = (
                [file[f"{kind}_{number}"] for number in range(sum(name.startswith(f"{kind}_") for name in file.files))]
                for kind in ("variable", "callback", "metric")
            )
        if [array.shape for array in saved] != [tuple(variable.shape) for variable in variables]:
            raise ValueError(f"{self.path} is of another model: its variables have other shapes; give another folder")
        for variable, array in zip(variables, saved):
            variable.assign(array)
        self.first_step, self.logs, self.batches_to_skip = about["first_step"], about["logs"], about["batches"]
        self.has_stopped, self._kept = about.get("stopped", False), (about.get("callbacks", []), arrays)
        return len(self.logs), self.batches_to_skip

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Puts the callbacks into their states, after their own `on_train_begin`, and writes the state for the first time.

        If a state cannot be kept or written, the error comes before the first step.
        """
        if self._has_begun:
            return
        self._has_begun = True
        check_states(self.callbacks)
        self._settings = settings_of(self.callbacks)
        set_states(self.callbacks, *self._kept)
        if not self.path.is_file():
            self.write(0)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.batches_skipped, self.batches_to_skip = self.batches_to_skip, 0
        if self.batches_skipped:  # Keras has set the figures of this epoch to 0
            for variable, array in zip(self.model.metrics_variables, self._figures):
                variable.assign(array)

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
            of_callbacks: list[np.ndarray] = []
            about = {
                "training": self.training,
                "made_of": self.made_of,
                "first_step": self.first_step,
                "batches": batches,
                "logs": self.logs,
                "callbacks": states_of(self.callbacks, of_callbacks, self._settings, self._kept[0]),
                "stopped": bool(self.model.stop_training),
                "random": [item.tolist() if isinstance(item, np.ndarray) else item for item in self.random],
            }
            if batches:
                figures = map(keras.ops.convert_to_numpy, self.model.metrics_variables)
                arrays.update({f"metric_{number}": array for number, array in enumerate(figures)})
            arrays.update({f"callback_{number}": array for number, array in enumerate(of_callbacks)})
            with written_aside(self.path) as aside, open(aside, "wb") as file:
                np.savez(file, about=json.dumps(about), **arrays)
        self.written_at = time.monotonic()

    def finish(self) -> None:
        """Deletes the state after the end of the training, and the files that a killed process left beside it."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir():
            remove_dead_rooms(self.path.parent)


def state_of(task: keras.Model) -> list[keras.Variable]:
    """Returns all variables of a training: the weights, the states of random generators, and the optimizer's variables."""
    return [*task.variables, *task.optimizer.variables]
