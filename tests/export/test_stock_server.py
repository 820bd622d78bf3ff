"""Every task as TF Serving serves it, with batching and without: the answers are the task's, or a refusal that is documented.

`kbert serve` stands in for the stock server, with its rules. `make test-tf-serving` asks the stock server itself.
"""

import gzip
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from kbert.export.server import Server
from kbert.export.server.errors import ServingError
from kbert.export.server.models import Model
from kbert.export.server.settings import ModelSettings, read_model_config
from kbert.export.verify import compare
from tests.export.mixed_clients import mixed_clients
from tests.export.stock_server import BATCHING, Refused, model_config, running, stock

REAL = bool(os.environ.get("TEST_STOCK_TF_SERVING"))  # make test-tf-serving sets it
KINDS = ("single", "pairs", "multi", "regression", "tokens", "answers", "masks", "vectors")
SIZES = (1, 3, 65, 200)  # the batching parameters have a max_batch_size of 128


@pytest.fixture(scope="module")
def folders(kit):
    return {kind: kit(kind)[1].parent for kind in KINDS}


@pytest.fixture(scope="module")
def alone(folders, tmp_path_factory):
    """A server without batching."""
    labels = 'version_labels { key: "stable" value: 1 }'
    with running(tmp_path_factory.mktemp("alone"), model_config(folders, single=labels), real=REAL) as server:
        yield server


@pytest.fixture(scope="module")
def joining(folders, tmp_path_factory):
    """A server with batching."""
    with running(tmp_path_factory.mktemp("joining"), model_config(folders), BATCHING, REAL) as server:
        yield server


@pytest.fixture(scope="module")
def rows(kit):
    """200 rows for each kind, as columns by name, and the task's answers."""
    made = {}

    def get(kind):
        if kind not in made:
            task, _ = kit(kind)
            columns = task.probes(kind == "pairs")
            columns = tuple([(column * 200)[:200] for column in columns])
            made[kind] = dict(zip(task.string_inputs(kind == "pairs"), columns)), task.expected_answers(columns)
        return made[kind]

    return get


def head(columns, size):
    return {name: column[:size] for name, column in columns.items()}


@pytest.mark.filterwarnings("ignore:.* texts are longer")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batching", [False, True], ids=["alone", "joining"])
def test_each_protocol_has_the_answers_of_the_task(kit, rows, alone, joining, kind, batching):
    task, _ = kit(kind)
    server, (columns, expected) = joining if batching else alone, rows(kind)
    (only,) = {"vectors": ["embedding"], "regression": ["scores"]}.get(kind, [""])
    for size in SIZES:
        for ask in (server.rows, server.columns, server.predict):
            if batching and size > 128:
                with pytest.raises(Refused, match="maximum input batch size 128") as refused:
                    ask(kind, head(columns, size))
                assert refused.value.args[0] in (400, "INVALID_ARGUMENT")
                continue
            outputs = {name or only: value for name, value in ask(kind, head(columns, size)).items()}
            largest, wrong = compare(expected[:size], task.served_answers(outputs), 1e-4)
            assert not wrong, (ask.__name__, size, largest)
        for method in task.serving_apis():
            if method not in ("classify", "regress"):
                continue
            for ask in (server.api, server.api_rest):
                if batching and size > 128:
                    with pytest.raises(Refused, match="maximum input batch size 128"):
                        ask(kind, head(columns, size), method)
                    continue
                values = np.array(ask(kind, head(columns, size), method)).reshape(size, -1)
                np.testing.assert_allclose(values, [answer.near for answer in expected[:size]], atol=1e-4)


@pytest.mark.parametrize("batching", [False, True], ids=["alone", "joining"])
def test_invalid_text_changes_no_other_row(kit, alone, joining, batching):
    server = joining if batching else alone
    for kind in ("single", "tokens", "masks"):
        task, _ = kit(kind)
        good = [["good cat [MASK]", "Élan the film so bad .", "the dog"][place % 3].encode() for place in range(63)]
        bad = b"caf\xe9 good \xe4\xbd cat [MASK]"

        def answers(texts, task=task, kind=kind):
            return task.served_answers(server.predict(kind, {"text": texts}))

        found = answers(good + [bad])
        assert compare(answers(good + [bad.decode("utf-8", "replace").encode()]), found)[1] == []
        body = b'{"instances": ["%s", "good cat"]}' % bad.replace(b"[MASK]", b"")  # JSON whose strings are no UTF-8
        assert server.rest(f"/v1/models/{kind}:predict", body)[0] == 200


