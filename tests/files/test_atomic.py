"""One whole version of what is saved is there at every moment, whatever ends the save; and nothing else stays."""

import errno
import fcntl
import os
import pathlib
import shutil
import stat
import subprocess
import sys

import pytest

from kbert.files import atomic, rooms
from kbert.files.atomic import recover, written_aside
from kbert.files.rooms import PREFIX, dead_rooms, room_in

CALLS = ("mkdir", "open", "close", "fsync", "replace", "rename", "link", "lstat", "walk")


class Faulty:
    """The module `os`, whose `n`th call among `CALLS` raises an error."""

    def __init__(self, number, error):
        self.left, self.error, self.made = number, error, 0

    def __getattr__(self, name):
        value = getattr(os, name)
        return self.counted(value) if name in CALLS else value

    def counted(self, function):
        def call(*args, **kwargs):
            self.made += 1
            if self.made == self.left:
                raise self.error
            return function(*args, **kwargs)

        return call


def write_file(path, version):
    with written_aside(path) as aside:
        aside.write_text(version)


def write_folder(path, version):
    with written_aside(path, keep=lambda name: name == "README.md") as aside:
        (aside / "variables").mkdir(parents=True)
        (aside / "model").write_text(version)
        (aside / "variables" / "data").write_text(version)


def version_of(path):
    """Returns the one version that all of a target's files have."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    (version,) = {file.read_text() for file in files if file.name != "README.md"}
    assert path.is_file() or {"model", "data"} <= {file.name for file in files}
    return version


def killed_at_every_call(monkeypatch, target, write, error):
    """Yields after a save of "new" over "old" that failed at its first call, its second, and so on, until one succeeds."""
    for number in range(1, 200):
        faulty = Faulty(number, error)
        with monkeypatch.context() as patch:
            patch.setattr(atomic, "os", faulty)
            patch.setattr(rooms, "os", faulty)
            patch.setattr(fcntl, "flock", faulty.counted(fcntl.flock))
            patch.setattr(atomic, "exchange", faulty.counted(atomic.exchange))
            try:
                write(target, "new")
            except type(error) as raised:
                assert raised is error
            if faulty.made < number:
                return
        yield number
    raise AssertionError("the save never ended")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"]
)
@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "renames"])
@pytest.mark.parametrize("write", [write_file, write_folder])
def test_one_whole_version_is_there_whichever_call_fails(tmp_path, monkeypatch, write, exchanges, error):
    if not exchanges:
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    target = tmp_path / "target"
    write(target, "old")
    if target.is_dir():
        (target / "README.md").write_text("mine")
    number = 0
    for number in killed_at_every_call(monkeypatch, target, write, error):  # noqa: B007 - read after the loop
        recover(target)
        assert version_of(target) in ("old", "new")
        assert not target.is_dir() or (target / "README.md").read_text() == "mine"
        write(target, "old")
        assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert version_of(target) == "new" and number > 8


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_a_first_save_that_fails_leaves_nothing_or_all(tmp_path, monkeypatch, write):
    target = tmp_path / "target"
    for _ in killed_at_every_call(monkeypatch, target, write, KeyboardInterrupt()):
        if target.exists():
            assert version_of(target) == "new"
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        with room_in(tmp_path):
            pass  # the next writer cleans up
        assert list(tmp_path.iterdir()) == []
    assert version_of(target) == "new"


# A process that saves over an old folder in child after child, each of which is killed at a later call than the one before.
# It does without TensorFlow, whose threads a fork would not copy.
KILLING = """
import os, pathlib, shutil, signal, sys, types

root, target, exchanges = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3] == "True"
sys.modules["kbert"] = package = types.ModuleType("kbert")
package.__path__ = [os.path.join(root, "kbert")]
from kbert.files import atomic, rooms

class Killing:
    def __init__(self, number):
        self.left = number

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return getattr(os, name)(*args, **kwargs)

        return call if callable(getattr(os, name)) else getattr(os, name)

def write(version):
    with atomic.written_aside(target) as aside:
        os.mkdir(aside)
        (aside / "model").write_text(version)
        (aside / "data").write_text(version)

