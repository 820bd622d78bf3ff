"""Tables give as many rows as were written, with equal texts; what is wrong in one is named with its line."""

import csv
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbert.files.table_file import read_table

# What readers of tables stumble over, and any other text. Surrogates cannot be written.
ODD = [
    "",
    " ",
    "NA",
    "nan",
    "None",
    "null",
    "1.0",
    '"',
    'say "hi"',
    '""',
    "a,b;c\td",
    "a\nb",
    "a\r\nb",
    "a\rb",
    "\u2028",
    "\x85\x0c",
    "#x",
]
CELLS = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
# An unquoted carriage return at a line's end is a part of the end, and a mark at the file's beginning is one.
ROWS = st.lists(st.tuples(CELLS, CELLS.filter(lambda cell: not cell.endswith("\r"))), min_size=1, max_size=6)


def written_by_pandas(path, rows, **options):
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False, **options)


def written_by_csv(path, rows, **options):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, **options).writerows([("text", "label"), *rows])


def written_as_lines(path, rows, **options):
    lines = [json.dumps({"text": text, "label": label}, **options) for text, label in rows]
    path.write_bytes("".join(line + "\n" for line in lines).encode())


def written_as_objects(path, rows, **options):
    pd.DataFrame(rows, columns=["text", "label"]).to_json(path, orient="records", **options)


WRITERS = {
    "pandas.csv": (written_by_pandas, {}),
    "pandas, all quoted.csv": (written_by_pandas, {"quoting": csv.QUOTE_ALL}),
    "pandas.tsv": (written_by_pandas, {"sep": "\t"}),
    "pandas, all quoted.tsv": (written_by_pandas, {"sep": "\t", "quoting": csv.QUOTE_ALL}),
    "pandas.csv.gz": (written_by_pandas, {}),
    "csv.csv": (written_by_csv, {}),
    "csv, line feeds.csv": (written_by_csv, {"lineterminator": "\n"}),
    "csv.tsv": (written_by_csv, {"dialect": "excel-tab"}),
    "json.jsonl": (written_as_lines, {}),
    "json, beyond ascii.jsonl": (written_as_lines, {"ensure_ascii": False}),
    "pandas.jsonl": (written_as_objects, {"lines": True}),
    "pandas.json": (written_as_objects, {}),
    "pandas.parquet": (lambda path, rows: pd.DataFrame(rows, columns=["text", "label"]).to_parquet(path), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_the_rows_that_were_written_are_read(tmp_path, name, rows):
    write, options = WRITERS[name]
    write(tmp_path / name, rows, **options)
    table = read_table(tmp_path / name)
    assert table.names == ["text", "label"] and list(map(tuple, table.rows)) == rows


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(CELLS, min_size=1, max_size=6))
def test_one_column_has_its_empty_rows(tmp_path, texts):
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "a.csv", index=False)
    assert [text for (text,) in read_table(tmp_path / "a.csv").rows] == texts


def read(tmp_path, name, text, **options):
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return read_table(tmp_path / name, **options)


def test_lines_are_those_of_the_file(tmp_path):
    table = read(tmp_path, "a.csv", 'text,label\n"a\nb",x\n\nc,y\n')
    assert (table.rows, table.lines) == ([["a\nb", "x"], ["c", "y"]], [2, 5])
    assert table.place(1).endswith("a.csv, line 5")
    assert read(tmp_path, "a.jsonl", '\n{"text": "a"}\n\n{"text": "b", "label": null}\n').lines == [2, 4]


def test_tsv_files_without_quoting_have_quotation_marks(tmp_path):
    for cell in ('"', '"a', '"a"', 'a "b" c', '"a" b'):
        assert read(tmp_path, "a.tsv", f"text\tlabel\n{cell}\tx\nb\ty\n").rows == [[cell, "x"], ["b", "y"]], cell


def test_marks_around_rows_of_a_tsv_file_do_not_join_the_rows(tmp_path):
    (tmp_path / "a.tsv").write_text('text\tlabel\n"a\tx\nb"\ty\n')
    assert read_table(tmp_path / "a.tsv").rows == [['"a', "x"], ['b"', "y"]]
    (tmp_path / "a.tsv").write_text('text\tlabel\n"a\tb\nc\td\te"\ty\n')
    assert read_table(tmp_path / "a.tsv").rows == [["a\tb\nc\td\te", "y"]]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_no_character_stands_for_another(tmp_path, name):
    cells = ["\U0010fffe", "\U0010ffff", "\ufdd0", "a\rb"]
    (tmp_path / name).write_bytes("".join(f"{cell}\n" for cell in ["text", *cells]).encode())
    assert read_table(tmp_path / name).column("text") == cells


