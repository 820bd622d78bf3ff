"""A progress bar for answers, shown when they take long."""

from __future__ import annotations

import sys
import time
from typing import Any

import keras

PATIENCE = 3.0  # seconds before progress is shown


class Progress:
    """Keras's progress bar, by number of texts; by default only on a terminal, and once it has taken some seconds.

    Args:
      verbose: 1 shows it from the start, 0 never, `"auto"` on a terminal after some seconds.
    """

    def __init__(self, verbose: int | str) -> None:
        self.shown = verbose == 1 or (verbose == "auto" and sys.stdout.isatty())
        self.patience = 0 if verbose == 1 else PATIENCE
        self.started, self.done = time.monotonic(), 0
        self.bar: Any = None

    def advance(self, count: int, of: int) -> None:
        """Counts texts that are done, of `of` in all."""
        self.done += count
        if not self.shown or time.monotonic() - self.started < self.patience:
            return
        if self.bar is None:
            self.bar = keras.utils.Progbar(of)
        self.bar.update(min(self.done, of))
