"""Requests and answers of TF Serving's gRPC calls, as they come from clients and from recorded warm-up requests."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2, regression_pb2

from kbert.export.server import calls
from kbert.export.server.errors import invalid

MOST_VALUES = 2**26  # of a tensor; a request of one value may ask for any number of repetitions


def tensor_of(proto: Any, name: str) -> np.ndarray:
    """Returns the tensor of a `TensorProto`, strings as bytes objects.

    TF Serving reads it by `Tensor::FromProto`: tensorflow/cc/saved_model/util.cc, GetInputValues.

    Args:
      proto: the message.
      name: the name of the input, for the error.

    Raises:
      ServingError: the shape, the type and the values do not make a tensor.
    """
    sizes = [axis.size for axis in proto.tensor_shape.dim]
    try:
        if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
            raise ValueError(f"its shape is {sizes}")
        if np.prod(sizes, dtype=float) > MOST_VALUES:
            raise ValueError(f"its shape {sizes} asks for more than {MOST_VALUES} values")
        return np.asarray(tf.make_ndarray(proto))
    except Exception as error:  # make_ndarray raises errors of many kinds
        raise invalid(f"tensor parsing error: input {name}: {error!s:.200}") from None


def answer_predict(session: calls.Session, request: Any) -> Any:
    """Returns the `PredictResponse` of a `PredictRequest`, without the names in its `model_spec`."""
    inputs = {name: tensor_of(proto, name) for name, proto in request.inputs.items()}
    outputs = calls.predict(session, request.model_spec.signature_name, inputs, request.output_filter)
    response = predict_pb2.PredictResponse()
    for name, value in outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value, shape=value.shape))
    return response


def examples_of(request: Any) -> tuple[bytes, list[bytes]]:
    """Returns the context of a Classify or Regress request and its examples, serialized."""
    if request.input.WhichOneof("kind") == "example_list_with_context":
        given = request.input.example_list_with_context
        return given.context.SerializeToString(), [example.SerializeToString() for example in given.examples]
    return b"", [example.SerializeToString() for example in request.input.example_list.examples]


def answer_classify(session: calls.Session, request: Any) -> Any:
    """Returns the `ClassificationResponse` of a `ClassificationRequest`, without the names in its `model_spec`."""
    response = classification_pb2.ClassificationResponse()
    for classes in calls.classify(session, request.model_spec.signature_name, *examples_of(request)):
        row = response.result.classifications.add()
        for label, score in classes:
            row.classes.add(label=label, score=float(score))
    return response


def answer_regress(session: calls.Session, request: Any) -> Any:
    """Returns the `RegressionResponse` of a `RegressionRequest`, without the names in its `model_spec`."""
    response = regression_pb2.RegressionResponse()
    for value in calls.regress(session, request.model_spec.signature_name, *examples_of(request)):
        response.result.regressions.add(value=float(value))
    return response
