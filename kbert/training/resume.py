"""What a training needs to go on after a crash as if nothing had been: weights, optimizer, schedule, random states, epoch."""

import pathlib

import keras
import numpy as np

from kbert.atomic_files import written_aside

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
    """Keeps the state of a training in a folder after each epoch, and puts a task back where a stopped one was.

    `fit(resume=folder)` uses it. The file is written aside and renamed, so that a kill at any moment leaves the last whole one; it is
    deleted when the training has ended well.
    """

    def __init__(self, folder, steps, epochs):
        super().__init__()
        self.path = pathlib.Path(folder) / STATE
        self.about = np.array([steps or 0, epochs], np.int64)
        self.first_step = 0

    def restore(self, task):
        """Puts the task in the state that is kept, if one is; returns the epochs that are done."""
        self.first_step = int(task.optimizer._iterations.numpy())
        if not self.path.is_file():
            return 0
        with np.load(self.path, allow_pickle=False) as kept:
            variables = state_of(task)
            if not np.array_equal(kept["about"], self.about):
                raise ValueError(
                    f"{self.path} is of a training of {kept['about'][1]} epochs of {kept['about'][0]} steps, this one is {self.about[1]} of "
                    f"{self.about[0]}: give the same data and arguments, or another folder"
                )
            saved = [kept[f"variable_{number}"] for number in range(len(kept.files) - 3)]
            if [array.shape for array in saved] != [tuple(variable.shape) for variable in variables]:
                raise ValueError(f"{self.path} is of another model: its variables have other shapes; give another folder")
            for variable, array in zip(variables, saved):
                variable.assign(array)
            self.first_step = int(kept["first_step"])
            return int(kept["epochs_done"])

    def on_epoch_end(self, epoch, logs=None):
        arrays = {f"variable_{number}": keras.ops.convert_to_numpy(v) for number, v in enumerate(state_of(self.model))}
        with written_aside(self.path) as aside, open(aside, "wb") as file:
            np.savez(file, about=self.about, first_step=self.first_step, epochs_done=epoch + 1, **arrays)

    def on_train_end(self, logs=None):
        self.path.unlink(missing_ok=True)


def state_of(task):
    """All variables of a training: weights, the states of random generators, and the optimizer's."""
    return [*task.variables, *task.optimizer.variables]
