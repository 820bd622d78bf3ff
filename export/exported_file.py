"""Exported files of the three formats, opened in their own runtimes: what goes in by name, what comes out by name."""

import pathlib

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

# Hugging Face's names of the inputs, and ours.
ONNX_NAMES = {"input_ids": "token_ids", "attention_mask": "padding_mask", "token_type_ids": "segment_ids"}
ONNX_OUTPUTS = {"sentence_embedding": "embedding"}
# Model Maker's, which MediaPipe's files have.
MEDIAPIPE_NAMES = {"input_word_ids": "token_ids", "input_mask": "padding_mask", "input_type_ids": "segment_ids"}
TEXT = ("text", "text_pair", "question", "context")


class SavedModelFile:
    """A folder; its `serving_default` takes texts, any number at once."""

    length = None

    def __init__(self, path):
        self.path, self.signatures = path, tf.saved_model.load(str(path)).signatures
        self.inputs = sorted(self.signatures["serving_default"].structured_input_signature[1])

    def run(self, inputs, signature="serving_default"):
        found = self.signatures[signature](**{name: tf.constant(column) for name, column in inputs.items()})
        return {name: value.numpy() for name, value in found.items()}

    def ops(self):
        """The names of all ops in its graphs."""
        model = saved_model_pb2.SavedModel.FromString((pathlib.Path(self.path) / "saved_model.pb").read_bytes())
        nodes = [node for graph in model.meta_graphs for node in graph.graph_def.node]
        nodes += [
            node for graph in model.meta_graphs for function in graph.graph_def.library.function for node in function.node_def
        ]
        return sorted({node.op for node in nodes})


class LiteRTFile:
    """A `.tflite` file, which takes one text, or ids of a fixed length."""

    def __init__(self, path):
        import tensorflow_text
        from ai_edge_litert.interpreter import InterpreterWithCustomOps

        registerers = tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS
        self._interpreter = InterpreterWithCustomOps(model_path=str(path), custom_op_registerers=registerers)
        self.path, self.signatures = path, sorted(self._interpreter.get_signature_list())
        self._runners = {name: self._interpreter.get_signature_runner(name) for name in self.signatures}
        details = self._runners["serving_default"].get_input_details()
        self._theirs = {MEDIAPIPE_NAMES.get(name, name): name for name in details}
        self.inputs = sorted(self._theirs)
        self.length = None if self.inputs[0] in TEXT else int(next(iter(details.values()))["shape"][1])

    def run(self, inputs, signature="serving_default"):
        """Texts `[1]` as strings, or ids int32 `[1, L]`, by our names to arrays."""
        given = {
            self._theirs[name]: np.array([text.encode("utf-8") for text in value]) if name in TEXT else value.astype(np.int32)
            for name, value in inputs.items()
        }
        return self._runners[signature](**given)

    def ops(self):
        """The names of its ops, built-in ones in capitals."""
        return sorted({op["op_name"] for op in self._interpreter._get_ops_details()} - {"DELEGATE"})


class OnnxFile:
    """An `.onnx` file, which takes ids `[B, L]`, or one text with onnxruntime-extensions."""

    length = None

    def __init__(self, path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            from onnxruntime_extensions import get_library_path

            options.register_custom_ops_library(get_library_path())
        except ImportError:  # needed by files that take text only
            pass
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.path, self.signatures = path, ["serving_default"]
        self._theirs = {ONNX_NAMES.get(value.name, value.name): value.name for value in self._session.get_inputs()}
        self.inputs = sorted(self._theirs)
        self._outputs = [ONNX_OUTPUTS.get(value.name, value.name) for value in self._session.get_outputs()]

    def run(self, inputs):
        """Texts `[1]` as strings, or ids `[B, L]`, by our names to arrays by our names."""
        given = {
            self._theirs[name]: np.array(value, object) if name in TEXT else value.astype(np.int64)
            for name, value in inputs.items()
            if name in self.inputs
        }
        return dict(zip(self._outputs, self._session.run(None, given)))

    def ops(self):
        """The names of its ops."""
        import onnx

        return sorted({node.op_type for node in onnx.load(str(self.path)).graph.node})


def open_exported(path):
    """A SavedModel, a LiteRT or an ONNX file, by what it is rather than what it is called."""
    path = pathlib.Path(path)
    if (path / "saved_model.pb").is_file():
        return SavedModelFile(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not an exported model: neither a file nor a folder with saved_model.pb")
    with path.open("rb") as file:
        if file.read(8)[4:] == b"TFL3":
            return LiteRTFile(path)
    try:
        return OnnxFile(path)
    except ImportError:
        raise
    except Exception as error:  # onnxruntime has a class for each code
        raise ValueError(f"{path} is neither a SavedModel, nor a LiteRT, nor an ONNX file: {error}") from error
