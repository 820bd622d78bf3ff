"""Several devices and several processes make the steps of one with the same whole batch."""

import json
import os
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
    from tests.conftest import TINY, VOCABULARY
    from tests.pretraining.test_pretraining import DOCUMENTS

    keras.utils.set_random_seed(4)
    config = kbert.BertConfig(**{**TINY, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    preprocessor = kbert.TextPreprocessor(kbert.WordPieceTokenizer(VOCABULARY), 24)
    with strategy.scope():
        pretrainer = kbert.Pretrainer(kbert.BertEncoder(config), preprocessor)
        pretrainer.compile(learning_rate=5e-3)
    pretrained = pretrainer.fit(DOCUMENTS * 4, epochs=3, batch_size=8, verbose=0).history
    losses = [pretrained["loss"], pretrained["mlm_logits_loss"], pretrained["nsp_logits_loss"]]
    from kbert.pretraining.records import read_records
    records = read_records(os.environ["RECORDS"], batch_size=8, shuffle=False, count=True)
    of_records = pretrainer.fit(records, epochs=3, verbose=0).history
    losses += [of_records["mlm_logits_loss"], of_records["nsp_logits_loss"]]
    print(json.dumps([strategy.num_replicas_in_sync, losses, [float(abs(w).sum()) for w in pretrainer.get_weights()]]))
    """
)


def start(where, records, **environment):
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "RECORDS": str(records), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def ended(process):
    output, errors = process.communicate(timeout=300)
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
    replicas, losses, weights = ended(one)
    assert replicas == 1
    for number, seen, of_weights in map(ended, [devices, *workers]):
        assert number == 2
        np.testing.assert_allclose(seen, losses, rtol=1e-4)
        np.testing.assert_allclose(of_weights, weights, rtol=1e-4)
