"""The development server.

The server has TF Serving's REST paths and gRPC services, its errors, and takes new versions under load.
"""

import base64
import concurrent.futures
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

import kbert
from kbert.export import export_serving
from kbert.export.server import Server
from tests.conftest import TINY, tiny_tokenizer
from tests.export.test_saved_model import make


@pytest.fixture(scope="module")
def tasks():
    tokenizer = tiny_tokenizer()
    return {
        kind: make(kind, kbert.BertEncoder(kbert.BertConfig(**TINY)), tokenizer) for kind in ("single", "tokens", "regression")
    }


@pytest.fixture(scope="module")
def folder(tasks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    for name, task in tasks.items():
        export_serving(task, folder, name)
    return folder


@pytest.fixture(scope="module")
def server(folder, tasks):
    with Server({name: folder / "models" / name for name in tasks}, rest_port=0, grpc_port=0, poll=0.2) as server:
        yield server


def rest(server, path, body=None, method=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    content = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    connection.request(method or ("GET" if body is None else "POST"), path, content)
    response = connection.getresponse()
    return response.status, json.loads(response.read() or b"{}")


def probabilities(task, texts):
    return [list(answer["scores"].values()) for answer in task.classify(texts)]


TEXTS = ["good cat", "", "Élan 你好 🙂", "the film so bad . " * 20]


def test_predict_by_rows_and_by_columns(server, tasks):
    status, found = rest(server, "/v1/models/single:predict", {"instances": TEXTS})
    assert status == 200
    np.testing.assert_allclose(
        [row["probabilities"] for row in found["predictions"]], probabilities(tasks["single"], TEXTS), atol=1e-5
    )
    assert [row["label"] for row in found["predictions"]] == [a["label"] for a in tasks["single"].classify(TEXTS)]
    encoded = [{"text": {"b64": base64.b64encode(text.encode()).decode()}} for text in TEXTS]
    assert rest(server, "/v1/models/single/versions/1:predict", {"instances": encoded}) == (200, found)
    status, columns = rest(server, "/v1/models/single:predict", {"inputs": {"text": TEXTS}})
    assert columns["outputs"]["label"] == [row["label"] for row in found["predictions"]]


def test_entities_come_in_rows_and_in_columns(server, tasks):
    expected = tasks["tokens"].classify(TEXTS)
    status, found = rest(server, "/v1/models/tokens:predict", {"instances": TEXTS})
    assert status == 200
    for row, entities in zip(found["predictions"], expected):
        assert row["count"] == len(entities)
        assert row["entity"][: row["count"]] == [entity["text"] for entity in entities]
    status, columns = rest(server, "/v1/models/tokens:predict", {"inputs": TEXTS})
    assert status == 200
    assert columns["outputs"] == {name: [row[name] for row in found["predictions"]] for name in found["predictions"][0]}


def test_classify_and_regress_take_examples(server, tasks):
    request = {"signature_name": "classify", "examples": [{"text": text} for text in TEXTS]}
    status, found = rest(server, "/v1/models/single:classify", request)
    assert status == 200 and [label for label, _ in found["results"][0]] == tasks["single"].labels
    np.testing.assert_allclose(
        [[s for _, s in row] for row in found["results"]], probabilities(tasks["single"], TEXTS), atol=1e-5
    )
    status, found = rest(server, "/v1/models/regression:regress", {**request, "signature_name": "regress"})
    np.testing.assert_allclose(found["results"], tasks["regression"].predict(TEXTS)[:, 0], atol=1e-5)


def test_status_and_metadata(server):
    status, found = rest(server, "/v1/models/single")
    assert status == 200 and found["model_version_status"][0]["version"] == "1"
    assert found["model_version_status"][0]["state"] == "AVAILABLE"
    status, found = rest(server, "/v1/models/single/metadata")
    definitions = found["metadata"]["signature_def"]["signature_def"]
    assert definitions["serving_default"]["inputs"]["text"]["dtype"] == "DT_STRING"
    assert definitions["classify"]["method_name"] == "tensorflow/serving/classify"


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/models/none:predict", {"instances": ["a"]}, 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/single/versions/7:predict", {"instances": ["a"]}, 404, "Specific(single, 7)"),
        ("/v1/models/single:explain", {"instances": ["a"]}, 400, "Malformed request"), ("/v2/x", {}, 404, "nothing at /v2/x"),
        ("/v1/models/single:predict", b"{nonsense", 400, "JSON Parse error"),
        ("/v1/models/single:predict", b"\xff\xfe", 400, "JSON Parse error"),
        ("/v1/models/single:predict", {}, 400, 'either "instances" or "inputs"'),
        ("/v1/models/single:predict", {"signature_name": "x", "instances": ["a"]}, 400, '"x" not found in signature def'),
        ("/v1/models/single:predict", {"instances": [3]}, 400, "input text of item 0 should be string, got 3"),
        ("/v1/models/single:predict", {"instances": [["a"]]}, 400, "input text should have one axis"),
        ("/v1/models/single:predict", {"instances": [{"words": "a"}]}, 400, "should have the inputs ['text'], got ['words']"),
        ("/v1/models/single:predict", {"instances": [{"b64": "%%"}]}, 400, "b64 is not base64"),
        ("/v1/models/single:classify", {"examples": [{"text": "a"}]}, 400, "is not for the Classify API"),
        ("/v1/models/single:classify", {"signature_name": "classify", "examples": [{"words": "a"}]}, 400, "text"),
    ],
)  # fmt: skip
def test_bad_requests_have_their_status_and_the_server_goes_on(server, path, body, status, message):
    found = rest(server, path, body)
    assert found[0] == status and message in found[1]["error"]
    assert rest(server, "/v1/models/single:predict", {"instances": ["good"]})[0] == 200


