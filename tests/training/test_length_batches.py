"""Batches: every row once an epoch, new order each epoch, similar lengths together."""

import numpy as np
import pytest
import tensorflow as tf

from kbert.training.length_batches import batches, sorted_batches

LENGTHS = np.random.default_rng(0).integers(1, 40, 500)
IDS = tf.RaggedTensor.from_row_lengths(np.repeat(np.arange(500), LENGTHS).astype(np.int32), LENGTHS)


def epoch(dataset):
    """The rows of each batch, told by their ids."""
    return [packed.numpy()[:, 0].tolist() for packed, _ in dataset]


def dataset(shuffle=True, batch_size=7, seed=1):
    return batches((IDS,), (np.arange(500),), lambda ids: ids.to_tensor(-1), batch_size, shuffle, seed)


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_once_with_its_own_target(shuffle):
    data = dataset(shuffle)
    rows = [int(row) for packed, targets in data for row in packed.numpy()[:, 0]]
    targets = [int(target) for _, targets in data for target in targets] if not shuffle else None
    assert sorted(rows) == list(range(500))
    assert len(epoch(data)) == int(data.cardinality()) == 72
    if not shuffle:
        assert rows == targets == list(range(500))
    for packed, target in data:
        np.testing.assert_array_equal(packed[:, 0], target)


def test_each_epoch_has_a_new_order_and_a_seed_repeats_it():
    data = dataset()
    first, second = epoch(data), epoch(data)
    assert first != second
    again = dataset()
    assert epoch(again) == first and epoch(again) == second
    assert epoch(dataset(seed=2)) != first


def test_batches_hold_texts_of_similar_length():
    padding = sum(int(tf.reduce_sum(tf.cast(packed == -1, tf.int32))) for packed, _ in dataset())
    plain = sum(int(tf.reduce_sum(tf.cast(packed == -1, tf.int32))) for packed, _ in dataset(shuffle=False))
    assert padding < plain / 5


def test_batches_are_not_in_order_of_length():
    sizes = [packed.shape[1] for packed, _ in dataset()][:20]
    assert sizes != sorted(sizes) and sizes != sorted(sizes, reverse=True)


def test_sorted_batches_keep_to_their_budget():
    groups = sorted_batches(LENGTHS, max_tokens=120, max_rows=10)
    assert sorted(np.concatenate(groups)) == list(range(500))
    assert all(len(rows) * LENGTHS[rows].max() <= 120 and len(rows) <= 10 for rows in groups)
    assert [rows.tolist() for rows in sorted_batches([500], max_tokens=120)] == [[0]]


def test_batches_by_tokens_hold_each_text_once_and_stay_under_the_limit():
    from kbert.training.length_batches import token_batches

    random = np.random.default_rng(0)
    lengths = random.integers(1, 60, 500)
    orders = []
    for _ in range(2):
        groups = token_batches(lengths, 200, 640, random)
        assert sorted(np.concatenate(groups).tolist()) == list(range(500))
        assert max(lengths[group].sum() for group in groups) <= 200
        orders.append(np.concatenate(groups).tolist())
        assert len(groups) == len(token_batches(lengths, 200, 640))
    assert orders[0] != orders[1]
    spread = np.mean([np.ptp(lengths[group]) for group in groups])
    assert spread < 10  # similar lengths stand together
    assert np.concatenate(token_batches(lengths, 200, 640)).tolist() == list(range(500))
