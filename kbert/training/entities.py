"""The old place of `kbert.scoring.entities`."""

import warnings

from kbert.scoring.entities import check_tags, entities, entity_scores, has_ends, read_bio  # noqa: F401

warnings.warn(
    "kbert.training.entities has moved: import from kbert.scoring.entities. The old name goes away in the next release",
    DeprecationWarning,
    stacklevel=2,
)
