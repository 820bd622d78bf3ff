"""Files of TensorFlow 2 that hold no BERT, or are damaged, are refused in one line that names the file and the way out."""

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

import kbert

FILES = pathlib.Path(__file__).parents[1] / "fixtures" / "object_graph"
# Names of variables that the authors' code gives them.
OTHERS = {
    "ALBERT": ["word_embeddings/embeddings", "embedding_projection/kernel", "transformer/self_attention/query/kernel"],
    "ELECTRA": ["word_embeddings/embeddings", "transformer/layer_0/output/kernel", "discriminator_head/kernel"],
    "MobileBERT": ["mobile_bert_embedding/embedding_projection/kernel", "transformer_layer_0/attention/query/kernel"],
    "T5": ["t5_transformer/decoder/decoder_block_0/ffn/wi/kernel"],
    "XLNet": ["content_attention_bias", "positional_attention_bias"],
}


def write(folder, names):
    """Writes a checkpoint of variables with such names."""
    variables = [tf.Variable(np.zeros((2, 2), "float32"), name=name) for name in names]
    tf.train.Checkpoint(model=variables).write(str(folder / "ckpt"))
    return folder


@pytest.mark.parametrize("model", OTHERS)
def test_another_architecture_is_refused_by_its_name(model, tmp_path):
    write(tmp_path, OTHERS[model])
    with pytest.raises(ValueError, match=rf"ckpt holds {model}; of TensorFlow 2's models kbert reads BERT only") as caught:
        kbert.from_preset(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_saved_model_of_something_else_is_refused(tmp_path):
    module = tf.Module()
    module.weight = tf.Variable([1.0], name="dense/kernel")
    tf.saved_model.save(module, str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"other/variables/variables holds no BERT .*it has dense/kernel") as caught:
        kbert.from_preset(tmp_path / "other")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_an_optimizer_alone_is_refused(tmp_path):
    tf.train.Checkpoint(optimizer=[tf.Variable([1.0], name="Adam/m/dense")]).write(str(tmp_path / "ckpt"))
    with pytest.raises(ValueError, match="ckpt holds no BERT .*an optimizer's variables only"):
        kbert.from_preset(tmp_path)


@pytest.mark.parametrize("name", ["garden_v1_tokens", "garden_v2_classifier"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_cut_index_is_refused_by_name(name, kept, tmp_path):
    folder = shutil.copytree(FILES / name, tmp_path / "cut")
    index = next(folder.glob("*.index"))
    index.chmod(0o644)
    index.write_bytes(index.read_bytes()[: int(kept * index.stat().st_size)])
    with pytest.raises((ValueError, OSError), match="ckpt") as caught:
        kbert.BertEncoder.from_preset(folder)
    assert "\n" not in str(caught.value)


def test_a_saved_model_without_its_variables_is_refused(tmp_path):
    folder = shutil.copytree(FILES / "tfhub_v1", tmp_path / "part")
    shutil.rmtree(folder / "variables")
    with pytest.raises(FileNotFoundError, match="no variables/variables.index; copy the whole folder"):
        kbert.BertEncoder.from_preset(folder)
