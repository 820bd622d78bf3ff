"""transformers' TensorFlow files have the outputs of the same weights in torch; files that lead elsewhere are refused."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors import safe_open

import kbert
from kbert.checkpoints.transformers_tf import places_of_hdf5, torch_name

FIXTURES = Path(__file__).parents[1] / "fixtures"
FILES = FIXTURES / "transformers_tf"  # by make_transformers_tf.py
TASKS = {
    "bert_PreTraining.h5": kbert.Pretrainer,
    "bert_SequenceClassification.shards": kbert.TextClassifier,
    "bert_TokenClassification.safetensors": kbert.TokenClassifier,
    "distilbert_SequenceClassification.h5": kbert.TextClassifier,
    "mobilebert_PreTraining.h5": kbert.MaskedLM,
    "bert.keras": kbert.BertEncoder,
}


def check(preset, name):
    """Compares the outputs of a folder with those of the golden file that its name begins with."""
    with safe_open(FIXTURES / "golden" / f"{name.split('.')[0]}.safetensors", framework="numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys() if key.startswith(("inputs/", "outputs/"))}
    cls = TASKS[name]
    options = {} if cls is kbert.BertEncoder else {"preprocessor": None}
    ids, mask = tensors["inputs/input_ids"], tensors["inputs/attention_mask"]
    inputs = {"token_ids": ids, "padding_mask": mask, "segment_ids": tensors.get("inputs/token_type_ids", 0 * ids)}
    outputs = cls.from_preset(preset, **options)(inputs, training=False)
    if cls is kbert.BertEncoder:
        outputs, expected = outputs["pooled_output"], tensors["outputs/pooler_output"]
    elif cls is kbert.Pretrainer:
        outputs, expected = outputs["nsp_logits"], tensors["outputs/seq_relationship_logits"]
    else:
        expected = tensors["outputs/prediction_logits" if cls is kbert.MaskedLM else "outputs/logits"]
    real = mask.astype(bool) if np.ndim(expected) == 3 else slice(None)
    np.testing.assert_allclose(np.asarray(outputs)[real], expected[real], atol=2e-4 if "mobile" in name else 2e-5)


@pytest.fixture
def folder(tmp_path):
    """A copy of the folder whose weights lie in shards."""
    return shutil.copytree(FILES / "bert_SequenceClassification.shards", tmp_path / "tf")


@pytest.fixture
def one_file(tmp_path):
    """A copy of the folder that Keras has written around a TFBert."""
    return shutil.copytree(FILES / "bert.keras", tmp_path / "keras")


@pytest.mark.parametrize("name", TASKS)
def test_files_of_tensorflow_have_the_outputs_of_the_same_weights_in_torch(name):
    check(FILES / name, name)


def test_releases_with_an_axis_of_heads_and_packed_datasets_are_read_alike(one_file):
    with h5py.File(one_file / "mine.h5", "r+") as file:
        found = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in found:
            value = file[name][...]
            if "/attention/self/" in name:
                value = value.reshape(*value.shape[:-1], 4, 4)
            if "/attention/output/dense/kernel" in name:
                value = value.reshape(4, 4, -1)
            del file[name]
            file.create_dataset(name, data=value, compression="gzip", shuffle=True)
    check(one_file, "bert.keras")


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("bert/tf_bert_model_1/bert/embeddings/word_embeddings/embeddings:0", "embeddings.word_embeddings.weight"),
        ("bert/embeddings/position_embeddings/weight:0", "embeddings.position_embeddings.weight"),
        ("model_weights/x/x/bert/encoder/layer_._10/output/LayerNorm/beta:0", "encoder.layer.10.output.LayerNorm.bias"),
        ("transformer/layer_._1/ffn/lin1/kernel:0", "transformer.layer.1.ffn.lin1.weight"),
        ("a/mobilebert/encoder/layer_._0/ffn.2/output/LayerNorm/weight:0", "encoder.layer.0.ffn.2.output.LayerNorm.weight"),
        ("nsp___cls/tf_bert/nsp___cls/seq_relationship/kernel:0", "cls.seq_relationship.weight"),
        ("seq_relationship___cls/seq_relationship/bias:0", "cls.seq_relationship.bias"),
        ("predictions___cls/predictions/decoder/weight:0", "cls.predictions.decoder.weight"),
        ("vocab_projector/tf_distil_bert/vocab_projector/bias:0", "vocab_projector.bias"),
        ("dense_7/dense_7/kernel:0", None),
    ],
)
def test_variables_are_known_by_the_ends_of_their_names(stored, name):
    assert torch_name(stored) == name


def test_a_head_of_the_users_is_left_out_and_said(one_file):
    with kbert.checkpoints.opened.open_preset(one_file) as opened:
        assert [name.split("/")[-1] for name in opened.checkpoint.left_out()] == ["bias:0", "kernel:0"]


def test_a_file_with_two_encoders_is_refused(one_file):
    with h5py.File(one_file / "mine.h5", "r+") as file:
        file.copy("bert", "bert_1")
    assert "pooler.dense.bias" in places_of_hdf5(one_file / "mine.h5")
    with h5py.File(one_file / "mine.h5", "r+") as file:
        file["bert_1/tf_bert_model/bert/embeddings/LayerNorm/beta:0"][0] += 1
    with pytest.raises(ValueError, match=r"mine.h5 holds two encoders that differ .bert_1/"):
        kbert.BertEncoder.from_preset(one_file)


def test_files_of_tensorflow_and_of_torch_that_differ_are_refused_as_stale(one_file):
    shutil.copy(FIXTURES / "torch" / "bert_PreTraining.zip.bin", one_file / "pytorch_model.bin")
    (one_file / "mine.h5").rename(one_file / "tf_model.h5")
    with pytest.raises(ValueError, match=r"pytorch_model.bin and tf_model.h5 beside it hold different weights .*stale"):
        kbert.BertEncoder.from_preset(one_file)


def test_a_folder_that_lacks_a_shard_says_which(folder):
    (folder / "tf_model-00002-of-00002.h5").unlink()
    with pytest.raises(FileNotFoundError, match="lacks tf_model-00002-of-00002.h5, one of the 2 files"):
        kbert.BertEncoder.from_preset(folder)


def test_without_a_configuration_the_shapes_say_the_sizes_and_one_warning_says_so(tmp_path):
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        for name, shape in [
            *[(f"embeddings/{kind}_embeddings/weight:0", (rows, 128)) for kind, rows in (("word", 9), ("position", 7))],
            ("embeddings/token_type_embeddings/embeddings:0", (2, 128)),
            *[(f"encoder/layer_._{n}/intermediate/dense/kernel:0", (128, 48)) for n in range(3)],
        ]:
            file["bert/" + name] = np.zeros(shape, np.float32)
    with kbert.checkpoints.opened.open_preset(tmp_path) as opened, pytest.warns(UserWarning, match="Heads of 64 .2 of them"):
        config = opened.config
    sizes = (config.vocab_size, config.max_position_embeddings, config.hidden_size, config.intermediate_size)
    assert sizes == (9, 7, 128, 48)
    assert (config.num_hidden_layers, config.num_attention_heads, config.type_vocab_size) == (3, 2, 2)


def test_a_width_that_does_not_say_the_heads_asks_for_a_configuration(one_file):
    (one_file / "config.json").unlink()
    with pytest.raises(ValueError, match=r"mine.h5 has no config.json.*width of 16 does not say how many heads"):
        kbert.BertEncoder.from_preset(one_file)


def external(file):
    file.create_dataset("bert/pooler/dense/bias:0", (16,), "f4", external=[("/etc/passwd", 0, 64)])


def virtual(file):
    layout = h5py.VirtualLayout((16,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (16,))
    file.create_virtual_dataset("bert/pooler/dense/bias:0", layout)


def external_link(file):
    file["bert/pooler/dense/bias:0"] = h5py.ExternalLink("/etc/passwd", "x")


def soft_link(file):
    file["bert/pooler/dense/bias:0"] = h5py.SoftLink("/bert")


def inside_itself(file):
    file["bert/encoder/bert"] = file.require_group("bert/encoder")


def huge(file):
    file.create_dataset("bert/pooler/dense/bias:0", (1 << 40,), "f4", chunks=(1 << 10,))


def without_names(file):
    file.create_dataset("layers/dense/vars/0", data=np.zeros(16, np.float32))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (external, "are in another file"),
        (virtual, "are in another file"),
        (external_link, "is a link to another place"),
        (soft_link, "is a link to another place"),
        (inside_itself, "is inside itself"),
        (huge, "in a file of"),
        (without_names, "Keras 3 stores no names"),
    ],
)
def test_a_file_that_leads_elsewhere_is_refused(damage, message, tmp_path):
    path = tmp_path / "tf_model.h5"
    with h5py.File(path, "w") as file:
        damage(file)
    with pytest.raises(ValueError, match=message) as refused:
        places_of_hdf5(path)
    assert str(path) in str(refused.value)


def test_a_cut_file_and_no_hdf5_file_are_named(one_file):
    content = (one_file / "mine.h5").read_bytes()
    for size in (40, 4000, len(content) - 100):
        (one_file / "mine.h5").write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"mine\.h5"):
            kbert.BertEncoder.from_preset(one_file)


def test_the_code_of_a_lambda_layer_is_never_run(one_file):
    config = {"class_name": "Functional", "config": {"layers": [{"class_name": "Lambda", "config": {"function": ["evil"]}}]}}
    with h5py.File(one_file / "mine.h5", "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    check(one_file, "bert.keras")
