"""TF Serving's gRPC services. The extra `serving` brings what this module imports."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf import any_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from kbert.export.server import calls, protos
from kbert.export.server.errors import MOST_OF_A_MESSAGE, ServingError, invalid
from kbert.export.server.models import Model, found
from kbert.export.server.versions import Version


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
            context.abort(getattr(grpc.StatusCode, error.status), str(error)[:MOST_OF_A_MESSAGE])

    return answer


@contextlib.contextmanager
def _version(models: dict[str, Model], spec: Any) -> Iterator[Version]:
    """Gives the version that a request's `ModelSpec` names.

    Source: tensorflow_serving/model_servers/server_core.cc, ServableRequestFromModelSpec.
    """
    choice = spec.WhichOneof("version_choice")
    number = spec.version.value if choice == "version" else None
    with found(models, spec.name).using(number, spec.version_label if choice == "version_label" else None) as version:
        yield version


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """The service that runs models. Its methods have the names of the service's calls."""

    def __init__(self, models: dict[str, Model]) -> None:
        self._models = models

    def _answered(self, request: Any, answer: Callable[[calls.Session, Any], Any]) -> Any:
        """Returns the answer to a request, in which stand the version and the signature that gave it."""
        with _version(self._models, request.model_spec) as version:
            response = answer(version.session, request)
        response.model_spec.name = version.name
        response.model_spec.signature_name = request.model_spec.signature_name or calls.DEFAULT
        response.model_spec.version.value = version.number
        return response

    @_with_status
    def Predict(self, request: Any) -> Any:
        """Runs a signature on tensors."""
        return self._answered(request, protos.answer_predict)

    @_with_status
    def Classify(self, request: Any) -> Any:
        """Runs a signature of the Classify API on `tf.Example`s."""
        return self._answered(request, protos.answer_classify)

    @_with_status
    def Regress(self, request: Any) -> Any:
        """Runs a signature of the Regress API on `tf.Example`s."""
        return self._answered(request, protos.answer_regress)

    @_with_status
    def GetModelMetadata(self, request: Any) -> Any:
        """Returns the signatures of a model."""
        if not request.metadata_field or set(request.metadata_field) != {"signature_def"}:
            raise invalid(f"Metadata field {list(request.metadata_field)} is not supported; ask for signature_def")
        response, definitions = get_model_metadata_pb2.GetModelMetadataResponse(), get_model_metadata_pb2.SignatureDefMap()
        with _version(self._models, request.model_spec) as version:
            response.model_spec.name, response.model_spec.version.value = version.name, version.number
            for name, definition in version.session.definitions.items():
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
        """Returns the states of a model's versions, or of one. A label says nothing here, as in get_model_status_impl.cc."""
        response, spec = get_model_status_pb2.GetModelStatusResponse(), request.model_spec
        number = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
        for version_number, state, code, message in found(self._models, spec.name).status(number):
            version = response.model_version_status.add(version=version_number)
            version.state = get_model_status_pb2.ModelVersionStatus.State.Value(state)
            version.status.error_code = grpc.StatusCode[code].value[0]
            version.status.error_message = message
        return response
