"""`kbert serve`: a small server with the REST paths and the gRPC services of TF Serving, for development and tests.

It serves the newest version in a model's folder, watches the folder for newer ones, and loads and warms those up beside the one that answers
before it lets them. Requests that come at the same time are answered in one batch.
"""

import asyncio
import base64
import concurrent.futures
import json
import pathlib
import queue
import re
import threading
import time

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf import saved_model_pb2

PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{method}" for method in ("predict", "classify", "regress"))
HTTP = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503, "INTERNAL": 500}
MOST_ROWS = 64  # of a batch
WAIT = 0.002  # seconds for others to join a batch
MOST_BYTES = 64 * 2**20  # of a request


class ServingError(Exception):
    """An answer that is none, with the name of its gRPC status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Version:
    """A loaded version of a model."""

    def __init__(self, name, folder):
        import tensorflow_text  # noqa: F401 - registers the tokenization ops

        self.name, self.number = name, int(folder.name)
        self._model = tf.saved_model.load(str(folder))
        content = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        self.definitions = {
            key: value for key, value in content.meta_graphs[0].signature_def.items() if not key.startswith("__saved_model_")
        }
        self._waiting, self._closed, self._lock = queue.SimpleQueue(), False, threading.Lock()
        self._warm_up()
        threading.Thread(target=self._answer_batches, daemon=True).start()

    def _warm_up(self):
        for key, definition in self.definitions.items():
            if definition.method_name == PREDICT and all(
                i.dtype == tf.string.as_datatype_enum for i in definition.inputs.values()
            ):
                self._run(key, {name: np.array([b"warm up"], object) for name in definition.inputs})

    def definition(self, signature, method=None):
        signature = signature or "serving_default"
        if signature not in self.definitions:
            raise ServingError("INVALID_ARGUMENT", f'Serving signature name: "{signature}" not found in signature def')
        definition = self.definitions[signature]
        if method and definition.method_name != method:
            raise ServingError(
                "INVALID_ARGUMENT", f"Expected {method} as the method of signature {signature}. Was: {definition.method_name}"
            )
        return signature, definition

    def checked(self, definition, inputs):
        """Inputs as arrays of the signature's types and ranks."""
        missing, unknown = sorted(set(definition.inputs) - set(inputs)), sorted(set(inputs) - set(definition.inputs))
        if missing or unknown:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(inputs)}!={len(definition.inputs)}; missing {missing}, unknown {unknown}; "
                f"the inputs are {sorted(definition.inputs)}",
            )
        arrays = {}
        for name, value in inputs.items():
            info = definition.inputs[name]
            dtype, rank = tf.dtypes.as_dtype(info.dtype), len(info.tensor_shape.dim)
            array = as_array(value, dtype, name)
            if array.ndim != rank:
                raise ServingError("INVALID_ARGUMENT", f"input {name} should have {rank} axes, got shape {list(array.shape)}")
            arrays[name] = array
        if len({array.shape[0] for array in arrays.values()}) > 1:
            raise ServingError("INVALID_ARGUMENT", f"inputs differ in size: { {n: a.shape[0] for n, a in arrays.items()} }")
        return arrays

    def answer(self, signature, inputs, method=None):
        """Inputs by name to outputs by name, as arrays."""
        signature, definition = self.definition(signature, method)
        arrays = self.checked(definition, inputs)
        count = next(iter(arrays.values())).shape[0]
        if count == 0 or count >= MOST_ROWS or any(array.ndim > 1 for array in arrays.values()):
            return self._run(signature, arrays)
        future = concurrent.futures.Future()
        with self._lock:
            closed = self._closed  # by then a newer version answers, but this request had come to this one
            if not closed:
                self._waiting.put((signature, arrays, count, future))
        return self._run(signature, arrays) if closed else future.result()

    def _run(self, signature, arrays):
        try:
            outputs = self._model.signatures[signature](**{name: tf.constant(array) for name, array in arrays.items()})
        except (tf.errors.InvalidArgumentError, tf.errors.DataLossError, ValueError) as error:
            raise ServingError("INVALID_ARGUMENT", what_went_wrong(error)) from error
        return {name: output.numpy() for name, output in outputs.items()}

    def _answer_batches(self):
        held = None
        while True:
            first = held or self._waiting.get()
            if first is None:
                return
            held, batch, rows, until = None, [first], first[2], time.monotonic() + WAIT
            while rows < MOST_ROWS:
                try:
                    more = self._waiting.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if more is None:
                    self._waiting.put(None)
                    break
                if more[0] != first[0]:  # another signature begins a batch of its own
                    held = more
                    break
                batch.append(more)
                rows += more[2]
            self._answer_batch(batch)

    def _answer_batch(self, batch):
        try:
            joined = {name: np.concatenate([arrays[name] for _, arrays, _, _ in batch]) for name in batch[0][1]}
            parts = split(self._run(batch[0][0], joined), [count for *_, count, _ in batch])
            for (*_, future), part in zip(batch, parts):
                future.set_result(part)
        except Exception as error:
            if len(batch) == 1:
                batch[0][3].set_exception(error)
                return
            for one in batch:  # who is to blame is answered so, the others as ever
                self._answer_batch([one])

    def close(self):
        """Ends the thread, once what waits is answered."""
        with self._lock:
            self._closed = True
            self._waiting.put(None)


