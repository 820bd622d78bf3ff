"""Options are checked before TensorFlow is imported: ranges, files, presets, options that contradict each other."""

import argparse
import itertools
import re
import subprocess
import sys

import pytest

from kbert.commands import cli

# The values that an option takes of those which are tried: every other is refused.
MAY_BE_0 = ("label_smoothing", "agreement", "seed", "rest_port", "grpc_port", "model_config_file_poll_wait_seconds")
TAKEN = {name: {"0"} for name in MAY_BE_0}
TEXTS = ("encoding", "separator", "serving", "version_labels")  # a text whose form is checked
TRIED = ("0", "-1", "nan", "inf", "abc", "1e400", "")


def commands():
    """Each command's parser by its name."""
    (action,) = [action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return action.choices


def numeric_options():
    for command, parser in commands().items():
        for action in parser._actions:
            if action.type is not None and action.dest not in TEXTS:
                yield command, action.option_strings[0], action.dest


def test_every_option_with_a_number_has_a_range():
    """Whether an option holds a number is told by its default and its name; `type=int` alone takes -1."""
    for command, parser in commands().items():
        for action in parser._actions:
            assert action.type not in (int, float), (command, action.dest)
            assert action.type is not None or not isinstance(action.default, (int, float)) or isinstance(action.default, bool)
    assert len(list(numeric_options())) >= 29


@pytest.mark.parametrize(("command", "option", "name"), list(numeric_options()))
def test_numbers_that_make_no_sense_are_refused(command, option, name, capsys):
    parser = commands()[command]
    for value in TRIED:
        if value in TAKEN.get(name, ()):
            continue
        with pytest.raises(SystemExit) as stop:
            parser.parse_args([f"{option}={value}"])
        said = capsys.readouterr().err
        assert stop.value.code == 2 and said.count("\n") == 1 and f"argument {option}: " in said and "expected, got" in said, (
            said
        )


FILES = ["finetune", "--task", "classification", "--data", "data.csv", "--out", "out"]
PRETRAIN = ["pretrain", "a.txt", "--out", "out"]
REFUSED = [
    ([*FILES, "--preset", "brt-base"], "'brt-base' is neither a folder nor a built-in preset"),
    ([*FILES[:3], "--data", "none.csv", "--out", "out"], "there is no file none.csv"),
    ([*FILES, "--preset", "folder"], "data.csv: the first line should name the columns"),
    ([*FILES[:3], "--data", "other.csv", "--out", "out", "--preset", "folder"], "other.csv has no column named text"),
    ([*FILES, "--test", "none.csv"], "there is no file none.csv"),
    ([*FILES[:-1], "data.csv"], "data.csv exists; .* pass --overwrite to replace it"),
    ([*FILES[:-1], "data.csv/out"], "data.csv is a file"),
    ([*FILES, "--test", "data.csv", "--held-out", "0.2"], "not allowed with"),
    *[
        (["finetune", "--task", task, *FILES[3:], *given], f"{given[0]} is not for {task}, only for")
        for task, given in [
            ("regression", ["--label-smoothing", "0.1"]),
            ("multi-label", ["--balance"]),
            ("ner", ["--window-stride", "8"]),
            ("ner", ["--pair", "words"]),
            ("qa", ["--names", "a"]),
            ("fill-mask", ["--label", "x"]),
            ("embedding", ["--balance"]),
        ]
    ],
    (["evaluate", "none.keras", "--data", "data.csv"], "there is no file none.keras"),
    (["evaluate", "data.csv", "--data", "data.csv"], "data.csv is no .keras file"),
    (["evaluate", "folder", "--data", "data.csv"], "the folder folder holds no task.keras"),
    (["evaluate", "model.keras", "--data", "none.csv"], "there is no file none.csv"),
    (["predict", "model.keras", "--data", "data.csv", "--out", "other.csv"], "pass --overwrite"),
    (["predict", "model.keras", "--data", "other.csv", "--out", "folder/../other.csv", "--overwrite"], "is what the comm"),
    (["vocab", "other.csv", "v", "--out", "v", "--overwrite"], "v is what the command reads, and would be lost"),
    (["distill", "--teacher", "run", "--layers", "1", "--data", "v", "--out", "run", "--overwrite"], "run is what the command"),
    (["predict", "model.keras", "--data", "data.csv", "--overwrite"], "--overwrite replaces the file of --out"),
    (["export", "model.keras", "folder"], "pass --overwrite"),
    (["export", "model.keras", "data.csv", "--overwrite", "--inputs", "text"], "--inputs is not for --format tf_saved_model"),
    (["export", "model.keras", "x", "--quantize", "int8"], "--quantize int8 is not for --format tf_saved_model, which takes"),
    (["export", "model.keras", "x.onnx", "--format", "onnx", "--max-length", "8"], "--max-length is not for --format onnx"),
    (["export", "model.keras", "x.tflite", "--quantize", "int8-static"], "finds its ranges on texts .*: give --texts"),
    (["export", "model.keras", "data.csv", "--overwrite"], "data.csv is a file, which a SavedModel's folder does not replace"),
    (["export", "model.keras", "x", "--serving", "spam", "--overwrite"], "goes without --overwrite"),
    (["distill", "--teacher", "model.keras", "--layers", "1", "--data", "data.csv", "--out", "folder"], "pass --overwrite"),
    (["distill", "--teacher", "none", "--layers", "1", "--data", "data.csv", "--out", "out"], "there is no file none"),
    ([*PRETRAIN, "--preset", "folder"], "there is no file a.txt and no such folder"),
    (["pretrain", "data.csv", "--out", "out", "--preset", "folder", "--width", "128"], "--width is for --vocab"),
    (["pretrain", "data.csv", "--out", "out", "--vocab", "none"], "there is no file none"),
    (["pretrain", "data.csv", "--out", "o", "--vocab", "v", "--heads", "7"], "--width 256 is no multiple of --heads 7"),
    (["pretrain", "data.csv", "--out", "o", "--vocab", "v", "--epochs", "1", "2", "--batch-size", "1", "2", "3"], "3 phases"),
    (["pretrain", "records", "data.csv", "--out", "o", "--preset", "folder"], "data.csv holds text and others of the files"),
    *[
        (["pretrain", "records", "--out", "o", "--preset", "folder", *given], f"{given[0]} (is for text|takes one value)")
        for given in [
            ["--objective", "nsp"], ["--whole-words"], ["--one-a-line"], ["--held-out", "0.1"], ["--encoding", "cp1252"],
            ["--max-length", "64", "128"], ["--batch-size", "8", "4"],
        ]
    ],
    (["pretrain-data", "data.csv", "--vocab", "none", "--out", "out"], "there is no file none"),
    (["serve", "none"], "there is no folder none"),
    (["serve", "folder", "--rest-port", "80", "--grpc-port", "80"], "both 80: give two ports"),
    (["verify", "none", "--against", "model.keras"], "there is no file none"),
    (["verify", "folder", "--against", "none.keras"], "there is no file none.keras"),
    (["verify", "folder", "--against", "model.keras", "--pair", "b"], "--pair names a column of --texts"),
    (["vocab", "none.txt"], "there is no file none.txt"),
    (["vocab", "data.csv", "--out", "data.csv/vocab.txt"], "data.csv is a file"),
    (["demo", "--folder", "data.csv"], "data.csv is a file"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a data file, a folder and a file of the name of a model, none of which is opened."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "records").mkdir()
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "run").mkdir()
    for name in ("data.csv", "model.keras", "v", "records/about.json", "run/task.keras"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"), REFUSED, ids=[" ".join(arguments[:1] + arguments[-2:]) for arguments, _ in REFUSED]
)
def test_what_cannot_be_is_refused_in_one_line(folder, arguments, message, capsys):
    try:
        status = cli.main(arguments)
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status in (1, 2) and re.search(message, error) and error.count("\n") == 1, error
    for python in ("overwrite=True", "from_preset", "fit()"):
        assert python not in error


def test_a_folder_that_is_not_ones_own_is_named(folder, monkeypatch, capsys):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    assert cli.main(["finetune", "--task", "ner", "--data", "data.csv", "--out", "a/b"]) == 1
    assert "a/b cannot be written: you may not write into" in capsys.readouterr().err


ALL = """
import io, sys, contextlib
from kbert.commands import cli
for arguments in {all!r}:
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            status = cli.main(arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == (0 if arguments[-1] in ("--help", "--version") else status) != None, arguments
print(sorted({{"tensorflow", "keras", "pandas", "matplotlib"}} & set(sys.modules)))
"""


def test_none_of_this_waits_for_tensorflow(folder):
    numbers = [[command, f"{option}=x"] for command, option, _ in numeric_options()]
    shown = [["--help"], ["--version"], *([name, "--help"] for name in cli.COMMANDS)]
    every = list(itertools.chain(numbers, shown, (arguments for arguments, _ in REFUSED)))
    done = subprocess.run([sys.executable, "-c", ALL.format(all=every)], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr[-2000:]
