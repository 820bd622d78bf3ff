"""The command line answers for its arguments before TensorFlow is there, and each command is a module of its own."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import kbert
from kbert.commands import cli
from kbert.commands.jobs import JOBS

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ("--task", "ner", "--data", "none.bio", "--out", "out")


def test_scores_do_not_need_tensorflow():
    modules = sorted(path.stem for path in (ROOT / "kbert" / "scoring").glob("*.py") if path.stem != "__init__")
    assert {"classes", "entities", "figures", "squad"} <= set(modules)
    imports = "".join(f"import kbert.scoring.{module}\n" for module in modules)
    code = f'import sys\n{imports}print("tensorflow" in sys.modules or "keras" in sys.modules)'
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_is_a_module_of_its_name(name):
    module = importlib.import_module(f"kbert.commands.{name.replace('-', '_')}")
    assert callable(module.arguments) and callable(module.check) and callable(module.run)


def test_an_error_is_a_sentence_and_a_status(tmp_path, capsys):
    assert cli.main(["evaluate", str(tmp_path / "none.keras"), "--data", "x.csv"]) == 1
    assert capsys.readouterr().err.startswith("kbert evaluate: there is no file")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["finetune", *TRAINING, "--bath-size", "3"], "kbert finetune: unrecognized arguments: --bath-size 3; kbert finetune"),
        (["--verbose", "finetune", *TRAINING], "kbert finetune: --verbose stands in front of the command; options stand"),
        (["finetune", *TRAINING, "--pair", ""], "kbert finetune: argument --pair: a value is expected, got ''; kbert finetune"),
        (["finetune", *TRAINING, "--text="], "kbert finetune: argument --text: a value is expected, got ''"),
        (["finetune", *TRAINING, "--names", "a", ""], "a value is expected, got ''"),
    ],
)
def test_an_argument_that_cannot_act_is_refused_by_its_command(given, said, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(given)
    shown = capsys.readouterr().err
    assert stop.value.code == 2 and said in shown and shown.count("\n") == 1, shown


def test_output_that_nobody_reads_ends_a_command_without_a_word(tmp_path):
    """As of `kbert predict ... | head -1`: what is still in Python's buffer at the end is not complained about either."""
    code = "import kbert.commands.cli as cli, kbert.commands.serve as serve, sys\n"
    code += "serve.run = lambda options: print('x' * 200_000)\nsys.argv[1:] = ['serve', '.', '--verbose']\nsys.exit(cli.main())"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"kbert {kbert.__version__}\n"
    assert f'version="{kbert.__version__}"' in (ROOT / "setup.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("error", "said"), [(ValueError("two\nlines"), "two lines"), (KeyError("x"), "KeyError: 'x' (kbert did")]
)
def test_an_error_is_one_line_and_debug_shows_where(error, said, monkeypatch, capsys):
    def fails(options):
        raise error

    monkeypatch.setattr("kbert.commands.serve.run", fails)
    assert cli.main(["serve", "."]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"kbert serve: {said}") and shown.count("\n") == 1
    assert cli.main(["serve", ".", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


ENGINE = """
import os, sys, warnings
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\\n")
os.write(2, b"I0000 00:00:1795757889.327165    8189 cudart_stub.cc:31] Could not find cuda drivers\\n")
os.write(2, b"E0000 00:00:1795757889.327165    8189 cuda_dnn.cc:8579] Unable to register\\n")
os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\n")
warnings.warn("max_length=3 is short")
import absl.logging, logging
absl.logging.warning("Importing a function")
logging.getLogger("tensorflow").warning("retracing")
os.write(2, b"terminate called\\n")
os.abort()
"""


@pytest.mark.parametrize("verbose", [False, True])
def test_engines_are_not_heard_unless_asked(verbose, tmp_path):
    """What they write to the process's error output is dropped; a notice, and the last words of a crash, are not."""
    code = "import kbert.commands.cli as cli, kbert.commands.serve as serve, sys\n"
    code += (
        f"serve.run = lambda options: exec({ENGINE!r})\nsys.argv[1:] = ['serve', '.', *{['--verbose'] * verbose}]\ncli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    lines = done.stderr.splitlines()
    wanted = ["note: max_length=3 is short", "terminate called"]
    assert set(wanted) <= set(lines) and len(lines) == (8 if verbose else 2), lines


def test_jobs_are_named_as_the_tasks_say(classifier):
    assert JOBS[classifier.job].name == "classification"