def what_went_wrong(error):
    """The line of TensorFlow's message that says it."""
    around = ("Graph execution error", "Detected at node", "<stack traces")
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.strip().startswith(around)]
    return (lines or [type(error).__name__])[0][:500]


def split(outputs, counts):
    """Outputs of joined requests to those of each."""
    ends = np.cumsum(counts)
    rows = [slice(end - count, end) for end, count in zip(ends, counts)]
    if "row_splits" not in outputs:
        return [{name: value[some] for name, value in outputs.items()} for some in rows]
    splits, parts = outputs["row_splits"], []
    for some in rows:
        own = splits[some.start : some.stop + 1]
        part = {name: value[own[0] : own[-1]] for name, value in outputs.items() if name != "row_splits"}
        parts.append({**part, "row_splits": own - own[0]})
    return parts


def as_array(value, dtype, name):
    """JSON's lists, or an array, as an array of a type."""
    if isinstance(value, np.ndarray):
        if dtype == tf.string and value.dtype.kind in "OSU" or tf.dtypes.as_dtype(value.dtype) == dtype:
            return value.astype(object) if dtype == tf.string else value
        raise ServingError("INVALID_ARGUMENT", f"input {name} should be {dtype.name}, got {value.dtype}")
    try:
        if dtype == tf.string:
            return np.vectorize(to_bytes, otypes=[object])(np.array(value, object)) if len(value) else np.zeros(0, object)
        array = np.array(value)
        if array.size and array.dtype.kind not in ("iu" if dtype.is_integer else "iuf"):
            raise TypeError(f"got {array.dtype}")
        return array.astype(dtype.as_numpy_dtype)
    except (TypeError, ValueError) as error:
        raise ServingError("INVALID_ARGUMENT", f"input {name} could not be read as {dtype.name}: {error}") from error


def to_bytes(value):
    if isinstance(value, dict) and set(value) == {"b64"}:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (ValueError, TypeError) as error:
            raise ValueError(f"b64 is not base64: {error}") from error
    if not isinstance(value, (str, bytes)):
        raise TypeError(f"a string is expected, got {value!r:.40}")
    return value.encode("utf-8") if isinstance(value, str) else value


