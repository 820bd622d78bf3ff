"""The old place of `kbert.commands.cli`."""

import warnings

from kbert.commands.cli import main  # noqa: F401

warnings.warn(
    "kbert.cli has moved: import from kbert.commands.cli. The old name goes away in the next release",
    DeprecationWarning,
    stacklevel=2,
)
