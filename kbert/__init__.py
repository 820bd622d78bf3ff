"""kbert: BERT for Keras, from raw text to a served answer.

`import kbert` is quick: a name is imported when it is first asked for (PEP 562). kbert's classes are imported with Keras, which
looks them up by name when it loads a file.
"""

import importlib as _importlib
import importlib.abc as _abc
import importlib.machinery as _machinery
import os as _os
import sys as _sys
import threading as _threading
import types as _types
from collections.abc import Sequence as _Sequence
from typing import TYPE_CHECKING
from typing import Any as _Any

from kbert.version import VERSION as _VERSION

if TYPE_CHECKING:  # what an editor and a type checker see; `_PLACES` says the same to Python
    from kbert.checkpoints.catalogue import presets
    from kbert.config import BertConfig, MobileBertConfig
    from kbert.distillation.distiller import Distiller
    from kbert.encoders.bert import BertEncoder
    from kbert.encoders.mobilebert import MobileBertEncoder
    from kbert.files.bio_file import read_bio
    from kbert.files.squad_file import read_squad
    from kbert.pretraining.pretrainer import Pretrainer
    from kbert.tasks.any_task import from_preset
    from kbert.tasks.files import load
    from kbert.tasks.masked_lm import MaskedLM
    from kbert.tasks.question_answerer import QuestionAnswerer
    from kbert.tasks.text_classifier import TextClassifier
    from kbert.tasks.text_embedder import TextEmbedder
    from kbert.tasks.token_classifier import TokenClassifier
    from kbert.text.packing import TextPreprocessor
    from kbert.text.tokenizer import WordPieceTokenizer

__version__ = _VERSION

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
    "from_preset",
    "load",
    "presets",
    "read_bio",
    "read_squad",
]

_PLACES = {
    "BertConfig": "config",
    "BertEncoder": "encoders.bert",
    "Distiller": "distillation.distiller",
    "MaskedLM": "tasks.masked_lm",
    "MobileBertConfig": "config",
    "MobileBertEncoder": "encoders.mobilebert",
    "Pretrainer": "pretraining.pretrainer",
    "QuestionAnswerer": "tasks.question_answerer",
    "TextClassifier": "tasks.text_classifier",
    "TextEmbedder": "tasks.text_embedder",
    "TextPreprocessor": "text.packing",
    "TokenClassifier": "tasks.token_classifier",
    "WordPieceTokenizer": "text.tokenizer",
    "from_preset": "tasks.any_task",
    "load": "tasks.files",
    "presets": "checkpoints.catalogue",
    "read_bio": "files.bio_file",
    "read_squad": "files.squad_file",
}
_WITHOUT_KERAS = ("BertConfig", "MobileBertConfig", "presets", "read_bio", "read_squad")
# Folders that are attributes of kbert. kbert.export is not one: it is imported by name only, because its engines load slowly.
_FOLDERS = (
    "checkpoints",
    "distillation",
    "encoders",
    "engines",
    "files",
    "pretraining",
    "scoring",
    "tasks",
    "text",
    "training",
)


def _get(name: str) -> _Any:
    if name in _PLACES:
        if name not in _WITHOUT_KERAS:
            _import_all()
        value = getattr(_importlib.import_module(f"kbert.{_PLACES[name]}"), name)
    elif name in _FOLDERS:
        _import_all()
        value = _importlib.import_module(f"kbert.{name}")
    else:
        raise AttributeError(f"module 'kbert' has no attribute {name!r}")
    globals()[name] = value
    return value


if not TYPE_CHECKING:  # for a type checker, a name that is not imported above is an error
    __getattr__ = _get


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _import_all() -> None:
    """Imports the modules of all public names, and so registers their classes with Keras."""
    import keras

    _check_backend(keras.backend.backend())
    for place in _PLACES.values():
        _importlib.import_module(f"kbert.{place}")


def _check_backend(name: str) -> None:
    if name != "tensorflow":
        raise ImportError(
            f"kbert runs on Keras's TensorFlow backend, but Keras is set to {name!r}. Set the environment variable "
            "KERAS_BACKEND=tensorflow before Keras is imported (or edit ~/.keras/keras.json)."
        )


class _AfterKeras(_abc.MetaPathFinder):
    """Imports kbert's classes once Keras is imported, so that `keras.saving.load_model` knows them after `import kbert`.

    While a module of kbert is being imported, the finder waits until that import has ended, because other modules of kbert
    import names from the module.
    """

    def __init__(self) -> None:
        self.imports = _threading.local()  # `depth`: how many watched imports are nested

    def find_spec(
        self, name: str, path: _Sequence[str] | None = None, target: _types.ModuleType | None = None
    ) -> _machinery.ModuleSpec | None:
        if name != "keras" and not name.startswith("kbert."):
            return None
        others = (finder.find_spec(name, path, target) for finder in _sys.meta_path if finder is not self)
        spec = next((spec for spec in others if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_import_all(module: _types.ModuleType) -> None:
            self.imports.depth = getattr(self.imports, "depth", 0) + 1
            try:
                execute(module)
                if self.imports.depth == 1 and self in _sys.meta_path and "keras" in _sys.modules:
                    _import_all()
                    _sys.meta_path.remove(self)
            finally:
                self.imports.depth -= 1

        setattr(spec.loader, "exec_module", execute_and_import_all)  # noqa: B010 - mypy allows no assignment to a method
        return spec


if "keras" in _sys.modules:
    _import_all()
else:  # Keras itself fails with a message about the other backend's package
    _check_backend(_os.environ.get("KERAS_BACKEND") or "tensorflow")
    _sys.meta_path.insert(0, _AfterKeras())
