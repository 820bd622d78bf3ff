"""Each recipe runs with a tiny model, and its losses fall; new texts by a masked LM; the command line."""

import json

import keras
import numpy as np
import pytest

import kbert
from kbert import cli
from kbert.distillation.recipes import augment, recipes
from tests.conftest import VOCABULARY
from tests.distillation.test_distiller import make


@pytest.mark.parametrize("name", sorted(recipes))
def test_each_recipe_makes_a_student_that_knows_what_its_teacher_does(name, texts_and_labels):
    texts, labels = texts_and_labels
    teacher = make(num_hidden_layers=4)
    teacher.compile(learning_rate=1e-2)
    teacher.fit(texts, labels, epochs=8, batch_size=8, verbose=0)
    student = recipes[name].run(
        teacher, texts, labels, num_hidden_layers=2, epochs=4, learning_rate=5e-3, batch_size=8, verbose=0
    )
    assert student.encoder.config.num_hidden_layers == 2
    assert [a["label"] for a in student.classify(texts)] == labels
    assert recipes[name].source and recipes[name].name == name


def test_distilbert_is_made_of_a_masked_lm(texts_and_labels):
    teacher = make("masks", num_hidden_layers=4)
    student = recipes["distilbert"].run(teacher, texts_and_labels[0], num_hidden_layers=2, epochs=1, verbose=0)
    assert type(student) is kbert.MaskedLM
    first = recipes["distilbert"].make_student(teacher, 2)
    for ours, theirs in ((0, 0), (1, 2)):  # every other layer
        np.testing.assert_array_equal(
            first.encoder.blocks[ours].get_weights()[0], teacher.encoder.blocks[theirs].get_weights()[0]
        )


def test_a_stage_may_have_texts_of_its_own(texts_and_labels):
    teacher = make(num_hidden_layers=2)
    run = recipes["tinybert"].run
    run(teacher, *texts_and_labels, num_hidden_layers=1, epochs={"layers": 2}, stage_data={"layers": ["good cat"]}, verbose=0)
    with pytest.raises(ValueError, match="has no stage 'general'; its stages are"):
        run(teacher, *texts_and_labels, num_hidden_layers=1, stage_data={"general": []}, verbose=0)
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
    assert cli.main([*command, "--layers", "2", "1", "--epochs", "1", "--cache", str(tmp_path / "kept")]) == 0
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["1-layers", "2-layers"]
    assert "student, 1 layers" in capsys.readouterr().out
    worth = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(worth) == ["teacher, 3 layers", "student, 2 layers", "student, 1 layers"]
    assert kbert.load(tmp_path / "out" / "student_1.keras").encoder.config.num_hidden_layers == 1
    assert "by latency" in (tmp_path / "out" / "report.html").read_text()
    assert cli.main([*command, "--layers", "9", "--overwrite"]) == 1
    assert "--layers 9, but the teacher has 3" in capsys.readouterr().err
