"""JSON requests as tensors and `tf.Example`s, and answers as JSON, by the rules of TF Serving.

The rules are those of tensorflow_serving/util/json_tensor.cc. It compares no shape with the signature: any value becomes a
tensor of the shape that its lists have, and the graph gets it.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.export.server.errors import invalid

Arrays = dict[str, np.ndarray]  # inputs or outputs by name
MOST_AXES = 32  # of a tensor; numpy has few more
LEAST, MOST = -(2**63), 2**64 - 1  # whole numbers beyond are floats (rapidjson)


def parse(body: bytes) -> dict[str, Any]:
    """Returns the JSON object of a request's body (ParseJson). What follows the object is not read.

    Bytes in strings that are not UTF-8 are kept as they are, as surrogates of Python's `surrogateescape`.

    Raises:
      ServingError: the body is no JSON object.
    """
    if not body.strip(b" \t\r\n"):
        raise invalid("JSON Parse error: the body is empty")
    try:
        text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").lstrip(" \t\r\n")
        document, _ = json.JSONDecoder(object_pairs_hook=_object, parse_float=_number).raw_decode(text)
        if b"\\ud" in body.lower():  # an escape may be half a pair of surrogates, which is no character
            raw = any("\udc80" <= letter <= "\udcff" for letter in text)
            json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogateescape" if raw else "strict")
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise invalid(f"JSON Parse error: the request should be an object, got {shown(document)}")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object. A name that stands in it twice is refused, where TF Serving takes the first or both."""
    if len(pairs) != len({name for name, _ in pairs}):
        raise ValueError(f"an object has the same name twice: {[name for name, _ in pairs]}")
    return dict(pairs)


def _number(digits: str) -> float:
    """Returns a number with a fraction or an exponent."""
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits:.40} is too large for a number")
    return number


def shown(value: Any) -> str:
    """Returns the beginning of a JSON value, for a message."""
    return json.dumps(value)[:200]


def signature_of(request: Mapping[str, Any]) -> str:
    """Returns the name of the signature that a request asks (FillSignature); `""` if it names none."""
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f'"signature_name" should be a string, got {shown(name)}')
    return name


def tensors(request: Mapping[str, Any], inputs: Mapping[str, Any]) -> tuple[Arrays, bool]:
    """Returns the tensors of a Predict request, and whether they came as rows (FillPredictRequestFromJson).

    Args:
      request: the JSON object, with either `instances` (rows) or `inputs` (columns).
      inputs: the inputs of the signature by name, as its `SignatureDef` has them.
    """
    if ("instances" in request) == ("inputs" in request):
        raise invalid('the request should have either "instances" or "inputs"')
    dtypes = {name: tf.dtypes.as_dtype(inputs[name].dtype) for name in sorted(inputs)}
    if "instances" in request:
        return _of_rows(request["instances"], dtypes), True
    return _of_columns(request["inputs"], dtypes), False


def _of_columns(value: Any, dtypes: Mapping[str, tf.DType]) -> Arrays:
    """Returns the tensors of a value, or of an object of values by name (FillTensorMapFromInputsMap)."""
    if not isinstance(value, dict) or _is_base64(value):
        if len(dtypes) > 1:
            raise invalid(f'"inputs" should be an object with the inputs {list(dtypes)}, got {shown(value)}')
        value = {next(iter(dtypes)): value}
    missing = [name for name in dtypes if name not in value]
    if missing:
        raise invalid(f'"inputs" lacks the input {missing[0]}; it has {sorted(value)}')
    return {name: tensor(value[name], dtype, name) for name, dtype in dtypes.items()}


def _of_rows(rows: Any, dtypes: Mapping[str, tf.DType]) -> Arrays:
    """Returns the tensors of rows, each a value or an object of values by name (FillTensorMapFromInstancesList)."""
    if not isinstance(rows, list) or not rows:
        raise invalid(f'"instances" should be a list with a value for each row, got {shown(rows)}')
    objects = isinstance(rows[0], dict) and not _is_base64(rows[0])
    if not isinstance(rows[0], dict) and len(dtypes) > 1:
        raise invalid(f'"instances" should be a list of objects with the inputs {list(dtypes)}, got {shown(rows)}')
    names = set(dtypes) if objects else {next(iter(dtypes))}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for place, row in enumerate(rows):
        if objects != (isinstance(row, dict) and not _is_base64(row)):
            raise invalid(f'item {place} of "instances" should be {"an object" if objects else "a value"}, as item 0 is')
        values = row if objects else dict.fromkeys(names, row)
        if set(values) != names:
            raise invalid(f'item {place} of "instances" should have the inputs {sorted(names)}, got {sorted(values)}')
        for name, value in values.items():
            column = columns[name]
            column.append(tensor(value, dtypes[name], f"{name} of item {place}"))
            if column[-1].shape != column[0].shape:
                shapes = f"{list(column[-1].shape)}, and of item 0 {list(column[0].shape)}"
                raise invalid(f"the shape of input {name} of item {place} is {shapes}; all rows should have one shape")
    return {name: np.stack(column) for name, column in columns.items()}


