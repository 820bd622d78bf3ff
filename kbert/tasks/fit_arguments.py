"""Checks the numbers and choices that `fit`, `evaluate` and `predict` take, before any work."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from kbert.arguments import check_verbose, known_only, number, share, whole_number, whole_numbers, yes_or_no

OF_VALIDATION = ("validation_steps", "validation_batch_size", "validation_freq")
BALANCED = "balanced"  # the `class_weight` that is counted from the labels
KEEP_EVERY = 300  # seconds, by default, after which the state of a training is kept


def check_fit(
    *,
    epochs: Any,
    initial_epoch: Any = 0,
    verbose: Any = "auto",
    shuffle: Any = True,
    validation_split: Any = 0.0,
    validation_data: Any = None,
    resume: Any = None,
    resume_every: Any = KEEP_EVERY,
    class_weight: Any = None,
    more: dict[str, Any] | None = None,
    **numbers: Any,
) -> None:
    """Raises an error for arguments that `fit` cannot take with any data.

    Args:
      epochs: a whole number from 1 on.
      initial_epoch: a whole number from 0 to the last epoch's.
      verbose: Keras's argument: "auto", 0, 1 or 2.
      shuffle: True or False.
      validation_split: a share from 0 to less than 1; only 0 goes with `validation_data`.
      validation_data: anything, or None.
      resume: a folder, or None.
      resume_every: a number of seconds, 0 or more. Only the default goes without `resume`.
      class_weight: a dictionary, `BALANCED`, or None.
      more: the other arguments that were given by name. Only those in `OF_VALIDATION` are taken.
      **numbers: whole numbers from 1 on, or None.

    Raises:
      TypeError: `fit` has no such argument, or `class_weight` is something else.
      ValueError: an argument is out of its range, or cannot act.
    """
    more = more or {}
    known_only("fit", more, OF_VALIDATION)
    whole_number("epochs", epochs)
    whole_number("initial_epoch", initial_epoch, least=0)
    if initial_epoch >= epochs:
        raise ValueError(
            f"initial_epoch={initial_epoch} leaves nothing of epochs={epochs}, which counts from the first epoch of all"
        )
    share("validation_split", validation_split)
    if validation_split and validation_data is not None:
        raise ValueError("give validation_split or validation_data, not both")
    of_validation = {name: value for name, value in more.items() if value is not None}
    freq = of_validation.pop("validation_freq", 1)
    for epoch in freq if isinstance(freq, (list, tuple, set)) else [freq]:
        whole_number("validation_freq", epoch)
    whole_numbers(**numbers, **of_validation)
    if not validation_split and validation_data is None and (of_validation or freq != 1):
        raise ValueError(
            f"{', '.join(of_validation) or 'validation_freq'} is of validation data, and there are none: give validation_data"
        )
    number("resume_every", resume_every, least=0)
    if resume is None and resume_every != KEEP_EVERY:
        raise ValueError(f"resume_every is of a state, and none is kept: give resume=folder beside resume_every={resume_every}")
    check_verbose(verbose)
    yes_or_no(shuffle=shuffle)
    if class_weight is not None and not isinstance(class_weight, dict) and class_weight != BALANCED:
        raise TypeError(
            f"class_weight should be a dictionary from a label to its weight, or {BALANCED!r}, got {class_weight!r}"
        )


def are_batches(x: Any) -> bool:
    """Returns whether packed inputs come in batches: in a `tf.data.Dataset` or a `PyDataset`."""
    return isinstance(x, (tf.data.Dataset, keras.utils.PyDataset))


def refuse_beside_batches(x: Any, **given: Any) -> None:
    """Raises a ValueError for an argument that goes unused because `x` is packed batches, which hold targets and weights."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"{name} is given beside a {type(x).__name__} of packed batches, which holds its own: leave it out"
            )