class Model:
    """A folder of versions, of which the newest answers."""

    def __init__(self, name, folder, poll=1.0):
        self.name, self.folder, self.poll = name, pathlib.Path(folder), poll
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"there is no folder {self.folder}; it should hold a folder for each version, named by its number"
            )
        self._current, self._failed, self._stopped = None, {}, threading.Event()
        self.look()
        if self._current is None:
            why = f": {next(iter(self._failed.values()))}" if self._failed else "; kbert export writes one, MODEL_FOLDER/1"
            raise FileNotFoundError(f"{self.folder} holds no version that can be served{why}")
        threading.Thread(target=self._watch, daemon=True).start()

    def versions(self):
        """The numbers of complete versions, the newest first."""
        there = [path for path in self.folder.iterdir() if path.name.isdigit() and (path / "saved_model.pb").is_file()]
        there = [path for path in there if (path / "variables" / "variables.index").is_file()]
        return sorted((int(path.name) for path in there), reverse=True)

    def look(self):
        """Loads the newest version, if it is not the one that answers; one that cannot be loaded is passed over."""
        for number in self.versions():
            if self._current is not None and number <= self._current.number:
                return
            if number in self._failed:
                continue
            try:
                newer = Version(self.name, self.folder / str(number))
            except Exception as error:
                self._failed[number] = f"version {number}: {str(error).splitlines()[0][:300]}"
                continue
            older, self._current = self._current, newer
            if older is not None:
                older.close()
            return

    def _watch(self):
        while not self._stopped.wait(self.poll):
            self.look()

    def get(self, number=None):
        current = self._current
        if number is not None and number != current.number:
            raise ServingError("NOT_FOUND", f"Servable not found for request: Specific({self.name}, {number})")
        return current

    def status(self):
        """The states of versions: the one that answers, and those that could not be loaded."""
        states = [(self._current.number, "AVAILABLE", "OK", "")]
        return states + [(number, "END", "UNKNOWN", message) for number, message in self._failed.items()]

    def stop(self):
        self._stopped.set()
        self._current.close()


def tf_example(features):
    """A JSON object to a serialized `tf.Example`."""
    if not isinstance(features, dict):
        raise ServingError("INVALID_ARGUMENT", f"an example should be an object of features, got {features!r:.60}")
    made = {}
    for name, values in features.items():
        values = values if isinstance(values, list) else [values]
        try:
            if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
                made[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
            elif all(isinstance(value, float) for value in values):
                made[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
            else:
                made[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[to_bytes(value) for value in values]))
        except (TypeError, ValueError) as error:
            raise ServingError("INVALID_ARGUMENT", f"feature {name}: {error}") from error
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


# REST

PATH = re.compile(r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+))?(?P<rest>/metadata|:predict|:classify|:regress)?/?")


