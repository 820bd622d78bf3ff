"""TF Serving's REST paths: a request's path and body become a status and a JSON object.

Sources: tensorflow_serving/model_servers/http_rest_api_handler.cc and http_rest_api_util.cc.
"""

from __future__ import annotations

import re
import urllib.parse
import zlib
from typing import Any

from google.protobuf.json_format import MessageToDict

from kbert.export.server import calls, json_requests
from kbert.export.server.errors import HTTP, ServingError, invalid
from kbert.export.server.models import Model, found
from kbert.export.server.versions import Version

WHICH = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
PATHS = {
    "POST": re.compile(rf"(?i)/v1/models/(?P<name>[^/:]+){WHICH}:(?P<verb>classify|regress|predict)"),
    "GET": re.compile(rf"(?i)/v1/models(?:/(?P<name>[^/:]+))?{WHICH}(?:/(?P<verb>metadata))?"),
}
# tensorflow_serving/util/net_http/compression/gzip_zlib.h, kMaxUncompressedBytes
MOST_INFLATED = 100 * 2**20


def rest(models: dict[str, Model], method: str, path: str, body: bytes, encoding: str = "") -> tuple[int, dict[str, Any]]:
    """Answers a request with an HTTP status and a JSON object. No other header of a request is read, its type neither.

    Args:
      models: the served models by name.
      method: `"GET"` or `"POST"`.
      path: the path of the URL, without a query.
      body: the body of the request.
      encoding: the header Content-Encoding.
    """
    try:
        if not path.lower().startswith("/v1/"):
            raise ServingError("NOT_FOUND", f"there is nothing at {path}")
        matched = PATHS[method].fullmatch(path) if method in PATHS else None
        if not matched:
            raise invalid(f"Malformed request: {method} {path}")
        name = urllib.parse.unquote(matched["name"] or "")
        number = int(matched["version"]) if matched["version"] else None
        label = urllib.parse.unquote(matched["label"]) if matched["label"] else None
        verb = (matched["verb"] or "").lower()
        if number is not None and number >= 2**63:
            raise invalid(f"version {number} is no version: it does not fit into 64 bits")
        model = found(models, name)
        if method == "GET" and not verb:
            return 200, status_json(model, number)
        with model.using(number, label) as version:
            if method == "GET":
                return 200, metadata_json(version)
            request = json_requests.parse(inflated(body) if "gzip" in encoding else body)
            return 200, {"predict": predict_json, "classify": classify_json, "regress": regress_json}[verb](version, request)
    except ServingError as error:
        return HTTP[error.status], {"error": str(error)}


def inflated(body: bytes) -> bytes:
    """Returns a body that was sent with gzip. Source: tensorflow_serving/util/net_http/server/internal/evhttp_request.cc.

    Raises:
      ServingError: the body is not gzip, or has more than `MOST_INFLATED` bytes.
    """
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        content = stream.decompress(body, MOST_INFLATED)
    except zlib.error as error:
        raise invalid(f"the body should be gzip, as Content-Encoding says: {error}") from None
    if stream.unconsumed_tail:
        raise invalid(f"the body has more than {MOST_INFLATED} bytes when it is inflated")
    if not stream.eof:
        raise invalid("the body should be gzip, as Content-Encoding says: it ends too early")
    return content


def status_json(model: Model, number: int | None = None) -> dict[str, Any]:
    """Returns the states of a model's versions, or of one, as `GET /v1/models/NAME` answers."""
    return {
        "model_version_status": [
            {"version": str(version), "state": state, "status": {"error_code": code, "error_message": message}}
            for version, state, code, message in model.status(number)
        ]
    }


def metadata_json(version: Version) -> dict[str, Any]:
    """Returns the signatures of a version, as `GET /v1/models/NAME/metadata` answers."""
    definitions = {
        name: MessageToDict(value, preserving_proto_field_name=True) for name, value in version.session.definitions.items()
    }
    spec = {"name": version.name, "signature_name": "", "version": str(version.number)}
    return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": definitions}}}


def predict_json(version: Version, request: dict[str, Any]) -> dict[str, Any]:
    """Answers a Predict request, whose inputs come as rows (`instances`) or as columns (`inputs`)."""
    signature = json_requests.signature_of(request) or calls.DEFAULT
    if signature not in version.session.definitions:
        raise invalid(f'Serving signature name: "{signature}" not found in signature def')
    inputs, rows = json_requests.tensors(request, version.session.definitions[signature].inputs)
    return json_requests.predictions(calls.predict(version.session, signature, inputs), rows)


def classify_json(version: Version, request: dict[str, Any]) -> dict[str, Any]:
    """Answers a Classify request with pairs of a class and its score for each example."""
    signature = json_requests.signature_of(request)
    rows = calls.classify(version.session, signature, *json_requests.examples(request))
    return {"results": [[[label, float(str(score))] for label, score in row] for row in rows]}


def regress_json(version: Version, request: dict[str, Any]) -> dict[str, Any]:
    """Answers a Regress request with a number for each example."""
    signature = json_requests.signature_of(request)
    return {"results": json_requests.plain(calls.regress(version.session, signature, *json_requests.examples(request)))}
