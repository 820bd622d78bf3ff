"""Asks a server for a model's answers, by REST with Python alone, or by gRPC with tensorflow-serving-api.

    python client.py spam "You have won a free prize" [--host localhost] [--grpc]

For a question answerer give two texts, the question and where to look.
"""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from typing import Any


def by_rest(
    name: str,
    inputs: dict[str, list[Any]],
    signature: str = "serving_default",
    host: str = "localhost",
    port: int = 8501,
    version: int | None = None,
) -> Any:
    """Asks a model by REST.

    Args:
      name: the name of the model.
      inputs: a list of values for each input.
      signature: the name of the signature.
      host: the server's address.
      port: the server's REST port.
      version: the number of the version; the one that answers by default.

    Returns:
      A list of values for each output; the list alone if there is one output.
    """
    part = "" if version is None else f"/versions/{version}"
    body = json.dumps({"signature_name": signature, "inputs": inputs}).encode("utf-8")
    request = urllib.request.Request(
        f"http://{host}:{port}/v1/models/{name}{part}:predict", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as response:
            return json.load(response)["outputs"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"HTTP {error.code}: {error.read().decode('utf-8', 'replace')}") from None


def by_grpc(
    name: str,
    inputs: dict[str, list[Any]],
    signature: str = "serving_default",
    host: str = "localhost",
    port: int = 8500,
    version: int | None = None,
) -> dict[str, Any]:
    """Asks a model by gRPC.

    Args:
      name: the name of the model.
      inputs: a list of values for each input.
      signature: the name of the signature.
      host: the server's address.
      port: the server's gRPC port.
      version: the number of the version; the one that answers by default.

    Returns:
      A NumPy array for each output.
    """
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    for column, values in inputs.items():
        request.inputs[column].CopyFrom(tf.make_tensor_proto(values))
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
    return {column: tf.make_ndarray(tensor) for column, tensor in response.outputs.items()}


def main() -> None:
    """Asks for the answers to the texts of the command line, and prints them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the name of the model")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, help="default: 8501, or 8500 with --grpc")
    parser.add_argument("--grpc", action="store_true")
    options = parser.parse_args()
    columns = ("text",) if len(options.texts) == 1 else ("question", "context")
    ask: Any = by_grpc if options.grpc else by_rest
    port = options.port or (8500 if options.grpc else 8501)
    inputs = {column: [text] for column, text in zip(columns, options.texts)}
    for column, values in ask(options.name, inputs, host=options.host, port=port).items():
        print(f"{column}: {values}")


if __name__ == "__main__":
    main()
