"""`kbert inspect` says on one screen what a file or folder holds, without its weights and without TensorFlow."""

import contextlib
import json
import subprocess
import sys

import pytest

import kbert
from kbert.commands import cli
from kbert.commands.inspect import facts_of, rows
from kbert.files import flatbuffer_fields, protobuf_fields


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A classifier in every layout that needs no other library, and as a .keras file."""
    from tests.conftest import TINY, VOCABULARY

    there = tmp_path_factory.mktemp("folders")
    encoder = kbert.BertEncoder(kbert.BertConfig(**TINY))
    task = kbert.TextClassifier(encoder, kbert.TextPreprocessor(kbert.WordPieceTokenizer(VOCABULARY), 24), ["ham", "spam"])
    task.compile()
    task.save(there / "task.keras")
    for layout in ("huggingface", "google"):
        task.save_to_preset(there / layout, layout=layout)
    return there


@pytest.mark.parametrize("name", ["huggingface", "google", "task.keras", ""])
def test_each_kind_shows_architecture_sizes_labels_and_vocabulary(name, folders, capsys):
    assert cli.main(["inspect", str(folders / name)]) == 0  # "" is the folder, as finetune writes one
    screen = capsys.readouterr().out
    assert "TextClassifier" in screen and "2: ham, spam" in screen and "2 layers, 16 wide" in screen
    assert "24 positions" in screen and len(screen.splitlines()) < 25
    assert cli.main(["inspect", str(folders / name), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] * 4 == facts["bytes"] and facts["labels"] == ["ham", "spam"] and facts["lowercase"] is True
    assert facts["task"] == "TextClassifier" and "left_out" not in facts


def test_a_folder_is_inspected_without_tensorflow(folders):
    code = f"import sys; from kbert.commands import cli; cli.main(['inspect', {str(folders / 'huggingface')!r}])\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print({'tensorflow', 'keras'} & set(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "set()" and "TextClassifier" in done.stdout


def test_what_opening_would_leave_out_is_listed(classifier, tmp_path):
    from safetensors.numpy import load_file, save_file

    classifier.save_to_preset(tmp_path / "mine")
    path = tmp_path / "mine" / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "cls.predictions.bias": tensors["classifier.bias"]}, path)
    assert facts_of(str(path))["left_out"] == ["cls.predictions.bias"]  # the file stands for its folder
    assert rows(facts_of(str(path)))["left out"] == "1: cls.predictions.bias"


def test_a_built_in_name_of_the_hub_is_not_fetched(capsys):
    assert cli.main(["inspect", "bert-base-uncased"]) == 0
    assert "Apache-2.0" in capsys.readouterr().out and facts_of("bert-base-uncased")["parameters"] == 109_482_240


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tflite", b"\x08\0\0\0TFL3 cut", "x.tflite: the file is cut, or no flatbuffer"),
        ("x.tflite", b"", "x.tflite is empty or cut"),
        ("x.onnx", b"\xff" * 40, "x.onnx: not a protobuf message, or cut"),
        ("x.onnx", b"", "x.onnx is empty or cut"),
        ("x.keras", b"PK no zip", "x.keras is not a whole .keras file"),
        ("x.bin", b"no folder of a model", "is not a checkpoint that kbert reads"),
        ("x.doc", b"a letter", "x.doc is no file of a model that kbert knows"),
        ("none", None, "there is no file or folder"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(name, content, message, tmp_path, capsys):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert cli.main(["inspect", str(tmp_path / name)]) == 1
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""


def test_bytes_at_random_are_read_or_refused_with_a_value_error():
    import random

    draw = random.Random(0)
    for _ in range(500):
        content = bytes(draw.randrange(256) for _ in range(draw.randrange(64)))
        for read in (
            lambda: list(protobuf_fields.fields(memoryview(content))),  # noqa: B023 - called in this round
            lambda: [flatbuffer_fields.Table(content).tables(field) for field in range(4)],  # noqa: B023
            lambda: flatbuffer_fields.Table(content).text(1),  # noqa: B023
        ):
            with contextlib.suppress(ValueError):
                read()
