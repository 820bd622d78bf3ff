"""JSON bodies become the tensors and examples that TF Serving makes of them, or are refused."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from kbert.export.server import json_requests
from kbert.export.server.errors import ServingError


def inputs(**dtypes):
    return {name: meta_graph_pb2.TensorInfo(dtype=tf.dtypes.as_dtype(dtype).as_datatype_enum) for name, dtype in dtypes.items()}


def read(body, **dtypes):
    return json_requests.tensors(json_requests.parse(body), inputs(**dtypes))


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b'{"inputs": "a"}', "a"),
        (b'{"inputs": []}', []),
        (b'{"inputs": [["a", "b"]]}', [["a", "b"]]),
        (b'{"inputs": {"text": ["a"]}, "other": 1}', ["a"]),
        (b'{"inputs": {"text": ["a"], "other": [1]}}', ["a"]),
        (b'{"instances": ["a", {"b64": "Yg"}]}', ["a", "b"]),
        (b'{"instances": [{"text": "a"}, {"text": "b"}]}', ["a", "b"]),
        (b'{"instances": [["a", "b"]]}', [["a", "b"]]),
        (b'\xef\xbb\xbf {"instances": ["a"]} and more', ["a"]),
        (b'{"inputs": ["\xff\\ud83d\\ude42"]}', [b"\xff" + "🙂".encode()]),
    ],
)
def test_values_become_a_tensor_of_the_shape_of_their_lists(body, values):
    tensor, rows = read(body, text=tf.string)
    expected = np.vectorize(lambda text: text if isinstance(text, bytes) else text.encode(), otypes=[object])(values)
    assert rows == (b"instances" in body)
    assert tensor["text"].tolist() == expected.tolist() and tensor["text"].shape == np.shape(values)


def test_numbers_are_of_the_declared_type():
    assert read(b'{"instances": [[1, 2]]}', ids=tf.int32)[0]["ids"].dtype == np.int32
    assert read(b'{"inputs": [1, 2.5]}', x=tf.float32)[0]["x"].tolist() == [1, 2.5]
    for wrong in (b"1.0", b"true", b'"1"', b"2147483648", b"null", b'{"b64": "YQ"}', b"1e3"):
        with pytest.raises(ServingError, match="should be int32"):
            read(b'{"inputs": [%s]}' % wrong, ids=tf.int32)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"), (b"  ", "empty"), (b"[1]", "an object"), (b'{"inputs": ["a"', "JSON Parse error"),
        (b'{"inputs": ["\\ud800"]}', "surrogates"), (b'{"inputs": ["\\udc80"]}', "surrogates"),
        (b'{"inputs": 1e999}', "too large"), (b'{"inputs": "a", "inputs": "b"}', "twice"),
        (b'{"inputs": %s}' % (b"[" * 100_000), "JSON Parse error"),
        (b"{}", "either"), (b'{"inputs": [], "instances": []}', "either"),
        (b'{"instances": {}}', "list"), (b'{"instances": []}', "list"),
        (b'{"instances": ["a", {"text": "b"}]}', "item 1"), (b'{"instances": [{"text": "b"}, "a"]}', "item 1"),
        (b'{"instances": [{"text": "a", "more": "b"}]}', "got"), (b'{"instances": [{}]}', "got"),
        (b'{"instances": ["a", ["b"]]}', "one shape"), (b'{"inputs": [["a"], "b"]}', "level"),
        (b'{"inputs": ["a", ["b"]]}', "levels"), (b'{"inputs": [["a"], ["b", "c"]]}', "sizes"),
        (b'{"inputs": [null]}', "should be string"), (b'{"inputs": [1]}', "should be string"),
        (b'{"inputs": [{"b64": "a", "c": "d"}]}', "b64"), (b'{"inputs": [{"b64": "*"}]}', "base64"),
        (b'{"inputs": {"other": "a"}}', "lacks the input text"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(body, message):
    with pytest.raises(ServingError, match=message) as error:
        read(body, text=tf.string)
    assert error.value.status == "INVALID_ARGUMENT"


def test_several_inputs_come_by_name():
    tensors, _ = read(b'{"instances": [{"a": "x", "b": "y"}]}', a=tf.string, b=tf.string)
    assert {name: value.tolist() for name, value in tensors.items()} == {"a": [b"x"], "b": [b"y"]}
    for body in (b'{"instances": ["x"]}', b'{"inputs": ["x"]}', b'{"instances": [{"a": "x"}]}', b'{"inputs": {"a": ["x"]}}'):
        with pytest.raises(ServingError):
            read(body, a=tf.string, b=tf.string)


def test_features_have_the_kind_of_their_values():
    request = {"context": {"c": True}, "examples": [{"s": ["a", {"b64": "Yg=="}], "f": 1.5, "i": [1, 2], "none": []}]}
    context, (row,) = json_requests.examples(request)
    found = tf.train.Example.FromString(context + row).features.feature
    assert list(found["s"].bytes_list.value) == [b"a", b"b"] and list(found["i"].int64_list.value) == [1, 2]
    assert list(found["f"].float_list.value) == [1.5] and list(found["c"].int64_list.value) == [1]
    for wrong in ({"examples": []}, {"examples": {}}, {}, {"examples": ["a"]}, {"examples": [{}], "context": 3}):
        with pytest.raises(ServingError):
            json_requests.examples(wrong)
    for value in (["a", 1], [[1]], None, {"a": 1}, [1, 1.5], 2**63):
        with pytest.raises(ServingError):
            json_requests.examples({"examples": [{"x": value}]})


def test_answers_have_a_name_for_each_of_several_outputs():
    one, two = (
        {"x": np.array([[1, 2], [3, 4]], np.int32)},
        {"x": np.array([0.1, 2], np.float32), "y_bytes": np.array([b"a", b"b"])},
    )
    two["y_bytes"] = two["y_bytes"].astype(object)
    assert json_requests.predictions(one, True) == {"predictions": [[1, 2], [3, 4]]}
    assert json_requests.predictions(one, False) == {"outputs": [[1, 2], [3, 4]]}
    rows = [{"x": 0.1, "y_bytes": {"b64": "YQ=="}}, {"x": 2.0, "y_bytes": {"b64": "Yg=="}}]
    assert json_requests.predictions(two, True) == {"predictions": rows}
    assert json.loads(json.dumps(json_requests.plain(np.array([[]], np.float32)))) == [[]]
    for value in (np.zeros(3), np.array(1)):
        with pytest.raises(ServingError, match="inconsistent batch size"):
            json_requests.predictions({**one, "z": value}, True)
