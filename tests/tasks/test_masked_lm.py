"""Filling in, choosing, judging and further pretraining of a masked LM."""

import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.training.masking import mask_tokens


@pytest.fixture
def task(encoder, tokenizer):
    return kbert.MaskedLM(encoder, kbert.TextPreprocessor(tokenizer, 24))


def test_it_fills_what_it_has_learned(task, tokenizer):
    texts = ["the cat sat", "a dog ran", "the cat sat !", "a dog ran ."] * 16
    task.compile(learning_rate=1e-2)
    history = task.fit(texts, epochs=25, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < history[0] / 2
    best = task.fill("the cat [MASK]", top_k=3)
    assert len(best) == 3 and best[0]["token"] == "sat" and tokenizer.token_to_id("sat") == best[0]["id"]
    assert best[0]["score"] >= best[1]["score"] >= best[2]["score"]
    two = task.fill(["the [MASK] sat", "a dog [MASK] [MASK]"])
    assert two[0][0]["token"] == "cat" and two[1][0][0]["token"] == "ran" and len(two[1]) == 2
    chosen = task.fill("a [MASK] ran", candidates=["dog", "cat"])
    assert [c["token"] for c in chosen] == ["dog", "cat"] and sum(c["score"] for c in chosen) == pytest.approx(1)
    known, odd = task.pseudo_perplexity(["the cat sat", "sat the a ran"])
    assert 1 <= known < odd


def test_scores_are_the_models_probabilities(task):
    packed = {"token_ids": np.array([[2, 5, 4, 3]])}
    expected = tf.nn.softmax(task(packed)[0, 2]).numpy()
    word = task.tokenizer.id_to_token(5)
    for answer in task.fill(f"{word} [MASK]", top_k=5):
        assert answer["score"] == pytest.approx(expected[answer["id"]], rel=1e-4)


def test_candidates_of_several_pieces_are_sums(task):
    (one, two) = (c for c in task.fill("the [MASK] sat", candidates=["unable", "cat"]))
    unable = next(c for c in (one, two) if c["token"] == "unable")
    ids = [2, *task.tokenizer("the").numpy(), 4, 4, *task.tokenizer("sat").numpy(), 3]
    logs = tf.nn.log_softmax(task({"token_ids": np.array([ids])})).numpy()[0]
    pieces = task.tokenizer("unable").numpy()
    assert unable["log_likelihood"] == pytest.approx(logs[2, pieces[0]] + logs[3, pieces[1]], rel=1e-4)


def test_pseudo_perplexity_masks_each_token_once(task):
    ids = [2, *task.tokenizer("the cat sat").numpy(), 3]
    logs = []
    for place in range(1, len(ids) - 1):
        hidden = [*ids[:place], 4, *ids[place + 1 :]]
        logs.append(tf.nn.log_softmax(task({"token_ids": np.array([hidden])})).numpy()[0, place, ids[place]])
    seen = task.pseudo_perplexity(["the cat sat", ""])
    assert seen[0] == pytest.approx(np.exp(-np.mean(logs)), rel=1e-4) and np.isnan(seen[1])


@pytest.mark.parametrize(
    ("texts", "arguments", "error", "message"),
    [
        (["no mask"], {}, ValueError, r"texts\[0\] has no \[MASK\]: 'no mask'"),
        (["[MASK] " * 30], {}, ValueError, "more than max_length 24"),
        (["[MASK]"], {"top_k": 0}, ValueError, "top_k"),
        (["[MASK] [MASK]"], {"candidates": ["cat"]}, ValueError, "has 2"),
        (["[MASK]"], {"candidates": [""]}, ValueError, "should be words"),
        ([None], {}, TypeError, "is None"),
    ],
)
def test_bad_input_is_named(task, texts, arguments, error, message):
    with pytest.raises(error, match=message):
        task.fill(texts, **arguments)


@pytest.mark.parametrize(("share", "message"), [(1.5, "should be a share"), (0.9, "leaves nothing to train on")])
def test_a_share_that_cannot_be_held_out_is_named(task, share, message):
    with pytest.raises(ValueError, match=message):
        task.fit(["the cat sat", "a dog ran"], validation_split=share)


def test_a_row_with_fewer_tokens_has_labels_of_none(tokenizer):
    packed = kbert.TextPreprocessor(tokenizer, 24)(["", "the cat sat on the good day the cat sat on the good day"])
    inputs, labels = mask_tokens(packed, tokenizer, rate=0.5)
    assert (labels.numpy()[0] == -100).all() and (labels.numpy()[1] != -100).any()
    np.testing.assert_array_equal(inputs["token_ids"][0], packed["token_ids"][0])
