"""Outputs, losses and gradients equal transformers' on torch; the golden files are made by tests/fixtures/make_golden.py."""

import functools
import json
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from safetensors import safe_open
from safetensors.numpy import save_file

import kbert
from kbert.checkpoints.huggingface import family_of
from kbert.checkpoints.weights import weights_of

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden"
ALL = sorted(path.stem for path in GOLDEN.glob("*.safetensors"))
TASKS = {
    "SequenceClassification": kbert.TextClassifier,
    "NextSentencePrediction": functools.partial(kbert.TextClassifier.from_preset, head="NextSentencePrediction"),
    "TokenClassification": kbert.TokenClassifier,
    "QuestionAnswering": kbert.QuestionAnswerer,
    "MaskedLM": kbert.MaskedLM,
    "PreTraining": kbert.Pretrainer,
}
OUTPUTS = {
    "start_logits": "start_logits", "end_logits": "end_logits", "mlm_logits": "prediction_logits",
    "nsp_logits": "seq_relationship_logits",
}  # fmt: skip
TARGETS = {
    "start_logits": "start_positions", "end_logits": "end_positions", "mlm_logits": "labels",
    "nsp_logits": "next_sentence_label",
}  # fmt: skip


def head_of(name):
    with safe_open(GOLDEN / f"{name}.safetensors", framework="numpy") as file:
        return file.metadata()["head"]


WITH_HEAD = [name for name in ALL if head_of(name)]


class Golden:
    """One golden file, and the folder that its model would have been saved as."""

    def __init__(self, name, folder):
        self.folder = folder
        with safe_open(GOLDEN / f"{name}.safetensors", framework="numpy") as file:
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}
            config = json.loads(file.metadata()["config"])
            self.head = file.metadata()["head"]
        self.tolerance = 2e-4 if config["model_type"] == "mobilebert" else 1e-4
        (folder / "config.json").write_text(json.dumps(config))
        self.write()

    def task(self, folder=None):
        """The task of the golden file's head."""
        task = TASKS[self.head]
        return getattr(task, "from_preset", task)(folder or self.folder, preprocessor=None)

    def part(self, name):
        return {key.removeprefix(f"{name}/"): value for key, value in self.tensors.items() if key.startswith(f"{name}/")}

    def write(self, dtype=np.float32):
        save_file(
            {name: value.astype(dtype) for name, value in self.part("weights").items()}, self.folder / "model.safetensors"
        )

    def inputs(self):
        names = {"input_ids": "token_ids", "token_type_ids": "segment_ids", "attention_mask": "padding_mask"}
        return {ours: self.tensors[f"inputs/{theirs}"] for theirs, ours in names.items() if f"inputs/{theirs}" in self.tensors}


@pytest.fixture
def golden(request, tmp_path):
    return Golden(request.param, tmp_path)


def test_the_files_are_there_and_small():
    assert len(ALL) == 25 and len(WITH_HEAD) == 19
    assert all(path.stat().st_size < 300_000 for path in GOLDEN.iterdir())


def has_pooler(golden):
    return not golden.head or any("pooler" in name for name in golden.part("weights"))


@pytest.mark.parametrize("golden", ALL, indirect=True)
@pytest.mark.parametrize("real_tokens", [True, False])
def test_vectors_hidden_states_and_attentions(golden, real_tokens):
    encoder = kbert.BertEncoder.from_preset(golden.folder, add_pooling_layer=None if has_pooler(golden) else False)
    encoder.real_tokens = real_tokens
    inputs = golden.inputs()
    outputs = encoder(inputs, output_hidden_states=True, output_attentions=True)
    expected = golden.part("outputs")
    mask = inputs["padding_mask"][:, :, None]
    assert len(outputs["hidden_states"]) == 3 and len(outputs["attentions"]) == 2
    for number, state in enumerate(outputs["hidden_states"]):
        np.testing.assert_allclose(state * mask, expected[f"hidden_states.{number}"] * mask, atol=golden.tolerance)
    for number, attention in enumerate(outputs["attentions"]):
        rows = mask[:, None]
        np.testing.assert_allclose(attention * rows, expected[f"attentions.{number}"] * rows, atol=golden.tolerance)
    if "pooler_output" in expected:
        np.testing.assert_allclose(outputs["pooled_output"], expected["pooler_output"], atol=golden.tolerance)
    assert ("pooled_output" in outputs) == encoder.config.add_pooling_layer


