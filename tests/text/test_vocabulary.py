"""Vocabularies: files that are refused with their line, and learning from raw text."""

import subprocess
import sys

import pytest

import kbert
from kbert.files.vocabulary import read_vocabulary, save_vocabulary
from kbert.text.learn_vocabulary import _count_words, learn_vocabulary, lines_of
from kbert.text.normalizer import normalizer_model
from kbert.text.wordpiece_search import search_tokens
from tests.conftest import SPECIAL
from tests.text.reference import read_texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[PAD]\ncaf\xe9\n", r"vocab.txt, line 2: .* is not UTF-8"),
        (b"", r"vocab.txt is empty"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, content, message):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_vocabulary(tmp_path / "vocab.txt")


@pytest.mark.parametrize(
    ("content", "tokens", "message"),
    [
        (b"[PAD]\na\nb\na\n", ["[PAD]", "[unused1]", "b", "a"], "line 4: 'a' stands on line 2 already"),
        (b"[PAD]\n\na\n", ["[PAD]", "[unused1]", "a"], "line 2 is empty"),
        (b"[unused1]\n\na\n", ["[unused1]", "[unused1_]", "a"], "line 2 is empty"),
    ],
)
def test_a_published_file_with_an_odd_line_keeps_its_ids(tmp_path, content, tokens, message):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.warns(UserWarning, match=message):
        assert read_vocabulary(tmp_path / "vocab.txt") == tokens


def test_blank_lines_at_the_end_are_no_tokens(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\na\n\r\n\n")
    assert read_vocabulary(tmp_path / "vocab.txt") == ["[PAD]", "a"]


def test_no_file_is_clear(tmp_path):
    with pytest.raises(FileNotFoundError, match="no vocabulary at"):
        kbert.WordPieceTokenizer(tmp_path / "vocab.txt")


@pytest.mark.parametrize("missing", SPECIAL)
def test_a_missing_special_token_is_named(missing):
    with pytest.raises(ValueError, match=rf"none of its 5 lines is the special token '\{missing[:-1]}\]'"):
        kbert.WordPieceTokenizer([*(token for token in SPECIAL if token != missing), "a"])


def test_a_file_comes_back_as_it_was_written(tmp_path):
    tokens = [*SPECIAL, "a\u2028b", " x", "\u00a0", "##é"]
    save_vocabulary(tokens, tmp_path / "vocab.txt")
    assert read_vocabulary(tmp_path / "vocab.txt") == tokens
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(SPECIAL).encode())
    assert read_vocabulary(tmp_path / "vocab.txt") == SPECIAL
    (tmp_path / "vocab.txt").write_bytes("\n".join(SPECIAL).encode("utf-8-sig"))
    assert read_vocabulary(tmp_path / "vocab.txt") == SPECIAL
    assert [path.name for path in tmp_path.iterdir()] == ["vocab.txt"]


@pytest.fixture(scope="module")
def news():
    return read_texts("bbc", None)[:120]


def test_learned_vocabulary_spells_its_corpus(news):
    tokenizer = kbert.WordPieceTokenizer.learn(news, vocabulary_size=2000, progress=False)
    tokens = tokenizer.vocabulary
    assert tokens[:5] == SPECIAL and len(tokens) == len(set(tokens)) == 2000
    ids = tokenizer(news).flat_values.numpy()
    assert (ids == tokenizer.unk_token_id).mean() < 0.001
    assert len(ids) < 1.5 * len(kbert.WordPieceTokenizer.from_preset("all-minilm-l6-v2")(news).flat_values)


def test_learning_repeats_and_ignores_the_order_of_texts(news):
    once = learn_vocabulary(news, 1000, progress=False)
    assert once == learn_vocabulary(iter(news), 1000, progress=False) == learn_vocabulary(news[::-1], 1000, progress=False)
    assert len(once) <= 1000


def pieces_of(words, vocabulary):
    """Counts the pieces of all words, longest match first."""
    tokens, total = set(vocabulary), 0
    for word, count in words.items():
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            start = next(end for end in range(len(word), start, -1) if prefix + word[start:end] in tokens)
            total += count
    return total


