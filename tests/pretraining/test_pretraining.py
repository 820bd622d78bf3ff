"""Pretraining from documents: which tokens are hidden, which segments are paired, and that it learns."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import kbert
from kbert.pretraining.sentence_pairs import draw_pairs, pair_columns, read_documents, sentences, tokenize_documents
from kbert.training.masking import mask_tokens
from tests.conftest import TINY, VOCABULARY

DOCUMENTS = [
    "the cat sat .\na dog ran .\nthe day good !",
    ["the film so bad .", "a night , very bad .", "i am so good"],
    "the dog sat . the cat ran ! a good film ?",
    "a very good day\nthe night so good",
]


# Masks


@pytest.mark.parametrize("whole_words", [False, True])
def test_masks_have_the_papers_shares(tokenizer, whole_words):
    """Over a million tokens: 15 %, of which 80/10/10; special tokens never; whole words whole."""
    random = np.random.default_rng(0)
    first, more = tokenizer.token_to_id("cat"), tokenizer.token_to_id("##s")
    inner = np.where(random.random((8000, 126)) < 0.3, more, first).astype(np.int32)
    inner[:, 0] = first
    inner[:, 60] = tokenizer.sep_token_id
    inner[:, 61] = first
    ids = np.pad(np.pad(inner, ((0, 0), (1, 0)), constant_values=2), ((0, 0), (0, 1)), constant_values=3)
    ids = np.pad(ids, ((0, 0), (0, 5)))
    mask = (ids != 0).astype(np.int32)
    count = 8000 * 125
    parts = []
    for start in range(0, 8000, 1000):  # a batch at a time, or it takes 2 GB
        batch = {name: tf.constant(rows[start : start + 1000]) for name, rows in (("token_ids", ids), ("padding_mask", mask))}
        inputs, labels = mask_tokens(batch, tokenizer, 0.15, (3, start), whole_words)
        free = ((0, 0), (0, 40 - labels.shape[1]))  # batches have other numbers of masks
        parts.append((np.pad(inputs["mask_positions"], free), np.pad(labels, free, constant_values=-100), inputs["token_ids"]))
    positions, labels, shown = (np.concatenate(column) for column in zip(*parts))
    chosen = labels != -100
    assert chosen.sum() / count == pytest.approx(0.15, abs=0.001)
    hidden = np.zeros(ids.shape, bool)
    np.add.at(hidden, (np.nonzero(chosen)[0], positions[chosen]), True)
    assert hidden.sum() == chosen.sum()  # each once
    assert not hidden[:, [0, 61, *range(127, 133)]].any()
    np.testing.assert_array_equal(np.take_along_axis(ids, positions, 1)[chosen], labels[chosen])
    np.testing.assert_array_equal(shown[~hidden], ids[~hidden])
    answers, size = shown[hidden], tokenizer.vocabulary_size
    assert (answers == 4).mean() == pytest.approx(0.8 + 0.1 / size, abs=0.003)
    assert (answers == ids[hidden]).mean() == pytest.approx(0.1 + 0.1 / size, abs=0.003)
    if whole_words:
        goes_on = ids == more
        np.testing.assert_array_equal(hidden[:, 1:][goes_on[:, 1:]], hidden[:, :-1][goes_on[:, 1:]])


# Documents and pairs


@pytest.fixture
def corpus(tokenizer):
    """Two hundred documents of some dozen sentences; no two sentences are alike."""
    random = np.random.default_rng(1)
    tokenizer = kbert.WordPieceTokenizer([*VOCABULARY[:5], *map(str, range(10))])
    documents = [
        [" ".join(f"{document:03} {sentence:02}") for sentence in range(random.integers(2, 30))] for document in range(200)
    ]
    return tokenize_documents(documents, tokenizer), documents


def owners(corpus):
    """The document of each piece."""
    sizes = np.diff(corpus.sentence_splits[corpus.document_splits])
    return np.repeat(np.arange(len(sizes)), sizes)


def test_half_of_the_pairs_follow_and_the_others_are_of_another_document(corpus):
    corpus, _ = corpus
    pairs, labels = [
        np.concatenate(p) for p in zip(*(draw_pairs(corpus, 29, np.random.default_rng(seed)) for seed in range(12)))
    ]
    assert labels.mean() == pytest.approx(0.5, abs=0.01)
    document = owners(corpus)
    first, second = document[pairs[:, 0]], document[pairs[:, 2]]
    assert (first[labels == 1] != second[labels == 1]).all() and (first[labels == 0] == second[labels == 0]).all()
    lengths = (pairs[:, 1] - pairs[:, 0]) + (pairs[:, 3] - pairs[:, 2])
    assert (lengths <= 29).all() and (pairs[:, 1] > pairs[:, 0]).all() and (pairs[:, 3] > pairs[:, 2]).all()
    assert (document[pairs[:, 1] - 1] == first).all() and (document[pairs[:, 3] - 1] == second).all()
    whole = labels == 0
    gap = pairs[whole, 2] - pairs[whole, 1]
    assert (gap >= 0).all() and (gap == 0).mean() > 0.6  # where nothing was cut off between them


def test_sentence_order_turns_half_of_the_pairs(corpus):
    corpus, _ = corpus
    pairs, labels = draw_pairs(corpus, 60, np.random.default_rng(0), "sop")
    assert labels.mean() == pytest.approx(0.5, abs=0.1)
    document = owners(corpus)
    assert (document[pairs[:, 0]] == document[pairs[:, 2]]).all()
    assert ((pairs[:, 0] > pairs[:, 2]) == (labels == 1)).all()


def test_columns_hold_the_pieces_of_the_pairs(corpus):
    corpus, _ = corpus
    pairs, _ = draw_pairs(corpus, 20, np.random.default_rng(0))
    for n, column in zip((0, 2), pair_columns(corpus, pairs)):
        for row, pair in zip(column.to_list()[:50], pairs):
            assert row == corpus.pieces[pair[n] : pair[n + 1]].tolist()


def test_all_of_a_corpus_is_seen(corpus):
    corpus, _ = corpus
    pairs, labels = draw_pairs(corpus, 40, np.random.default_rng(0))
    seen = np.zeros(len(corpus.pieces), bool)
    for a, b, c, d in pairs:
        seen[a:b] = seen[c:d] = True
    assert seen.mean() > 0.9


def test_files_are_read_as_documents(tmp_path):
    (tmp_path / "a.txt").write_text("One.\nTwo.\n\n\nThree.\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "Four.\\nFive."}\n', encoding="utf-8")
    assert list(read_documents([tmp_path / "a.txt", tmp_path / "b.jsonl"])) == [
        ["One.", "Two."],
        ["Three."],
        ["Four.", "Five."],
    ]
    assert list(read_documents(tmp_path / "a.txt", one_a_line=True))[0] == ["One."]
    assert sentences("A b. C d? E") == ["A b.", "C d?", "E"]
    (tmp_path / "c.txt").write_bytes("Café\x85here.\r\nTwo.\r\n\r\nThree.".encode("utf-16"))
    assert list(read_documents(tmp_path / "c.txt")) == [["Café\x85here.", "Two."], ["Three."]]
    (tmp_path / "d.txt").write_bytes("Café.\n".encode("windows-1252"))
    assert list(read_documents(tmp_path / "d.txt", encoding="windows-1252")) == [["Café."]]


# Training


@pytest.fixture
def pretrainer(tokenizer):
    return kbert.Pretrainer(kbert.BertEncoder(kbert.BertConfig(**TINY)), kbert.TextPreprocessor(tokenizer, 24))


@pytest.mark.parametrize("arguments", [{}, {"objective": "sop", "whole_words": True}])
def test_it_learns_from_documents(pretrainer, arguments):
    pretrainer.compile(learning_rate=5e-3)
    history = pretrainer.fit(DOCUMENTS * 6, epochs=25, batch_size=8, verbose=0, validation_data=DOCUMENTS, **arguments).history
    assert history["loss"][-1] < history["loss"][0] * 0.8
    names = {"mlm_logits_loss", "nsp_logits_loss", "mlm_logits_accuracy", "nsp_logits_accuracy"}
    assert names | {f"val_{name}" for name in names} <= set(history)
    assert history["mlm_logits_accuracy"][-1] > history["mlm_logits_accuracy"][0]


def test_masked_words_alone_take_any_document(pretrainer):
    """One document of one sentence is enough, and nothing is asked of the next-sentence head."""
    before = pretrainer.next_sentence.get_weights()
    history = pretrainer.fit(iter(["the cat sat ."]), objective="mlm", epochs=3, verbose=0).history
    assert history["nsp_logits_loss"] == [0, 0, 0] and history["mlm_logits_loss"][0] > 0
    assert history["tokens_per_second"][0] > 0
    np.testing.assert_array_equal(before[1], pretrainer.next_sentence.get_weights()[1])
    inputs, labels = next(iter(pretrainer.batches(DOCUMENTS, 32, False, "mlm")))
    assert not inputs["segment_ids"].numpy().any() and set(labels["nsp_logits"].numpy()) == {-100}


def test_two_phases_have_two_lengths_and_one_schedule(pretrainer):
    import keras

    lengths, rates = [], []

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    call = pretrainer.encoder.call
    pretrainer.encoder.call = lambda inputs, **kwargs: lengths.append(inputs["token_ids"].shape) or call(inputs, **kwargs)
    pretrainer.compile(learning_rate=1e-3, run_eagerly=True)
    documents = [" ".join(["the cat sat"] * 9) + " .\n" + " ".join(["a dog ran"] * 9) + " ."] * 6
    history = pretrainer.fit(documents, phases=[(12, 2), (24, 1)], batch_size=[8, 4], verbose=0, callbacks=Look()).history
    assert len(history["loss"]) == 3
    rows = [shape for shape in lengths if shape[0]]
    assert max(length for size, length in rows if size > 4) <= 12 and max(length for _, length in rows) == 24
    assert rates[0] == pytest.approx(1e-3) and (np.diff(rates) <= 0).all() and 0 < rates[-1] < 2e-4


def test_lamb_makes_the_papers_step():
    """You et al. 2019, algorithm 2, by hand; and in a fit, with the schedule."""
    import keras

    from kbert.training.optimizer import Lamb

    weights, gradient = np.array([[0.5, -1.0], [2.0, 0.1]], np.float32), np.array([[0.1, 0.2], [-0.3, 0.05]], np.float32)
    kernel, bias = keras.Variable(weights, name="kernel"), keras.Variable(weights[0], name="bias")
    optimizer = Lamb(learning_rate=0.1, global_clipnorm=None)
    first, second, expected = 0.0, 0.0, [weights, weights[0]]
    for step in (1, 2):
        optimizer.apply([gradient, gradient[0]], [kernel, bias])
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        update = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-6)
        decayed = update + 0.01 * expected[0]
        ratio = np.linalg.norm(expected[0]) / np.linalg.norm(decayed)
        expected = [expected[0] - 0.1 * ratio * decayed, expected[1] - 0.1 * update[0]]
    np.testing.assert_allclose(kernel.numpy(), expected[0], rtol=1e-5)
    np.testing.assert_allclose(bias.numpy(), expected[1], rtol=1e-5)


def test_the_same_seed_gives_the_same_weights(tokenizer):
    import keras

    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        task = kbert.Pretrainer(kbert.BertEncoder(kbert.BertConfig(**TINY)), kbert.TextPreprocessor(tokenizer, 24))
        task.fit(DOCUMENTS, epochs=2, batch_size=4, verbose=0)
        weights.append(task.get_weights())
    for a, b in zip(*weights):
        np.testing.assert_array_equal(a, b)


def test_evaluation_hides_the_same_tokens_each_time(pretrainer):
    import keras

    losses = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        losses.append(pretrainer.evaluate(DOCUMENTS, return_dict=True, verbose=0)["loss"])
    assert losses[0] == losses[1]


def test_its_encoder_goes_on_as_any_task(pretrainer, tmp_path, texts_and_labels):
    pretrainer.compile(run_eagerly=True)
    pretrainer.fit(DOCUMENTS, verbose=0)
    pretrainer.save_to_preset(tmp_path / "mine")
    with pytest.warns(UserWarning, match="classification head"):
        task = kbert.TextClassifier.from_preset(tmp_path / "mine", labels=["bad", "good"])
    task.compile(run_eagerly=True)
    task.fit(*texts_and_labels, verbose=0)
    lm = kbert.MaskedLM.from_preset(tmp_path / "mine")
    assert len(lm.fill("the [MASK] sat", top_k=3)) == 3


@pytest.mark.parametrize(
    ("documents", "arguments", "error", "message"),
    [
        ([], {}, ValueError, "the corpus is empty"), ([""], {}, ValueError, "the corpus is empty"),
        (["the cat sat .\na dog ran ."], {}, ValueError, 'there is one only.*objective="sop"'),
        (DOCUMENTS, {"objective": "cls"}, ValueError, "objective should be one of nsp, sop, mlm"),
        (DOCUMENTS, {"phases": [(24, 1)], "epochs": 2}, ValueError, "give one of both"),
        (DOCUMENTS, {"phases": [(9999, 1)]}, ValueError, "from 8 to the encoder's"),
        (DOCUMENTS, {"phases": [24]}, ValueError, r"a phase is \(length, epochs\)"),
        (DOCUMENTS, {"phases": [(16, 1), (24, 1)], "batch_size": [8]}, ValueError, "one for each of the 2 phases"),
        (DOCUMENTS, {"batch_size": 0}, ValueError, "batch_size should be a positive whole number"),
        ("the cat sat", {}, TypeError, "got one text"), ([3], {}, TypeError, r"documents\[0\] should be a text"),
        (pd.DataFrame({"title": ["a"], "text": ["b"]}), {}, TypeError, "a DataFrame with .'title', 'text'.: give"),
        ({"text": DOCUMENTS}, {}, TypeError, "a dict with .'text'.: give the column"),
        (tf.data.Dataset.from_tensor_slices(["a", "b"]), {}, TypeError, "Dataset; give a list or another iterable"),
        ([["the cat", "a"], ["a dog", float("nan")]], {}, TypeError, r"documents\[1\]\[1\] is nan"),
        (DOCUMENTS, {"y": [1]}, ValueError, "documents alone"), (["a", "b"], {}, ValueError, "no two sentences"),
    ],
)  # fmt: skip
def test_bad_corpora_are_named(pretrainer, documents, arguments, error, message):
    with pytest.raises(error, match=message):
        pretrainer.fit(documents, **arguments)


def test_files_that_are_no_text_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_documents([tmp_path / "none.txt"])
    (tmp_path / "x.bin").write_bytes(b"\x89PNG\r\n\xff\x00" * 20)
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        list(read_documents([tmp_path / "x.bin"]))
    (tmp_path / "x.jsonl").write_text('{"body": 1}\n')
    with pytest.raises(ValueError, match='line 1: an object with "text"'):
        list(read_documents([tmp_path / "x.jsonl"]))


def test_the_command_line_goes_from_files_to_a_fine_tuned_model(tmp_path, capsys):
    from kbert.commands import cli

    corpus = tmp_path / "corpus.txt"
    corpus.write_text(
        "\n\n".join(text if isinstance(text, str) else "\n".join(text) for text in DOCUMENTS * 8), encoding="utf-8"
    )

    def run(*arguments):
        return cli.main(list(map(str, arguments)))

    assert run("vocab", corpus, "--size", "60", "--out", tmp_path / "vocab.txt") == 0
    assert (
        run("pretrain-data", corpus, "--vocab", tmp_path / "vocab.txt", "--out", tmp_path / "records", "--max-length", 24) == 0
    )
    assert len(list((tmp_path / "records").glob("*.tfrecord.gz"))) == 8
    sizes = ["--layers", 1, "--width", 16, "--heads", 2, "--batch-size", 8]
    two = ["--max-length", 16, 24, "--epochs", 1, 1, "--optimizer", "lamb", "--tensorboard", tmp_path / "curves"]
    assert run("pretrain", corpus, "--vocab", tmp_path / "vocab.txt", "--out", tmp_path / "small", *sizes, *two) == 0
    assert list((tmp_path / "curves" / "train").iterdir()) and not (tmp_path / "small.unfinished").exists()
    records = ["--vocab", tmp_path / "vocab.txt", "--max-length", 24, *sizes]
    assert run("pretrain", tmp_path / "records", "--out", tmp_path / "of_records", *records) == 0
    assert "val_loss" in (tmp_path / "of_records" / "history.csv").read_text()
    assert "val_mlm_logits_loss" in (tmp_path / "small" / "history.csv").read_text()
    assert kbert.Pretrainer.from_preset(tmp_path / "small").encoder.config.num_hidden_layers == 1
    assert (
        run(
            "pretrain",
            corpus,
            "--preset",
            tmp_path / "small",
            "--max-length",
            24,
            "--out",
            tmp_path / "more",
            "--layout",
            "google",
        )
        == 0
    )
    assert (tmp_path / "more" / "bert_config.json").is_file()
    (tmp_path / "data.csv").write_text("text,label\n" + "good day,a\nbad night,b\n" * 8)
    command = [
        "finetune",
        "--task",
        "classification",
        "--data",
        tmp_path / "data.csv",
        "--preset",
        tmp_path / "more",
        "--epochs",
        1,
    ]
    assert run(*command, "--out", tmp_path / "out", "--max-length", 24) == 0
    capsys.readouterr()
    assert run("pretrain", corpus, "--vocab", tmp_path / "vocab.txt", "--out", tmp_path / "small") == 1
    assert "overwrite" in capsys.readouterr().err
    corpus.write_text("one document only")
    assert run("pretrain", corpus, "--vocab", tmp_path / "vocab.txt", "--out", tmp_path / "x") == 1
    assert "blank line between" in capsys.readouterr().err
