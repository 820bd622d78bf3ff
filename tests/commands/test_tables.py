"""Files as what tasks take: labels of every shape, the hub's tables, and errors that name the line and the option."""

import json
import re
import warnings

import pandas as pd
import pytest

from kbert.commands import asked, cli, tables
from kbert.commands.tables import Reading
from kbert.commands.wording import in_flags


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def text(path, content):
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("label", ["None", "NA", "nan", "null", "NaN"])
def test_a_class_of_any_name_is_a_class(tmp_path, suffix, label):
    path, table = tmp_path / f"a.{suffix}", pd.DataFrame({"text": ["a", "NA"], "label": [label, "x"]})
    {"csv": table.to_csv, "parquet": table.to_parquet}.get(suffix, table.to_json)(
        path, **{"csv": {"index": False}, "jsonl": {"orient": "records", "lines": True}, "parquet": {}}[suffix]
    )
    assert tables.read_labelled(path) == (["a", "NA"], [label, "x"])


def test_labels_by_number_have_their_names(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", {"text": "a", "label": 1}, {"text": "b", "label": 0.0})
    assert tables.read_labelled(path)[1] == ["1", "0"]
    assert tables.read_labelled(path, how=Reading(names=["bad", "good"]))[1] == ["good", "bad"]
    with pytest.raises(ValueError, match="line 1: 1 is none of the 1 names"):
        tables.read_labelled(path, how=Reading(names=["bad"]))
    path = text(tmp_path / "a.csv", "text,label\na,1\nb,good\n")
    assert tables.read_labelled(path, how=Reading(names=["bad", "good"]))[1] == ["good", "good"]


ROWS = [["x", "y"], [], ["z"]]
BINARY = [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["x;y", "", "z"], None),
        (["x; y;", " ", "z"], None),
        (ROWS, None),
        ([str(row) for row in ROWS], None),
        ([json.dumps(row) for row in ROWS], None),
        (["['x' 'y']", "[]", "['z']"], None),
        ([[0, 1], [], [2]], ["x", "y", "z"]),
        (BINARY, ["x", "y", "z"]),
        ([[float(value) for value in row] for row in BINARY], ["x", "y", "z"]),
    ],
)
def test_several_labels_are_read_in_each_shape(tmp_path, suffix, cells, names):
    path, table = tmp_path / f"a.{suffix}", pd.DataFrame({"text": list("abc"), "labels": cells})
    if suffix == "jsonl":
        table.to_json(path, orient="records", lines=True)
    elif suffix == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    assert tables.read_labelled(path, several=True, how=Reading(names=names)) == (list("abc"), ROWS)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("kind", [int, float, bool, str])
def test_columns_of_ones_and_zeros_are_labels(tmp_path, suffix, kind):
    path, table = tmp_path / f"a.{suffix}", pd.DataFrame(BINARY, columns=list("xyz")).astype(kind).assign(text=list("abc"))
    if suffix == "jsonl":
        table.to_json(path, orient="records", lines=True)
    elif suffix == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    assert tables.read_labelled(path, label=["x", "y", "z"], several=True)[1] == ROWS
    with pytest.raises(ValueError, match="name the columns of ones and zeros: --label x y z"):
        tables.read_labelled(path, several=True)


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"text": "a", "label": None}, {}, "line 2 has no label"),
        ({"text": "a", "label": " "}, {}, "line 2 has no label"),
        ({"text": "a", "label": ["x", "y"]}, {}, "line 2 has several labels.*--task multi-label"),
        ({"text": "a", "label": "['x', 'y']"}, {}, "line 2 has several labels.*--task multi-label"),
        ({"text": "a", "label": 10**400}, {"numbers": True}, "line 2 has 1000.* where a number is expected"),
        ({"text": None, "label": "x"}, {}, "line 2 has no text in the column 'text'"),
        ({"text": 5, "label": "x"}, {}, "line 2: the column 'text' should hold texts, got 5"),
        (
            {"text": "a", "label": None},
            {"several": True},
            "line 2 has no labels, None; a text without a label has an empty list",
        ),
        ({"text": "a", "label": ["x", None]}, {"several": True}, "line 2 has a label that is none"),
        ({"text": "a", "label": "[x, y]"}, {"several": True}, r"line 2: '\[x, y\]' looks like a list; write it as"),
        ({"text": "a", "label": "{'x', 'y'}"}, {"several": True}, "line 2: .* looks like a list"),
        ({"text": "a", "label": "('x',)"}, {"several": True}, "line 2: .* looks like a list"),
        ({"text": "a", "label": "array(['x'], dtype=object)"}, {"several": True}, "line 2: .* looks like a list"),
        ({"text": "a", "label": "x"}, {"numbers": True}, "line 2 has 'x' where a number is expected"),
        ({"text": "a", "label": "x"}, {"label": ["label", "text"]}, "--label takes one column"),
        ({"text": "a", "label": "x"}, {"label": ["label", "text"], "several": True}, "'label' should hold 0 or 1, got 'x'"),
    ],
)
def test_what_is_wrong_in_a_row_is_named_with_its_line(tmp_path, row, options, message):
    path = jsonl(tmp_path / "a.jsonl", {"text": "a", "label": "1" if "numbers" in options else "x"}, row)
    with pytest.raises(ValueError, match=message):
        tables.read_labelled(path, **options)


