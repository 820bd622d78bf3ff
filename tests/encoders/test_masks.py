"""Whatever the mask is, the view of the real tokens gives the vectors and the gradients of the padded view."""

import numpy as np
import pytest
import tensorflow as tf

import kbert
from tests.conftest import TINY

MOBILE = dict(
    vocab_size=30, hidden_size=16, intra_bottleneck_size=8, embedding_size=8, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=16, max_position_embeddings=24, initializer_range=0.5, num_feedforward_networks=2,
)  # fmt: skip
ENCODERS = {
    "bert": lambda **options: kbert.BertEncoder(kbert.BertConfig(**TINY), **options),
    "mobilebert": lambda **options: kbert.MobileBertEncoder(kbert.MobileBertConfig(**MOBILE), **options),
}


def masks(draw, batch=48, length=9):
    """Returns masks of every kind: padding on the right and the left, holes, a first token that is masked, nothing at all."""
    mask = draw.integers(0, 2, (batch, length))
    mask[:8] = np.arange(length) < draw.integers(1, length, (8, 1))  # on the right
    mask[8:16] = np.arange(length) >= draw.integers(1, length, (8, 1))  # on the left
    mask[16:18] = 0  # nothing but padding
    mask[18:24, 0] = 0
    mask[24] = np.arange(length) == length - 1
    mask[25] = 1
    return mask[draw.permutation(batch)].astype(np.int32)


@pytest.fixture(scope="module", params=ENCODERS)
def encoders(request):
    """Two encoders with the same weights: on the real tokens, and padded."""
    real, padded = (ENCODERS[request.param](real_tokens=real_tokens) for real_tokens in (True, False))
    padded.set_weights(real.get_weights())
    return real, padded


def test_random_masks_give_the_same_vectors_and_gradients(encoders):
    draw = np.random.default_rng(0)
    mask = masks(draw)
    inputs = {"token_ids": draw.integers(5, 30, mask.shape).astype(np.int32), "padding_mask": mask}
    upstream, is_real = draw.normal(size=(len(mask), 16)).astype(np.float32), mask[:, :, None].astype(np.float32)
    computed = []
    for encoder in encoders:
        with tf.GradientTape() as tape:
            outputs = encoder(inputs)
            pooled, tokens = outputs["pooled_output"], outputs["sequence_output"]
            loss = tf.reduce_sum(pooled * upstream) + tf.reduce_sum(tokens**3 * is_real)
        gradients = [np.asarray(tf.convert_to_tensor(g)) for g in tape.gradient(loss, encoder.trainable_variables)]
        first = encoder(inputs, only_first=True)["pooled_output"]
        computed.append((pooled.numpy(), (tokens * is_real).numpy(), first.numpy(), gradients))
    (pooled, tokens, first, gradients), expected = computed
    np.testing.assert_allclose(pooled, expected[0], atol=2e-5)
    np.testing.assert_allclose(tokens, expected[1], atol=2e-5)
    np.testing.assert_allclose(first, expected[2], atol=2e-5)
    for gradient, of_padded in zip(gradients, expected[3]):
        np.testing.assert_allclose(gradient, of_padded, atol=5e-4, rtol=1e-4)


def test_a_batch_of_nothing_but_padding_has_vectors(encoders):
    inputs = {"token_ids": np.full((2, 5), 7, np.int32), "padding_mask": np.zeros((2, 5), np.int32)}
    outputs, expected = (encoder(inputs) for encoder in encoders)
    np.testing.assert_allclose(outputs["pooled_output"], expected["pooled_output"], atol=2e-5)