@pytest.mark.parametrize("golden", WITH_HEAD, indirect=True)
def test_logits_loss_and_gradients(golden):
    task = golden.task()
    task.compile()
    expected, inputs = golden.part("outputs"), golden.inputs()
    real = inputs["padding_mask"][:, :, None] == 1
    with tf.GradientTape() as tape:
        logits = task(inputs, training=False)
        if isinstance(logits, dict):
            targets = {name: golden.tensors[f"targets/{TARGETS[name]}"] for name in logits}
        else:
            targets = golden.tensors["targets/labels"]
            if getattr(task, "problem_type", "") == "regression":
                targets = targets[:, None]
        loss = task.compute_loss(inputs, targets, logits)
    for name, values in (logits if isinstance(logits, dict) else {"logits": logits}).items():
        theirs = expected[OUTPUTS.get(name, name)]
        where = real if values.ndim == 3 else True  # what stands at padding means nothing there
        np.testing.assert_allclose(values * where, theirs * where, atol=golden.tolerance, err_msg=name)
    np.testing.assert_allclose(loss, expected["loss"], rtol=1e-4)
    variables = [variable.value for variable in task.trainable_variables]
    gradients = dict(zip(map(id, variables), tape.gradient(loss, variables, unconnected_gradients="zero")))

    class Shadow:
        """Looks like the task's weights to the tables that load them, but holds the gradients."""

        def __init__(self, owner):
            self.owner = owner

        def __getattr__(self, name):
            return Shadow(getattr(self.owner, name))

        def __getitem__(self, number):
            return Shadow(self.owner[number])

        def numpy(self):
            return tf.convert_to_tensor(gradients[id(self.owner.value)]).numpy()

    shadow, family = Shadow(task), family_of(task.encoder.config)
    ours = weights_of(shadow.encoder, family.rules(task.encoder.config), family.prefix)
    ours.update(weights_of(shadow, family.head(task.head)))
    theirs = golden.part("gradients")
    assert set(ours) == set(theirs)
    largest = max(np.abs(gradient).max() for gradient in theirs.values())
    for name, gradient in theirs.items():
        # Some gradients are zero but for rounding: a key's bias moves all scores alike.
        np.testing.assert_allclose(ours[name], gradient, atol=1e-4 * np.abs(gradient).max() + 5e-7 * largest, err_msg=name)


@pytest.mark.parametrize("golden", WITH_HEAD, indirect=True)
def test_a_saved_folder_holds_the_same_bits_under_the_same_names(golden, tmp_path):
    task = golden.task()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.save_to_preset(tmp_path / "again")
        again = golden.task(tmp_path / "again")
    with safe_open(tmp_path / "again" / "model.safetensors", framework="numpy") as file:
        written = {name: file.get_tensor(name) for name in file.keys()}
    expected = golden.part("weights")
    assert set(written) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(written[name], value, err_msg=name)
    for a, b in zip(task.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)
    theirs, ours = (json.loads((folder / "config.json").read_text()) for folder in (golden.folder, tmp_path / "again"))
    for key in set(ours) & set(theirs) - {"classifier_dropout", "problem_type"}:
        assert ours[key] == theirs[key], key
    assert again.encoder.config == task.encoder.config
    if hasattr(task, "problem_type"):
        assert again.problem_type == task.problem_type and again.labels == task.labels


@pytest.mark.parametrize("golden", [name for name in WITH_HEAD if not name.startswith("distil")], indirect=True)
def test_a_keras_file_holds_the_same_task(golden, tmp_path):
    task = golden.task()
    task.save(tmp_path / "task.keras")
    again = kbert.load(tmp_path / "task.keras")
    for a, b in zip(task.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)
    tf.nest.map_structure(np.testing.assert_array_equal, task(golden.inputs()), again(golden.inputs()))


@pytest.mark.parametrize("golden", ALL, indirect=True)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_files_of_half_precision(golden, dtype):
    golden.write(dtype)
    encoder = kbert.BertEncoder.from_preset(golden.folder, add_pooling_layer=None if has_pooler(golden) else False)
    expected = golden.part("weights")
    (name,) = [name for name in expected if name.endswith("word_embeddings.weight")]
    np.testing.assert_array_equal(encoder.embeddings.tokens, expected[name].astype(dtype).astype(np.float32))


@pytest.mark.parametrize("golden", ["bert_SequenceClassification"], indirect=True)
class TestShards:
    def shard(self, golden, count=3):
        weights = golden.part("weights")
        names = sorted(weights)
        where = {name: f"model-{n % count + 1:05d}-of-{count:05d}.safetensors" for n, name in enumerate(names)}
        for file in set(where.values()):
            save_file({name: weights[name] for name in names if where[name] == file}, golden.folder / file)
        (golden.folder / "model.safetensors").unlink()
        self.index(golden, where)
        return where

    def index(self, golden, where):
        (golden.folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))

    def open(self, golden):
        return golden.task()

    def test_shards_are_one_checkpoint(self, golden):
        whole = self.open(golden).get_weights()
        self.shard(golden)
        for a, b in zip(whole, self.open(golden).get_weights()):
            np.testing.assert_array_equal(a, b)

    def test_a_missing_shard_is_named(self, golden):
        self.shard(golden)
        (golden.folder / "model-00002-of-00003.safetensors").unlink()
        with pytest.raises(FileNotFoundError, match=r"lacks model-00002-of-00003.safetensors, one of the 3 files"):
            self.open(golden)

    @pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "a/b.safetensors", "..\\outside", 3])
    def test_an_index_that_points_elsewhere_is_refused(self, golden, name):
        where = self.shard(golden)
        self.index(golden, {**where, next(iter(where)): name} if isinstance(name, str) else {"x": name})
        with pytest.raises(ValueError, match="not a file beside it; such an index is refused"):
            self.open(golden)

    @pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": {}}', '{"metadata": {}}'])
    def test_a_broken_index_is_named(self, golden, content):
        self.shard(golden)
        (golden.folder / "model.safetensors.index.json").write_text(content)
        with pytest.raises(ValueError, match=r"model.safetensors.index.json"):
            self.open(golden)


def test_named_sizes_are_the_published_ones():
    for name, layers, width in (
        ("tiny", 2, 128), ("mini", 4, 256), ("small", 4, 512), ("medium", 8, 512), ("base", 12, 768), ("large", 24, 1024),
    ):  # fmt: skip
        config = getattr(kbert.BertConfig, name)()
        assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (layers, width, width // 64)
        assert config.intermediate_size == 4 * width
    assert kbert.BertConfig.base() == kbert.BertConfig()
