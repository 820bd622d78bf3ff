"""Files written live, in .venv-orphans, by the libraries that nobody keeps any more. `make test-orphans` makes that place."""

import subprocess
from pathlib import Path

import pytest

from tests.checkpoints.test_object_graph import check_agrees
from tests.write_orphans import KINDS

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-orphans" / "bin" / "python"
pytestmark = [
    pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-orphans: make test-orphans"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each kind, in one folder."""
    top = tmp_path_factory.mktemp("orphans")
    command = [PYTHON, "-m", "tests.write_orphans", str(top)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return top


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_opens_and_computes_what_its_library_computed(folders, kind):
    check_agrees(folders / kind)
