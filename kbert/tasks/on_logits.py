"""Makes Keras's losses and metrics read a task's logits.

A cross-entropy of Keras's that is given by its name reads probabilities. On a task's logits it would not fall, and nothing
would be learned. The functions here build it with `from_logits=True`. Losses and metrics that are not Keras's own stay as they
are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from kbert.training import keras_internals
from kbert.training.losses import NO_LABEL, LabelledCrossentropy
from kbert.training.metrics import labels_and_weights

BINARY = ("BinaryCrossentropy", "BinaryFocalCrossentropy")
CATEGORICAL = ("CategoricalCrossentropy", "CategoricalFocalCrossentropy")
SPARSE = "SparseCategoricalCrossentropy"
OF_PROBABILITIES = ("KLDivergence", "Poisson", "Dice", "Tversky", "CategoricalGeneralizedCrossEntropy")  # and never of logits
OF_NUMBERS = (
    "MeanSquaredError", "RootMeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError",
    "MeanSquaredLogarithmicError", "CosineSimilarity", "LogCoshError", "R2Score", "ConcordanceCorrelation",
    "PearsonCorrelation",
)  # fmt: skip
OF_TWO_CLASSES = (
    "AUC", "Precision", "Recall", "PrecisionAtRecall", "RecallAtPrecision", "SensitivityAtSpecificity",
    "SpecificityAtSensitivity", "TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives", "BinaryAccuracy",
    "BinaryCrossentropy", "BinaryIoU",
)  # fmt: skip


class Logits(NamedTuple):
    """The kind of logits that a task's output holds."""

    classes: int | None = None  # the number of classes, or None if it differs from batch to batch
    several: bool = False  # whether any number of classes can be right, so that targets are rows of 0 and 1
    rows: bool = False  # whether the target of an output, the index of a class, may also be a row of shares


def own_of_keras(value: Any, module: Any) -> str | None:
    """Returns the name of Keras's class that an object or a function of `keras.losses` or `keras.metrics` is, or None.

    >>> own_of_keras(keras.losses.MeanSquaredError(), keras.losses), own_of_keras(print, keras.losses)
    ('MeanSquaredError', None)
    """
    if inspect.isfunction(value):
        function: Any = value
        if function != getattr(module, function.__name__, None):
            return None
        name = function.__name__.replace("_", "")
        return next((kind for kind in dir(module) if kind.lower() == name and inspect.isclass(getattr(module, kind))), None)
    name = str(type(value).__name__)
    return name if type(value) is getattr(module, name, None) else None


# Losses


def loss_on_logits(loss: Any, logits: Logits | None, default: Any, task: str) -> Any:
    """Returns a loss that reads the logits of one output.

    Args:
      loss: a name, a class, a function or an object, as `keras.Model.compile` takes them; or None.
      logits: the kind of logits of the output; None for numbers.
      default: the task's own loss for the output.
      task: what the task is called in errors.

    Raises:
      ValueError: there is no such loss, or it does not fit the output or its targets.
    """
    if loss is None:
        return None
    if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
        return default
    loss = keras.losses.get(loss)
    kind = own_of_keras(loss, keras.losses)
    if kind is None:
        if logits is not None and isinstance(loss, keras.losses.Loss) and loss.get_config().get("from_logits") is False:
            raise ValueError(
                f"{type(loss).__name__} reads probabilities, and a {task} gives logits: build it with from_logits=True"
            )
        return loss
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {"name": loss.__name__}
    if logits is None:
        if kind in (*BINARY, *CATEGORICAL, SPARSE, *OF_PROBABILITIES):
            raise ValueError(f"{kind} is for classes, and a {task} gives numbers: give mean_squared_error or its like")
        return loss
    if kind in OF_PROBABILITIES:
        raise ValueError(f"{kind} reads probabilities, and a {task} gives logits: give a cross-entropy, which can read them")
    if logits.several and kind in (*CATEGORICAL, SPARSE):
        raise ValueError(f"{kind} is for one label a text, and a {task} of this kind has several: give binary_crossentropy")
    if not logits.several and not logits.rows and kind != SPARSE:
        raise ValueError(
            f"{kind} reads targets as rows, and the targets of a {task} are indices: give sparse_categorical_crossentropy"
        )
    if kind == SPARSE and isinstance(default, LabelledCrossentropy):
        return default  # it leaves out the positions without a label
    if kind == SPARSE and config.get("ignore_class") is None:
        config["ignore_class"] = NO_LABEL
    if kind in (*BINARY, *CATEGORICAL, SPARSE):
        return getattr(keras.losses, kind).from_config({**config, "from_logits": True})
    return loss


