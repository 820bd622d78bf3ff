"""A teacher's kept answers are used where they would be computed alike, and nowhere else."""

import keras
import numpy as np
import pytest

import kbert
from kbert.distillation.lessons import open_lessons, read_lessons
from kbert.distillation.teacher_cache import parts_of_answers
from kbert.training.fingerprint import differing, digest
from tests.conftest import TINY, tiny_tokenizer

TEXTS = ["good day [SEP]", "the cat", "a very bad film night so bad ."]


def made(texts=TEXTS, labels=("bad", "good"), kind="classifier", change=None, names=("outputs",), y=None, **options):
    """The fingerprints of the answers to texts of a teacher that is always the same but for a change."""
    keras.utils.set_random_seed(3)
    tokenizer = tiny_tokenizer(**options.pop("tokenizer", {}))
    preprocessor = kbert.TextPreprocessor(tokenizer, **{"max_length": 24, **options.pop("preprocessor", {})})
    encoder = kbert.BertEncoder(kbert.BertConfig(**{**TINY, "num_hidden_layers": 1}), **options.pop("encoder", {}))
    if kind == "classifier":
        teacher = kbert.TextClassifier(encoder, preprocessor, labels, **options)
    else:
        teacher = kbert.TextEmbedder(encoder, preprocessor, **options)
    for variable in teacher.weights:  # the same under each policy
        variable.assign(np.full(variable.shape, 0.25))
    if change:
        change(teacher)
    lessons = read_lessons(teacher, open_lessons(teacher, texts, y))
    return parts_of_answers(lessons, teacher, teacher, names)


def frozen(teacher):
    teacher.trainable = False


def other_weights(teacher):
    frozen(teacher)
    teacher.encoder.weights[0].assign_add(np.ones(teacher.encoder.weights[0].shape))


OTHER = {
    "other texts": (dict(texts=["bad day", *TEXTS[1:]]), "texts"),
    "another order": (dict(texts=TEXTS[::-1]), "texts"),
    "weights of a frozen teacher": (dict(change=other_weights), "weights"),
    "order of the labels": (dict(labels=("good", "bad")), "teacher"),
    "typed tokens": (dict(tokenizer={"recognize_special_tokens": True}), "tokenizer"),
    "lengths": (dict(preprocessor={"max_length": 12}), "tokenizer"),
    "truncation": (dict(preprocessor={"truncation": "only_second"}), "tokenizer"),
    "windows": (dict(window_stride=2), "windows"),
    "precision": (dict(encoder={"dtype": "mixed_bfloat16"}), "teacher"),
    "tensors": (dict(names=("outputs", "hidden_states/1")), "tensors"),
}
SAME = {
    "nothing": {},
    "a frozen teacher": dict(change=frozen),
    "labels for the student": dict(y=["bad", "good", None]),
    "a name": dict(name="teacher"),
}


@pytest.fixture(scope="module")
def first():
    return made()


@pytest.mark.parametrize("case", OTHER)
def test_what_changes_the_answers_changes_the_mark(case, first):
    options, part = OTHER[case]
    assert part in differing(made(**options), first)


@pytest.mark.parametrize("case", SAME)
def test_what_does_not_change_them_does_not(case, first):
    assert not differing(made(**SAME[case]), first)


def test_an_embedders_pooling_and_length_of_vectors_count():
    marks = [made(kind="embedder", **options) for options in ({}, {"pooling": "cls"}, {"normalize": False})]
    assert len({mark["teacher"] for mark in marks}) == 3 and len({mark["weights"] for mark in marks}) == 1


def test_a_file_that_breaks_off_is_named(tmp_path):
    keras.utils.set_random_seed(3)
    preprocessor = kbert.TextPreprocessor(tiny_tokenizer(), 24)
    teacher = kbert.TextClassifier(kbert.BertEncoder(kbert.BertConfig(**TINY)), preprocessor, ["bad", "good"])
    student = teacher.make_student(num_hidden_layers=1)
    distiller = kbert.Distiller(teacher, student)
    lessons = read_lessons(student, open_lessons(student, TEXTS, None))
    distiller._teacher_cache(lessons, tmp_path / "kept")
    (file,) = (tmp_path / "kept").glob("*.npy")
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="kept is not complete: delete it"):
        distiller._teacher_cache(lessons, tmp_path / "kept")
    np.save(file, np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="has another size: delete the folder"):
        distiller._teacher_cache(lessons, tmp_path / "kept")
    file.unlink()
    with pytest.raises(ValueError, match="not complete"):
        distiller._teacher_cache(lessons, tmp_path / "kept")


def test_a_digest_tells_nests_apart():
    arrays = [np.array([1, 2]), np.array([[1, 2]]), np.array([1, 2], np.float32)]
    nests = [[1, 2], [[1], 2], [1, "2"], ["12"], ["1", "2"], [b"12"], [b"1", b"2"], None, "", []]
    values = [*arrays, *nests, {"a": 1}, {"b": 1}, {"a": 1, "b": None}, {"name": "float16"}, {"name": "x"}]
    assert len({digest(value) for value in values}) == len(values)
    assert digest({"name": "a", "rate": 1}) == digest({"name": "b", "rate": 1})
