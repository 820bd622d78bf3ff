"""A path's name says its kind, and only what kbert wrote is replaced."""

import pytest

from kbert.files.targets import (
    ANY_FILE,
    KERAS,
    LITERT,
    NAMED,
    ONNX,
    SAVED_MODEL,
    Kind,
    check_target,
    files_in,
    format_by_name,
    kind_by_name,
)

PREFIX = ".kbert-"
KINDS = (KERAS, LITERT, ONNX, SAVED_MODEL)


@pytest.mark.parametrize("named", NAMED, ids=lambda kind: kind.suffix)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.suffix or "folder")
def test_a_suffix_that_names_another_kind_is_refused(tmp_path, named, kind):
    for name in (f"x{named.suffix}", f"x.y{named.suffix.upper()}"):
        if named == kind:
            assert check_target(tmp_path / name, False, kind) == tmp_path / name
        else:
            with pytest.raises(ValueError, match=f"is the name of {named.name}.*{kind.name} is to be written"):
                check_target(tmp_path / name, True, kind)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("x.tflite", "litert"),
        ("X.TFLITE", "litert"),
        ("a/b.c.onnx", "onnx"),
        ("models/emotion/1", "tf_saved_model"),
        ("emotion.v2", "tf_saved_model"),
        ("tflite", "tf_saved_model"),
        (".onnx", "tf_saved_model"),
    ],
)
def test_the_suffix_says_the_format(name, format):
    assert format_by_name(name) == format


def test_names_without_a_kind_are_of_any_kind(tmp_path):
    for kind in KINDS:
        for name in ("1", "model", "model.v2", "model.dat"):
            assert kind_by_name(name) is None and check_target(tmp_path / name, False, kind)


def saved_model(folder):
    (folder / "variables").mkdir(parents=True)
    (folder / "assets").mkdir()
    for name in ("saved_model.pb", "fingerprint.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        (folder / name).write_text("")
    return folder


@pytest.mark.parametrize(
    "foreign", ["notes.txt", "variables/mine.csv", "2/saved_model.pb", ".git/HEAD", "assets.extra/other", "saved_model.pb.bak"]
)
def test_a_folder_with_foreign_files_is_not_replaced_and_they_are_named(tmp_path, foreign):
    folder = saved_model(tmp_path / "1")
    assert check_target(folder, True, SAVED_MODEL) == folder
    with pytest.raises(FileExistsError, match="exists; give another path, or pass overwrite=True"):
        check_target(folder, False, SAVED_MODEL)
    (folder / foreign).parent.mkdir(exist_ok=True)
    (folder / foreign).write_text("")
    with pytest.raises(FileExistsError, match=f"holds what kbert did not write there as a SavedModel's folder: {foreign};"):
        check_target(folder, True, SAVED_MODEL)


def test_a_folder_without_the_sign_of_its_kind_is_not_replaced(tmp_path):
    kind = Kind("the folder of a command", files=("task.keras", "report.html"))
    (tmp_path / "report.html").write_text("of another program")
    with pytest.raises(FileExistsError, match="holds what kbert did not write .*: report.html;"):
        check_target(tmp_path, True, kind)
    (tmp_path / "task.keras").write_text("")
    check_target(tmp_path, True, kind)


def test_empty_folders_and_left_over_rooms_are_no_foreign_files(tmp_path):
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty", True, SAVED_MODEL)
    folder = saved_model(tmp_path / "1")
    (folder / f"{PREFIX}abc" / "new").mkdir(parents=True)
    (folder / f"{PREFIX}abc" / "new" / "x").write_text("")
    check_target(folder, True, SAVED_MODEL)
    assert files_in(folder)[0] == "fingerprint.pb"


def test_a_file_does_not_replace_a_folder_nor_a_folder_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    saved_model(tmp_path / "folder")
    for kind in (LITERT, ANY_FILE):
        with pytest.raises(FileExistsError, match="is a folder, and .* is a file"):
            check_target(tmp_path / "folder", True, kind)
    for kind in (LITERT, ANY_FILE):
        check_target(tmp_path / "file", True, kind)
    with pytest.raises(FileExistsError, match="file is a file, which a SavedModel's folder does not replace"):
        check_target(tmp_path / "file", True, SAVED_MODEL)


def test_a_place_where_nothing_can_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file/deep/x.keras cannot be written: .*file is a file"):
        check_target(tmp_path / "file" / "deep" / "x.keras", False, KERAS)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="you may not write into"):
        check_target(tmp_path / "new" / "x.keras", False, KERAS)
