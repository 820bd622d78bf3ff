"""The encoder: the reference's vectors, two views that agree, padding that has no influence."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors import safe_open

import kbert
from kbert.encoders.layers import Dropout
from tests.conftest import TINY

# transformers on torch, float32, all-MiniLM-L6-v2: the first six values of the last layer at [CLS].
REFERENCE = {
    "The Bank of England raised interest rates on Thursday.": [0.06005, -0.34975, -0.34169, -0.22408, 0.03533, -0.29764],
    "Élan vital: naïve café — déjà vu! 你好，世界 🙂": [0.07411, 0.00241, 0.19523, -0.16071, 0.42268, -0.08111],
    "a": [-0.16148, -0.07657, -0.04694, 0.21655, -0.20397, 0.09689],
}


def random_batch(batch=5, length=12, seed=0):
    """Packed inputs with texts of different lengths."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, length + 1, batch)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int32)
    return {
        "token_ids": random.integers(5, TINY["vocab_size"], (batch, length)).astype(np.int32) * mask,
        "segment_ids": random.integers(0, 2, (batch, length)).astype(np.int32) * mask,
        "padding_mask": mask,
    }


def both_views(encoder):
    for real_tokens in (True, False):
        encoder.real_tokens = real_tokens
        yield encoder


def test_real_checkpoint_gives_the_references_vectors(minilm):
    encoder = kbert.BertEncoder.from_preset(minilm)
    packed = kbert.TextPreprocessor(kbert.WordPieceTokenizer.from_preset(minilm))(list(REFERENCE))
    for view in both_views(encoder):
        vectors = view(packed)["sequence_output"][:, 0, :6].numpy()
        np.testing.assert_allclose(vectors, list(REFERENCE.values()), atol=1e-4)


@pytest.mark.slow
def test_real_checkpoint_on_texts_of_every_length(minilm):
    with safe_open(Path(__file__).parents[1] / "fixtures" / "minilm.safetensors", framework="numpy") as file:
        golden = {name: file.get_tensor(name) for name in file.keys()}
    lengths = golden["lengths"]
    mask = (np.arange(512) < lengths[:, None]).astype(np.int32)
    ids = np.zeros_like(mask)
    ids[mask == 1] = golden["ids"]
    encoder = kbert.BertEncoder.from_preset(minilm)
    for start in range(0, 64, 4):
        rows = slice(start, start + 4)
        width = lengths[rows].max()
        vectors = encoder({"token_ids": ids[rows, :width], "padding_mask": mask[rows, :width]})["sequence_output"].numpy()
        np.testing.assert_allclose(vectors[:, 0], golden["first"][rows], atol=1e-4)
        np.testing.assert_allclose(vectors[np.arange(4), lengths[rows] - 1], golden["last"][rows], atol=1e-4)


def test_both_views_give_the_same_outputs(encoder):
    batch = random_batch()
    mask = batch["padding_mask"][..., None]
    real, padded = (view(batch, output_hidden_states=True, output_attentions=True) for view in both_views(encoder))
    np.testing.assert_allclose(real["pooled_output"], padded["pooled_output"], atol=1e-6)
    for a, b in zip(real["hidden_states"], padded["hidden_states"]):
        np.testing.assert_allclose(a * mask, b * mask, atol=1e-5)
    for a, b in zip(real["attentions"], padded["attentions"]):
        rows = mask[:, None]  # the weights of padded queries mean nothing
        np.testing.assert_allclose(a * rows, b * rows, atol=1e-6)
    assert len(real["hidden_states"]) == TINY["num_hidden_layers"] + 1
    assert np.abs(real["sequence_output"] * (1 - mask)).max() == 0


def test_both_views_give_the_same_gradients(encoder):
    batch = random_batch()
    mask = tf.cast(batch["padding_mask"], tf.float32)[..., None]
    gradients = []
    for view in both_views(encoder):
        with tf.GradientTape() as tape:
            outputs = view(batch)
            weights = tf.random.stateless_normal(outputs["sequence_output"].shape, seed=(1, 2))
            loss = tf.reduce_sum(outputs["sequence_output"] * weights * mask) + tf.reduce_sum(outputs["pooled_output"])
        gradients.append([tf.convert_to_tensor(g) for g in tape.gradient(loss, [v.value for v in view.trainable_variables])])
    for a, b in zip(*gradients):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1, float(tf.reduce_max(tf.abs(b)))))


