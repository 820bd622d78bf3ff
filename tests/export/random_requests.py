"""Feeds random tensors to SavedModels through TensorFlow's C++ session; run in a process of its own, for it may die of them.

    python random_requests.py COUNT SEED FOLDER...

Each signature gets its share of a folder's COUNT requests: any number of axes, any sizes, any values of the declared types.
A request should be answered, with its rows as the first axis of every output, or be an INVALID_ARGUMENT that names an input.
Prints a line of JSON for each folder: the numbers of answers and of refusals, and what went wrong. The line before says which
signature runs, so that the last line of a process that died names it.
"""

import json
import sys

import numpy as np
import tensorflow as tf

from kbert.export.raw_session import RawSession

WORDS = ["good", "the cat", "[MASK] [MASK] x", "Élan 你好 🙂", "un" * 60, "", " ", "\0", "a\0b", "�"]

ODD = [(), (0,), (1, 2), (0, 0), (2, 0), (0, 3), (1, 1, 1)]  # shapes that every signature is asked with first


def shape_of(random, axes=None):
    rank = axes or int(random.choice([0, 1, 1, 2, 2, 3]))
    return tuple(random.choice([0, 1, 2, 3, 5, 30], p=[0.1, 0.3, 0.3, 0.15, 0.1, 0.05]) for _ in range(rank))


def text(random):
    kind = random.integers(12)
    if kind == 0:
        return random.bytes(int(random.integers(40)))  # seldom UTF-8
    if kind == 1:
        return b"good \xe4\xbd" + random.bytes(3) + b" cat"
    return " ".join(random.choice(WORDS, int(random.integers(1, 5)))).encode()


def example(random, names):
    """A serialized tf.Example that is right most of the time."""
    kind = random.integers(20)
    if kind == 0:
        return random.bytes(int(random.integers(20)))
    features = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text(random)])) for name in names}
    if kind == 1:
        features[names[0]] = tf.train.Feature(int64_list=tf.train.Int64List(value=[3]))
    if kind == 2:
        features.pop(names[-1])
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def tensor(random, info, shape, names):
    size = int(np.prod(shape))
    if tf.dtypes.as_dtype(info.dtype) == tf.string:
        values = [example(random, names) if names else text(random) for _ in range(size)]
        if size == 1 and not names and random.integers(20) == 0:
            values = [b"good \xff " * 150_000]  # a megabyte
        filled = np.empty(size, object)
        filled[:] = values
        return filled.reshape(shape)
    low, high = random.choice([(0, 2), (0, 2), (0, 2), (0, 20), (-3, 60), (-(2**31), 2**31 - 1)])
    return random.integers(low, high, shape).astype(np.int32)


def request(random, definition, names, given=None):
    if given is not None:
        return {name: tensor(random, info, given, names) for name, info in sorted(definition.inputs.items())}
    axes = {len(info.tensor_shape.dim) for info in definition.inputs.values()}
    shape, is_odd = shape_of(random, axes.pop() if random.integers(3) else None), random.integers(6) == 0
    return {
        name: tensor(random, info, shape_of(random) if is_odd and random.integers(2) else shape, names)
        for name, info in sorted(definition.inputs.items())
    }


def ask(session, signature, inputs):
    """Returns "answered", "refused", or what is wrong."""
    try:
        outputs = session.run(signature, inputs)
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
        # Python cannot read a message in which the op quotes a corrupt example that is no UTF-8, and cuts it at a NUL.
        message = error.object.decode("utf-8", "replace") if isinstance(error, UnicodeDecodeError) else error.message
        is_named = message.startswith("Could not parse example input") or any(name in message for name in inputs)
        return "refused" if is_named else f"no input is named: {message[:300]}"
    except tf.errors.OpError as error:
        return f"{type(error).__name__}: {error.message[:300]}"
    rows = {array.shape[0] for array in inputs.values() if array.ndim}
    if len(rows) != 1 or any(output.ndim < 1 or output.shape[0] not in rows for output in outputs.values()):
        return f"rows {rows}, outputs {[output.shape for output in outputs.values()]}"
    return "answered"


if __name__ == "__main__":
    count, seed, *folders = sys.argv[1:]
    random = np.random.default_rng(int(seed))
    for folder in folders:
        session, found = RawSession(folder), {}
        texts = sorted(session.definitions["serving_default"].inputs)
        for signature, definition in sorted(session.definitions.items()):
            print(f"{folder} {signature}", flush=True)
            names = texts if definition.method_name != "tensorflow/serving/predict" else None
            for number in range(max(int(count) // len(session.definitions), len(ODD))):
                inputs = request(random, definition, names, ODD[number] if number < len(ODD) else None)
                outcome = ask(session, signature, inputs)
                found.setdefault(outcome if outcome in ("answered", "refused") else f"{signature}: {outcome}", []).append(
                    {name: str(array.tolist())[:200] for name, array in inputs.items()}
                )
        session.close()
        wrong = {outcome: places[0] for outcome, places in found.items() if outcome not in ("answered", "refused")}
        print(json.dumps({**{name: len(found.get(name, [])) for name in ("answered", "refused")}, "wrong": wrong}), flush=True)
