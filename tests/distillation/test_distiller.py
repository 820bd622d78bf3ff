"""Students learn what their teacher knows; each loss equals its formula; and what does not fit is said."""

import keras
import numpy as np
import pytest

import kbert
from kbert.distillation import losses
from kbert.tasks.smaller import layer_map
from tests.conftest import BAD, GOOD, TINY, VOCABULARY, tiny_tokenizer

QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def make(kind="single", labels=("bad", "good"), vocabulary=VOCABULARY, **changes):
    encoder = kbert.BertEncoder(kbert.BertConfig(**{**TINY, **QUIET, "vocab_size": len(vocabulary), **changes}))
    tokenizer = tiny_tokenizer() if vocabulary is VOCABULARY else kbert.WordPieceTokenizer(vocabulary)
    preprocessor = kbert.TextPreprocessor(tokenizer, 24)
    if kind in ("single", "multi", "regression"):
        kinds = {"single": "single_label", "multi": "multi_label"}
        return kbert.TextClassifier(
            encoder, preprocessor, labels=None if kind == "regression" else list(labels), problem_type=kinds.get(kind, kind)
        )
    if kind == "tokens":
        return kbert.TokenClassifier(encoder, preprocessor, labels=["O", "B-mood"])
    return {"answers": kbert.QuestionAnswerer, "masks": kbert.MaskedLM, "vectors": kbert.TextEmbedder}[kind](
        encoder, preprocessor
    )


@pytest.fixture(scope="module")
def taught():
    """A teacher that knows good from bad, and its weights."""
    keras.utils.set_random_seed(7)
    task = make(num_hidden_layers=4)
    task.compile(learning_rate=1e-2)
    task.fit(GOOD + BAD, ["good"] * len(GOOD) + ["bad"] * len(BAD), epochs=8, batch_size=8, verbose=0)
    return task, task.get_weights()


@pytest.fixture
def teacher(taught):
    task, weights = taught
    task.set_weights(weights)  # a test may change them
    return task


# Losses, beside NumPy


def softmax(x):
    x = np.asarray(x, np.float64)  # a reference should be the more exact side
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def kl(p, q):
    return (p * (np.log(p) - np.log(q))).sum(-1)


@pytest.fixture
def tensors():
    random = np.random.default_rng(0)
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.float32)
    a, b = random.standard_normal((2, 2, 3, 4, 4)).astype(np.float32)  # [B, heads, L, L]
    c, d = random.standard_normal((2, 2, 4, 5)).astype(np.float32)  # [B, L, H]
    return mask, a, b, c, d


def test_soft_targets_are_hintons(tensors):
    *_, teacher, student = tensors
    expected = 9 * kl(softmax(teacher / 3), softmax(student / 3)).mean()
    np.testing.assert_allclose(losses.soft_targets(teacher, student, 3.0), expected, rtol=1e-5)
    weights = np.array([[1, 0, 0, 1], [1, 1, 0, 0]], np.float32)
    expected = (kl(softmax(teacher), softmax(student)) * weights).sum() / 4
    np.testing.assert_allclose(losses.soft_targets(teacher, student, 1.0, weights), expected, rtol=1e-5)


def test_soft_labels_are_of_two_outcomes_each(tensors):
    *_, teacher, student = tensors
    p, q = (1 / (1 + np.exp(-x[:, 0] / 2)) for x in (teacher, student))
    expected = 4 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    np.testing.assert_allclose(losses.soft_labels(teacher[:, 0], student[:, 0], 2.0), expected, rtol=1e-5)


def test_vectors_are_compared_at_real_tokens(tensors):
    mask, *_, teacher, student = tensors
    real = mask.astype(bool)
    np.testing.assert_allclose(
        losses.squared_difference(teacher, student, mask), ((teacher - student)[real] ** 2).mean(), rtol=1e-5
    )
    cosine = (teacher * student).sum(-1) / np.linalg.norm(teacher, axis=-1) / np.linalg.norm(student, axis=-1)
    np.testing.assert_allclose(losses.cosine_distance(teacher, student, mask), 1 - cosine[real].mean(), rtol=1e-5)


