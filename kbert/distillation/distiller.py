"""Training a student to do as its teacher does: the losses, and `fit`."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from kbert.arguments import known_only, number, whole_number, yes_or_no
from kbert.distillation import losses
from kbert.distillation.lessons import Lessons, masked_anew, open_lessons, read_lessons
from kbert.distillation.observed import observe, outputs_in
from kbert.distillation.pair_checks import Weight, check_pair, check_sizes, layer_pairs, used_weights
from kbert.distillation.teacher_cache import TeacherCache, cached_lessons
from kbert.encoders.layers import Projection
from kbert.tasks.fit_arguments import check_fit
from kbert.tasks.task import Task
from kbert.training import keras_internals
from kbert.training.accumulation import LastStep, drop_waiting, warn_of_too_few
from kbert.training.how_steps_run import OF_STEPS, check_steps
from kbert.training.optimizer import chosen_optimizer, start_schedule
from kbert.training.phases import Phase, batches_of_training
from kbert.training.precision import check_trainable_precision, with_loss_scale
from kbert.training.replicas import check_replicas
from kbert.training.trainable_flags import TrainsWhatIsRead
from kbert.training.watching import as_list, check_callbacks

ATTENTION = {"kl": losses.attention_divergence, "mse": losses.attention_difference, "scores": losses.attention_difference}
HIDDEN = {"mse": losses.squared_difference, "cosine": losses.cosine_distance}


class Distiller(TrainsWhatIsRead, keras.Model):
    """A training of a student on what its teacher says of texts, with labels or without.

    >>> student = teacher.make_student(num_hidden_layers=3)  # doctest: +SKIP
    >>> kbert.Distiller(teacher, student).fit(texts, labels, epochs=3)  # doctest: +SKIP
    >>> student.classify(["I could not be happier"])  # doctest: +SKIP

    After `fit` the student is trained. Save and export the student, not the distiller.

    Each weight of a loss is a number, or a function that gives the number. The function's argument is the share of the training
    that is done, a scalar tensor from 0 to 1.

    Args:
      teacher: a trained task. Its weights do not change.
      student: a task of the same class, with the same vocabulary and labels, such as `teacher.make_student()` gives.
      temperature: a number above 0 that divides the logits of teacher and student in the `soft` loss.
      soft: the weight of the teacher's answers (`Task.soft_loss`): the divergence of softened distributions; for an embedder or
        a regression, the squared difference.
      hard: the weight of the labels (`Task.hard_loss`), for texts that have them. An embedder has none.
      hidden: the weight of the layers' hidden states.
      hidden_loss: `"mse"` or `"cosine"`, for `hidden` and `embedding`.
      embedding: the weight of the embeddings' output.
      attention: the weight of the layers' attention.
      attention_loss: `"kl"` or `"mse"` of the attention probabilities, or `"scores"`, the MSE of the scores before the softmax.
      relation: the weight of the last layers' value relation (MiniLM).
      layer_map: which of the teacher's layers each of the student's layers is compared with: `"uniform"`, `"last"` or a list;
        see `kbert.tasks.smaller.layer_map`.
      layers: numbers of the student's layers to which `hidden` and `attention` are limited; by default all layers.
      project: whether a projection is learned where the student's vectors are narrower. With `False` that is an error.
      **kwargs: the arguments of `keras.Model`, such as `name`.

    Raises:
      TypeError, ValueError: the student cannot learn from this teacher, or an argument is out of its range.
    """

    def __init__(
        self,
        teacher: Task,
        student: Task,
        *,
        temperature: float = 2.0,
        soft: Weight = 1.0,
        hard: Weight = 1.0,
        hidden: Weight = 0.0,
        hidden_loss: str = "mse",
        embedding: Weight = 0.0,
        attention: Weight = 0.0,
        attention_loss: str = "kl",
        relation: Weight = 0.0,
        layer_map: str | Sequence[int] = "uniform",
        layers: Iterable[int] | None = None,
        project: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_pair(teacher, student)
        number("temperature", temperature, above=0)
        yes_or_no(project=project)
        for name, value, known in (("hidden_loss", hidden_loss, HIDDEN), ("attention_loss", attention_loss, ATTENTION)):
            if value not in known:
                raise ValueError(f"{name} should be one of {', '.join(known)}, got {value!r}")
        self.teacher: Task
        keras_internals.hide(self, "teacher", teacher)  # Keras would train and save it
        self.student, self.temperature = student, float(temperature)
        self.loss_weights = used_weights(
            {
                "soft": soft,
                "hard": hard if student.hard_targets != "none" else 0.0,
                "hidden": hidden,
                "embedding": embedding,
                "attention": attention,
                "relation": relation,
            }
        )
        self.hidden_loss, self.attention_loss = HIDDEN[hidden_loss], ATTENTION[attention_loss]
        self._attention_name = "attention_scores" if attention_loss == "scores" else "attentions"
        self.layer_pairs = layer_pairs(layer_map, layers, student, teacher)
        check_sizes(teacher, student, self.loss_weights, project)
        self.inside = self._compared_layers()
        self.projections = self._build_projections()
        self.loss_means = {name: keras.metrics.Mean(name=f"{name}_loss") for name in self.loss_weights}
        self._first_step = tf.Variable(0.0, trainable=False)
        self._steps = tf.Variable(1.0, trainable=False)
        self.built = True

    def _compared_layers(self) -> list[tuple[str, int, int]]:
        """Returns `(name, the student's layer, the teacher's layer)` of all tensors that the losses compare."""
        by_loss = {
            "embedding": [("hidden_states", 0, 0)],
            "hidden": [("hidden_states", ours + 1, theirs + 1) for ours, theirs in self.layer_pairs],
            "attention": [(self._attention_name, ours, theirs) for ours, theirs in self.layer_pairs],
            "relation": [("attention_values", -1, -1)],
        }
        return [place for loss, places in by_loss.items() if loss in self.loss_weights for place in places]

    def _build_projections(self) -> list[Projection]:
        """Returns one projection for all layers, as in TinyBERT's code, or none where the vectors have the same width."""
        narrow, wide = self.student.encoder.config.hidden_size, self.teacher.encoder.config.hidden_size
        if narrow == wide or not {"hidden", "embedding"} & set(self.loss_weights):
            return []
        projection = Projection(wide, name="projection")
        projection.build((None, narrow))
        return [projection]

    @property
    def unread_weights(self) -> list[keras.Variable]:
        """The weights of the student that neither its outputs nor the compared layers depend on."""
        return self.student.unread_weights

    # Losses

    def call(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> dict[str, tf.Tensor]:
        """Returns the student's outputs and its layers' tensors that the losses compare, as a flat dictionary."""
        return observe(self.student, inputs, training, [(name, layer) for name, layer, _ in self.inside])

    def _teacher_seen(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the teacher's outputs, if a loss compares them, and its layers' tensors, as a flat dictionary."""
        observed = observe(self.teacher, inputs, False, [(name, layer) for name, _, layer in self.inside])
        if "soft" in self.loss_weights:
            return observed
        return {name: value for name, value in observed.items() if not name.startswith("outputs")}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns the weighted sum of the losses of a batch, as Keras's training step asks for it.

        Args:
          x: the packed dictionary, `[B, L]`.
          y: `targets`, `labelled` float32 `[B]`, and `teacher`, the flat dictionary of the teacher's tensors. Without
            `teacher`, the teacher computes them now.
          y_pred: what `call` gives for `x`.
          sample_weight: not used.
          training: not used.
        """
        of_student, of_teacher = y_pred, y["teacher"] if "teacher" in y else self._teacher_seen(x)
        of_teacher = {name: tf.stop_gradient(value) for name, value in of_teacher.items()}
        mask = tf.cast(x["padding_mask"], tf.float32)
        values, outputs = {}, outputs_in(of_student)
        if "soft" in self.loss_weights:
            values["soft"] = self.student.soft_loss(outputs_in(of_teacher), outputs, self.temperature, mask, y["targets"])
        if "hard" in self.loss_weights:
            values["hard"] = self.student.hard_loss(outputs, y["targets"], tf.cast(y["labelled"], tf.float32))
        values.update(self._losses_inside(of_teacher, of_student, mask))
        done = self.share_done()
        total = 0.0
        for name, value in values.items():
            weight = self.loss_weights[name]
            self.loss_means[name].update_state(value)
            total += tf.cast(weight(done) if callable(weight) else weight, tf.float32) * value
        return total

    def share_done(self) -> tf.Tensor:
        """Returns the share of this training's steps that are done, a scalar from 0 to 1."""
        return (tf.cast(self.optimizer.iterations, tf.float32) - self._first_step) / self._steps

    def _losses_inside(self, of_teacher: dict, of_student: dict, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the losses of embeddings, hidden states, attention and values that have a weight.

        Args:
          of_teacher: the teacher's flat dictionary.
          of_student: the student's.
          mask: float32 `[B, L]`, 1 at real tokens.
        """
        pairs = self.layer_pairs

        def compared(loss: Callable, name: str, ours: int, theirs: int) -> tf.Tensor:
            return loss(of_teacher[f"{name}/{theirs}"], of_student[f"{name}/{ours}"], mask)

        def vectors(teacher: tf.Tensor, student: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
            return self.hidden_loss(teacher, self._widened(student), mask)

        values = {}
        if "hidden" in self.loss_weights:
            values["hidden"] = mean([compared(vectors, "hidden_states", a + 1, b + 1) for a, b in pairs])
        if "embedding" in self.loss_weights:
            values["embedding"] = compared(vectors, "hidden_states", 0, 0)
        if "attention" in self.loss_weights:
            values["attention"] = mean([compared(self.attention_loss, self._attention_name, a, b) for a, b in pairs])
        if "relation" in self.loss_weights:
            values["relation"] = compared(losses.value_relation, "attention_values", -1, -1)
        return values

    def _widened(self, vectors: tf.Tensor) -> tf.Tensor:
        """Returns the student's vectors `[B, L, H]` in the teacher's width."""
        if not self.projections:
            return vectors
        shape = tf.shape(vectors)
        rows = self.projections[0](tf.reshape(vectors, [-1, vectors.shape[-1]]))
        return tf.reshape(rows, [shape[0], shape[1], rows.shape[-1]])

    # Training

    def compile(
        self,
        optimizer: Any = "auto",
        learning_rate: Any = None,
        gradient_accumulation_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Prepares for training. The losses are the constructor's.

        Args:
          optimizer: a Keras optimizer; by default AdamW, whose rate rises over the first tenth of the steps and then falls
            linearly to 0. If the student computes in float16, the optimizer scales the loss.
          learning_rate: the peak of the default optimizer's rate, as `Task.compile` takes it.
          gradient_accumulation_steps: the number of batches whose mean gradient makes one step.
          **kwargs: `jit_compile`, which is False by default and is for encoders that were built with `real_tokens=False`,
            `run_eagerly`, `steps_per_execution` and `auto_scale_loss`, as in `keras.Model.compile`.

        Raises:
          TypeError: `loss`, `metrics` or another argument that has no effect on a distiller was given.
          ValueError: an argument is out of its range, or XLA cannot compile the encoders.
        """
        known_only("Distiller.compile", kwargs, ("jit_compile", *OF_STEPS))
        jit_compile = check_steps(kwargs.pop("jit_compile", False), **kwargs)
        if jit_compile and not (self.student.supports_jit and self.teacher.supports_jit):
            raise ValueError(
                "jit_compile=True asks XLA for shapes that it cannot compile: build the encoders of teacher and student with "
                "real_tokens=False, or leave it out"
            )
        optimizer = chosen_optimizer(optimizer, learning_rate, gradient_accumulation_steps)
        if kwargs.get("auto_scale_loss", True):
            optimizer = with_loss_scale(optimizer, self.student.encoder)
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        cache: str | pathlib.Path | None = None,
    ) -> keras.callbacks.History:
        """Trains the student.

        Args:
          x: texts, as the student's own `fit` takes them.
          y: a label for each text, or None for texts without labels. A classifier and a token classifier also take a list that
            has None for some texts. None in a question answerer's list means that the text has no answer.
          batch_size: texts of a batch.
          epochs: how often each text is seen, the epochs before `initial_epoch` included.
          verbose: 1 for Keras's progress bar, 2 for a line each epoch, 0 for silence.
          callbacks: Keras's callbacks, one or a list. `keras.callbacks.ModelCheckpoint` saves the student.
          validation_split: the share of the texts, at the end, that is held out.
          validation_data: `(texts, labels)`. After each epoch the student's `evaluate` on them is reported, as `val_...`.
          shuffle: whether the texts come in another order in each epoch.
          initial_epoch: the number of the first epoch, counted from 0. The learning-rate schedule runs from this epoch on.
          steps_per_epoch: the number of batches of an epoch. Each epoch goes on where the one before stopped. By default an
            epoch has all batches.
          cache: a folder for the teacher's outputs and layers that the losses compare. With a folder, the teacher computes them
            once, and not again in later epochs or in the next run on the same texts. Batches are read from the folder as they
            are needed, because layers take kilobytes a token. A masked LM's hidden tokens are then the same in each epoch.
            Without a folder, the outputs of other tasks are computed once and kept in memory if the losses compare no layers.

        Returns:
          Keras's `History`.

        Raises:
          ValueError: texts and labels do not fit, a number is out of its range, the student was made for several replicas or
            has weights in half precision, or the cache was made from other texts, another teacher or other losses.
          OSError: the disk has too little room for the cache.
        """
        check_trainable_precision(self.student.encoder)
        torn = "the losses of a Distiller are means over the tokens of a batch, which replicas would count otherwise"
        check_replicas(self, self.student, torn)
        if not getattr(self, "compiled", False):
            self.compile()
        check_fit(
            epochs=epochs, initial_epoch=initial_epoch, verbose=verbose, shuffle=shuffle, validation_split=validation_split,
            validation_data=validation_data, steps_per_epoch=steps_per_epoch, batch_size=whole_number("batch_size", batch_size),
        )  # fmt: skip
        validates, callbacks = bool(validation_split) or validation_data is not None, as_list(callbacks)
        of_student = self.student.figure_names() if validates else None
        figures = ["loss", *(metric.name for metric in self.loss_means.values())]
        scores = self.student.score_names
        if scores is not None:  # Keras knows no direction of the student's metrics, which are not metrics of the distiller
            scores = [*scores, *(name for name in of_student or [] if name.endswith(("accuracy", "macro_f1")))]
        check_callbacks(callbacks, self.optimizer, figures, of_student, scores)
        if validation_split:
            trained, held_out = open_lessons(self.student, x, y).split(validation_split)
            x, y, validation_data = trained.inputs, trained.targets, (held_out.inputs, held_out.targets)
        phase = Phase.of(self._data(x, y, batch_size, shuffle, cache), epochs, steps_per_epoch)
        batches = batches_of_training([phase], initial_epoch)
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        drop_waiting(self.optimizer)
        warn_of_too_few(self.optimizer, batches)
        first_step, steps = start_schedule(self.optimizer, batches, keras_internals.batches_seen(self.optimizer))
        self._first_step.assign(float(first_step))
        self._steps.assign(float(steps or 1))
        if validates:
            callbacks = [StudentScores(*validation_data), *callbacks]
        callbacks = [LastStep(epochs - 1), *callbacks]
        self.student.new_weights.clear()
        history = super().fit(
            phase.data, epochs=epochs, verbose=verbose, callbacks=callbacks, shuffle=False, initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
        )  # fmt: skip
        drop_waiting(self.optimizer)
        return history

    def save(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Saves the student, because a distiller cannot be loaded.

        Args:
          path: the `.keras` file to write.
          *args: the other arguments of `Task.save`.
          **kwargs: the other arguments of `Task.save`, by name.
        """
        self.student.save(path, *args, **kwargs)

    def save_weights(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Saves the weights of the student alone.

        Args:
          path: the `.weights.h5` file to write.
          *args: the other arguments of `keras.Model.save_weights`.
          **kwargs: the other arguments of `keras.Model.save_weights`, by name.
        """
        self.student.save_weights(path, *args, **kwargs)

    def _data(self, x: Any, y: Any, batch_size: int, shuffle: bool, cache: str | pathlib.Path | None) -> tf.data.Dataset:
        """Returns batches of `(inputs, {"targets", "labelled"})`, with `"teacher"` where the teacher's tensors are cached.

        Args:
          x: texts.
          y: their labels, or None.
          batch_size: texts of a batch.
          shuffle: whether the texts come in another order in each epoch.
          cache: the folder of a cache, or None.
        """
        student, chunk = self.student, open_lessons(self.student, x, y)
        student.note_form(chunk)
        if cache is not None and self.inside and student.merges_windows:
            raise ValueError(
                "a cache of losses on layers is for texts in one window: build the classifiers without window_stride"
            )
        if student.hard_targets == "drawn" and cache is None:
            return masked_anew(student, chunk, batch_size, shuffle)
        lessons = read_lessons(student, chunk)
        is_cached = cache is not None if self.inside else "soft" in self.loss_weights
        teacher = self._teacher_cache(lessons, cache).of if is_cached else None
        return lessons.batches(student.pack, batch_size, shuffle, teacher)

    def _teacher_cache(self, lessons: Lessons, folder: str | pathlib.Path | None) -> TeacherCache:
        """Returns the teacher's tensors for each row of the lessons, computed now or read from a folder."""
        names = [f"{name}/{layer}" for name, _, layer in self.inside]
        names += ["outputs"] if "soft" in self.loss_weights else []
        return cached_lessons(lessons, self.student, self.teacher, self._teacher_seen, names, folder)


class StudentScores(keras.callbacks.Callback):
    """A callback that adds the student's `evaluate` to the figures of each epoch, each as `val_<name>`.

    Args:
      x: texts.
      y: their labels, or None.
    """

    def __init__(self, x: Any, y: Any = None) -> None:
        super().__init__()
        self.x, self.y = x, y

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        figures = self.model.student.evaluate(self.x, self.y, return_dict=True, verbose=0)
        logs.update({f"val_{name}": value for name, value in figures.items()})


def mean(values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the mean of tensors of one shape."""
    return tf.add_n(values) / len(values)