def tensor(value: Any, dtype: tf.DType, name: str) -> np.ndarray:
    """Returns a JSON value as a tensor of the shape that its lists have (GetDenseTensorShape, FillTensorProto).

    Args:
      value: a string, a number or nested lists of them.
      dtype: the type that the signature's input has.
      name: the name of the input, for the error.

    Raises:
      ServingError: a value has another type, or lists of one level have different sizes.
    """
    shape, inner = [], value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    if len(shape) > MOST_AXES:
        raise invalid(f"input {name} has {len(shape)} axes, more than {MOST_AXES}")
    values: list[Any] = []

    def fill(item: Any, level: int) -> None:
        if not isinstance(item, list):
            if level != len(shape):
                raise invalid(f"input {name} has a value {shown(item)} at level {level}, where level {len(shape)} has others")
            values.append(_scalar(item, dtype, name))
        elif level >= len(shape) or len(item) != shape[level]:
            raise invalid(f"input {name} has lists of different sizes or levels; its first values have the shape {shape}")
        else:
            for each in item:
                fill(each, level + 1)

    fill(value, 0)
    array: np.ndarray = np.empty(len(values), object if dtype == tf.string else dtype.as_numpy_dtype)
    array[:] = values
    return array.reshape(shape)


def _scalar(value: Any, dtype: tf.DType, name: str) -> Any:
    """Returns one JSON value as a value of a type (AddValueToTensor)."""
    if dtype == tf.string and isinstance(value, dict):
        return _from_base64(value, f"input {name}")
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = (
        isinstance(value, str)
        if dtype == tf.string
        else isinstance(value, bool)
        if dtype == tf.bool
        else whole and dtype.min <= value <= dtype.max
        if dtype.is_integer
        else whole or isinstance(value, float)
    )
    if not fits:
        raise invalid(f"input {name} should be {dtype.name}, got {shown(value)}")
    return to_bytes(value) if isinstance(value, str) else value


def to_bytes(text: str) -> bytes:
    """Returns the bytes of a JSON string."""
    return text.encode("utf-8", "surrogateescape")


def _is_base64(value: Any) -> bool:
    """Returns whether a JSON value is `{"b64": "..."}`, which stands for bytes (IsValBase64Object)."""
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _from_base64(value: dict[str, Any], name: str) -> bytes:
    """Returns the bytes of `{"b64": "..."}` (JsonDecodeBase64Object). Spaces, and missing padding, are no fault."""
    if not _is_base64(value):
        raise invalid(f'{name} should be a string or {{"b64": "..."}}, got {shown(value)}')
    digits = re.sub(r"[ \t\r\n]", "", value["b64"])
    padded = digits if "=" in digits else digits + "=" * (-len(digits) % 4)
    try:
        return base64.b64decode(padded, validate=True)
    except ValueError as error:
        raise invalid(f"{name}: b64 is not base64: {error}") from None


def examples(request: Mapping[str, Any]) -> tuple[bytes, list[bytes]]:
    """Returns the context of a Classify or Regress request and its examples, each a serialized `tf.Example`.

    Source: FillClassifyRegressRequestFromJson.
    """
    rows = request.get("examples")
    if not isinstance(rows, list) or not rows:
        raise invalid(f'"examples" should be a list with an object for each row, got {shown(rows)}')
    context = _example(request["context"], "context") if "context" in request else b""
    return context, [_example(row, f'item {place} of "examples"') for place, row in enumerate(rows)]


def _example(features: Any, name: str) -> bytes:
    """Returns a JSON object of features as a serialized `tf.Example` (MakeExampleFromJsonObject)."""
    if not isinstance(features, dict):
        raise invalid(f"{name} should be an object of features, got {shown(features)}")
    made = {key: _feature(value, f"feature {key} of {name}") for key, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def _feature(value: Any, name: str) -> Any:
    """Returns a value, or a list of values of one kind, as a `tf.train.Feature` (AddValueToFeature)."""
    feature = tf.train.Feature()
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str) or _is_base64(item):
            kind, item = "bytes_list", to_bytes(item) if isinstance(item, str) else _from_base64(item, name)
        elif isinstance(item, float) or (isinstance(item, int) and not LEAST <= item <= MOST):
            kind, item = "float_list", float(item)
        elif isinstance(item, int) and item < 2**63:
            kind, item = "int64_list", int(item)
        else:
            raise invalid(f"{name} should hold strings or numbers, got {shown(item)}")
        if feature.WhichOneof("kind") not in (None, kind):
            raise invalid(f"{name} should hold values of one kind, got {shown(value)}")
        getattr(feature, kind).value.append(item)
    return feature


def predictions(outputs: Arrays, rows: bool) -> dict[str, Any]:
    """Returns the outputs of a signature as JSON, a single output without its name (MakeJsonFromTensors).

    Args:
      outputs: the outputs by name.
      rows: whether the answer is in rows, which asks for outputs of equal first axes.
    """
    if not rows:
        columns = {name: plain(value, name) for name, value in outputs.items()}
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    sizes = {name: value.shape[:1] for name, value in outputs.items()}
    if len(set(sizes.values())) > 1 or () in sizes.values():
        raise invalid(f'the outputs have an inconsistent batch size, {sizes}: ask with "inputs", which gives them in columns')
    columns = {name: plain(value, name) for name, value in outputs.items()}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    return {"predictions": [dict(zip(columns, row)) for row in zip(*columns.values())]}


def plain(value: np.ndarray, name: str = "") -> Any:
    """Returns an output as lists of values that JSON has.

    Strings are text, or `{"b64": ...}` if the output's name ends in `_bytes`. A float32 has the digits that identify it.
    """
    if value.dtype == np.float32:
        return np.array([float(str(each)) for each in value.ravel()]).reshape(value.shape).tolist()
    if value.dtype == object:
        as_base64 = name.endswith("_bytes")
        flat = [
            {"b64": base64.b64encode(each).decode("ascii")} if as_base64 else each.decode("utf-8", "surrogateescape")
            for each in value.ravel()
        ]
        texts: np.ndarray = np.empty(len(flat), object)
        texts[:] = flat
        return texts.reshape(value.shape).tolist()
    return value.tolist()
