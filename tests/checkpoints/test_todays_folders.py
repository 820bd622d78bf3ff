"""Folders of today's libraries, made by `tests/fixtures/make_today.py`, mean here what they mean there."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

import kbert

TODAY = Path(__file__).resolve().parents[1] / "fixtures" / "today"
ANSWERS = json.loads((TODAY / "answers.json").read_text())
TEXTS, PAIRS = ANSWERS["texts"], tuple(map(list, zip(*ANSWERS["pairs"])))
POOLINGS = {"mean": "mean", "cls": "cls", "max": "max", "mean_sqrt_len_tokens": "mean_sqrt_len"}
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than max_length")


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def changed(tmp_path, name, file, **values):
    """A copy of a fixture in which some values of a JSON file are others."""
    folder = tmp_path / name
    shutil.copytree(TODAY / name, folder)
    stated = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**stated, **values}))
    return folder


def test_a_classifier_of_transformers_5_answers_as_there():
    task = kbert.TextClassifier.from_preset(TODAY / "transformers")
    expected = ANSWERS["transformers"]
    assert task.labels == ["x", "y", "z"] and task.preprocessor.max_length == expected["max_length"]
    packed = task.preprocessor(TEXTS)
    assert packed["token_ids"].numpy().tolist() == expected["ids"]
    close(task(packed, training=False), expected["logits"])


@pytest.mark.parametrize("cls", [kbert.TokenClassifier, kbert.QuestionAnswerer, kbert.MaskedLM, kbert.TextEmbedder])
@pytest.mark.filterwarnings("ignore:.*new weights|.*not in the checkpoint|.*initialized")
def test_every_task_reads_no_more_than_model_max_length(cls):
    options = {"labels": ["a", "b"]} if cls is kbert.TokenClassifier else {}
    assert cls.from_preset(TODAY / "transformers", **options).preprocessor.max_length == 12
    assert cls.from_preset(TODAY / "transformers", max_length=20, **options).preprocessor.max_length == 20


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_prompts_and_poolings_of_sentence_transformers_6_give_its_vectors(tmp_path, pooling, include):
    file = "1_Pooling/config.json"
    folder = changed(tmp_path, "sentence_transformers", file, pooling_mode=pooling, include_prompt=include)
    embedder = kbert.TextEmbedder.from_preset(folder)
    assert (embedder.pooling, embedder.include_prompt) == (POOLINGS[pooling], include)
    assert embedder.preprocessor.max_length == ANSWERS["sentence_transformers"]["max_length"]
    outputs = ANSWERS["sentence_transformers"]["outputs"]
    for name in (None, "passage", "document"):
        close(embedder.embed(TEXTS, prompt_name=name), outputs[f"{pooling} {include} {name}"])
    close(embedder.embed(TEXTS, prompt="passage: "), outputs[f"{pooling} {include} passage"])


@pytest.fixture(scope="module")
def embedder():
    return kbert.TextEmbedder.from_preset(TODAY / "sentence_transformers")


def test_the_default_prompt_acts_wherever_texts_are_read(embedder):
    expected = ANSWERS["sentence_transformers"]["vectors"]
    assert embedder.default_prompt_name == "query" and embedder.prompts["passage"] == "passage: "
    close(embedder.predict(TEXTS), expected)
    close(embedder.serve(tf.constant(TEXTS))["embedding"], expected)
    packed = embedder.preprocessor(TEXTS)
    close(embedder(packed, training=False), expected)
    examples = embedder.examples((TEXTS, TEXTS))
    batch = next(iter(embedder.batches_of(examples, len(TEXTS), shuffle=False)))[0]
    np.testing.assert_array_equal(batch["token_ids"][: len(TEXTS)], packed["token_ids"])


def test_similarity_and_search_compute_what_the_folder_names(embedder):
    expected = ANSWERS["sentence_transformers"]["similarity"]
    assert embedder.similarity_kind == "euclidean"
    np.testing.assert_allclose(embedder.similarity(TEXTS, TEXTS), expected, atol=1e-4)
    best = embedder.search(TEXTS[:1], TEXTS, top_k=2)[0]
    assert best[0]["place"] == 0 and best[1]["place"] == int(np.argsort(expected[0])[-2])


def test_a_frozen_embedder_has_the_prompts(embedder):
    pytest.importorskip("ai_edge_litert")
    outputs = ANSWERS["sentence_transformers"]["outputs"]
    frozen = embedder.freeze()
    close(frozen.embed(TEXTS), outputs["mean True None"])
    close(frozen.embed(TEXTS, prompt_name="passage"), outputs["mean True passage"])


def test_an_embedders_folder_comes_back_with_its_prompts(embedder, tmp_path):
    embedder.save_to_preset(tmp_path / "again")
    again = kbert.TextEmbedder.from_preset(tmp_path / "again")
    close(again.embed(TEXTS), ANSWERS["sentence_transformers"]["vectors"])
    for name in ("prompts", "default_prompt_name", "include_prompt", "similarity_kind", "pooling"):
        assert getattr(again, name) == getattr(embedder, name)
    kbert.TextEmbedder.from_preset(tmp_path / "again").save(tmp_path / "again.keras")
    close(
        kbert.load(tmp_path / "again.keras").embed(TEXTS, prompt_name="passage"), embedder.embed(TEXTS, prompt_name="passage")
    )
    embedder.with_prompt(prompt="a film: ").save_to_preset(tmp_path / "film")
    film = kbert.TextEmbedder.from_preset(tmp_path / "film")
    assert film.prompts[film.default_prompt_name] == "a film: "
    close(film.embed(TEXTS), embedder.embed(TEXTS, prompt="a film: "))


def test_the_pooler_that_transformers_asks_for_is_no_trained_one(embedder, tmp_path):
    embedder.save_to_preset(tmp_path / "model")
    assert not load_file(tmp_path / "model" / "model.safetensors")["pooler.dense.weight"].any()
    with pytest.warns(UserWarning, match="pooler"):
        kbert.TextClassifier.from_preset(tmp_path / "model", labels=["a", "b"])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda e: e.embed(TEXTS, prompt_name="other"),
            "no prompt of the name 'other': the embedder's are 'document', 'passage', 'query'",
        ),
        (lambda e: e.embed(TEXTS, prompt_name="query", prompt="query: "), "one of the two"),
        (lambda e: e.embed(TEXTS, prompt="inside a word"), "should end with a space or punctuation"),
        (lambda e: e.embed(TEXTS, prompt="the cat " * 9), "leaves no room"),
        (lambda e: e.embed(e.preprocessor(TEXTS), prompt="a "), "a prompt stands before texts"),
    ],
)
def test_a_prompt_that_cannot_act_is_refused(embedder, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(embedder)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config_sentence_transformers.json", {"default_prompt_name": "x"}, "default_prompt_name 'x' is no"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "x"}, "similarity should be one of cosine"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "pools by lasttoken"),
        ("2_Dense/config.json", {"use_residual": True}, "use_residual"),
        ("sentence_bert_config.json", {"transformer_task": "text-generation"}, "not for vectors"),
    ],
)
def test_what_kbert_cannot_do_as_sentence_transformers_is_refused_by_name(tmp_path, file, values, message):
    with pytest.raises(ValueError, match=message):
        kbert.TextEmbedder.from_preset(changed(tmp_path, "sentence_transformers", file, **values))


def test_texts_are_lower_cased_where_sentence_transformers_does_so(tmp_path):
    folder = changed(tmp_path, "sentence_transformers", "tokenizer_config.json", do_lower_case=False)
    stated = json.loads((folder / "tokenizer.json").read_text())
    stated["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(stated))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 10, "do_lower_case": True}))
    embedder = kbert.TextEmbedder.from_preset(folder)
    assert embedder.preprocessor.max_length == 10 and embedder.tokenizer.lowercase and not embedder.tokenizer.strip_accents


def test_a_cross_encoder_scores_pairs_as_there():
    task = kbert.TextClassifier.from_preset(TODAY / "cross_encoder")
    expected = ANSWERS["cross_encoder"]
    close(task.predict(PAIRS)[:, 0], expected["logits"])
    close([answer["scores"]["LABEL_0"] for answer in task.classify(PAIRS)], expected["scores"])
    assert isinstance(kbert.from_preset(TODAY / "cross_encoder"), kbert.TextClassifier)
    with pytest.raises(ValueError, match="sequence-classification, not for vectors"):
        kbert.TextEmbedder.from_preset(TODAY / "cross_encoder")


@pytest.mark.parametrize("name", ["keras_hub_cls", "keras_hub_max"])
def test_keras_hubs_embedders_give_its_vectors(name, tmp_path):
    embedder = kbert.TextEmbedder.from_preset(TODAY / name)
    assert embedder.pooling == name.rpartition("_")[2] and embedder.preprocessor.max_length == 12
    close(embedder.embed(TEXTS), ANSWERS[name]["vectors"])


def test_keras_hub_opens_an_embedder_of_kbert(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    embedder = kbert.TextEmbedder.from_preset(TODAY / "keras_hub_cls")
    embedder.save_to_preset(tmp_path / "mine", layout="keras_hub")
    theirs = keras_hub.models.TextEmbedder.from_preset(str(tmp_path / "mine"))
    close(theirs.predict(TEXTS, verbose=0), ANSWERS["keras_hub_cls"]["vectors"])
    close(kbert.TextEmbedder.from_preset(tmp_path / "mine").embed(TEXTS), ANSWERS["keras_hub_cls"]["vectors"])
    with pytest.raises(ValueError, match="no place for a prompt"):
        embedder.with_prompt(prompt="a: ").save_to_preset(tmp_path / "other", layout="keras_hub")


def test_keras_hubs_distilbert_gives_its_probabilities_and_cuts_pairs_as_there():
    task = kbert.TextClassifier.from_preset(TODAY / "keras_hub_distilbert", labels=["x", "y", "z"])
    expected = ANSWERS["keras_hub_distilbert"]
    powers = np.exp(task.predict(TEXTS))
    close(powers / powers.sum(-1, keepdims=True), expected["probabilities"])
    ids = task.preprocessor.with_length(fixed_length=True)(PAIRS)["token_ids"]
    assert ids.numpy().tolist() == expected["ids of pairs"]


def test_round_robin_gives_each_text_a_piece_in_turn():
    from kbert.text.truncation import truncated_lengths

    def by_hand(first, second, budget):
        kept = [0, 0]
        while sum(kept) < budget and (kept[0] < first or kept[1] < second):
            for place, most in enumerate((first, second)):
                if kept[place] < most and sum(kept) < budget:
                    kept[place] += 1
        return tuple(kept)

    cases = list(itertools.product(range(7), range(7), range(1, 9)))
    first, second, budget = (np.array(column, np.int32) for column in zip(*cases))
    kept = truncated_lengths(tf.constant(first), tf.constant(second), tf.constant(budget), "round_robin")
    assert [tuple(row) for row in np.stack(kept, 1).tolist()] == [by_hand(*case) for case in cases]