def test_attention_is_compared_among_real_tokens(tensors):
    mask, teacher, student, *_ = tensors
    both = np.broadcast_to(mask[:, None, :, None] * mask[:, None, None, :], teacher.shape).astype(bool)
    np.testing.assert_allclose(
        losses.attention_difference(teacher, student, mask), ((teacher - student)[both] ** 2).mean(), rtol=1e-5
    )
    hidden = (1 - mask)[:, None, None] * -1e9
    p, q = softmax(teacher + hidden), softmax(student + hidden)
    rows = (p * (np.log(p + 1e-9) - np.log(q + 1e-9))).sum(-1)
    expected = rows[np.broadcast_to(mask[:, None], rows.shape).astype(bool)].mean()
    p, q = p.astype(np.float32), q.astype(np.float32)
    np.testing.assert_allclose(losses.attention_divergence(p, q, mask), expected, rtol=1e-5)


def test_value_relation_is_minilms(tensors):
    mask = tensors[0]
    random = np.random.default_rng(1)
    teacher, student = (random.standard_normal((2, 3, 4, width)).astype(np.float32) for width in (6, 2))
    hidden = (1 - mask)[:, None, None] * -30000.0

    def relation(values):
        values = values.astype(np.float64)
        return softmax(values @ values.swapaxes(-1, -2) / np.sqrt(values.shape[-1]) + hidden)

    p, q = relation(teacher), relation(student)
    rows = np.where(p > 0, p * (np.log(np.maximum(p, 1e-30)) - np.log(np.maximum(q, 1e-30))), 0).sum(-1)
    expected = rows[np.broadcast_to(mask[:, None], rows.shape).astype(bool)].mean()
    np.testing.assert_allclose(losses.value_relation(teacher, student, mask), expected, rtol=1e-5)


def test_layer_maps():
    assert layer_map("uniform", 4, 12) == [2, 5, 8, 11]
    assert layer_map("uniform", 1, 6) == [5]
    assert layer_map("last", 2, 6) == [4, 5]
    with pytest.raises(ValueError, match="names the teacher's layer 6, but its 6 layers are 0 to 5"):
        layer_map([0, 6], 2, 6)
    with pytest.raises(ValueError, match="one of the teacher's layers for each of the student's 3"):
        layer_map([0, 1], 3, 6)
    with pytest.raises(ValueError, match="'uniform', 'last'"):
        layer_map("middle", 3, 6)


# Students


def test_a_student_of_fewer_layers_begins_as_its_teacher(teacher):
    student = teacher.make_student(num_hidden_layers=2)
    for ours, theirs in ((0, 1), (1, 3)):
        for a, b in zip(student.encoder.blocks[ours].get_weights(), teacher.encoder.blocks[theirs].get_weights()):
            np.testing.assert_array_equal(a, b)
    assert student.labels == teacher.labels and student.tokenizer is teacher.tokenizer
    whole = teacher.make_student(num_hidden_layers=4)
    np.testing.assert_allclose(whole.predict(["good cat"]), teacher.predict(["good cat"]), atol=1e-6)
    assert teacher.make_student(num_hidden_layers=2, layers=[0, 1]).encoder.config.num_hidden_layers == 2


def test_a_narrower_student_begins_anew(teacher):
    student = teacher.make_student(num_hidden_layers=1, hidden_size=8, intermediate_size=16)
    assert student.encoder.config.hidden_size == 8 and student.new_weights
    assert student.predict(["good cat"]).shape == (1, 2)


