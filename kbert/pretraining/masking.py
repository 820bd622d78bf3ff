"""The old place of `kbert.training.masking`."""

import warnings

from kbert.training.masking import mask_tokens, with_draws  # noqa: F401

warnings.warn(
    "kbert.pretraining.masking has moved: import from kbert.training.masking. The old name goes away in the next release",
    DeprecationWarning,
    stacklevel=2,
)
