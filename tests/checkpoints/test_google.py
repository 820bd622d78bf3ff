"""Google's TF1 folders: what others wrote opens, what kbert writes is the same to the bit."""

import numpy as np
import pytest
import tensorflow as tf

import kbert
from tests.conftest import TINY, VOCABULARY


@pytest.fixture
def folder(classifier, tmp_path):
    classifier.save_to_preset(tmp_path / "google", layout="google")
    return tmp_path / "google"


def rewrite(folder, change):
    """Writes the checkpoint again with TF1's own saver, as Google's scripts did."""
    reader = tf.train.load_checkpoint(str(folder / "bert_model.ckpt"))
    tensors = change({name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()})
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(name, initializer=value) for name, value in tensors.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables).save(session, str(folder / "bert_model.ckpt"), write_meta_graph=False)


def test_names_and_shapes_are_googles(folder):
    shapes = tf.train.load_checkpoint(str(folder / "bert_model.ckpt")).get_variable_to_shape_map()
    width = TINY["hidden_size"]
    assert shapes["bert/embeddings/word_embeddings"] == [TINY["vocab_size"], width]
    assert shapes["bert/encoder/layer_1/attention/self/query/kernel"] == [width, width]
    assert shapes["bert/encoder/layer_0/intermediate/dense/kernel"] == [width, TINY["intermediate_size"]]
    assert shapes["bert/pooler/dense/bias"] == [width] and shapes["output_weights"] == [2, width]
    assert len(shapes) == 5 + 2 * 16 + 2 + 2
    assert {path.name for path in folder.iterdir()} == {
        "bert_config.json",
        "vocab.txt",
        "README.md",
        "kbert.json",
        "bert_model.ckpt.index",
        "bert_model.ckpt.data-00000-of-00001",
    }


def test_round_trip_is_bit_equal(classifier, folder):
    again = kbert.TextClassifier.from_preset(folder, labels=["bad", "good"])
    for a, b in zip(classifier.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert again.tokenizer.vocabulary == VOCABULARY and again.tokenizer.lowercase


def test_a_pretraining_checkpoint_with_optimizer_slots_opens(classifier, folder):
    def pretraining(tensors):
        tensors = {name: value for name, value in tensors.items() if not name.startswith("output_")}
        slots = {f"{name}/adam_{slot}": value for name, value in tensors.items() for slot in "mv"}
        heads = {
            "cls/predictions/output_bias": np.zeros(3, np.float32),
            "cls/seq_relationship/output_bias": np.zeros(2, np.float32),
        }
        return {**tensors, **slots, **heads, "global_step": np.int64(7)}

    rewrite(folder, pretraining)
    for a, b in zip(classifier.encoder.get_weights(), kbert.BertEncoder.from_preset(folder).get_weights()):
        np.testing.assert_array_equal(a, b)
    with pytest.warns(UserWarning, match="classification head"):
        kbert.TextClassifier.from_preset(folder, labels=["bad", "good"])


def test_case_is_told_from_the_vocabulary(folder):
    (folder / "vocab.txt").write_text("\n".join([*VOCABULARY[:-1], "The"]) + "\n", encoding="utf-8")
    (folder / "kbert.json").unlink()  # as in a folder of Google's own
    assert kbert.WordPieceTokenizer.from_preset(folder).lowercase is False


def test_what_is_wrong_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match="does not have: bert/x|does not have: x"):
        rewrite(folder, lambda tensors: {**tensors, "bert/x": np.zeros(1, np.float32)})
        kbert.BertEncoder.from_preset(folder)
    data = folder / "bert_model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"bert_model.ckpt"):
        kbert.BertEncoder.from_preset(folder)
    (folder / "bert_model.ckpt.index").unlink()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint such as bert_model.ckpt.index"):
        kbert.BertEncoder.from_preset(folder)


def test_distilbert_and_other_layouts_are_refused(classifier, tokenizer, tmp_path):
    config = kbert.BertConfig(**TINY, type_vocab_size=0, add_pooling_layer=False)
    task = kbert.TextClassifier(kbert.BertEncoder(config), kbert.TextPreprocessor(tokenizer, 24), labels=["a", "b"])
    with pytest.raises(ValueError, match="no place for DistilBERT"):
        task.save_to_preset(tmp_path / "x", layout="google")
    with pytest.raises(ValueError, match="one of huggingface, google, keras_hub, got 'onnx'"):
        classifier.save_to_preset(tmp_path / "x", layout="onnx")
