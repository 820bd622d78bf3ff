"""Shares of a file are drawn by label; what a user should know of a file is said; errors name the file's own rows."""

import argparse
import json
import random
from collections import Counter

import pytest

from kbert.commands import findings, jobs
from kbert.commands.jobs import JOBS
from kbert.commands.shares import Part, drawn, shares, split
from kbert.commands.wording import in_flags
from kbert.scoring.figures import Figures


def part(y, x=None, path="sms.csv"):
    return Part(x or [f"text {n}" for n in range(len(y))], y, path, range(len(y)))


@pytest.mark.parametrize("seed", range(6))
def test_a_class_with_one_example_is_one_to_train_on(seed):
    y = ["ham", "spam"] * 20 + ["rare"]
    (_, train), (_, test) = shares([f"good day {n}" for n in range(len(y))], y, 0.2, seed)
    assert Counter(test) == {"ham": 4, "spam": 4} and "rare" in train


@pytest.mark.parametrize("seed", range(20))
def test_each_label_has_its_part_in_both_shares(seed):
    draw = random.Random(seed)
    counts = {f"label {n}": draw.randint(1, 200) for n in range(draw.randint(2, 30))}
    y = [label for label, count in counts.items() for _ in range(count)]
    draw.shuffle(y)
    share = draw.choice([0.05, 0.1, 0.2, 0.5])
    rest, held_out = drawn(y, len(y), share, seed)
    assert sorted(rest + held_out) == list(range(len(y))) and drawn(y, len(y), share, seed) == (rest, held_out)
    assert abs(len(held_out) - share * len(y)) < 1 + sum(count == 1 for count in counts.values())
    of_label = Counter(y[place] for place in held_out)
    for label, count in counts.items():
        assert abs(of_label[label] - share * count) <= 1 and of_label[label] < count
    several = [[label, draw.choice(list(counts))] for label in y]  # of several labels none is missing in what is trained on
    rest, held_out = drawn(several, len(y), share, seed)
    assert {label for labels in several for label in labels} == {label for place in rest for label in several[place]}


def test_numbers_and_texts_alone_are_drawn_as_they_come():
    for y in (None, [0.5] * 40, [[{"text": "a", "start": 0}]] * 40):
        rest, held_out = drawn(y, 40, 0.25, 3)
        assert len(held_out) == 10 and sorted(rest + held_out) == list(range(40)) and held_out != sorted(held_out)


def test_a_share_of_nothing_names_its_own_flag():
    for flag, purpose in (("--held-out", "measure by"), ("--validation", "watch")):
        with pytest.raises(ValueError, match=f"{flag} 0.1 of 3 examples leaves 3 to train on, 0 to {purpose}"):
            split(part(["a", "b", "c"]), 0.1, 0, flag)


def test_an_error_names_the_row_of_the_file():
    rest, held_out = split(part(["ham"] * 10 + ["spam"] * 10), 0.5, 1, "--held-out")
    place = held_out.rows.index(max(held_out.rows))
    with pytest.raises(TypeError, match=f"^row {max(held_out.rows) + 1} of sms.csv is 'x', not of"), held_out.named():
        raise TypeError(f"y[{place}] is 'x', not of [2]")
    with pytest.raises(ValueError, match="^word 1 of sentence 2 of a.bio is"), part([["O"]] * 2, [["a"]] * 2, "a.bio").named():
        raise ValueError("y[1][0] is 'B-x'")


@pytest.mark.parametrize(
    ("x", "path", "name"),
    [
        ([["a"]] * 3, "a.bio", "sentence 3"),
        ([["a"]] * 3, "a.txt", "sentence 3"),
        ([["a"]] * 3, "a.tsv.gz", "sentence 3"),
        ([["a"]] * 3, "a.parquet", "row 3"),
        (["a"] * 3, "a.csv.gz", "row 3"),
        (["a"] * 3, "a.ndjson", "row 3"),
        (["a"] * 3, "a.json", "row 3"),
        (["a"] * 3, "a.txt", "line 3"),
        ((["a"] * 3, ["b"] * 3), "a.json", "question 3"),
        ((["a"] * 3, ["b"] * 3), "a.tsv", "row 3"),
    ],
)
def test_an_example_has_the_name_of_what_it_is_in_its_file(x, path, name):
    assert part([None] * 3, x, path).where(2) == f"{name} of {path}"


SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "in Paris",
                    "qas": [
                        {"id": str(start), "question": "?", "answers": [{"text": "Paris", "answer_start": start}]}
                        for start in (3, 9, 3, 2, 3)
                    ],
                }
            ]
        }
    ]
}