@pytest.mark.parametrize("rows", [BINARY, [[0, 1], [1, 0]], [[1.0, 0.0]]])
def test_lists_of_ones_and_zeros_need_names(tmp_path, rows):
    path = jsonl(tmp_path / "a.jsonl", *({"text": "a", "labels": row} for row in rows))
    with pytest.raises(ValueError, match="lists of ones and zeros; give the labels' names in order with --names"):
        tables.read_labelled(path, several=True)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize(("labels", "names"), [([0, 1, 2], ["1", "2", "3"]), ([0, 1], ["a", "a"]), ([0, 1], ["1", "0"])])
def test_names_that_could_mean_two_labels_are_refused(tmp_path, suffix, labels, names):
    path, table = tmp_path / f"a.{suffix}", pd.DataFrame({"text": [str(label) for label in labels], "label": labels})
    if suffix == "csv":
        table.to_csv(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)
    bio = text(tmp_path / "a.bio", "".join(f"word {label}\n" for label in labels))
    for read in (tables.read_labelled, lambda path, how: tables.read_words(bio, how=how)):
        with pytest.raises(ValueError, match=r"the name '\w' (stands twice in|of) --names"):
            read(path, how=Reading(names=names))
    in_order = [str(label) for label in labels]  # numbers are names of themselves
    assert tables.read_labelled(path, how=Reading(names=in_order))[1] == in_order


@pytest.mark.parametrize(
    ("cells", "wrong"),
    [
        (["2,24", "2", "24"], "line 2: '2,24'"),
        (["Action|Comedy", "Drama|Action", "Comedy"], "line 2: 'Action|Comedy'"),
        (["x", "", "x, y", "y"], "line 4: 'x, y'"),
        (["Arts, Music", "Arts, Dance", "Music"], "line 2: 'Arts, Music'"),
        (["Arts, Music", "Arts, Dance", "Sport"], None),  # a comma in a name
        (["x,y;z", "x", "y"], None),
    ],
)
def test_labels_with_another_separator_between_them_are_refused(tmp_path, cells, wrong):
    path = tmp_path / "a.tsv"
    pd.DataFrame({"text": cells, "labels": cells}).to_csv(path, index=False, sep="\t")
    if wrong is None:
        assert tables.read_labelled(path, several=True)[1] == [cell.split(";") for cell in cells]
        return
    with pytest.raises(ValueError, match=f"{re.escape(wrong)} looks like several labels.*write ';' there"):
        tables.read_labelled(path, several=True)


# Words


@pytest.mark.parametrize("word", ["\U0001f600", "a/b", "it's", 'say "it"', "back\\slash", "\n", "é"])
def test_words_in_lists_that_json_or_python_wrote_are_the_same(tmp_path, word):
    rows = [[word, "b"], [word]]
    for write in (json.dumps, lambda row: json.dumps(row).replace("/", "\\/"), str):
        cells = {"tokens": [write(row) for row in rows], "tags": [str(["O"] * len(row)) for row in rows]}
        pd.DataFrame(cells).to_csv(tmp_path / "a.csv", index=False)
        assert tables.read_words(tmp_path / "a.csv")[0] == rows


