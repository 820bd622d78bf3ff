"""Asks a server for a model's answers, by REST with Python alone, or by gRPC with tensorflow-serving-api.

    python client.py spam --text "You have won a free prize" "See you at six"
    python client.py qa --question "Where is the tower?" --context "The tower stands in Paris." --grpc
    python client.py spam --rows texts.jsonl > answers.jsonl

The server says which columns a model takes; give each column as many values as the others. A file of rows has a JSON object in
each line, with a value for each column ("-" reads standard input). Each answer is a line of JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MOST_ROWS = 256  # of one request: the server refuses more than its max_batch_size
PREDICT = "tensorflow/serving/predict"
PORTS = {"rest": 8501, "grpc": 8500}


class ServingError(Exception):
    """A request that had no answer. The message is one line."""


class Model(NamedTuple):
    """A model of a server.

    Args:
      name: the name of the model.
      host: the server's address.
      port: the server's port; None for 8501, or 8500 by gRPC.
      version: the number of the version; None for the newest.
      label: the label of the version instead.
      timeout: seconds to wait for an answer.
    """

    name: str
    host: str = "localhost"
    port: int | None = None
    version: int | None = None
    label: str | None = None
    timeout: float = 60.0


class Signature(NamedTuple):
    """A signature, as the server describes it.

    Args:
      method: the name of the API that asks it.
      inputs: a type for each column, for example `DT_STRING`.
      outputs: the names of the outputs.
    """

    method: str
    inputs: Mapping[str, str]
    outputs: Sequence[str]


class Rest:
    """Asks by REST."""

    def __init__(self, model: Model) -> None:
        self._model, self._port = model, model.port or PORTS["rest"]
        part = f"/versions/{model.version}" if model.version is not None else f"/labels/{model.label}" if model.label else ""
        self._path = f"/v1/models/{model.name}{part}"

    def signatures(self) -> dict[str, Signature]:
        """Returns the model's signatures by name."""
        answer = self._answer("GET", f"{self._path}/metadata", None)
        try:
            found = answer["metadata"]["signature_def"]["signature_def"]
            return {
                name: Signature(
                    one.get("method_name", ""),
                    {column: info.get("dtype", "") for column, info in one.get("inputs", {}).items()},
                    sorted(one.get("outputs", {})),
                )
                for name, one in found.items()
            }
        except (KeyError, TypeError, AttributeError):
            raise ServingError(f"{self._address()} is no TF Serving: its metadata has no signatures") from None

    def predict(self, signature: str, columns: Mapping[str, Sequence[Any]], outputs: Sequence[str]) -> dict[str, list[Any]]:
        """Returns a list of values for each output; `columns` has a list for each input."""
        request = {"signature_name": signature, "inputs": columns}
        found: Any = self._answer("POST", f"{self._path}:predict", json.dumps(request)).get("outputs")
        return found if isinstance(found, dict) else {outputs[0]: found}  # an output by itself comes without its name

    def _address(self) -> str:
        return f"{self._model.host}:{self._port}"

    def _answer(self, method: str, path: str, body: str | None) -> dict[str, Any]:
        """Returns the JSON object of an answer."""
        connection = http.client.HTTPConnection(self._model.host, self._port, timeout=self._model.timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except TimeoutError:
            raise ServingError(f"{self._address()} gave no answer in {self._model.timeout:g} seconds") from None
        except (OSError, http.client.HTTPException) as error:
            raise ServingError(f"no REST server at {self._address()}: {error or type(error).__name__}") from None
        finally:
            connection.close()
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ServingError(f"{self._address()} is no TF Serving: HTTP {response.status}, and the answer is no JSON object")
        if response.status != 200 or "error" in answer:
            raise ServingError(f"HTTP {response.status}: {answer.get('error', content.decode('utf-8', 'replace'))}")
        return answer


class Grpc:
    """Asks by gRPC."""

    def __init__(self, model: Model) -> None:
        try:
            import grpc
            import tensorflow as tf
            from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc
        except ImportError:
            raise ServingError("gRPC needs a package: pip install tensorflow-serving-api; REST needs none") from None
        self._model, self._tf, self._error = model, tf, grpc.RpcError
        self._metadata, self._predict = get_model_metadata_pb2, predict_pb2
        size = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._address = f"{model.host}:{model.port or PORTS['grpc']}"
        self._channel = grpc.insecure_channel(self._address, size)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def signatures(self) -> dict[str, Signature]:
        """Returns the model's signatures by name."""
        request = self._named(self._metadata.GetModelMetadataRequest(metadata_field=["signature_def"]))
        definitions = self._metadata.SignatureDefMap()
        self._answer(self._stub.GetModelMetadata, request).metadata["signature_def"].Unpack(definitions)
        types = self._tf.dtypes.as_dtype
        return {
            name: Signature(
                one.method_name,
                {column: f"DT_{types(info.dtype).name.upper()}" for column, info in one.inputs.items()},
                sorted(one.outputs),
            )
            for name, one in definitions.signature_def.items()
            if one.method_name
        }

    def predict(self, signature: str, columns: Mapping[str, Sequence[Any]], outputs: Sequence[str]) -> dict[str, list[Any]]:
        """Returns a list of values for each output; `columns` has a list for each input."""
        request = self._named(self._predict.PredictRequest())
        request.model_spec.signature_name = signature
        for column, values in columns.items():
            request.inputs[column].CopyFrom(self._tf.make_tensor_proto(values))
        answer = self._answer(self._stub.Predict, request)
        return {name: text_of(self._tf.make_ndarray(tensor).tolist()) for name, tensor in answer.outputs.items()}

    def _named(self, request: Any) -> Any:
        """Returns the request, which names the model now."""
        request.model_spec.name = self._model.name
        if self._model.version is not None:
            request.model_spec.version.value = self._model.version
        if self._model.label:
            request.model_spec.version_label = self._model.label
        return request

    def _answer(self, call: Any, request: Any) -> Any:
        """Returns the answer to a request."""
        try:
            return call(request, timeout=self._model.timeout)
        except self._error as error:
            raise ServingError(f"gRPC at {self._address}: {error.code().name}: {error.details()}") from None


def ask(
    model: Model,
    columns: Mapping[str, Sequence[Any]],
    signature: str = "serving_default",
    grpc: bool = False,
    most_rows: int = MOST_ROWS,
) -> list[dict[str, Any]]:
    """Returns a dictionary of outputs for each row. Values that fill a row up behind its `count` are left out.

    >>> ask(Model("spam"), {"text": ["You have won a free prize", "See you at six"]})  # doctest: +SKIP

    Args:
      model: the model and its server.
      columns: a list of values for each input.
      signature: the name of the signature.
      grpc: ask by gRPC in place of REST.
      most_rows: the most rows of one request. More rows are asked for in several requests.

    Raises:
      ServingError: there is no answer; the message says why in one line.
    """
    way = Grpc(model) if grpc else Rest(model)
    return answers_of(way, way.signatures(), columns, signature, most_rows)


def answers_of(
    way: Rest | Grpc,
    signatures: Mapping[str, Signature],
    columns: Mapping[str, Sequence[Any]],
    signature: str,
    most_rows: int,
) -> list[dict[str, Any]]:
    """Returns a dictionary of outputs for each row.

    Args:
      way: how the server is asked.
      signatures: the model's signatures by name.
      columns: a list of values for each input.
      signature: the name of the signature.
      most_rows: the most rows of one request.
    """
    definition = definition_of(signatures, signature)
    check(definition, columns)
    answers: list[dict[str, Any]] = []
    size = len(next(iter(columns.values())))
    for place in range(0, size, most_rows):
        part = {column: list(values[place : place + most_rows]) for column, values in columns.items()}
        found = way.predict(signature, part, definition.outputs)
        for name, values in found.items():
            if not isinstance(values, list) or len(values) != min(most_rows, size - place):
                raise ServingError(f"output {name} of signature {signature} has not one value for each row")
        rows = [dict(zip(found, row)) for row in zip(*found.values())]
        answers += [{name: cut(value, row.get("count")) for name, value in row.items()} for row in rows]
    return answers


def definition_of(signatures: Mapping[str, Signature], name: str) -> Signature:
    """Returns a signature that the Predict API can ask, or raises an error that names those."""
    known = sorted(key for key, one in signatures.items() if one.method == PREDICT and one.inputs)
    if name not in known:
        raise ServingError(f"signature {name} cannot be asked; the model has {', '.join(known)}")
    return signatures[name]


def check(definition: Signature, columns: Mapping[str, Sequence[Any]]) -> None:
    """Raises a ServingError for columns that a signature does not take, and for columns of different sizes."""
    if set(columns) != set(definition.inputs):
        given = ", ".join(sorted(columns)) or "none"
        raise ServingError(f"the model takes the columns {', '.join(sorted(definition.inputs))}; given are {given}")
    sizes = {column: len(values) for column, values in columns.items()}
    if len(set(sizes.values())) > 1:
        raise ServingError(f"the columns have different numbers of values: {', '.join(f'{c} {n}' for c, n in sizes.items())}")
    for column, values in columns.items():
        for number, value in enumerate(values, 1):
            if definition.inputs[column] == "DT_STRING" and not is_text(value):
                raise ServingError(f"value {number} of column {column} is no text of Unicode characters: {value!r:.60}")


def is_text(value: Any) -> bool:
    """Returns whether a value is a string that can be written as UTF-8."""
    try:
        return isinstance(value, str) and value.encode("utf-8") is not None
    except UnicodeEncodeError:
        return False


def cut(value: Any, count: int | None) -> Any:
    """Returns the first `count` values of a list; anything else as it is."""
    return value[:count] if isinstance(value, list) and count is not None else value


def text_of(value: Any) -> Any:
    """Returns a value of an answer in which bytes are text."""
    if isinstance(value, list):
        return [text_of(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def rows_of(path: str) -> list[dict[str, Any]]:
    """Returns the objects of a file that has one in each line. Empty lines are left out.

    Args:
      path: the file; "-" for standard input.
    """
    try:
        content = sys.stdin.buffer.read() if path == "-" else open(path, "rb").read()  # noqa: SIM115
        lines = content.decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ServingError(f"{path} cannot be read: {error}") from None
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ServingError(f"{path}, line {number}: {error}") from None
        if not isinstance(row, dict) or (rows and set(row) != set(rows[0])):
            expected = f"an object with {', '.join(sorted(rows[0]))}" if rows else "an object with a value for each column"
            raise ServingError(f"{path}, line {number}: {expected} is expected, got {line.strip()[:60]}")
        rows.append(row)
    if not rows:
        raise ServingError(f"{path} holds no rows")
    return rows


def columns_of(definition: Signature, words: Sequence[str]) -> dict[str, list[Any]]:
    """Returns the columns that a command line gives, such as `--text "one text" "another"`.

    Args:
      definition: the signature; each of its columns is an option.
      words: the rest of the command line.
    """
    parser = argparse.ArgumentParser(prog="client.py MODEL", allow_abbrev=False, add_help=False)
    for column in sorted(definition.inputs):
        parser.add_argument(f"--{column}", nargs="+", required=True, metavar="VALUE")
    given = vars(parser.parse_args(words))
    return {
        column: [value if definition.inputs[column] == "DT_STRING" else json_of(column, value) for value in values]
        for column, values in given.items()
    }


def json_of(column: str, value: str) -> Any:
    """Returns a value of a column that holds numbers, such as `"[2, 7, 3]"`."""
    try:
        return json.loads(value)
    except ValueError:
        raise ServingError(f"column {column} takes numbers in JSON, got {value:.60}") from None


def main() -> None:
    """Asks for the answers to the command line's texts, and prints each as a line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", help="the name of the model; the columns follow, such as --text VALUE ...")
    parser.add_argument("--rows", metavar="FILE", help="a file with a JSON object of columns in each line")
    parser.add_argument("--signature", default="serving_default")
    version = parser.add_mutually_exclusive_group()
    version.add_argument("--version", type=int, help="the number of the version (default: the newest)")
    version.add_argument("--label", help="the label of the version")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, help="default: 8501, or 8500 with --grpc")
    parser.add_argument("--grpc", action="store_true", help="ask by gRPC")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for an answer (default: 60)")
    parser.add_argument("--most-rows", type=int, default=MOST_ROWS, help=f"rows of one request (default: {MOST_ROWS})")
    options, words = parser.parse_known_args()
    if options.most_rows < 1 or not options.timeout > 0:
        parser.error("--most-rows and --timeout take numbers above 0")
    if options.rows and words:
        parser.error(f"--rows gives the columns; {words[0]} goes without it")
    model = Model(options.model, options.host, options.port, options.version, options.label, options.timeout)
    try:
        way = Grpc(model) if options.grpc else Rest(model)
        signatures = way.signatures()
        definition = definition_of(signatures, options.signature)
        if options.rows:
            rows = rows_of(options.rows)
            columns = {column: [row[column] for row in rows] for column in rows[0]}
        else:
            columns = columns_of(definition, words)
        answers = answers_of(way, signatures, columns, options.signature, options.most_rows)
    except ServingError as error:
        sys.exit(f"client.py: {' '.join(str(error).split())}")
    for answer in answers:
        print(json.dumps(answer, ensure_ascii=False))


if __name__ == "__main__":
    main()
