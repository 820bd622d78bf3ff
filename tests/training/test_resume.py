"""A training that is killed and started again ends as one that was not."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import kbert
from kbert.training.resume import STATE
from tests.conftest import TINY

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
    how = {"phases": [(16, 4), (24, 3)], "batch_size": 6, "verbose": 0, "callbacks": [said], "resume": folder or None}
    task = kbert.Pretrainer(encoder, preprocessor)
    history = task.fit(DOCUMENTS * 4, resume_every=0, **how)
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
        encoder = kbert.BertEncoder(kbert.BertConfig(**TINY))
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
            kbert.BertEncoder(kbert.BertConfig(**TINY)), kbert.TextPreprocessor(tokenizer, 24), labels=["bad", "good"]
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
