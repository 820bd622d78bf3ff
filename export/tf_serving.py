"""A folder for TF Serving: the model with its version, warm-up requests, configurations, and a client."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from kbert.export.raw_session import RawSession
from kbert.export.saved_model import METHODS, export_saved_model
from kbert.files.atomic import written_aside

if TYPE_CHECKING:
    from kbert.tasks.task import Task

# This image has tensorflow-text's three tokenization ops, of which our graphs are made beside core ops.
IMAGE = "tensorflow/serving:2.19.1"
# The texts of three requests of different size. Each signature gets all three.
WARM_UP = [["a word"], ["the same thing over and over again, " * 40], ["a word", "", "some more words, with a comma"]]

CONFIG = """model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
  }}
}}
"""

BATCHING = """max_batch_size { value: 64 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
"""

COMPOSE = """services:
  serving:
    image: {image}
    command: >
      --model_config_file=/config/models.config
      --enable_batching --batching_parameters_file=/config/batching_parameters.txt
      --rest_api_port=8501 --port=8500
    ports: ["8500:8500", "8501:8501"]
    volumes:
      - ./models:/models:ro
      - ./models.config:/config/models.config:ro
      - ./batching_parameters.txt:/config/batching_parameters.txt:ro
"""


def export_serving(
    task: Task,
    folder: str | pathlib.Path,
    name: str = "model",
    quantize: str | None = None,
    pairs: bool | None = None,
    verify: bool = True,
) -> pathlib.Path:
    """Writes a folder from which TF Serving serves a task: `docker compose up` in it, or `kbert serve folder/models/NAME`.

    >>> export_serving(task, "serving", name="spam")  # doctest: +SKIP

    The folder holds `models/NAME/VERSION`, the next version with warm-up requests; `models.config`, `batching_parameters.txt`
    and `docker-compose.yml`; and `client.py`, which asks by REST or by gRPC. If the function is called again with a task that
    was trained further, a running server takes the new version.

    Args:
      task: a task with a preprocessor.
      folder: the folder, which is made if it is not there. Configurations that are there are left as they are.
      name: the name of the model.
      quantize: `"float16"` stores the weights in half the bytes.
      pairs: whether a `TextClassifier` takes pairs of texts; by default it does if it was trained on pairs.
      verify: open what was written, and compare its answers on a built-in set of texts with the task's, before it takes its
        place.

    Returns:
      The path of the version.

    Raises:
      ValueError: the name has other characters than letters, digits, '-', '_' and '.', or the task has no preprocessor.
      ImportError: the extra `serving` is missing.
      RuntimeError: the answers differ; the texts are named.
    """
    folder = pathlib.Path(folder)
    if not name or not all(letter.isalnum() or letter in "-_." for letter in name):
        raise ValueError(f"name should be of letters, digits, '-', '_' and '.', got {name!r}")
    versions = folder / "models" / name
    numbers = [int(path.name) for path in versions.iterdir() if path.name.isdigit()] if versions.is_dir() else []
    path = versions / str(max(numbers, default=0) + 1)
    export_saved_model(
        task, path, quantize=quantize, pairs=pairs, verify=verify, beside=lambda aside: write_warm_up(aside, name)
    )
    files = {
        "models.config": CONFIG.format(name=name),
        "batching_parameters.txt": BATCHING,
        "docker-compose.yml": COMPOSE.format(image=IMAGE),
    }
    for file, content in files.items():
        if not (folder / file).is_file():
            with written_aside(folder / file) as aside:
                aside.write_text(content, encoding="utf-8")
    if not (folder / "client.py").is_file():
        with written_aside(folder / "client.py") as aside:
            shutil.copy(pathlib.Path(__file__).with_name("client.py"), aside)
    return path


def write_warm_up(folder: pathlib.Path, name: str) -> None:
    """Writes the requests that a server runs before it lets a version answer: `assets.extra/tf_serving_warmup_requests`.

    A server does not load a version whose warm-up fails. So each request is run first, in a session like the server's.

    Args:
      folder: the folder of the version.
      name: the name of the model.

    Raises:
      ImportError: the extra `serving` is missing.
      RuntimeError: a signature refuses its request.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2  # noqa: F401
    except ImportError as error:
        raise ImportError('warm-up requests are written with tensorflow-serving-api: pip install "kbert[serving]"') from error
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    with contextlib.closing(RawSession(folder)) as session, tf.io.TFRecordWriter(str(path)) as writer:
        for texts in WARM_UP:
            for signature, inputs in requests_of(session, texts):
                try:
                    session.run(signature, inputs)
                except tf.errors.OpError as error:
                    raise RuntimeError(f"signature {signature} refuses its warm-up request: {error.message:.300}") from None
                writer.write(log_of(name, signature, session.definitions[signature].method_name, inputs).SerializeToString())


def requests_of(session: RawSession, texts: Sequence[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields the name of each signature of a folder, and inputs for it: the texts, their ids, or `tf.Example`s of the texts.

    Args:
      session: the opened folder.
      texts: the texts, one for each row. Every string input gets all of them.
    """
    columns = sorted(session.definitions["serving_default"].inputs)
    rows = np.array([text.encode("utf-8") for text in texts], object)
    ids = session.run("tokenize", dict.fromkeys(columns, rows))
    for signature, definition in sorted(session.definitions.items()):
        if signature in METHODS:
            features = [
                {column: tf.train.Feature(bytes_list=tf.train.BytesList(value=[row])) for column in columns} for row in rows
            ]
            examples = [tf.train.Example(features=tf.train.Features(feature=feature)) for feature in features]
            yield signature, {"inputs": np.array([example.SerializeToString() for example in examples], object)}
        else:
            yield signature, {column: ids.get(column, rows) for column in definition.inputs}


def log_of(name: str, signature: str, method: str, inputs: Mapping[str, np.ndarray]) -> Any:
    """Returns a request as the `PredictionLog` of its API.

    Args:
      name: the name of the model.
      signature: the name of the signature.
      method: the method name of the signature.
      inputs: the inputs of the signature by name.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    logs = {METHODS["classify"]: log.classify_log, METHODS["regress"]: log.regress_log}
    request = logs.get(method, log.predict_log).request
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if method in logs:
        request.input.example_list.examples.extend(tf.train.Example.FromString(example) for example in inputs["inputs"])
    else:
        for column, values in inputs.items():
            request.inputs[column].CopyFrom(tf.make_tensor_proto(values))
    return log
