"""A training that is killed and started again ends as one that was not."""

import os
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
    said = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: print(epoch, flush=True))
    how = {"epochs": 6, "batch_size": 8, "verbose": 0, "callbacks": [said], "resume": folder or None}
    task = kbert.Pretrainer(encoder, preprocessor)
    task.fit(DOCUMENTS * 4, **how)
    np.savez(out, *task.get_weights())
    """
)


def run(*arguments, kill_in=None):
    """Runs the script; or kills it, without a warning, some time after it has begun an epoch. Returns the epochs that it began."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        begun = []
        for line in process.stdout:
            begun.append(int(line))
            if begun[-1] == kill_in:
                time.sleep(np.random.default_rng(kill_in).random() * 0.05)
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        assert process.returncode == (0 if kill_in is None else -signal.SIGKILL), process.stderr.read()[-2000:]
    return begun


def weights(path):
    with np.load(path) as kept:
        return [kept[name] for name in kept.files]


@pytest.mark.slow
def test_killed_twice_it_ends_with_the_same_weights(tmp_path):
    assert run("", tmp_path / "whole.npz") == list(range(6))
    assert run(tmp_path / "run", tmp_path / "again.npz", kill_in=2)[-1] == 2
    assert not (tmp_path / "again.npz").exists() and (tmp_path / "run" / STATE).is_file()
    begun = run(tmp_path / "run", tmp_path / "again.npz", kill_in=4)
    assert begun[0] in (1, 2, 3)
    begun = run(tmp_path / "run", tmp_path / "again.npz")
    assert begun[0] > 1 and begun[-1] == 5
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
            if epoch == 2:
                raise KeyboardInterrupt

    how = {"epochs": 4, "batch_size": 8, "verbose": 0, "validation_split": 0.25}
    whole = make()
    whole.fit(*texts_and_labels, **how)
    stopped = make()
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(*texts_and_labels, resume=tmp_path, callbacks=Crash(), **how)
    again = make()
    again.fit(*texts_and_labels, resume=tmp_path, **how)
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
    with pytest.raises(ValueError, match="3 epochs of 4 steps, this one is 5 of 4"):
        classifier.fit(texts, labels, epochs=5, batch_size=8, verbose=0, resume=tmp_path)
    other = kbert.TextClassifier(classifier.encoder, classifier.preprocessor, labels=["bad", "good", "other"])
    with pytest.raises(ValueError, match="of another model"):
        other.fit(texts, labels, epochs=3, batch_size=8, verbose=0, resume=tmp_path)
    classifier.fit(texts, labels, epochs=3, batch_size=8, verbose=0, resume=tmp_path)
    assert list(tmp_path.iterdir()) == []