def reads_rows(loss: Any) -> bool | None:
    """Returns whether a loss for one class a row reads targets as rows; None if it is not Keras's and may read either."""
    kind = None if loss is None or isinstance(loss, str) else own_of_keras(loss, keras.losses)
    return None if kind is None else kind != SPARSE


# Metrics


def metric_on_logits(metric: Any, logits: Logits | None, accuracy: Callable[[], Any] | None, task: str) -> Any:
    """Returns a metric that reads the logits of one output.

    Args:
      metric: a name, a class, a function or an object, as `keras.Model.compile` takes them.
      logits: the kind of logits of the output; None for numbers.
      accuracy: makes the task's own accuracy; None for a task that has none.
      task: what the task is called in errors.

    Raises:
      ValueError: there is no such metric, or it does not fit the output.
    """
    name = metric if isinstance(metric, str) else None
    if name is not None and name.lower() in ("accuracy", "acc"):
        if accuracy is None:
            raise ValueError(f"a {task} gives numbers, of which there is no accuracy: give mean_absolute_error or its like")
        made = accuracy()
        made.name = name
        return made
    if name is not None and name.lower() in ("crossentropy", "ce"):
        metric = "BinaryCrossentropy" if logits is not None and logits.several else SPARSE
    metric = keras.metrics.get(metric)
    kind = own_of_keras(metric, keras.metrics)
    if kind is None and inspect.isfunction(metric):
        kind = own_of_keras(metric, keras.losses)
    if kind in (None, "Metric", "Mean", "Sum", "MeanMetricWrapper"):
        return metric
    if logits is None:
        if kind not in OF_NUMBERS:
            raise ValueError(f"{kind} is for classes, and a {task} gives numbers: give mean_absolute_error or its like")
        return name or metric
    if inspect.isfunction(metric):
        metric = keras.metrics.MeanMetricWrapper(metric, name=metric.__name__)
    if logits.classes is None and not kind.startswith("Sparse"):
        raise ValueError(f"{kind} is for a fixed number of classes, and a {task} has none: give accuracy")
    return OfProbabilities(metric, kind, logits, name=name or metric.name)


@keras.saving.register_keras_serializable("kbert")
class OfProbabilities(keras.metrics.Metric):
    """A metric of Keras's that reads the probabilities that belong to logits.

    If a row has one class, its target is an index, or -100 for none. Most of Keras's metrics ask for rows, which are made of
    the indices. A metric of two classes, for example AUC, reads the probability of the second class if there are two.

    Args:
      metric: the metric.
      kind: the name of its class.
      logits: the kind of logits of the output.
      name: the metric's name in Keras's logs.
      **kwargs: the other arguments of `keras.metrics.Metric`.
    """

    def __init__(self, metric: keras.metrics.Metric, kind: str, logits: Logits, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        config = metric.get_config()
        if config.get("from_logits"):
            config["from_logits"] = False
        for threshold in ("threshold", "thresholds"):
            if config.get(threshold) in (0, [0]):  # the threshold of logits
                config[threshold] = 0.5
        self.metric = metric if config == metric.get_config() else type(metric).from_config(config)
        self.kind, self.logits = kind, Logits(*logits)
        keras_internals.set_direction(self, keras_internals.direction_of(metric))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts a batch of targets and logits."""
        outputs, targets = tf.cast(y_pred, tf.float32), tf.convert_to_tensor(y_true)
        if self.logits.several:
            self.metric.update_state(targets, tf.math.sigmoid(outputs), sample_weight)
            return
        labels, weights = labels_and_weights(targets, outputs, sample_weight)
        classes = tf.shape(outputs)[-1] if self.logits.classes is None else self.logits.classes
        probabilities = tf.reshape(tf.nn.softmax(outputs), [-1, classes])
        if self.kind in OF_TWO_CLASSES and self.logits.classes == 2:
            self.metric.update_state(labels[:, None], probabilities[:, 1:], weights)
        elif self.kind.startswith("Sparse") or self.kind in ("MeanIoU", "IoU"):
            self.metric.update_state(labels, probabilities, weights)
        else:
            self.metric.update_state(tf.one_hot(labels, classes), probabilities, weights)

    def result(self) -> Any:
        return self.metric.result()

    def reset_state(self) -> None:
        self.metric.reset_state()

    def get_config(self) -> dict[str, Any]:
        metric = keras.saving.serialize_keras_object(self.metric)
        return {**super().get_config(), "metric": metric, "kind": self.kind, "logits": list(self.logits)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OfProbabilities:
        return cls(**{**config, "metric": keras.saving.deserialize_keras_object(config["metric"])})
