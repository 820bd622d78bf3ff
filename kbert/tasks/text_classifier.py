"""One label for each text, or several, or a number."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.encoders.layers import Projection
from kbert.scoring.correlation import pearson, spearman
from kbert.scoring.figures import Figures, figures_of_classes, figures_of_labels, figures_of_numbers
from kbert.tasks.batching import Batching
from kbert.tasks.columns import Chunk
from kbert.tasks.exported_answers import ComparableAnswer, MediaPipeOutput, OnnxAnswer
from kbert.tasks.from_preset import head_dropout, label_names, load_task, stated_labels
from kbert.tasks.labels import check_labels, check_same_labels, class_of, class_weights, label_index, label_keys
from kbert.tasks.prediction import Prediction, Progress, softmax
from kbert.tasks.task import Task
from kbert.text.packing import TextPreprocessor, windows
from kbert.training.examples import Examples
from kbert.training.losses import SmoothedCrossentropy
from kbert.training.metrics import MacroF1
from kbert.training.soft_targets import soft_labels, soft_targets, squared_difference

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"  # config.json's names


@keras.saving.register_keras_serializable("kbert")
class TextClassifier(Task):
    """Labels texts.

    >>> task = TextClassifier.from_preset("all-minilm-l6-v2", labels=["ham", "spam"])  # doctest: +SKIP
    >>> task.fit(texts, labels)  # doctest: +SKIP
    >>> task.classify(["WINNER!! Claim your prize"])  # doctest: +SKIP
    [{'label': 'spam', 'score': 0.99, 'scores': {'ham': 0.01, 'spam': 0.99}}]

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder`.
      preprocessor: a `TextPreprocessor`, or `None` for packed input.
      labels: the names of the classes, in the order of their indices; for a regression of its numbers, `["score"]` by default.
      problem_type: `"single_label_classification"` (a softmax, the default), `"multi_label_classification"` (a sigmoid for each
        label; any number of them can be right) or `"regression"`; `"single_label"` and `"multi_label"` for short.
      dropout: of the text's vector in training; the encoder's own by default.
      head: `"SequenceClassification"`, or `"NextSentencePrediction"` for the two classes of BERT's pretraining, whose head has
        another name in checkpoints.
      window_stride: read a text that is longer than `max_length` in windows, of which neighbours share this many pieces, and answer with
        the mean of their logits, in training too; by default a text is cut. For single texts.

    Calling it with the packed dictionary gives logits `[B, labels]`; of a regression, the numbers themselves. Where it also has
    `document`, int32 `[B]` ascending, the rows are windows of documents and the logits `[documents, labels]`.
    """

    head = "SequenceClassification"

    def __init__(
        self,
        encoder,
        preprocessor=None,
        labels=None,
        problem_type=SINGLE,
        dropout=None,
        head="SequenceClassification",
        window_stride=None,
        **kwargs,
    ):
        super().__init__(encoder, preprocessor, **kwargs)
        self.problem_type = check_problem_type(problem_type)
        self.window_stride = window_stride
        if window_stride is not None and preprocessor is not None:
            windows(tf.zeros([0], tf.int32), self._window_room, window_stride)  # says if they do not fit
        if head not in ("SequenceClassification", "NextSentencePrediction"):
            raise ValueError(f"head should be SequenceClassification or NextSentencePrediction, got {head!r}")
        self.head = head
        if labels is None and self.problem_type == REGRESSION:
            labels = ["score"]
        self.labels = check_labels(labels, fewest=2 if self.problem_type == SINGLE else 1)
        config = encoder.config
        self.dropout_rate = config.hidden_dropout_prob if dropout is None else dropout
        width, initializer_range = config.hidden_size, config.initializer_range
        self.pre_classifier = None
        if not config.add_pooling_layer:
            if config.type_vocab_size:
                raise ValueError("a TextClassifier reads the pooler, which this encoder lacks (only DistilBERT does without)")
            # DistilBERT has a layer of the head in the pooler's place.
            self.pre_classifier = Projection(width, initializer_range, dtype=self.dtype_policy, name="pre_classifier")
            self.pre_classifier.build((None, width))
        self.dropout = keras.layers.Dropout(self.dropout_rate, dtype=self.dtype_policy, name="dropout")
        self.classifier = Projection(
            len(self.labels),
            initializer_range=initializer_range,
            dtype="float32",  # logits keep their precision under a mixed policy
            name="classifier",
        )
        self.classifier.build((None, width))
        self.built = True

    def encoder_options(self, inputs):
        return {"only_first": True}

    def head_outputs(self, outputs, inputs, training=None):
        if self.pre_classifier is None:
            pooled = outputs["pooled_output"]  # [B, H]
        else:
            pooled = tf.nn.relu(self.pre_classifier(outputs["first_output"]))
        logits = self.classifier(tf.cast(self.dropout(pooled, training=training), tf.float32))  # [B, labels]
        return tf.math.segment_mean(logits, inputs["document"]) if "document" in inputs else logits

    # Windows

    @property
    def _window_room(self) -> int:
        return self.preprocessor.max_length - 2

    def read(self, columns: tuple[list, ...]) -> tuple[tf.RaggedTensor, ...]:
        if self.window_stride is None:
            return Batching.read(self, columns)
        if len(columns) > 1:
            raise ValueError("window_stride is for single texts: for pairs build the task without it")
        return (self.tokenizer(tf.constant(columns[0], tf.string)),)

    def pack(self, *columns: tf.RaggedTensor) -> dict[str, tf.Tensor]:
        if self.window_stride is None:
            return super().pack(*columns)
        packed, cut = self.preprocessor.pack_windows(*columns, self.window_stride)
        return {**packed, "document": cut.document}

    def say_truncated(self, lengths: np.ndarray, columns: int) -> int:
        if self.window_stride is None:
            return super().say_truncated(lengths, columns)
        return max(1, int(lengths.max(initial=0)))  # nothing is cut

    def predict_chunk(self, chunk: Chunk, batch_size: int | None, progress: Progress) -> np.ndarray:
        if self.window_stride is None:
            return Prediction.predict_chunk(self, chunk, batch_size, progress)
        (pieces,) = self.read(chunk.columns)
        cut = windows(tf.cast(pieces.row_lengths(), tf.int32), self._window_room, self.window_stride)
        logits = self.ordered(*self._compute_pieces((cut.of(pieces),), batch_size, progress))
        first = np.flatnonzero(np.diff(cut.document.numpy(), prepend=-1))
        counts = np.diff(first, append=len(logits))[:, None].astype(np.float32)
        return np.add.reduceat(logits, first) / counts if len(first) else logits

    def check_streamed(self, chunk: Chunk) -> None:
        """Raises a ValueError for a stream of two texts a row of which the second ones are all labels."""
        if len(chunk.columns) == 2 and chunk.rows and {text.decode("utf-8") for text in chunk.columns[1]} <= set(self.labels):
            raise ValueError(
                "the second texts of this stream are all labels: give predict the texts alone, "
                "dataset.map(lambda text, label: text), or pairs as ((text, other),)"
            )

    # Training

    def compile(self, optimizer="auto", loss="auto", *, label_smoothing=0.0, **kwargs):
        """As of a task.

        Args:
          label_smoothing: the share of each target that is spread evenly over all labels by the default loss; for classes.
        """
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing should be in [0, 1), got {label_smoothing}")
        if label_smoothing and (loss != "auto" or self.problem_type == REGRESSION):
            raise ValueError("label_smoothing is of the default loss for classes: give it to a loss of your own")
        if self.window_stride is not None and kwargs.get("jit_compile") is True:
            raise ValueError("XLA would compile anew for each number of windows: leave out window_stride or jit_compile")
        if label_smoothing:
            loss = self.default_loss(label_smoothing)
        super().compile(optimizer, loss, **kwargs)

    def check_training(self, examples: Examples) -> None:
        if self.problem_type == SINGLE and len(np.unique(examples.targets)) == 1:
            warnings.warn(
                f"all {len(examples.targets)} texts have the label {self.labels[examples.targets[0]]!r}, so that there is nothing to "
                "tell apart; train on texts of the other labels too",
                stacklevel=4,
            )

    def check_held_out(self, chunk: Chunk, held_out: Chunk) -> None:
        if self.problem_type == SINGLE and len(
            np.setdiff1d(*(self.encode_targets(c.targets or []) for c in (held_out, chunk)))
        ):
            warnings.warn(
                "validation_split holds out the end of the data, and there are labels that occur only there; "
                "shuffle texts and labels together before fit()",
                stacklevel=3,
            )

    @classmethod
    def from_preset(
        cls, preset, labels=None, max_length=None, dropout=None, problem_type=None, head="SequenceClassification", **kwargs
    ):
        """A classifier on the encoder of a preset.

        Args:
          preset: a built-in name (`kbert.presets()`), `hf://owner/name` or a folder.
          labels: the names of the classes. A checkpoint that was fine-tuned brings its own; where it brings as many, its
            head is kept.
          max_length: the most positions of a text; the checkpoint's most (512) by default. A shorter one is faster.
          dropout: of the text's vector; by default the checkpoint's.
          problem_type: by default what the checkpoint says; a regression, if it has one label.
          head: `"NextSentencePrediction"` opens the head of that name, with labels `is_next` and `not_next`.
          **kwargs: `dtype` for a Keras dtype policy, `preprocessor`, `None` for packed input, and `window_stride`.
        """
        if problem_type is not None:
            problem_type = check_problem_type(problem_type)
        if labels is None and head == "NextSentencePrediction":
            labels = ["is_next", "not_next"]  # transformers' order
        if labels is None and problem_type == REGRESSION:
            labels = ["score"]
        if labels is not None:
            labels = check_labels(labels, fewest=1)

        def known_type(config):
            stated = label_names(config) if labels is None else labels
            return problem_type or config.get("problem_type") or (REGRESSION if stated and len(stated) == 1 else SINGLE)

        return load_task(
            cls, preset, lambda task, missing: f"the classification head ({len(task.labels)} labels)", max_length=max_length,
            labels=stated_labels(preset, labels), problem_type=known_type, head=head,
            dropout=head_dropout(dropout, ("classifier_dropout", "seq_classif_dropout")), **kwargs,
        )  # fmt: skip

    def default_loss(self, label_smoothing=0.0):
        if self.problem_type == REGRESSION:
            return keras.losses.MeanSquaredError()
        if self.problem_type == MULTI:
            return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=label_smoothing)
        if label_smoothing:
            return SmoothedCrossentropy(label_smoothing)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def default_metrics(self):
        if self.problem_type == REGRESSION:
            return [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]
        accuracy = {
            SINGLE: keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            MULTI: keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy"),
        }
        return [accuracy[self.problem_type], MacroF1(len(self.labels))]

    @property
    def has_scores(self) -> bool:
        return self.problem_type != SINGLE

    def judge(self, chunk: Chunk, verbose: int | str = "auto") -> list[tuple[Any, np.ndarray]]:
        return list(zip(chunk.targets or [], self.predict_chunk(chunk, None, Progress(verbose))))

    def score(self, judged: list[tuple[Any, np.ndarray]]) -> dict[str, float]:
        """Returns the correlations of Pearson and Spearman of a regression, means over its numbers; or the F1 of each label."""
        targets = self.encode_targets([target for target, _ in judged])
        answers = np.stack([answer for _, answer in judged])
        if self.problem_type == REGRESSION:
            columns = list(zip(targets.T, answers.T))
            kinds = {"pearson": pearson, "spearman": spearman}
            return {name: float(np.mean([of(*pair) for pair in columns])) for name, of in kinds.items()}
        right, all_of_both = (targets * (answers > 0)).sum(0), targets.sum(0) + (answers > 0).sum(0)
        return {f"f1_{label}": float(f1) for label, f1 in zip(self.labels, 2 * right / np.maximum(all_of_both, 1))}

    def encode_targets(self, y: list) -> np.ndarray:
        """Returns names or indices of labels as int32 `[B]`; several labels, or numbers, as float32 `[B, labels]`."""
        if self.problem_type == SINGLE:
            return np.array([class_of(self.labels, label, f"y[{place}]") for place, label in enumerate(y)], np.int32)
        if self.problem_type == REGRESSION:
            return check_numbers(y, len(self.labels))
        return np.stack([self._one_for_each(labels, f"y[{place}]") for place, labels in enumerate(y)])

    def _one_for_each(self, labels: Any, where: str) -> np.ndarray:
        """Returns the labels of one text, a list of names or a row of 0 and 1, as such a row."""
        if not isinstance(labels, (list, tuple, set, frozenset)):
            raise TypeError(
                f"{where} is {labels!r}; with several labels each text has a list of them, or 0 or 1 for each label"
            )
        labels = list(labels)
        if labels and not any(isinstance(label, str) for label in labels):
            if len(labels) != len(self.labels) or not set(labels) <= {0, 1}:
                raise ValueError(
                    f"{where} should hold 0 or 1 for each of the {len(self.labels)} labels (or names), got {labels}"
                )
            return np.array(labels, np.float32)
        row = np.zeros(len(self.labels), np.float32)
        row[[label_index(self.labels, label, where) for label in labels]] = 1
        return row

    def encode_class_weight(self, class_weight: dict) -> np.ndarray:
        """Returns a dictionary of weights by label or index as float32 `[labels]`; a label left out weighs 1."""
        if self.problem_type != SINGLE:
            raise ValueError(f"class_weight is for one label a text; a {self.problem_type} takes sample_weight")
        return class_weights(self.labels, class_weight)

    def probabilities(self, logits):
        """Logits `[B, labels]` to what stands beside the labels: probabilities, or a regression's numbers."""
        turn = {SINGLE: tf.nn.softmax, MULTI: tf.math.sigmoid, REGRESSION: tf.identity}
        return turn[self.problem_type](logits)

    def _probabilities(self, logits):
        """The same in NumPy: a call of TensorFlow takes a tenth of the time of a frozen task's answer."""
        turn = {SINGLE: softmax, MULTI: lambda x: 1 / (1 + np.exp(-x)), REGRESSION: lambda x: x}
        return turn[self.problem_type](logits)

    def classify(self, texts, threshold=0.5, **kwargs):
        """The label of each text with its probability, and those of all labels.

        Args:
          texts: as for `predict`.
          threshold: the least probability of a label that is given, where a text can have several.

        Returns:
          A list with `{"label": str, "score": float, "scores": {label: float}}` for each text. Where a text can have several
          labels, also `"labels"`, those at or above the threshold, the likeliest first. Of a regression
          `{"score": float, "scores": {name: float}}`, with the first number as the score.
        """
        answers = []
        for row in self._probabilities(self.predict(texts, **kwargs)):
            best = int(row.argmax()) if self.problem_type != REGRESSION else 0
            answer = {"score": float(row[best]), "scores": dict(zip(self.labels, row.tolist()))}
            if self.problem_type != REGRESSION:
                answer = {"label": self.labels[best], **answer}
            if self.problem_type == MULTI:
                answer["labels"] = [self.labels[n] for n in np.argsort(-row, kind="stable") if row[n] >= threshold]
            answers.append(answer)
        return answers

    # Figures

    @property
    def job(self) -> str:
        """The command line's name of what the classifier does."""
        return {SINGLE: "classification", MULTI: "multi-label", REGRESSION: "regression"}[self.problem_type]

    def figures(self, x: Any, y: Any) -> Figures:
        """Returns accuracy or its like, a table by label, and the texts whose answer is not the target.

        The scores are `accuracy` and `macro_f1` for one label a text, `macro_f1` and `all_labels_right` for several, and `pearson`,
        `spearman` and `mean_absolute_error` for a regression, of its first number. A regression's "mistakes" are all of its texts.

        Args:
          x: texts, or a tuple of two columns.
          y: targets, as for `fit`.
        """
        targets = self.encode_targets(y)  # before the long work
        texts, given = list(zip(*x)) if isinstance(x, tuple) else list(x), list(y)
        values = self._probabilities(self.predict(x))
        if self.problem_type == REGRESSION:
            return figures_of_numbers(texts, np.array(given, np.float64).reshape(len(given), -1)[:, 0], values[:, 0])
        of_problem = {SINGLE: figures_of_classes, MULTI: figures_of_labels}[self.problem_type]
        return of_problem(texts, given, targets, values, self.labels)

    # Export

    def serving_outputs(self, logits):
        """What an exported graph answers for logits `[B, labels]`."""
        values = self.probabilities(logits)
        if self.problem_type == REGRESSION:
            return {"scores": values}
        return {
            "label": tf.gather(tf.constant(self.labels), tf.argmax(values, -1)),
            "score": tf.reduce_max(values, -1),
            "probabilities": values,
        }

    def serve(self, *texts):
        return self.serving_outputs(self(self.pack(*map(self.tokenizer.call, texts)), training=False))

    def serve_tokens(self, packed):
        logits = self(packed, training=False)
        return {**self.serving_outputs(logits), "logits": logits}

    # Distillation

    @property
    def merges_windows(self) -> bool:
        return self.window_stride is not None

    def soft_loss(
        self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor, temperature: float, mask: tf.Tensor, targets: tf.Tensor
    ) -> tf.Tensor:
        if self.problem_type == REGRESSION:
            return squared_difference(teacher_outputs, student_outputs)
        loss = soft_labels if self.problem_type == MULTI else soft_targets
        return loss(teacher_outputs, student_outputs, temperature)

    def blank_target(self, text: Any) -> Any:
        if self.problem_type == MULTI:
            return []
        if self.problem_type == REGRESSION:
            return 0.0 if len(self.labels) == 1 else [0.0] * len(self.labels)
        return self.labels[0]

    def check_student(self, student: Task) -> None:
        super().check_student(student)
        check_same_labels(self, student)
        if self.problem_type != student.problem_type:
            raise ValueError(
                f"teacher and student have different problem types: {self.problem_type} and {student.problem_type}"
            )

    # Export

    @property
    def reads_one_window(self) -> bool:
        return self.window_stride is None

    def string_inputs(self, pairs: bool = False) -> tuple[str, ...]:
        return ("text", "text_pair") if pairs and self.window_stride is None else super().string_inputs(pairs)

    @property
    def _served_values(self) -> str:
        """The output that holds what stands beside the labels."""
        return "scores" if self.problem_type == REGRESSION else "probabilities"

    def expected_answers(self, columns: tuple[Sequence[str], ...]) -> list[ComparableAnswer]:
        answers = self.classify(columns if len(columns) > 1 else columns[0], verbose=0)
        return [ComparableAnswer((), np.array(list(answer["scores"].values()))) for answer in answers]

    def served_answers(self, outputs: Mapping[str, np.ndarray]) -> list[ComparableAnswer]:
        return [ComparableAnswer((), values) for values in outputs[self._served_values]]

    def serving_apis(self) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
        if self.problem_type != REGRESSION:
            return {"classify": self._classify_api}
        return {"regress": self._regress_api} if len(self.labels) == 1 else {}

    def _classify_api(self, *texts: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = self.serve(*texts)["probabilities"]
        return {"classes": tf.tile(tf.constant(self.labels)[None], [tf.shape(scores)[0], 1]), "scores": scores}

    def _regress_api(self, *texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": self.serve(*texts)["scores"]}

    def window_answer(self, preprocessor: TextPreprocessor) -> Callable[..., dict[str, tf.Tensor]]:
        if self.window_stride is not None:
            raise ValueError(
                "a LiteRT file reads one window of a text: export a task without window_stride, which cuts long texts"
            )
        return super().window_answer(preprocessor)

    def onnx_answer(self) -> OnnxAnswer | None:
        super().onnx_answer()
        operator = {SINGLE: "Softmax", MULTI: "Sigmoid", REGRESSION: "Identity"}[self.problem_type]
        labels = self.labels if self.problem_type == SINGLE else None
        return OnnxAnswer(operator, self._served_values, len(self.labels), labels)

    def mediapipe_output(self) -> MediaPipeOutput:
        return MediaPipeOutput("TextClassifier", self._served_values, "probability", self.labels)

    def preset_config(self):
        """The keys of config.json that transformers needs for this head."""
        if self.head == "NextSentencePrediction":
            return {}
        stated = {"problem_type": self.problem_type, "classifier_dropout": self.dropout_rate}
        return {**label_keys(self.labels), **stated}

    def get_config(self):
        stated = {"labels": self.labels, "dropout": self.dropout_rate, "problem_type": self.problem_type, "head": self.head}
        return {**super().get_config(), **stated, "window_stride": self.window_stride}


def check_problem_type(value):
    """One of the three names, from it or its short form."""
    short = {"single_label": SINGLE, "multi_label": MULTI}
    value = short.get(value, value)
    if value not in (SINGLE, MULTI, REGRESSION):
        raise ValueError(f"problem_type should be {SINGLE}, {MULTI} or {REGRESSION}, got {value!r}")
    return value


def check_numbers(y, count):
    """The targets of a regression as float32 `[B, count]`, all of them finite."""
    try:
        numbers = np.asarray(y, np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(f"the targets of a regression should be numbers ({error})") from error
    numbers = numbers[:, None] if numbers.ndim == 1 else numbers
    if numbers.shape != (len(y), count):
        raise ValueError(f"each text needs {count} numbers as its target, got shape {numbers.shape}")
    wrong = np.flatnonzero(~np.isfinite(numbers).all(-1))
    if len(wrong):
        raise ValueError(f"y[{wrong[0]}] is {y[wrong[0]]}, which is not a finite number")
    return numbers
