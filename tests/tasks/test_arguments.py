"""Every argument of every verb acts, or is refused: a table, walked by kind of input.

`FIT` has a line for each argument and a cell for each kind of input. A cell is a function that checks the effect, or a string
that the message of the refusal has to hold. A cell None takes the same path as a cell to its left. A new argument has to be
placed here: the table's arguments are compared with the signatures.
"""

import inspect
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.tasks.fit_arguments import OF_VALIDATION
from kbert.training import keras_internals
from tests.conftest import TINY, VOCABULARY, tiny_tokenizer

TEXTS = ["good day", "bad day", "the film", "so bad", "a cat", "the dog ran", "so good", "night"]
LABELS = ["good", "bad"] * 4
INDICES = np.arange(8) % 2
OPTIONS = {"TextClassifier": {"labels": ["good", "bad"]}, "TokenClassifier": {"labels": ["O", "B-x", "I-x"]}}
CLASSES = ["TextClassifier", "TokenClassifier", "QuestionAnswerer", "MaskedLM", "TextEmbedder", "Pretrainer"]


def built(kind="TextClassifier", **options):
    small = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 16}
    small.update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    config = kbert.BertConfig(**{**TINY, **small})
    preprocessor = kbert.TextPreprocessor(tiny_tokenizer(), 16)
    return getattr(kbert, kind)(kbert.BertEncoder(config), preprocessor, **{**OPTIONS.get(kind, {}), **options})


@pytest.fixture(scope="module")
def task():
    """One task for all cells, whose steps are small, so that a cell sees the argument and not the training before."""
    keras.utils.set_random_seed(7)
    task = built()
    task.compile("sgd", learning_rate=1e-9, run_eagerly=True)
    return task


@pytest.fixture(scope="module")
def packed(task):
    return {name: value.numpy() for name, value in task.preprocessor(TEXTS).items()}


KINDS = ("texts", "stream", "packed", "batches")  # the columns of the table


def given(kind, packed):
    """What `fit` is given as x and y."""
    if kind == "texts":
        return TEXTS, LABELS
    if kind == "stream":
        return (tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)),)
    if kind == "packed":
        return packed, INDICES
    return (tf.data.Dataset.from_tensor_slices((packed, INDICES)).batch(4),)


class Seen(keras.callbacks.Callback):
    """Counts the batches of a fit and notes their losses."""

    def __init__(self):
        super().__init__()
        self.losses, self.val_batches, self.epochs, self.rates = [], 0, [], []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])

    def on_test_batch_end(self, batch, logs=None):
        self.val_batches += 1

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append((epoch, logs))


def fitted(task, data, **options):
    seen = Seen()
    task.fit(*data, **{"verbose": 0, "callbacks": [seen], **options})
    return seen


def counts(batches, **options):
    """A cell: so many batches are trained on."""

    def check(task, data, tmp_path):
        assert len(fitted(task, data, **options).losses) == batches

    return check


def loses_nothing(**options):
    """A cell: with all weights 0, the loss is 0."""

    def check(task, data, tmp_path):
        assert max(fitted(task, data, **options).losses) == 0 < fitted(task, data).losses[-1]

    return check


def validates(batches, after=(0,), **options):
    """A cell: so many batches are validated on, after these epochs."""

    def check(task, data, tmp_path):
        seen = fitted(task, data, **options)
        assert seen.val_batches == batches
        assert [epoch for epoch, logs in seen.epochs if "val_loss" in logs] == list(after)

    return check


def is_in_order(task, data, tmp_path):
    """A cell: without shuffling the batches are the same in each fit, and otherwise they are not."""
    runs = []
    for shuffle in (False, False, True):
        keras.utils.set_random_seed(len(runs))
        runs.append(fitted(task, data, batch_size=4, shuffle=shuffle).losses)
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-6)
    assert not np.allclose(runs[0], runs[2], rtol=1e-6)


def keeps_a_state(task, data, tmp_path):
    kept = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(list(tmp_path.iterdir())))
    task.fit(*data, epochs=2, resume=tmp_path, resume_every=0, callbacks=[note], verbose=0)
    assert kept[1] and not list(tmp_path.iterdir())


