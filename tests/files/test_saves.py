"""Whatever kbert saves, a save that is stopped leaves the old version whole, and nothing writes past `written_aside`."""

import ast
import pathlib

import numpy as np
import pytest

import kbert
from kbert.files import atomic
from kbert.files.json import write_json
from kbert.files.rooms import room_in
from kbert.files.vocabulary import save_vocabulary
from kbert.training.resume import TrainingState
from tests.conftest import TINY, VOCABULARY, tiny_tokenizer

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def task():
    preprocessor = kbert.TextPreprocessor(tiny_tokenizer(), max_length=24)
    config = kbert.BertConfig(**{**TINY, "num_hidden_layers": 1})
    task = kbert.TextClassifier(kbert.BertEncoder(config), preprocessor, labels=["bad", "good"])
    task.new_weights = ()
    task.compile()
    task.optimizer.build(task.trainable_variables)
    return task


def train(task, value):
    for variable in (task.classifier.bias, task.encoder.pooler.bias):
        variable.assign(np.full(variable.shape, value))


def save_state(task, path):
    state = TrainingState(path.parent, 4, 2, 0)
    state.set_model(task)
    state.write(1)


SAVES = {
    "task.keras": lambda task, path: task.save(path),
    "encoder.keras": lambda task, path: task.encoder.save(path),
    "task.weights.h5": lambda task, path: task.save_weights(path),
    "preset": lambda task, path: task.save_to_preset(path),
    "google": lambda task, path: task.save_to_preset(path, layout="google"),
    "saved_model": lambda task, path: task.export(path, overwrite=True, verify=False),
    "training_state.npz": save_state,
    "values.json": lambda task, path: write_json(path, {"bias": task.classifier.bias.numpy().tolist()}),
    "vocab.txt": lambda task, path: save_vocabulary([*VOCABULARY, f"x{float(task.classifier.bias[0])}"], path),
}


def contents(path):
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.mark.parametrize("name", SAVES)
def test_a_stopped_save_leaves_the_old_version_or_the_new(task, tmp_path, monkeypatch, name):
    target, save = tmp_path / name, SAVES[name]
    train(task, 1.0)
    save(task, target)
    old = contents(target)
    train(task, 2.0)
    steps = ("flush", "_put", "flush_folder")  # before, at and after the one step that counts
    for step in steps[1:2] if name == "saved_model" else steps:
        real = getattr(atomic, step)

        def stopped(*args, real=real, step=step):
            if tmp_path != (args[0] if step == "flush_folder" else args[0].parents[2]):
                return real(*args)  # of a file inside of what is written
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(atomic, step, stopped)
            save(task, target)
        assert (contents(target) == old) == (step != "flush_folder")
        with room_in(tmp_path):
            pass
        assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".kbert-")] == [name]


def test_what_keras_writes_in_parts_is_refused(task, tmp_path):
    with pytest.raises(ValueError, match="a .keras file is zipped: leave zipped=False out"):
        task.save(tmp_path / "task.keras", zipped=False)
    with pytest.raises(ValueError, match="max_shard_size would write several files"):
        task.save_weights(tmp_path / "task.weights.json", max_shard_size=0.1)
    assert list(tmp_path.iterdir()) == []


# Modules that open a file for writing, or call another library's writer, where what they write is inside of `written_aside` or
# of a temporary folder, or is no result.
WRITERS = {
    "kbert/checkpoints/google.py": "inside preset_folder.write_preset",
    "kbert/checkpoints/huggingface.py": "inside preset_folder.write_preset",
    "kbert/checkpoints/sentence_transformers.py": "inside preset_folder.write_preset",
    "kbert/checkpoints/keras_hub.py": "inside preset_folder.write_preset, and a temporary folder",
    "export/warm_up.py": "inside tf_serving.export_serving's folder aside",
    "kbert/engines/saved_model.py": "inside export_saved_model, and a temporary folder",
    "kbert/distillation/distiller.py": "hands on to the student's save_weights",
    "kbert/pretraining/sentence_pairs.py": "pieces in a room",
    "kbert/text/derive_tables.py": "a script of developers",
}
CALLS = {"write_text", "write_bytes", "savez", "save_file", "to_csv", "to_parquet", "to_json", "TFRecordWriter", "open_memmap"}
CALLS |= {"SaveV2", "save_weights"}


def writes(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            modes = [arg.value for arg in node.args[1:2] if isinstance(arg, ast.Constant)] if name == "open" else []
            if name in CALLS or any(set("wax+") & set(str(mode)) for mode in modes):
                yield node.lineno, name


def test_every_writer_writes_aside():
    others = set()
    for path in sorted([*(ROOT / "kbert").rglob("*.py"), *(ROOT / "export").rglob("*.py")]):
        name = str(path.relative_to(ROOT))
        if name.startswith("kbert/export"):
            continue
        source = path.read_text()
        found = list(writes(ast.parse(source)))
        if found and "written_aside(" not in source:
            assert name in WRITERS, (name, found)
            others.add(name)
    assert others == set(WRITERS)
