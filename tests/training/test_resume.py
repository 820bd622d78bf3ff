"""A training that is killed and started again ends as one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.training.callback_states import set_states, settings_of, states_of
from kbert.training.resume import STATE
from tests.conftest import TINY, tiny_tokenizer

SCRIPT = textwrap.dedent(
    """
    import sys
    import keras, numpy as np
    import kbert
    from tests.conftest import TINY, VOCABULARY
    from tests.pretraining.test_pretraining import DOCUMENTS
    folder, out = sys.argv[1:]
    keras.utils.set_random_seed(4)
    encoder = kbert.BertEncoder(kbert.BertConfig(**TINY))
    preprocessor = kbert.TextPreprocessor(kbert.WordPieceTokenizer(VOCABULARY), 24)
    said = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: print(batch, flush=True))
    how = {"phases": [(16, 4), (24, 3)], "batch_size": 6, "verbose": 0, "callbacks": [said]}
    if folder:
        how |= {"resume": folder, "resume_every": 0}
    task = kbert.Pretrainer(encoder, preprocessor)
    history = task.fit(DOCUMENTS * 4, **how)
    assert len(history.history["loss"]) == 7, history.history
    np.savez(out, *task.get_weights())
    """
)


def run(*arguments, kill_after=None):
    """Runs the script; or kills it, without a warning, in or after its step of that number. Returns how many steps it began."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        begun = 0
        for begun, _ in enumerate(process.stdout, 1):
            if begun == kill_after:
                time.sleep(random.random() * 0.03)
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        assert process.returncode == (0 if kill_after is None else -signal.SIGKILL), process.stderr.read()[-2000:]
    return begun


