"""One label for each text, or several, or a number."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.arguments import number, share, whole_numbers
from kbert.checkpoints.opened import label_names
from kbert.encoders.layers import Projection
from kbert.messages import listed
from kbert.scoring.figures import Figures
from kbert.tasks.columns import Chunk, joined_chunks
from kbert.tasks.exported_answers import ComparableAnswer, MediaPipeOutput, OnnxAnswer
from kbert.tasks.from_preset import head_dropout, load_task, stated_labels
from kbert.tasks.inputs import open_input
from kbert.tasks.labels import are_numerals, check_labels, check_same_labels, label_keys
from kbert.tasks.long_texts import ReadsLongTexts
from kbert.tasks.on_logits import Logits, reads_rows
from kbert.tasks.packed import as_rows_or_indices
from kbert.tasks.problems import PROBLEMS, REGRESSION, SINGLE, check_problem_type
from kbert.tasks.progress import Progress
from kbert.tasks.row_weights import class_weights
from kbert.tasks.targets import finite_numbers, plain_targets
from kbert.tasks.task import Task
from kbert.text.packing import TextPreprocessor
from kbert.training.examples import Examples
from kbert.training.losses import NO_LABEL, LabelledCrossentropy, SmoothedCrossentropy


@keras.saving.register_keras_serializable("kbert")
class TextClassifier(ReadsLongTexts):
    """A task that labels texts: one label for each text, several labels, or numbers.

    >>> task = TextClassifier.from_preset("all-minilm-l6-v2", labels=["ham", "spam"])  # doctest: +SKIP
    >>> task.fit(texts, labels)  # doctest: +SKIP
    >>> task.classify(["WINNER!! Claim your prize"])  # doctest: +SKIP
    [{'label': 'spam', 'score': 0.99, 'scores': {'ham': 0.01, 'spam': 0.99}}]

    `fit(texts, labels)` trains on texts, or on pairs of texts as a tuple of two columns. A target is a label's name or index,
    or -100 for none. With several labels it is a list of names, or 0 or 1 for each label, and -100 is refused; in a regression
    it is a number, or a row of numbers.

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder`.
      preprocessor: a `TextPreprocessor`, or None for packed input.
      labels: the names of the classes, in the order of their indices. In a regression they name its numbers, `["score"]` by
        default.
      problem_type: `"single_label_classification"` (a softmax, the default), `"multi_label_classification"` (a sigmoid for each
        label; any number of them can be right) or `"regression"`; `"single_label"` and `"multi_label"` for short.
      dropout: the rate of the dropout on the text's vector in training; the encoder's own by default.
      head: `"SequenceClassification"`, or `"NextSentencePrediction"` for the two classes of BERT's pretraining, whose head has
        another name in checkpoints.
      window_stride: a text that is longer than `max_length` is read in windows, of which neighbours share this many pieces. Its
        answer is the mean of their logits, in training too. By default a text is cut. For single texts.
      **kwargs: `name`, and `dtype`, a Keras dtype policy.

    Calling the task with the packed dictionary gives logits `[B, labels]`; in a regression, the numbers themselves. If the
    dictionary also has `document`, int32 `[B]` ascending, its rows are windows of documents and the logits `[documents,
    labels]`.

    Raises:
      ValueError: fewer labels than the problem needs, a window stride that leaves no room, or an encoder without a pooler.
    """

    head = "SequenceClassification"

    def __init__(
        self,
        encoder: Any,
        preprocessor: TextPreprocessor | None = None,
        labels: Sequence[str] | None = None,
        problem_type: str = SINGLE,
        dropout: float | None = None,
        head: str = "SequenceClassification",
        window_stride: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, preprocessor, **kwargs)
        self.problem_type = check_problem_type(problem_type)
        self._problem = PROBLEMS[self.problem_type]
        self.job = self._problem.job
        self.window_stride = window_stride
        self.check_windows()
        if head not in ("SequenceClassification", "NextSentencePrediction"):
            raise ValueError(f"head should be SequenceClassification or NextSentencePrediction, got {head!r}")
        self.head = head
        if labels is None and self.problem_type == REGRESSION:
            labels = ["score"]
        self.labels = check_labels(labels, fewest=self._problem.fewest_labels)
        config = encoder.config
        self.dropout_rate = config.hidden_dropout_prob if dropout is None else share("dropout", dropout)
        width, initializer_range = config.hidden_size, config.initializer_range
        self.pre_classifier = None
        if not config.add_pooling_layer:
            if config.type_vocab_size:
                raise ValueError("a TextClassifier reads the pooler, which this encoder lacks (only DistilBERT does without)")
            # DistilBERT has a layer of the head in the pooler's place.
            self.pre_classifier = Projection(width, initializer_range, dtype=self.dtype_policy, name="pre_classifier")
            self.pre_classifier.build((None, width))
        self.dropout = keras.layers.Dropout(self.dropout_rate, dtype=self.dtype_policy, name="dropout")
        # Logits keep their precision under a mixed policy.
        self.classifier = Projection(len(self.labels), initializer_range, dtype="float32", name="classifier")
        self.classifier.build((None, width))
        self.built = True

    def encoder_options(self, inputs: dict[str, tf.Tensor]) -> dict[str, Any]:
        return {"only_first": True}

    def head_outputs(
        self, outputs: dict[str, tf.Tensor], inputs: dict[str, tf.Tensor], training: bool | None = None
    ) -> tf.Tensor:
        if self.pre_classifier is None:
            pooled = outputs["pooled_output"]  # [B, H]
        else:
            pooled = tf.nn.relu(self.pre_classifier(outputs["first_output"]))
        logits = self.classifier(tf.cast(self.dropout(pooled, training=training), tf.float32))  # [B, labels]
        return tf.math.segment_mean(logits, inputs["document"]) if "document" in inputs else logits

    def check_streamed(self, chunk: Chunk) -> None:
        """Raises a ValueError for a stream of two texts a row of which the second ones are all labels."""
        if len(chunk.columns) == 2 and chunk.rows and {text.decode("utf-8") for text in chunk.columns[1]} <= set(self.labels):
            raise ValueError(
                "the second texts of this stream are all labels: give predict the texts alone, "
                "dataset.map(lambda text, label: text), or pairs as ((text, other),)"
            )

    # Training

    def compile(self, optimizer: Any = "auto", loss: Any = "auto", *, label_smoothing: float = 0.0, **kwargs: Any) -> None:
        """Prepares for training, with BERT's recipe as the default.

        >>> task.compile(learning_rate=2e-5, label_smoothing=0.1)  # doctest: +SKIP

        Args:
          optimizer: `"auto"` is BERT's AdamW with warm-up and linear decay, `"lamb"` LAMB; anything else is Keras's.
          loss: `"auto"` is the cross-entropy of logits; in a regression, the squared error.
          label_smoothing: the share of each target that the default loss spreads evenly over all labels; not for a regression.
          **kwargs: `metrics`, `learning_rate`, `gradient_accumulation_steps`, `jit_compile` and Keras's, as `Task.compile`
            takes them.

        Raises:
          ValueError: label smoothing beside a loss of one's own or a regression, or XLA beside windows.
        """
        is_default = isinstance(loss, str) and loss == "auto"
        share("label_smoothing", label_smoothing)
        if label_smoothing and (not is_default or not self._problem.has_label):
            raise ValueError("label_smoothing is of the default loss for classes: give it to a loss of your own")
        if self.window_stride is not None and kwargs.get("jit_compile") is True:
            raise ValueError("XLA would compile anew for each number of windows: leave out window_stride or jit_compile")
        super().compile(optimizer, self.default_loss(label_smoothing) if label_smoothing else loss, **kwargs)

    def check_training(self, examples: Examples) -> None:
        if examples.targets.dtype != np.int32:
            return
        labelled = examples.targets[examples.targets != NO_LABEL]
        if not len(labelled):
            raise ValueError(
                f"all {len(examples.targets)} targets are {NO_LABEL}, which is no label: there is nothing to learn"
            )
        if len(np.unique(labelled)) == 1:
            warnings.warn(
                f"all {len(labelled)} texts have the label {self.labels[labelled[0]]!r}, so that there is "
                "nothing to tell apart; train on texts of the other labels too",
                stacklevel=4,
            )

    def check_held_out(self, chunk: Chunk, held_out: Chunk) -> None:
        if self.problem_type != SINGLE:
            return
        of_held_out, of_others = (self._problem.encode(self.labels, part.targets or []) for part in (held_out, chunk))
        if len(np.setdiff1d(of_held_out, [*of_others, NO_LABEL])):
            warnings.warn(
                "validation_split holds out the end of the data, and there are labels that occur only there; "
                "shuffle texts and labels together before fit()",
                stacklevel=3,
            )

    @classmethod
    def from_preset(
        cls,
        preset: Any,
        labels: Sequence[str] | None = None,
        max_length: int | None = None,
        dropout: float | None = None,
        problem_type: str | None = None,
        head: str | None = None,
        num_labels: int | None = None,
        **kwargs: Any,
    ) -> TextClassifier:
        """Returns a classifier on the encoder of a checkpoint, with its classification head if it has one that fits.

        >>> task = TextClassifier.from_preset("all-minilm-l6-v2", labels=["ham", "spam"])  # doctest: +SKIP

        Args:
          preset: a built-in name (`kbert.presets()`), `hf://owner/name[@revision]`, a folder, or a live KerasHub model.
          labels: the names of the classes. A checkpoint that was fine-tuned brings its own. If it brings as many, its head is
            kept.
          max_length: the most positions of a text; the checkpoint's most (512) by default. A shorter one is faster.
          dropout: the rate of the dropout on the text's vector; the checkpoint's by default.
          problem_type: by default what the checkpoint says; a regression, if it has one label.
          head: `"NextSentencePrediction"` opens the head of that name, with labels `is_next` and `not_next`. By default it is
            the head that was saved, or else `"SequenceClassification"`.
          num_labels: the number of classes in place of their names, which are "0", "1" and so on then.
          **kwargs: `dtype`, a Keras dtype policy; `preprocessor`, a `TextPreprocessor` in place of the checkpoint's, or None
            for packed input; `vocabulary`, the path of a vocab.txt or a list of tokens where the preset has none;
            `window_stride`, as in the constructor.

        Raises:
          FileNotFoundError: there is no such checkpoint, or its files are not complete.
          ValueError: a weight is missing, left over or of another shape, or the checkpoint does not say its labels.
        """
        if problem_type is not None:
            problem_type = check_problem_type(problem_type)
        whole_numbers(num_labels=num_labels)
        if num_labels is not None and labels is not None:
            raise ValueError(f"labels={listed(labels)} are {len(labels)}: give labels or num_labels={num_labels}, not both")
        if num_labels is not None:
            labels = [str(number) for number in range(num_labels)]
        if labels is None and head == "NextSentencePrediction":
            labels = ["is_next", "not_next"]  # transformers' order
        if labels is None and problem_type == REGRESSION:
            labels = ["score"]
        if labels is not None:
            labels = check_labels(labels, fewest=1)

        def known_type(config: dict[str, Any]) -> str:
            stated = label_names(config) if labels is None else labels
            return problem_type or config.get("problem_type") or (REGRESSION if stated and len(stated) == 1 else SINGLE)

        return load_task(
            cls,
            preset,
            lambda task, missing: f"the classification head ({len(task.labels)} labels)",
            max_length=max_length,
            labels=stated_labels(preset, labels),
            problem_type=known_type,
            **({} if head is None else {"head": head}),
            dropout=head_dropout(dropout, ("classifier_dropout", "seq_classif_dropout")),
            **kwargs,
        )

    def default_loss(self, label_smoothing: float = 0.0) -> keras.losses.Loss:
        return self._problem.loss(label_smoothing)

    def default_metrics(self) -> list[keras.metrics.Metric]:
        return self._problem.metrics(len(self.labels))

    @property
    def logits(self) -> Logits | None:
        return self._problem.logits(len(self.labels))

    def accuracy(self) -> keras.metrics.Metric | None:
        return next((metric for metric in self.default_metrics() if metric.name == "accuracy"), None)

    def encode_targets(self, y: list) -> np.ndarray:
        """Returns names or indices of labels as int32 `[B]`; several labels, or numbers, as float32 `[B, labels]`.

        If the loss is one of Keras's that read rows, for example `CategoricalCrossentropy`, each label becomes a row. Rows of
        shares stay as they are. Rows for a loss of the user's own also stay as they are.
        """
        rows = reads_rows(getattr(self, "loss", None)) if self.problem_type == SINGLE else False
        in_rows = bool(y) and isinstance(y[0], list)
        if in_rows and (len(y[0]) == len(self.labels) if rows else self._has_own_loss(rows)):
            return finite_numbers(y)
        targets = self._problem.encode(self.labels, y)
        return (targets[:, None] == np.arange(len(self.labels))).astype(np.float32) if rows else targets

    def _has_own_loss(self, rows: bool | None) -> bool:
        """Returns whether the loss is the user's own and may read rows; `rows` is the result of `reads_rows` for it."""
        loss = getattr(self, "loss", None)
        return rows is None and loss is not None and not isinstance(loss, (SmoothedCrossentropy, LabelledCrossentropy))

    def encode_packed_targets(self, y: Any) -> Any:
        """Returns the targets of packed rows, encoded as those of texts. A dictionary that is not by label is one by output."""
        if isinstance(y, dict) and set(y) != set(self.labels):
            return super().encode_packed_targets(y)
        return self.encode_targets(plain_targets(y))

    def encoder_of_batches(self, spec: Any) -> Callable[[tf.Tensor], tf.Tensor] | None:
        """Returns a function that makes indices of one-hot rows, or rows of indices, as `encode_targets` does in memory.

        Raises:
          ValueError: the names of the labels are numbers, so that an index in a dataset could be read as a name.
        """
        rank = getattr(getattr(spec, "shape", None), "rank", None)
        if self.problem_type == SINGLE and are_numerals(self.labels) and (rank == 1 or (rank == 2 and spec.shape[-1] == 1)):
            raise ValueError(
                f"the labels {listed(self.labels)} are numbers, so that a number in a dataset of packed rows may be a name or "
                "an index: give one-hot rows as targets, tf.one_hot(index, number of labels)"
            )
        rows = reads_rows(getattr(self, "loss", None))
        return None if rows is None or self.problem_type != SINGLE else as_rows_or_indices(spec, len(self.labels), rows)

    def encode_class_weight(self, class_weight: dict) -> np.ndarray:
        """Returns a dictionary of weights by label or index as float32 `[labels]`; a label left out weighs 1."""
        if self.problem_type != SINGLE:
            raise ValueError(f"class_weight is for one label a text; a {self.problem_type} takes sample_weight")
        return class_weights(self.labels, class_weight)

    # Answers

    def classify(self, texts: Any, threshold: float = 0.5, **kwargs: Any) -> list[dict[str, Any]]:
        """Returns the label of each text with its probability, and those of all labels.

        >>> task.classify(["WINNER!! Claim your prize"])  # doctest: +SKIP
        [{'label': 'spam', 'score': 0.99, 'scores': {'ham': 0.01, 'spam': 0.99}}]

        Args:
          texts: texts, pairs as a tuple of two columns, or a stream, as `predict` takes them.
          threshold: the least probability of a label that is given, where a text can have several.
          **kwargs: `batch_size` and `verbose`, as `predict` takes them.

        Returns:
          A list with `{"label": str, "score": float, "scores": {label: float}}` for each text. Where a text can have several
          labels, there is also `"labels"`, those at or above the threshold, the likeliest first. In a regression it is
          `{"score": float, "scores": {name: float}}`, with the first number as the score.
        """
        number("threshold", threshold, least=0)
        rows = self._problem.probabilities_in_numpy(self.predict(texts, **kwargs))
        return [self._problem.answer(self.labels, row, threshold) for row in rows]

    def probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns what logits `[B, labels]` mean: probabilities, or a regression's numbers."""
        return self._problem.probabilities(logits)

    # Figures

    @property
    def has_scores(self) -> bool:
        return self._problem.has_scores or type(self).scores is not TextClassifier.scores

    def judge(self, chunk: Chunk, verbose: int | str = "auto") -> list[tuple[Any, np.ndarray]]:
        return list(zip(chunk.targets or [], self.predict_chunk(chunk, None, Progress(verbose))))

    def score(self, judged: list[tuple[Any, np.ndarray]], weights: np.ndarray | None = None) -> dict[str, float]:
        """Returns a regression's correlations, or the F1 of each of several labels."""
        targets = self.encode_targets([target for target, _ in judged])
        scores = self._problem.score(targets, np.stack([answer for _, answer in judged]), weights)
        return dict(zip(self._problem.score_names(self.labels), scores))

    @property
    def score_names(self) -> list[str] | None:
        return None if super().score_names is None else self._problem.score_names(self.labels)

    def figures(self, x: Any, y: Any) -> Figures:
        """Returns accuracy or its like, a table by label, and the texts whose answer is not the target.

        The scores are `accuracy` and `macro_f1` for one label a text, `macro_f1` and `all_labels_right` for several, and
        `pearson`, `spearman` and `mean_absolute_error` for a regression, of its first number. A regression's "mistakes" are
        all of its texts.

        Args:
          x: texts, or pairs as a tuple of two columns, as `predict` takes them.
          y: targets, as `fit` takes them; a text whose target is -100 is left out.
        """
        given = plain_targets(y)
        targets = self.encode_targets(given)  # before the long work
        chunk = joined_chunks(list(open_input(self.columns, x)) or [Chunk(([],))])
        self.check_rows(chunk._replace(targets=given))
        rows = np.arange(chunk.rows) if targets.dtype != np.int32 else np.flatnonzero(targets != NO_LABEL)
        columns = tuple([column[row].decode("utf-8") for row in rows] for column in chunk.columns)
        values = self._problem.probabilities_in_numpy(self.predict(columns if len(columns) > 1 else columns[0]))
        texts: list = list(zip(*columns)) if len(columns) > 1 else columns[0]
        return self._problem.figures(texts, [given[row] for row in rows], targets[rows], values, self.labels)

    # Distillation

    def soft_loss(
        self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor, temperature: float, mask: tf.Tensor, targets: tf.Tensor
    ) -> tf.Tensor:
        return self._problem.soft_loss(teacher_outputs, student_outputs, temperature)

    def blank_target(self, text: Any) -> Any:
        return self._problem.blank_target(self.labels)

    def check_student(self, student: Task) -> None:
        super().check_student(student)
        check_same_labels(self, student)
        if self.problem_type != student.problem_type:
            raise ValueError(
                f"teacher and student have different problem types: {self.problem_type} and {student.problem_type}"
            )

    # Export

    def string_inputs(self, pairs: bool | None = None) -> tuple[str, ...]:
        pairs = self.trained_on_pairs if pairs is None else pairs
        return ("text", "text_pair") if pairs and self.window_stride is None else super().string_inputs(pairs)

    @property
    def served_labels(self) -> Sequence[str]:
        return self.labels

    def serving_outputs(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns what an exported graph answers for logits `[B, labels]`."""
        return self._problem.served_outputs(self.labels, self.probabilities(logits))

    def serve(self, *texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.serving_outputs(self(self.pack(*map(self.tokenizer.call, texts)), training=False))

    def serve_tokens(self, packed: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        logits = self(packed, training=False)
        return {**self.serving_outputs(logits), "logits": logits}

    def expected_answers(self, columns: tuple[Sequence[str], ...]) -> list[ComparableAnswer]:
        answers = self.classify(columns if len(columns) > 1 else columns[0], verbose=0)
        return [self._comparable(np.array(list(answer["scores"].values()))) for answer in answers]

    def served_answers(self, outputs: Mapping[str, np.ndarray]) -> list[ComparableAnswer]:
        return [self._comparable(values) for values in outputs[self._problem.served]]

    def _comparable(self, values: np.ndarray) -> ComparableAnswer:
        """Returns probabilities or numbers `[labels]` with the labels that they decide on."""
        return ComparableAnswer((), values, self._problem.decided(values))

    def decided(self, outputs: Mapping[str, np.ndarray]) -> tuple:
        served = outputs.get(self._problem.served)
        if served is None:
            served = self._problem.probabilities_in_numpy(outputs["logits"])
        return self._problem.decided(served)

    def serving_apis(self) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
        api = self._problem.serving_api
        if api == "regress" and len(self.labels) > 1:
            return {}  # the Regress API has one number for each text
        return {api: lambda *texts: self._problem.api_outputs(self.labels, self.serve(*texts))}

    def window_answer(self, preprocessor: TextPreprocessor) -> Callable[..., dict[str, tf.Tensor]]:
        if self.window_stride is not None:
            raise ValueError(
                "a LiteRT file reads one window of a text: export a task without window_stride, which cuts long texts"
            )
        return super().window_answer(preprocessor)

    def onnx_answer(self) -> OnnxAnswer | None:
        super().onnx_answer()
        self.check_single_texts('inputs="text" of an ONNX file')
        labels = self.labels if self.problem_type == SINGLE else None
        return OnnxAnswer(self._problem.onnx_operator, self._problem.served, len(self.labels), labels)

    def check_single_texts(self, reader: str) -> None:
        """Raises a ValueError if the task was trained on pairs; `reader` names a reader that takes single texts."""
        if self.trained_on_pairs:
            raise ValueError(f'{reader} reads single texts, and this task was trained on pairs: export it with inputs="tokens"')

    def mediapipe_output(self) -> MediaPipeOutput:
        self.check_single_texts("MediaPipe")
        return MediaPipeOutput("TextClassifier", self._problem.served, "probability", self.labels)

    def preset_config(self) -> dict[str, Any]:
        """Returns the keys of config.json that transformers needs for this head."""
        if self.head == "NextSentencePrediction":
            return {}
        stated: dict[str, Any] = {"problem_type": self.problem_type, "classifier_dropout": self.dropout_rate}
        if self.problem_type == REGRESSION:  # a CrossEncoder of one output would take its sigmoid
            stated["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
        return {**label_keys(self.labels), **stated}

    def get_config(self) -> dict[str, Any]:
        stated = {"labels": self.labels, "dropout": self.dropout_rate, "problem_type": self.problem_type, "head": self.head}
        return {**super().get_config(), **stated, "window_stride": self.window_stride}
