"""TF Serving's gRPC services. The extra `serving` brings what this module imports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import any_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from kbert.export.server.requests import CLASSIFY, PREDICT, REGRESS, ServingError, plain
from kbert.export.server.versions import Model, Version


def add_services(server: grpc.Server, models: dict[str, Model]) -> None:
    """Adds PredictionService and ModelService to a gRPC server.

    Args:
      server: a server that has not started.
      models: the served models by name.
    """
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(models), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), server)


def _with_status(call: Callable[[Any, Any], Any]) -> Callable[[Any, Any, grpc.ServicerContext], Any]:
    """Returns a servicer's method that answers a `ServingError` with its gRPC status."""

    def answer(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return call(self, request)
        except ServingError as error:
            context.abort(getattr(grpc.StatusCode, error.status), str(error))

    return answer


def _version(models: dict[str, Model], spec: Any) -> Version:
    """Returns the version that a request's `ModelSpec` names."""
    if spec.name not in models:
        raise ServingError("NOT_FOUND", f"Servable not found for request: Latest({spec.name})")
    return models[spec.name].get(spec.version.value if spec.HasField("version") else None)


def _name_version(spec: Any, version: Version, signature: str) -> None:
    """Writes into an answer's `ModelSpec` which version and which signature answered."""
    spec.name, spec.signature_name = version.name, signature or "serving_default"
    spec.version.value = version.number


def _serialized_examples(request: Any) -> np.ndarray:
    """Returns the serialized `tf.Example`s of a Classify or Regress request."""
    return np.array([example.SerializeToString() for example in request.input.example_list.examples], object)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """The service that runs models. Its methods have the names of the service's calls."""

    def __init__(self, models: dict[str, Model]) -> None:
        self._models = models

    @_with_status
    def Predict(self, request: Any) -> Any:
        """Runs a signature on tensors."""
        version = _version(self._models, request.model_spec)
        try:
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        except (TypeError, ValueError) as error:
            raise ServingError("INVALID_ARGUMENT", f"a tensor could not be read: {error}") from None
        outputs = version.answer(request.model_spec.signature_name, inputs, PREDICT)
        unknown = sorted(set(request.output_filter) - set(outputs))
        if unknown:
            raise ServingError("INVALID_ARGUMENT", f"output_filter names {unknown[0]!r}; the outputs are {sorted(outputs)}")
        response = predict_pb2.PredictResponse()
        _name_version(response.model_spec, version, request.model_spec.signature_name)
        for name, value in outputs.items():
            if not request.output_filter or name in request.output_filter:
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response

    @_with_status
    def Classify(self, request: Any) -> Any:
        """Runs a signature of the Classify API on `tf.Example`s."""
        version = _version(self._models, request.model_spec)
        outputs = version.answer(request.model_spec.signature_name, {"inputs": _serialized_examples(request)}, CLASSIFY)
        response = classification_pb2.ClassificationResponse()
        _name_version(response.model_spec, version, request.model_spec.signature_name)
        for classes, scores in zip(plain(outputs["classes"]), plain(outputs["scores"])):
            row = response.result.classifications.add()
            for label, score in zip(classes, scores):
                row.classes.add(label=label, score=score)
        return response

    @_with_status
    def Regress(self, request: Any) -> Any:
        """Runs a signature of the Regress API on `tf.Example`s."""
        version = _version(self._models, request.model_spec)
        outputs = version.answer(request.model_spec.signature_name, {"inputs": _serialized_examples(request)}, REGRESS)
        response = regression_pb2.RegressionResponse()
        _name_version(response.model_spec, version, request.model_spec.signature_name)
        for value in outputs["outputs"].reshape(-1):
            response.result.regressions.add(value=float(value))
        return response

    @_with_status
    def GetModelMetadata(self, request: Any) -> Any:
        """Returns the signatures of a model."""
        version = _version(self._models, request.model_spec)
        if list(request.metadata_field) != ["signature_def"]:
            raise ServingError(
                "INVALID_ARGUMENT", f"Metadata field {list(request.metadata_field)} is not supported; ask for signature_def"
            )
        response, definitions = get_model_metadata_pb2.GetModelMetadataResponse(), get_model_metadata_pb2.SignatureDefMap()
        response.model_spec.name, response.model_spec.version.value = version.name, version.number
        for name, definition in version.definitions.items():
            definitions.signature_def[name].CopyFrom(definition)
        packed = any_pb2.Any()
        packed.Pack(definitions)
        response.metadata["signature_def"].CopyFrom(packed)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """The service that says which versions answer."""

    def __init__(self, models: dict[str, Model]) -> None:
        self._models = models

    @_with_status
    def GetModelStatus(self, request: Any) -> Any:
        """Returns the states of a model's versions."""
        _version(self._models, request.model_spec)
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, _, message in self._models[request.model_spec.name].status():
            version = response.model_version_status.add(version=number)
            version.state = get_model_status_pb2.ModelVersionStatus.State.Value(state)
            version.status.error_message = message
        return response