def sets_the_schedule(task, data, tmp_path):
    other = built()
    other.compile(learning_rate=1e-3, run_eagerly=True)
    other.fit(*data, total_steps=100, verbose=0)
    assert int(keras_internals.learning_rate_schedule(other.optimizer).get_config()["total_steps"]) == 100
    with pytest.raises(ValueError, match="total_steps.*constant rate"):
        task.fit(*data, total_steps=100, verbose=0)


def prints(task, data, tmp_path, capsys):
    task.fit(*data, verbose=2)
    assert "loss" in capsys.readouterr().out
    task.fit(*data, verbose=0)
    assert not capsys.readouterr().out


def needs_targets(task, data, tmp_path):
    with pytest.raises((ValueError, TypeError)):
        task.fit(data[0], verbose=0)
    fitted(task, data)


ZERO = {"class_weight": {"good": 0.0, "bad": 0.0}}
HELD_OUT = {"validation_data": (TEXTS[:5], LABELS[:5])}
NOT_HERE = "holds its own"
# argument: (value to be refused with, cells of texts, stream, packed, batches)
FIT = {
    "x": (None, "texts", "texts", "texts", "texts"),
    "y": (LABELS, needs_targets, "y is given beside", needs_targets, NOT_HERE),
    "batch_size": (2, counts(4, batch_size=2), counts(4, batch_size=2), counts(4, batch_size=2), NOT_HERE),
    "epochs": (2, counts(2, epochs=2), counts(2, epochs=2), None, counts(4, epochs=2)),
    "verbose": (0, prints, None, prints, None),
    "callbacks": (None, counts(1), None, counts(1), counts(2)),
    "validation_split": (
        0.5, validates(1, validation_split=0.5), "validation_split is for texts in memory", validates(1, validation_split=0.5),
        NOT_HERE,
    ),
    "validation_data": (None, *[validates(1, **HELD_OUT)] * 4),
    "shuffle": (False, is_in_order, is_in_order, is_in_order, counts(2, shuffle=False)),
    "class_weight": (None, loses_nothing(**ZERO), None, *[loses_nothing(**ZERO)] * 2),
    "sample_weight": (
        np.ones(8), loses_nothing(sample_weight=np.zeros(8)), "sample_weight is given beside",
        loses_nothing(sample_weight=np.zeros(8)), NOT_HERE,
    ),
    "initial_epoch": (1, *[counts(1, epochs=2, initial_epoch=1)] * 3, counts(2, epochs=2, initial_epoch=1)),
    "steps_per_epoch": (
        3, counts(3, steps_per_epoch=3), counts(3, steps_per_epoch=3), "steps_per_epoch is for", counts(3, steps_per_epoch=3),
    ),
    "max_tokens": (
        12, counts(3, max_tokens=9), counts(3, max_tokens=9), "max_tokens makes batches of texts", "max_tokens makes batches",
    ),
    "resume": ("folder", keeps_a_state, keeps_a_state, "resume is for", keeps_a_state),
    "resume_every": (10, *["resume_every is of a state"] * 4),
    "total_steps": (9, sets_the_schedule, None, sets_the_schedule, None),
    "validation_steps": (1, *[validates(1, validation_steps=1, validation_batch_size=2, **HELD_OUT), None] * 2),
    "validation_batch_size": (2, *[validates(3, validation_batch_size=2, **HELD_OUT), None] * 2),
    "validation_freq": (2, *[validates(1, after=(1,), epochs=2, validation_freq=2, **HELD_OUT), None] * 2),
}  # fmt: skip


def test_the_table_has_every_argument_of_fit():
    names = [name for name in inspect.signature(kbert.TextClassifier.fit).parameters if name not in ("self", "kwargs")]
    assert sorted([*names, *OF_VALIDATION]) == sorted(FIT)
    for kind in CLASSES:  # a task with a fit of its own has no argument that is not here or in its own test
        own = set(inspect.signature(getattr(kbert, kind).fit).parameters) - {"self", "kwargs"}
        assert own - set(FIT) <= {"phases", "objective", "whole_words", "mask_rate"}, kind


