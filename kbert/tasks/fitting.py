"""Training a task: `fit`, and single batches."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.tasks.columns import rows_kept
from kbert.tasks.compiled_state import CompiledState
from kbert.tasks.encoding import BATCH_SIZE, texts_of
from kbert.tasks.fit_arguments import BALANCED, KEEP_EVERY, are_batches, check_fit, refuse_beside_batches
from kbert.tasks.inputs import Texts, is_packed
from kbert.tasks.measuring import ValidationScores
from kbert.tasks.provenance import training_of
from kbert.tasks.resuming import open_state
from kbert.tasks.row_weights import balanced_weights
from kbert.training import keras_internals
from kbert.training.accumulation import LastStep, drop_waiting, warn_of_too_few
from kbert.training.fingerprint import digest
from kbert.training.one_training import OneTraining
from kbert.training.optimizer import start_schedule
from kbert.training.phases import Phase, batches_in, batches_of_training, remaining_phases
from kbert.training.precision import check_trainable_precision
from kbert.training.resume import EpochNumbers, random_at_start
from kbert.training.watching import as_list, check_callbacks


class Fitting(CompiledState):
    """What a task has to do with training; a part of `Task`."""

    def train_step(self, data: Any) -> Any:
        """Makes one step, as Keras asks for it; `data` is what its iterator gave."""
        with self._after(data):
            return super().train_step(data)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict | str | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        max_tokens: int | None = None,
        resume: Any = None,
        resume_every: float = KEEP_EVERY,
        total_steps: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains on texts and their targets.

        >>> task.fit(["good", "bad"], ["joy", "sadness"], epochs=3, validation_split=0.1)  # doctest: +SKIP

        Args:
          x: a list, an array or a pandas column of texts; for pairs a tuple of two columns. Or a stream of `(text, target)` or
            `(text, target, weight)`: a generator, a `PyDataset` or a `tf.data.Dataset`, batched or not. Or packed dictionaries.
            The class says what its texts and targets are.
          y: the targets of texts in memory, one for each text.
          batch_size: the rows of a batch. By default those of a dataset's own batches, and 32 elsewhere.
          epochs: how often the data are seen, the epochs before `initial_epoch` included.
          verbose: 0 is silent, 1 shows a progress bar, 2 a line for each epoch.
          callbacks: Keras callbacks, one or a list.
          validation_split: the share at the end of the data to hold out, as in Keras; for texts in memory.
          validation_data: `(texts, targets)`, with weights as an optional third, or a stream.
          shuffle: makes a new order in each epoch, with rows of similar length in one batch. A stream is shuffled within some
            thousand rows.
          class_weight: a dictionary from a label, or its index, to the weight of its rows. Or `"balanced"`: the weights with
            which all labels weigh the same, counted over the rows that are trained on, in memory.
          sample_weight: a weight for each text in memory.
          initial_epoch: the number of the first epoch. The learning-rate schedule begins there.
          steps_per_epoch: the number of batches of an epoch. An epoch continues where the last one stopped. If the data end,
            they begin anew.
          max_tokens: the most pieces of a batch, in place of `batch_size`. Short texts then come in larger batches.
          resume: a folder in which the state of the training and of its callbacks is kept. After a crash or a kill, the same
            call in a new process continues from there. On one device it ends with the weights of an undisturbed run, bit for
            bit. Other data, settings or sizes are refused. A training that could not continue exactly is refused before the
            first step. The state is deleted when the training has ended.
          resume_every: seconds after which the state is kept within an epoch. After each epoch it is kept in any case.
          total_steps: the number of batches after which the default learning-rate schedule reaches 0, counted from the first
            batch of this call. By default it is the number of all batches, if the data say it.
          **kwargs: `validation_steps`, `validation_batch_size` and `validation_freq`, as in `keras.Model.fit`.

        Returns:
          Keras's `History`.

        Raises:
          TypeError: something is no text, or a target of another kind, before any step is run.
          ValueError: targets that do not fit, or an argument that cannot act on this kind of input, before any step is run.
        """
        check_trainable_precision(self.encoder)
        self._compile_if_needed()
        check_fit(
            epochs=epochs, initial_epoch=initial_epoch, verbose=verbose, shuffle=shuffle, validation_split=validation_split,
            validation_data=validation_data, resume=resume, resume_every=resume_every, class_weight=class_weight, more=kwargs,
            batch_size=batch_size, steps_per_epoch=steps_per_epoch, max_tokens=max_tokens, total_steps=total_steps,
        )  # fmt: skip
        if resume is not None:
            keras_internals.hide(self, "_random_at_start", random_at_start(resume))
        validates, packed = bool(validation_split) or validation_data is not None, self._is_packed(x)
        self._check_callbacks(callbacks, validates, [] if packed else self.score_names)
        if packed:
            return self._fit_packed(
                x, y, batch_size, epochs, callbacks, initial_epoch, resume, resume_every, total_steps, max_tokens,
                validation_split=validation_split, validation_data=validation_data, verbose=verbose, shuffle=shuffle,
                class_weight=class_weight, sample_weight=sample_weight, steps_per_epoch=steps_per_epoch, **kwargs,
            )  # fmt: skip
        texts = self._open_for_training(x, y, sample_weight)
        if texts.once and epochs > initial_epoch + 1 and steps_per_epoch is None:
            raise ValueError(
                f"a {texts.kind} gives its rows once, and epochs={epochs} sees them again: give a list, a PyDataset or a "
                "tf.data.Dataset"
            )
        self.choose_loss(texts.has_targets)
        texts, held_out = self._hold_out(texts, validation_split, validation_data)
        batch_size = batch_size or texts.batch_size or BATCH_SIZE
        self._epochs.clear()
        if isinstance(class_weight, str):  # "balanced", as `check_fit` has checked
            class_weight = self._balanced(texts.chunk.targets if texts.in_memory else None, texts.kind)
        data = self._training_data(texts, batch_size, shuffle, max_tokens, class_weight, steps_per_epoch)
        if resume is not None and not texts.once:
            self.content_of_data = digest([[list(chunk) for chunk in texts], class_weight, shuffle])
        if held_out is not None:
            if validation_split:
                self.check_held_out(texts.chunk, held_out.chunk)
            rows = kwargs.pop("validation_batch_size", None) or batch_size
            validation_data = self._evaluation_data(held_out, rows)
            if self.has_scores and not held_out.once:
                steps = kwargs.get("validation_steps")
                callbacks = [ValidationScores(held_out, steps and steps * rows), *as_list(callbacks)]
        elif validation_data is not None:
            validation_data = self._packed_validation(validation_data)
        return self._fit_phases(
            [Phase.of(data, epochs, steps_per_epoch)], total_steps, initial_epoch, callbacks, resume, resume_every,
            None if max_tokens else batch_size,
            validation_data=validation_data, verbose=verbose, steps_per_epoch=steps_per_epoch, **kwargs,
        )  # fmt: skip

    def _balanced(self, targets: Any, kind: str) -> dict:
        """Returns the weights of labels for `class_weight="balanced"`.

        Args:
          targets: those of the rows that are trained on, or None if they are not in memory.
          kind: what the user calls the data.
        """
        self.encode_class_weight({})  # raises for a task without one label a text
        if targets is None:
            raise ValueError(f"class_weight={BALANCED!r} counts labels in memory, a {kind} has none: give a dictionary")
        return balanced_weights(np.asarray(self.encode_packed_targets(targets)), self.labels)

    def _check_callbacks(self, callbacks: Any, validates: bool, scores: list[str] | None) -> None:
        """Raises an error for callbacks that could not do their work; see `watching.check_callbacks` for `scores`."""
        names = self.figure_names()
        check_callbacks(as_list(callbacks), self.optimizer, names, names if validates else None, scores)

    def _hold_out(self, texts: Texts, share: float, data: Any) -> tuple[Texts, Texts | None]:
        """Returns the texts to train on, and those to validate on: a share at the end, `validation_data`, or None."""
        if share:
            if not texts.in_memory:
                raise ValueError(
                    f"validation_split is for texts in memory, a {texts.kind} has no known end: give validation_data"
                )
            trained, held_out = texts.chunk.split(share)
            return texts_of(trained, texts), texts_of(held_out, texts)
        if data is None or is_packed_pair(data):
            return texts, None
        watched = self._open_validation(data)
        if self.targets == "optional" and texts.has_targets != watched.has_targets:
            raise ValueError(
                "the loss depends on whether there are scores: give validation_data scores if fit has some, or none"
            )
        return texts, watched

    def _packed_validation(self, data: Any) -> Any:
        """Returns packed `validation_data`, batches or `(inputs, targets[, weights])`, checked and with encoded targets."""
        if not isinstance(data, (tuple, list)):
            return self.packed_batches(data)
        x, y, weights = self.packed_in_memory(*(*data, None, None)[:3])
        return (x, y) if weights is None else (x, y, weights)

    def _fit_packed(
        self,
        x: Any,
        y: Any,
        batch_size: int | None,
        epochs: int,
        callbacks: Any,
        initial_epoch: int,
        resume: Any,
        resume_every: float,
        total_steps: int | None,
        max_tokens: int | None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains on packed dictionaries, which Keras takes as they are; see `fit` for the arguments."""
        self.content_of_data = getattr(x, "made_of", "")  # of files of examples
        if max_tokens is not None:
            raise ValueError("max_tokens makes batches of texts; packed inputs are batched by batch_size or by their dataset")
        if kwargs["class_weight"] == BALANCED:
            trained = y if y is None or are_batches(x) else y[: rows_kept(len(y), kwargs["validation_split"])]
            kwargs["class_weight"] = self._balanced(trained, type(x).__name__)
        if kwargs["class_weight"] is not None:
            kwargs["class_weight"] = dict(enumerate(self.encode_class_weight(kwargs["class_weight"]).tolist()))
        held_out = kwargs["validation_data"]
        if held_out is not None and is_packed_pair(held_out):
            kwargs["validation_data"] = self._packed_validation(held_out)
        elif held_out is not None:
            rows = kwargs.pop("validation_batch_size", None) or batch_size or BATCH_SIZE
            kwargs["validation_data"] = self._evaluation_data(self._open_validation(held_out), rows)
        steps_per_epoch, share = kwargs["steps_per_epoch"], kwargs.pop("validation_split")
        if x is None:
            raise TypeError(f"fit needs texts or packed dictionaries, got None: {self.fit_call}")
        if are_batches(x):
            x, sample_weight = self.packed_batches(x), kwargs.pop("sample_weight")
            refuse_beside_batches(x, y=y, sample_weight=sample_weight, validation_split=share or None, batch_size=batch_size)
        else:
            batch_size = batch_size or BATCH_SIZE
            x, y, kwargs["sample_weight"] = self.packed_in_memory(x, y, kwargs["sample_weight"])
            kwargs.update(y=y, batch_size=batch_size, validation_split=share)
        if isinstance(x, tf.data.Dataset):
            phase = Phase.of(x, epochs, steps_per_epoch)
        else:
            if steps_per_epoch is not None:
                raise ValueError(
                    f"steps_per_epoch is for data that can begin anew within an epoch, and {type(x).__name__} of packed input "
                    "cannot: give a tf.data.Dataset"
                )
            phase = Phase(x, epochs, batches_in(x, batch_size or 1, share))
        return self._fit_phases([phase], total_steps, initial_epoch, callbacks, resume, resume_every, **kwargs)

    def _fit_phases(
        self,
        phases: list[Phase],
        total_steps: int | None,
        initial_epoch: int = 0,
        callbacks: Any = None,
        resume: Any = None,
        resume_every: float = KEEP_EVERY,
        rows_of_batch: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Runs Keras's `fit` on each phase, as one training: one schedule, one state to resume, one history.

        Args:
          phases: the data to train on, each with its number of epochs.
          total_steps: the number of batches of the schedule, from the initial epoch on; by default all that there are.
          initial_epoch: the number of the first epoch.
          callbacks: Keras callbacks, one or a list.
          resume: the folder of the state, or None.
          resume_every: seconds after which the state is kept within an epoch.
          rows_of_batch: the rows of a batch, for the model card, where `kwargs` do not hold them.
          **kwargs: the other arguments of `keras.Model.fit`.
        """
        if isinstance(phases[0].data, tf.data.Dataset):
            kwargs["shuffle"] = False  # done by then
        self.new_weights.clear()
        for name in ("figures", "training"):  # of the weights before
            self.provenance.pop(name, None)
        self._build_optimizer()
        drop_waiting(self.optimizer)
        self._wait_for_data_of(*(phase.data for phase in phases), kwargs.get("validation_data"))
        first_step, done, state = keras_internals.batches_seen(self.optimizer), (initial_epoch, 0), None
        of_user = as_list(callbacks)
        epoch_numbers = EpochNumbers(self._epochs)
        last_epoch, batches = sum(phase.epochs for phase in phases) - 1, batches_of_training(phases, initial_epoch)
        history = keras.callbacks.History()
        history.set_model(self)
        history.on_train_begin()
        if total_steps is not None and keras_internals.learning_rate_schedule(self.optimizer) is None:
            raise ValueError("total_steps is of the default learning-rate schedule, and this optimizer has a constant rate")
        if resume is not None:
            state = open_state(self, resume, resume_every, phases, total_steps or batches, initial_epoch, of_user, kwargs)
            done = state.restore(self)
            first_step = state.first_step
            for epoch, logs in enumerate(state.logs):
                history.on_epoch_end(epoch, logs)
        warn_of_too_few(self.optimizer, batches)
        start_schedule(self.optimizer, total_steps or batches, first_step)
        parts = remaining_phases(phases, *done)
        together = OneTraining(of_user) if state is not None or len(parts) > 1 else None
        callbacks = [epoch_numbers, LastStep(last_epoch), *([together] if together else of_user), *([state] if state else [])]
        if state is not None and state.has_stopped:  # a callback had ended it
            parts = []
            for callback in callbacks:
                callback.set_model(self)
                callback.on_train_begin()
        for data, first, beyond in parts:
            with self._quiet_at_the_end():
                part = super().fit(data, initial_epoch=first, epochs=beyond, callbacks=callbacks, **kwargs)
            for number, epoch in enumerate(part.epoch):
                logs = {name: values[number] for name, values in part.history.items() if number < len(values)}
                history.on_epoch_end(epoch, self.in_order(logs))
            if self.stop_training:
                break
        if together is not None:
            together.finish()
        drop_waiting(self.optimizer)  # of a training that was stopped within a step
        if state is not None:
            state.finish()
        self.history = history
        self.provenance.pop("figures", None)  # of a callback that has called evaluate
        self.provenance["training"] = training_of(self, history, rows_of_batch or kwargs.get("batch_size"))
        return history

    # Single batches

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: dict | None = None, return_dict: bool = False
    ) -> Any:
        """Makes one step on one batch of texts.

        Args:
          x: texts in memory, as `fit` takes them, or packed dictionaries.
          y: their targets.
          sample_weight: a weight for each text.
          class_weight: a dictionary from a label to a weight.
          return_dict: returns a dictionary by name rather than a list.
        """
        check_trainable_precision(self.encoder)
        self._compile_if_needed()
        if not self._is_packed(x):
            x, y, sample_weight = self._one_batch(x, y, sample_weight, class_weight)
            class_weight = None
        else:
            x, y, sample_weight = self.packed_in_memory(x, y, sample_weight)
        if class_weight is not None:
            class_weight = dict(enumerate(self.encode_class_weight(class_weight).tolist()))
            return super().train_on_batch(x, y, sample_weight, class_weight, return_dict=return_dict)
        return super().train_on_batch(x, y, sample_weight, return_dict=return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Measures loss and metrics on one batch of texts.

        Args:
          x: texts in memory, as `fit` takes them, or packed dictionaries.
          y: their targets.
          sample_weight: a weight for each text.
          return_dict: returns a dictionary by name rather than a list.
        """
        self._compile_if_needed()
        if not self._is_packed(x):
            x, y, sample_weight = self._one_batch(x, y, sample_weight, None, trains=False)
        else:
            x, y, sample_weight = self.packed_in_memory(x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, return_dict=return_dict)

    def _one_batch(
        self, x: Any, y: Any, sample_weight: Any, class_weight: dict | None, trains: bool = True
    ) -> tuple[Any, Any, Any]:
        texts = self._open_for_training(x, y, sample_weight)
        if not texts.in_memory:
            raise ValueError(f"one batch is texts in memory, got a {texts.kind}: fit() takes streams")
        self.choose_loss(texts.has_targets)
        examples = self.encode(texts.chunk, class_weight)
        if trains:
            self.note_form(texts.chunk)
        rows = int(examples.columns[0].nrows())
        return (*next(iter(self.batches_of(examples, rows, shuffle=False))), None)[:3]


def is_packed_pair(data: Any) -> bool:
    """Returns whether `validation_data` is packed: a dataset of packed dictionaries, or a tuple that begins with one."""
    return is_packed(data[0] if isinstance(data, (tuple, list)) and len(data) else data)
