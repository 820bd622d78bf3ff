"""Checks that a training can continue after a crash, and takes the fingerprints of the parts that have to be the same."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from kbert.training.fingerprint import digest, fingerprint
from kbert.training.function_marks import is_of_library, mark
from kbert.training.phases import Phase
from kbert.training.resume import TrainingState
from kbert.training.trainable_flags import trainable_flags

OF_COMPILE = ("optimizer", "loss", "loss_weights")
OF_SCHEDULE = ("total_steps", "first_step")  # set by each fit


def open_state(
    task: Any,
    folder: Any,
    seconds: float,
    phases: Sequence[Phase],
    total_steps: int | None,
    initial_epoch: int,
    callbacks: Sequence[keras.callbacks.Callback],
    options: Mapping[str, Any],
) -> TrainingState:
    """Returns the state of a training. Its `restore` brings the task back to where a stopped training was.

    Args:
      task: a compiled task.
      folder: the folder of the state.
      seconds: the number of seconds after which the state is kept within an epoch.
      phases: the datasets to train on.
      total_steps: the batches of the whole training, or None.
      initial_epoch: the number of the first epoch.
      callbacks: the user's callbacks.
      options: the arguments of Keras's `fit`.

    Raises:
      ValueError: the training could not continue exactly after a crash. (`restore` refuses the state of another training.)
    """
    known = isinstance(phases[0].data, tf.data.Dataset) and all(phase.batches for phase in phases)
    if initial_epoch or not total_steps or not known:
        raise ValueError("resume is for a fit from the first epoch, on texts in memory or a dataset of known length")
    if options.get("steps_per_epoch") is not None:
        raise ValueError("resume is for epochs that see all of the data: leave steps_per_epoch or resume out")
    made_of = parts_of_training(task, phases, options.get("validation_data"))
    epochs = sum(phase.epochs for phase in phases)
    return TrainingState(folder, total_steps, epochs, seconds, made_of, callbacks, task._random_at_start)


def parts_of_training(task: Any, phases: Sequence[Phase], validation_data: Any = None) -> dict[str, str]:
    """Returns the fingerprints of the task, of the arguments of `compile`, and of the data, by name.

    The weights have no fingerprint, because they are in the state.

    Args:
      task: a compiled task.
      phases: the datasets to train on.
      validation_data: the data that Keras validates on. Only those of a `tf.data.Dataset` have a fingerprint.

    Raises:
      ValueError: a dataset of the user's gives other batches each time, so that no training on it can continue exactly; or a
        loss holds something whose content cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a loss is a lambda was said when it was compiled
        compiled = task.get_compile_config()
    settings, encoder = task.preset_settings(), task.encoder
    return fingerprint(
        model=[
            [settings["class"], settings["options"], type(encoder).__name__, encoder.config.to_dict(), trainable_flags(task)],
            [part.dtype_policy.name for part in (task, encoder)],
        ],
        tokenizer=None if task.preprocessor is None else task.preprocessor.get_config(),
        **{"compile settings": [without_schedule(compiled.get(name)) for name in OF_COMPILE] + marks_of_losses(task)},
        data=[task.content_of_data, [first_batch(task, phase.data) for phase in phases]],
        **{"validation data": first_batch(task, validation_data) if isinstance(validation_data, tf.data.Dataset) else None},
    )


def marks_of_losses(task: Any) -> list:
    """Returns what the user's own losses compute with. Keras's settings state their names, but not what they close over.

    Raises:
      ValueError: a loss holds something whose content cannot be read.
    """
    losses = [getattr(loss, "fn", loss) for loss in keras.tree.flatten(task.loss)]
    own = [loss for loss in losses if callable(loss) and not is_of_library(loss)]
    return [mark(loss, f"the loss {getattr(loss, '__name__', type(loss).__name__)}") for loss in own]


def without_schedule(value: Any) -> Any:
    """Returns a configuration without the numbers of steps that `fit` sets in a schedule."""
    if isinstance(value, dict):
        return {key: without_schedule(item) for key, item in value.items() if key not in OF_SCHEDULE}
    return [without_schedule(item) for item in value] if isinstance(value, (list, tuple)) else value


def first_batch(task: Any, data: tf.data.Dataset) -> str:
    """Returns a digest of the first batch of a dataset.

    Args:
      task: the task, whose counters of epochs are put back.
      data: the dataset.

    Raises:
      ValueError: the dataset begins with another batch each time, although kbert does not count its epochs.
    """
    before = [int(counter) for counter in task._epochs]
    marks = []
    for _ in range(1 if before else 2):
        marks.append(digest(tf.nest.flatten(next(iter(data.take(1))), expand_composites=True)))
        for counter, number in zip(task._epochs, before):
            counter.assign(number)
    if len(set(marks)) > 1:
        raise ValueError(
            "this dataset gives its rows in another order each time, so that a training on it cannot go on where it was "
            "stopped: leave its shuffle() out, and let fit shuffle; or train without resume"
        )
    return marks[0]
