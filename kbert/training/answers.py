"""The old place of `kbert.scoring.squad`."""

import warnings

from kbert.files.squad_file import read_squad  # noqa: F401
from kbert.scoring.squad import normalize_answer, squad_scores  # noqa: F401

warnings.warn(
    "kbert.training.answers has moved: import from kbert.scoring.squad, and read_squad from kbert.files.squad_file. "
    "The old name goes away in the next release",
    DeprecationWarning,
    stacklevel=2,
)
