"""A stock TF Serving and its stand-in, `kbert serve`: both are started with the same files and asked in the same way.

    python -m tests.export.stock_server

says which stock server is here, and fails if there is none. TF_MODEL_SERVER names the program; otherwise it is looked for on
the path, and then as a Docker image, TF_SERVING_IMAGE.
"""

import contextlib
import functools
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
from typing import NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2, prediction_service_pb2_grpc, regression_pb2

IMAGE = os.environ.get("TF_SERVING_IMAGE", "tensorflow/serving:2.20.0")
BATCHING = "max_batch_size { value: 128 } batch_timeout_micros { value: 1000 } max_enqueued_batches { value: 200 }\n"
CONFIG = 'config {{ name: "{name}" base_path: "{folder}" model_platform: "tensorflow" {rest} }}\n'


class Server(NamedTuple):
    """A running server."""

    rest_port: int
    grpc_port: int

    def rest(self, path, body=None, method=None, **headers):
        """Returns the status and the JSON object that answer a request. A body is bytes, or what JSON has."""
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=60)
        content = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method or ("GET" if body is None else "POST"), path, content, headers)
        response = connection.getresponse()
        status, answer = response.status, json.loads(response.read() or b"{}")
        connection.close()
        return status, answer

    @functools.cache  # noqa: B019 - channels live as long as the tests
    def stub(self):
        """Returns the gRPC client of the PredictionService."""
        sizes = [(f"grpc.max_{way}_message_length", 2**26) for way in ("receive", "send")]
        return prediction_service_pb2_grpc.PredictionServiceStub(
            grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}", options=sizes)
        )

    def rows(self, name, columns, signature="serving_default"):
        """Returns the outputs by name of a REST request in rows."""
        rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
        status, found = self.rest(f"/v1/models/{name}:predict", {"signature_name": signature, "instances": rows})
        if status != 200:
            raise Refused(status, found["error"])
        answers = found["predictions"]
        if not isinstance(answers[0], dict):
            return {"": as_bytes(answers)}
        return {output: as_bytes([row[output] for row in answers]) for output in answers[0]}

    def columns(self, name, columns, signature="serving_default"):
        """Returns the outputs by name of a REST request in columns."""
        request = {"signature_name": signature, "inputs": columns}
        status, found = self.rest(f"/v1/models/{name}:predict", request)
        if status != 200:
            raise Refused(status, found["error"])
        outputs = found["outputs"] if isinstance(found["outputs"], dict) else {"": found["outputs"]}
        return {output: as_bytes(values) for output, values in outputs.items()}

    def predict(self, name, columns, signature="", **spec):
        """Returns the outputs by name of a gRPC request."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = name, signature
        for column, values in columns.items():
            request.inputs[column].CopyFrom(tf.make_tensor_proto(values))
        try:
            response = self.stub().Predict(request, timeout=60)
        except grpc.RpcError as error:
            raise Refused(error.code().name, error.details()) from None
        return {output: tf.make_ndarray(proto) for output, proto in response.outputs.items()}

    def api(self, name, columns, method, context=None):
        """Returns the scores or numbers of a gRPC request of the Classify or Regress API."""
        kinds = {"classify": classification_pb2.ClassificationRequest, "regress": regression_pb2.RegressionRequest}
        request = kinds[method]()
        request.model_spec.name, request.model_spec.signature_name = name, method
        examples = [tf.train.Example.FromString(row) for row in serialized(columns)]
        if context is None:
            request.input.example_list.examples.extend(examples)
        else:
            request.input.example_list_with_context.examples.extend(examples)
            request.input.example_list_with_context.context.MergeFromString(serialized(context)[0])
        try:
            result = getattr(self.stub(), method.capitalize())(request, timeout=60).result
        except grpc.RpcError as error:
            raise Refused(error.code().name, error.details()) from None
        if method == "regress":
            return [row.value for row in result.regressions]
        return [[one.score for one in row.classes] for row in result.classifications]

    def api_rest(self, name, columns, method, **more):
        """Returns the scores or numbers of a REST request of the Classify or Regress API."""
        rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
        status, found = self.rest(f"/v1/models/{name}:{method}", {"signature_name": method, "examples": rows, **more})
        if status != 200:
            raise Refused(status, found["error"])
        return found["results"] if method == "regress" else [[score for _, score in row] for row in found["results"]]


class Refused(Exception):
    """The status and the message of a request that was not answered."""


def serialized(columns):
    """Returns a serialized tf.Example for each row of columns of texts."""
    rows = []
    for row in zip(*columns.values()):
        features = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()])) for name, text in zip(columns, row)
        }
        rows.append(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return rows


def as_bytes(values):
    """Returns JSON's lists as an array, strings as bytes objects, as a graph has them."""
    array = np.array(values)
    if array.dtype.kind != "U":
        return array
    filled = np.empty(array.size, object)
    filled[:] = [text.encode("utf-8", "surrogateescape") for text in np.array(values, object).ravel()]
    return filled.reshape(array.shape)