@pytest.mark.parametrize(
    ("argument", "kind"),
    [(argument, kind) for argument in FIT for kind, cell in zip(KINDS, FIT[argument][1:]) if cell is not None],
)
def test_an_argument_of_fit_acts_or_is_refused(argument, kind, task, packed, tmp_path, capsys):
    value, *cells = FIT[argument]
    cell, data = cells[KINDS.index(kind)], given(kind, packed)
    if isinstance(cell, str):
        arguments = dict(zip(("x", "y"), data))
        value = str(tmp_path) if isinstance(value, str) and value == "folder" else value
        with pytest.raises((ValueError, TypeError), match=cell):
            task.fit(**{**arguments, argument: value}, verbose=0)
    elif cell is prints:
        cell(task, data, tmp_path, capsys)
    else:
        cell(task, data, tmp_path)


# Bounds: what no number of this kind can be

NO_COUNT = (0, -1, math.nan, True, "2", 1.5)
NO_SHARE = (-0.1, 1.0, math.nan, True, "0.5")


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        *((name, NO_COUNT) for name in ("batch_size", "epochs", "steps_per_epoch", "max_tokens", "total_steps")),
        *((name, NO_COUNT) for name in OF_VALIDATION),
        ("initial_epoch", (-1, math.nan, True, "0", 0.5, 1)),
        ("validation_split", NO_SHARE),
        ("resume_every", (-1, math.nan, True, "2")),
        ("verbose", (-1, 3, "loud", None)),
        ("shuffle", (None, "batch", 1)),
        ("class_weight", ("even", [1.0, 2.0], {"good": math.nan}, {"good": -1.0})),
        ("sample_weight", ([math.nan] * 8, [-1.0] * 8)),
        ("callbacks", ("early", [3])),
    ],
)
def test_what_fit_cannot_take_is_refused_before_any_step(argument, wrong, task, packed):
    steps = keras_internals.batches_seen(task.optimizer) if task.optimizer.built else 0
    validation = HELD_OUT if argument in OF_VALIDATION else {}
    for value in wrong:
        for kind in ("texts", "packed"):
            with pytest.raises((ValueError, TypeError), match=argument.rstrip("s").split("_")[0]):
                task.fit(*given(kind, packed), **{"verbose": 0, argument: value}, **validation)
    assert not task.optimizer.built or keras_internals.batches_seen(task.optimizer) == steps


def test_arguments_that_nothing_has_are_named(task):
    for verb in (task.fit, task.evaluate):
        with pytest.raises(TypeError, match="workers"):
            verb(TEXTS, LABELS, workers=2)
    with pytest.raises(TypeError, match="workers"):
        task.predict(TEXTS, workers=2)
    with pytest.raises(ValueError, match="validation_steps is of validation data"):
        task.fit(TEXTS, LABELS, validation_steps=1, verbose=0)


# evaluate and predict


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_of_evaluate_act_or_are_refused(kind, task, packed, capsys):
    names = set(inspect.signature(kbert.TextClassifier.evaluate).parameters) - {"self", "kwargs"}
    assert names == {"x", "y", "batch_size", "verbose", "sample_weight", "return_dict"}
    data, batches = given(kind, packed), 2 if kind == "batches" else 1

    def measured(**options):
        seen = Seen()
        return task.evaluate(*data, **{"verbose": 0, "callbacks": [seen], "return_dict": True, **options}), seen.val_batches

    figures, count = measured()
    assert count == batches and list(figures) == ["loss", "accuracy", "macro_f1"]
    assert task.evaluate(*data, verbose=0) == pytest.approx(list(figures.values()))  # return_dict
    task.evaluate(*data, verbose=2)
    assert "loss" in capsys.readouterr().out
    assert measured(steps=1)[1] == 1
    if kind == "batches":
        for argument in ({"batch_size": 2}, {"y": INDICES}, {"sample_weight": np.ones(8)}):
            with pytest.raises(ValueError, match=NOT_HERE):
                task.evaluate(data[0], **argument)
    else:
        assert measured(batch_size=2)[1] == 4
    if kind == "stream":
        for argument in ({"y": LABELS}, {"sample_weight": np.ones(8)}):
            with pytest.raises(ValueError, match="is given beside"):
                task.evaluate(data[0], **argument)
    for argument in ({"batch_size": 0}, {"steps": 0}, {"steps": 1.5}, {"verbose": "loud"}):
        with pytest.raises(ValueError, match=next(iter(argument))):
            task.evaluate(*data, **argument)
    with pytest.raises(TypeError, match="got None"):
        task.evaluate(None)


