"""The old place of `kbert.scoring.squad`."""

import warnings

from kbert.scoring.squad import normalize_answer, read_squad, squad_scores  # noqa: F401

warnings.warn(
    "kbert.training.answers has moved: import from kbert.scoring.squad. The old name goes away in the next release",
    DeprecationWarning,
    stacklevel=2,
)