def model_config(folders, **more):
    """Returns a list of models for `--model_config_file`.

    Args:
      folders: a dictionary from a model's name to the folder of its versions.
      **more: further fields of a model by its name, as text.
    """
    entries = [CONFIG.format(name=name, folder=folder, rest=more.get(name, "")) for name, folder in folders.items()]
    return f"model_config_list {{\n{''.join(entries)}}}\n"


def stock():
    """Returns the words that start the stock server, or None where there is none.

    Raises:
      ValueError: TF_MODEL_SERVER names no program.
    """
    given = os.environ.get("TF_MODEL_SERVER")
    if given and not shutil.which(given):
        raise ValueError(
            f"TF_MODEL_SERVER is {given!r}, which is no program that can be run: name tensorflow_model_server's path"
        )
    program = given or shutil.which("tensorflow_model_server")
    if program:
        return [program]
    if shutil.which("docker") and subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True).returncode == 0:
        return ["docker", "run", "--rm", "--network", "host", "--volume", "/tmp:/tmp:ro", IMAGE]
    return None


@contextlib.contextmanager
def running(room, config, batching=None, real=False):
    """Starts a server, and gives it as soon as its models answer.

    Args:
      room: an empty folder for its files.
      config: the list of models.
      batching: the batching parameters as text; None for no batching, "per model" for the file in each version's folder.
      real: whether to start the stock server in the place of `kbert serve`.
    """
    room = pathlib.Path(room)
    room.mkdir(parents=True, exist_ok=True)
    (room / "models.config").write_text(config)
    ports = [free_port(), free_port()] if real else [0, 0]
    options = {"model_config_file": room / "models.config", "allow_version_labels_for_unavailable_models": "true"}
    options |= {"rest_api_port": ports[0], "port": ports[1]} if real else {"rest_port": ports[0], "grpc_port": ports[1]}
    if batching:
        options["enable_batching"] = "true"
    if batching == "per model":
        options["enable_per_model_batching_parameters"] = "true"
    elif batching:
        (room / "batching.txt").write_text(batching)
        options["batching_parameters_file"] = room / "batching.txt"
    if real:
        command = stock() + [f"--{name}={value}" for name, value in options.items()]
    else:
        command = [sys.executable, "-m", "kbert", "serve"]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}"] + ([] if value == "true" else [str(value)])
    log = room / "log.txt"
    with log.open("w") as lines:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, stdout=lines, stderr=subprocess.STDOUT, env=environment)
    try:
        yield answering(process, log, re.findall(r'name: "([^"]*)"', config), ports)
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}: {log.read_text()[-2000:]}")
    finally:
        process.terminate()
        process.wait(30)


def answering(process, log, names, ports):
    """Returns a server as soon as its models answer."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}: {log.read_text()[-2000:]}")
        told = re.search(r"127\.0\.0\.1:(\d+)/v1(?:.|\n)*gRPC on port (\d+)", log.read_text())
        server = Server(*map(int, told.groups())) if told else Server(*ports)
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.rest_port and all(
                any(version["state"] == "AVAILABLE" for version in found.get("model_version_status", []))
                for _, found in [server.rest(f"/v1/models/{name}") for name in names]
            ):
                return server
        time.sleep(0.1)
    raise RuntimeError(f"no answer in two minutes: {log.read_text()[-2000:]}")


def free_port():
    """Returns the number of a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    try:
        words = stock()
    except ValueError as error:
        sys.exit(str(error))
    if words is None:
        sys.exit(
            "there is no stock TF Serving here: name tensorflow_model_server in TF_MODEL_SERVER, put it on the path, or pull "
            f"the image {IMAGE}"
        )
    print("the stock server:", " ".join(words))