def test_encodings_and_separators_are_taken(tmp_path):
    expected = [["Café, bar", "x"]]
    assert (
        read(tmp_path, "a.csv", "text;label\r\nCafé, bar;x\r\n".encode("cp1252"), encoding="cp1252", separator=";").rows
        == expected
    )
    assert read(tmp_path, "a.csv", "text\tlabel\nCafé, bar\tx\n".encode("utf-16"), separator="\\t").rows == expected
    assert read(tmp_path, "a.csv", '\ufefftext,label\n"Café, bar",x\n').names == ["text", "label"]
    assert read(tmp_path, "a.jsonl", '\ufeff{"text": "a"}\n').rows == [["a"]]


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("a.csv", "text,label\ngood,day,x\n", {}, "line 2 has 3 cells, and the first line names 2 columns; a cell that holds"),
        ("a.csv", "text,label\ngood,x\nday\n", {}, "line 3 has 1 cell, and the first line names 2 columns"),
        ("a.csv", 'text,label\n"a\nb",x\nday\n', {}, "line 4 has 1 cell,"),
        ("a.csv", "text;label\ngood, day;x\n", {}, "line 2 has 2 cells.*looks semicolon-separated: give --separator ';'"),
        ("a.csv", "text\tlabel\ngood, day\tx\n", {}, "looks tab-separated: give --separator tab"),
        ("a.tsv", "text,label\ngood\tday,x\n", {}, "looks comma-separated: give --separator ','"),
        ("a.csv", 'text,label\na,x\n"good" day,x\n', {}, "line 3: a cell that begins with a quotation mark"),
        ("a.csv", 'text,label\na,x\n"good,x\nb,y\n', {}, "line 3: a cell that begins with a quotation mark"),
        ("a.csv", "", {}, "first line should name the columns"),
        ("a.csv", b"text,label\nCaf\xe9,x\n", {}, "line 2 is not UTF-8.*looks like windows-1252: give --encoding windows-1252"),
        ("a.csv", "a", {"separator": ";;"}, "a separator .* is one character"),
        ("a.jsonl", "{}", {"separator": ";"}, "a separator .* is for csv and tsv"),
        ("a.parquet", "", {"encoding": "utf-8"}, "an encoding .* is for text files"),
        ("a.parquet", "text", {}, "could not be read as parquet"),
        ("a.jsonl", '{"text": "a"}\n{nonsense\n', {}, "line 2 is not JSON"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', {}, "line 2 should be an object"),
        ("a.jsonl", '{"text": "a", "text": "b"}\n', {}, "line 1 is not JSON: an object has two values named 'text'"),
        ("a.json", '{"text": ["a"]}', {}, "should hold a list of objects, got dict"),
        ("a.doc", "text", {}, "a name that ends in .csv"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(tmp_path, name, text, options, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, name, text, **options)


def test_two_columns_of_one_name_are_refused_where_they_are_asked_for(tmp_path):
    table = read(tmp_path, "a.csv", "text,x,x\na,b,c\n")
    assert table.column("text") == ["a"]
    with pytest.raises(ValueError, match="has 2 columns named 'x'"):
        table.column("x")


def test_parquet_keeps_whole_numbers_and_names_classes(tmp_path):
    names = {"_type": "ClassLabel", "names": ["O", "B-x"]}
    for of_list in ([names], {"_type": "Sequence", "feature": names}, {"_type": "List", "feature": names}):
        features = {"label": names, "tags": of_list, "text": {"_type": "Value", "dtype": "string"}}
        schema = pa.schema(
            [("label", pa.int64()), ("tags", pa.list_(pa.int64())), ("text", pa.string()), ("n", pa.int64())],
            metadata={"huggingface": json.dumps({"info": {"features": features}})},
        )
        rows = [{"label": 1, "tags": [0, 1], "text": "a", "n": 5}, {"label": -1, "tags": None, "text": None, "n": None}]
        pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "a.parquet")
        assert read_table(tmp_path / "a.parquet").rows == [["B-x", ["O", "B-x"], "a", 5], [None, None, None, None]]


def test_a_tsv_file_that_is_quoted_in_part_is_said_to_be(tmp_path):
    (tmp_path / "a.tsv").write_text('"text"\t"label"\n"a"\t1\n')
    with pytest.raises(ValueError, match="no column named 'text'; some of its cells are quoted.*save it as csv"):
        read_table(tmp_path / "a.tsv").column("text")
