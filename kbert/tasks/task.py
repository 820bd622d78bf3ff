"""What all tasks share: strings in, `compile` with the field's defaults, `fit`, `evaluate`, `predict`, save, export."""

from __future__ import annotations

import contextlib
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.files.atomic import check_target, written_aside
from kbert.tasks.exported_answers import ComparableAnswer, MediaPipeOutput, OnnxAnswer
from kbert.tasks.one_window import fixed_shape
from kbert.tasks.prediction import Progress, in_order, joined, text_chunks
from kbert.tasks.probes import PROBES
from kbert.text.packing import TextPreprocessor
from kbert.text.texts import text_list
from kbert.training.batches import Phase, sorted_batches, spans
from kbert.training.distribute import DistributedModel
from kbert.training.examples import Examples, check_weights, held_out_rows
from kbert.training.optimizer import AdamW, Lamb, WarmupLinearDecay, start_schedule
from kbert.training.resume import EpochNumbers, TrainingState

LENGTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384)  # of rows under XLA, and the most that there can be
TOKENS_PER_PREDICTION = 4096  # positions of one step of predict: enough for the cores, small for the memory


class Task(DistributedModel, keras.Model):
    """An encoder with a head, and what reads its text. Use one of its subclasses.

    A subclass says what is special to it: `head` (what transformers calls it, by which its weights are named), `head_outputs`, `default_loss`,
    `default_metrics`, `encode_targets`, and how logits become an answer.

    Args:
      encoder: a `BertEncoder`.
      preprocessor: a `TextPreprocessor`, or `None` for a task that takes packed dictionaries in place of strings.
    """

    pools = True  # whether the head reads the pooler
    positional = False  # whether the outputs have an axis for positions
    on_real_tokens = True  # whether the head is indifferent to what stands at padding

    def __init__(self, encoder, preprocessor, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        if not self.on_real_tokens:
            encoder.real_tokens = False
        self.preprocessor = preprocessor
        self._said_truncated = False
        self.__dict__["_epochs"] = []  # variables that count the looks at the data of the last fit
        self.__dict__["new_weights"] = []  # what a checkpoint did not hold, until fit() trains it
        if preprocessor is not None:
            if preprocessor.ragged:
                raise ValueError("a task computes on padded batches: build its TextPreprocessor without ragged=True")
            positions, size = encoder.config.max_position_embeddings, encoder.config.vocab_size
            if preprocessor.max_length > positions:
                raise ValueError(f"max_length {preprocessor.max_length} is more than the encoder's {positions} positions")
            if preprocessor.tokenizer.vocabulary_size > size:
                raise ValueError(
                    f"the tokenizer has {preprocessor.tokenizer.vocabulary_size} tokens, the encoder embeds {size}"
                )

    def encoder_options(self, inputs):
        """What the head needs of the encoder beside its vectors, or can do without."""
        return {}

    def call(self, inputs, training=None):
        return self.head_outputs(self.encoder(inputs, training=training, **self.encoder_options(inputs)), inputs, training)

    def head_outputs(self, outputs, inputs, training=None):
        """The encoder's outputs to the task's: what is special to a task is its head."""
        raise NotImplementedError

    @property
    def supports_jit(self):
        return self.encoder.supports_jit

    @supports_jit.setter
    def supports_jit(self, value):
        """Keras sets this on every layer; here the encoder decides."""

    @property
    def tokenizer(self):
        """The tokenizer, or None for a task without a preprocessor."""
        return None if self.preprocessor is None else self.preprocessor.tokenizer

    # Export: what exported files are made of and compared with. Each default is for the task that does not say otherwise.

    @property
    def reads_one_window(self) -> bool:
        """Whether the task cuts a text that is longer than `max_length`, so that one window gives its whole answer."""
        return False

    def string_inputs(self, pairs: bool = False) -> tuple[str, ...]:
        """Returns the names of an exported graph's string inputs.

        Args:
          pairs: whether the graph takes pairs of texts.

        Raises:
          ValueError: the task has no answer to pairs.
        """
        if pairs:
            raise ValueError("pairs=True is for a TextClassifier without windows")
        return self.text_inputs

    def text_columns(self, texts: Any) -> list[list[bytes]]:
        """Returns texts, or a tuple of two columns, as columns of UTF-8; raises an error that names what is no text."""
        columns = [text_list(column, "texts") for column in (texts if isinstance(texts, tuple) else (texts,))]
        self._check_pairs(columns)
        return columns

    def probes(self, pairs: bool = False) -> tuple[list[str], ...]:
        """Returns the columns of texts on which an exported file is compared with the task: those that are hard for it."""
        return (PROBES, PROBES[::-1]) if pairs else (PROBES,)

    def fitting(self, columns: tuple[Sequence[str], ...], max_length: int | None = None) -> tuple[Sequence[str], ...]:
        """Returns the texts whose whole answer a file gives that reads one window.

        Args:
          columns: texts, or pairs as two columns.
          max_length: the positions of the file's window; the task's own by default.
        """
        length = max_length or self.preprocessor.max_length
        if self.reads_one_window and length == self.preprocessor.max_length:
            return columns  # the task cuts a long text at the same place
        pieces = sum(self.tokenizer(column).row_lengths().numpy() for column in columns)
        fits = np.flatnonzero(pieces + 1 + len(columns) <= length)
        return tuple([column[int(place)] for place in fits] for column in columns)

    def expected_answers(self, columns: tuple[Sequence[str], ...]) -> list[ComparableAnswer]:
        """Returns the task's own answers to columns of texts, in the form in which a file's answers are compared with them."""
        raise NotImplementedError(f"a {type(self).__name__} has no answer to a text")

    def served_answers(self, outputs: Mapping[str, np.ndarray]) -> list[ComparableAnswer]:
        """Returns the outputs of an exported graph that takes texts, in the form of `expected_answers`."""
        raise NotImplementedError(f"a {type(self).__name__} has no answer to a text")

    def serving_apis(self) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
        """Returns the further signatures of a SavedModel: graph functions of the string inputs, by name.

        TF Serving's Classify API asks for `classify` with the outputs `classes` and `scores`, its Regress API for `regress` with
        the output `outputs`.
        """
        return {}

    def window_answer(self, preprocessor: TextPreprocessor) -> Callable[..., dict[str, tf.Tensor]]:
        """Returns a function of strings `[1]` that answers from one window, in ops that LiteRT has.

        Args:
          preprocessor: the preprocessor that makes the window, with a fixed length.

        Raises:
          NotImplementedError: the task has no answer to a text; ValueError: its answer needs more than one window.
        """
        if not self.reads_one_window:
            raise NotImplementedError(f'a {type(self).__name__} has no answer to a text; inputs="tokens" gives its outputs')
        return lambda *texts: self.serve_tokens(fixed_shape(preprocessor, preprocessor.call(texts)))

    def check_static_ranges(self) -> None:
        """Raises a ValueError if the task's products cannot have ranges that are found before it runs."""

    onnx_output = "logits"  # the name of the one output of an ONNX file that takes ids

    def onnx_answer(self) -> OnnxAnswer | None:
        """Returns how an ONNX file that takes text turns logits into an answer; None if its outputs are the answer.

        Raises:
          ValueError: the task does not read a text in one window.
        """
        if not self.reads_one_window:
            raise ValueError(
                'inputs="text" is for a TextClassifier or a TextEmbedder that reads one window, not for this '
                f'{type(self).__name__}; inputs="tokens" gives its outputs'
            )
        return None

    def mediapipe_output(self) -> MediaPipeOutput:
        """Returns what MediaPipe's metadata say about the task; raises a ValueError if MediaPipe has no such task."""
        raise ValueError(f"MediaPipe has tasks for a TextClassifier and a TextEmbedder, not for a {type(self).__name__}")

    # Training

    def compile(
        self, optimizer="auto", loss="auto", *, metrics="auto", learning_rate=5e-5, gradient_accumulation_steps=None,
        jit_compile=False, **kwargs,
    ):  # fmt: skip
        """Prepares for training, with BERT's recipe as the default.

        Args:
          optimizer: by default AdamW (weight decay 0.01, none on biases and layer norms; gradients clipped to a global norm of
            1) whose rate rises over the first tenth of the steps and then falls linearly to 0. `"lamb"` is LAMB with the same, for
            large batches.
          loss, metrics: by default the task's own.
          learning_rate: the peak of the default optimizer's rate.
          gradient_accumulation_steps: of the default optimizer: batches whose mean gradient makes one step.
          jit_compile: compile the steps with XLA; the encoder then computes on padded shapes, of a few lengths.
          **kwargs: the other arguments of `keras.Model.compile`.
        """
        jit_compile = jit_compile is True  # "auto" too: on real tokens only, XLA has nothing to add
        if optimizer in ("auto", "lamb"):
            optimizer = (AdamW if optimizer == "auto" else Lamb)(
                learning_rate=WarmupLinearDecay(learning_rate), gradient_accumulation_steps=gradient_accumulation_steps
            )
        elif gradient_accumulation_steps is not None:
            raise ValueError("give gradient_accumulation_steps to your optimizer: it is an argument of Keras's optimizers")
        self.encoder.real_tokens = self.on_real_tokens and not jit_compile
        if loss == "auto" and kwargs.get("loss_weights") is None:
            kwargs["loss_weights"] = self.default_loss_weights()
        super().compile(
            optimizer=optimizer,
            loss=self.default_loss() if loss == "auto" else loss,
            metrics=self.default_metrics() if metrics == "auto" else metrics,
            jit_compile=jit_compile,
            **kwargs,
        )

    def default_loss_weights(self):
        """What each output's loss counts; None for a task with one output, or for equal parts."""

    def compile_from_config(self, config):
        """Compiles as the saved task was. (Keras leaves a model with its own `compile` uncompiled.)"""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self._build_optimizer()

    def _build_optimizer(self):
        """Makes the optimizer's variables now: made inside the first step, they cost a second trace of it."""
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def fit(
        self, x=None, y=None, batch_size=32, epochs=1, verbose="auto", callbacks=None, validation_split=0.0,
        validation_data=None, shuffle=True, class_weight=None, sample_weight=None, initial_epoch=0, steps_per_epoch=None,
        max_tokens=None, resume=None, resume_every=300, total_steps=None, **kwargs,
    ):  # fmt: skip
        """Trains on texts and their targets.

        >>> task.fit(["good", "bad"], ["joy", "sadness"], epochs=3, validation_split=0.1)  # doctest: +SKIP

        Args:
          x: a list, array or pandas column of strings (a tuple of two for pairs); a `tf.data.Dataset` of `(text, target)`,
            batched or not; or packed dictionaries.
          y: the targets, as many as texts.
          validation_split: the share at the end of the data to hold out, as in Keras.
          validation_data: `(texts, targets)`, with weights as an optional third, or a dataset.
          class_weight: a dictionary from a label (or its index) to the weight of its examples.
          sample_weight: a weight for each text.
          shuffle: see the texts in a new order each epoch, in batches of similar length.
          max_tokens: the most pieces of a batch of texts in memory, in place of `batch_size`: short texts then come in larger batches.
          resume: a folder in which the state of the training is kept. The same call in a new process, after a crash or a kill, goes on from
            there and ends with the weights of an undisturbed run; with the same seed set before, bit for bit on one device. It is emptied
            when the training has ended.
          resume_every: seconds after which the state is kept within an epoch; after each epoch it is in any case.
          total_steps: batches of the whole training, for the default learning-rate schedule, where the data do not say how many there are.
          **kwargs: the other arguments of `keras.Model.fit`; `batch_size`, `epochs`, `callbacks`, ... are Keras's too.

        Returns:
          Keras's `History`.

        Raises:
          TypeError, ValueError: texts that are not strings, targets that do not fit, before any step is run.
        """
        if not getattr(self, "compiled", False):
            self.compile()
        if not 0 <= validation_split < 1:
            raise ValueError(f"validation_split should be a share in [0, 1), got {validation_split}")
        for name, value in (("batch_size", batch_size), ("max_tokens", 1 if max_tokens is None else max_tokens)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} should be a positive whole number, got {value!r}")
        if validation_split and validation_data is not None:
            raise ValueError("give validation_split or validation_data, not both")
        held_out = validation_data if isinstance(validation_data, (tuple, list)) else None
        if self._is_raw(x):
            examples = self._examples(x, y, sample_weight, class_weight)
            class_weight = None  # in the examples' weights
            if validation_split:
                examples, validation_data = examples.split(validation_split)
                columns = [held_out_rows(column, validation_split) for column in (x if isinstance(x, tuple) else (x,))]
                held_out = tuple(columns) if isinstance(x, tuple) else columns[0], held_out_rows(y, validation_split)
            self.check_training(examples)
            self._epochs.clear()
            data = examples.batches(self._pack, batch_size, shuffle, max_tokens, self._epochs)
        elif max_tokens is not None:
            raise ValueError("max_tokens makes batches of texts in memory; batch a dataset yourself")
        else:
            data = self._dataset(x, batch_size) if isinstance(x, tf.data.Dataset) else x
            if class_weight is not None:
                class_weight = dict(enumerate(self.encode_class_weight(class_weight).tolist()))
        validation_data = self._validation(validation_data, batch_size)
        if held_out is not None and type(self).scores is not Task.scores and self._is_raw(held_out[0]):
            callbacks = [ValidationScores(*held_out[:2]), *as_list(callbacks)]

        phase = Phase(data, epochs)
        if isinstance(data, tf.data.Dataset):
            steps = phase.steps
        else:
            kwargs.update(y=y, batch_size=batch_size, shuffle=shuffle, sample_weight=sample_weight)
            kwargs.update(validation_split=validation_split)
            steps = None if y is None else -(-len(y) // batch_size) * epochs
        if steps_per_epoch is not None:
            steps = steps_per_epoch * epochs
        if total_steps is None and steps is not None:
            total_steps = steps * (epochs - initial_epoch) // epochs
        return self._fit_phases(
            [phase], total_steps, initial_epoch, callbacks, resume, resume_every, validation_data=validation_data, verbose=verbose,
            class_weight=class_weight, steps_per_epoch=steps_per_epoch, **kwargs,
        )  # fmt: skip

    def _fit_phases(self, phases, total_steps, initial_epoch=0, callbacks=None, resume=None, resume_every=300, **kwargs):
        """Keras's `fit`, on each of some `Phase`s, as one training: one schedule, one state to resume, one history.

        Args:
          total_steps: batches from the initial epoch on, or None.
          initial_epoch, callbacks, resume, resume_every: as of `fit`.
          **kwargs: the other arguments of `keras.Model.fit`.
        """
        if isinstance(phases[0].data, tf.data.Dataset):
            kwargs["shuffle"] = False  # done by then
        self.new_weights.clear()
        self._build_optimizer()
        first_step, done, state = int(self.optimizer._iterations.numpy()), (initial_epoch, 0), None
        callbacks = [EpochNumbers(self._epochs), *as_list(callbacks)]
        history = keras.callbacks.History()
        history.set_model(self)
        history.on_train_begin()
        if resume is not None:
            if initial_epoch or not total_steps or not isinstance(phases[0].data, tf.data.Dataset):
                raise ValueError("resume is for a fit from the first epoch, on texts in memory or a dataset of known length")
            state = TrainingState(resume, total_steps, sum(epochs for _, epochs in phases), resume_every)
            done = state.restore(self)
            first_step = state.first_step
            callbacks.append(state)
            for epoch, logs in enumerate(state.logs):
                history.on_epoch_end(epoch, logs)
        start_schedule(self.optimizer, total_steps, first_step)
        for data, first, beyond in spans(phases, *done):
            part = super().fit(data, initial_epoch=first, epochs=beyond, callbacks=callbacks, **kwargs)
            for number, epoch in enumerate(part.epoch):
                history.on_epoch_end(
                    epoch, {name: values[number] for name, values in part.history.items() if number < len(values)}
                )
            if self.stop_training:
                break
        if state is not None:
            state.finish()
        self.history = history
        return history

    def evaluate(self, x=None, y=None, batch_size=32, verbose="auto", sample_weight=None, return_dict=False, **kwargs):
        """Loss, metrics and the task's `scores` on texts and their targets; arguments as for `fit` and `keras.Model.evaluate`."""
        if not getattr(self, "compiled", False):
            self.compile()
        columns = None
        if self._is_raw(x):
            columns, examples = (x, y), self._examples(x, y, sample_weight)
            x, y, sample_weight = examples.batches(self._pack, batch_size, shuffle=False), None, None
        elif isinstance(x, tf.data.Dataset) and not kwargs.get("_use_cached_eval_dataset"):
            x = self._dataset(x, batch_size)
        if not isinstance(x, tf.data.Dataset):
            kwargs.update(y=y, batch_size=batch_size, sample_weight=sample_weight)
        logs = super().evaluate(x, verbose=verbose, return_dict=True, **kwargs)
        if columns is not None:
            logs.update(self.scores(*columns, verbose=verbose))
        return logs if return_dict else list(logs.values()) if len(logs) > 1 else logs["loss"]

    def scores(self, x, y, verbose="auto"):
        """What the field counts and no mean over batches can be: a dictionary of numbers for texts and their targets, all at once.

        `evaluate` gives them beside the loss and the metrics, `fit` after each epoch for the validation data.
        """
        return {}

    def check_training(self, examples):
        """Says what is odd about the examples of a `fit`."""

    def _is_raw(self, x):
        """Whether the input is texts in memory, to be read by the preprocessor."""
        if isinstance(x, (dict, tf.data.Dataset, type(None))):
            return False
        if self.preprocessor is None:
            raise TypeError(
                "this task was built with preprocessor=None, so that it takes packed dictionaries (token_ids, segment_ids, "
                f"padding_mask), got {type(x).__name__}; build it with a TextPreprocessor to give it texts"
            )
        return True

    def _tokenize(self, texts, name="x", cut=True):
        """Columns of texts to a tuple of ragged ids, cut to what fits; says once if something does not."""
        columns = texts if isinstance(texts, tuple) else (texts,)
        checked = [text_list(column, name) for column in columns]
        self._check_pairs(checked)
        ids = [self.tokenizer(column) for column in checked]
        room = self._say_truncated(sum(np.diff(column.row_splits.numpy()) for column in ids), len(columns))
        # What is beyond the room of one text can never be packed, and need not be kept; a pair is cut by its preprocessor.
        return tuple(column[:, :room] if len(columns) == 1 and cut else column for column in ids)

    def _pack(self, *columns):
        """Ragged ids of a batch's columns to the encoder's input."""
        return self._rounded(self.preprocessor.pack(*columns))

    def _rounded(self, packed, most=None):
        """XLA compiles anew for each length: then only some lengths are used, `most` at most, and rows are padded to them."""
        if not self.jit_compile or not getattr(self, "compiled", False):
            return packed
        length = tf.shape(packed["token_ids"])[1]
        most = most or self.preprocessor.max_length
        more = tf.reduce_min([tf.where(n >= length, n, most) for n in LENGTHS if n < most] + [most]) - length
        pad = self.tokenizer.pad_token_id
        return {
            name: tf.pad(ids, [[0, 0], [0, more]], constant_values=pad if name == "token_ids" else 0)
            for name, ids in packed.items()
        }

    def _check_pairs(self, columns):
        if len({len(column) for column in columns}) > 1:
            raise ValueError(f"both texts of a pair are needed: got columns of {' and '.join(str(len(c)) for c in columns)}")

    def _say_truncated(self, lengths, columns):
        """Says once if texts of these numbers of pieces are cut; returns the pieces that have room."""
        room = self.preprocessor.max_length - 1 - columns
        longest = lengths.max(initial=0)
        if longest > room and not self._said_truncated:
            self._said_truncated = True
            warnings.warn(
                f"{(lengths > room).sum()} of {len(lengths)} texts are longer than max_length={self.preprocessor.max_length} and are cut "
                f"(the longest has {longest} pieces); this is said once",
                stacklevel=6,
            )
        return room

    def _examples(self, x, y, sample_weight=None, class_weight=None):
        """Checks and encodes a column of targets, then tokenizes the texts."""
        if y is None:
            raise ValueError("targets are missing: fit(texts, labels)")
        texts = x if isinstance(x, tuple) else (x,)
        texts = tuple(text_list(column, "x") for column in texts)
        count = len(texts[0])
        if count == 0:
            raise ValueError("there are no texts: at least one text with its target is needed")
        if not hasattr(y, "__len__") or isinstance(y, (str, bytes)):
            raise TypeError(f"y should be a list, array or column with a target for each text, got {type(y).__name__}")
        if len(y) != count:
            raise ValueError(f"each text needs one target: got {count} texts and {len(y)} targets")
        targets = self.encode_targets(y)
        weights = check_weights(sample_weight, count)
        if class_weight is not None:
            of_class = self.encode_class_weight(class_weight)[targets]
            weights = of_class if weights is None else weights * of_class
        return Examples(self._tokenize(texts), targets, weights)

    def _validation(self, data, batch_size):
        """Whatever `validation_data` may be, as what Keras takes."""
        if isinstance(data, tf.data.Dataset):
            return self._dataset(data, batch_size)
        if data is None or (isinstance(data, (tuple, list)) and data and isinstance(data[0], dict)):
            return data
        if not isinstance(data, Examples):
            if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
                raise ValueError("validation_data should be (texts, targets), (texts, targets, weights) or a tf.data.Dataset")
            data = self._examples(*data)
        return data.batches(self._pack, batch_size, shuffle=False)

    def _dataset(self, dataset, batch_size):
        """Packs a dataset of `(text, target, ...)`, batched or not; one of packed dictionaries passes as it is."""
        spec = dataset.element_spec
        text = spec[0] if isinstance(spec, tuple) else spec
        if self.preprocessor is None or isinstance(text, dict):
            return dataset
        text = text[0] if isinstance(text, tuple) else text
        if text.dtype != tf.string:
            raise TypeError(f"the dataset should give (text, target) with strings as texts, got {text.dtype.name}")
        if text.shape.rank == 0:
            dataset = dataset.batch(batch_size)

        def pack(texts, *targets):
            if targets and targets[0].dtype == tf.string:
                targets = (self.encode_target_tensor(targets[0]), *targets[1:])
            return (self.preprocessor(texts), *targets)

        return dataset.map(pack, num_parallel_calls=2, deterministic=True).prefetch(tf.data.AUTOTUNE)

    # Answers

    def predict(self, x, batch_size=None, verbose="auto", **kwargs):
        """The logits of texts, as NumPy, in the order given.

        Args:
          x: a list, array or column of strings (a tuple of two for pairs), or a string; an iterator or `tf.data.Dataset` of texts or
            pairs, of which some thousand are held at a time; or packed dictionaries.
          batch_size: the most texts of one step; by default as many as fill a step with tokens.
          verbose: 1 for a progress bar, 0 for none; by default there is one on a terminal after some seconds.

        Returns:
          What calling the task gives for each text: an array `[B, ...]`.
        """
        if self._is_packed(x):
            return super().predict(x, batch_size=batch_size, verbose=verbose, **kwargs)
        return self._predict_texts(x, batch_size, verbose, self)

    def _predict_texts(self, x, batch_size, verbose, engine):
        """Texts to outputs in the order given; `engine`, this task or a frozen one, computes those of columns in groups of rows."""
        progress = Progress(verbose)
        parts = []
        for columns in text_chunks(x):
            groups, outputs = engine._compute(columns, batch_size, progress)
            parts.append(tf.nest.map_structure(lambda *o, g=groups: in_order(g, o, self.positional), *outputs))
        if not parts:  # an empty stream
            return self._predict_texts([], batch_size, verbose, engine)
        return joined(parts, self.positional)

    def _compute(self, columns, batch_size, progress):
        """The outputs of texts on TensorFlow: groups of row numbers, and the outputs of each."""
        return self._compute_pieces(self._tokenize(columns, cut=False), batch_size, progress)

    def _compute_pieces(self, ids, batch_size, progress):
        """The outputs of a tuple of ragged ids; as of `_compute`."""
        lengths = sum(np.diff(column.row_splits.numpy()) for column in ids) + 1 + len(ids)
        lengths = np.minimum(lengths, self.preprocessor.max_length)
        groups = sorted_batches(lengths, TOKENS_PER_PREDICTION, batch_size) or [np.zeros(0, int)]
        outputs = []
        for rows in groups:
            forward = self._forward(len(ids), padded=len(rows) == 1)
            outputs.append(tf.nest.map_structure(lambda output: output.numpy(), forward(tf.constant(rows, tf.int64), *ids)))
            progress.advance(len(rows), len(lengths))
        return groups, outputs

    def _is_packed(self, x):
        """Whether the input is not text: packed dictionaries, in memory or as a dataset."""
        if isinstance(x, tf.data.Dataset):
            return self.preprocessor is None or isinstance(x.element_spec, dict)
        return not self._is_raw(x)

    def freeze(self, threads=None):
        """A read-only copy of the task for the fastest answers on a CPU, with the same verbs.

        >>> fast = task.freeze()  # doctest: +SKIP
        >>> fast.classify(["I could not be happier"])  # doctest: +SKIP

        The weights are those of now: after more training, freeze again. It computes with LiteRT (`pip install "kbert[litert]"`), in
        this process; making it takes some seconds. Threads may share it.

        Args:
          threads: of the computation; by default as many as there are cores, 8 at most.
        """
        from kbert.tasks.frozen import FrozenTask

        return FrozenTask(self, threads)

    def _forward(self, columns, padded):
        """The compiled way from rows of ragged ids to outputs: traced once for every batch size and length, and kept.

        One text has no padding: its shapes are `PaddedView`'s, whose graph has fewer ops, and for one text ops are what takes the time.
        """
        functions = self.__dict__.setdefault("_compiled_forward", {})  # not through Keras, which would track it
        key = columns, padded and self.encoder.real_tokens
        if key not in functions:
            spec = [tf.TensorSpec([None], tf.int64), *[tf.RaggedTensorSpec([None, None], tf.int32, 1, tf.int64)] * columns]

            def forward(rows, *ids):
                packed = self._pack(*(tf.gather(column, rows) for column in ids))
                with self.encoder.padded() if padded else contextlib.nullcontext():
                    return self(packed, training=False)

            functions[key] = tf.function(forward, input_signature=spec, autograph=False)
        return functions[key]

    # Smaller tasks

    def make_student(self, num_hidden_layers=None, hidden_size=None, layers="uniform", **sizes):
        """A smaller task of the same kind, with the same tokenizer and labels, for `kbert.Distiller` to train.

        >>> student = task.make_student(num_hidden_layers=3)  # doctest: +SKIP

        Args:
          num_hidden_layers: of the student; embeddings, the chosen layers and the head are copied from this task.
          hidden_size, **sizes: other values of the encoder's configuration (`intermediate_size`, ...); no weight fits then, and all are new.
          layers: which layers are copied: `"uniform"`, `"last"` or a list of as many, counted from 0.
        """
        from kbert.tasks.smaller import make_student

        return make_student(self, num_hidden_layers, hidden_size, layers, **sizes)

    def trim_vocabulary(self, texts, size=None):
        """The same task with the tokens that texts use, and no others: a smaller embedding table, most of a small model's size.

        >>> smaller = task.trim_vocabulary(texts, size=8000)  # doctest: +SKIP
        >>> smaller.trimmed  # doctest: +SKIP
        {'tokens': 8000, 'tokens_before': 30522, 'unknown': 0.0004, 'unknown_before': 0.0001}

        Args:
          texts: such as the task will read. What occurs most often is kept, and the single ASCII characters, which spell what is not.
          size: the most tokens; by default as many as occur.

        Returns:
          A new task. Texts whose words it kept have the same answers; `trimmed` says what share of the texts' pieces is [UNK], before and after.
        """
        from kbert.tasks.smaller import trim_vocabulary

        return trim_vocabulary(self, texts, size)

    # Files

    def save(self, path, overwrite=True, **kwargs):
        """Writes a `.keras` file, with vocabulary and labels, that `kbert.load` opens. A crash leaves the old file."""
        path = pathlib.Path(path)
        if path.suffix != ".keras":
            raise ValueError(f"a task is saved as a .keras file, got {path}; a folder for others is written by save_to_preset")
        check_target(path, overwrite)
        with written_aside(path) as aside:
            super().save(aside, **kwargs)

    def save_to_preset(self, folder, layout="huggingface"):
        """Writes a folder that `from_preset` opens, and others too.

        Args:
          folder: made if it is not there.
          layout: `"huggingface"` (config.json, vocab.txt, tokenizer_config.json, model.safetensors), which transformers opens;
            `"google"` (bert_config.json, vocab.txt, bert_model.ckpt.*) or `"keras_hub"` (config.json, model.weights.h5, ...), which
            have no place for the labels' names.
        """
        from kbert.checkpoints.opened import writer_of

        writer_of(layout)(folder, self.encoder, self.preprocessor, self)

    def to_keras_hub(self):
        """The task as a live KerasHub model; see `BertEncoder.to_keras_hub`."""
        from kbert.checkpoints.keras_hub import to_keras_hub

        return to_keras_hub(self.encoder, self.preprocessor, self)

    text_inputs: tuple[str, ...] = ("text",)  # what an exported graph's strings are called

    def serve(self, *texts):
        """Strings `[B]`, one tensor for each of `text_inputs`, to what an exported graph answers; in ops of a graph."""
        raise NotImplementedError(
            f"a {type(self).__name__} cannot be exported; save() and save_to_preset() keep it, and its encoder can be a task's"
        )

    def serve_tokens(self, packed):
        """The packed dictionary to what an exported graph answers of it: the outputs of a call, by name."""
        outputs = self(packed, training=False)
        return outputs if isinstance(outputs, dict) else {"logits": outputs}

    def export(self, path, format="tf_saved_model", **kwargs):
        """Writes the task, from string to answer, for where it is to run.

        >>> task.export("models/emotion/1")  # doctest: +SKIP
        >>> task.export("emotion.tflite", format="litert", inputs="text", quantize="int8")  # doctest: +SKIP
        >>> task.export("emotion.onnx", format="onnx", inputs="tokens")  # doctest: +SKIP

        Args:
          path: the folder (a SavedModel) or file to write; it must not exist, unless `overwrite=True`.
          format: `"tf_saved_model"` for TF Serving, `"litert"` for phones, or `"onnx"`.
          **kwargs: for the format, see `kbert.export.export_saved_model`, `export_litert` and `export_onnx`.
        """
        from kbert import export

        writers = {"tf_saved_model": export.export_saved_model, "litert": export.export_litert, "onnx": export.export_onnx}
        if format not in writers:
            raise ValueError(f"format should be one of {', '.join(writers)}, got {format!r}")
        return writers[format](self, pathlib.Path(path), **kwargs)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "dtype": serialize(self.dtype_policy),
            "encoder": serialize(self.encoder),
            "preprocessor": None if self.preprocessor is None else serialize(self.preprocessor),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for part in ("dtype", "encoder", "preprocessor"):
            config[part] = keras.saving.deserialize_keras_object(config[part])
        return cls(**config)


def as_list(callbacks):
    """The `callbacks` of a `fit`, one, several or none, as a list."""
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks] if callbacks else []


class ValidationScores(keras.callbacks.Callback):
    """After each epoch the task's `scores` of the validation data, each as `val_<name>`; `fit` adds it by itself."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def on_epoch_end(self, epoch, logs=None):
        logs.update({f"val_{name}": value for name, value in self.model.scores(self.x, self.y, verbose=0).items()})


def load(path):
    """Opens a `.keras` file that `save` wrote, with its vocabulary and labels.

    >>> task = load("emotion.keras")  # doctest: +SKIP
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}; a preset folder is opened by from_preset")
    return keras.saving.load_model(path)
