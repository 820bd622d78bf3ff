"""The tokenizer as an object: shapes, special tokens, decoding, serialization, errors."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import kbert
from tests.conftest import SPECIAL, VOCABULARY, tiny_tokenizer
from tests.text.reference import differing_offsets, read_texts, reference


def test_texts_of_any_shape(tokenizer):
    one = tokenizer("good day")
    assert one.numpy().tolist() == tokenizer(["good day"]).to_list()[0]
    assert tokenizer(tf.constant("good day")).numpy().tolist() == one.numpy().tolist()
    square = tokenizer(tf.constant([["good day", "cat"], ["", "a"]]))
    assert square.to_list() == [tokenizer(["good day", "cat"]).to_list(), tokenizer(["", "a"]).to_list()]
    ragged = tokenizer(tf.ragged.constant([["good day"], [], ["cat", "a"]]))
    assert [len(row) for row in ragged.to_list()] == [1, 0, 2]
    assert tokenizer([]).to_list() == [] and tokenizer(np.array(["cat"], object)).to_list() == tokenizer(["cat"]).to_list()


def test_it_runs_inside_tf_data(tokenizer):
    dataset = tf.data.Dataset.from_tensor_slices(["good day", "cat"]).batch(2).map(tokenizer)
    assert [batch.to_list() for batch in dataset] == [tokenizer(["good day", "cat"]).to_list()]


def test_vocabulary_both_ways(tokenizer):
    assert tokenizer.vocabulary == VOCABULARY and tokenizer.vocabulary_size == len(VOCABULARY)
    assert [tokenizer.token_to_id(token) for token in VOCABULARY] == list(range(len(VOCABULARY)))
    assert tokenizer.id_to_token(2) == "[CLS]"
    with pytest.raises(KeyError, match="'zebra' is not one of"):
        tokenizer.token_to_id("zebra")
    for outside in (-1, len(VOCABULARY)):
        with pytest.raises(IndexError, match="outside the vocabulary"):
            tokenizer.id_to_token(outside)


TYPED = [
    "Paris is the [MASK] of [UNK] fr[SEP]ance.", "[mask] a[MASK]b [ MASK ]", "[CLS][CLS] 你[PAD]!", "[MASK",
    "é[MASK]é \U000f0001x", "", "[[MASK]]",
]  # fmt: skip


@pytest.mark.parametrize("recognised", [False, True])
def test_typed_special_tokens_as_the_reference(minilm, recognised):
    tokenizer = kbert.WordPieceTokenizer.from_preset(minilm, recognize_special_tokens=recognised)
    assert differing_offsets(tokenizer, reference(tokenizer, special_tokens=recognised), TYPED) == []
    assert (tokenizer.mask_token_id in tokenizer(TYPED[0]).numpy()) == recognised


def test_recognising_changes_nothing_else(minilm):
    tokenizer = kbert.WordPieceTokenizer.from_preset(minilm, recognize_special_tokens=True)
    assert differing_offsets(tokenizer, reference(tokenizer, special_tokens=True), read_texts("bbc", None)[:500]) == []


def test_special_tokens_of_any_name(tmp_path):
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    (tmp_path / "vocab.txt").write_text("\n".join([*names.values(), "good"]) + "\n")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({**names, "cls_token": {"content": "<s>", "lstrip": False}}))
    tokenizer = kbert.WordPieceTokenizer.from_preset(tmp_path, recognize_special_tokens=True)
    assert tokenizer(["good <mask> zebra"]).to_list() == [[5, 4, 1]]
    assert kbert.TextPreprocessor(tokenizer)(["good"])["token_ids"].numpy().tolist() == [[2, 5, 3]]
    assert differing_offsets(tokenizer, reference(tokenizer, special_tokens=True), ["<s>good</s> <mask>", "<pad> good"]) == []


@pytest.mark.parametrize("skip", [True, False])
def test_detokenize_as_the_references_decoder(uncased, skip):
    theirs = reference(uncased, special_tokens=True)
    texts = [*read_texts("bbc", None)[:300], "don't do not it's 1, 2! ? he 've we 're n't ' a", "", "[MASK] you"]
    ids = [
        [uncased.cls_token_id, *encoding.ids, uncased.sep_token_id]
        for encoding in theirs.encode_batch(texts, add_special_tokens=False)
    ]
    ours = [text.decode() for text in uncased.detokenize(ids, skip_special_tokens=skip).numpy()]
    assert ours == theirs.decode_batch(ids, skip_special_tokens=skip)


def test_detokenize_takes_one_text_and_tensors(tokenizer):
    ids = tokenizer("good day!")
    assert tokenizer.detokenize(ids).numpy() == b"good day!"
    assert tokenizer.detokenize(ids.numpy().tolist()).numpy() == b"good day!"
    packed = kbert.TextPreprocessor(tokenizer)(["good day!", "cat"])
    assert tokenizer.detokenize(packed["token_ids"]).numpy().tolist() == [b"good day!", b"cat"]


def test_serialization_carries_the_vocabulary(tokenizer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(tokenizer))
    assert again.vocabulary == VOCABULARY and again(["good day"]).to_list() == tokenizer(["good day"]).to_list()
    cased = kbert.WordPieceTokenizer(VOCABULARY, lowercase=False, tokenize_chinese_chars=False, recognize_special_tokens=True)
    config = kbert.WordPieceTokenizer.from_config(cased.get_config()).get_config()
    assert config == cased.get_config() and config["recognize_special_tokens"] and not config["lowercase"]


def test_a_bad_unit_or_text_is_named(tokenizer):
    with pytest.raises(ValueError, match="characters.*bytes.*'words'"):
        tokenizer.tokenize_with_offsets(["a"], unit="words")
    with pytest.raises(TypeError, match=r"texts\[1\] is None"):
        tokenizer(["a", None])


def test_a_special_token_too_short_to_recognise_is_named():
    with pytest.raises(ValueError, match="three bytes or more, got '~'"):
        kbert.WordPieceTokenizer([*SPECIAL, "~"], pad_token="~", recognize_special_tokens=True)


@pytest.mark.parametrize("output", ["ids", "characters"])
def test_slices_of_a_column_can_run_side_by_side(output):
    """TensorFlow runs calls of a stateful function one after the other: with such calls, batches took 1.3 times as long."""
    graph = tiny_tokenizer()._side_by_side(output).get_concrete_function().graph
    assert not [op.name for op in graph.get_operations() if "PartitionedCall" in op.type]
