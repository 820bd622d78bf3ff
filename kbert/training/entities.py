"""The old place of `kbert.scoring.entities`."""

import warnings

from kbert.files.bio_file import read_bio  # noqa: F401
from kbert.scoring.entities import entities, entity_scores, has_ends  # noqa: F401
from kbert.scoring.tag_schemes import check_tags  # noqa: F401

warnings.warn(
    "kbert.training.entities has moved: import from kbert.scoring.entities, check_tags from kbert.scoring.tag_schemes, and "
    "read_bio from kbert.files.bio_file. The old name goes away in the next release",
    DeprecationWarning,
    stacklevel=2,
)
