"""What a training needs to go on after a crash as if nothing had been: weights, optimizer, schedule, random states, epoch."""

import json
import pathlib
import time

import keras
import numpy as np

from kbert.files.atomic import written_aside
from kbert.training.keras_internals import batches_seen

STATE = "training_state.npz"


class EpochNumbers(keras.callbacks.Callback):
    """Tells data that are made anew for each look at them which epoch begins (`kbert.training.batches.by_epoch`).

    They count the looks by themselves; but a training that goes on after a crash begins in its middle, and under `tf.distribute` there may be
    more looks than epochs.
    """

    def __init__(self, counters):
        super().__init__()
        self.counters = [(counter, int(counter)) for counter in counters]

    def on_epoch_begin(self, epoch, logs=None):
        for counter, first in self.counters:
            counter.assign(first + epoch)


class TrainingState(keras.callbacks.Callback):
    """Keeps the state of a training in a folder, and puts a task back where a stopped one was.

    `fit(resume=folder)` uses it. The file is written aside and renamed, so that a kill at any moment leaves the last whole one; it is
    deleted when the training has ended well. Of several workers the first one writes; all read.

    Args:
      folder: for the state.
      steps, epochs: of the whole training; a state of another one is refused.
      seconds: after which the state is kept within an epoch.
    """

    def __init__(self, folder, steps, epochs, seconds):
        super().__init__()
        self.path = pathlib.Path(folder) / STATE
        self.about = [steps, epochs]
        self.seconds, self.kept = seconds, time.monotonic()
        self.first_step = 0
        self.skipped = self.before = 0  # batches of the epoch that was begun before this process, and of the one at hand
        self.logs = []  # of the epochs that are done

    def restore(self, task):
        """Puts the task in the state that is kept, if one is; returns the epochs that are done, and the batches of the one that was begun."""
        self.first_step = batches_seen(task.optimizer)
        if not self.path.is_file():
            return 0, 0
        with np.load(self.path, allow_pickle=False) as kept:
            variables, about = state_of(task), json.loads(str(kept["about"]))
            if about["training"] != self.about:
                raise ValueError(
                    f"{self.path} is of a training of {about['training'][0]} steps in {about['training'][1]} epochs, this one has "
                    f"{self.about[0]} in {self.about[1]}: give the same data and arguments, or another folder"
                )
            saved = [kept[f"variable_{number}"] for number in range(len(kept.files) - 1)]
        if [array.shape for array in saved] != [tuple(variable.shape) for variable in variables]:
            raise ValueError(f"{self.path} is of another model: its variables have other shapes; give another folder")
        for variable, array in zip(variables, saved):
            variable.assign(array)
        self.first_step, self.logs, self.skipped = about["first_step"], about["logs"], about["batches"]
        return len(self.logs), self.skipped

    def on_epoch_begin(self, epoch, logs=None):
        self.before, self.skipped = self.skipped, 0

    def on_train_batch_end(self, batch, logs=None):
        # Not after an epoch's last batch: what goes on there would have no figures of that epoch, and `on_epoch_end` is next.
        if time.monotonic() - self.kept >= self.seconds and batch + 1 < self.params["steps"]:
            self.write(self.before + batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append({name: float(value) for name, value in logs.items()})
        self.write(0)

    def write(self, batches):
        cluster = self.model.distribute_strategy.cluster_resolver
        if cluster is None or not cluster.task_id:
            arrays = {f"variable_{number}": keras.ops.convert_to_numpy(v) for number, v in enumerate(state_of(self.model))}
            about = {"training": self.about, "first_step": self.first_step, "batches": batches, "logs": self.logs}
            with written_aside(self.path) as aside, open(aside, "wb") as file:
                np.savez(file, about=json.dumps(about), **arrays)
        self.kept = time.monotonic()

    def finish(self):
        """The training has ended well."""
        self.path.unlink(missing_ok=True)


def state_of(task):
    """All variables of a training: weights, the states of random generators, and the optimizer's."""
    return [*task.variables, *task.optimizer.variables]