@pytest.mark.filterwarnings("ignore:.*(not in the context|blank lines)")
@pytest.mark.parametrize(
    ("job", "name", "content", "rows"),
    [
        ("qa", "a.json", json.dumps(SQUAD), [0, 2, 4]),
        ("qa", "a.csv", "question,context,answer,start\nw,in,x,0\nw,in,in,0\nw,in,,\nw,in,x,0\nw,in,in,0\n", [1, 2, 4]),
        ("fill-mask", "a.txt", "\none\n \ntwo\n", [1, 3]),
        ("fill-mask", "a.csv", "text\none\ntwo\n", [0, 1]),
    ],
)
def test_examples_that_are_left_out_do_not_move_the_numbers_of_the_others(tmp_path, job, name, content, rows):
    (tmp_path / name).write_text(content)
    options = argparse.Namespace(text=None, pair=None, label=None, encoding=None, separator=None)
    read = jobs.read(JOBS[job], str(tmp_path / name), options)
    assert list(read.rows) == rows and len(read) == len(rows)
    assert read.where(len(rows) - 1).split(" of ")[0].endswith(f" {rows[-1] + 1}")


def test_what_is_odd_about_a_file_is_said():
    y = ["ham"] * 9 + ["spam"] * 9 + ["spma", "Ham ", "Ham ", "other"]
    x = ["a text"] * 20 + ["", " "]
    said = findings.of_data(JOBS["classification"], part(y, x))
    assert said[0] == "2 of 22 examples of sms.csv have an empty text: number 21, 22"
    assert said[1].startswith("one example only of ['other', 'spma']")
    assert "the label 'Ham ' (row 20 of sms.csv, 2 in all) is written almost like 'ham' (9 in all)" in said[2]
    assert "the label 'spma' (row 19 of sms.csv, 1 in all) is written almost like 'spam'" in said[3] and len(said) == 4
    fine = part(["class_1"] * 5 + ["class_2", "class_12", "yes", "no"] * 2)
    assert findings.of_data(JOBS["classification"], fine) == []
    assert findings.of_data(JOBS["ner"], part([["B-x"], ["I-x"]], [["a"], ["b"]])) == []
    many = findings.of_data(JOBS["classification"], part([f"unique {n}" for n in range(3000)]))
    assert len(many) == 1 and "and 2990 more" in many[0].replace(",", "")


def test_a_task_that_is_no_better_than_one_answer_is_said():
    test = part(["ham"] * 8 + ["spam"] * 2)
    for accuracy, count in ((0.7, 1), (0.8, 1), (0.9, 0)):
        assert len(findings.of_result(JOBS["classification"], Figures({"accuracy": accuracy}), test)) == count
    assert (
        "answering 'ham' would be for 80.0%" in findings.of_result(JOBS["classification"], Figures({"accuracy": 0.7}), test)[0]
    )
    assert findings.of_result(JOBS["regression"], Figures({"pearson": 0.7}), part([0.5] * 4)) == []


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("x exists; export to another path, or pass overwrite=True to replace it", "pass --overwrite to replace it"),
        ("3 of 9 texts are longer than max_length=24 and are cut; this is said once", "than --max-length 24 and are cut"),
        ("max_length 600 is more than the 512 positions", "--max-length 600 is more than the 512 positions"),
        ("it is\nnew; train it with fit() before you trust its answers", "it is new; it is to be trained"),
        ("label_smoothing should be in [0, 1), got 2", "--label-smoothing should be in [0, 1), got 2"),
        ("x.h5 is the name of a file of weights (save_weights() writes it), and", "the name of a file of weights, and"),
        ('x.onnx is an ONNX file (export(format="onnx") writes it)', "x.onnx is an ONNX file"),
        ("the text of the label", "the text of the label"),
        ("a/max_length/b and max_length.csv", "a/max_length/b and max_length.csv"),
        ("runs/text=3/a.csv is empty", "runs/text=3/a.csv is empty"),
        ("the texts' column: got 'say text=hi, label_smoothing'", "the texts' column: got 'say text=hi, label_smoothing'"),
        ('got "it\'s label=1"; give text=a', 'got "it\'s label=1"; give --text a'),
        ("a.csv, line 2 has 'see label=7 and so o", "has 'see label=7 and so o"),
        ('"int8" is for text="a"', '"int8" is for --text "a"'),
    ],
)
def test_messages_speak_of_flags(message, said):
    assert in_flags(message, ["max_length", "label_smoothing", "overwrite", "label", "text"]).endswith(said)
