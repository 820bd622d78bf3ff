"""Files of words and tags of every shape open, no word is lost or moved, and what is wrong in them is named with its line."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbert.files.bio_file import read_bio

NEW_YORK = ([["New", "York"], ["rain"]], [["B-city", "I-city"], ["O"]])
ANNA = ([["Anna", "sang"], ["Berlin"]], [["B-PER", "O"], ["B-LOC"]])


def read(path, text, **options):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_bio(path, **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "spaces": ("New B-city\nYork I-city\n\nrain O\n", NEW_YORK),
        "more spaces": ("New   B-city \nYork   I-city\n \nrain   O\n", NEW_YORK),
        "tabs": ("New\tB-city\nYork\tI-city\n\nrain\tO\n", NEW_YORK),
        "the tag first": ("B-city\tNew\nI-city\tYork\n\nO\train\n\n\n", NEW_YORK),
        "columns between": ("New NNP x B-city\nYork NNP x I-city\n\nrain N x O", NEW_YORK),
        "a chunk before": ("New NNP B-NP B-city\nYork NNP I-NP I-city\n\nrain N B-NP O", NEW_YORK),
        "carriage returns": ("New B-city\r\nYork I-city\r\n\r\nrain O\r\n", NEW_YORK),
        "a byte order mark": ("\ufeffNew B-city\nYork I-city\n\nrain O\n", NEW_YORK),
        "utf-16": ("New B-city\nYork I-city\n\nrain O\n".encode("utf-16"), NEW_YORK),
        "documents": ("-DOCSTART- -X- -X- O\n\nNew NNP x B-city\nYork NNP x I-city\n\nrain N x O", NEW_YORK),
        "documents, no blank line": ("New B-city\nYork I-city\n-DOCSTART- O\nrain O\n", NEW_YORK),
        "comments": ("# id = 1\nNew B-city\nYork I-city\n\n# id = 2\n# text = rain\nrain O\n", NEW_YORK),
        "comments as wide as words": ("# 1\nNew B-city\nYork I-city\n\n# 2\nrain O\n", NEW_YORK),
        "numbers": ("1\tNew\tB-city\n2\tYork\tI-city\n\n1\train\tO\n", NEW_YORK),
        "numbers that go on": ("1\tNew\tB-city\n2\tYork\tI-city\n\n3\train\tO\n", NEW_YORK),
        "numbers of sentences": ("0 1 New B-city\n0 2 York I-city\n\n1 1 rain O\n", NEW_YORK),
        "a word that is a number": ("10 CD O\n", ([["10"]], [["O"]])),
        "words that are numbers": ("10 O\n11 O\n", ([["10", "11"]], [["O", "O"]])),
        "a tab at the end": ("New\tB-city\t\nYork\tI-city\t\n\nrain\tO\t\n", NEW_YORK),
        "numbers from 0": ("0 New B-city\n1 York I-city\n\n0 rain O\n", NEW_YORK),
        "conll-u": (
            "# id = 1\n1-2\tNewYork\t_\t_\n1\tNew\tN\tB-city\n2\tYork\tN\tI-city\n2.1\tx\t_\t_\n\n1\train\tN\tO\n",
            NEW_YORK,
        ),
        "germeval": ("#\tn-tv.de\t[2010]\n1\tAnna\tB-PER\tO\n2\tsang\tO\tO\n\n1\tBerlin\tB-LOC\tO\n", ANNA),
        "germeval, nested": ("1\tAnna\tB-PER\tB-PERpart\n2\tsang\tO\tO\n\n1\tBerlin\tB-LOC\tO\n", ANNA),
        "BILOU": ("Anna U-PER\nsang O\n", ([["Anna", "sang"]], [["U-PER", "O"]])),
        "BMES": ("a B-X\nb M-X\nc E-X\n", ([["a", "b", "c"]], [["B-X", "M-X", "E-X"]])),
        "no types": ("flu B\nvirus I\nis O\n", ([["flu", "virus", "is"]], [["B", "I", "O"]])),
        "no letters": ("Anna PER\nsang O\n", ([["Anna", "sang"]], [["PER", "O"]])),
        "no letters, the tag first": ("PER\tAnna\nO\tsang\n", ([["Anna", "sang"]], [["PER", "O"]])),
        "a word O": ("B-PER\tO\nO\tsang\n", ([["O", "sang"]], [["B-PER", "O"]])),
        "odd spaces in words": (
            "10\u00a0000 B-n\n\u3000 O\na\u2028b O\nc\x85d O\n\x0c O\n",
            ([["10\u00a0000", "\u3000", "a\u2028b", "c\x85d", "\x0c"]], [["B-n", "O", "O", "O", "O"]]),
        ),
        "spaces in words, tabs": ("New York\tB-city\nrain\tO\n", ([["New York", "rain"]], [["B-city", "O"]])),
        "a word of nothing": ("\tB-x\n \tO\nsang\tO\n", ([["", " ", "sang"]], [["B-x", "O", "O"]])),
        "words that begin with #": ("#Paris B-city\n# O\nrain O\n", ([["#Paris", "#", "rain"]], [["B-city", "O", "O"]])),
        "a new tag of a word with #": (
            "#Paris B-x\nNew B-city\nrain O\n",
            ([["#Paris", "New", "rain"]], [["B-x", "B-city", "O"]]),
        ),
    }.values(),
)
def test_files_of_each_shape_give_their_words_and_tags(tmp_path, text, expected):
    assert read(tmp_path / "a.bio", text) == expected


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("New B-city\nYork\n", {}, "line 2: a word and its tag"),
        ("New B-city\nYork x I-city\nrain O\n", {}, "line 2 has 3 columns, most lines have 2"),
        ("", {}, "no sentence"),
        ("# a comment\n", {}, "no sentence"),
        ("New B-city\nYork city\n", {}, "line 2: 'city' is not a tag of the scheme of 'B-city'"),
        ("cat NOUN\n\nran VERB\n", {}, r"line 1: 'NOUN' is not a BIO.*column 2.*--label \(tag_column=\)"),
        ("Token Label\nAnna PER\nsang O\n", {}, r"line 1 names the columns, \['Token', 'Label'\]; remove the line"),
        ("tag\tword\nPER\tAnna\nO\tsang\n", {}, "line 1 names the columns"),
        ("New 1\n\nYork 0\n", {}, "line 1: .*The tags are numbers: give their names in order with --names"),
        ("New 1\n\nYork x\n", {}, r"line 1: '1' is not a BIO.*column 2.*--label \(tag_column=\)"),
        ("New 1\n\nYork 3\n", {"names": ["O", "B-x"]}, "line 3: '3' is no number of the 2 names"),
        ("New B-x\n", {"tag_column": 3}, "has 2 columns, and tag_column is 3"),
        (b"New B-x\nCaf\xe9 O\n", {}, "line 2 is not UTF-8 text; it looks like windows-1252: give --encoding windows-1252"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, text, options, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.bio", text, **options)


WORD = st.text(st.characters(exclude_characters="\t\n\r\ufeff", exclude_categories=["Cs"]), max_size=5)
WORDS = WORD.filter(lambda word: word.strip(" ") and word[0] not in "#-OBI")
SENTENCES = st.lists(st.lists(st.tuples(WORDS, st.sampled_from(["O", "B-x", "I-x"])), min_size=1), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sentences=SENTENCES, end=st.sampled_from(["\n", "\r\n"]))
def test_the_words_that_were_written_are_read(tmp_path, sentences, end):
    sentences = [*sentences, [("x", "B-x")]]
    for form in ("{0}\t{1}", "{0}\tNN\t{1}", "{1}\t{0}"):
        lines = (end.join(form.format(*pair) for pair in sentence) for sentence in sentences)
        words, tags = read(tmp_path / "a.tsv", (end * 2).join(lines) + end)
        assert [list(zip(*sentence)) for sentence in zip(words, tags)] == sentences


def test_columns_names_and_encodings_are_taken(tmp_path):
    path = tmp_path / "a.conll"
    assert read(path, "1 cat NOUN x\n2 ran VERB x\n", word_column=2, tag_column=3) == ([["cat", "ran"]], [["NOUN", "VERB"]])
    assert read(path, "1 cat x NOUN\n2 ran x VERB\n", word_column=2, tag_column=-1) == ([["cat", "ran"]], [["NOUN", "VERB"]])
    assert read(path, "New 1\nYork 2\nrain 0\n", names=["O", "B-x", "I-x"])[1] == [["B-x", "I-x", "O"]]
    assert read(path, "Café O\n".encode("cp1252"), encoding="windows-1252")[0] == [["Café"]]
