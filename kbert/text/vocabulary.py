"""The old place of `kbert.files.vocabulary` and `kbert.text.learn_vocabulary`."""

import warnings

from kbert.files.vocabulary import SPECIAL_TOKENS, check_vocabulary, read_vocabulary, save_vocabulary  # noqa: F401
from kbert.text.learn_vocabulary import CHUNK, MOST_WORDS, learn_vocabulary, lines_of  # noqa: F401

warnings.warn(
    "kbert.text.vocabulary has moved: import from kbert.files.vocabulary or kbert.text.learn_vocabulary. "
    "The old name goes away in the next release",
    DeprecationWarning,
    stacklevel=2,
)
