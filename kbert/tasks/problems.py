"""The three problems that a text classifier solves: one label for each text, several labels, or numbers.

Each says how its targets are encoded, what is learned and counted, and what logits mean. The names are those of config.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.messages import listed, shown
from kbert.scoring.correlation import pearson, spearman
from kbert.scoring.figures import Figures, figures_of_classes, figures_of_labels, figures_of_numbers
from kbert.tasks.labels import class_of, is_no_label, label_index
from kbert.tasks.on_logits import Logits
from kbert.tasks.prediction import softmax
from kbert.tasks.targets import finite_numbers, in_order_of
from kbert.training.losses import NO_LABEL, SmoothedCrossentropy
from kbert.training.metrics import LabelledAccuracy, MacroF1
from kbert.training.soft_targets import soft_labels, soft_targets, squared_difference

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
SHORT_NAMES = {"single_label": SINGLE, "multi_label": MULTI}


class Problem:
    """What a problem says of itself; `C` is the number of labels."""

    name: str  # in config.json
    job: str  # the command line's name
    fewest_labels = 1
    served = "probabilities"  # the output of an exported graph that holds what stands beside the labels
    onnx_operator: str  # the ONNX operator that turns logits into that output
    serving_api = "classify"  # the signature for TF Serving's API of this kind
    has_label = True  # whether targets are labels rather than numbers
    has_scores = True  # whether figures beside the metrics are counted

    def encode(self, labels: list[str], y: list) -> np.ndarray:
        """Returns the targets `y`, Python values, as an array `[B]` or `[B, C]` by their places in `labels`."""
        raise NotImplementedError

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns what logits `[B, C]` mean, in ops of a graph."""
        raise NotImplementedError

    def probabilities_in_numpy(self, logits: np.ndarray) -> np.ndarray:
        """Returns what logits `[B, C]` mean. A call of TensorFlow takes a tenth of the time of a frozen task's answer."""
        raise NotImplementedError

    def answer(self, labels: list[str], row: np.ndarray, threshold: float) -> dict[str, Any]:
        """Returns the answer to one text.

        Args:
          labels: the names of the labels.
          row: what its logits mean, `[C]`.
          threshold: the least probability of a label that is given, where a text can have several.
        """
        best = int(row.argmax())
        return {"label": labels[best], "score": float(row[best]), "scores": dict(zip(labels, row.tolist()))}

    def decided(self, row: np.ndarray) -> tuple:
        """Returns a text's decision as a tuple of one value: the index of its label, or a tuple of indices for several labels.

        Args:
          row: the probabilities of the text, `[C]`.
        """
        return (int(row.argmax()),)

    def served_outputs(self, labels: list[str], values: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns what an exported graph answers, in ops of a graph.

        Args:
          labels: the names of the labels.
          values: what the logits mean, `[B, C]`.
        """
        best = tf.gather(tf.constant(labels), tf.argmax(values, -1))
        return {"label": best, "score": tf.reduce_max(values, -1), self.served: values}

    def api_outputs(self, labels: list[str], outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns what TF Serving's API of this kind answers, of the outputs of an exported graph."""
        scores = outputs[self.served]
        return {"classes": tf.tile(tf.constant(labels)[None], [tf.shape(scores)[0], 1]), "scores": scores}

    def loss(self, label_smoothing: float) -> keras.losses.Loss:
        """Returns the loss on logits.

        Args:
          label_smoothing: the share of each target that is spread evenly over all labels.
        """
        raise NotImplementedError

    def metrics(self, count: int) -> list[keras.metrics.Metric]:
        """Returns the metrics of a classifier with `count` labels."""
        raise NotImplementedError

    def soft_loss(self, teacher: tf.Tensor, student: tf.Tensor, temperature: float) -> tf.Tensor:
        """Returns the loss that holds a student's logits `[B, C]` to a teacher's."""
        raise NotImplementedError

    def blank_target(self, labels: list[str]) -> Any:
        """Returns a valid target for a text whose own is missing."""
        raise NotImplementedError

    def score(self, targets: np.ndarray, logits: np.ndarray, weights: np.ndarray | None) -> list[float]:
        """Returns the figures beside the metrics, in the order of `score_names`.

        Args:
          targets: encoded targets, `[B, C]`.
          logits: the task's outputs, `[B, C]`.
          weights: how often each text counts, `[B]`; None if each counts once.
        """
        return []

    def score_names(self, labels: list[str]) -> list[str]:
        """Returns the names of the figures beside the metrics, for a task with these `labels`."""
        return []

    def logits(self, count: int) -> Logits | None:
        """Returns the kind of logits that a classifier with `count` labels gives, or None for numbers."""
        return Logits(count)

    def figures(self, texts: Sequence, given: list, targets: np.ndarray, values: np.ndarray, labels: list[str]) -> Figures:
        """Returns what the field counts, with a table by label and the mistakes.

        Args:
          texts: texts, or pairs of them.
          given: the targets as they were given.
          targets: the encoded targets.
          values: what the logits mean, `[B, C]`.
          labels: the names of the labels.
        """
        raise NotImplementedError


class SingleLabel(Problem):
    """One label for each text: a softmax."""

    name, job, fewest_labels, onnx_operator, has_scores = SINGLE, "classification", 2, "Softmax", False

    def encode(self, labels: list[str], y: list) -> np.ndarray:
        """Returns names, indices or one-hot rows as indices, int32 `[B]`; -100, which is no label, stays."""
        return np.array([class_of(labels, label, f"y[{place}]") for place, label in enumerate(y)], np.int32)

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(logits)

    def probabilities_in_numpy(self, logits: np.ndarray) -> np.ndarray:
        return softmax(logits)

    def loss(self, label_smoothing: float) -> keras.losses.Loss:
        if label_smoothing:
            return SmoothedCrossentropy(label_smoothing)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=NO_LABEL)

    def metrics(self, count: int) -> list[keras.metrics.Metric]:
        return [LabelledAccuracy(), MacroF1(count, one_label=True)]

    def logits(self, count: int) -> Logits | None:
        return Logits(count, rows=True)

    def soft_loss(self, teacher: tf.Tensor, student: tf.Tensor, temperature: float) -> tf.Tensor:
        return soft_targets(teacher, student, temperature)

    def blank_target(self, labels: list[str]) -> str:
        return labels[0]

    def figures(self, texts: Sequence, given: list, targets: np.ndarray, values: np.ndarray, labels: list[str]) -> Figures:
        return figures_of_classes(texts, given, targets, values, labels)