def test_odd_requests_are_answered(server, tasks):
    assert rest(server, "/v1/models/single:predict", {"inputs": []})[0] == 200
    assert rest(server, "/v1/models/single:predict", {"instances": ["good " * 200_000]})[0] == 200  # 1 MB
    invalid = {"b64": base64.b64encode(b"caf\xe9 good").decode()}
    assert rest(server, "/v1/models/single:predict", {"instances": [invalid, "good"]})[0] == 200
    with socket.create_connection(("127.0.0.1", server.rest_port)) as client:  # one that hangs up
        client.sendall(b"POST /v1/models/single:predict HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{")
    with socket.create_connection(("127.0.0.1", server.rest_port)) as client:  # one that wants too much
        client.sendall(b"POST /v1/models/single:predict HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n")
        assert client.recv(1000)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 413")
    assert rest(server, "/v1/models/single:predict", {"instances": ["good"]})[0] == 200


# gRPC


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


def request_of(texts, name="single", signature="", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    request.inputs["text"].CopyFrom(tf.make_tensor_proto(texts, tf.string))
    return request


def test_grpc_predict_classify_metadata_and_status(channel, tasks):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = request_of(TEXTS)
    found = stub.Predict(request)
    expected = probabilities(tasks["single"], TEXTS)
    np.testing.assert_allclose(tf.make_ndarray(found.outputs["probabilities"]), expected, atol=1e-5)
    assert found.model_spec.version.value == 1
    request.output_filter.append("label")
    assert list(stub.Predict(request).outputs) == ["label"]
    classify = classification_pb2.ClassificationRequest()
    classify.model_spec.name, classify.model_spec.signature_name = "single", "classify"
    for text in TEXTS:
        classify.input.example_list.examples.add().features.feature["text"].bytes_list.value.append(text.encode())
    rows = stub.Classify(classify).result.classifications
    np.testing.assert_allclose([[one.score for one in row.classes] for row in rows], expected, atol=1e-5)
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "single"
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert stub.GetModelMetadata(metadata).metadata["signature_def"].Unpack(definitions)
    assert "serving_default" in definitions.signature_def
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "single"
    assert (
        model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status).model_version_status[0].state == 30
    )  # AVAILABLE


