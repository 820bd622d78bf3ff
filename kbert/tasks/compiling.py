"""Compiles a task: with BERT's recipe by default, and with Keras's losses and metrics made to read the task's logits."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import keras

from kbert.arguments import number
from kbert.encoders.real_tokens import all_positions
from kbert.tasks.encoding import Encoding
from kbert.tasks.on_logits import Logits, loss_on_logits, metric_on_logits
from kbert.training import keras_internals
from kbert.training.how_steps_run import OF_STEPS, check_steps
from kbert.training.metrics import LabelledAccuracy
from kbert.training.optimizer import chosen_optimizer
from kbert.training.precision import with_loss_scale
from kbert.training.replicas import check_replicas


class Compiling(Encoding):
    """The part of `Task` that chooses its optimizer, loss and metrics."""

    def compile(
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        *,
        metrics: Any = "auto",
        learning_rate: Any = None,
        gradient_accumulation_steps: int | None = None,
        jit_compile: bool | str = False,
        **kwargs: Any,
    ) -> None:
        """Prepares for training, with BERT's recipe as the default.

        >>> task.compile(learning_rate=2e-5)  # doctest: +SKIP

        Args:
          optimizer: `"auto"` is AdamW with weight decay 0.01, none on biases and layer norms, and gradients clipped to a
            global norm of 1. Its rate rises over the first tenth of the steps and then falls linearly to 0. `"lamb"` is LAMB
            with the same schedule, for large batches. Anything else is Keras's: a name, or an optimizer.
          loss: `"auto"` is the task's own loss. Keras's cross-entropies are built with `from_logits=True`, since the
            outputs are logits.
          metrics: `"auto"` are the task's own metrics, which count each row as often as its `sample_weight` says. Keras's
            metrics, by name or as objects, get the probabilities that belong to the logits. A function or a metric of your own
            gets the logits.
          learning_rate: the peak of the default optimizer's rate, 5e-5 by default; with the name of one of Keras's optimizers,
            its rate. A Keras schedule takes the place of the default one.
          gradient_accumulation_steps: the number of batches whose mean gradient makes one step, for an optimizer that is given
            by its name. The last step of a training has the gradients that are left.
          jit_compile: True compiles the steps with XLA. The encoder then computes all positions, and rows of texts are padded
            to one of a few lengths. `"auto"` is the same as False.
          **kwargs: `loss_weights`, `weighted_metrics`, `run_eagerly`, `steps_per_execution` and `auto_scale_loss`, as in
            `keras.Model.compile`.

        Raises:
          ValueError: `learning_rate` or `gradient_accumulation_steps` beside an optimizer, which has its own; or a loss or a
            metric that the task's outputs do not fit.
        """
        jit_compile = check_steps(jit_compile, **{name: kwargs.get(name) for name in OF_STEPS})
        check_loss_weights(kwargs.get("loss_weights"))
        optimizer = chosen_optimizer(optimizer, learning_rate, gradient_accumulation_steps)
        default = self.default_loss()
        chosen_loss = default if is_auto(loss) else self._loss_of_outputs(loss, default)
        if isinstance(default, dict) and not isinstance(loss, (dict, list, tuple)) and kwargs.get("loss_weights") is None:
            kwargs["loss_weights"] = self.default_loss_weights()
        kwargs["weighted_metrics"] = self._metrics_of_outputs(kwargs.get("weighted_metrics"), default)
        if is_auto(metrics):
            metrics, kwargs["weighted_metrics"] = None, joined_metrics(self.default_metrics(), kwargs["weighted_metrics"])
        else:
            metrics = self._metrics_of_outputs(metrics, default)
        if kwargs.get("auto_scale_loss", True):
            optimizer = with_loss_scale(optimizer, self.encoder)
        with all_positions() if jit_compile else contextlib.nullcontext():  # Keras asks whether XLA can compile it
            super().compile(optimizer=optimizer, loss=chosen_loss, metrics=metrics, jit_compile=jit_compile, **kwargs)
        keras_internals.hide(self, "_has_default_loss", is_auto(loss))
        names = names_of_figures(chosen_loss, metrics, kwargs["weighted_metrics"])
        keras_internals.hide(self, "_figure_names", names)

    @property
    def logits(self) -> Logits | None:
        """The kind of logits that each output holds; None for numbers and vectors."""
        return None

    def figure_names(self) -> list[str]:
        """Returns the names of the loss and of the metrics in Keras's logs. A task that is not compiled is compiled first.

        This is no property, because Keras reads properties while it loads a file, and a task loaded with `compile=False` should
        stay uncompiled.
        """
        self._compile_if_needed()
        return self._figure_names

    def default_loss(self) -> Any:
        """Returns the loss that `compile` takes by default."""
        raise NotImplementedError

    def default_metrics(self) -> Any:
        """Returns the metrics that `compile` takes by default."""
        return []

    def default_loss_weights(self) -> dict[str, float] | None:
        """Returns the weight of each output's loss; None for one output, or for equal weights."""
        return None

    def accuracy(self) -> keras.metrics.Metric | None:
        """Returns a new metric for `metrics=["accuracy"]`, or None for a task whose answers are not right or wrong."""
        return None if self.logits is None else LabelledAccuracy()

    def _loss_of_outputs(self, loss: Any, default: Any) -> Any:
        """Returns the user's loss as Keras takes it, made to read the logits of each output.

        Args:
          loss: one loss for all outputs, or a dictionary or a list of losses, one for each output.
          default: the task's own loss, or a dictionary of its outputs' losses.
        """
        outputs = default if isinstance(default, dict) else {"": default}

        def chosen(given: Any, of_default: Any) -> Any:
            return loss_on_logits(given, self.logits, of_default, type(self).__name__)

        if isinstance(loss, dict) and not is_serialized(loss):
            return {name: chosen(given, outputs.get(name)) for name, given in loss.items()}
        if isinstance(loss, (list, tuple)):
            if len(loss) != len(outputs):
                raise ValueError(f"loss should be one loss, or one for each of {len(outputs)} outputs, got {len(loss)}")
            return [chosen(given, of_default) for given, of_default in zip(loss, outputs.values())]
        if isinstance(default, dict) and loss is not None:
            return {name: chosen(loss, of_default) for name, of_default in default.items()}
        return chosen(loss, default)

    def _metrics_of_outputs(self, metrics: Any, default: Any) -> Any:
        """Returns the user's metrics as Keras takes them; `default` is the task's own loss, which names its outputs."""
        accuracy: Callable[[], Any] | None = self.accuracy if self.accuracy() is not None else None

        def chosen(given: Any) -> Any:
            if isinstance(given, (list, tuple)):
                return [chosen(one) for one in given]
            return None if given is None else metric_on_logits(given, self.logits, accuracy, type(self).__name__)

        if isinstance(metrics, dict) and not is_serialized(metrics):
            return {name: chosen(given) for name, given in metrics.items()}
        metrics = metrics if metrics is None or isinstance(metrics, (list, tuple)) else [metrics]
        if metrics and isinstance(default, dict) and not any(isinstance(given, (list, tuple)) for given in metrics):
            return {name: [chosen(copied(given)) for given in metrics] for name in default}
        return chosen(metrics)

    def _compile_if_needed(self) -> None:
        if not getattr(self, "compiled", False):
            with self.distribute_strategy.scope():
                self.compile()
        check_replicas(self, self.encoder, self.torn_by_replicas)

    @property
    def torn_by_replicas(self) -> str | None:
        """Why the rows of a batch cannot be shared among replicas, as a sentence, or None if they can."""
        return None


