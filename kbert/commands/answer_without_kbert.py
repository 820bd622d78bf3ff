"""What a server and a phone do: open an exported classifier and answer strings, without kbert.

    python answer_without_kbert.py MODEL_FOLDER MODEL.tflite < texts.json

`texts.json` is a list of strings; one line of JSON is printed. This file is run, never imported: nothing in it knows kbert.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # registers the tokenization ops
from ai_edge_litert.interpreter import InterpreterWithCustomOps


def ask_saved_model(folder: str, texts: Sequence[str]) -> dict[str, Any]:
    """Returns a SavedModel's labels and probabilities of the texts, and the seconds that it took."""
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    started = time.perf_counter()
    outputs = signature(text=tf.constant(texts))
    seconds = time.perf_counter() - started
    labels = [label.decode("utf-8") for label in outputs["label"].numpy()]
    return {"labels": labels, "probabilities": outputs["probabilities"].numpy().tolist(), "seconds": seconds}


def ask_litert(path: str, texts: Sequence[str]) -> dict[str, Any]:
    """Returns a LiteRT file's labels and probabilities of the texts, and the seconds that it took."""
    registerers = tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS
    interpreter = InterpreterWithCustomOps(model_path=path, custom_op_registerers=registerers, num_threads=2)
    signature = interpreter.get_signature_runner("serving_default")
    started = time.perf_counter()
    outputs = [signature(text=np.array([text.encode("utf-8")])) for text in texts]
    seconds = time.perf_counter() - started
    labels = [output["label"][0].decode("utf-8") for output in outputs]
    return {"labels": labels, "probabilities": [o["probabilities"][0].tolist() for o in outputs], "seconds": seconds}


if __name__ == "__main__":
    folder, tflite = sys.argv[1:]
    texts = json.load(sys.stdin)
    answers = {"SavedModel": ask_saved_model(folder, texts), "LiteRT": ask_litert(tflite, texts)}
    print(json.dumps({**answers, "kbert_imported": any(name.split(".")[0] == "kbert" for name in sys.modules)}))
