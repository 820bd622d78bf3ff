"""Files that Model Garden, TF-Hub and the TensorFlow tutorials wrote open and compute what their authors' code computed."""

import json
import pathlib
import shutil

import numpy as np
import pytest

import kbert

FILES = pathlib.Path(__file__).parents[1] / "fixtures" / "object_graph"
pytestmark = pytest.mark.filterwarnings("ignore")


def golden(name):
    return json.loads((FILES / name / "golden.json").read_text("utf-8"))["cases"]


def packed(case):
    names = {"token_ids": "input_word_ids", "segment_ids": "input_type_ids", "padding_mask": "input_mask"}
    inputs = {ours: np.array(case[theirs], np.int32) for ours, theirs in names.items()}
    if "masked_lm_positions" in case:
        inputs["mask_positions"] = np.array(case["masked_lm_positions"], np.int32)
    return inputs


@pytest.mark.parametrize("name", ["garden_converted_encoder", "garden_v1_pretrainer", "tfhub_v1"])
def test_vectors_of_an_encoder_are_the_originals(name):
    encoder = kbert.BertEncoder.from_preset(FILES / name)
    assert encoder.config.hidden_act == "gelu_new"
    for case in golden(name):
        outputs = encoder(packed(case))
        real = np.array(case["input_mask"], bool)
        for key in {"sequence_output", "pooled_output"} & set(case["outputs"]):
            ours, theirs = np.asarray(outputs[key]), np.array(case["outputs"][key])
            if key == "sequence_output":
                ours, theirs = ours[real], theirs[real]
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def check_agrees(folder):
    """Opens what tests/write_orphans.py has written, as the task that golden.json names, and compares the outputs."""
    said = json.loads((folder / "golden.json").read_text("utf-8"))
    case = said["cases"][0]
    inputs = packed(case)
    if said["task"] == "BertEncoder":
        opened = kbert.BertEncoder.from_preset(folder)
    else:
        labels = {"labels": ["a", "b", "c"]} if "Classifier" in said["task"] else {}
        opened = getattr(kbert, said["task"]).from_preset(folder, preprocessor=None, **labels)
        assert not opened.new_weights
    if said["task"] not in ("MaskedLM", "Pretrainer"):
        inputs.pop("mask_positions")
    outputs = opened(inputs)
    outputs = outputs if isinstance(outputs, dict) else {"logits": outputs}
    real = np.array(case["input_mask"], bool)
    for name, theirs in case["outputs"].items():
        ours, theirs = np.asarray(outputs[name]), np.array(theirs)
        if theirs.shape[:2] == real.shape:
            ours, theirs = ours[real], theirs[real]
        np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "name",
    [
        *("garden_v1_classifier_own_pooler", "garden_v1_tokens", "garden_v1_spans", "garden_v1_pretrainer_whole"),
        "tutorial_v2_keras3_h5",
    ],
)
def test_each_head_computes_what_the_original_computed(name):
    check_agrees(FILES / name)


def test_a_head_that_has_a_pooler_of_its_own_is_said_to_be_read_through_it():
    with pytest.warns(UserWarning, match="that of its head classifier, because its logits go through it"):
        kbert.BertEncoder.from_preset(FILES / "garden_v1_classifier_own_pooler")


CLASSIFIERS = [
    *("garden_v1_classifier", "garden_v2_classifier"),
    *("tutorial_v1_savedmodel", "tutorial_v1_checkpoint", "tutorial_v1_h5_weights", "tutorial_v1_keras"),
]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_logits_of_a_classifier_are_the_originals(name):
    labels = ["a", "b", "c"]
    for case in golden(name):
        theirs = np.array(next(iter(case["outputs"].values()))).reshape(len(case["input_word_ids"]), -1)
        task = kbert.TextClassifier.from_preset(FILES / name, labels=labels[: theirs.shape[1]], preprocessor=None)
        assert not task.new_weights
        np.testing.assert_allclose(np.asarray(task(packed(case))), theirs, atol=1e-5)


def test_logits_of_a_masked_lm_are_the_originals():
    task = kbert.MaskedLM.from_preset(FILES / "garden_v1_pretrainer", preprocessor=None)
    for case in golden("garden_v1_pretrainer"):
        np.testing.assert_allclose(np.asarray(task(packed(case))), case["outputs"]["mlm_logits"], atol=2e-5)


def test_the_case_of_a_saved_model_is_its_variable_do_lower_case():
    folder = FILES / "tfhub_v1"
    assert kbert.WordPieceTokenizer.from_preset(folder).lowercase


def test_two_checkpoints_are_told_apart_by_the_state_file_or_refused(tmp_path):
    folder = tmp_path / "two"
    shutil.copytree(FILES / "garden_v2_classifier", folder)
    for path in list(folder.glob("ckpt-1.*")):
        shutil.copy(path, folder / path.name.replace("ckpt-1", "ckpt-2"))
    with pytest.warns(UserWarning, match="ckpt-1 was opened, because the file checkpoint names it"):
        kbert.BertEncoder.from_preset(folder)
    (folder / "checkpoint").unlink()
    with pytest.raises(ValueError, match="several models"):
        kbert.BertEncoder.from_preset(folder)


def test_a_cut_data_file_is_refused_by_name(tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(FILES / "garden_v2_classifier", folder)
    data = next(folder.glob("*.data*"))
    data.chmod(0o644)
    data.write_bytes(data.read_bytes()[:9000])
    with pytest.raises(ValueError, match="ckpt-1"):
        kbert.BertEncoder.from_preset(folder)


def test_kbert_from_preset_opens_the_tutorials_classifier_and_says_so():
    with pytest.warns(UserWarning, match="the layer classifier of .* is opened as the head"):
        task = kbert.from_preset(FILES / "tutorial_v1_checkpoint")
    assert type(task) is kbert.TextClassifier and len(task.labels) == 1
