"""The learning rate of every step is that of the closed form, whatever the task, the container, the precision or the count."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.tasks.fitting import Fitting
from kbert.tasks.measuring import Measuring
from kbert.training import keras_internals
from tests.conftest import TINY, tiny_tokenizer

PEAK = 1e-3
TEXTS = ["good day", "bad day", "the film", "so bad", "a cat", "the dog ran", "so good", "night", "film !", "very bad"]
LABELS = ["good", "bad"] * 5
TAGS = [["B-x"] + ["O"] * (len(text.split()) - 1) for text in TEXTS]
DOCUMENTS = [["good day .", "the film .", "a cat sat ."], ["bad day .", "so bad .", "the dog ran ."]] * 2


def built(kind, dtype=None, packed=False, **options):
    config = kbert.BertConfig(**{**TINY, "num_hidden_layers": 1})
    preprocessor = None if packed else kbert.TextPreprocessor(tiny_tokenizer(), 16)
    return getattr(kbert, kind)(kbert.BertEncoder(config, dtype=dtype), preprocessor, dtype=dtype, **options)


class Recorder:
    """Notes the rate of each step. The steps are made by the optimizer, of gradients that are 0, since a model takes too long.

    Args:
      crash_after: the number of steps after which the training is stopped, as by a kill.
    """

    def __init__(self, monkeypatch, crash_after=None):
        self.rates, self.shares, self.crash_after = [], [], crash_after
        for owner in (Fitting, kbert.Distiller):
            monkeypatch.setattr(owner, "train_step", lambda model, data: self.step(model), raising=False)
        monkeypatch.setattr(Measuring, "test_step", lambda model, data: {"loss": 0.0})

    def step(self, model):
        if len(self.rates) == self.crash_after:
            raise KeyboardInterrupt
        self.rates.append(float(keras_internals.unscaled(model.optimizer).learning_rate))
        if isinstance(model, kbert.Distiller):
            self.shares.append(float(model.share_done()))
        variable = model.trainable_variables[-1]
        model.optimizer.apply([tf.zeros_like(variable)], [variable])
        return {"loss": 0.0}


def closed_form(batches, accumulated=1, total=None):
    total = -(-batches // accumulated) if total is None else total
    warmup = max(np.round(total * 0.1), 1)
    steps = np.arange(batches) // accumulated
    return PEAK * np.clip(np.minimum((steps + 1) / warmup, (total - steps) / max(total - warmup, 1)), 0, 1)


def ids(task):
    return {name: value.numpy() for name, value in task.preprocessor(TEXTS).items()}


def with_masks(packed):
    rows = len(packed["token_ids"])
    inputs = {**packed, "mask_positions": np.ones((rows, 3), np.int32)}
    return inputs, {"mlm_logits": np.full((rows, 3), 5, np.int32), "nsp_logits": np.zeros(rows, np.int32)}


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 5

    def __getitem__(self, place):
        rows = slice(2 * place, 2 * place + 2)
        return {name: value[rows] for name, value in self.x.items()}, self.y[rows]


def labelled():
    return tf.data.Dataset.from_tensor_slices((TEXTS, LABELS))


def rows():
    yield from zip(TEXTS, LABELS)


def endless():
    while True:
        yield from zip(TEXTS, LABELS)


CLASSIFIER = {"kind": "TextClassifier", "labels": ["good", "bad"]}
TAGGER = {"kind": "TokenClassifier", "labels": ["O", "B-x", "I-x"]}
INDICES = np.arange(10) % 2
# name: the task, a function of the task to what fit is given, other arguments of fit and compile, batches
CELLS = {
    "list": (CLASSIFIER, lambda t: (TEXTS, LABELS), {}, 10),
    "list held out": (CLASSIFIER, lambda t: (TEXTS, LABELS), {"validation_split": 0.4}, 6),
    "list from epoch 1 of 3": (CLASSIFIER, lambda t: (TEXTS, LABELS), {"epochs": 3, "initial_epoch": 1}, 10),
    "list of 3 steps an epoch": (CLASSIFIER, lambda t: (TEXTS, LABELS), {"steps_per_epoch": 3}, 6),
    "list of more steps than batches": (CLASSIFIER, lambda t: (TEXTS, LABELS), {"steps_per_epoch": 7}, 14),
    "list by tokens": (CLASSIFIER, lambda t: (TEXTS, LABELS), {"max_tokens": 12, "batch_size": None}, 6),
    "list accumulated": (CLASSIFIER, lambda t: (TEXTS, LABELS), {"gradient_accumulation_steps": 4}, 10),
    "list scaled": (CLASSIFIER, lambda t: (TEXTS, LABELS), {"dtype": "mixed_float16"}, 10),
    "list scaled, accumulated": (
        CLASSIFIER, lambda t: (TEXTS, LABELS), {"dtype": "mixed_float16", "gradient_accumulation_steps": 3}, 10,
    ),
    "rows of tf.data": (CLASSIFIER, lambda t: (labelled(),), {}, 10),
    "batches of tf.data": (CLASSIFIER, lambda t: (labelled().batch(2),), {"batch_size": None, "dtype": "mixed_bfloat16"}, 10),
    "batches of another size": (CLASSIFIER, lambda t: (labelled().batch(3),), {"batch_size": 4}, 6),
    "generator": (CLASSIFIER, lambda t: (rows(),), {"epochs": 1, "total_steps": 5}, 5),
    "endless generator": (CLASSIFIER, lambda t: (endless(),), {"steps_per_epoch": 4}, 8),
    "packed": (CLASSIFIER, lambda t: (ids(t), INDICES), {}, 10),
    "packed held out": (CLASSIFIER, lambda t: (ids(t), INDICES), {"validation_split": 0.25}, 8),
    "packed batches": (
        CLASSIFIER, lambda t: (tf.data.Dataset.from_tensor_slices((ids(t), INDICES)).batch(4),), {"batch_size": None}, 6,
    ),
    "packed PyDataset": (
        {**CLASSIFIER, "packed": True}, lambda t: (Batches(ids(built(**CLASSIFIER)), INDICES),), {"batch_size": None}, 10,
    ),
    "words": (TAGGER, lambda t: ([text.split() for text in TEXTS], TAGS), {"initial_epoch": 1}, 5),
    "questions": (
        {"kind": "QuestionAnswerer"}, lambda t: ((TEXTS, TEXTS), [{"text": x.split()[0], "start": 0} for x in TEXTS]), {}, 10,
    ),
    "pairs": ({"kind": "TextEmbedder"}, lambda t: ((TEXTS, TEXTS),), {"gradient_accumulation_steps": 5}, 10),
    "texts alone": ({"kind": "MaskedLM"}, lambda t: (TEXTS,), {"initial_epoch": 1}, 5),
    "packed with named targets": ({"kind": "Pretrainer"}, lambda t: with_masks(ids(t)), {}, 10),
    "documents": ({"kind": "Pretrainer"}, lambda t: (DOCUMENTS,), {"epochs": 3, "initial_epoch": 1}, None),
    "documents in phases": (
        {"kind": "Pretrainer"}, lambda t: (DOCUMENTS,), {"phases": [(12, 1), (16, 2)], "epochs": None}, None,
    ),
}  # fmt: skip


AGAIN = ("list accumulated", "list scaled, accumulated", "packed with named targets")


@pytest.mark.parametrize("cell", CELLS)
def test_each_step_has_the_rate_of_the_closed_form(cell, monkeypatch):
    task_options, data, options, batches = CELLS[cell]
    options = dict(options)
    task = built(dtype=options.pop("dtype", None), **task_options)
    accumulated = options.pop("gradient_accumulation_steps", None)
    task.compile(learning_rate=PEAK, gradient_accumulation_steps=accumulated, run_eagerly=True, metrics=None)
    seen = Recorder(monkeypatch)
    task.fit(*data(task), **{"batch_size": 2, "epochs": 2, **options}, verbose=0)
    assert batches is None or len(seen.rates) == batches
    np.testing.assert_allclose(seen.rates, closed_form(len(seen.rates), accumulated or 1), rtol=1e-5, atol=1e-12)
    # The next training begins at its own first step.
    if cell in AGAIN:
        task.fit(*data(task), **{"batch_size": 2, "epochs": 2, **options}, verbose=0)
        first, again = np.split(np.array(seen.rates), 2)
        np.testing.assert_allclose(again, first, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("accumulated", [None, 3])
def test_a_training_that_goes_on_has_the_rates_of_one_that_did_not_stop(tmp_path, accumulated, monkeypatch):
    rates = []
    for crash_after in (7, None):
        task, seen = built(**CLASSIFIER), Recorder(monkeypatch, crash_after)
        task.compile(learning_rate=PEAK, gradient_accumulation_steps=accumulated, run_eagerly=True, metrics=None)
        with contextlib.suppress(KeyboardInterrupt):
            task.fit(TEXTS, LABELS, batch_size=2, epochs=2, verbose=0, resume=tmp_path, resume_every=0)
        rates += seen.rates
    np.testing.assert_allclose(rates, closed_form(10, accumulated or 1), rtol=1e-5, atol=1e-12)


def test_a_student_learns_by_the_schedule_of_its_own_training(monkeypatch):
    teacher = built(**CLASSIFIER)
    distiller = kbert.Distiller(teacher, teacher.make_student(1), hidden=1.0)
    distiller.compile(learning_rate=PEAK, run_eagerly=True)
    seen = Recorder(monkeypatch)
    for options, batches in (({"initial_epoch": 1}, 5), ({"steps_per_epoch": 2}, 4), ({}, 10)):
        seen.rates.clear()
        seen.shares.clear()
        distiller.fit(TEXTS, LABELS, batch_size=2, epochs=2, verbose=0, **options)
        np.testing.assert_allclose(seen.rates, closed_form(batches), rtol=1e-5, atol=1e-12)
        np.testing.assert_allclose(seen.shares, np.arange(batches) / batches, atol=1e-6)


def test_real_steps_under_loss_scaling_have_these_rates_too():
    task, rates = built(**CLASSIFIER, dtype="mixed_float16"), []
    task.compile(learning_rate=PEAK)
    rate = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: rates.append(float(keras_internals.unscaled(task.optimizer).learning_rate))
    )
    task.fit(TEXTS, LABELS, batch_size=2, verbose=0, callbacks=[rate])
    np.testing.assert_allclose(rates, closed_form(5), rtol=1e-5, atol=1e-12)


# Accumulated gradients


def weights_of(task):
    return np.concatenate([variable.numpy().ravel() for variable in task.trainable_variables])


def trained_by_sgd(accumulated, batch_size, epochs=1, dtype=None):
    keras.utils.set_random_seed(3)
    config = {**TINY, "num_hidden_layers": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    preprocessor = kbert.TextPreprocessor(tiny_tokenizer(), 16)
    encoder = kbert.BertEncoder(kbert.BertConfig(**config), dtype=dtype)
    task = kbert.TextClassifier(encoder, preprocessor, labels=["good", "bad"], dropout=0.0, dtype=dtype)
    task.compile("sgd", learning_rate=0.1, gradient_accumulation_steps=accumulated)
    task.fit(TEXTS[:8], LABELS[:8], batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return task


def test_the_last_step_is_made_of_the_batches_that_are_left():
    with pytest.warns(UserWarning, match="gradient_accumulation_steps=8 .* whole training has 4"):
        few = trained_by_sgd(8, 2)
    np.testing.assert_allclose(weights_of(few), weights_of(trained_by_sgd(None, 8)), atol=1e-5)
    uneven = trained_by_sgd(3, 2)  # a step of 6 rows, and one of 2
    assert int(uneven.optimizer.iterations) == 2
    assert not any(np.any(gradient.numpy()) for _, gradient in keras_internals.waiting_gradients(uneven.optimizer))


def test_the_last_figures_of_validation_are_those_after_the_last_step():
    task = trained_by_sgd(None, 8)
    task.compile("sgd", learning_rate=0.1, gradient_accumulation_steps=3, run_eagerly=True)
    data = (TEXTS[:8], LABELS[:8])
    history = task.fit(*data, batch_size=2, epochs=2, validation_data=data, verbose=0).history
    assert int(task.optimizer.iterations) == 3  # of 3, 3 and 2 batches; none ends with the first epoch
    assert history["val_loss"][-1] == pytest.approx(task.evaluate(*data, verbose=0, return_dict=True)["loss"], abs=1e-5)


def test_a_stopped_training_leaves_no_gradients_for_the_next():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    task = trained_by_sgd(4, 2)
    before = weights_of(task)
    with pytest.raises(KeyboardInterrupt):
        task.fit(TEXTS[:8], LABELS[:8], batch_size=2, shuffle=False, verbose=0, callbacks=[Stop()])
    np.testing.assert_array_equal(weights_of(task), before)
    other = trained_by_sgd(4, 2)
    for each in (task, other):
        each.fit(TEXTS[:8], LABELS[:8], batch_size=2, shuffle=False, verbose=0)
    np.testing.assert_array_equal(weights_of(task), weights_of(other))
