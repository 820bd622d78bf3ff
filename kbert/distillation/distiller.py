"""Training a student to do as its teacher does: the losses, and `fit`."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from kbert.distillation import losses
from kbert.distillation.lessons import Lessons, masked_anew, open_lessons, read_lessons
from kbert.distillation.observed import observe, outputs_in
from kbert.distillation.pair_checks import check_pair, check_sizes
from kbert.distillation.teacher_cache import TeacherCache, cached_lessons
from kbert.encoders.layers import Projection
from kbert.tasks import smaller
from kbert.tasks.fitting import as_list
from kbert.tasks.task import Task
from kbert.training import keras_internals
from kbert.training.optimizer import AdamW, WarmupLinearDecay, start_schedule
from kbert.training.precision import check_trainable_precision, with_loss_scale
from kbert.training.replicas import check_replicas

Weight = float | Callable[[tf.Tensor], Any]

ATTENTION = {"kl": losses.attention_divergence, "mse": losses.attention_difference, "scores": losses.attention_difference}
HIDDEN = {"mse": losses.squared_difference, "cosine": losses.cosine_distance}


class Distiller(keras.Model):
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
        if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not temperature > 0:
            raise ValueError(f"temperature should be a number above 0, got {temperature!r}")
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
        self._last_step = tf.Variable(1.0, trainable=False)
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
        done = tf.cast(self.optimizer.iterations, tf.float32) / self._last_step
        total = 0.0
        for name, value in values.items():
            weight = self.loss_weights[name]
            self.loss_means[name].update_state(value)
            total += tf.cast(weight(done) if callable(weight) else weight, tf.float32) * value
        return total

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

    def compile(self, optimizer: Any = "auto", learning_rate: float = 5e-5, **kwargs: Any) -> None:
        """Prepares for training. The losses are the constructor's.

        Args:
          optimizer: a Keras optimizer; by default AdamW, whose rate rises over the first tenth of the steps and then falls
            linearly to 0. For a student that computes in float16, it scales the loss.
          learning_rate: the peak of the default optimizer's rate.
          **kwargs: the other arguments of `keras.Model.compile`; `jit_compile` is False by default.
        """
        if optimizer == "auto":
            optimizer = AdamW(learning_rate=WarmupLinearDecay(learning_rate))
        optimizer = with_loss_scale(optimizer, self.student.encoder)
        super().compile(optimizer=optimizer, jit_compile=kwargs.pop("jit_compile", False), **kwargs)

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_data: Any = None,
        shuffle: bool = True,
        cache: str | pathlib.Path | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains the student.

        Args:
          x: texts, as the student's own `fit` takes them.
          y: a label for each text, or None for texts without labels. A classifier and a token classifier also take a list that
            has None for some texts. None in a question answerer's list means that the text has no answer.
          batch_size: texts of a batch.
          epochs: how often each text is seen.
          verbose: 1 for Keras's progress bar, 2 for a line each epoch, 0 for silence.
          callbacks: Keras's callbacks, one or a list.
          validation_data: `(texts, labels)`. After each epoch the student's `evaluate` on them is reported, as `val_...`.
          shuffle: whether the texts come in another order in each epoch.
          cache: a folder for the teacher's outputs and layers that the losses compare. With it the teacher computes them once,
            and neither in each epoch nor in the next run on the same texts. The folder is read as it is needed, for layers take
            kilobytes a token. A masked LM's hidden tokens are then the same in each epoch. Without a folder, the outputs of
            other tasks are computed once and kept in memory if the losses compare nothing else.
          **kwargs: the other arguments of `keras.Model.fit`.

        Returns:
          Keras's `History`.

        Raises:
          ValueError: texts and labels do not fit, the student was made for several replicas or has weights in half precision,
            or the cache was made for other texts, other losses or another teacher.
          OSError: the disk has too little room for the cache.
        """
        check_trainable_precision(self.student.encoder)
        torn = "the losses of a Distiller are means over the tokens of a batch, which replicas would count otherwise"
        check_replicas(self, self.student, torn)
        if not getattr(self, "compiled", False):
            self.compile()
        data = self._data(x, y, batch_size, shuffle, cache)
        steps = int(data.cardinality()) * epochs
        first_step = int(self.optimizer.iterations)
        self._last_step.assign(float(first_step + steps))
        start_schedule(self.optimizer, steps, first_step)
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        callbacks = as_list(callbacks)
        if validation_data is not None:
            callbacks = [StudentScores(*validation_data), *callbacks]
        self.student.new_weights.clear()
        return super().fit(data, epochs=epochs, verbose=verbose, callbacks=callbacks, shuffle=False, **kwargs)

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


def used_weights(weights: dict[str, Weight]) -> dict[str, Weight]:
    """Returns the weights without those that are 0.

    Raises:
      ValueError: a weight is negative, or all are 0.
    """
    used = {name: weight for name, weight in weights.items() if callable(weight) or weight}
    if not used or any(not callable(weight) and not weight > 0 for weight in used.values()):
        raise ValueError(f"weights of the losses should be positive numbers or functions, and one of them at least; got {used}")
    return used


def layer_pairs(
    layer_map: str | Sequence[int], layers: Iterable[int] | None, student: Task, teacher: Task
) -> list[tuple[int, int]]:
    """Returns `(the student's layer, the teacher's layer)` of the layers that are compared, counted from 0.

    Args:
      layer_map: see `kbert.tasks.smaller.layer_map`.
      layers: numbers of the student's layers, or None for all.
      student: the task to train.
      teacher: a trained task.

    Raises:
      ValueError: a layer that the student or the teacher does not have.
    """
    counts = student.encoder.config.num_hidden_layers, teacher.encoder.config.num_hidden_layers
    mapped = smaller.layer_map(layer_map, *counts)
    chosen = range(len(mapped)) if layers is None else list(layers)
    for layer in chosen:
        if not 0 <= layer < len(mapped):
            raise ValueError(f"layers names the student's layer {layer}, but it has {len(mapped)}")
    return [(layer, mapped[layer]) for layer in chosen]


def mean(values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the mean of tensors of one shape."""
    return tf.add_n(values) / len(values)
