"""Exported files of the three formats, opened in their own runtimes: inputs by name become outputs by name."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kbert.files.atomic import recover

# The inputs' names in Hugging Face's exports, and ours.
ONNX_NAMES = {"input_ids": "token_ids", "attention_mask": "padding_mask", "token_type_ids": "segment_ids"}
ONNX_OUTPUTS = {"sentence_embedding": "embedding"}
# The inputs' names in Model Maker's exports, which MediaPipe's files have, and ours.
MEDIAPIPE_NAMES = {"input_word_ids": "token_ids", "input_mask": "padding_mask", "input_type_ids": "segment_ids"}
TEXT = ("text", "text_pair", "question", "context")


class ExportedFile(Protocol):
    """An opened file of any format."""

    path: str | pathlib.Path
    signatures: Sequence[str]  # their names
    inputs: Sequence[str]  # our names of the inputs of `serving_default`
    length: int | None  # the positions of ids, where they are fixed
    takes_many_texts: bool  # whether it takes any number of texts at once

    def run(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Returns the outputs by name.

        Args:
          inputs: lists of texts, or arrays of ids `[B, L]`, by our names.
          signature: the name of the signature.
        """
        ...

    def ops(self) -> list[str]:
        """Returns the names of the ops that the file is made of."""
        ...


class SavedModelFile:
    """A SavedModel's folder. Its `serving_default` takes any number of texts."""

    length: int | None = None
    takes_many_texts = True

    def __init__(self, path: str | pathlib.Path) -> None:
        self.path, self._functions = path, tf.saved_model.load(str(path)).signatures
        self.signatures: Sequence[str] = list(self._functions)
        self.inputs: Sequence[str] = sorted(self._functions["serving_default"].structured_input_signature[1])

    def run(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Returns the outputs by name for texts `[B]`, or for ids `[B, L]`."""
        outputs = self._functions[signature](**{name: tf.constant(column) for name, column in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    def ops(self) -> list[str]:
        """Returns the names of all ops in its graphs."""
        model = saved_model_pb2.SavedModel.FromString((pathlib.Path(self.path) / "saved_model.pb").read_bytes())
        nodes = [node for graph in model.meta_graphs for node in graph.graph_def.node]
        nodes += [
            node for graph in model.meta_graphs for function in graph.graph_def.library.function for node in function.node_def
        ]
        return sorted({node.op for node in nodes})


class LiteRTFile:
    """A `.tflite` file, which takes one text, or ids of a fixed length."""

    takes_many_texts = False

    def __init__(self, path: str | pathlib.Path) -> None:
        import tensorflow_text
        from ai_edge_litert.interpreter import InterpreterWithCustomOps

        registerers = tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS
        self._interpreter = InterpreterWithCustomOps(model_path=str(path), custom_op_registerers=registerers)
        self.path = path
        self.signatures: Sequence[str] = sorted(self._interpreter.get_signature_list())
        self._runners = {name: self._interpreter.get_signature_runner(name) for name in self.signatures}
        details = self._runners["serving_default"].get_input_details()
        self._name_in_file = {MEDIAPIPE_NAMES.get(name, name): name for name in details}
        self.inputs: Sequence[str] = sorted(self._name_in_file)
        self.length = None if self.inputs[0] in TEXT else int(next(iter(details.values()))["shape"][1])

    def run(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Returns the outputs by name for one text, or for ids `[1, L]`."""
        encoded = {
            self._name_in_file[name]: np.array([text.encode("utf-8") for text in value])
            if name in TEXT
            else value.astype(np.int32)
            for name, value in inputs.items()
        }
        return self._runners[signature](**encoded)

    def ops(self) -> list[str]:
        """Returns the names of its ops; built-in ones are in capitals."""
        return sorted({op["op_name"] for op in self._interpreter._get_ops_details()} - {"DELEGATE"})


class OnnxFile:
    """An `.onnx` file, which takes ids `[B, L]`, or one text with onnxruntime-extensions."""

    length: int | None = None
    takes_many_texts = False

    def __init__(self, path: str | pathlib.Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            from onnxruntime_extensions import get_library_path

            options.register_custom_ops_library(get_library_path())
        except ImportError:  # only files that take text need them
            pass
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.path = path
        self.signatures: Sequence[str] = ["serving_default"]
        self._name_in_file = {ONNX_NAMES.get(value.name, value.name): value.name for value in self._session.get_inputs()}
        self.inputs: Sequence[str] = sorted(self._name_in_file)
        self._outputs = [ONNX_OUTPUTS.get(value.name, value.name) for value in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Returns the outputs by our names for one text, or for ids `[B, L]`; inputs that the file lacks are left out."""
        encoded = {
            self._name_in_file[name]: np.array(value, object) if name in TEXT else value.astype(np.int64)
            for name, value in inputs.items()
            if name in self.inputs
        }
        return dict(zip(self._outputs, self._session.run(None, encoded)))

    def ops(self) -> list[str]:
        """Returns the names of its ops."""
        import onnx

        return sorted({node.op_type for node in onnx.load(str(self.path)).graph.node})


def open_exported(path: str | pathlib.Path) -> ExportedFile:
    """Opens a SavedModel, a LiteRT or an ONNX file, which it tells apart by their content.

    Raises:
      FileNotFoundError: there is no file, and no folder with a SavedModel; ValueError: the file is of another format;
        ImportError:
      the package that runs the format is missing.
    """
    path = pathlib.Path(path)
    recover(path)
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
        raise ValueError(f"{path} is neither a SavedModel, nor a LiteRT, nor an ONNX file: {error}") from None
