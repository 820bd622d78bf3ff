"""Opening a folder of BERT-base costs about the reading of its file, in time and in memory."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

import kbert
from kbert.checkpoints.huggingface_names import FAMILIES
from kbert.checkpoints.weights import weights_of
from tests.checkpoints.torch_writer import write_bin
from tests.conftest import SPECIAL

# A process of its own: the peak of its memory counts. The bare process has made a tiny encoder, so that TensorFlow has started.
MEASURE = """
import json, os, sys, time
import kbert

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

def read(path):
    started = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        size = len(file.read())  # into new memory, as the weights need it
    return time.perf_counter() - started, size

folder, path = sys.argv[1], sys.argv[1] + "/" + sys.argv[2]
kbert.BertEncoder(kbert.BertConfig.tiny(vocab_size=100))
size = os.path.getsize(path)
bare = peak()
reading, loading = [], []
started = time.perf_counter()
encoder = kbert.BertEncoder.from_preset(folder)
loading.append(time.perf_counter() - started)
loaded = peak()
for _ in range(12):  # the minimum of many: whatever else the machine does only adds to it
    reading.append(read(path)[0])
    del encoder
    started = time.perf_counter()
    encoder = kbert.BertEncoder.from_preset(folder)
    loading.append(time.perf_counter() - started)
print(json.dumps({"size": size, "memory": (loaded - bare) / size, "reading": min(reading), "loading": min(loading)}))
"""


def write_hdf5(path, tensors):
    """Writes a tf_model.h5, as transformers does."""
    with h5py.File(path, "w") as file:
        for name, value in tensors.items():
            *parts, last = name.replace("layer.", "layer_-_").split(".")
            kernel = value.ndim == 2 and "embeddings" not in parts
            names = {"weight": "kernel" if kernel else "gamma" if "LayerNorm" in parts else "weight", "bias": "bias"}
            last = "beta" if last == "bias" and "LayerNorm" in parts else names[last]
            file["/".join(["bert/tf_bert_model/bert", *parts, last + ":0"]).replace("_-_", "_._")] = (
                value.T if kernel else value
            )


WRITERS = {
    "model.safetensors": lambda path, tensors: save_file(tensors, path),
    "pytorch_model.bin": write_bin,
    "tf_model.h5": write_hdf5,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_base_loads_in_three_times_the_time_of_reading_and_in_its_own_size(tmp_path, name):
    config = kbert.BertConfig.base()
    encoder = kbert.BertEncoder(config)
    assert encoder.count_params() == 109_482_240
    tensors = weights_of(encoder, FAMILIES["bert"].rules(config))
    WRITERS[name](tmp_path / name, {name: np.ascontiguousarray(value) for name, value in tensors.items()})
    del encoder, tensors
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", **config.to_dict()}))
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL))
    done = subprocess.run([sys.executable, "-c", MEASURE, tmp_path, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    print(name, seen)
    assert seen["memory"] <= 1.2, seen
    assert seen["loading"] <= 3 * seen["reading"], seen
