"""The requests that are run before a version answers."""

from __future__ import annotations

import pathlib

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from kbert.export.server.calls import Session
from kbert.export.server.errors import ServingError, invalid
from kbert.export.server.protos import answer_classify, answer_predict, answer_regress

FILE = "assets.extra/tf_serving_warmup_requests"
MOST_RECORDS = 1000
CALLS = {"predict_log": answer_predict, "classify_log": answer_classify, "regress_log": answer_regress}


def replay(session: Session, folder: pathlib.Path) -> None:
    """Runs the recorded requests of a version, if it has such a file. A failing request is an error.

    Source: tensorflow_serving/servables/tensorflow/saved_model_warmup.cc and saved_model_warmup_util.cc.

    Args:
      session: the session of the version.
      folder: the folder of the version.

    Raises:
      ServingError: a request fails, or the file holds no requests that can be read.
    """
    path = folder / FILE
    if not path.is_file():
        return ask_each(session)
    try:
        records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
        logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    except Exception as error:
        raise ServingError("DATA_LOSS", f"{FILE} should hold PredictionLogs as TFRecords: {error!s:.200}") from None
    if len(logs) > MOST_RECORDS:
        raise invalid(f"{FILE} has {len(logs)} requests; at most {MOST_RECORDS} are run")
    for number, log in enumerate(logs, 1):
        kind = log.WhichOneof("log_type")
        if kind not in CALLS:
            raise ServingError("UNIMPLEMENTED", f"request {number} of {FILE} is a {kind}, which is not run")
        try:
            CALLS[kind](session, getattr(log, kind).request)
        except ServingError as error:
            raise ServingError(error.status, f"request {number} of {FILE} failed: {error}") from None


def ask_each(session: Session) -> None:
    """Runs each signature that takes only strings once, so that no client waits for TensorFlow's first run of it.

    TF Serving runs nothing where no requests are recorded, so that an error says nothing here.
    """
    for name, definition in session.definitions.items():
        if definition.inputs and all(info.dtype == tf.string.as_datatype_enum for info in definition.inputs.values()):
            try:
                session.run(name, {column: np.array([b"warm up"], object) for column in definition.inputs})
            except ServingError:
                continue