def test_distilled_without_labels_it_answers_as_its_teacher(teacher, texts_and_labels):
    texts, labels = texts_and_labels
    student = teacher.make_student(num_hidden_layers=1, hidden_size=8, intermediate_size=16)
    before = teacher.get_weights()
    distiller = kbert.Distiller(teacher, student)
    distiller.compile(learning_rate=1e-2)
    history = distiller.fit(texts, epochs=20, batch_size=8, verbose=0, validation_data=(texts, labels)).history
    assert history["loss"][-1] < history["loss"][0] / 3 and history["val_accuracy"][-1] == 1 and not student.new_weights
    assert [a["label"] for a in student.classify(texts)] == [a["label"] for a in teacher.classify(texts)]
    for a, b in zip(before, teacher.get_weights()):
        np.testing.assert_array_equal(a, b)


INSIDE = {"hidden": 1.0, "embedding": 1.0, "attention": 1.0, "relation": 1.0}
DATA = {
    "single": (["good cat", "bad dog . the film"], ["good", None]),
    "multi": (["good cat", "bad dog . the film"], [["good"], None]),
    "regression": (["good cat", "bad dog . the film"], [1.0, None]),
    "tokens": ([["good", "cat"], ["a", "bad", "dog"]], [["B-mood", "O"], None]),
    "answers": ((["the cat ?", "the dog ?"], ["a cat sat", "the dog so bad"]), [{"text": "sat", "start": 6}, None]),
    "masks": (["good cat sat", "bad dog . the film"], None),
    "vectors": (["good cat", "bad dog . the film"], None),
}