def rest(models, method, path, body):
    """A request to an HTTP status and a JSON object."""
    try:
        found = PATH.fullmatch(path)
        if not found:
            raise ServingError("NOT_FOUND", f"Malformed request: {method} {path}")
        if found["name"] not in models:
            raise ServingError("NOT_FOUND", f"Servable not found for request: Latest({found['name']})")
        model, verb = models[found["name"]], found["rest"]
        version = model.get(int(found["version"]) if found["version"] else None)
        if method == "GET" and verb in (None, "/metadata"):
            return 200, status_json(model) if verb is None else metadata_json(version)
        if method != "POST" or verb in (None, "/metadata"):
            raise ServingError("NOT_FOUND", f"Malformed request: {method} {path}")
        try:
            request = json.loads(body)
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ServingError("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
        if not isinstance(request, dict):
            raise ServingError("INVALID_ARGUMENT", "the request should be a JSON object")
        return 200, {":predict": predict_json, ":classify": classify_json, ":regress": regress_json}[verb](version, request)
    except ServingError as error:
        return HTTP[error.status], {"error": str(error)}


def status_json(model):
    return {
        "model_version_status": [
            {"version": str(number), "state": state, "status": {"error_code": code, "error_message": message}}
            for number, state, code, message in model.status()
        ]
    }


def metadata_json(version):
    definitions = {name: MessageToDict(value, preserving_proto_field_name=True) for name, value in version.definitions.items()}
    spec = {"name": version.name, "signature_name": "", "version": str(version.number)}
    return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": definitions}}}


def plain(value):
    """An output as JSON's values."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


def predict_json(version, request):
    if ("instances" in request) == ("inputs" in request):
        raise ServingError("INVALID_ARGUMENT", 'Request should have either "instances" or "inputs"')
    signature, definition = version.definition(request.get("signature_name"), PREDICT)
    names = sorted(definition.inputs)
    if "inputs" in request:
        given = request["inputs"]
        inputs = given if isinstance(given, dict) and set(given) != {"b64"} else {names[0]: given}
        outputs = version.answer(signature, as_lists(inputs), PREDICT)
        columns = {name: plain(value) for name, value in outputs.items()}
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    rows = request["instances"]
    if not isinstance(rows, list):
        raise ServingError("INVALID_ARGUMENT", '"instances" should be a list')
    by_name = [row if isinstance(row, dict) and set(row) != {"b64"} else {names[0]: row} for row in rows]
    if len({tuple(sorted(row)) for row in by_name}) > 1:
        raise ServingError("INVALID_ARGUMENT", "all instances should have the same inputs")
    inputs = {name: [row[name] for row in by_name] for name in (by_name[0] if by_name else names)}
    outputs = version.answer(signature, inputs, PREDICT)
    if any(len(value) != len(rows) for value in outputs.values()):
        raise ServingError(
            "INVALID_ARGUMENT",
            'the outputs of this signature are not one for each instance: ask with "inputs", which gives them in columns',
        )
    columns = {name: plain(value) for name, value in outputs.items()}
    one = next(iter(columns)) if len(columns) == 1 else None
    return {
        "predictions": [
            columns[one][n] if one else {name: column[n] for name, column in columns.items()} for n in range(len(rows))
        ]
    }


def as_lists(inputs):
    """A value where a list is expected is a list of one."""
    return {name: value if isinstance(value, list) else [value] for name, value in inputs.items()}


def examples_of(request):
    examples = request.get("examples")
    if not isinstance(examples, list):
        raise ServingError("INVALID_ARGUMENT", 'Request should have a list of "examples"')
    shared = request.get("context") or {}
    return np.array(
        [tf_example({**shared, **example} if isinstance(example, dict) else example) for example in examples], object
    )


def classify_json(version, request):
    outputs = version.answer(request.get("signature_name"), {"inputs": examples_of(request)}, CLASSIFY)
    pairs = zip(plain(outputs["classes"]), plain(outputs["scores"]))
    return {"results": [[list(pair) for pair in zip(classes, scores)] for classes, scores in pairs]}


def regress_json(version, request):
    outputs = version.answer(request.get("signature_name"), {"inputs": examples_of(request)}, REGRESS)
    return {"results": plain(outputs["outputs"].reshape(-1))}


# gRPC


def services(models):
    """The servicers of PredictionService and ModelService."""
    import grpc
    from google.protobuf import any_pb2
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
        regression_pb2,
    )

    def found(spec):
        if spec.name not in models:
            raise ServingError("NOT_FOUND", f"Servable not found for request: Latest({spec.name})")
        return models[spec.name].get(spec.version.value if spec.HasField("version") else None)

    def named(spec, version, signature):
        spec.name, spec.signature_name = version.name, signature or "serving_default"
        spec.version.value = version.number

    def guarded(call):
        def answer(self, request, context):
            try:
                return call(self, request)
            except ServingError as error:
                context.abort(getattr(grpc.StatusCode, error.status), str(error))

        return answer

    def serialized(request):
        return np.array([example.SerializeToString() for example in request.input.example_list.examples], object)

    class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
        @guarded
        def Predict(self, request):
            version = found(request.model_spec)
            try:
                inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            except (TypeError, ValueError) as error:
                raise ServingError("INVALID_ARGUMENT", f"a tensor could not be read: {error}") from error
            outputs = version.answer(request.model_spec.signature_name, inputs, PREDICT)
            unknown = sorted(set(request.output_filter) - set(outputs))
            if unknown:
                raise ServingError("INVALID_ARGUMENT", f"output_filter names {unknown[0]!r}; the outputs are {sorted(outputs)}")
            response = predict_pb2.PredictResponse()
            named(response.model_spec, version, request.model_spec.signature_name)
            for name, value in outputs.items():
                if not request.output_filter or name in request.output_filter:
                    response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

        @guarded
        def Classify(self, request):
            version = found(request.model_spec)
            outputs = version.answer(request.model_spec.signature_name, {"inputs": serialized(request)}, CLASSIFY)
            response = classification_pb2.ClassificationResponse()
            named(response.model_spec, version, request.model_spec.signature_name)
            for classes, scores in zip(plain(outputs["classes"]), plain(outputs["scores"])):
                row = response.result.classifications.add()
                for label, score in zip(classes, scores):
                    row.classes.add(label=label, score=score)
            return response

        @guarded
        def Regress(self, request):
            version = found(request.model_spec)
            outputs = version.answer(request.model_spec.signature_name, {"inputs": serialized(request)}, REGRESS)
            response = regression_pb2.RegressionResponse()
            named(response.model_spec, version, request.model_spec.signature_name)
            for value in outputs["outputs"].reshape(-1):
                response.result.regressions.add(value=float(value))
            return response

        @guarded
        def GetModelMetadata(self, request):
            version = found(request.model_spec)
            if list(request.metadata_field) != ["signature_def"]:
                raise ServingError(
                    "INVALID_ARGUMENT", f"Metadata field {list(request.metadata_field)} is not supported; ask for signature_def"
                )
            response, definitions = get_model_metadata_pb2.GetModelMetadataResponse(), get_model_metadata_pb2.SignatureDefMap()
            response.model_spec.name, response.model_spec.version.value = version.name, version.number
            for name, definition in version.definitions.items():
                definitions.signature_def[name].CopyFrom(definition)
            packed = any_pb2.Any()
            packed.Pack(definitions)
            response.metadata["signature_def"].CopyFrom(packed)
            return response

    class Status(model_service_pb2_grpc.ModelServiceServicer):
        @guarded
        def GetModelStatus(self, request):
            found(request.model_spec)
            response = get_model_status_pb2.GetModelStatusResponse()
            for number, state, _, message in models[request.model_spec.name].status():
                one = response.model_version_status.add(version=number)
                one.state = get_model_status_pb2.ModelVersionStatus.State.Value(state)
                one.status.error_message = message
            return response

    return Prediction(), Status()


class Server:
    """Both servers of some models, in threads of this process.

    >>> with Server({"spam": "models/spam"}, rest_port=8501, grpc_port=8500) as server:  # doctest: +SKIP
    ...     server.rest_port
    8501

    Args:
      folders: a dictionary from a model's name to the folder of its versions.
      rest_port, grpc_port: 0 for any that is free.
      host: where to listen; this machine alone by default.
      threads: requests that are worked on at a time.
      poll: seconds between looks for newer versions.
    """

    def __init__(self, folders, rest_port=8501, grpc_port=8500, host="127.0.0.1", threads=32, poll=1.0):
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self.models = {name: Model(name, folder, poll) for name, folder in folders.items()}
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        options = [("grpc.max_receive_message_length", MOST_BYTES), ("grpc.max_send_message_length", MOST_BYTES)]
        self._grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(threads), options=options)
        prediction, status = services(self.models)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(status, self._grpc)
        self.grpc_port = self._grpc.add_insecure_port(f"{host}:{grpc_port}")
        self._grpc.start()
        ready = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._serve_rest, args=(host, rest_port, ready), daemon=True)
        self._thread.start()
        self.rest_port = ready.result()

    def _serve_rest(self, host, port, ready):
        import tornado.httpserver
        import tornado.netutil
        import tornado.web

        server = self

        class Handler(tornado.web.RequestHandler):
            async def answer(self, method):
                work = server._pool.submit(rest, server.models, method, self.request.path, self.request.body)
                status, found = await asyncio.wrap_future(work)
                self.set_status(status)
                self.finish(found)

            async def get(self):
                await self.answer("GET")

            async def post(self):
                await self.answer("POST")

            def write_error(self, status_code, **_):
                self.finish({"error": f"HTTP {status_code}"})

        async def run():
            self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
            try:
                sockets = tornado.netutil.bind_sockets(port, host)
            except OSError as error:
                ready.set_exception(OSError(f"port {port} cannot be listened on: {error}"))
                return
            application = tornado.web.Application([(r"/.*", Handler)], log_function=lambda handler: None)
            http = tornado.httpserver.HTTPServer(application, max_body_size=MOST_BYTES, max_buffer_size=2 * MOST_BYTES)
            http.add_sockets(sockets)
            ready.set_result(sockets[0].getsockname()[1])
            await self._done.wait()
            http.stop()
            await http.close_all_connections()

        asyncio.run(run())

    def stop(self):
        """Stops both servers; what is being answered is answered."""
        self._grpc.stop(grace=2).wait()
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(5)
        for model in self.models.values():
            model.stop()
        self._pool.shutdown(wait=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
