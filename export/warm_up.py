"""The requests that TF Serving runs before a version answers."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.export.raw_session import RawSession
from kbert.export.saved_model import METHODS

# The texts of three requests of different size. Each signature gets all three.
WARM_UP = [["a word"], ["the same thing over and over again, " * 40], ["a word", "", "some more words, with a comma"]]


def write_warm_up(folder: pathlib.Path, name: str) -> None:
    """Writes the requests that a server runs before it lets a version answer: `assets.extra/tf_serving_warmup_requests`.

    A server does not load a version whose warm-up fails. So each request is run first, in a session like the server's.

    Args:
      folder: the folder of the version.
      name: the name of the model.

    Raises:
      ImportError: the extra `serving` is missing.
      RuntimeError: a signature refuses its request.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2  # noqa: F401
    except ImportError as error:
        raise ImportError('warm-up requests are written with tensorflow-serving-api: pip install "kbert[serving]"') from error
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    with contextlib.closing(RawSession(folder)) as session, tf.io.TFRecordWriter(str(path)) as writer:
        for texts in WARM_UP:
            for signature, inputs in requests_of(session, texts):
                check_answer(session, signature, inputs, len(texts))
                writer.write(log_of(name, signature, session.definitions[signature].method_name, inputs).SerializeToString())


def check_answer(session: RawSession, signature: str, inputs: Mapping[str, np.ndarray], rows: int) -> None:
    """Raises a RuntimeError if a signature refuses a request, or answers with another number of rows.

    A server that joins requests fails on an output whose first axis is not the rows of the batch.

    Args:
      session: the opened folder.
      signature: the name of the signature.
      inputs: its inputs by name.
      rows: the number of rows of the request.
    """
    try:
        outputs = session.run(signature, inputs)
    except tf.errors.OpError as error:
        raise RuntimeError(f"signature {signature} refuses its warm-up request: {error.message:.300}") from None
    for name, value in outputs.items():
        if np.shape(value)[:1] != (rows,):
            raise RuntimeError(f"output {name} of signature {signature} has the shape {np.shape(value)} for {rows} rows")


def requests_of(session: RawSession, texts: Sequence[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields the name of each signature of a folder, and inputs for it: the texts, their ids, or `tf.Example`s of the texts.

    Args:
      session: the opened folder.
      texts: the texts, one for each row. Every string input gets all of them.
    """
    columns = sorted(session.definitions["serving_default"].inputs)
    rows = np.array([text.encode("utf-8") for text in texts], object)
    ids = session.run("tokenize", dict.fromkeys(columns, rows))
    for signature, definition in sorted(session.definitions.items()):
        if signature in METHODS:
            features = [
                {column: tf.train.Feature(bytes_list=tf.train.BytesList(value=[row])) for column in columns} for row in rows
            ]
            examples = [tf.train.Example(features=tf.train.Features(feature=feature)) for feature in features]
            yield signature, {"inputs": np.array([example.SerializeToString() for example in examples], object)}
        else:
            yield signature, {column: ids.get(column, rows) for column in definition.inputs}


def log_of(name: str, signature: str, method: str, inputs: Mapping[str, np.ndarray]) -> Any:
    """Returns a request as the `PredictionLog` of its API.

    Args:
      name: the name of the model.
      signature: the name of the signature.
      method: the method name of the signature.
      inputs: the inputs of the signature by name.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    logs = {METHODS["classify"]: log.classify_log, METHODS["regress"]: log.regress_log}
    request = logs.get(method, log.predict_log).request
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if method in logs:
        request.input.example_list.examples.extend(tf.train.Example.FromString(example) for example in inputs["inputs"])
    else:
        for column, values in inputs.items():
            request.inputs[column].CopyFrom(tf.make_tensor_proto(values))
    return log
