"""All formats' readers are the same to who asks them for weights, and know no class of the model."""

import ast
import pathlib
import sys

import numpy as np
import pytest

import kbert
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.checkpoints.opened import FORMATS, Opened, open_preset
from kbert.checkpoints.weights import load_weights
from tests.conftest import TINY, VOCABULARY

PACKAGE = pathlib.Path(kbert.__file__).parent


@pytest.fixture
def task(tokenizer):
    """A classifier that all formats have a place for."""
    encoder = kbert.BertEncoder(kbert.BertConfig(**{**TINY, "initializer_range": 0.02}, hidden_act="gelu_pytorch_tanh"))
    return kbert.TextClassifier(encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["a", "b"])


@pytest.fixture(params=FORMATS)
def folder(request, task, tmp_path):
    """The same task in a folder of each format."""
    if request.param == "keras_hub":
        pytest.importorskip("keras_hub")
    task.save_to_preset(tmp_path / request.param, layout=request.param)
    return tmp_path / request.param


def open_files(folder):
    """The files in a folder that this process holds open."""
    held = [pathlib.Path(f"/proc/self/fd/{name.name}") for name in pathlib.Path("/proc/self/fd").iterdir()]
    return [str(path.resolve()) for path in held if path.exists() and folder.resolve() in path.resolve().parents]


def test_a_folder_opens_as_names_sizes_and_arrays(folder, task):
    with open_preset(folder) as opened:
        assert opened.format is FORMATS[folder.name]
        assert opened.config == task.encoder.config and opened.family.config_class is kbert.BertConfig
        assert opened.vocabulary == VOCABULARY and opened.vocabulary_path.is_file()
        assert opened.tokenizer_options["lowercase"] is True
        rules = [*opened.family.rules(opened.config), *opened.family.head("SequenceClassification")]
        assert {name for rule in rules for name in rule.names} <= opened.checkpoint.names()


def test_every_reader_keeps_to_the_protocol(folder):
    with open_preset(folder) as opened:
        checkpoint = opened.checkpoint
        assert isinstance(checkpoint, Checkpoint)
        assert folder in checkpoint.path.parents
        assert "no such name" not in checkpoint
        for name in checkpoint.names():
            assert name in checkpoint
            assert checkpoint.tensor(name).shape == checkpoint.shape(name) != ()
            assert all(isinstance(size, int) for size in checkpoint.shape(name))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_files_are_closed_after_the_block(folder):
    with open_preset(folder) as opened:
        name = sorted(opened.checkpoint.names())[0]
        opened.checkpoint.tensor(name)
        assert open_files(folder)
    assert not open_files(folder)
    with pytest.raises(ValueError):
        opened.checkpoint.tensor(name)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_from_preset_leaves_a_file_open(folder):
    kbert.TextClassifier.from_preset(folder, labels=["a", "b"])
    kbert.BertEncoder.from_preset(folder)
    with pytest.raises(ValueError, match="no such dtype"):  # after the checkpoint was opened
        kbert.BertEncoder.from_preset(folder, dtype="no such dtype")
    assert not open_files(folder)


def test_weights_fill_whatever_has_variables_at_the_paths(folder, task):
    """A stand-in of plain objects, which is no Keras layer, is filled with the same numbers."""

    class Variable:
        def __init__(self, shape):
            self.shape, self.dtype, self.value = shape, "float32", self

        def assign(self, value):
            self.array = np.array(value)

    class Owner:
        pass

    owner, expected = Owner(), {}
    with open_preset(folder) as opened:
        rules = opened.family.rules(opened.config)
        for rule in rules:
            place, known = owner, task.encoder
            *path, last = rule.path.split(".")
            for name in path:
                known = known[int(name)] if name.isdigit() else getattr(known, name)
                if isinstance(place, dict):
                    place = place.setdefault(int(name), Owner())
                else:
                    place.__dict__.setdefault(name, {} if name == "blocks" else Owner())
                    place = place.__dict__[name]
            expected[rule.path] = getattr(known, last).numpy()
            setattr(place, last, Variable(expected[rule.path].shape))
        used, missing = load_weights(owner, rules, opened.checkpoint)
    assert used == {name for rule in rules for name in rule.names}
    assert missing == []
    np.testing.assert_array_equal(owner.blocks[1].attention.qkv.kernel.array, expected["blocks.1.attention.qkv.kernel"])
    np.testing.assert_array_equal(owner.embeddings.norm.gamma.array, expected["embeddings.norm.gamma"])


def test_a_tokenizer_needs_no_weights(folder):
    for path in [*folder.glob("model*"), *folder.glob("*.ckpt*"), *folder.glob("task.weights*")]:
        path.unlink()
    assert kbert.WordPieceTokenizer.from_preset(folder).vocabulary == VOCABULARY


def test_an_opened_checkpoint_is_not_opened_again(tiny_folder):
    with open_preset(tiny_folder) as opened:
        encoder = kbert.BertEncoder.from_preset(opened)
        tokenizer = kbert.WordPieceTokenizer.from_preset(opened)
        assert encoder.config == opened.config and tokenizer.vocabulary == opened.vocabulary
        assert isinstance(opened, Opened) and opened.name == repr(str(tiny_folder))
        with open_preset(opened) as same:
            assert same is opened
        opened.checkpoint.tensor("embeddings.word_embeddings.weight")  # still open


def test_the_encoder_of_another_architecture_is_refused(tiny_folder):
    with pytest.raises(ValueError, match="holds a Bert, whose configuration is a BertConfig.*MobileBertEncoder"):
        kbert.MobileBertEncoder.from_preset(tiny_folder)


def imports(path):
    """The modules that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_readers_import_no_layer_encoder_or_tokenizer():
    allowed = ("kbert.checkpoints", "kbert.files", "kbert.config")
    for path in sorted((PACKAGE / "checkpoints").glob("*.py")):
        for module in imports(path):
            assert module != "keras" and not module.startswith("keras."), f"{path.name} imports {module}"
            assert not module.startswith("kbert") or module.startswith(allowed), f"{path.name} imports {module}"


def test_encoders_checkpoints_and_text_import_each_other_in_no_circle():
    files = {
        ".".join(("kbert", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for room in ("checkpoints", "encoders", "files", "text")
        for path in (PACKAGE / room).glob("*.py")
    }
    ahead = {name: {module for module in imports(path) if module in files} for name, path in files.items()}
    while ready := [name for name, modules in ahead.items() if not modules & set(ahead)]:
        for name in ready:
            del ahead[name]
    assert not ahead, f"these import each other in a circle: {sorted(ahead)}"
