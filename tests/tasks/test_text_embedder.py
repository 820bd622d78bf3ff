"""Embeddings: those of sentence-transformers, search that is exact, training that brings together what belongs together."""

import json
import warnings

import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.training.losses import CosineSimilarityError, MultipleNegativesRanking, TripletMargin
from tests.test_peers import PYTHON

TEXTS = ["good cat", "", "the film so bad!", "un able", "a dog ran", "the cat sat , the dog ran ."]


@pytest.fixture(params=["mean", "max", "cls"])
def embedder(request, encoder, tokenizer):
    return kbert.TextEmbedder(encoder, kbert.TextPreprocessor(tokenizer, 24), pooling=request.param)


def test_pooling_is_over_the_texts_tokens_alone(embedder):
    for text, vector in zip(TEXTS, embedder.embed(TEXTS)):
        packed = embedder.preprocessor([text])
        tokens = embedder.encoder(packed)["sequence_output"][0].numpy()
        pooled = {"mean": tokens.mean(0), "max": tokens.max(0), "cls": tokens[0]}[embedder.pooling]
        np.testing.assert_allclose(vector, pooled / np.linalg.norm(pooled), atol=1e-6)


def test_real_vectors_are_sentence_transformers(minilm):
    """all-MiniLM-L6-v2 through sentence-transformers 6.2.0 on torch 2.13: first six of 384, mean, length 1."""
    expected = {
        "The Bank of England raised interest rates on Thursday.": [
            0.01267572,
            -0.08722071,
            -0.06256039,
            -0.03686507,
            0.03010506,
            -0.04947585,
        ],
        "a": [-0.03643296, 0.03470346, -0.04595983, 0.0343255, -0.08082337, 0.03283858],
    }
    embedder = kbert.TextEmbedder.from_preset(minilm)
    assert (embedder.pooling, embedder.normalize, embedder.preprocessor.max_length) == ("mean", True, 256)
    np.testing.assert_allclose(embedder.embed(list(expected))[:, :6], list(expected.values()), atol=1e-5)


