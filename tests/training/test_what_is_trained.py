"""A training changes the weights that its outputs depend on, and no word is said of the others."""

import warnings

import keras
import numpy as np
import pytest

import kbert
from tests.conftest import TINY, VOCABULARY

TEXTS = ["the good day", "a bad dog .", "so very good", "the cat sat"]
ANSWERS = [{"text": text.split()[0], "start": 0} for text in TEXTS]
TASKS = {
    "tagger": (
        lambda *parts: kbert.TokenClassifier(*parts, labels=["O", "B-x"]),
        ([text.split() for text in TEXTS], [["B-x"] + ["O"] * text.count(" ") for text in TEXTS]),
    ),
    "answerer": (kbert.QuestionAnswerer, ((TEXTS, TEXTS), ANSWERS)),
    "embedder": (kbert.TextEmbedder, ((TEXTS, TEXTS[::-1]),)),
    "masks": (kbert.MaskedLM, (TEXTS,)),
}


def built(make, **changes):
    keras.utils.set_random_seed(7)
    config = kbert.BertConfig(**{**TINY, "num_hidden_layers": 1, **changes})
    return make(kbert.BertEncoder(config), kbert.TextPreprocessor(kbert.WordPieceTokenizer(VOCABULARY), 16))


@pytest.mark.parametrize("kind", TASKS)
def test_a_pooler_that_no_head_reads_is_not_trained_and_not_mentioned(kind, tmp_path):
    make, data = TASKS[kind]
    task = built(make)
    pooler, before = task.encoder.pooler, [value.copy() for value in task.encoder.pooler.get_weights()]
    unread = {id(variable) for variable in pooler.weights}
    assert len(unread) == 2 and not unread & {id(variable) for variable in task.trainable_variables}
    assert len(task.trainable_weights) == len(task.weights) - 2
    task.compile(run_eagerly=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.fit(*data, verbose=0)
    for value, first in zip(pooler.get_weights(), before):
        np.testing.assert_array_equal(value, first)
    task.save(tmp_path / "task.keras")
    again = kbert.load(tmp_path / "task.keras")
    assert [value.shape for value in again.get_weights()] == [value.shape for value in task.get_weights()]
    assert len(again.optimizer.variables) == len(task.optimizer.variables)


def test_a_students_pooler_is_not_mentioned_either():
    make, data = TASKS["tagger"]
    distiller = kbert.Distiller(built(make), built(make))
    distiller.compile(run_eagerly=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distiller.fit(*data, verbose=0)


def test_a_pooler_that_the_head_reads_is_trained():
    task = built(lambda *parts: kbert.TextClassifier(*parts, labels=["a", "b"]))
    assert task.unread_weights == []
    assert {id(variable) for variable in task.encoder.pooler.weights} <= {id(variable) for variable in task.trainable_variables}
