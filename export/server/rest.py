"""TF Serving's REST paths: a request's path and body become a status and a JSON object."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict

from kbert.export.server.requests import CLASSIFY, PREDICT, REGRESS, ServingError, plain, tf_example
from kbert.export.server.versions import Model, Version

HTTP = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503, "INTERNAL": 500}
PATH = re.compile(r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+))?(?P<rest>/metadata|:predict|:classify|:regress)?/?")


def rest(models: dict[str, Model], method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Answers a request with an HTTP status and a JSON object.

    Args:
      models: the served models by name.
      method: `"GET"` or `"POST"`.
      path: the path of the URL.
      body: the body of the request, JSON in UTF-8.
    """
    try:
        matched = PATH.fullmatch(path)
        if not matched:
            raise ServingError("NOT_FOUND", f"Malformed request: {method} {path}")
        if matched["name"] not in models:
            raise ServingError("NOT_FOUND", f"Servable not found for request: Latest({matched['name']})")
        model, verb = models[matched["name"]], matched["rest"]
        version = model.get(int(matched["version"]) if matched["version"] else None)
        if method == "GET" and verb in (None, "/metadata"):
            return 200, status_json(model) if verb is None else metadata_json(version)
        if method != "POST" or verb in (None, "/metadata"):
            raise ServingError("NOT_FOUND", f"Malformed request: {method} {path}")
        try:
            request = json.loads(body)
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ServingError("INVALID_ARGUMENT", f"JSON Parse error: {error}") from None
        if not isinstance(request, dict):
            raise ServingError("INVALID_ARGUMENT", "the request should be a JSON object")
        return 200, {":predict": predict_json, ":classify": classify_json, ":regress": regress_json}[verb](version, request)
    except ServingError as error:
        return HTTP[error.status], {"error": str(error)}


def status_json(model: Model) -> dict[str, Any]:
    """Returns the states of a model's versions, as `GET /v1/models/NAME` answers."""
    return {
        "model_version_status": [
            {"version": str(number), "state": state, "status": {"error_code": code, "error_message": message}}
            for number, state, code, message in model.status()
        ]
    }


def metadata_json(version: Version) -> dict[str, Any]:
    """Returns the signatures of a version, as `GET /v1/models/NAME/metadata` answers."""
    definitions = {name: MessageToDict(value, preserving_proto_field_name=True) for name, value in version.definitions.items()}
    spec = {"name": version.name, "signature_name": "", "version": str(version.number)}
    return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": definitions}}}


def predict_json(version: Version, request: dict[str, Any]) -> dict[str, Any]:
    """Answers a Predict request, whose inputs come as rows (`instances`) or as columns (`inputs`)."""
    if ("instances" in request) == ("inputs" in request):
        raise ServingError("INVALID_ARGUMENT", 'Request should have either "instances" or "inputs"')
    signature, definition = version.definition(request.get("signature_name"), PREDICT)
    names = sorted(definition.inputs)
    if "inputs" in request:
        return _predict_columns(version, signature, names, request["inputs"])
    return _predict_rows(version, signature, names, request["instances"])


def _predict_columns(version: Version, signature: str, names: list[str], inputs: Any) -> dict[str, Any]:
    """Answers columns by name, or the one column of a signature with one input, in columns."""
    by_name = inputs if isinstance(inputs, dict) and set(inputs) != {"b64"} else {names[0]: inputs}
    outputs = version.answer(signature, as_lists(by_name), PREDICT)
    columns = {name: plain(value) for name, value in outputs.items()}
    return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}


def _predict_rows(version: Version, signature: str, names: list[str], rows: Any) -> dict[str, Any]:
    """Answers a list of rows, each an object of inputs or the value of the one input, in rows."""
    if not isinstance(rows, list):
        raise ServingError("INVALID_ARGUMENT", '"instances" should be a list')
    by_name = [row if isinstance(row, dict) and set(row) != {"b64"} else {names[0]: row} for row in rows]
    if len({tuple(sorted(row)) for row in by_name}) > 1:
        raise ServingError("INVALID_ARGUMENT", "all instances should have the same inputs")
    inputs = {name: [row[name] for row in by_name] for name in (by_name[0] if by_name else names)}
    outputs = version.answer(signature, inputs, PREDICT)
    if any(len(value) != len(rows) for value in outputs.values()):
        raise ServingError(
            "INVALID_ARGUMENT",
            'the outputs of this signature are not one for each instance: ask with "inputs", which gives them in columns',
        )
    columns = {name: plain(value) for name, value in outputs.items()}
    if len(columns) == 1:  # an output by itself goes without its name
        return {"predictions": next(iter(columns.values()))}
    return {"predictions": [{name: column[place] for name, column in columns.items()} for place in range(len(rows))]}


def as_lists(inputs: dict[str, Any]) -> dict[str, list[Any]]:
    """Returns inputs in which a single value has become a list of one."""
    return {name: value if isinstance(value, list) else [value] for name, value in inputs.items()}


def examples_of(request: dict[str, Any]) -> np.ndarray:
    """Returns the serialized `tf.Example`s of a Classify or Regress request; `context` holds features that all of them have."""
    examples = request.get("examples")
    if not isinstance(examples, list):
        raise ServingError("INVALID_ARGUMENT", 'Request should have a list of "examples"')
    shared = request.get("context") or {}
    return np.array(
        [tf_example({**shared, **example} if isinstance(example, dict) else example) for example in examples], object
    )


def classify_json(version: Version, request: dict[str, Any]) -> dict[str, Any]:
    """Answers a Classify request with pairs of a class and its score for each example."""
    outputs = version.answer(request.get("signature_name"), {"inputs": examples_of(request)}, CLASSIFY)
    pairs = zip(plain(outputs["classes"]), plain(outputs["scores"]))
    return {"results": [[list(pair) for pair in zip(classes, scores)] for classes, scores in pairs]}


def regress_json(version: Version, request: dict[str, Any]) -> dict[str, Any]:
    """Answers a Regress request with a number for each example."""
    outputs = version.answer(request.get("signature_name"), {"inputs": examples_of(request)}, REGRESS)
    return {"results": plain(outputs["outputs"].reshape(-1))}
