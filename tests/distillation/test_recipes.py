"""Each recipe runs with a tiny model, and its losses fall; new texts by a masked LM; the command line."""

import json

import keras
import numpy as np
import pytest

import kbert
from kbert.commands import cli
from kbert.distillation.recipes import augment, recipes
from tests.conftest import TINY, VOCABULARY, tiny_tokenizer
from tests.distillation.test_distiller import make


def classifier(encoder):
    return kbert.TextClassifier(encoder, kbert.TextPreprocessor(tiny_tokenizer(), 24), labels=["bad", "good"])


def mobilebert(layers):
    config = kbert.MobileBertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        intra_bottleneck_size=8,
        embedding_size=8,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=24,
    )
    return classifier(kbert.MobileBertEncoder(config))


def distilbert():
    config = kbert.BertConfig(**{**TINY, "num_hidden_layers": 2}, type_vocab_size=0, add_pooling_layer=False)
    return classifier(kbert.BertEncoder(config))


# A recipe, its teacher, and a student of the architecture that it was published for.
PUBLISHED = {
    "task": (lambda: make(num_hidden_layers=4), lambda teacher: teacher.make_student(num_hidden_layers=2)),
    "distilbert": (lambda: make(num_hidden_layers=4), lambda teacher: distilbert()),
    "tinybert": (
        lambda: make(num_hidden_layers=4),
        lambda teacher: teacher.make_student(num_hidden_layers=2, hidden_size=8, intermediate_size=16),
    ),
    "mobilebert": (lambda: mobilebert(3), lambda teacher: teacher.make_student(num_hidden_layers=2)),
}


@pytest.mark.parametrize("name", sorted(recipes))
def test_each_recipe_makes_a_student_that_knows_what_its_teacher_does(name, texts_and_labels, tmp_path):
    texts, labels = texts_and_labels
    keras.utils.set_random_seed(0)
    make_teacher, student_of = PUBLISHED[name]
    teacher = make_teacher()
    if name != "mobilebert":  # such a small one learns little
        teacher.compile(learning_rate=1e-2)
        teacher.fit(texts, labels, epochs=8, batch_size=8, verbose=0)
    student = student_of(teacher)
    losses = []  # of each stage, and of each layer where a stage has layers of its own

    class Seen(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            losses.append([])

        def on_epoch_end(self, epoch, logs=None):
            losses[-1].append(logs["loss"])

    epochs = 13  # of four batches: 52 steps
    recipes[name].run(
        teacher, texts, labels, student=student, epochs=epochs, learning_rate=5e-3, batch_size=8, verbose=0, callbacks=[Seen()]
    )
    stages = sum(2 if stage.by_layer else 1 for stage in recipes[name].stages if not stage.on_plain_texts)
    assert len(losses) == stages and all(loss[-1] < loss[0] for loss in losses), losses
    if name != "mobilebert":
        assert [a["label"] for a in student.classify(texts)] == labels
    assert recipes[name].source and recipes[name].name == name
    expected = student.predict(texts, verbose=0)
    student.save(tmp_path / "student.keras")
    np.testing.assert_array_equal(kbert.load(tmp_path / "student.keras").predict(texts, verbose=0), expected)
    student.export(tmp_path / "student.tflite", format="litert", inputs="tokens")  # compared with the student as it is written


def test_distilbert_is_made_of_a_masked_lm(texts_and_labels):
    teacher = make("masks", num_hidden_layers=4)
    student = recipes["distilbert"].run(teacher, texts_and_labels[0], num_hidden_layers=2, epochs=1, verbose=0)
    assert type(student) is kbert.MaskedLM
    first = recipes["distilbert"].make_student(teacher, 2)
    for ours, theirs in ((0, 0), (1, 2)):  # every other layer
        np.testing.assert_array_equal(
            first.encoder.blocks[ours].get_weights()[0], teacher.encoder.blocks[theirs].get_weights()[0]
        )


def test_a_stage_may_have_texts_of_its_own(texts_and_labels, tmp_path):
    teacher = make(num_hidden_layers=2)
    run = recipes["tinybert"].run
    run(
        teacher,
        *texts_and_labels,
        num_hidden_layers=1,
        epochs={"layers": 2},
        stage_data={"general": ["good cat"]},
        verbose=0,
        cache=tmp_path / "kept",
    )
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["answers", "general", "layers"]
    with pytest.raises(ValueError, match="has no stage 'first'; its stages are"):
        run(teacher, *texts_and_labels, num_hidden_layers=1, stage_data={"first": []}, verbose=0)
    with pytest.raises(ValueError, match="give a student"):
        run(teacher, *texts_and_labels, verbose=0)


def test_each_stage_has_a_cache_of_its_own(texts_and_labels, tmp_path, monkeypatch):
    teacher, weights = make(num_hidden_layers=2), []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        student = recipes["mobilebert"].run(
            teacher, *texts_and_labels, num_hidden_layers=2, epochs=1, verbose=0, cache=tmp_path / "kept"
        )
        weights.append(student.get_weights())
        monkeypatch.setattr(kbert.Distiller, "_teacher_seen", None)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["answers", "layers-0", "layers-1"]
    for a, b in zip(*weights):
        np.testing.assert_array_equal(a, b)


def test_augmented_texts_have_other_words_in_their_places():
    lm = make("masks")
    texts = ["the cat sat .", "unable dogs", ""]
    more = augment(texts, lm, copies=4, share=1.0, top_k=3)
    assert len(more) == 12 and more[-1] == ""
    assert any(text != "the cat sat." for text in more[:4])
    assert all(len(lm.tokenizer(text)) == 4 for text in more[:4])
    assert all("unable" in text for text in more[4:8])  # of several pieces: left alone
    assert set(" ".join(more[:4]).split()) - set(VOCABULARY) <= {text.split()[-1] for text in more[:4]}


def test_the_command_line_makes_students_with_a_table(texts_and_labels, tmp_path, capsys):
    import pandas as pd

    teacher = make(num_hidden_layers=3)
    teacher.save(tmp_path / "teacher.keras")
    pd.DataFrame(dict(zip(("text", "label"), texts_and_labels))).to_csv(tmp_path / "data.csv", index=False)
    command = ["distill", "--teacher", tmp_path / "teacher.keras", "--data", tmp_path / "data.csv", "--out", tmp_path / "out"]
    command = [str(part) for part in command]
    (tmp_path / "plain.txt").write_text("good cat\nbad dog\n")
    more = ["--cache", str(tmp_path / "kept"), "--unlabelled", str(tmp_path / "plain.txt")]
    assert cli.main([*command, "--layers", "2", "1", "--epochs", "1", *more]) == 0
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["1-layers", "2-layers"]
    assert "student, 1 layers" in capsys.readouterr().out
    worth = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(worth) == ["teacher, 3 layers", "student, 2 layers", "student, 1 layers"]
    assert kbert.load(tmp_path / "out" / "student_1.keras").encoder.config.num_hidden_layers == 1
    assert "by latency" in (tmp_path / "out" / "report.html").read_text()
    assert cli.main([*command, "--layers", "9", "--overwrite"]) == 1
    assert "--layers 9, but the teacher has 3" in capsys.readouterr().err
