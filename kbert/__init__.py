"""kbert: BERT for Keras, from raw text to a served answer."""

import os as _os
import sys as _sys


def _check_backend(name: str) -> None:
    if name != "tensorflow":
        raise ImportError(
            f"kbert runs on Keras's TensorFlow backend, but Keras is set to {name!r}. Set the environment variable "
            "KERAS_BACKEND=tensorflow before Keras is imported (or edit ~/.keras/keras.json)."
        )


if "keras" not in _sys.modules:  # Keras itself fails with a message about the other backend's package
    _check_backend(_os.environ.get("KERAS_BACKEND") or "tensorflow")

import keras as _keras

_check_backend(_keras.backend.backend())

from kbert.checkpoints.catalogue import presets
from kbert.config import BertConfig, MobileBertConfig
from kbert.distillation import Distiller
from kbert.encoders.bert import BertEncoder
from kbert.encoders.mobilebert import MobileBertEncoder
from kbert.files.bio_file import read_bio
from kbert.files.squad_file import read_squad
from kbert.pretraining.pretrainer import Pretrainer
from kbert.tasks.files import load
from kbert.tasks.masked_lm import MaskedLM
from kbert.tasks.question_answerer import QuestionAnswerer
from kbert.tasks.text_classifier import TextClassifier
from kbert.tasks.text_embedder import TextEmbedder
from kbert.tasks.token_classifier import TokenClassifier
from kbert.text.packing import TextPreprocessor
from kbert.text.tokenizer import WordPieceTokenizer

__version__ = "0.1.0"

__all__ = [
    "BertConfig",
    "BertEncoder",
    "Distiller",
    "MaskedLM",
    "MobileBertConfig",
    "MobileBertEncoder",
    "Pretrainer",
    "QuestionAnswerer",
    "TextClassifier",
    "TextEmbedder",
    "TextPreprocessor",
    "TokenClassifier",
    "WordPieceTokenizer",
    "load",
    "presets",
    "read_bio",
    "read_squad",
]