def is_auto(value: Any) -> bool:
    """Returns whether an argument of `compile` asks for the task's own loss, metrics or optimizer."""
    return isinstance(value, str) and value == "auto"


def check_loss_weights(weights: Any) -> None:
    """Raises a ValueError if `loss_weights`, a number or several in a list or by output, has one that no loss can take."""
    if weights is None:
        return
    for weight in (
        weights.values() if isinstance(weights, dict) else weights if isinstance(weights, (list, tuple)) else [weights]
    ):
        number("loss_weights", weight, least=0)


def is_serialized(value: dict) -> bool:
    """Returns whether a dictionary is a loss or a metric in Keras's serialized form, rather than a dictionary by output."""
    return "class_name" in value


def names_of_figures(loss: Any, *metrics: Any) -> list[str]:
    """Returns the names that a compiled model's figures have in Keras's logs. Keras itself knows them after the first batch.

    Args:
      loss: the loss, or a dictionary of losses by output.
      *metrics: lists of metrics, or dictionaries of them by output.
    """
    names = ["loss", *(f"{output}_loss" for output in loss if len(loss) > 1)] if isinstance(loss, dict) else ["loss"]
    for group in metrics:
        for output, of_output in group.items() if isinstance(group, dict) else [("", group)]:
            for metric in keras.tree.flatten(as_metrics(of_output)):
                name = metric if isinstance(metric, str) else getattr(metric, "name", getattr(metric, "__name__", ""))
                names.append(f"{output}_{name}" if output else name)
    return names


def copied(metric: Any) -> Any:
    """Returns a copy of a metric, with counts of its own, for another output."""
    return type(metric).from_config(metric.get_config()) if isinstance(metric, keras.metrics.Metric) else copy.copy(metric)


def joined_metrics(own: Any, others: Any) -> Any:
    """Returns the task's own metrics and others as one list, or as a dictionary of lists by output.

    Args:
      own: the task's metrics: a list, or a dictionary by output.
      others: the user's metrics: a list, a dictionary by output, or None.

    Raises:
      ValueError: `own` is a dictionary by output, and `others` is none.
    """
    if not others:
        return own
    if not own:
        return others
    if not isinstance(own, dict):
        return [*as_metrics(own), *as_metrics(others)]
    if not isinstance(others, dict):
        raise ValueError(f"weighted_metrics should be a dictionary by output ({', '.join(own)}), got {others!r}")
    return {name: [*as_metrics(own.get(name)), *as_metrics(others.get(name))] for name in {**own, **others}}


def as_metrics(value: Any) -> list:
    """Returns the metrics of an output as a list; `value` is one metric, several or None."""
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]
