"""Lines end at line feeds alone; marks and encodings are read, and what a file looks like is said where it is not UTF-8."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbert.files.text_file import read_lines, read_text

TEXT = "one\u2028and\x85the\x0csame\x1c\nCafé\r\n\nlast\rline"
LINES = ["one\u2028and\x85the\x0csame\x1c", "Café", "", "last\rline"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_lines_end_at_line_feeds_and_marks_are_no_text(tmp_path, encoding, end):
    (tmp_path / "a.txt").write_bytes((TEXT + end).encode(encoding))
    assert list(read_lines(tmp_path / "a.txt")) == LINES
    assert list(read_lines(tmp_path / "a.txt", encoding)) == LINES


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-16-le", "utf-16-be", "utf-16"])
def test_an_encoding_is_taken_with_a_mark_or_without(tmp_path, encoding):
    text = "Café\nnaïve"
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert read_text(tmp_path / "a.txt", encoding) == text
    if encoding in ("utf-16-le", "utf-16-be"):
        (tmp_path / "a.txt").write_bytes(("\ufeff" + text).encode(encoding))
        assert read_text(tmp_path / "a.txt", encoding) == read_text(tmp_path / "a.txt") == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("one\nCafé über naïve", "windows-1252"),
        ("one\n“quoted” – dash", "windows-1252"),
        ("one\nПривет, это русский текст", "windows-1251"),
        ("one\nこれは日本語のテキストです", "shift_jis"),
        ("one\n这是一个中文句子，很好", "gb18030"),
        ("one\n이것은 한국어 문장입니다", "euc_kr"),
        ("plain text\nof UTF-16", "utf-16-le"),
        ("plain text\nof UTF-16", "utf-16-be"),
        ("word", "utf-16-le"),
        ("Привет, это русский текст\nРусский", "utf-16-le"),
        ("Привет, это русский текст\nРусский", "utf-16-be"),
    ],
)
def test_what_a_file_looks_like_is_said_and_works(tmp_path, text, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=f"looks like {encoding}.*give --encoding {encoding}") as error:
        read_text(path)
    assert "a.txt, line 2" in str(error.value) or encoding.startswith("utf-16")
    assert read_text(path, encoding) == text


def test_the_first_line_that_is_not_utf_8_says_what_a_file_looks_like(tmp_path):
    (tmp_path / "a.txt").write_bytes("это русский\nCafé\n".encode() + "Café\n".encode("cp1252"))
    with pytest.raises(ValueError, match="a.txt, line 3 .*looks like windows-1252"):
        read_text(tmp_path / "a.txt")


def test_files_of_other_kinds_are_named(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"PK\x03\x04\xff\xfe\x80")
    with pytest.raises(ValueError, match="looks like a spreadsheet or a zip archive"):
        read_text(tmp_path / "a.csv")
    (tmp_path / "a.bin").write_bytes(b"\x89PNG\r\n\xff\x00" * 20)
    with pytest.raises(ValueError, match="a.bin, line 1 is not UTF-8 text; it looks like another kind of file than text"):
        read_text(tmp_path / "a.bin")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfa")
    with pytest.raises(ValueError, match="mark of utf-8, not of cp1252: leave --encoding out"):
        read_text(tmp_path / "b.txt", "windows-1252")
    with pytest.raises(ValueError, match="no encoding 'klingon'"):
        read_text(tmp_path / "b.txt", "klingon")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_text(tmp_path / "c.txt")
    (tmp_path / "c.txt.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="could not be read"):
        read_text(tmp_path / "c.txt.gz")


def test_zeros_in_a_text_stay(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a text with\0a zero\nor two\0\n")
    assert list(read_lines(tmp_path / "a.txt")) == ["a text with\0a zero", "or two\0"]


@pytest.mark.parametrize("text", ["one\rtwo\r", "one\rtwo", "a O\rb B-X\r\rc O\r\n"])
def test_lines_that_end_at_carriage_returns_alone_are_refused(tmp_path, text):
    (tmp_path / "a.txt").write_bytes(text.encode())
    with pytest.raises(ValueError, match="a.txt has no line feeds.*save it with line feeds"):
        list(read_lines(tmp_path / "a.txt"))
    assert read_text(tmp_path / "a.txt") == text  # white space, to JSON
    (tmp_path / "a.txt").write_bytes(b"one\r")
    assert list(read_lines(tmp_path / "a.txt")) == ["one\r"]


@pytest.mark.parametrize("place", range(10, 60, 7))
def test_a_damaged_gzip_file_is_named(tmp_path, place):
    whole = gzip.compress("".join(f"{number} {number**3}\n" for number in range(99)).encode())
    (tmp_path / "a.txt.gz").write_bytes(whole[:place] + b"\xff" * 8 + whole[place + 8 :])
    with pytest.raises(ValueError, match="a.txt.gz could not be read|a.txt.gz, line .* is not UTF-8"):
        list(read_lines(tmp_path / "a.txt.gz"))


def test_gzip_is_opened(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    assert list(read_lines(tmp_path / "a.txt.gz")) == LINES


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"])), min_size=1))
def test_as_many_lines_come_as_were_written(tmp_path_factory, lines):
    lines = ["", *(line.rstrip("\r") for line in lines)]  # a carriage return before a line feed is a part of the end
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes("".join(line + "\n" for line in lines).encode("utf-8"))
    assert list(read_lines(path)) == lines
