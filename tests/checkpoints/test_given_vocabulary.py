"""`vocabulary=` gives a folder the vocabulary that it lacks, in every task and in the tokenizer."""

import pathlib
import shutil

import pytest

import kbert
from kbert.checkpoints.opened import open_preset
from tests.conftest import TINY, VOCABULARY

HEADS = pathlib.Path(__file__).parents[1] / "fixtures" / "object_graph"
WORDS = [*VOCABULARY[:5], *"abcdefghijklmnopqrstuvwxy"]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A folder without a vocabulary, and the vocabulary beside it."""
    top = tmp_path_factory.mktemp("given")
    preprocessor = kbert.TextPreprocessor(kbert.WordPieceTokenizer(VOCABULARY), max_length=16)
    kbert.BertEncoder(kbert.BertConfig(**TINY)).save_to_preset(top / "bare", preprocessor)
    shutil.move(top / "bare" / "vocab.txt", top / "vocab.txt")
    (top / "bare" / "tokenizer.json").unlink()
    return top / "bare", top / "vocab.txt"


TASKS = {
    "TextClassifier": {"labels": ["a", "b"]},
    "TokenClassifier": {"labels": ["a", "b"]},
    "QuestionAnswerer": {},
    "MaskedLM": {},
    "TextEmbedder": {},
    "Pretrainer": {},
}


@pytest.mark.parametrize("task", TASKS)
def test_each_task_takes_the_vocabulary_that_the_folder_lacks(bare, task):
    folder, vocabulary = bare
    opened = getattr(kbert, task).from_preset(folder, vocabulary=vocabulary, **TASKS[task])
    assert opened.tokenizer.vocabulary == VOCABULARY


def test_kbert_from_preset_takes_a_list_of_tokens():
    task = kbert.from_preset(HEADS / "garden_v1_tokens", vocabulary=WORDS)
    assert type(task) is kbert.TokenClassifier and task.tokenizer.vocabulary == WORDS


def test_the_tokenizer_takes_it_with_a_case(bare):
    folder, vocabulary = bare
    tokenizer = kbert.WordPieceTokenizer.from_preset(folder, vocabulary=str(vocabulary), lowercase=False)
    assert tokenizer.vocabulary == VOCABULARY and not tokenizer.lowercase


def test_a_missing_vocabulary_is_named_with_the_way_out(bare):
    with pytest.raises(FileNotFoundError, match=r'no vocab.txt.*pass vocabulary="vocab.txt"'):
        kbert.TextEmbedder.from_preset(bare[0])


def test_another_vocabulary_than_the_folders_is_refused_and_the_same_is_not(bare, tmp_path):
    folder = shutil.copytree(bare[0], tmp_path / "whole")
    shutil.copy(bare[1], folder)
    with open_preset(folder, VOCABULARY) as opened:
        assert opened.vocabulary == VOCABULARY
    with pytest.raises(ValueError, match=r"vocab.txt is the vocabulary of .*whole.*leave it out"):
        kbert.WordPieceTokenizer.from_preset(folder, vocabulary=WORDS)


def test_a_vocabulary_that_cannot_act_or_is_none_is_refused(bare, tmp_path):
    folder, vocabulary = bare
    with pytest.raises(ValueError, match="vocabulary, or a preprocessor"):
        kbert.TextEmbedder.from_preset(folder, vocabulary=vocabulary, preprocessor=None)
    with pytest.raises(TypeError, match="got 3 in the list"):
        kbert.WordPieceTokenizer.from_preset(folder, vocabulary=["[PAD]", 3])
    with pytest.raises(FileNotFoundError, match="none.txt"):
        kbert.WordPieceTokenizer.from_preset(folder, vocabulary=tmp_path / "none.txt")
    with pytest.raises(ValueError, match=r"the list vocabulary= has 40 tokens, more than the"):
        kbert.TextEmbedder.from_preset(folder, vocabulary=[*VOCABULARY[:5], *(f"w{n}" for n in range(35))])
