"""The folder for TF Serving, and the client in it, which runs without kbert and asks any task by REST and by gRPC."""

import contextlib
import json
import os
import runpy
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

import kbert
from kbert.export import client, export_serving
from kbert.export import tf_serving as kit
from kbert.export.raw_session import RawSession
from kbert.export.server import Server
from tests.conftest import TINY, tiny_tokenizer
from tests.export.test_saved_model import make

KINDS = ("pairs", "tokens", "answers")


@pytest.fixture(scope="module")
def tasks():
    return {kind: make(kind, kbert.BertEncoder(kbert.BertConfig(**TINY)), tiny_tokenizer()) for kind in KINDS}


@pytest.fixture(scope="module")
def folder(tasks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit")
    for kind, task in tasks.items():
        export_serving(task, folder, kind, verify=False, pairs=True if kind == "pairs" else None)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with Server({kind: folder / "models" / kind for kind in KINDS}, rest_port=0, grpc_port=0, poll=60) as server:
        yield server


@pytest.fixture
def unwritten(monkeypatch):
    """Exports write an empty folder in place of a SavedModel."""

    def export_saved_model(task, path, **options):
        path.mkdir(parents=True)

    monkeypatch.setattr(kit, "export_saved_model", export_saved_model)


def models_of(folder):
    from google.protobuf import text_format

    text = (folder / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    return {entry.name: entry for entry in config.model_config_list.config}


# The folder


def test_the_kit_has_what_tf_serving_reads(folder):
    assert {path.name for path in folder.iterdir()} == {"models", "models.config", "docker-compose.yml", "client.py"}
    assert {name: entry.base_path for name, entry in models_of(folder).items()} == {kind: f"/models/{kind}" for kind in KINDS}
    for kind in KINDS:
        path = folder / "models" / kind / "1" / "batching_params.pbtxt"
        assert path.exists() == (kind != "answers")
        parameters = path.read_text() if path.exists() else ""
        assert (f"max_batch_size {{ value: {client.MOST_ROWS} }}" in parameters) == path.exists()
        for unsafe in ("splitting", "allowed_batch_sizes", "pad_variable_length_inputs"):  # docs/serving.md says why
            assert unsafe not in parameters


def test_each_signature_has_warm_up_requests_of_one_row_and_of_several(folder):
    path = folder / "models" / "pairs" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    logs = [prediction_log_pb2.PredictionLog.FromString(log) for log in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    predicted = [log.predict_log.request for log in logs if log.HasField("predict_log")]
    classified = [log.classify_log.request for log in logs if log.HasField("classify_log")]
    assert {request.model_spec.name for request in predicted + classified} == {"pairs"}
    names = [request.model_spec.signature_name for request in predicted]
    assert sorted(names) == sorted(["labels", "serving_default", "tokenize", "tokens"] * 3)
    sizes = [next(iter(request.inputs.values())).tensor_shape.dim[0].size for request in predicted]
    assert sorted(sizes) == [1] * 8 + [3] * 4
    assert [len(request.input.example_list.examples) for request in classified] == [1, 1, 3]


def test_a_warm_up_request_that_a_server_would_refuse_stops_the_export(folder, tasks, tmp_path, monkeypatch):
    whole = RawSession.run
    monkeypatch.setattr(
        RawSession, "run", lambda self, signature, inputs: {k: v[:1] for k, v in whole(self, signature, inputs).items()}
    )
    with pytest.raises(RuntimeError, match="has the shape .* for 3 rows"):
        export_serving(tasks["answers"], tmp_path, "spam", verify=False)
    assert not (tmp_path / "models.config").exists() and not (tmp_path / "models" / "spam" / "1").exists()


def test_the_compose_file_is_yaml_and_its_health_check_tells_a_server_with_models_from_one_without(folder, server, tmp_path):
    yaml = pytest.importorskip("yaml")
    service = yaml.safe_load((folder / "docker-compose.yml").read_text())["services"]["serving"]
    assert service["image"].count(":") == 1 and not service["image"].endswith(":latest")
    assert service["restart"] == "unless-stopped" and service["ports"] == ["8500:8500", "8501:8501"]
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    command, *arguments = service["healthcheck"]["test"]
    assert command == "CMD"
    script = arguments[-1].replace("$$", "$").replace("8501", str(server.rest_port))

    def health(text):
        (tmp_path / "models.config").write_text(text)
        local = script.replace("/config", str(tmp_path))
        return subprocess.run([*arguments[:-1], local], capture_output=True, timeout=60, check=False).returncode

    healthy = (folder / "models.config").read_text()
    assert health(healthy) == 0
    assert health(f'# name: "none"\n{healthy}') == 0
    assert health(healthy.replace('name: "tokens"', 'name: "none"')) == 1
    script = script.replace(str(server.rest_port), str(free_port()))
    assert health(healthy) == 1


# What is in the folder already


def test_versions_and_labels_go_into_the_list_of_models(unwritten, tmp_path):
    for number in (1, 2):
        assert export_serving(None, tmp_path, "spam", latest=2, version_labels={"stable": 1, "new": None}).name == str(number)
        assert dict(models_of(tmp_path)["spam"].version_labels) == {"stable": 1, "new": number}
    assert models_of(tmp_path)["spam"].model_version_policy.latest.num_versions == 2
    with pytest.raises(ValueError, match="label stable of model spam names version 1"):
        export_serving(None, tmp_path, "spam")
    assert not (tmp_path / "models" / "spam" / "3").exists()
    export_serving(None, tmp_path, "spam", versions=[1, 2])
    with pytest.raises(ValueError, match="label new of model spam names version 2"):
        export_serving(None, tmp_path, "spam", versions=[1, 4])


def test_what_somebody_changed_in_the_folder_stays(unwritten, tmp_path):
    export_serving(None, tmp_path, "spam")
    for name in ("docker-compose.yml", "client.py"):
        (tmp_path / name).write_text("# ours")
    changed = "# ours\n" + (tmp_path / "models.config").read_text().replace("/models/spam", "/elsewhere/spam")
    (tmp_path / "models.config").write_text(changed)
    export_serving(None, tmp_path, "spam")
    assert (tmp_path / "models.config").read_text() == changed
    export_serving(None, tmp_path, "ner")
    assert models_of(tmp_path)["spam"].base_path == "/elsewhere/spam" and "ner" in models_of(tmp_path)
    assert (tmp_path / "docker-compose.yml").read_text() == (tmp_path / "client.py").read_text() == "# ours"


@pytest.mark.parametrize("name", ["a/b", "", "..", ".hidden", "-v", "a b", 'a"b', "a$(b)", "a\nb", "é", "x" * 101, 3])
def test_a_name_that_files_and_urls_cannot_have_is_refused(unwritten, tmp_path, name):
    with pytest.raises(ValueError, match="name should be of letters"):
        export_serving(None, tmp_path, name)
    with pytest.raises(ValueError, match="a version's label should be of letters"):
        export_serving(None, tmp_path, "spam", version_labels={name: 1})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latest": 2, "versions": [1]}, "latest and versions both say"),
        ({"latest": 0}, "latest should be"),
        ({"versions": []}, "versions should name at least one version"),
        ({"versions": [0]}, "versions should be"),
        ({"versions": [5]}, r"model spam has no version 5; its folder holds \[1\]"),
        ({"version_labels": {"stable": "1"}}, "the version of label stable should be"),
        ({"version_labels": {"stable": 4}}, "label stable of model spam names version 4"),
    ],
)
def test_options_that_cannot_act_are_refused_before_anything_is_written(unwritten, tmp_path, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        export_serving(None, tmp_path, "spam", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ("saved_model.pb", "is a SavedModel"),
        ("models/spam/saved_model.pb", "is a SavedModel itself"),
        ("docker-compose.yml", "holds a docker-compose.yml and no models.config"),
        ("client.py", "holds a client.py and no models.config"),
    ],
)
def test_a_folder_of_another_kind_is_refused(unwritten, tmp_path, there, message):
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_text("another program's")
    with pytest.raises(FileExistsError, match=message):
        export_serving(None, tmp_path, "spam")


def test_a_list_of_models_that_cannot_be_read_is_refused_before_the_export(unwritten, tmp_path):
    for content, message in ((b"\xff", "is no UTF-8 text"), (b"model_config_list {\n nonsense\n}", "line [23]: TF Serving")):
        (tmp_path / "models.config").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            export_serving(None, tmp_path, "spam")
    assert [path.name for path in tmp_path.iterdir()] == ["models.config"]


# The client

TEXTS = ["good cat", "", "Élan 你好 🙂", "the film so bad . " * 20]
COLUMNS = {
    "pairs": {"text": TEXTS, "text_pair": TEXTS[::-1]},
    "tokens": {"text": TEXTS},
    "answers": {"question": TEXTS, "context": TEXTS[::-1]},
}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def answer_of(task, kind, row):
    """Returns what the client should say about a row."""
    if kind == "answers":
        answer = task.answer(*row)
        return {"answer": answer["text"], "start": answer["start"], "end": answer["end"]}
    answer = task.classify([row])[0]
    if kind == "pairs":
        return {"label": answer["label"]}
    columns = {"label": "label", "entity": "text", "start": "start", "end": "end"}
    return {"count": len(answer), **{ours: [one[theirs] for one in answer] for ours, theirs in columns.items()}}


@pytest.mark.parametrize("grpc", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_client_asks_any_task(server, tasks, kind, grpc):
    model = client.Model(kind, port=server.grpc_port if grpc else server.rest_port)
    answers = client.ask(model, COLUMNS[kind], grpc=grpc)
    rows = list(zip(*COLUMNS[kind].values())) if len(COLUMNS[kind]) > 1 else TEXTS
    assert len(answers) == len(TEXTS)
    for answer, row in zip(answers, rows):
        expected = answer_of(tasks[kind], kind, row)
        assert {name: answer[name] for name in expected} == expected


@pytest.mark.parametrize("grpc", [False, True])
def test_a_request_above_the_limit_is_cut_and_its_rows_come_in_order(server, grpc):
    model = client.Model("tokens", port=server.grpc_port if grpc else server.rest_port)
    texts = [f"{text} {number}" for number in range(3) for text in TEXTS]
    whole, cut = (client.ask(model, {"text": texts}, grpc=grpc, most_rows=rows) for rows in (256, 5))
    assert [answer["entity"] for answer in cut] == [answer["entity"] for answer in whole]
    np.testing.assert_allclose(
        [score for answer in cut for score in answer["score"]], [score for one in whole for score in one["score"]], atol=1e-5
    )


def run(folder, *words, rows=None, port=None):
    """Runs the folder's client in a process that has neither kbert nor TensorFlow."""
    command = [sys.executable, "-I", "-S", folder / "client.py", *words, *(["--port", port] if port else [])]
    return subprocess.run(list(map(str, command)), input=rows, capture_output=True, text=True, timeout=60, check=False)


def test_the_client_runs_with_python_alone(folder, server):
    port = server.rest_port
    done = run(folder, "pairs", "--text", "good", "bad cat", "--text_pair", "a", "b", port=port)
    assert done.returncode == 0, done.stderr
    expected = client.ask(client.Model("pairs", port=port), {"text": ["good", "bad cat"], "text_pair": ["a", "b"]})
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected
    rows = '{"text": "good", "text_pair": "a"}\n\n{"text_pair": "b", "text": "bad cat"}\n'
    assert run(folder, "pairs", "--rows", "-", rows=rows, port=port).stdout == done.stdout
    assert run(folder, "pairs", "--rows", "-", "--version", 1, "--most-rows", 1, rows=rows, port=port).returncode == 0
    ids = run(folder, "tokens", "--signature", "tokenize", "--text", "good cat", port=port)
    asked = [f"--{column}={json.dumps(value)}" for column, value in json.loads(ids.stdout).items()]
    found = json.loads(run(folder, "tokens", "--signature", "tokens", *asked, port=port).stdout)
    assert np.shape(found["logits"]) == (len(json.loads(ids.stdout)["token_ids"]), 4)  # positions, tags


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none", "--text", "a"], "HTTP 404"),
        (["tokens", "--version", 9, "--text", "a"], "HTTP 404"),
        (["tokens", "--signature", "x", "--text", "a"], "signature x cannot be asked; the model has labels, serving_default"),
        (["tokens", "--signature", "classify", "--text", "a"], "signature classify cannot be asked"),
        (["tokens", "--txt", "a"], "--text"),
        (["tokens"], "--text"),
        (["tokens", "--text", "\udcff"], "value 1 of column text is no text"),
        (["pairs", "--text", "a"], "--text_pair"),
        (["pairs", "--text", "a", "b", "--text_pair", "c"], "different numbers of values: text 2, text_pair 1"),
        (["tokens", "--rows", "/nowhere"], "/nowhere cannot be read"),
        (["tokens", "--rows", "-"], "line 2: an object with text is expected"),
        (["tokens", "--signature", "tokens", "--token_ids", "x", "--segment_ids", 1, "--padding_mask", 1], "numbers in JSON"),
        (["tokens", "--text", "a", "--timeout", 0], "--most-rows and --timeout take numbers above 0"),
        (["tokens", "--rows", "-", "--text", "a"], "--rows gives the columns"),
        (["tokens", "--host", "no-such-host.invalid", "--text", "a"], "no REST server at no-such-host.invalid"),
    ],
)
def test_the_clients_errors_are_short_and_without_a_traceback(folder, server, words, message):
    done = run(folder, *words, rows='{"text": "good"}\n["bad"]\n', port=server.rest_port)
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 or done.stderr.startswith("usage: ")


