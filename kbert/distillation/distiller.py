"""Training a student to do as its teacher does."""

import keras
import numpy as np
import tensorflow as tf

from kbert.distillation import losses
from kbert.distillation.teacher_cache import Answers, fingerprint
from kbert.encoders.layers import Projection
from kbert.tasks.fitting import as_list
from kbert.tasks.masked_lm import MaskedLM
from kbert.tasks.question_answerer import QuestionAnswerer
from kbert.tasks.smaller import layer_map as layer_places
from kbert.tasks.text_classifier import MULTI, REGRESSION
from kbert.tasks.text_embedder import TextEmbedder
from kbert.tasks.token_classifier import TokenClassifier
from kbert.text.texts import text_list
from kbert.training.batches import batches
from kbert.training.losses import NO_LABEL
from kbert.training.optimizer import AdamW, WarmupLinearDecay, start_schedule

ATTENTION = {"kl": losses.attention_divergence, "mse": losses.attention_difference, "scores": losses.attention_difference}
HIDDEN = {"mse": losses.squared_difference, "cosine": losses.cosine_distance}


class Distiller(keras.Model):
    """Trains a student on what its teacher says of texts, with labels or without.

    >>> student = teacher.make_student(num_hidden_layers=3)  # doctest: +SKIP
    >>> kbert.Distiller(teacher, student).fit(texts, labels, epochs=3)  # doctest: +SKIP
    >>> student.classify(["I could not be happier"])  # doctest: +SKIP

    Args:
      teacher: a trained task; it stays as it is.
      student: a task of the same class, with the same vocabulary and labels; `teacher.make_student()` makes one.
      temperature: softens the answers of both, above 1.
      soft: the weight of the teacher's answers (`losses.soft_targets`); of an embedder the squared distance of vectors.
      hard: the weight of the labels, for texts that have them. An embedder has none.
      hidden, hidden_loss: the weight of the layers' vectors, and `"mse"` or `"cosine"`.
      embedding: the weight of the embeddings' vectors, by the same loss.
      attention, attention_loss: the weight of attention; `"kl"` or `"mse"` of the probabilities, or `"scores"`, the MSE before the softmax.
      relation: the weight of the last layers' value relation (MiniLM).
      layer_map: which of the teacher's layers each of the student's is held to, see `kbert.tasks.smaller.layer_map`.
      layers: of `hidden` and `attention` only these of the student's layers; by default all.
      project: learn a projection where the student's vectors are narrower; with `False` that is an error.

    Each weight is a number, or a function of how much of the training is done, from 0 to 1, that gives one. After `fit` the student is trained;
    save and export it, not this.
    """

    def __init__(
        self, teacher, student, *, temperature=2.0, soft=1.0, hard=1.0, hidden=0.0, hidden_loss="mse", embedding=0.0, attention=0.0,
        attention_loss="kl", relation=0.0, layer_map="uniform", layers=None, project=True, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        check_pair(teacher, student)
        if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not temperature > 0:
            raise ValueError(f"temperature should be a number above 0, got {temperature!r}")
        for name, value, known in (("hidden_loss", hidden_loss, HIDDEN), ("attention_loss", attention_loss, ATTENTION)):
            if value not in known:
                raise ValueError(f"{name} should be one of {', '.join(known)}, got {value!r}")
        weights = {
            "soft": soft,
            "hard": hard,
            "hidden": hidden,
            "embedding": embedding,
            "attention": attention,
            "relation": relation,
        }
        weights = {name: weight for name, weight in weights.items() if callable(weight) or weight}
        if isinstance(student, TextEmbedder):
            weights.pop("hard", None)
        if not weights or any(not callable(weight) and not weight > 0 for weight in weights.values()):
            raise ValueError(
                f"weights of the losses should be positive numbers or functions, and one of them at least; got {weights}"
            )
        self.__dict__["teacher"] = teacher  # not through Keras, which would train and save it
        self.student, self.loss_weights, self.temperature = student, weights, float(temperature)
        self.hidden_loss, self.attention_loss = HIDDEN[hidden_loss], ATTENTION[attention_loss]
        self._attention_of = "attention_scores" if attention_loss == "scores" else "attentions"
        ours, theirs = student.encoder.config, teacher.encoder.config
        mapped = layer_places(layer_map, ours.num_hidden_layers, theirs.num_hidden_layers)
        chosen = range(len(mapped)) if layers is None else list(layers)
        wrong = [layer for layer in chosen if not 0 <= layer < len(mapped)]
        if wrong:
            raise ValueError(f"layers names the student's layer {wrong[0]}, but it has {len(mapped)}")
        self.layer_pairs = [(layer, mapped[layer]) for layer in chosen]
        if {"attention", "relation"} & set(weights) and ours.num_attention_heads != theirs.num_attention_heads:
            raise ValueError(
                f"attention is compared head by head: the student has {ours.num_attention_heads} heads, the teacher {theirs.num_attention_heads}"
            )
        self.inside = self._seen_inside()
        self.projections = []
        if {"hidden", "embedding"} & set(weights) and ours.hidden_size != theirs.hidden_size:
            if not project:
                raise ValueError(
                    f"the student's vectors have {ours.hidden_size} coordinates, the teacher's {theirs.hidden_size}: they can be compared "
                    "with project=True only"
                )
            self.projections = [Projection(theirs.hidden_size, name="projection")]  # one for all layers, as TinyBERT's code
            self.projections[0].build((None, ours.hidden_size))
        self.parts = {name: keras.metrics.Mean(name=f"{name}_loss") for name in weights}
        self._total = tf.Variable(1.0, trainable=False)
        self.built = True

    def _seen_inside(self):
        """What the losses see inside the networks: `(name, the student's layer, the teacher's)`."""
        found = {
            "embedding": [("hidden_states", 0, 0)],
            "hidden": [("hidden_states", ours + 1, theirs + 1) for ours, theirs in self.layer_pairs],
            "attention": [(self._attention_of, ours, theirs) for ours, theirs in self.layer_pairs],
            "relation": [("attention_values", -1, -1)],
        }
        return [one for loss, some in found.items() if loss in self.loss_weights for one in some]

    # Losses

    def call(self, inputs, training=None):
        """The student's outputs, and what the losses see inside it, as a flat dictionary."""
        return seen(self.student, inputs, training, [(name, layer) for name, layer, _ in self.inside])

    def _teacher_seen(self, inputs):
        """The same of the teacher, without what no loss asks for."""
        found = seen(self.teacher, inputs, False, [(name, layer) for name, _, layer in self.inside])
        return {name: value for name, value in found.items() if "soft" in self.loss_weights or not name.startswith("outputs")}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        ours, theirs = y_pred, y["teacher"] if "teacher" in y else self._teacher_seen(x)
        theirs = {name: tf.stop_gradient(value) for name, value in theirs.items()}
        mask = tf.cast(x["padding_mask"], tf.float32)
        outputs, parts = outputs_in(ours), {}
        if "soft" in self.loss_weights:
            parts["soft"] = self._soft(outputs_in(theirs), outputs, y, mask)
        if "hard" in self.loss_weights:
            parts["hard"] = self._hard(y, outputs)
        pairs = self.layer_pairs

        def compared(loss, name, ours_at, theirs_at):
            return loss(theirs[f"{name}/{theirs_at}"], ours[f"{name}/{ours_at}"], mask)

        def vectors(theirs, ours, mask):
            return self.hidden_loss(theirs, self._wide(ours), mask)

        if "hidden" in self.loss_weights:
            parts["hidden"] = mean(compared(vectors, "hidden_states", a + 1, b + 1) for a, b in pairs)
        if "embedding" in self.loss_weights:
            parts["embedding"] = compared(vectors, "hidden_states", 0, 0)
        if "attention" in self.loss_weights:
            parts["attention"] = mean(compared(self.attention_loss, self._attention_of, a, b) for a, b in pairs)
        if "relation" in self.loss_weights:
            parts["relation"] = compared(losses.value_relation, "attention_values", -1, -1)
        done = tf.cast(self.optimizer.iterations, tf.float32) / self._total
        total = 0.0
        for name, value in parts.items():
            weight = self.loss_weights[name]
            self.parts[name].update_state(value)
            total += tf.cast(weight(done) if callable(weight) else weight, tf.float32) * value
        return total

    def _wide(self, vectors):
        """The student's vectors in the teacher's width."""
        if not self.projections:
            return vectors
        shape = tf.shape(vectors)
        rows = self.projections[0](tf.reshape(vectors, [-1, vectors.shape[-1]]))
        return tf.reshape(rows, [shape[0], shape[1], rows.shape[-1]])

    def _soft(self, teacher, student, y, mask):
        task, temperature = self.student, self.temperature
        if isinstance(task, TextEmbedder):
            return tf.reduce_mean(tf.reduce_sum(tf.square(teacher - student), -1))
        if isinstance(task, QuestionAnswerer):
            hidden = (1 - mask) * -30000.0
            return mean(losses.soft_targets(teacher[name] + hidden, student[name] + hidden, temperature) for name in student)
        if isinstance(task, MaskedLM):
            return losses.soft_targets(teacher, student, temperature, tf.not_equal(y["targets"], NO_LABEL))
        if isinstance(task, TokenClassifier):
            return losses.soft_targets(teacher, student, temperature, mask)
        if task.problem_type == REGRESSION:
            return losses.squared_difference(teacher, student)
        return (losses.soft_labels if task.problem_type == MULTI else losses.soft_targets)(teacher, student, temperature)

    def _hard(self, y, outputs):
        targets, task = y["targets"], self.student
        labelled = tf.cast(y["labelled"], tf.float32)
        # Keras's mean is over all rows; this one is over those that have a label.
        share = tf.cast(tf.size(labelled), tf.float32) / tf.maximum(tf.reduce_sum(labelled), 1.0)
        loss = task.default_loss()
        if isinstance(loss, dict):
            return share * mean(
                loss[name](targets[:, place], outputs[name], labelled)
                for place, name in enumerate(("start_logits", "end_logits"))
            )
        if isinstance(task, (TokenClassifier, MaskedLM)):
            return loss(targets, outputs)  # what has no label is -100
        return share * loss(targets, outputs, labelled)

    # Training

    def compile(self, optimizer="auto", learning_rate=5e-5, **kwargs):
        """As of a task: AdamW with warm-up and linear decay by default. The losses are the constructor's."""
        if optimizer == "auto":
            optimizer = AdamW(learning_rate=WarmupLinearDecay(learning_rate))
        super().compile(optimizer=optimizer, jit_compile=kwargs.pop("jit_compile", False), **kwargs)

    def fit(
        self,
        x,
        y=None,
        batch_size=32,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_data=None,
        shuffle=True,
        cache=None,
        **kwargs,
    ):
        """Trains the student.

        Args:
          x: texts, as the student's own `fit` takes them.
          y: their labels; `None` for texts without, or, of a classifier or a token classifier, a list with `None` in it for some.
          validation_data: `(texts, labels)`: after each epoch the student's `evaluate` on them is reported, as `val_...`.
          cache: a folder for what the losses see of the teacher, so that it computes once and not in each epoch, nor in the next run on the
            same texts. It is read as it is needed: layers take kilobytes a token. A masked LM's masks are then the same in each epoch.
            Where a student learns from answers alone, they are computed once, and kept in memory, without a cache too.
          **kwargs: the other arguments of `keras.Model.fit`.

        Returns:
          Keras's `History`.

        Raises:
          ValueError: texts and labels that do not fit; a cache that was made for other texts or losses, or of another teacher.
          OSError: a cache that the disk has no room for.
        """
        if not getattr(self, "compiled", False):
            self.compile()
        if not count_of(x):
            raise ValueError("there are no texts: at least one is needed")
        data = self._data(x, y, batch_size, shuffle, cache)
        steps = int(data.cardinality()) * epochs
        first_step = int(self.optimizer.iterations)
        self._total.assign(float(first_step + steps))
        start_schedule(self.optimizer, steps, first_step)
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        callbacks = as_list(callbacks)
        if validation_data is not None:
            callbacks = [StudentScores(*validation_data), *callbacks]
        self.student.new_weights.clear()
        return super().fit(data, epochs=epochs, verbose=verbose, callbacks=callbacks, shuffle=False, **kwargs)

    def _data(self, x, y, batch_size, shuffle, cache):
        """Batches of `(inputs, {"targets", "labelled"[, "teacher"]})`."""
        student = self.student
        student._is_raw(x)
        if cache is not None and self.inside and getattr(student, "window_stride", None) and student.pools:
            raise ValueError(
                "a cache of losses on layers is for texts in one window: build the classifiers without window_stride"
            )
        masked = isinstance(student, MaskedLM)
        if masked and y is not None:
            raise ValueError("a masked LM learns from the texts alone: fit(texts)")
        if masked and cache is None:
            data = student._masked(text_list(x, "x"), batch_size, shuffle)
            return data.map(lambda inputs, labels: (inputs, {"targets": labels, "labelled": tf.ones(tf.shape(labels)[0])}))
        columns, *extra = self._masked_once(x) if masked else self._examples(x, y)

        @tf.autograph.experimental.do_not_convert
        def at_masks(inputs, targets, labelled, positions):
            most = tf.reduce_max(tf.reduce_sum(tf.cast(tf.not_equal(targets, NO_LABEL), tf.int32), 1))
            return {**inputs, "mask_positions": positions[:, :most]}, targets[:, :most], labelled

        answers = None
        if self.inside and cache is not None or not self.inside and "soft" in self.loss_weights:
            answers = self._answers(columns, extra, at_masks if masked else None, cache)
            extra.append(np.arange(int(columns[0].nrows())))
        seed = int(np.random.randint(2**31))  # follows keras.utils.set_random_seed

        @tf.autograph.experimental.do_not_convert
        def named(inputs, *values):
            values, rows = (values[:-1], values[-1]) if answers else (values, None)
            inputs, targets, labelled = at_masks(inputs, *values) if masked else (inputs, *values)
            y = {"targets": targets, "labelled": labelled}
            return inputs, {**y, "teacher": answers.of(rows)} if answers else y

        data = batches(columns, extra, student._pack, batch_size, shuffle, seed)
        return data.map(named, num_parallel_calls=2, deterministic=True).prefetch(tf.data.AUTOTUNE)

    def _masked_once(self, x):
        """Ragged ids with some tokens hidden, always the same ones; and of each text the hidden tokens, that it counts, and their places."""
        masked = list(self.student._masked(text_list(x, "x"), 64, shuffle=False, seed=0))
        most = max(int(tf.shape(labels)[1]) for _, labels in masked)

        def wide(values, fill):
            return tf.concat([tf.pad(v, [[0, 0], [0, most - tf.shape(v)[1]]], constant_values=fill) for v in values], 0).numpy()

        ids = tf.concat(
            [
                tf.RaggedTensor.from_tensor(inputs["token_ids"], tf.reduce_sum(inputs["padding_mask"], 1))[:, 1:-1]
                for inputs, _ in masked
            ],
            0,
        )
        targets = wide([labels for _, labels in masked], NO_LABEL)
        places = wide([inputs["mask_positions"] for inputs, _ in masked], 0)
        return (tf.cast(ids.with_row_splits_dtype(tf.int64), tf.int32),), targets, np.ones(len(targets), np.float32), places

    def _examples(self, x, y):
        """Ragged ids, targets, and for each row whether they count."""
        student = self.student
        if isinstance(student, TextEmbedder):
            if y is not None:
                raise ValueError("an embedder's student learns from the texts alone: fit(texts)")
            ids = student._tokenize(text_list(x, "x"))
            rows = int(ids[0].nrows())
            return ids, np.zeros(rows, np.float32), np.zeros(rows, np.float32)
        count, wordwise = count_of(x), isinstance(student, TokenClassifier)
        if y is not None and len(y) != count:
            raise ValueError(f"each text needs one target, or None: got {count} texts and {len(y)} targets")
        given = [None] * count if y is None else list(y)
        if isinstance(student, QuestionAnswerer):
            examples = student._examples(x, given)
            return examples.columns, examples.targets, np.full(len(examples.targets), y is not None, np.float32)
        if wordwise:
            # The labels of a text without any are as many as its words, and do not count.
            from kbert.tasks.words import are_words

            known = student.labels[0]
            filled = [([known] * len(words) if are_words(x) else []) if tags is None else tags for words, tags in zip(x, given)]
            examples = student._examples(x, filled)
            labelled = np.array([tags is not None for tags in given])[examples.texts]
            lengths = examples.targets.row_lengths().numpy()
            values = np.where(np.repeat(labelled, lengths), examples.targets.values.numpy(), NO_LABEL).astype(np.int32)
            return examples.columns, examples.targets.with_values(tf.constant(values)), labelled.astype(np.float32)
        numbers = len(student.labels)
        blank = {MULTI: [], REGRESSION: 0.0 if numbers == 1 else [0.0] * numbers}.get(student.problem_type, student.labels[0])
        examples = student._examples(x, [blank if label is None else label for label in given])
        return examples.columns, examples.targets, np.array([label is not None for label in given], np.float32)

    def _answers(self, columns, extra, at_masks, cache):
        """What the losses see of the teacher for each row, from a cache or computed."""
        teacher, names = self.teacher, [f"{name}/{layer}" for name, _, layer in self.inside]
        names += ["outputs"] if "soft" in self.loss_weights else []

        def inputs_of(rows):
            inputs = self.student._pack(*(tf.gather(column, rows) for column in columns))
            return inputs if at_masks is None else at_masks(inputs, *(tf.gather(values, rows) for values in extra))[0]

        spec = [tf.TensorSpec([None], tf.int64)]
        compute = tf.function(lambda rows: self._teacher_seen(inputs_of(rows)), input_signature=spec, autograph=False)
        counted = tf.function(lambda rows: tokens_in(inputs_of(rows)), input_signature=spec, autograph=False)
        count = int(columns[0].nrows())
        lengths = np.concatenate([counted(np.arange(at, min(count, at + 1024))) for at in range(0, count, 1024)])
        masks = None if at_masks is None else (extra[0] != NO_LABEL).sum(1)
        mark = None if cache is None else fingerprint(columns, teacher, names)
        return Answers(compute, lengths, masks, cache, mark, positional=teacher.positional)


class StudentScores(keras.callbacks.Callback):
    """After each epoch the student's `evaluate`, each figure as `val_<name>`."""

    def __init__(self, x, y=None):
        super().__init__()
        self.x, self.y = x, y

    def on_epoch_end(self, epoch, logs=None):
        figures = self.model.student.evaluate(self.x, self.y, return_dict=True, verbose=0)
        logs.update({f"val_{name}": value for name, value in figures.items()})


def seen(task, inputs, training, inside):
    """A task's outputs, and of its layers what `inside` names, `(name, layer)`: a flat dictionary of float32 tensors."""
    if not inside:
        outputs, found = task(inputs, training=training), {}
    else:
        found = task.encoder(inputs, training=training, output_hidden_states=True, output_attentions=True)
        outputs = task.head_outputs(found, inputs, training)
    outputs = (
        {f"outputs/{name}": value for name, value in outputs.items()} if isinstance(outputs, dict) else {"outputs": outputs}
    )
    return {**outputs, **{f"{name}/{layer}": tf.cast(found[name][layer], tf.float32) for name, layer in inside}}


def outputs_in(found):
    """A task's outputs out of `seen`, as the task gives them."""
    if "outputs" in found:
        return found["outputs"]
    return {name.removeprefix("outputs/"): value for name, value in found.items() if name.startswith("outputs/")}


def tokens_in(inputs):
    """How many tokens each text of packed inputs has; a document in windows, all of them."""
    lengths = tf.reduce_sum(inputs["padding_mask"], 1)
    return tf.math.segment_sum(lengths, inputs["document"]) if "document" in inputs else lengths


def mean(values):
    values = list(values)
    return tf.add_n(values) / len(values)


def count_of(x):
    return len(x[0] if isinstance(x, tuple) else x)


def check_pair(teacher, student):
    """Says what keeps a student from learning of a teacher."""
    if type(teacher) is not type(student):
        raise TypeError(
            f"teacher and student should do the same: got a {type(teacher).__name__} and a {type(student).__name__}"
        )
    if teacher is student:
        raise ValueError("teacher and student are the same object: teacher.make_student() makes a student")
    if teacher.preprocessor is None or student.preprocessor is None:
        raise ValueError("teacher and student both read texts: build them with a TextPreprocessor")
    ours, theirs = ({**task.tokenizer.get_config(), "name": None} for task in (student, teacher))
    if ours["vocabulary"] != theirs["vocabulary"]:
        raise ValueError(
            f"teacher and student have different vocabularies ({len(theirs['vocabulary'])} and {len(ours['vocabulary'])} tokens): the student "
            "needs the teacher's; trim_vocabulary() comes after distilling"
        )
    for name in ("lowercase", "strip_accents", "tokenize_chinese_chars"):
        if ours[name] != theirs[name]:
            raise ValueError(f"teacher and student read text differently: {name} is {theirs[name]} and {ours[name]}")
    labels = [getattr(task, "labels", None) for task in (teacher, student)]
    if labels[0] != labels[1]:
        raise ValueError(f"teacher and student have different labels: {labels[0]} and {labels[1]}")
    kinds = [getattr(task, "problem_type", None) for task in (teacher, student)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"teacher and student have different problem types: {kinds[0]} and {kinds[1]}")
    if student.preprocessor.max_length > teacher.encoder.config.max_position_embeddings:
        raise ValueError(
            f"the student reads {student.preprocessor.max_length} positions, the teacher has {teacher.encoder.config.max_position_embeddings}"
        )
    if isinstance(teacher, TextEmbedder) and teacher.width != student.width:
        raise ValueError(
            f"the teacher's vectors have {teacher.width} coordinates, the student's {student.width}: give it a dense layer"
        )
