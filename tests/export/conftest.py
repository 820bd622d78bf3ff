"""Exported folders that the tests of several files ask."""

import pytest

import kbert
from kbert.export import export_serving
from tests.conftest import TINY, VOCABULARY


@pytest.fixture(scope="session")
def kit(tmp_path_factory):
    """A folder for TF Serving with one tiny model of each kind: `get(kind)` gives the task and the folder of its version."""
    from tests.export.test_saved_model import make

    root, made = tmp_path_factory.mktemp("kit"), {}

    def get(kind):
        if kind not in made:
            task = make(kind, kbert.BertEncoder(kbert.BertConfig(**TINY)), kbert.WordPieceTokenizer(VOCABULARY))
            made[kind] = task, export_serving(task, root, kind, pairs=kind == "pairs" or None)
        return made[kind]

    return get