@contextlib.contextmanager
def server_that_says(content):
    """Gives the port of a server that answers every connection with the same bytes; with None it says nothing."""
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)

        def answer():
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    if content is None:
                        connection.recv(1)
                    else:
                        connection.sendall(content)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "gave no answer in 0.5 seconds"),
        (b"", "no REST server at 127.0.0.1"),
        (b"\x00\x00\x12\x04\x00", "no REST server at 127.0.0.1"),  # a gRPC server's first bytes
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "is no TF Serving: HTTP 200"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", "is no TF Serving: its metadata has no signatures"),
        (b'HTTP/1.1 503 Busy\r\n\r\n{"error": "two\\nlines"}', "HTTP 503: two"),
    ],
)
def test_a_server_that_is_no_tf_serving_is_one_error(content, message):
    with server_that_says(content) as port, pytest.raises(client.ServingError, match=message):
        client.ask(client.Model("m", host="127.0.0.1", port=port, timeout=0.5), {"text": ["a"]})


def test_an_answer_of_another_size_is_an_error():
    class Way:
        def predict(self, signature, columns, outputs):
            return {"label": ["good"]}

    signatures = {"serving_default": client.Signature(client.PREDICT, {"text": "DT_STRING"}, ["label"])}
    for rows, answered in ((1, True), (2, False)):
        with contextlib.nullcontext() if answered else pytest.raises(client.ServingError, match="not one value for each row"):
            client.answers_of(Way(), signatures, {"text": ["a"] * rows}, "serving_default", 256)


def test_errors_of_grpc_have_their_status(server):
    for model, status in (
        (client.Model("none", port=server.grpc_port), "NOT_FOUND"),
        (client.Model("tokens", port=server.grpc_port, version=9), "NOT_FOUND"),
        (client.Model("tokens", host="127.0.0.1", port=free_port(), timeout=5), "UNAVAILABLE|DEADLINE_EXCEEDED"),
    ):
        with pytest.raises(client.ServingError, match=status):
            client.ask(model, {"text": ["a"]}, grpc=True)
    with pytest.raises(client.ServingError, match="takes the columns text; given are texts"):
        client.ask(client.Model("tokens", port=server.grpc_port), {"texts": ["a"]}, grpc=True)


def test_the_client_of_the_folder_is_the_one_that_is_tested(folder):
    assert runpy.run_path(str(folder / "client.py"))["MOST_ROWS"] == client.MOST_ROWS
    assert os.path.samefile(client.__file__, kit.__file__.replace("tf_serving.py", "client.py"))
