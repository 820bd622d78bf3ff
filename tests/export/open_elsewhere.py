"""Opens SavedModels in a process that knows TensorFlow and its tokenization ops only, and asks them; run, never imported.

    python -I open_elsewhere.py < questions.json

Questions are a list of `[folder, signature, {input: list}]`; strings that start with "base64:" are bytes. Answers are lists of
`{output: list}`.
"""

import base64
import json
import sys

import tensorflow as tf
import tensorflow_text  # noqa: F401 - the tokenization ops


def tensor(values):
    if values and isinstance(values[0], list):
        return tf.constant(values, tf.int32)
    raw = [base64.b64decode(v[7:]) if v.startswith("base64:") else v.encode("utf-8") for v in values]
    return tf.constant(raw, tf.string)


def plain(value):
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return [plain(one) for one in value] if isinstance(value, list) else value


if __name__ == "__main__":
    models, answers = {}, []
    for folder, name, inputs in json.load(sys.stdin):
        if folder not in models:
            models[folder] = tf.saved_model.load(folder)
        outputs = models[folder].signatures[name](**{key: tensor(values) for key, values in inputs.items()})
        answers.append({key: plain(value.numpy().tolist()) for key, value in outputs.items()})
    assert not any(name.split(".")[0] == "kbert" for name in sys.modules)
    print(json.dumps({"version": tf.__version__, "answers": answers}))