ASK = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer
folder, texts, out = json.load(sys.stdin)
np.save(out, SentenceTransformer(folder, device="cpu").encode(texts, show_progress_bar=False))
"""


def ask(folder, texts, tmp_path):
    import subprocess

    out = str(tmp_path / "theirs.npy")
    done = subprocess.run(
        [PYTHON, "-c", ASK], input=json.dumps([str(folder), texts, out]), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(out)


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-peers: make test-peers")
def test_500_texts_have_sentence_transformers_vectors_and_neighbours(minilm, tmp_path):
    from kbert.commands.demo import read_news

    texts = [text[:300] for text in read_news()[0][:500]]
    theirs = ask(minilm, texts, tmp_path)
    embedder = kbert.TextEmbedder.from_preset(minilm)
    ours = embedder.embed(texts)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    found = embedder.search(ours[:100], ours, top_k=10)
    expected = np.argsort(-(theirs[:100] @ theirs.T), axis=1, kind="stable")[:, :10]
    assert [[one["place"] for one in row] for row in found] == expected.tolist()


@pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-peers: make test-peers")
def test_sentence_transformers_opens_what_is_written(encoder, tokenizer, tmp_path):
    dense = [{"width": 6, "activation": "tanh"}, {"width": 5, "activation": None}]
    task = kbert.TextEmbedder(encoder, kbert.TextPreprocessor(tokenizer, 24), pooling="max", dense=dense)
    task.save_to_preset(tmp_path / "mine")
    np.testing.assert_allclose(task.embed(TEXTS), ask(tmp_path / "mine", TEXTS, tmp_path), atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_folder_with_modules_comes_back_the_same(encoder, tokenizer, tmp_path, normalize):
    dense = [{"width": 6, "activation": "gelu"}]
    task = kbert.TextEmbedder(encoder, kbert.TextPreprocessor(tokenizer, 20), pooling="cls", normalize=normalize, dense=dense)
    task.save_to_preset(tmp_path / "mine")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again = kbert.TextEmbedder.from_preset(tmp_path / "mine")
    assert (again.pooling, again.normalize, again.dense, again.preprocessor.max_length) == ("cls", normalize, dense, 20)
    np.testing.assert_array_equal(task.embed(TEXTS), again.embed(TEXTS))
    task.save(tmp_path / "task.keras")
    np.testing.assert_array_equal(task.embed(TEXTS), kbert.load(tmp_path / "task.keras").embed(TEXTS))


def test_modules_that_are_not_known_or_point_elsewhere_are_refused(encoder, tokenizer, tmp_path):
    task = kbert.TextEmbedder(encoder, kbert.TextPreprocessor(tokenizer, 20))
    task.save_to_preset(tmp_path / "mine")
    modules = json.loads((tmp_path / "mine" / "modules.json").read_text())
    for path, kind, message in (("../x", "Pooling", "outside its folder"), ("1_CNN", "CNN", "CNN, which kbert does not know")):
        changed = [modules[0], {**modules[1], "path": path, "type": f"sentence_transformers.models.{kind}"}]
        (tmp_path / "mine" / "modules.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            kbert.TextEmbedder.from_preset(tmp_path / "mine")


def test_search_is_exact_in_blocks(embedder, monkeypatch):
    from kbert.tasks import vectors

    random = np.random.default_rng(0)
    corpus, queries = (random.standard_normal((n, 16)).astype(np.float32) for n in (200, 30))
    cosines = (queries / np.linalg.norm(queries, axis=1)[:, None]) @ (corpus / np.linalg.norm(corpus, axis=1)[:, None]).T
    monkeypatch.setattr(vectors, "SCORES_AT_ONCE", 500)
    found = embedder.search(queries, corpus, top_k=7)
    assert [[one["place"] for one in row] for row in found] == np.argsort(-cosines, axis=1)[:, :7].tolist()
    (best,) = embedder.search("good cat", TEXTS, top_k=1)[0]
    assert best["text"] == "good cat" and best["score"] == pytest.approx(1, abs=1e-5)
    assert len(embedder.search(["a"], TEXTS, top_k=99)[0]) == len(TEXTS)
    with pytest.raises(ValueError, match="top_k"):
        embedder.search(["a"], TEXTS, top_k=0)
    with pytest.raises(ValueError, match="16 coordinates, the corpus 3"):
        embedder.search(queries, corpus[:, :3])


def test_pairs_triplets_and_scored_pairs_train(encoder, tokenizer):
    task = kbert.TextEmbedder(encoder, kbert.TextPreprocessor(tokenizer, 24))
    cats, films = ["good cat", "the cat sat", "a cat ran", "bad cat"], ["the film", "a film so good", "bad film", "film day"]
    task.compile(learning_rate=5e-3)
    before = task.similarity(cats, films).mean() - task.similarity(cats, cats).mean()
    history = task.fit((cats + films, cats[::-1] + films[::-1], films + cats), epochs=10, batch_size=4, verbose=0).history[
        "loss"
    ]
    assert history[-1] < history[0]
    assert task.similarity(cats, films).mean() - task.similarity(cats, cats).mean() < before
    assert len(task.fit((cats, cats[::-1]), verbose=0).history["loss"]) == 1
    scored = kbert.TextEmbedder(encoder, kbert.TextPreprocessor(tokenizer, 24))
    scored.compile(learning_rate=5e-3)
    history = scored.fit((cats, films), [0.0] * 4, epochs=30, verbose=0)
    # The loss follows the data, with an optimizer compiled before and without.
    assert isinstance(scored.loss, CosineSimilarityError) and history.history["loss"][-1] < history.history["loss"][0]
    assert int(scored.optimizer.iterations) == 30
    scored.fit((cats, cats[::-1]), verbose=0)
    assert isinstance(scored.loss, MultipleNegativesRanking)
    own = CosineSimilarityError()
    scored.compile(loss=own)
    scored.fit((cats, films), [0.0] * 4, verbose=0)
    assert scored.loss is own


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (["a", "b"], None, "learns from pairs"),
        ((["a"], ["b"], ["c"]), [1.0], "triplets have no scores"),
        ((["a"], ["b"]), [float("nan")], "finite number"),
        ((["a", "b"], ["b"]), None, "2 and 1"),
    ],
)
def test_bad_input_is_named(embedder, x, y, message):
    with pytest.raises(ValueError, match=message):
        embedder.fit(x, y, verbose=0)


def test_losses_are_their_formulas():
    random = np.random.default_rng(0)
    a, p, n = (random.standard_normal((5, 4)).astype(np.float32) for _ in range(3))
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, p, n)]
    scores = 20 * unit[0] @ np.concatenate(unit[1:]).T
    expected = np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(5), np.arange(5)])
    zeros, stacked = np.zeros(5, np.float32), np.concatenate([a, p, n])
    assert float(MultipleNegativesRanking()(zeros, stacked)) == pytest.approx(expected, rel=1e-5)
    distances = [np.linalg.norm(a - other, axis=1) for other in (p, n)]
    expected = np.maximum(distances[0] - distances[1] + 5, 0).mean()
    assert float(TripletMargin()(zeros, stacked)) == pytest.approx(expected, rel=1e-5)
    targets = random.random(5).astype(np.float32)
    expected = np.mean((np.sum(unit[0] * unit[1], 1) - targets) ** 2)
    assert float(CosineSimilarityError()(targets, stacked[:10])) == pytest.approx(expected, rel=1e-5)
    assert tf.math.is_finite(TripletMargin()(zeros, np.zeros((15, 4), np.float32)))