@pytest.mark.parametrize("real_tokens", [True, False])
def test_first_tokens_alone_are_the_same_in_value_and_gradient(encoder, real_tokens):
    encoder.real_tokens = real_tokens
    seen = []
    for only_first in (False, True):
        with tf.GradientTape() as tape:
            outputs = encoder(random_batch(), only_first=only_first)
            loss = tf.reduce_sum(outputs["pooled_output"] ** 2) + tf.reduce_sum(outputs["first_output"] ** 3)
        gradients = tape.gradient(loss, [v.value for v in encoder.trainable_variables])
        seen.append([outputs["first_output"], outputs["pooled_output"], *map(tf.convert_to_tensor, gradients)])
    assert "sequence_output" not in outputs
    for a, b in zip(*seen):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1, float(tf.reduce_max(tf.abs(b)))))
    with pytest.raises(ValueError, match="only_first"):
        encoder(random_batch(), only_first=True, output_hidden_states=True)


@pytest.mark.parametrize("real_tokens", [True, False])
def test_chosen_tokens_alone_are_the_same_in_value_and_gradient(encoder, real_tokens):
    encoder.real_tokens = real_tokens
    batch = random_batch()
    lengths = batch["padding_mask"].sum(1)
    positions = np.stack([np.arange(3) % length for length in lengths])  # the first token, and one of them twice
    seen = []
    for only in (False, True):
        with tf.GradientTape() as tape:
            outputs = encoder(batch, **({"only_at": positions} if only else {}))
            at = outputs["output_at"] if only else tf.gather(outputs["sequence_output"], positions, batch_dims=1)
            loss = tf.reduce_sum(outputs["pooled_output"] ** 2) + tf.reduce_sum(at**3)
        gradients = tape.gradient(loss, [v.value for v in encoder.trainable_variables])
        seen.append([at, outputs["pooled_output"], *map(tf.convert_to_tensor, gradients)])
    assert "sequence_output" not in outputs
    for a, b in zip(*seen):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1, float(tf.reduce_max(tf.abs(b)))))