def weights(path):
    with np.load(path) as kept:
        return [kept[name] for name in kept.files]


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_weights(tmp_path):
    """KBERT_KILLS says how often; the moments differ from run to run."""
    steps = run("", tmp_path / "whole.npz")
    kills = int(os.environ.get("KBERT_KILLS", 2))
    for _ in range(kills):
        run(tmp_path / "run", tmp_path / "again.npz", kill_after=random.randint(2, steps // (kills + 1)))
        assert not (tmp_path / "again.npz").exists() and (tmp_path / "run" / STATE).is_file()
    assert run(tmp_path / "run", tmp_path / "again.npz") < steps
    for a, b in zip(weights(tmp_path / "whole.npz"), weights(tmp_path / "again.npz")):
        np.testing.assert_array_equal(a, b)
    assert not (tmp_path / "run" / STATE).exists()  # it has ended


def test_stopped_in_this_process_it_ends_with_the_same_weights_too(texts_and_labels, tokenizer, tmp_path):
    import keras

    def make():
        keras.utils.set_random_seed(4)
        encoder = kbert.BertEncoder(kbert.BertConfig(**{**TINY, "num_hidden_layers": 1}))
        return kbert.TextClassifier(encoder, kbert.TextPreprocessor(tokenizer, 24), labels=["bad", "good"])

    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_begin(self, batch, logs=None):
            if (self.epoch, batch) == (2, 1):
                raise KeyboardInterrupt

    how = {"epochs": 4, "batch_size": 8, "verbose": 0, "validation_split": 0.25}
    whole = make()
    whole.fit(*texts_and_labels, **how)
    stopped = make()
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(*texts_and_labels, resume=tmp_path, resume_every=0, callbacks=Crash(), **how)
    again = make()
    history = again.fit(*texts_and_labels, resume=tmp_path, **how).history
    assert len(history["loss"]) == len(history["val_accuracy"]) == 4
    for a, b in zip(whole.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("at_once", [1, 3])
def test_stopped_between_an_epochs_last_batch_and_its_end_no_figure_is_missing(texts_and_labels, tokenizer, tmp_path, at_once):
    import keras

    def make():
        keras.utils.set_random_seed(4)
        task = kbert.TextClassifier(
            kbert.BertEncoder(kbert.BertConfig(**{**TINY, "num_hidden_layers": 1})),
            kbert.TextPreprocessor(tokenizer, 24),
            labels=["bad", "good"],
        )
        task.compile(steps_per_execution=at_once)
        return task

    class Crash(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            if int(self.model.optimizer.iterations) > 4:
                raise KeyboardInterrupt

    texts, labels = texts_and_labels
    how = {"epochs": 3, "batch_size": 8, "verbose": 0, "validation_data": (texts[::3], labels[::3])}
    whole = make()
    whole.fit(texts, labels, **how)
    stopped = make()
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(texts, labels, resume=tmp_path, resume_every=0, callbacks=Crash(), **how)
    again = make()
    history = again.fit(texts, labels, resume=tmp_path, **how).history
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(history, 3)
    for a, b in zip(whole.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_state_of_another_training_is_named(classifier, texts_and_labels, tmp_path):
    import keras

    texts, labels = texts_and_labels

    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classifier.fit(texts, labels, epochs=3, batch_size=8, verbose=0, resume=tmp_path, callbacks=Crash())
    with pytest.raises(ValueError, match="of 12 steps in 3 epochs, this one has 20 in 5"):
        classifier.fit(texts, labels, epochs=5, batch_size=8, verbose=0, resume=tmp_path)
    other = kbert.TextClassifier(classifier.encoder, classifier.preprocessor, labels=["bad", "good", "other"])
    with pytest.raises(ValueError, match="of another model"):
        other.fit(texts, labels, epochs=3, batch_size=8, verbose=0, resume=tmp_path)
    classifier.fit(texts, labels, epochs=3, batch_size=8, verbose=0, resume=tmp_path)
    assert list(tmp_path.iterdir()) == []


class Crash(keras.callbacks.Callback):
    """Ends the process's training, as Ctrl-C does, at the beginning of an epoch or a batch."""

    def __init__(self, epoch, batch=None):
        super().__init__()
        self.at, self.batch = epoch, batch
        self.epoch = -1

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if epoch == self.at and self.batch is None:
            raise KeyboardInterrupt

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (self.at, self.batch):
            raise KeyboardInterrupt


class Counting(keras.callbacks.Callback):
    """A callback of a user's own, which counts steps."""

    def __init__(self):
        super().__init__()
        self.steps, self.begun, self.seen = 0, 0, {"losses": []}

    def on_train_begin(self, logs=None):
        self.begun += 1

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1

    def on_epoch_end(self, epoch, logs=None):
        self.seen["losses"].append(logs["loss"])


FEW = (["good day", "bad day", "good cat", "very bad night", "a good film", "so bad"], ["good", "bad"] * 3)


def make(seed=4, length=24, learning_rate=1e-3, labels=("bad", "good"), encoder=None, **options):
    keras.utils.set_random_seed(seed)
    tokenizer = tiny_tokenizer(**options.pop("tokenizer", {}))
    encoder = kbert.BertEncoder(kbert.BertConfig(**{**TINY, "num_hidden_layers": 1, **(encoder or {})}))
    task = kbert.TextClassifier(encoder, kbert.TextPreprocessor(tokenizer, length), labels=labels, **options)
    task.compile(keras.optimizers.Adam(learning_rate), run_eagerly=True)
    return task


HOW = {"batch_size": 2, "verbose": 0, "resume_every": 0, "validation_data": FEW}


def stop_and_go_on(folder, callbacks, crash, epochs=5, second_seed=4):
    """The task and callbacks of a training that was stopped and went on."""
    with pytest.raises(KeyboardInterrupt):
        make().fit(*FEW, epochs=epochs, resume=folder, callbacks=[*callbacks(), crash], **HOW)
    again, known = make(second_seed), callbacks()
    history = again.fit(*FEW, epochs=epochs, resume=folder, callbacks=known, **HOW).history
    return again, known, history


def assert_same_weights(a, b):
    for one, other in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("crash", [(2, None), (2, 1)])
def test_callbacks_know_what_they_knew(crash, tmp_path):
    """EarlyStopping ends in the same epoch with the same weights, and the rate falls at the same step."""

    def callbacks(folder):
        return lambda: [
            keras.callbacks.EarlyStopping("loss", min_delta=10, patience=3, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau("loss", min_delta=10, patience=2, factor=0.1),
            keras.callbacks.ModelCheckpoint(tmp_path / f"{folder}.keras", "val_loss", mode="min", save_best_only=True),
            Counting(),
        ]

    whole, known = make(), callbacks("whole")()
    history = whole.fit(*FEW, epochs=6, callbacks=known, **{**HOW, "resume_every": 300}).history
    assert len(history["loss"]) == 4 and known[0].stopped_epoch == 3
    again, others, later = stop_and_go_on(tmp_path / "state", callbacks("again"), Crash(*crash), epochs=6)
    assert later["loss"] == pytest.approx(history["loss"], rel=1e-5) and "learning_rate" in later
    assert_same_weights(whole, again)
    for name in ("stopped_epoch", "best_epoch", "wait", "best"):
        assert getattr(known[0], name) == pytest.approx(getattr(others[0], name))
    assert known[1].cooldown_counter == others[1].cooldown_counter and known[2].best == pytest.approx(others[2].best)
    assert float(whole.optimizer.learning_rate) == pytest.approx(float(again.optimizer.learning_rate))
    assert others[3].steps == known[3].steps and len(others[3].seen["losses"]) == 4 and others[3].begun == 1
    assert not list((tmp_path / "state").iterdir())


def test_arguments_of_callbacks_are_those_that_are_given_now(tmp_path):
    """What a training changed comes back; a patience or a file's name is what the new process says."""

    def made(patience, name, steps=0):
        callbacks = [keras.callbacks.EarlyStopping("loss", patience=patience), Counting()]
        callbacks += [keras.callbacks.ModelCheckpoint(tmp_path / f"{name}.keras", "loss", save_best_only=True)]
        for callback in callbacks:
            callback.on_train_begin()
        callbacks[1].steps = steps
        return callbacks

    def kept(callbacks, settings, *states):
        arrays = []
        return json.loads(json.dumps(states_of(callbacks, arrays, settings, *states))), arrays

    first = made(3, "first")
    settings = settings_of(first)
    first[0].wait, first[0].best, first[2].best, first[1].steps = 2, 0.25, 0.25, 7
    first[1].seen["losses"].append(0.25)
    states = kept(first, settings)
    again = made(5, "again", steps=7)  # a callback that is used again counts on
    settings = settings_of(again)
    set_states(again, *states)
    for callbacks in (again, made(5, "again")):
        set_states(callbacks, *kept(again, settings, states[0]))
        assert (callbacks[0].patience, callbacks[0].wait, callbacks[0].best) == (5, 2, 0.25)
        assert callbacks[2].best == 0.25 and callbacks[2].filepath.endswith("again.keras")
        assert callbacks[1].steps == 7 and callbacks[1].seen == {"losses": [0.25]}


def test_without_a_seed_it_goes_on_in_its_own_order(tmp_path):
    whole = make()
    whole.fit(*FEW, epochs=3, **{**HOW, "resume_every": 300})
    again, _, _ = stop_and_go_on(tmp_path / "state", list, Crash(1, 2), epochs=3, second_seed=99)
    assert_same_weights(whole, again)


OTHERS = {
    "other texts": (dict(x=[*FEW[0][:-1], "a cat"]), {}, "other data"),
    "another order": (dict(x=FEW[0][::-1], y=FEW[1][::-1]), {}, "other data"),
    "other labels": (dict(y=FEW[1][::-1]), {}, "other data"),
    "weights": (dict(sample_weight=[1, 1, 1, 1, 1, 2]), {}, "other data"),
    "not shuffled": (dict(shuffle=False), {}, "other data"),
    "other validation data": (dict(validation_data=(FEW[0][1:], FEW[1][1:])), {}, "other validation data"),
    "typed tokens": ({}, dict(tokenizer={"recognize_special_tokens": True}), "other tokenizer"),
    "a length": ({}, dict(length=12), "other tokenizer"),
    "a rate": ({}, dict(learning_rate=1e-4), "other compile settings"),
    "order of labels": ({}, dict(labels=("good", "bad")), "another model"),
    "dropout": ({}, dict(encoder={"hidden_dropout_prob": 0.3}), "another model"),
    "a frozen encoder": ({}, {}, "another model"),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(KeyboardInterrupt):
        make().fit(*FEW, epochs=3, resume=folder, callbacks=Crash(1), **HOW)
    return folder


@pytest.mark.parametrize("case", OTHERS)
def test_a_state_of_anything_else_is_refused_before_the_first_step(case, stopped):
    options, settings, message = OTHERS[case]
    task = make(**settings)
    if case == "a frozen encoder":
        task.encoder.trainable = False
    options = {"x": FEW[0], "y": FEW[1], **HOW, **options}
    with pytest.raises(ValueError, match=message):
        task.fit(**options, epochs=3, resume=stopped, callbacks=Crash(0))
    assert (stopped / STATE).is_file()


def test_what_cannot_be_resumed_exactly_is_refused_at_the_start(tmp_path):
    task = make()
    batches = [task.preprocessor(FEW[0]), np.array([1, 0] * 3)]
    data = tf.data.Dataset.from_tensor_slices(tuple(batches))
    never = Crash(0, 0)

    class Reading(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.lines = iter(["a"])

    class Keeping(Reading):
        def get_state(self):
            return {"line": 1}

        def set_state(self, state):
            self.line = state["line"]

    refused = {
        "order each time": dict(x=data.shuffle(6).batch(2)),
        "known length": dict(x=data.batch(2).filter(lambda *batch: True)),
        "steps_per_epoch": dict(x=data.batch(2), steps_per_epoch=2),
        "callback Reading: its attribute 'lines' is a list_iterator": dict(x=data.batch(2), callbacks=[Reading(), never]),
        "CSVLogger needs append=True": dict(x=data.batch(2), callbacks=[keras.callbacks.CSVLogger(tmp_path / "log"), never]),
        "leave one of them out": dict(x=data.batch(2), callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "b"), never]),
    }
    for message, options in refused.items():
        with pytest.raises(ValueError, match=message):
            task.fit(epochs=2, verbose=0, resume=tmp_path / "state", **{"callbacks": [never], **options})
    kept = Keeping()
    with pytest.raises(KeyboardInterrupt):
        task.fit(data.batch(2), epochs=2, verbose=0, resume=tmp_path / "state", callbacks=[kept, Crash(1)])
    task.fit(data.batch(2), epochs=2, verbose=0, resume=tmp_path / "state", callbacks=[kept])
    assert kept.line == 1
