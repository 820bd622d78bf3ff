"""The command line answers for its arguments before TensorFlow is there, and each command is a module of its own."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from kbert.commands import cli
from kbert.commands.jobs import JOBS

ROOT = Path(__file__).resolve().parents[2]

# The commands' own modules, without those that `import kbert` brings.
ALONE = """
import sys, types
package = types.ModuleType("kbert")
package.__path__ = [{folder!r}]
sys.modules["kbert"] = package
from kbert.commands.cli import main
try:
    main({arguments!r})
except SystemExit as stop:
    print("status", stop.code)
print(sorted({{"tensorflow", "keras", "pandas", "matplotlib"}} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--help"], 0), (["finetune", "--help"], 0), (["finetune", "--task", "poetry"], 2), (["distill", "--layers", "x"], 2)],
)
def test_help_and_errors_of_arguments_do_not_wait_for_tensorflow(arguments, status):
    code = ALONE.format(folder=str(ROOT / "kbert"), arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith(f"status {status}\n[]\n"), done.stdout


def test_scores_do_not_need_tensorflow():
    modules = ["classes", "correlation", "entities", "figures", "ranking", "squad"]
    assert {path.stem for path in (ROOT / "kbert" / "scoring").glob("*.py")} == {"__init__", *modules}
    imports = "".join(f"import kbert.scoring.{module}\n" for module in modules)
    start = ALONE.format(folder=str(ROOT / "kbert"), arguments=[])
    code = start.split("from kbert")[0] + imports + 'print("tensorflow" in sys.modules or "keras" in sys.modules)'
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_is_a_module_of_its_name(name):
    module = importlib.import_module(f"kbert.commands.{name.replace('-', '_')}")
    assert callable(module.arguments) and callable(module.run)


def test_an_error_is_a_sentence_and_a_status(tmp_path, capsys):
    assert cli.main(["evaluate", str(tmp_path / "none.keras"), "--data", "x.csv"]) == 1
    assert capsys.readouterr().err.startswith("kbert evaluate: there is no file")


def test_jobs_are_named_as_the_tasks_say(classifier):
    assert JOBS[classifier.job].name == "classification"