@pytest.mark.parametrize("batching", [False, True], ids=["alone", "joining"])
@pytest.mark.parametrize(
    ("kind", "request_of", "message"),
    [
        ("single", {"inputs": "text"}, "text"),
        ("single", {"inputs": [["a", "b"]]}, "input text should have one axis"),
        ("pairs", {"inputs": {"text": ["a", "b"], "text_pair": ["c"]}}, "text_pair|0th-dimension"),
        ("pairs", {"inputs": {"text": ["a"]}}, "text_pair"),
        ("pairs", {"instances": ["a"]}, "object"),
        ("single", {"inputs": [1, 2]}, "string"),
        ("single", {"instances": [{"text": "a"}, "b"]}, "object"),
        ("single", {"instances": ["a", ["b"]]}, "item 1|element: 1"),
        ("single", {"instances": [{"words": "a"}]}, "words"),
        ("single", {"instances": []}, "instances"),
        ("single", {"instances": ["a"], "inputs": ["a"]}, "inputs"),
        ("single", {"signature_name": "none", "instances": ["a"]}, '"none" not found in signature def'),
        ("single", {"signature_name": 3, "instances": ["a"]}, "signature_name"),
        ("single", {"instances": [{"b64": "%%"}]}, "base64"),
        ("single", {"signature_name": "tokens", "instances": [{"token_ids": [2], "segment_ids": [0], "padding_mask": [0]}]},
         "padding_mask"),
        ("single", [1], "object"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_the_server_lives(alone, joining, batching, kind, request_of, message):
    server = joining if batching else alone
    status, found = server.rest(f"/v1/models/{kind}:predict", request_of)
    assert status == 400, found
    assert any(part in found["error"] for part in message.split("|")), found
    assert server.rest("/v1/models/single:predict", {"instances": ["good"]})[0] == 200


@pytest.mark.parametrize(
    ("columns", "signature", "status"),
    [
        ({"text": "a"}, "", "INVALID_ARGUMENT"),
        ({"text": [3]}, "", "INVALID_ARGUMENT"),
        ({"text": [["a"]]}, "", "INVALID_ARGUMENT"),
        ({"text": ["a"]}, "none", "FAILED_PRECONDITION"),
        ({}, "", "INVALID_ARGUMENT"),
        ({"text": ["a"], "more": ["a"]}, "", "INVALID_ARGUMENT"),
    ],
)
def test_statuses_of_grpc(alone, joining, columns, signature, status):
    for server in (alone, joining):
        with pytest.raises(Refused) as refused:
            server.predict("single", columns, signature)
        assert refused.value.args[0] == status
        assert len(server.predict("single", {"text": ["a"]})["label"]) == 1


def test_paths_and_labels(alone):
    request = {"instances": ["good"]}
    assert alone.rest("/v1/models/single/labels/stable:predict", request)[0] == 200
    assert alone.rest("/v1/models/single/versions/1:predict", request)[0] == 200
    assert alone.rest("/v1/models/single/labels/stable/metadata")[0] == 200
    for path, body, status, message in (
        ("/v1/models/single/labels/none:predict", request, 400, "Unrecognized servable version label: none"),
        ("/v1/models/single/versions/7:predict", request, 404, "Specific(single, 7)"),
        ("/v1/models/none:predict", request, 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/single:explain", request, 400, "Malformed request"),
        ("/v1/models/single:predict/", request, 400, "Malformed request"),
        ("/v1/models/single/versions/7", None, 404, "version 7 of model single"),
    ):
        found = alone.rest(path, body)
        assert found[0] == status and message in found[1]["error"], (path, found)


def test_a_body_is_read_whatever_its_type_says(alone):
    body = json.dumps({"instances": ["a&=" * 1100]}).encode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    expected = alone.rest("/v1/models/single:predict", body)
    assert expected[0] == 200
    assert alone.rest("/v1/models/single:predict", body, **form) == expected
    assert alone.rest("/v1/models/single:predict", gzip.compress(body), **{"Content-Encoding": "gzip"}) == expected
    assert alone.rest("/v1/models/single:predict", b"\n" + body + b" and more") == expected
    bomb = gzip.compress(b'{"instances": ["' + b" " * 110 * 2**20 + b'"]}')
    for wrong in (bomb, b"no gzip", gzip.compress(body)[:-12]):
        assert alone.rest("/v1/models/single:predict", wrong, **{"Content-Encoding": "gzip"})[0] == 400
    assert alone.rest("/v1/models/single:predict", gzip.compress(body))[0] == 400


def test_examples_with_a_context_have_its_features(kit, rows, alone):
    columns, expected = rows("pairs")
    text, other = columns["text"][:3], columns["text_pair"][0]
    task, _ = kit("pairs")
    right = [answer.near for answer in task.expected_answers((text, [other] * 3))]
    found = alone.api("pairs", {"text": text}, "classify", context={"text_pair": [other]})
    np.testing.assert_allclose(found, right, atol=1e-4)
    found = alone.api_rest("pairs", {"text": text}, "classify", context={"text_pair": other})
    np.testing.assert_allclose(found, right, atol=1e-4)


def test_examples_that_do_not_fit_are_refused(alone, joining):
    for server in (alone, joining):
        for columns, more in (({}, {}), ({"text": [3]}, {}), ({"words": ["a"]}, {}), ({"text": ["a"]}, {"context": 3})):
            with pytest.raises(Refused) as refused:
                server.api_rest("single", columns, "classify", **more)
            assert refused.value.args[0] == 400
        for ask in (server.api, server.api_rest):
            for kind, method in (("vectors", "classify"), ("single", "regress")):
                with pytest.raises(Refused) as refused:
                    ask(kind, {"text": ["a"]}, method)
                assert refused.value.args[0] in (400, "INVALID_ARGUMENT")
        with pytest.raises(Refused, match="Input is empty") as refused:
            server.api("single", {}, "classify")
        assert refused.value.args[0] == "INVALID_ARGUMENT"


def test_mixed_clients_get_their_own_rows(kit, rows, alone, joining):
    asked, failed, wrong = mixed_clients(
        {kind: (kit(kind)[0], *rows(kind)) for kind in KINDS}, joining, alone, clients=32, seconds=3
    )
    assert asked > 50 and not failed and not wrong, (asked, failed[:3], wrong[:3])


# Loading. The stand-in's own model is asked here, in this process.


@pytest.fixture
def versions(kit, tmp_path):
    """A folder with the versions 1, 2 and 3 of one model."""
    for number in (1, 2, 3):
        shutil.copytree(kit("single")[1], tmp_path / "m" / str(number), copy_function=os.link)
    return tmp_path / "m"


def test_a_version_whose_warm_up_fails_is_not_loaded(kit, versions):
    path = versions / "3" / "assets.extra" / "tf_serving_warmup_requests"
    path.unlink()
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs["text"].CopyFrom(tf.make_tensor_proto([["a"]]))
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(log.SerializeToString())
    with pytest.raises(FileNotFoundError, match="request 1 of .* failed: .*input text should have one axis"):
        Model("m", versions)
    shutil.rmtree(versions / "3")
    model = Model("m", versions)
    try:
        assert model.get().number == 2
        path.parent.mkdir(parents=True)
        shutil.copytree(versions / "2", versions / "3", copy_function=os.link, dirs_exist_ok=True)
        model.update()
        assert model.get().number == 3  # with files of its own, it is loaded
    finally:
        model.stop()


def test_the_policy_says_which_versions_are_served(kit, versions, tmp_path):
    for text, numbers in (
        ("", [3]),
        ("model_version_policy { latest { num_versions: 2 } }", [3, 2]),
        ('model_version_policy { specific { versions: 1 } } version_labels { key: "old" value: 1 }', [1]),
    ):
        (tmp_path / "models.config").write_text(model_config({"m": versions}, m=text))
        model = Model("m", read_model_config(tmp_path / "models.config")["m"])
        try:
            assert [number for number, *_ in model.status()] == numbers
            if "old" in text:
                assert model.get(label="old").number == 1
            with pytest.raises(ServingError, match="Unrecognized servable version label"):
                model.get(label="none")
            with pytest.raises(ServingError, match="Specific"):
                model.get(({1, 2, 3} - set(numbers)).pop())
        finally:
            model.stop()


def test_a_changed_list_of_models_is_taken_over(versions):
    with Server({"m": ModelSettings(versions, labels={"stable": 3})}, 0, 0) as server:
        first = server.models["m"].get(label="stable")
        with pytest.raises(ValueError, match="label stable of m cannot move to version 1 before"):
            server.serve({"m": ModelSettings(versions, labels={"stable": 1})})
        server.serve({"m": ModelSettings(versions, latest=None), "n": ModelSettings(versions, specific=(2,))})
        assert server.models["m"].get() is first and len(server.models["m"].status()) == 3
        assert server.models["n"].get().number == 2
        server.serve({"n": ModelSettings(versions, specific=(2,))})
        assert list(server.models) == ["n"]


def test_each_version_has_its_own_batching_parameters(kit, versions):
    from kbert.export.server.settings import BatchingParameters
    from tests.export.stock_server import Server as Asked

    for path in versions.glob("*/batching_params.pbtxt"):
        path.unlink()
    (versions / "2" / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    (versions / "2" / "assets.extra" / "tf_serving_warmup_requests").unlink()  # it has requests of three rows
    settings = ModelSettings(versions, specific=(1, 2))
    with Server({"m": settings}, 0, 0, batching=BatchingParameters(num_batch_threads=1), per_model=True) as server:
        asked = Asked(server.rest_port, server.grpc_port)
        request = {"instances": ["a"] * 3}
        assert asked.rest("/v1/models/m/versions/1:predict", request)[0] == 200  # without the file nothing is joined
        assert asked.rest("/v1/models/m/versions/2:predict", request)[0] == 400
        assert asked.rest("/v1/models/m/versions/2:predict", {"instances": ["a"] * 2})[0] == 200


def test_a_stock_server_that_is_no_program_is_named(monkeypatch):
    monkeypatch.setenv("TF_MODEL_SERVER", "/nowhere/tensorflow_model_server")
    with pytest.raises(ValueError, match="TF_MODEL_SERVER is '/nowhere/tensorflow_model_server', which is no program"):
        stock()
