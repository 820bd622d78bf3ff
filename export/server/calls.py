"""The calls Predict, Classify and Regress on a session. Names are checked against the signature, as TF Serving does.

No shape of an input is compared with the signature. The graph gets the tensors as they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from kbert.export.server.errors import ServingError, invalid
from kbert.export.server.json_requests import Arrays

DEFAULT = "serving_default"


class Session(Protocol):
    """What runs signatures: a session, or one that joins requests before another runs them."""

    definitions: dict[str, Any]

    def run(self, signature: str, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Returns outputs of a signature by name, all of them by default."""
        ...


def predict(session: Session, signature: str, inputs: Arrays, only: Sequence[str] = ()) -> Arrays:
    """Runs a signature on tensors. Source: tensorflow_serving/servables/tensorflow/predict_util.cc.

    Args:
      session: the session.
      signature: the name of the signature; `""` for `serving_default`.
      inputs: the tensors by the names of the inputs.
      only: the names of the outputs to return; all if empty.

    Raises:
      ServingError: the names of inputs or outputs are not those of the signature, or the graph fails.
    """
    name = signature or DEFAULT
    if name not in session.definitions:
        raise ServingError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found')
    definition = session.definitions[name]
    if set(inputs) != set(definition.inputs):
        missing, unknown = sorted(set(definition.inputs) - set(inputs)), sorted(set(inputs) - set(definition.inputs))
        raise invalid(
            f"signature {name} takes the inputs {sorted(definition.inputs)}; it lacks {missing} and has {unknown} besides"
        )
    unknown = sorted(set(only) - set(definition.outputs))
    if unknown:
        raise invalid(f"output_filter names {unknown[0]!r}; the outputs are {sorted(definition.outputs)}")
    if len(set(only)) != len(only):
        raise invalid(f"output_filter has the same name twice: {list(only)}")
    return session.run(name, inputs, list(only) or None)


def _check_api(session: Session, signature: str, outputs: Sequence[str], api: str) -> str:
    """Returns the name of a signature that the Classify or Regress API can ask.

    Args:
      session: the session.
      signature: its name; `""` for `serving_default`.
      outputs: the outputs that it may have.
      api: the name of the API, for the error.
    """
    name = signature or DEFAULT
    if name not in session.definitions:
        raise invalid(f"No signature was found with the name {name}")
    definition = session.definitions[name]
    if list(definition.inputs) != ["inputs"] or not definition.outputs or set(definition.outputs) - set(outputs):
        raise invalid(
            f"signature {name} is not for the {api} API, which asks for the input inputs and the outputs {', '.join(outputs)}; "
            f"it has {sorted(definition.inputs)} and {sorted(definition.outputs)}"
        )
    return name


def joined_examples(context: bytes, examples: Sequence[bytes]) -> np.ndarray:
    """Returns serialized `tf.Example`s, each behind the context, so that a parser reads the features of both.

    Source: tensorflow_serving/servables/tensorflow/util.cc, InputToSerializedExampleTensor.

    Raises:
      ServingError: there is no example.
    """
    if not examples:
        raise invalid("Input is empty: it should have an example for each row")
    joined: np.ndarray = np.empty(len(examples), object)
    joined[:] = [context + example for example in examples]
    return joined


def classify(session: Session, signature: str, context: bytes, examples: Sequence[bytes]) -> list[list[tuple[str, np.float32]]]:
    """Returns the classes and scores of each example. Source: tensorflow_serving/servables/tensorflow/classifier.cc.

    Args:
      session: the session.
      signature: the name of the signature; `""` for `serving_default`.
      context: a serialized `tf.Example` with features that all examples have, or `b""`.
      examples: the serialized `tf.Example`s.
    """
    name = _check_api(session, signature, ("classes", "scores"), "Classify")
    outputs = session.run(name, {"inputs": joined_examples(context, examples)})
    shape = next(iter(outputs.values())).shape
    classes = outputs.get("classes", np.full(shape, b"", object))
    scores = outputs.get("scores", np.zeros(shape, np.float32))
    if len(shape) != 2 or shape[0] != len(examples) or classes.shape != scores.shape or scores.dtype != np.float32:
        shapes = f"{list(classes.shape)} and {list(scores.shape)}"
        raise invalid(f"signature {name} should give classes and float32 scores for each example, got shapes {shapes}")
    labels = [[label.decode("utf-8", "replace") for label in row] for row in classes]
    return [list(zip(*row)) for row in zip(labels, scores)]


def regress(session: Session, signature: str, context: bytes, examples: Sequence[bytes]) -> np.ndarray:
    """Returns the number of each example, float32 `[B]`. Source: tensorflow_serving/servables/tensorflow/regressor.cc.

    Args:
      session: the session.
      signature: the name of the signature; `""` for `serving_default`.
      context: a serialized `tf.Example` with features that all examples have, or `b""`.
      examples: the serialized `tf.Example`s.
    """
    name = _check_api(session, signature, ("outputs",), "Regress")
    numbers = session.run(name, {"inputs": joined_examples(context, examples)})["outputs"]
    if numbers.dtype != np.float32 or numbers.shape not in ((len(examples),), (len(examples), 1)):
        raise invalid(f"signature {name} should give one float32 for each example, got {numbers.dtype} {list(numbers.shape)}")
    return numbers.reshape(-1)