def test_tables_of_words_have_tags_by_name_or_number(tmp_path):
    words, tags = [["In", "Paris"], ["rain"]], [["O", "B-LOC"], ["O"]]
    rows = [{"tokens": of_words, "ner_tags": of_tags} for of_words, of_tags in zip(words, tags)]
    assert tables.read_words(jsonl(tmp_path / "a.jsonl", *rows)) == (words, tags)
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    assert tables.read_words(tmp_path / "a.csv") == (words, tags)
    assert tables.read_words(tmp_path / "a.csv", "tokens", "ner_tags") == (words, tags)
    numbers = jsonl(tmp_path / "b.jsonl", {"tokens": ["In", "Paris"], "ner_tags": [0, 1]})
    assert tables.read_words(numbers, how=Reading(names=["O", "B-LOC"]))[1] == [["O", "B-LOC"]]
    with pytest.raises(ValueError, match="line 1: the tags in the column 'ner_tags' are numbers.*--names"):
        tables.read_words(numbers)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "line 1 has 2 words and 1 tags"),
        ({"tokens": "a b", "tags": ["O", "O"]}, "line 1: the column 'tokens' should hold lists of words, got 'a b'"),
        ({"tokens": ["a", None], "tags": ["O", "O"]}, "should hold lists of words"),
        ({"tokens": ["a"], "tags": "O"}, "line 1: the column 'tags' should hold lists of tags"),
        ({"tokens": ["a"], "tags": ["NOUN"]}, "line 1: 'NOUN' is not a BIO.*name the column with --label to take any labels"),
        ({"tokens": ["a", "b"], "tags": ["B-x", "y"]}, "line 1: 'y' is not a tag of the scheme of 'B-x'"),
        ({"tokens": ["a"], "tags": ["3"]}, "line 1: '3' is not .*The tags are numbers: give their names in order with --names"),
        ({"tokens": ["a"], "pos": ["O"]}, "no column named tags or ner_tags or labels.*Name yours with --label"),
    ],
)
def test_what_is_wrong_in_a_table_of_words_is_named(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        tables.read_words(jsonl(tmp_path / "a.jsonl", row))


def test_columns_of_a_bio_file_are_named_by_number(tmp_path):
    path = text(tmp_path / "a.conll", "1 cat B-x N\n2 ran O V\n")
    assert tables.read_words(path, "2", "3") == ([["cat", "ran"]], [["B-x", "O"]])
    with pytest.raises(ValueError, match="--label should be a column's number, counted from 1, got 'tags'"):
        tables.read_words(path, label="tags")


# Questions


ANSWERS = [[{"text": "Paris", "start": 3}, {"text": "in Paris", "start": 0}], []]
CONTEXTS = ["in Paris.", "who knows"]
HUB = [
    {"text": [answer["text"] for answer in answers], "answer_start": [answer["start"] for answer in answers]}
    for answers in ANSWERS
]


@pytest.mark.parametrize(
    "cells",
    [
        HUB,
        list(map(str, HUB)),
        list(map(json.dumps, HUB)),
        ANSWERS,
        [[{"text": a["text"], "answer_start": a["start"]} for a in answers] for answers in ANSWERS],
    ],
    ids=["hub", "as Python writes it", "as JSON", "a list", "a list of SQuAD's"],
)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_answers_of_each_shape_are_read(tmp_path, cells, suffix):
    table = pd.DataFrame({"id": ["1", "2"], "question": ["where?", "who?"], "context": CONTEXTS, "answers": cells})
    path = tmp_path / f"a.{suffix}"
    table.to_parquet(path) if suffix == "parquet" else table.to_json(path, orient="records", lines=True)
    assert tables.read_questions(path) == ((["where?", "who?"], CONTEXTS), ANSWERS)
    assert asked.read_asked_questions(path).x == (["where?", "who?"], CONTEXTS)


def test_answers_in_columns_are_read_and_misplaced_ones_are_named(tmp_path):
    path = text(tmp_path / "a.csv", "question,context,answer,start\nwhere?,in Paris.,Paris,3\nwho?,who knows,,\nwhat?,a,b,0\n")
    with pytest.warns(UserWarning, match="1 questions have an answer that is not in the context.*line 4"):
        (questions, contexts), answers = tables.read_questions(path)
    assert (questions, contexts, answers) == (["where?", "who?"], CONTEXTS, [ANSWERS[0][:1], []])


def test_places_of_answers_are_whole_and_not_negative(tmp_path):
    for start in ("1.5", "-1", "x", ""):
        path = text(tmp_path / "a.csv", f"question,context,answer,start\nq,abc,b,1\nq,abc,b,{start}\n")
        with pytest.raises(ValueError, match="a.csv, line 3"):
            tables.read_questions(path)


def test_numbers_are_finite_and_plain(tmp_path):
    for value in ("nan", "inf", "1_0", "1,5", ""):
        path = text(tmp_path / "a.csv", f'text,label\na,1\nb,"{value}"\n')
        with pytest.raises(ValueError, match="a.csv, line 3 has "):
            tables.read_labelled(path, numbers=True)
    assert tables.read_labelled(text(tmp_path / "a.csv", "text,label\na, 1e3\n"), numbers=True)[1] == [1000]
    with pytest.raises(ValueError, match="--names is for labels"):
        tables.read_labelled(path, numbers=True, how=Reading(names=["a"]))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("Paris", "line 1: the column 'answers' should hold answers"),
        ({"text": ["Paris"], "answer_start": []}, "line 1: the column 'answers' should hold answers"),
        ({"text": ["Paris"], "answer_start": [-1]}, "line 1: the column 'answers' should hold answers"),
        (None, "line 1: the column 'answers' should hold answers"),
    ],
)
def test_other_answers_are_refused(tmp_path, cell, message):
    with pytest.raises(ValueError, match=message):
        tables.read_questions(jsonl(tmp_path / "a.jsonl", {"question": "q", "context": "c", "answers": cell}))


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"id": "q7", "question": "what?", "answers": [{"text": "a"}]}, "question q7, an answer lacks 'answer_start'"),
        (
            {"id": "q7", "question": "what?", "answers": [{"text": "a", "answer_start": "0"}]},
            "question q7, an answer: 'answer_",
        ),
        ({"id": "q7", "question": "what?", "answers": {"text": ["a"]}}, "question q7: 'answers' should be of type list"),
        ({"id": "q7", "question": "what?"}, "question q7: there are no answers"),
        ({"id": "q7", "answers": []}, "question q7 lacks 'question'"),
        ({"answers": []}, "article 1, paragraph 1, question 1 lacks 'question'"),
    ],
)
def test_errors_in_squads_files_name_the_question(tmp_path, question, message):
    content = {"data": [{"paragraphs": [{"context": "the cat sat", "qas": [question]}]}]}
    with pytest.raises(ValueError, match=message):
        tables.read_questions(text(tmp_path / "a.json", json.dumps(content)))


