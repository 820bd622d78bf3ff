"""Exports of a task, from string to answer, to the places where models run. Importable as `kbert.export`."""

from kbert.export.litert import export_litert
from kbert.export.onnx import export_onnx
from kbert.export.saved_model import export_saved_model
from kbert.export.tf_serving import export_serving
from kbert.export.verify import verify

__all__ = ["export_litert", "export_onnx", "export_saved_model", "export_serving", "verify"]
