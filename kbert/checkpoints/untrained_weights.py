"""What is said of weights that no checkpoint held and no training has made."""

from __future__ import annotations

import warnings
from collections.abc import Sequence


def warn_of_new_weights(name: str, new_weights: Sequence[str]) -> None:
    """Warns once of all weights that a checkpoint does not hold. It is called by what a `from_preset` calls.

    Args:
      name: what to call the checkpoint.
      new_weights: what to call the weights. Without any there is no warning.
    """
    if new_weights:
        warnings.warn(
            f"newly initialized, because the checkpoint {name} does not hold it: {', '.join(new_weights)}; train it with fit() "
            "before you trust its answers",
            stacklevel=4,  # the caller of `from_preset`
        )


def warn_of_untrained_export(new_weights: Sequence[str]) -> None:
    """Warns that a task with weights that were never trained gives answers without a meaning."""
    if new_weights:
        warnings.warn(f"never trained, though exported: {', '.join(new_weights)}; its answers mean nothing yet", stacklevel=4)