def test_names_beside_columns_of_ones_and_zeros_are_refused(tmp_path):
    path = text(tmp_path / "a.csv", "text,x,y\na,1,0\n")
    with pytest.raises(ValueError, match="columns of ones and zeros have names"):
        tables.read_labelled(path, label=["x", "y"], several=True, how=Reading(names=["x", "y"]))


def test_blank_lines_are_named(tmp_path):
    path = text(tmp_path / "a.txt", "good\n\nbad\u2028day\n \n")
    with pytest.warns(UserWarning, match="2 blank lines are left out: 2, 4"):
        assert tables.read_texts(path) == ["good", "bad\u2028day"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asked.read_asked(path).x == ["good", "", "bad\u2028day", " "]
    with pytest.raises(ValueError, match="has no columns: --text"):
        tables.read_texts(path, "text")


def test_a_file_in_another_encoding_is_named_with_the_flag(tmp_path, capsys):
    (tmp_path / "a.bio").write_bytes("Café O\n".encode("cp1252"))
    with pytest.raises(ValueError) as error:
        tables.read_words(tmp_path / "a.bio")
    assert in_flags(error.value, ["encoding"]).endswith("it looks like windows-1252: give --encoding windows-1252")
    with pytest.raises(ValueError) as error:
        tables.read_words(text(tmp_path / "a.bio", "New 1\nYork 2\n"))
    assert in_flags(error.value, ["names"]).endswith("The tags are numbers: give their names in order with --names")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--encoding", "klingon", "no encoding 'klingon'"),
        ("--encoding", "base64", "no encoding"),
        ("--separator", ";;", "one character"),
    ],
)
def test_options_that_no_file_can_have_are_refused_at_once(option, value, message, capsys):
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "none", "--data", "none.csv", option, value])
    assert message in capsys.readouterr().err
