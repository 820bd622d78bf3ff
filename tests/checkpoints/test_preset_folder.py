"""A preset is written as a whole; a folder that holds a model of another layout is refused; what belongs to no model stays."""

import pytest

import kbert
from kbert.checkpoints import huggingface, opened
from kbert.checkpoints.own_settings import CARD
from kbert.checkpoints.preset_folder import WRITTEN, _is_of
from tests.conftest import TINY

LAYOUTS = ("huggingface", "google", "keras_hub")
FOREIGN = {  # entries of other models
    "a SavedModel": ["saved_model.pb"],
    "a TF1 checkpoint": ["bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"],
    "a TF2 checkpoint": ["checkpoint", "ckpt-1.index"],
    "a .keras file": ["task.keras"],
    "PyTorch's weights": ["pytorch_model.bin"],
    "shards": ["model.safetensors.index.json"],
    "TensorFlow's weights": ["tf_model.h5"],
}


@pytest.fixture(scope="module")
def encoder():
    return kbert.BertEncoder(kbert.BertConfig(**TINY))


@pytest.fixture
def task(encoder, tokenizer):
    return kbert.TextClassifier(encoder, kbert.TextPreprocessor(tokenizer, max_length=24), labels=["bad", "good"])


@pytest.mark.filterwarnings("ignore:KerasHub")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_written_over_itself_alone(task, tmp_path, layout):
    folder = tmp_path / "model"
    task.save_to_preset(folder, layout=layout)
    assert all(_is_of(path.name, (*WRITTEN[layout], CARD)) for path in folder.iterdir()), list(folder.iterdir())
    (folder / "README.md").write_text("mine")
    (folder / "runs").mkdir()
    (folder / "runs" / "curve").write_text("mine too")
    before = sorted(path.name for path in folder.iterdir())
    for other in LAYOUTS:
        if other == layout:
            with pytest.warns(UserWarning, match="README.md is kept"):
                task.save_to_preset(folder, layout=layout)
        else:
            with pytest.raises(ValueError, match=f"holds a model that kbert did not write there in the layout '{other}'"):
                task.save_to_preset(folder, layout=other)
        assert sorted(path.name for path in folder.iterdir()) == before
    assert (folder / "README.md").read_text() == "mine" and (folder / "runs" / "curve").read_text() == "mine too"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("names", FOREIGN.values(), ids=FOREIGN)
def test_beside_another_model_no_preset_is_written(task, tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("")
    for save in (task.save_to_preset, task.encoder.save_to_preset):
        with pytest.raises(ValueError, match=f"'huggingface': .*{names[0]}.*give another folder"):
            save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_the_files_of_another_head_do_not_stay(task, tmp_path):
    embedder = kbert.TextEmbedder(task.encoder, task.preprocessor, dense=[{"width": 4, "activation": "tanh"}])
    embedder.save_to_preset(tmp_path / "model")
    assert (tmp_path / "model" / "modules.json").is_file() and (tmp_path / "model" / "2_Dense").is_dir()
    task.save_to_preset(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        *("config.json", "kbert.json", "model.safetensors", "vocab.txt", "README.md"),
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    }


@pytest.mark.parametrize("name", ["x.keras", "x.tflite", "x.onnx", "x.weights.h5", "x.safetensors"])
def test_the_name_of_a_file_is_no_preset(task, tmp_path, name):
    with pytest.raises(ValueError, match="a preset is a folder"):
        task.save_to_preset(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_preset_that_fails_half_way_leaves_the_old_one(task, tmp_path, monkeypatch):
    task.save_to_preset(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}

    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(huggingface, "save_tokenizer", full)  # after the weights were written
    task.classifier.bias.assign([5.0, 5.0])
    with pytest.raises(OSError, match="No space"):
        task.save_to_preset(tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert opened.find_folder(tmp_path / "model") == tmp_path / "model" and len(list(tmp_path.iterdir())) == 1