number, status, seen = 0, 9, set()
while status == signal.SIGKILL:
    number += 1
    write("old")
    child = os.fork()
    if child == 0:
        atomic.os = rooms.os = Killing(number)
        if not exchanges:
            atomic.exchange = lambda one, other: False
        write("new")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    atomic.recover(target)
    (version,) = {path.read_text() for path in target.iterdir()}
    assert len(list(target.iterdir())) == 2
    seen.add(version)
write("last")
assert status == 0 and seen == {"old", "new"}, (status, seen)
assert [path.name for path in target.parent.iterdir()] == [target.name], list(target.parent.iterdir())
print(number)
"""


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "renames"])
def test_a_process_killed_at_any_call_leaves_one_whole_version_and_nothing_that_stays(tmp_path, exchanges):
    root = str(pathlib.Path(__file__).parents[2])
    command = [sys.executable, "-c", KILLING, root, str(tmp_path / "target"), str(exchanges)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15  # calls at which it was killed


def test_rooms_of_the_living_stay_and_those_of_the_dead_are_removed(tmp_path):
    dead = tmp_path / f"{PREFIX}dead"
    (dead / "new").mkdir(parents=True)
    with room_in(tmp_path) as mine:
        assert not dead.exists() and mine.exists()
        write_file(tmp_path / "other", "1")
        assert mine.exists() and list(dead_rooms(tmp_path)) == []
        with pytest.raises(RuntimeError), written_aside(tmp_path / "other") as aside:
            aside.write_text("half")
            raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert (tmp_path / "other").read_text() == "1"


def test_a_file_does_not_replace_a_folder_nor_a_folder_a_file(tmp_path):
    write_file(tmp_path / "file", "1")
    write_folder(tmp_path / "folder", "1")
    with pytest.raises(FileExistsError, match="folder is a folder and would be replaced by a file"):
        write_file(tmp_path / "folder", "2")
    with pytest.raises(FileExistsError, match="file is a file and would be replaced by a folder"):
        write_folder(tmp_path / "file", "2")
    assert version_of(tmp_path / "file") == "1" and version_of(tmp_path / "folder") == "1"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def modes_of(path):
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in [path, *path.rglob("*")]}


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "renames"])
def test_what_is_replaced_keeps_its_permissions_and_what_is_new_has_those_of_any_new_file(tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    file, folder = tmp_path / "file", tmp_path / "folder"

    def write(version):
        with written_aside(file) as aside:
            aside.write_text(version)
            aside.chmod(0o600)  # as safetensors writes its files
        write_folder(folder, version)

    write("1")
    (tmp_path / "any").touch()
    (tmp_path / "any folder").mkdir()
    of_file, of_folder = modes_of(tmp_path / "any")["any"], modes_of(tmp_path / "any folder")["any folder"]
    assert modes_of(file) == {"file": of_file}
    assert modes_of(folder) == {"folder": of_folder, "variables": of_folder, "model": of_file, "data": of_file}
    (folder / "README.md").touch()
    given = {"folder": 0o750, "variables": 0o700, "model": 0o640, "data": 0o604, "README.md": 0o400}
    for name, mode in given.items():
        next(path for path in [folder, *folder.rglob("*")] if path.name == name).chmod(mode)
    file.chmod(0o664)
    write("2")
    assert version_of(file) == version_of(folder) == "2"
    assert modes_of(file) == {"file": 0o664} and modes_of(folder) == given


def test_what_cannot_be_replaced_as_a_whole_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="this process works in it.*give a folder inside it"):
        write_folder(pathlib.Path("."), "1")
    with pytest.raises(OSError, match="/dev/null is neither a file nor a folder"):
        write_file(pathlib.Path("/dev/null"), "1")


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "runs").mkdir()
    write_file(tmp_path / "runs" / "blob", "1")
    (tmp_path / "latest.keras").symlink_to(tmp_path / "runs" / "blob")
    with written_aside(tmp_path / "latest.keras") as aside:
        assert aside.name == "latest.keras"
        aside.write_text("2")
    assert (tmp_path / "latest.keras").is_symlink() and (tmp_path / "runs" / "blob").read_text() == "2"