def test_weights_count_rows_as_often_as_they_say(task, packed):
    weights = np.array([2, 0, 1, 1, 0, 3, 1, 1])
    repeated = np.repeat(np.arange(8), weights)
    for inputs, targets in ((TEXTS, LABELS), (packed, INDICES)):
        weighted = task.evaluate(inputs, targets, sample_weight=weights, verbose=0, return_dict=True)
        other = task.evaluate([TEXTS[n] for n in repeated], [LABELS[n] for n in repeated], verbose=0, return_dict=True)
        for name in ("accuracy", "macro_f1"):
            assert weighted[name] == pytest.approx(other[name]), name


def test_arguments_of_predict_act_or_are_refused(task, packed):
    names = set(inspect.signature(kbert.TextClassifier.predict).parameters) - {"self", "kwargs"}
    assert names == {"x", "batch_size", "verbose"}
    batches = []
    counted = keras.callbacks.LambdaCallback(on_predict_batch_end=lambda batch, logs: batches.append(batch))
    expected = task.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(task.predict(packed, batch_size=2, verbose=0, callbacks=[counted]), expected, atol=1e-5)
    assert len(batches) == 4
    dataset = tf.data.Dataset.from_tensor_slices(packed).batch(4)
    assert task.predict(dataset, steps=1, verbose=0).shape == (4, 2)
    for inputs in (TEXTS, packed):
        for wrong in NO_COUNT:
            with pytest.raises(ValueError, match="batch_size"):
                task.predict(inputs, batch_size=wrong, verbose=0)
    with pytest.raises(ValueError, match=NOT_HERE):
        task.predict(dataset, batch_size=2)
    with pytest.raises(TypeError, match="steps with packed"):
        task.predict(TEXTS, steps=1)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("token_ids", 2**32 + 5, r"token_ids\[0, 1\] is 4294967301.*the encoder embeds"),
        ("token_ids", len(VOCABULARY), "the encoder embeds"),
        ("token_ids", -1, r"token_ids\[0, 1\] is -1"),
        ("segment_ids", 2, "segment"),
        ("padding_mask", 2, "padding"),
        ("mask_positions", 99, "positions"),
    ],
)
def test_packed_numbers_that_would_wrap_are_refused(task, packed, name, value, message):
    wrong = np.array(packed.get(name, np.ones((8, 2), int)), np.int64)
    wrong[0, 1] = value
    inputs = {**packed, name: wrong}
    for verb in (lambda: task.fit(inputs, INDICES), lambda: task.evaluate(inputs, INDICES), lambda: task.predict(inputs)):
        with pytest.raises(ValueError, match=message):
            verb()
    if name == "token_ids" and value > 2**31:  # in a graph, too, no other token is read
        with pytest.raises(tf.errors.InvalidArgumentError, match="indices"):
            task(inputs)


@pytest.mark.parametrize("weight", [math.nan, -1.0])
def test_weights_in_batches_are_refused(task, packed, weight):
    data = tf.data.Dataset.from_tensor_slices((packed, INDICES, np.full(8, weight, np.float32))).batch(4)
    for verb in (task.fit, task.evaluate):
        with pytest.raises(tf.errors.InvalidArgumentError, match="sample_weight should hold finite numbers"):
            verb(data, verbose=0)
    with pytest.raises(ValueError, match="sample_weight"):
        task.fit(packed, INDICES, validation_data=(packed, INDICES, np.full(8, weight)), verbose=0)
