"""`kbert.from_preset` opens the task that a checkpoint's own files name."""

import json
import pathlib
import warnings

import numpy as np
import pytest

import kbert
from kbert.checkpoints.described import describe
from kbert.checkpoints.huggingface_names import FAMILIES
from kbert.checkpoints.opened import Opened, open_preset
from kbert.tasks.any_task import from_preset
from kbert.tasks.choosing import choose
from tests.conftest import TINY

BY_HEAD = {
    "ForSequenceClassification": "TextClassifier",
    "ForNextSentencePrediction": "TextClassifier",
    "ForTokenClassification": "TokenClassifier",
    "ForQuestionAnswering": "QuestionAnswerer",
    "ForMaskedLM": "MaskedLM",
    "ForPreTraining": "Pretrainer",
    "Model": "TextEmbedder",
}
NAMES = [
    (kind, f"{before}{family.name}{after}", task)
    for kind, family in FAMILIES.items()
    for after, task in BY_HEAD.items()
    if after == "Model" or after.removeprefix("For") in family.heads
    for before in ("", "TF")
]


def described(folder, values, **files):
    """An opened folder that has its JSON files and no weights."""
    folder.mkdir(exist_ok=True)
    for name, content in {"config.json": values, **files}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return Opened(folder, "'mine'")


@pytest.mark.parametrize(("kind", "architecture", "task"), NAMES)
def test_each_architecture_names_its_task(kind, architecture, task, tmp_path):
    opened = described(tmp_path, {"model_type": kind, "architectures": [architecture]})
    assert choose(opened).task == task
    assert bool(choose(opened).notice) == (task == "TextEmbedder")


@pytest.mark.parametrize(
    ("class_name", "task"),
    [
        ("BertTextClassifier", "TextClassifier"),
        ("BertClassifier", "TextClassifier"),
        ("BertMaskedLM", "MaskedLM"),
        ("BertTextEmbedder", "TextEmbedder"),
        ("BertBackbone", "TextEmbedder"),
    ],
)
def test_each_class_of_keras_hub_names_its_task(class_name, task, tmp_path):
    config = {"class_name": "BertBackbone", "config": {"vocabulary_size": 9, "hidden_dim": 8, "num_heads": 2}}
    assert choose(described(tmp_path, config, **{"task.json": {"class_name": class_name}})).task == task


@pytest.mark.parametrize("name", ["BertForMultipleChoice", "BertLMHeadModel", "RobertaForMaskedLM", "BertForToxicity"])
def test_an_architecture_without_a_task_is_refused_by_its_name(name, tmp_path):
    with pytest.raises(ValueError, match=f"'mine' names the class {name}, which kbert has no task for.*BertForMaskedLM"):
        choose(described(tmp_path, {"architectures": [name]}))


def modules(*kinds):
    return [
        {"type": f"sentence_transformers.models.{kind}", "path": f"{n}_{kind}" if n else ""} for n, kind in enumerate(kinds)
    ]


def test_a_pooling_module_makes_an_embedder_of_any_class_and_a_cross_encoder_stays_a_classifier(tmp_path):
    config = {"architectures": ["BertForMaskedLM"]}
    pooling = {"1_Pooling/config.json": {"pooling_mode": "cls"}}
    pools = described(tmp_path / "a", config, **{"modules.json": modules("Transformer", "Pooling"), **pooling})
    assert choose(pools).task == "TextEmbedder" and not choose(pools).notice
    crossed = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    assert choose(described(tmp_path / "b", crossed, **{"modules.json": modules("Transformer")})).task == "TextClassifier"


def test_kbert_json_decides_among_tasks_of_one_head_and_a_newer_head_wins(tmp_path):
    own = {"kbert.json": {"task": {"class": "Special", "options": {}}}}
    assert choose(described(tmp_path, {"architectures": ["BertModel"]}, **own)).task == "Special"
    embedder = {"kbert.json": {"task": {"class": "TextEmbedder", "options": {"head": ""}}}}
    assert choose(described(tmp_path, {"architectures": ["BertForMaskedLM"]}, **embedder)).task == "MaskedLM"


def tasks(encoder, tokenizer):
    packer = kbert.TextPreprocessor(tokenizer, 24)
    return {
        "classifier": kbert.TextClassifier(encoder, packer, labels=["bad", "so, so", "good"]),
        "next sentence": kbert.TextClassifier(encoder, packer, ["is_next", "not_next"], head="NextSentencePrediction"),
        "tags": kbert.TokenClassifier(encoder, packer, labels=["O", "B-X"]),
        "answers": kbert.QuestionAnswerer(encoder, packer),
        "words": kbert.MaskedLM(encoder, packer),
        "vectors": kbert.TextEmbedder(encoder, packer, pooling="max"),
        "pretrainer": kbert.Pretrainer(encoder, packer),
    }