def test_grpc_errors_have_their_status(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    bad_version = request_of(["a"])
    bad_version.model_spec.version.value = 9
    wrong_type = request_of(["a"])
    wrong_type.inputs["text"].CopyFrom(tf.make_tensor_proto([1, 2]))
    for request, code in (
        (request_of(["a"], "none"), grpc.StatusCode.NOT_FOUND),
        (bad_version, grpc.StatusCode.NOT_FOUND),
        (request_of(["a"], signature="x"), grpc.StatusCode.FAILED_PRECONDITION),
        (wrong_type, grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.RpcError) as error:
            stub.Predict(request)
        assert error.value.code() == code


# Versions


def test_new_versions_take_over_while_clients_ask(tasks, tmp_path):
    """No failed and no wrong answer: each is one of the versions', whole."""
    task = tasks["single"]
    export_serving(task, tmp_path, "m", verify=False)
    bias = task.classifier.bias.numpy()
    expected = [probabilities(task, TEXTS)]
    with Server({"m": tmp_path / "models" / "m"}, rest_port=0, grpc_port=0, poll=0.1) as server:
        stopped, answers = time.monotonic() + 60, []

        def ask():
            seen = []
            while time.monotonic() < stopped and len(server.models["m"].versions()) < 4 or not seen:
                status, found = rest(server, "/v1/models/m:predict", {"instances": TEXTS})
                seen.append((status, [row["probabilities"] for row in found.get("predictions", [])]))
                time.sleep(0.02)  # leaves the exports some of the processor
            return seen

        try:
            with concurrent.futures.ThreadPoolExecutor(6) as pool:
                asking = [pool.submit(ask) for _ in range(6)]
                for number in range(2, 5):
                    task.classifier.bias.assign(bias + [number, 0, 0])
                    expected.append(probabilities(task, TEXTS))
                    export_serving(task, tmp_path, "m", verify=False)
                answers = [answer for future in asking for answer in future.result()]
            while server.models["m"].get().number != 4:
                assert time.monotonic() < stopped
                time.sleep(0.05)
        finally:
            task.classifier.bias.assign(bias)
        assert rest(server, "/v1/models/m:predict", {"instances": ["good"]})[0] == 200
        # A version that is half there, and one that is none, change nothing.
        (tmp_path / "models" / "m" / "9").mkdir()
        (tmp_path / "models" / "m" / "8" / "variables").mkdir(parents=True)
        (tmp_path / "models" / "m" / "8" / "saved_model.pb").write_bytes(b"none")
        (tmp_path / "models" / "m" / "8" / "variables" / "variables.index").write_bytes(b"none")
        time.sleep(0.5)
        assert rest(server, "/v1/models/m:predict", {"instances": ["good"]})[0] == 200
        assert any(
            one["version"] == "8" and one["status"]["error_message"]
            for one in rest(server, "/v1/models/m")[1]["model_version_status"]
        )
    assert len(answers) > 20
    for status, found in answers:
        assert status == 200
        assert any(np.allclose(found, right, atol=1e-5) for right in expected)


# The command


def test_folders_without_versions_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        Server({"x": tmp_path / "none"}, 0, 0)
    with pytest.raises(FileNotFoundError, match="holds no version that can be served"):
        Server({"x": tmp_path}, 0, 0)


def test_the_command_line_serves_until_it_is_told_to_stop(folder, tmp_path):
    shutil.copytree(folder / "models" / "single", tmp_path / "mine")
    command = [sys.executable, "-m", "kbert", "serve", str(tmp_path / "mine"), "--rest-port", "0", "--grpc-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as process:
        line = process.stdout.readline()
        assert line.startswith("mine, version 1: http://127.0.0.1:")
        port = int(line.split(":")[3].split("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/v1/models/mine:predict", json.dumps({"instances": ["good"]}))
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