@pytest.mark.parametrize("shape", [(64, 4, 33, 33), (101, 7), (1,)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_drops_its_share_and_keeps_the_mean(shape, dtype):
    layer = Dropout(0.1, seed=3, dtype=dtype)
    ones = tf.ones(shape, dtype)
    assert layer(ones) is ones
    drawn, again = (layer(ones, training=True) for _ in range(2))
    assert drawn.shape == shape and drawn.dtype == dtype
    values = drawn.numpy().astype("float32").ravel()
    np.testing.assert_allclose(values[values > 0], 1 / 0.9, rtol=5e-3 if dtype == "bfloat16" else 1e-4)
    if len(values) > 1000:
        assert abs((values == 0).mean() - 0.1) < 4 * np.sqrt(0.09 / len(values))  # four standard deviations
        both = (values == 0) & (again.numpy().astype("float32").ravel() == 0)
        assert abs(both.mean() - 0.01) < 4 * np.sqrt(0.01 / len(values))  # another call, other draws
        neighbours = (values[1:] == 0) & (values[:-1] == 0)
        assert abs(neighbours.mean() - 0.01) < 4 * np.sqrt(0.01 / len(values))


@pytest.mark.parametrize("real_tokens", [True, False])
def test_padding_and_what_stands_there_change_nothing(encoder, real_tokens):
    encoder.real_tokens = real_tokens
    batch = random_batch(batch=3, length=8)
    before = encoder(batch)
    longer = {name: np.pad(values, ((0, 0), (0, 5))) for name, values in batch.items()}
    longer["token_ids"] = np.where(longer["padding_mask"] == 1, longer["token_ids"], 9)
    after = encoder(longer)
    mask = batch["padding_mask"][..., None]
    np.testing.assert_allclose(after["sequence_output"][:, :8] * mask, before["sequence_output"] * mask, atol=1e-6)
    np.testing.assert_allclose(after["pooled_output"], before["pooled_output"], atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, TINY["max_position_embeddings"]])
def test_any_length_up_to_the_most(encoder, length):
    ids = np.full((2, length), 6, np.int32)
    assert encoder({"token_ids": ids})["sequence_output"].shape == (2, length, TINY["hidden_size"])


def test_more_positions_than_there_are_is_an_error(encoder):
    with pytest.raises(ValueError, match="25 positions long, the encoder has 24"):
        encoder({"token_ids": np.ones((1, 25), np.int32)})


def test_input_without_token_ids_is_an_error(encoder):
    with pytest.raises(ValueError, match="token_ids, segment_ids, padding_mask"):
        encoder({"input_ids": np.ones((1, 2), np.int32)})


def test_dropout_acts_in_training_only(encoder):
    batch = random_batch()
    still = encoder(batch)["pooled_output"]
    np.testing.assert_array_equal(still, encoder(batch)["pooled_output"])
    assert np.abs(still - encoder(batch, training=True)["pooled_output"]).max() > 1e-3


def test_config_round_trip_gives_the_same_architecture(encoder):
    again = kbert.BertEncoder.from_config(encoder.get_config())
    again.set_weights(encoder.get_weights())
    np.testing.assert_array_equal(encoder(random_batch())["pooled_output"], again(random_batch())["pooled_output"])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_float32_weights_and_close_values(encoder, policy):
    mixed = kbert.BertEncoder(encoder.config, dtype=policy)
    mixed.set_weights(encoder.get_weights())
    outputs = mixed(random_batch())
    assert {str(v.dtype) for v in mixed.trainable_variables} == {"float32"}
    assert outputs["pooled_output"].dtype.name == policy.removeprefix("mixed_")
    expected = encoder(random_batch())["pooled_output"]
    np.testing.assert_allclose(tf.cast(outputs["pooled_output"], tf.float32), expected, atol=0.05)


def test_xla_gives_the_same_on_the_padded_view(encoder):
    encoder.real_tokens = False
    compiled = tf.function(lambda batch: encoder(batch)["pooled_output"], jit_compile=True)
    batch = {name: tf.constant(values) for name, values in random_batch().items()}
    np.testing.assert_allclose(compiled(batch), encoder(batch)["pooled_output"], atol=1e-5)


def test_it_is_a_layer_of_any_keras_model(encoder):
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids", "padding_mask")}
    outputs = keras.layers.Dense(3)(encoder(inputs)["pooled_output"])
    model = keras.Model(inputs, outputs)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(random_batch(), np.zeros(5, np.int32), verbose=0)
    assert model.predict(random_batch(), verbose=0).shape == (5, 3)


@pytest.mark.parametrize("rows", ["nothing", "some without a token", "padded on the left", "holes"])
def test_both_views_give_the_same_for_every_mask(encoder, rows):
    batch = random_batch(batch=3, length=6)
    masks = {
        "nothing": [[0] * 6] * 3,
        "some without a token": [[0] * 6, [1, 1, 1, 0, 0, 0], [0] * 6],
        "padded on the left": [[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1]],
        "holes": [[1, 0, 1, 1, 0, 1], [1] * 6, [0, 1, 0, 1, 0, 0]],
    }
    mask = batch["padding_mask"] = np.array(masks[rows], np.int32)
    found = {}
    for real_tokens in (True, False):
        with tf.GradientTape() as tape:
            outputs = encoder(batch, real_tokens=real_tokens)
            at_real = outputs["sequence_output"] * mask[..., None]
            loss = tf.reduce_sum(outputs["pooled_output"] ** 2) + tf.reduce_sum(at_real**2)
        only = encoder(batch, real_tokens=real_tokens, only_first=True)["pooled_output"]
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, encoder.trainable_variables)]
        found[real_tokens] = [outputs["pooled_output"], only, at_real, *gradients]
    for real, padded in zip(*found.values()):
        assert np.isfinite(real).all()
        np.testing.assert_allclose(real, padded, atol=2e-4, rtol=1e-3)