@pytest.mark.parametrize("layout", ["huggingface", "google"])
def test_what_save_to_preset_wrote_opens_as_it_was(layout, encoder, tokenizer, tmp_path):
    for name, task in tasks(encoder, tokenizer).items():
        if layout == "google" and name in ("tags", "vectors"):
            continue  # the layout has no such head and no place for the pooling
        task.save_to_preset(tmp_path / name, layout=layout)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = from_preset(tmp_path / name)
        assert type(again) is type(task)
        ids = {key: np.ones((1, 4), np.int32) for key in ("token_ids", "segment_ids", "padding_mask")}
        expected, outputs = task(ids), again(ids)
        for key in expected if isinstance(expected, dict) else [None]:
            a, b = (expected, outputs) if key is None else (expected[key], outputs[key])
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_an_encoder_alone_becomes_an_embedder_and_a_notice_says_so(tiny_folder):
    with pytest.warns(UserWarning, match="an encoder without a head, and is opened as a TextEmbedder.*kbert.TextClassifier"):
        task = from_preset(tiny_folder, max_length=8)
    assert type(task) is kbert.TextEmbedder and task.preprocessor.max_length == 8


def test_weights_decide_where_the_configuration_names_no_task(classifier, tmp_path):
    classifier.save_to_preset(tmp_path / "google", layout="google")
    (tmp_path / "google" / "kbert.json").unlink()
    said = (
        "names no task, and is opened as a TextClassifier, because its weights hold the head SequenceClassification; .*LABEL_0"
    )
    with pytest.warns(UserWarning, match=said):
        task = from_preset(tmp_path / "google")
    assert task.labels == ["LABEL_0", "LABEL_1"]
    np.testing.assert_allclose(task.predict(["a cat"]), classifier.predict(["a cat"]), atol=1e-6)


def test_options_go_to_the_task_and_others_are_refused_with_both_names(classifier, tiny_folder, tmp_path):
    classifier.save_to_preset(tmp_path / "mine")
    task = from_preset(tmp_path / "mine", max_length=8, labels=["no", "yes"], window_stride=2)
    assert task.labels == ["no", "yes"] and task.preprocessor.max_length == 8 and task.window_stride == 2
    with pytest.raises(TypeError, match=r"a TextClassifier takes no pooling=, and .*; kbert.TextEmbedder.from_preset takes it"):
        from_preset(tmp_path / "mine", pooling="cls")
    with pytest.raises(TypeError, match=r"a TextEmbedder takes no labels=.*; kbert.TextClassifier.from_preset takes it"):
        from_preset(tiny_folder, labels=["a", "b"])


def test_a_keras_file_is_loaded_with_the_options_of_load(classifier, tmp_path):
    classifier.save(tmp_path / "mine.keras")
    assert from_preset(tmp_path / "mine.keras", compile=False).labels == classifier.labels
    with pytest.raises(TypeError, match=r"kbert.load takes no max_length=, and .*mine.keras is a .keras file"):
        from_preset(tmp_path / "mine.keras", max_length=8)
    with pytest.raises(FileNotFoundError, match="no file"):
        from_preset(pathlib.Path("none.keras"))


@pytest.mark.parametrize("layout", ["huggingface", "google"])
def test_a_description_says_what_the_files_hold(layout, classifier, tmp_path):
    classifier.save_to_preset(tmp_path / "mine", layout=layout)
    with open_preset(tmp_path / "mine") as opened:
        said = describe(opened)
    assert said.head == "SequenceClassification" and said.labels == ["bad", "good"] and said.left_out == []
    assert said.parameters == classifier.count_params() and said.bytes == 4 * said.parameters == 4 * said.dtypes["float32"]
    assert (said.vocabulary_size, said.lowercase, said.max_length) == (TINY["vocab_size"], True, 24)
    assert said.sizes["num_hidden_layers"] == 2 and said.missing == []


def test_a_description_reads_the_card_and_misses_the_vocabulary(tiny_folder):
    (tiny_folder / "vocab.txt").unlink()
    (tiny_folder / "README.md").write_text("---\nlicense: mit\nlanguage:\n- en\nbase_model: a/b\n---\n# card\n")
    with open_preset(tiny_folder) as opened:
        said = describe(opened)
    assert said.source == ("mit", "", ("en",), ("a/b",)) and "vocab.txt" in said.missing[0] and said.vocabulary_size is None
    (tiny_folder / "README.md").write_text("---\nlicense: [mit\n---\n")
    with open_preset(tiny_folder) as opened:
        assert describe(opened).source == ("", "", (), ())
