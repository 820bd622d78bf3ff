"""Measuring a task: loss, metrics, and what the field counts beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from kbert.arguments import check_verbose, known_only, whole_numbers
from kbert.tasks.columns import Chunk, first_rows, joined_chunks
from kbert.tasks.compiling import Compiling
from kbert.tasks.encoding import BATCH_SIZE, texts_of
from kbert.tasks.fit_arguments import are_batches, refuse_beside_batches
from kbert.tasks.inputs import CHUNK, Texts
from kbert.tasks.provenance import figures_of
from kbert.training import keras_internals


class Measuring(Compiling):
    """What a task has to do with its figures; a part of `Task`."""

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Measures loss, metrics and the task's `scores` on texts and their targets.

        >>> task.evaluate(texts, labels, return_dict=True)  # doctest: +SKIP

        Args:
          x: texts, a stream or packed dictionaries, as `fit` takes them.
          y: the targets of texts in memory.
          batch_size: the rows of a batch. By default those of a dataset's own batches, and 32 elsewhere.
          verbose: 0 is silent, 1 shows a progress bar, 2 a line.
          sample_weight: a weight for each text in memory. It says how often the loss, the task's own metrics and its scores
            count the text.
          return_dict: returns a dictionary by name rather than a list.
          **kwargs: `steps` and `callbacks`, as in `keras.Model.evaluate`.

        Returns:
          A dictionary of floats, or a list of them: the loss, the metrics in the order in which they were compiled, then the
          task's `scores`. A task with the loss alone gives a number.
        """
        self._compile_if_needed()
        if keras_internals.asked_by_fit(kwargs):  # of validation data that are batches already
            return super().evaluate(x, y, batch_size, verbose, sample_weight, return_dict=return_dict, **kwargs)
        known_only("evaluate", kwargs, ("steps", "callbacks"))
        whole_numbers(batch_size=batch_size, steps=kwargs.get("steps"))
        check_verbose(verbose)
        texts = rows = None
        if self._is_packed(x):
            if x is None:
                raise TypeError(f"evaluate needs texts or packed dictionaries, got None: {self.fit_call}")
            if are_batches(x):
                x = self.packed_batches(x)
                refuse_beside_batches(x, y=y, sample_weight=sample_weight, batch_size=batch_size)
            else:
                x, y, sample_weight = self.packed_in_memory(x, y, sample_weight)
                kwargs.update(y=y, batch_size=batch_size or BATCH_SIZE, sample_weight=sample_weight)
        else:
            texts = self._open_for_training(x, y, sample_weight)
            self.choose_loss(texts.has_targets)
            batch_size = batch_size or texts.batch_size or BATCH_SIZE
            rows = None if kwargs.get("steps") is None else kwargs["steps"] * batch_size
            if texts.once and self.has_scores:  # the rows are read for the loss, and again for the scores
                texts = texts_of(joined_chunks(list(chunks_of(texts, rows)) or [Chunk(([],))]), texts)
            x = self._evaluation_data(texts, batch_size)
        self._wait_for_data_of(x)
        with self._quiet_at_the_end():
            logs = super().evaluate(x, verbose=verbose, return_dict=True, **kwargs)
        logs = self.in_order(logs)
        if texts is not None and self.has_scores:
            logs.update(self.scores_of_texts(texts, verbose, rows))
        self.provenance["figures"] = figures_of(logs)
        return logs if return_dict else list(logs.values()) if len(logs) > 1 else logs["loss"]

    def in_order(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Returns figures in the order of Keras's lists: the loss, the metrics as they were compiled, then all others.

        Args:
          logs: figures by their names. The names of figures of validation data begin with `val_`; these figures come last.
        """
        of_validation = [name.removeprefix("val_") for name in logs if name.startswith("val_")]
        names = keras_internals.in_list_order(self, [name for name in logs if not name.startswith("val_")])
        names += [f"val_{name}" for name in keras_internals.in_list_order(self, of_validation)]
        return {name: logs[name] for name in names}

    def test_step(self, data: Any) -> Any:
        """Measures one batch, as Keras asks for it; `data` is what its iterator gave."""
        with self._after(data):
            return super().test_step(data)

    # What the field counts

    def scores(self, x: Any, y: Any, verbose: int | str = "auto", sample_weight: Any = None) -> dict[str, float]:
        """Returns figures that are no means over batches, for example F1, by name. They are computed from all texts together.

        `evaluate` gives these figures beside the loss and the metrics, `fit` after each epoch for the validation data.

        Args:
          x: texts, as `fit` takes them.
          y: their targets.
          verbose: 1 for a progress bar, 0 for none.
          sample_weight: how often each text counts; by default once.
        """
        return self._score_chunks(iter(self._open_for_training(x, y, sample_weight)), verbose)

    def scores_of_texts(self, texts: Texts, verbose: int | str = "auto", rows: int | None = None) -> dict[str, float]:
        """Returns the `scores` of texts that came through the door, chunk by chunk.

        Args:
          texts: the texts with their targets.
          verbose: 1 for a progress bar, 0 for none.
          rows: the most rows that are read; a stream without an end has to be left somewhere.
        """
        chunks = chunks_of(texts, rows)
        if type(self).scores is not Measuring.scores:  # a subclass has its own
            chunk = joined_chunks(list(chunks))
            if chunk.weights is not None:
                raise ValueError(
                    f"the scores of {type(self).__name__} are its own, and take no weights: leave sample_weight out"
                )
            return self.scores(chunk.inputs, chunk.targets, verbose=verbose)
        return self._score_chunks(chunks, verbose)

    def _score_chunks(self, chunks: Iterator[Chunk], verbose: int | str) -> dict[str, float]:
        judged: list[tuple[Any, Any]] = []
        weights: list[np.ndarray] = []
        for chunk in chunks if self._judges else ():
            of_chunk = self.judge(chunk, verbose)
            judged += of_chunk
            weights += [chunk.weights] if chunk.weights is not None and of_chunk else []
        return self.score(judged, np.concatenate(weights) if weights else None) if judged else {}

    def judge(self, chunk: Chunk, verbose: int | str = "auto") -> list[tuple[Any, Any]]:
        """Returns the target and the task's answer of each row, as `score` counts them."""
        raise NotImplementedError

    def score(self, judged: list[tuple[Any, Any]], weights: np.ndarray | None = None) -> dict[str, float]:
        """Returns the figures of all rows.

        Args:
          judged: the pairs of a target and an answer that `judge` gave.
          weights: how often each row counts, float32 `[rows]`; None if each counts once.
        """
        raise NotImplementedError

    @property
    def score_names(self) -> list[str] | None:
        """The names of the figures that `score` may give, or None if they are unknown. A higher figure is always better."""
        return [] if type(self).scores is Measuring.scores else None

    @property
    def has_scores(self) -> bool:
        """Whether the task has figures beside its metrics."""
        return self._judges or type(self).scores is not Measuring.scores

    @property
    def _judges(self) -> bool:
        return type(self).judge is not Measuring.judge


def chunks_of(texts: Texts, rows: int | None = None) -> Iterator[Chunk]:
    """Returns the chunks of `texts`, or those of its first `rows` rows."""
    return iter(texts) if rows is None else first_rows(texts.read(min(rows, CHUNK)), rows)


class ValidationScores(keras.callbacks.Callback):
    """Adds a task's `scores` of the validation data to each epoch's figures, each as `val_<name>`; `fit` adds it by itself."""

    def __init__(self, texts: Texts, rows: int | None = None) -> None:
        super().__init__()
        self.texts, self.rows = texts, rows

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        assert logs is not None
        if "val_loss" not in logs:
            return  # an epoch that validation_freq leaves out
        logs.update({f"val_{name}": value for name, value in self.model.scores_of_texts(self.texts, 0, self.rows).items()})
