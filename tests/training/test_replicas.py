"""Several devices and several processes make the steps of one with the same whole batch, or refuse to train."""

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from kbert.pretraining.records import write_records
from tests.pretraining.test_pretraining import DOCUMENTS

SCRIPT = textwrap.dedent(
    """
    import json, os, sys
    import tensorflow as tf
    where = sys.argv[1]
    if where == "devices":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    else:
        strategy = tf.distribute.MultiWorkerMirroredStrategy() if where == "workers" else tf.distribute.get_strategy()
    import keras
    import kbert
    from tests.conftest import BAD, GOOD, TINY, VOCABULARY
    from tests.pretraining.test_pretraining import DOCUMENTS

    sizes = {**TINY, "num_hidden_layers": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = kbert.BertConfig(**sizes)
    preprocessor = kbert.TextPreprocessor(kbert.WordPieceTokenizer(VOCABULARY), 24)

    def make(cls, **options):
        keras.utils.set_random_seed(4)
        with strategy.scope():
            task = cls(kbert.BertEncoder(config), preprocessor, **options)
            task.compile(learning_rate=5e-3)
        return task

    # 13 rows in batches of 8: 8 and 5, and to each replica 4 and 3 or 2.
    texts, answer = [*GOOD[:7], *BAD[:6]], {"text": "a", "start": 0}
    words = [text.split() for text in texts]
    tags = [["B-X", *["O"] * (len(sentence) - 1)] for sentence in words]
    weights = [0.1 * place for place in range(13)]
    cases = {
        "classifier": lambda: make(kbert.TextClassifier, labels=["a", "b"]).fit(
            texts, ["a"] * 7 + ["b"] * 6, sample_weight=weights, batch_size=8, verbose=0, validation_data=(texts[:3], ["b"] * 3)
        ),
        "tagger": lambda: make(kbert.TokenClassifier, labels=["O", "B-X"]).fit(words, tags, batch_size=8, verbose=0),
        "answerer": lambda: make(kbert.QuestionAnswerer).fit(
            (["a ?"] * 13, ["a " + text for text in texts]), [answer] * 13, batch_size=8, verbose=0
        ),
    }
    of_tasks = {}
    for name in ["classifier"] if where == "workers" else cases:
        of_tasks[name] = cases[name]().history
    refused = {}
    if where == "devices":
        teacher = make(kbert.TextClassifier, labels=["a", "b"])
        with strategy.scope():
            distiller = kbert.Distiller(teacher, teacher.make_student(intermediate_size=16))
        outside = kbert.TextClassifier(kbert.BertEncoder(config), preprocessor, labels=["a", "b"])
        with strategy.scope():
            inside = kbert.TextClassifier(outside.encoder, preprocessor, labels=["a", "b"])
        summed = make(kbert.TextClassifier, labels=["a", "b"])
        summed.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"))
        for name, fit in {
            "embedder": lambda: make(kbert.TextEmbedder).fit((texts, texts[::-1])),
            "embedder measured": lambda: make(kbert.TextEmbedder).evaluate((texts, texts[::-1])),
            "windows": lambda: make(kbert.TextClassifier, labels=["a", "b"], window_stride=2).fit(texts, ["a"] * 13),
            "distiller": lambda: distiller.fit(texts),
            "other strategies": lambda: inside.fit(texts, ["a"] * 13),
            "summed": lambda: summed.fit(texts, ["a"] * 13),
        }.items():
            try:
                fit()
            except ValueError as error:
                refused[name] = str(error)
    keras.utils.set_random_seed(4)
    with strategy.scope():
        pretrainer = kbert.Pretrainer(kbert.BertEncoder(config), preprocessor)
        pretrainer.compile(learning_rate=5e-3)
    pretrained = pretrainer.fit(DOCUMENTS * 4, epochs=2, batch_size=8, verbose=0).history
    losses = [pretrained["loss"], pretrained["mlm_logits_loss"], pretrained["nsp_logits_loss"]]
    from kbert.pretraining.records import read_records
    records = read_records(os.environ["RECORDS"], batch_size=8, shuffle=False, count=True)
    of_records = pretrainer.fit(records, epochs=2, verbose=0).history
    losses += [of_records["mlm_logits_loss"], of_records["nsp_logits_loss"]]
    of_weights = [float(abs(w).sum()) for w in pretrainer.get_weights()]
    print(json.dumps([strategy.num_replicas_in_sync, losses, of_weights, of_tasks, refused]))
    """
)


def start(where, records, **environment):
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "RECORDS": str(records), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def ended(process):
    output, errors = process.communicate(timeout=540)
    assert process.returncode == 0, errors[-3000:]
    return json.loads(output.splitlines()[-1])


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_devices_and_two_processes_have_the_losses_of_one_device(tokenizer, tmp_path):
    write_records(DOCUMENTS * 4, tokenizer, tmp_path, shards=3, max_length=24, copies=2)
    cluster = {"worker": [f"localhost:{free_port()}" for _ in range(2)]}
    workers = [
        start("workers", tmp_path, TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}))
        for index in range(2)
    ]
    devices, one = start("devices", tmp_path), start("one", tmp_path)
    replicas, losses, weights, of_tasks, _ = ended(one)
    assert replicas == 1 and set(of_tasks) == {"classifier", "tagger", "answerer"}
    results = [*map(ended, [devices, *workers])]
    for number, seen, of_weights, of_these, _ in results:
        assert number == 2
        np.testing.assert_allclose(seen, losses, rtol=1e-4)
        np.testing.assert_allclose(of_weights, weights, rtol=1e-4)
        for name, history in of_these.items():
            assert set(history) == set(of_tasks[name])
            for figure, values in history.items():
                np.testing.assert_allclose(values, of_tasks[name][figure], rtol=1e-4, err_msg=f"{name} {figure}")
    assert set(results[0][3]) == set(of_tasks)
    *_, refused = results[0]
    expected = {
        "embedder": "compared with each other.*2 replicas: train it on one device",
        "embedder measured": "compared with each other",
        "windows": "windows of a long text apart",
        "distiller": "means over the tokens of a batch",
        "other strategies": "make both in one strategy.scope",
        "summed": "reduction='sum'",
    }
    assert set(refused) == set(expected)
    for name, message in expected.items():
        assert re.search(message, refused[name]), refused[name]