@pytest.mark.parametrize(
    ("kind", "inside"), [*((kind, True) for kind in DATA), ("single", False), ("answers", False), ("vectors", False)]
)
def test_every_task_teaches_and_learns(kind, inside):
    teacher = make(kind, num_hidden_layers=3)
    student = teacher.make_student(num_hidden_layers=1)
    distiller = kbert.Distiller(teacher, student, **(INSIDE if inside else {}))
    distiller.compile(learning_rate=5e-3)
    history = distiller.fit(*DATA[kind], epochs=12, batch_size=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    if kind != "masks":  # whose masks are new in each epoch
        assert history["loss"][-1] < history["loss"][0]
    assert set(history) >= {f"{name}_loss" for name in ("soft", *(INSIDE if inside else ()))}


def test_labels_that_are_missing_do_not_count():
    teacher = make(num_hidden_layers=2)
    losses_seen = []
    for labels in (["good", None, None], ["good", "good", "good"]):
        student = teacher.make_student(num_hidden_layers=1)
        distiller = kbert.Distiller(teacher, student, soft=0.0)
        distiller.compile(keras.optimizers.SGD(0.0))
        losses_seen.append(distiller.fit(["good cat", "bad", "film"], labels, verbose=0).history["hard_loss"][0])
    first = -np.log(softmax(student.predict(["good cat"]))[0, 1])
    assert losses_seen[0] == pytest.approx(first, rel=1e-4) and losses_seen[1] != losses_seen[0]


@pytest.mark.parametrize(
    ("kind", "inside"),
    [
        *((kind, True) for kind in ("single", "tokens", "answers", "masks", "vectors")),
        *((kind, False) for kind in DATA if kind != "single"),
    ],
)
def test_what_is_kept_gives_the_losses_of_the_teacher_at_work(kind, inside, tmp_path):
    teacher = make(kind, num_hidden_layers=3)
    distiller = kbert.Distiller(teacher, teacher.make_student(num_hidden_layers=2), **(INSIDE if inside else {}))
    distiller.compile()
    seen = {}
    for cache in (tmp_path / "teacher", None):
        data = distiller._data(
            *DATA[kind], 1, True, cache
        )  # one text in a batch: kept among longer ones, and read without them
        for inputs, y in data.repeat(2):
            kept = distiller.compute_loss(inputs, y, distiller(inputs))
            at_work = distiller.compute_loss(inputs, {**y, "teacher": distiller._teacher_seen(inputs)}, distiller(inputs))
            assert float(kept) == pytest.approx(float(at_work), rel=1e-4, abs=1e-6)
        seen[cache] = "teacher" in y
    # Without a folder, answers alone are kept in memory; a masked LM's masks are new in each epoch then.
    assert list(seen.values()) == [True, not inside and kind != "masks"]
    both = distiller._data(*DATA[kind], 2, False, tmp_path / "teacher")
    for inputs, y in both:
        at_work = {**y, "teacher": distiller._teacher_seen(inputs)}
        kept, at_work = (float(distiller.compute_loss(inputs, known, distiller(inputs))) for known in (y, at_work))
        assert kept == pytest.approx(at_work, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("inside", [{}, INSIDE])
def test_a_cache_is_used_and_checked(inside, teacher, texts_and_labels, tmp_path, monkeypatch):
    texts, labels = texts_and_labels
    cache, weights = tmp_path / "new" / "teacher", []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        student = teacher.make_student(num_hidden_layers=1)
        kbert.Distiller(teacher, student, **inside).fit(texts, labels, epochs=2, verbose=0, cache=cache)
        weights.append(student.get_weights())
        monkeypatch.setattr(kbert.Distiller, "_teacher_seen", None)  # the second run need not ask the teacher
    monkeypatch.undo()
    for a, b in zip(*weights):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="teacher was made of other texts"):
        kbert.Distiller(teacher, student, **inside).fit(texts[1:], labels[1:], verbose=0, cache=cache)
    with pytest.raises(ValueError, match="teacher was made of other tensors"):
        kbert.Distiller(teacher, student, relation=2.0).fit(texts, labels, verbose=0, cache=cache)
    teacher.classifier.bias.assign_add([1.0, 0.0])
    with pytest.raises(ValueError, match="teacher was made of other weights"):
        kbert.Distiller(teacher, student, **inside).fit(texts, labels, verbose=0, cache=cache)


def test_a_cache_that_cannot_be_is_named(teacher, texts_and_labels, tmp_path, monkeypatch):
    student = teacher.make_student(num_hidden_layers=1)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds no answers of a teacher"):
        kbert.Distiller(teacher, student).fit(*texts_and_labels, verbose=0, cache=tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(OSError, match=r"the teacher's answers take 0.0 GB.*give a cache on another disk"):
        kbert.Distiller(teacher, student).fit(*texts_and_labels, verbose=0, cache=tmp_path / "full")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_weights_may_change_with_the_training(teacher, texts_and_labels):
    student = teacher.make_student(num_hidden_layers=1)
    distiller = kbert.Distiller(teacher, student, soft=lambda done: done, hard=lambda done: 1 - done)
    distiller.compile(keras.optimizers.SGD(0.0))
    history = distiller.fit(*texts_and_labels, epochs=4, batch_size=32, verbose=0).history
    for epoch in range(4):
        mixed = epoch / 4 * history["soft_loss"][epoch] + (1 - epoch / 4) * history["hard_loss"][epoch]
        assert history["loss"][epoch] == pytest.approx(mixed, rel=1e-4)


def test_students_save_and_export(teacher, texts_and_labels, tmp_path):
    student = teacher.make_student(num_hidden_layers=1)
    kbert.Distiller(teacher, student).fit(*texts_and_labels, verbose=0)
    student.save(tmp_path / "student.keras")
    expected = student.predict(["good cat"])
    np.testing.assert_array_equal(kbert.load(tmp_path / "student.keras").predict(["good cat"]), expected)
    student.save_to_preset(tmp_path / "preset")
    np.testing.assert_allclose(kbert.TextClassifier.from_preset(tmp_path / "preset").predict(["good cat"]), expected, atol=1e-6)
    student.export(tmp_path / "1")
    student.export(tmp_path / "student.tflite", format="litert", quantize="int8")


# Smaller vocabularies


@pytest.mark.parametrize("kind", ["single", "masks", "tokens"])
def test_a_trimmed_vocabulary_answers_the_same_for_words_that_it_kept(kind, tmp_path):
    task = make(kind)
    texts = ["the cat sat .", "a good day !"]
    smaller = task.trim_vocabulary(texts)
    assert smaller.tokenizer.vocabulary_size == smaller.encoder.config.vocab_size < len(VOCABULARY)
    assert smaller.trimmed["unknown"] == smaller.trimmed["unknown_before"] == 0
    if kind == "masks":
        ours = [found["token"] for found in smaller.fill("the [MASK] sat .", candidates=["cat", "day"])]
        assert ours == [found["token"] for found in task.fill("the [MASK] sat .", candidates=["cat", "day"])]
    else:
        np.testing.assert_allclose(smaller.predict(texts), task.predict(texts), atol=1e-6)
    smaller.export(tmp_path / "1")  # checked against the task as it is written
    smaller.save(tmp_path / "x.keras")
    assert kbert.load(tmp_path / "x.keras").tokenizer.vocabulary == smaller.tokenizer.vocabulary


def test_what_is_not_kept_is_unknown_and_that_is_said():
    task = make()
    texts = ["the cat sat ."] * 5 + ["你"]
    smaller = task.trim_vocabulary(texts, size=15)
    assert smaller.trimmed["tokens"] == 15 and smaller.trimmed["unknown"] > smaller.trimmed["unknown_before"] == 0
    with pytest.raises(ValueError, match="size should be at least"):
        task.trim_vocabulary(texts, size=3)


# What does not fit


def test_bad_pairs_are_named(teacher):
    student = teacher.make_student(num_hidden_layers=1)
    with pytest.raises(TypeError, match="should do the same: got a TextClassifier and a TextEmbedder"):
        kbert.Distiller(teacher, make("vectors"))
    with pytest.raises(ValueError, match="same object"):
        kbert.Distiller(teacher, teacher)
    with pytest.raises(ValueError, match=r"only the teacher has \['bad', 'good'\], only the student \['a', 'b'\]"):
        kbert.Distiller(teacher, make(labels=("a", "b")))
    with pytest.raises(ValueError, match=r"different vocabularies \(\d+ and \d+ tokens\)"):
        kbert.Distiller(teacher, make(vocabulary=VOCABULARY[:-2]))
    for temperature in (0, -1.0, "hot", float("nan")):
        with pytest.raises(ValueError, match="temperature should be a finite number above 0"):
            kbert.Distiller(teacher, student, temperature=temperature)
    with pytest.raises(ValueError, match="names the teacher's layer 9"):
        kbert.Distiller(teacher, student, hidden=1.0, layer_map=[9])
    narrow = teacher.make_student(num_hidden_layers=1, hidden_size=8)
    with pytest.raises(ValueError, match="8 coordinates, the teacher's 16.*project=True"):
        kbert.Distiller(teacher, narrow, hidden=1.0, project=False)
    heads = teacher.make_student(num_hidden_layers=1, num_attention_heads=4)
    with pytest.raises(ValueError, match="head by head: the student has 4 heads, the teacher 2"):
        kbert.Distiller(teacher, heads, attention=1.0)
    with pytest.raises(ValueError, match="weights of the losses"):
        kbert.Distiller(teacher, student, soft=0.0, hard=0.0)
    with pytest.raises(ValueError, match="2 texts and 1 targets"):
        kbert.Distiller(teacher, student).fit(["a", "b"], ["good"])
    with pytest.raises(ValueError, match="there are no texts"):
        kbert.Distiller(teacher, student).fit([])


def test_students_that_cannot_be_are_named(teacher):
    with pytest.raises(ValueError, match="say what is to be smaller"):
        teacher.make_student()
    with pytest.raises(ValueError, match="has no 'layer_count'"):
        teacher.make_student(layer_count=2)
    with pytest.raises(ValueError, match="hidden_size 9 is not a multiple"):
        teacher.make_student(hidden_size=9)
    with pytest.raises(ValueError, match="names the teacher's layer 7"):
        teacher.make_student(num_hidden_layers=1, layers=[7])