def test_a_text_has_as_few_pieces_as_with_googles_learner(news):
    from tensorflow_text.tools.wordpiece_vocab import wordpiece_tokenizer_learner_lib as google

    words = _count_words(news[:30], normalizer_model(), lambda text: None)
    theirs = google.learn(sorted(words.items()), 1000, SPECIAL, lower_thresh=2)
    ours = learn_vocabulary(news[:30], len(theirs), progress=False)
    assert len(ours) == len(theirs) and pieces_of(words, ours) <= 1.01 * pieces_of(words, theirs)


def test_tokens_are_the_ends_of_words_that_occur_often():
    words = {"low": 9, "lower": 9, "slower": 9, "rare": 1}
    assert search_tokens(words, 3) == ["low", "lower", "slower"]
    assert search_tokens({**words, "newer": 1, "fewer": 1}, 100)[3:] == ["##ewer"]
    assert search_tokens(words, 100) == search_tokens(dict(reversed(words.items())), 100)
    assert "rare" not in search_tokens(words, 100) and search_tokens({"a" * 51: 9}, 9) == search_tokens({}, 9) == []


def test_frequent_characters_of_any_number_are_spelled():
    ideographs = [chr(0x4E00 + number) for number in range(1500)]
    texts = ["".join(ideographs[start::3]) for start in range(3)] * 40
    with pytest.warns(UserWarning, match=r"1,505 tokens in place of the 4,000 .* different words occurs 2 times"):
        tokens = learn_vocabulary(texts, 4000, progress=False)
    assert set(ideographs) < set(tokens) and not any(token.startswith("##") for token in tokens)


def test_characters_without_room_are_said(news):
    with pytest.warns(
        UserWarning, match=r"has 12 of the \d+ different characters .* words with other characters .* are \[UNK\]"
    ):
        learn_vocabulary(news, 53, progress=False)


@pytest.mark.filterwarnings("ignore:the vocabulary has")
def test_cased_learning_keeps_case(news):
    tokens = learn_vocabulary(news, 1000, lowercase=False, progress=False)
    assert "The" in tokens and "The" not in learn_vocabulary(news, 1000, progress=False)


@pytest.mark.filterwarnings("ignore:the vocabulary has")
@pytest.mark.parametrize("size", [13, 20, 60])
def test_a_small_size_is_kept_to(news, size):
    assert 5 < len(learn_vocabulary(news, size, progress=False)) <= size


def test_bad_arguments_are_clear(tmp_path):
    with pytest.raises(ValueError, match="vocabulary_size should be .* at least 13, got 5"):
        learn_vocabulary(["a"], 5)
    with pytest.raises(ValueError, match="no word"):
        learn_vocabulary(["", " \n"], 100, progress=False)
    with pytest.raises(TypeError, match="many strings, got one"):
        learn_vocabulary("corpus.txt", 100)
    with pytest.raises(TypeError, match=r"texts\[1\] is None"):
        learn_vocabulary(["a", None], 100, progress=False)
    (tmp_path / "bad.txt").write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(ValueError, match=r"bad.txt, line 2 is not UTF-8"):
        learn_vocabulary(lines_of([tmp_path / "bad.txt"]), 100, progress=False)


def test_command_line_writes_a_file_that_opens(tmp_path, news):
    (tmp_path / "a.txt").write_text("\n".join(news[:60]), encoding="utf-8")
    (tmp_path / "b.txt").write_text("\n".join(news[60:]), encoding="utf-8")
    command = [sys.executable, "-m", "kbert", "vocab", "a.txt", "b.txt", "--size", "900", "--out", "vocab.txt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tokens = read_vocabulary(tmp_path / "vocab.txt")
    assert f"{len(tokens):,} tokens" in done.stdout
    assert tokens == learn_vocabulary(lines_of([tmp_path / "a.txt", tmp_path / "b.txt"]), 900, progress=False)
    missing = subprocess.run([*command[:4], "none.txt"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert missing.returncode == 1 and "there is no file none.txt" in missing.stderr
