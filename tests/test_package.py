"""What holds for the package as a whole: how it imports and what is in the wheel."""

import ast
import importlib
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import kbert

ROOT = Path(__file__).resolve().parents[1]


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_import_adds_less_than_a_second_to_tensorflow():
    code = """
import time, tensorflow, tensorflow_text
started = time.perf_counter()
import kbert
print(time.perf_counter() - started)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1


PUBLIC = """
import sys, kbert
assert set(kbert.__all__) <= set(dir(kbert))
kbert.BertConfig, kbert.presets, kbert.read_bio, kbert.read_squad, kbert.__version__
assert not {"tensorflow", "keras", "numpy"} & set(sys.modules)
"""


def test_names_are_imported_when_they_are_asked_for():
    done = python(PUBLIC)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_a_type_checkers_too():
    tree = ast.parse((ROOT / "kbert" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"kbert.{kbert._PLACES[name]}" for name in kbert.__all__}
    assert all(getattr(kbert, name) is getattr(importlib.import_module(seen[name]), name) for name in kbert.__all__)
    assert pickle.loads(pickle.dumps(kbert.TextClassifier)) is kbert.TextClassifier
    with pytest.raises(AttributeError, match="no attribute 'Classifier'"):
        _ = kbert.Classifier


@pytest.mark.parametrize(
    "imports",
    ["import kbert, tensorflow", "import keras, kbert", "import kbert.training.keras_internals"],
)
def test_keras_knows_the_classes_whatever_is_imported_first(imports):
    """Keras looks a class up by its registered name when it loads a file."""
    names = ("TextClassifier", "TextEmbedder", "MobileBertEncoder", "Pretrainer", "MacroF1", "WarmupLinearDecay")
    done = python(f"{imports}\nimport keras\nprint(all('kbert>' + n in keras.saving.get_custom_objects() for n in {names}))")
    assert done.stdout.strip() == "True", done.stderr[-2000:]


def test_import_prints_nothing_and_leaves_logging_alone():
    done = python("import logging, kbert; kbert.load; print(logging.getLogger().handlers)", TF_CPP_MIN_LOG_LEVEL="3")
    assert done.stdout.strip() == "[]"


WITHOUT_TEXT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow_text":
            raise ImportError("No module named 'tensorflow_text'")
sys.meta_path.insert(0, Missing())
import kbert
kbert.BertEncoder(kbert.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
print("imported")
kbert.WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
"""


def test_without_tensorflow_text_only_text_fails_and_says_what_to_install():
    done = python(WITHOUT_TEXT)
    assert done.stdout.strip() == "imported"
    assert "pip install" in done.stderr and "tensorflow-text==" in done.stderr and "WSL" in done.stderr


def test_another_keras_backend_is_refused_at_import():
    done = python("import kbert", KERAS_BACKEND="jax")
    assert done.returncode != 0
    assert "KERAS_BACKEND=tensorflow" in done.stderr


def test_nothing_inside_imports_the_public_names():
    """`kbert/__init__.py` hands names on to users. A module inside imports from the module that defines a name.

    What else `make lint` asks of imports stands in pyproject.toml.
    """
    wrong = []
    for path in sorted([*(ROOT / "kbert").rglob("*.py"), *(ROOT / "export").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                through_kbert = any(alias.name.split(".")[0] == "kbert" and not alias.asname for alias in node.names)
            else:
                through_kbert = isinstance(node, ast.ImportFrom) and (node.module == "kbert" or node.level > 0)
            if through_kbert:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong, "import from the module that defines the name:\n" + "\n".join(wrong)


def test_an_error_that_quotes_its_cause_does_not_show_it_again():
    """A cause whose message stands in the error is not chained to it: a user would read sixty lines for one."""
    wrong = []
    for path in sorted([*(ROOT / "kbert").rglob("*.py"), *(ROOT / "export").rglob("*.py")]):
        for handler in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for node in ast.walk(handler) if isinstance(handler, ast.ExceptHandler) and handler.name else ():
                if isinstance(node, ast.Raise) and isinstance(node.cause, ast.Name) and node.cause.id == handler.name:
                    quoted = [value for value in ast.walk(node.exc) if isinstance(value, ast.Name) and value.id == handler.name]
                    wrong.extend(f"{path.relative_to(ROOT)}:{node.lineno}" for _ in quoted[:1])
    assert not wrong, f"write `from None`: {wrong}"


def test_the_architecture_page_names_every_file():
    """The house in docs/architecture.md has each module of kbert/ and export/, at its place, and none that is not there."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named, folders = set(), {}
    for line in page.split("```")[1].splitlines():
        depth = len(line) - len(line.lstrip())
        folder = re.match(r" *([a-z_]+)/", line)
        if folder:
            folders = {level: name for level, name in folders.items() if level < depth} | {depth: folder[1]}
        else:
            place = "/".join(name for level, name in sorted(folders.items()) if level < depth)
            named |= {f"{place}/{name}" for name in re.findall(r"\b([a-z0-9_]+\.py)\b", line[:130])}
    files = {
        str(path.relative_to(ROOT))
        for top in ("kbert", "export")
        for path in (ROOT / top).rglob("*.py")
        if (path.name != "__init__.py" or path.parent.name == "kbert") and '"""The old place of' not in path.read_text("utf-8")
    }
    assert named - files == set() and files - named == set()


@pytest.mark.slow
def test_wheel_holds_the_package_the_exports_and_the_tables(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("kbert-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    script = "kbert/commands/answer_without_kbert.py"
    assert {"kbert/export/saved_model.py", "kbert/text/bert_characters.json.gz", script} <= names
    assert not any(name.startswith(("tests/", "examples/", "export/")) for name in names)
    assert wheel.stat().st_size < 1_000_000


def test_help_of_the_command_line():
    done = subprocess.run([sys.executable, "-m", "kbert", "--help"], capture_output=True, text=True, check=True)
    assert "demo" in done.stdout
