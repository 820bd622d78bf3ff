"""Modules that moved: for one release their old names give the same objects, with a warning that names the new place."""

import importlib
import subprocess
import sys

import pytest

# The old module, with each new module and the names that it took over.
MOVED = {
    "kbert.training.answers": {
        "kbert.files.squad_file": ["read_squad"],
        "kbert.scoring.squad": ["normalize_answer", "squad_scores"],
    },
    "kbert.training.entities": {
        "kbert.files.bio_file": ["read_bio"],
        "kbert.scoring.entities": ["entities", "entity_scores", "has_ends"],
        "kbert.scoring.tag_schemes": ["check_tags"],
    },
}


@pytest.mark.parametrize("old", MOVED)
def test_an_old_module_warns_and_gives_the_same_objects(old, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning) as warned:
        module = importlib.import_module(old)
    (message,) = [str(warning.message) for warning in warned if old in str(warning.message)]
    for new, names in MOVED[old].items():
        assert new in message
        for name in names:
            assert getattr(module, name) is getattr(importlib.import_module(new), name)


def test_importing_kbert_imports_no_old_module():
    code = f"import sys, kbert, kbert.commands.cli; print([name for name in {list(MOVED)} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