class MultiLabel(Problem):
    """Any number of labels for each text: a sigmoid for each label."""

    name, job, onnx_operator = MULTI, "multi-label", "Sigmoid"

    def answer(self, labels: list[str], row: np.ndarray, threshold: float) -> dict[str, Any]:
        given = [labels[n] for n in np.argsort(-row, kind="stable") if row[n] >= threshold]
        return {**super().answer(labels, row, threshold), "labels": given}

    def decided(self, row: np.ndarray) -> tuple:
        return (tuple(np.flatnonzero(row >= 0.5).tolist()),)

    def encode(self, labels: list[str], y: list) -> np.ndarray:
        """Returns lists of names, or rows of 0 and 1, as float32 `[B, C]`."""
        named = [in_order_of(labels, names, f"y[{place}]") for place, names in enumerate(y)]
        rows = [labels_in_row(labels, names, f"y[{place}]") for place, names in enumerate(named)]
        return np.stack(rows) if rows else np.zeros((0, len(labels)), np.float32)

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.math.sigmoid(logits)

    def probabilities_in_numpy(self, logits: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-logits))

    def loss(self, label_smoothing: float) -> keras.losses.Loss:
        return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=label_smoothing)

    def metrics(self, count: int) -> list[keras.metrics.Metric]:
        return [keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy"), MacroF1(count)]

    def soft_loss(self, teacher: tf.Tensor, student: tf.Tensor, temperature: float) -> tf.Tensor:
        return soft_labels(teacher, student, temperature)

    def blank_target(self, labels: list[str]) -> list:
        return []

    def score(self, targets: np.ndarray, logits: np.ndarray, weights: np.ndarray | None) -> list[float]:
        """Returns the F1 of each label; an answer is a logit above 0."""
        answered = logits > 0
        of_text: np.ndarray = np.ones((len(targets), 1)) if weights is None else weights[:, None].astype(np.float64)
        right, of_both = (targets * answered * of_text).sum(0), ((targets + answered) * of_text).sum(0)
        return (2 * right / np.where(of_both > 0, of_both, 1)).tolist()

    def score_names(self, labels: list[str]) -> list[str]:
        return [f"f1_{label}" for label in labels]

    def logits(self, count: int) -> Logits | None:
        return Logits(count, several=True)

    def figures(self, texts: Sequence, given: list, targets: np.ndarray, values: np.ndarray, labels: list[str]) -> Figures:
        return figures_of_labels(texts, given, targets, values, labels)


class Regression(Problem):
    """A number for each label: the logits themselves."""

    name, job, served, onnx_operator, has_label = REGRESSION, "regression", "scores", "Identity", False
    serving_api = "regress"

    def answer(self, labels: list[str], row: np.ndarray, threshold: float) -> dict[str, Any]:
        return {"score": float(row[0]), "scores": dict(zip(labels, row.tolist()))}

    def decided(self, row: np.ndarray) -> tuple:
        return ()

    def served_outputs(self, labels: list[str], values: tf.Tensor) -> dict[str, tf.Tensor]:
        return {self.served: values}

    def api_outputs(self, labels: list[str], outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"outputs": outputs[self.served]}

    def encode(self, labels: list[str], y: list) -> np.ndarray:
        """Returns numbers, all of them finite, as float32 `[B, C]`."""
        numbers = finite_numbers([in_order_of(labels, target, f"y[{place}]") for place, target in enumerate(y)])
        numbers = numbers[:, None] if numbers.ndim == 1 else numbers
        if numbers.shape != (len(y), len(labels)):
            raise ValueError(f"each text needs {len(labels)} numbers as its target, got shape {numbers.shape}")
        return numbers

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.identity(logits)

    def probabilities_in_numpy(self, logits: np.ndarray) -> np.ndarray:
        return logits

    def loss(self, label_smoothing: float) -> keras.losses.Loss:
        return keras.losses.MeanSquaredError()

    def metrics(self, count: int) -> list[keras.metrics.Metric]:
        return [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]

    def soft_loss(self, teacher: tf.Tensor, student: tf.Tensor, temperature: float) -> tf.Tensor:
        return squared_difference(teacher, student)

    def blank_target(self, labels: list[str]) -> float | list[float]:
        return 0.0 if len(labels) == 1 else [0.0] * len(labels)

    def score(self, targets: np.ndarray, logits: np.ndarray, weights: np.ndarray | None) -> list[float]:
        """Returns the correlations of Pearson and Spearman, means over the numbers."""
        columns = list(zip(targets.T, logits.T))
        return [float(np.mean([of(*pair, weights) for pair in columns])) for of in (pearson, spearman)]

    def score_names(self, labels: list[str]) -> list[str]:
        return ["pearson", "spearman"]

    def logits(self, count: int) -> Logits | None:
        return None

    def figures(self, texts: Sequence, given: list, targets: np.ndarray, values: np.ndarray, labels: list[str]) -> Figures:
        return figures_of_numbers(texts, np.array(given, np.float64).reshape(len(given), -1)[:, 0], values[:, 0])


PROBLEMS: dict[str, Problem] = {problem.name: problem for problem in (SingleLabel(), MultiLabel(), Regression())}


def check_problem_type(value: str) -> str:
    """Returns one of the three names, from it or its short form.

    >>> check_problem_type("multi_label")
    'multi_label_classification'
    """
    name = SHORT_NAMES.get(value, value)
    if name not in PROBLEMS:
        raise ValueError(f"problem_type should be {SINGLE}, {MULTI} or {REGRESSION}, got {value!r}")
    return name


def labels_in_row(labels: list[str], given: Any, where: str) -> np.ndarray:
    """Returns the labels of one text, a list of names or a row of 0 and 1, as float32 `[C]`.

    Args:
      labels: the names of all labels.
      given: the labels of the text.
      where: what to call them in an error.
    """
    if not isinstance(given, (list, tuple, set, frozenset)):
        raise TypeError(
            f"{where} is {shown(given)}; with several labels each text has a list of them, or 0 or 1 for each label"
        )
    names = list(given)
    if any(map(is_no_label, names)):
        raise ValueError(
            f"{where} holds {NO_LABEL}, which stands for no label: with several labels each one is there (1) or not (0). Leave "
            "the text out, or give 0"
        )
    if names and not any(isinstance(name, str) for name in names):
        if len(names) != len(labels) or not set(names) <= {0, 1}:
            raise ValueError(f"{where} should hold 0 or 1 for each of the {len(labels)} labels (or names), got {listed(names)}")
        return np.array(names, np.float32)
    row: np.ndarray = np.zeros(len(labels), np.float32)
    row[[label_index(labels, name, where) for name in names]] = 1
    return row
