"""Each task says how it is taught: what its lessons are, which of them have a label, and what its losses compare."""

import ast
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.distillation.lessons import open_lessons, read_lessons
from tests.distillation.test_distiller import DATA, make

LABELLED = {
    "single": [1, 0],
    "multi": [1, 0],
    "regression": [1, 0],
    "tokens": [1, 0],
    "answers": [1, 1],  # None says that the text has no answer
    "masks": [1, 1],
    "vectors": [0, 0],
}


def lessons_of(task, x, y=None):
    return read_lessons(task, open_lessons(task, x, y))


@pytest.mark.parametrize("kind", DATA)
def test_lessons_say_which_rows_have_a_label(kind):
    lessons = lessons_of(make(kind), *DATA[kind])
    assert lessons.rows == 2 and lessons.labelled.dtype == np.float32
    assert lessons.labelled.tolist() == LABELLED[kind]
    assert (lessons.masks is not None) == (kind == "masks")
    texts = DATA[kind][0]
    if kind != "masks":
        assert not lessons_of(make(kind), texts, None).labelled.any()


def test_windows_of_a_text_without_labels_have_none():
    task = make("tokens")
    words = [["good", "cat"] * 30, ["a", "bad", "dog"] * 20]
    lessons = lessons_of(task, words, [None, ["B-mood"] * 60])
    first = np.flatnonzero(lessons.labelled)[0]
    assert first > 1 and lessons.labelled[first:].all() and lessons.rows > first + 1


@pytest.mark.parametrize("kind", ["single", "multi", "regression", "tokens", "answers"])
def test_what_stands_in_for_a_missing_label_counts_for_nothing(kind):
    task = make(kind)
    lessons = lessons_of(task, DATA[kind][0], None)
    inputs, y = next(iter(lessons.batches(task.pack, 2, False, None)))
    assert float(task.hard_loss(task(inputs), y["targets"], y["labelled"])) == 0
    assert float(task.hard_loss(task(inputs), y["targets"], tf.ones_like(y["labelled"]))) > 0


@pytest.mark.parametrize("kind", DATA)
def test_a_task_that_is_its_own_teacher_has_nothing_to_learn(kind):
    task = make(kind)
    lessons = lessons_of(task, *DATA[kind])
    inputs, y = next(iter(lessons.batches(task.pack, 2, False, None)))
    outputs, mask = task(inputs), tf.cast(inputs["padding_mask"], tf.float32)
    assert float(task.soft_loss(outputs, outputs, 2.0, mask, y["targets"])) == pytest.approx(0, abs=1e-6)


@pytest.mark.usefixtures("without_autograph")
@pytest.mark.parametrize("kind", ["masks", "vectors"])
def test_tasks_that_learn_from_texts_alone_take_no_labels(kind, tmp_path):
    teacher = make(kind)
    distiller = kbert.Distiller(teacher, teacher.make_student(num_hidden_layers=1))
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(ValueError, match=r"learns from texts alone: fit\(texts\)"):
            distiller.fit(["good cat"], ["good"], cache=cache)


def test_layers_of_windows_are_not_cached(tmp_path):
    teacher = make()
    config = {**teacher.get_config(), "window_stride": 4}
    teacher, student = (kbert.TextClassifier.from_config(config) for _ in range(2))
    kbert.Distiller(teacher, student).fit(["good cat"], verbose=0, cache=tmp_path / "outputs")
    with pytest.raises(ValueError, match="texts in one window"):
        kbert.Distiller(teacher, student, hidden=1.0).fit(["good cat"], verbose=0, cache=tmp_path / "layers")


def test_nobody_in_distillation_asks_which_class_a_task_is():
    tasks = {"TextClassifier", "TokenClassifier", "QuestionAnswerer", "MaskedLM", "TextEmbedder", "Pretrainer"}
    for file in (pathlib.Path(kbert.__file__).parent / "distillation").glob("*.py"):
        source = file.read_text(encoding="utf-8")
        assert "problem_type" not in source, file.name
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
        asked = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("isinstance", "issubclass")]
        named = {node.id for call in asked for node in ast.walk(call) if isinstance(node, ast.Name)}
        assert not named & tasks, (file.name, named & tasks)
