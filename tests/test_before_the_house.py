"""Files that kbert 0.1.0 wrote before its modules moved open, and give the answers that it gave.

`fixtures/make_before_the_house.py` wrote them, and says how.
"""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.pretraining.records import write_records
from tests.fixtures import make_before_the_house as made

FOLDER = Path(__file__).parent / "fixtures" / "before_the_house"
ANSWERS = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))


def arrays(name):
    with np.load(FOLDER / f"{name}.npz") as file:
        return [file[key] for key in sorted(file.files)]


def assert_same(answer, expected):
    """Compares nested answers: numbers within 1e-5, all else exactly."""
    if isinstance(expected, dict):
        assert sorted(answer) == sorted(expected)  # `evaluate` gives the loss first since
        for key, value in expected.items():
            assert_same(answer[key], value)
    elif isinstance(expected, list):
        assert len(answer) == len(expected)
        for item, value in zip(answer, expected):
            assert_same(item, value)
    elif isinstance(expected, float):
        assert answer == pytest.approx(expected, abs=1e-5, rel=1e-5)
    else:
        assert answer == expected


@pytest.mark.filterwarnings("ignore:.*longer than max_length")
@pytest.mark.parametrize("name", made.QUESTIONS_OF_TASKS)
def test_a_keras_file_of_each_task_answers_as_before(name):
    task = kbert.load(FOLDER / f"{name}.keras")
    for question, ask in made.QUESTIONS_OF_TASKS[name].items():
        assert_same(made.as_plain(ask(task)), ANSWERS[name][question])


def test_a_keras_file_goes_on_training_with_its_optimizers_state():
    keras.utils.set_random_seed(5)
    task = kbert.load(FOLDER / "classifier.keras")
    assert int(task.optimizer.iterations) == 1
    task.fit(made.TEXTS, made.LABELS, batch_size=8, verbose=0)
    for weight, expected in zip(task.get_weights(), arrays("after_a_second_step")):
        np.testing.assert_allclose(weight, expected, atol=1e-5)


def test_a_preset_folder_opens():
    classifier = kbert.TextClassifier.from_preset(FOLDER / "classifier_preset")
    assert_same(classifier.classify(made.TEXTS, verbose=0), ANSWERS["classifier"]["classify"])
    embedder = kbert.TextEmbedder.from_preset(FOLDER / "text_embedder_preset")
    assert_same(embedder.embed(made.TEXTS, verbose=0).tolist(), ANSWERS["text_embedder"]["embed"])


def test_a_stopped_training_goes_on_to_the_weights_of_an_undisturbed_one(tmp_path):
    shutil.copytree(FOLDER / "stopped", tmp_path / "stopped")
    task, history = made.trained_classifier(resume=tmp_path / "stopped")
    assert list((tmp_path / "stopped").iterdir()) == []
    assert int(task.optimizer.iterations) == 15
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(ANSWERS["resume"], 3)
    assert_same(history["loss"][0], ANSWERS["resume"]["loss"][0])
    assert_same(history["loss"][-1], ANSWERS["resume"]["loss"][-1])
    for weight, expected in zip(task.get_weights(), arrays("undisturbed")):
        np.testing.assert_allclose(weight, expected, atol=1e-5)


@pytest.mark.parametrize("name, options", [("in_order", {"shuffle": False}), ("shuffled", {"shuffle": True, "seed": 3})])
def test_records_give_the_same_batches(name, options):
    batches = made.batches_of(FOLDER / "records", **options)
    expected = arrays(f"records_{name}")
    assert len(batches) == len(expected)
    for array, before in zip(batches, expected):
        np.testing.assert_array_equal(array, before)


def test_a_stopped_writing_of_records_goes_on_with_the_same_examples(tmp_path):
    shutil.copytree(FOLDER / "records", tmp_path / "records")
    first, second = sorted((tmp_path / "records").glob("*.tfrecord.gz"))
    first.unlink()
    kept = second.read_bytes()
    tokenizer = kbert.WordPieceTokenizer(made.SPECIAL + made.WORDS)
    write_records(made.DOCUMENTS, tokenizer, tmp_path / "records", **made.RECORDS)

    def examples(path):
        return list(tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator())

    assert examples(first) == examples(FOLDER / "records" / first.name)
    assert second.read_bytes() == kept
