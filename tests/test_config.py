"""The configuration: both families' keys, and errors that name what is wrong."""

import json

import pytest

from kbert import BertConfig

GOOGLE = {
    "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 128,
    "initializer_range": 0.02, "intermediate_size": 512, "max_position_embeddings": 512, "num_attention_heads": 2,
    "num_hidden_layers": 2, "type_vocab_size": 2, "vocab_size": 30522,
}  # fmt: skip


def test_googles_keys_are_read_and_written_back(tmp_path):
    path = tmp_path / "bert_config.json"
    path.write_text(json.dumps(GOOGLE))
    config = BertConfig.from_json(path)
    assert {key: config.to_dict()[key] for key in GOOGLE} == GOOGLE
    assert BertConfig.from_json(config.to_json()) == config


def test_hugging_faces_other_keys_are_passed_over():
    config = BertConfig.from_dict({**GOOGLE, "model_type": "bert", "transformers_version": "4.8.2", "use_cache": True})
    assert config.layer_norm_eps == 1e-12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": 3}, "3 heads for a width of 128"),
        ({"hidden_size": "128"}, "whole number, got '128'"),
        ({"hidden_size": 0}, "at least 1"),
        ({"hidden_act": "swish2"}, "one of gelu"),
        ({"hidden_dropout_prob": 1.5}, "probability"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"is_decoder": True}, "is_decoder"),
        ({"pad_token_id": 99999}, "outside the vocabulary"),
    ],
)
def test_what_does_not_fit_is_named_with_its_file(tmp_path, change, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**GOOGLE, **change}))
    with pytest.raises((TypeError, ValueError), match=message) as error:
        BertConfig.from_json(path)
    assert "config.json" in str(error.value)


def test_a_file_that_is_not_json_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is not JSON"):
        BertConfig.from_json(tmp_path / "config.json")
