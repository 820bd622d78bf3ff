"""What a task is: an encoder with a head, and what reads its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from kbert.scoring.figures import Figures
from kbert.tasks.exporting import Exporting
from kbert.tasks.files import Files
from kbert.tasks.fitting import Fitting
from kbert.tasks.prediction import Prediction
from kbert.text.packing import TextPreprocessor
from kbert.training import keras_internals
from kbert.training.soft_targets import mean_of_labelled, soft_targets
from kbert.training.trainable_flags import TrainsWhatIsRead, set_trainable, trainable_flags

# Keys of `get_config` that are no arguments of the constructor.
REMEMBERED = ("trainable_flags", "trained_on_pairs", "provenance")


class Task(TrainsWhatIsRead, Fitting, Prediction, Exporting, Files):
    """An encoder with a head, and what reads its text. Use one of its subclasses.

    A subclass says what is special to it, and nobody else asks which class a task is:

    - `head` (transformers' name, by which the head's weights are named), `head_outputs` and `encoder_options`;
    - `columns`, `training_columns`, `read`, `encode_targets` and `pack`: from texts and targets to batches
    (`kbert.tasks.encoding`);
    - `default_loss`, `default_metrics`, `judge` and `score`: what is learned and what is counted;
    - its answers in Python, and `serve`, its answers in graph ops, through one decoder.

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder`.
      preprocessor: a `TextPreprocessor`, or None for a task that takes packed dictionaries in place of strings.
      **kwargs: `name`, and `dtype`, a Keras dtype policy; by default the encoder's.

    Raises:
      TypeError: the encoder is no encoder, or the preprocessor is no `TextPreprocessor`.
      ValueError: a preprocessor with rows longer than the encoder's positions, with more tokens than it embeds, or with
        ragged rows.
    """

    head = ""  # what transformers calls the head
    pools = True  # whether the head reads the pooler
    positional = False  # whether the outputs have an axis for positions
    answers_at_positions = False  # whether the head can compute outputs at `mask_positions` alone
    on_real_tokens = True  # whether the head is indifferent to what stands at padding

    def __init__(self, encoder: Any, preprocessor: Any, **kwargs: Any) -> None:
        if not hasattr(encoder, "config"):
            raise TypeError(
                f"encoder should be a BertEncoder or a MobileBertEncoder, got {encoder!r}; {type(self).__name__}.from_preset "
                "opens checkpoints"
            )
        if preprocessor is not None and not isinstance(preprocessor, TextPreprocessor):
            raise TypeError(f"preprocessor should be a TextPreprocessor, got {preprocessor!r}")
        if kwargs.get("dtype") is None:
            kwargs["dtype"] = encoder.dtype_policy
        super().__init__(**kwargs)
        self.encoder = encoder
        if preprocessor is not None and encoder.reads_next_token:
            preprocessor = preprocessor.with_padded_end()
        self.preprocessor = preprocessor
        self._said_truncated = False
        keras_internals.hide(self, "_epochs", [])  # variables that count the epochs of the last fit
        keras_internals.hide(self, "provenance", {})  # for the model card: origin, training, figures
        keras_internals.hide(self, "new_weights", [])  # what a checkpoint did not hold, until fit() trains it
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

    def encoder_options(self, inputs: dict[str, tf.Tensor]) -> dict[str, Any]:
        """Returns keyword arguments for the encoder's call, such as `only_first=True` if it reads only the first token."""
        return {}

    def call(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> Any:
        """Returns the head's outputs for packed inputs.

        Args:
          inputs: the packed dictionary, int32 `[B, L]` each.
          training: whether dropout acts.
        """
        return self.head_outputs(self.encode_tokens(inputs, training, **self.encoder_options(inputs)), inputs, training)

    @property
    def real_tokens(self) -> bool:
        """Whether the encoder computes the real tokens only for this task. Another task with the same encoder may differ."""
        compiled_by_xla = getattr(self, "compiled", False) and self.jit_compile
        return self.on_real_tokens and self.encoder.real_tokens and not compiled_by_xla

    def encode_tokens(self, inputs: dict[str, tf.Tensor], training: bool | None = None, **options: Any) -> dict[str, Any]:
        """Returns the encoder's outputs for packed inputs, on the positions that the task computes.

        Args:
          inputs: the packed dictionary.
          training: whether dropout acts.
          **options: other arguments of the encoder's call.
        """
        return self.encoder(inputs, training=training, real_tokens=self.real_tokens, **options)

    def head_outputs(self, outputs: dict[str, tf.Tensor], inputs: dict[str, tf.Tensor], training: bool | None = None) -> Any:
        """Returns what the head makes of the encoder's outputs.

        Args:
          outputs: the encoder's dictionary.
          inputs: the packed dictionary.
          training: whether dropout acts.
        """
        raise NotImplementedError

    @property
    def unread_weights(self) -> list[keras.Variable]:
        """The weights of the encoder's pooler, if it has one and the head does not read it."""
        pooler = None if self.pools else self.encoder.pooler
        return [] if pooler is None else pooler.weights

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile the task; the encoder decides."""
        return self.encoder.supports_jit

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        """Does nothing: Keras sets this on every layer."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, or None for a task without a preprocessor."""
        return None if self.preprocessor is None else self.preprocessor.tokenizer

    @property
    def token_count(self) -> int | None:
        """How many tokens the vocabulary has, `V`, or None without a tokenizer. The embedding table may have more rows."""
        return None if self.preprocessor is None else self.tokenizer.vocabulary_size

    # Figures

    pipeline_tag = "text-classification"  # a hub's name of what the task does
    job: str | None = None  # the command line's name of what the task does; None if no command does it

    def figures(self, x: Any, y: Any) -> Figures:
        """Returns what the field counts for texts and their targets, with a table by label and the mistakes where there are
        any.

        Args:
          x: texts, as `fit` takes them.
          y: targets, as `fit` takes them.
        """
        return Figures(dict(self.scores(x, y)))

    # Smaller tasks

    def make_student(
        self,
        num_hidden_layers: int | None = None,
        hidden_size: int | None = None,
        layers: str | Sequence[int] = "uniform",
        dtype: Any = None,
        **sizes: Any,
    ) -> Any:
        """Returns a smaller task of the same kind, with the same tokenizer and labels, for `kbert.Distiller` to train.

        >>> student = task.make_student(num_hidden_layers=3)  # doctest: +SKIP

        Args:
          num_hidden_layers: the student's number of layers. Embeddings, the chosen layers and the head are copied from this
            task.
          hidden_size: the student's width. No weight fits another width, so that all are new.
          layers: which layers are copied: `"uniform"`, `"last"` or a list of as many, counted from 0.
          dtype: the student's Keras dtype policy; by default this task's.
          **sizes: other values of the encoder's configuration (`intermediate_size`, ...); all weights are then new.
        """
        from kbert.tasks.smaller import make_student

        return make_student(self, num_hidden_layers, hidden_size, layers, dtype, **sizes)

    def trim_vocabulary(self, texts: Any, size: int | None = None) -> Any:
        """Returns the same task with the tokens that texts use, and no others: a smaller embedding table.

        >>> smaller = task.trim_vocabulary(texts, size=8000)  # doctest: +SKIP
        >>> smaller.trimmed  # doctest: +SKIP
        {'tokens': 8000, 'tokens_before': 30522, 'unknown': 0.0004, 'unknown_before': 0.0001}

        Args:
          texts: such as the task will read. The tokens that occur most often stay, and the single ASCII characters, which
            spell words that have no token of their own.
          size: the most tokens; by default as many as occur.

        Returns:
          A new task. Texts whose words it kept have the same answers. Its `trimmed` says what share of the texts' pieces is
          [UNK], before and after.
        """
        from kbert.tasks.smaller import trim_vocabulary

        return trim_vocabulary(self, texts, size)

    # Distillation

    hard_targets = "given"  # where a student's labels come from: "given" with the texts, "drawn" from the texts, or "none"
    none_is_a_target = False  # whether None among given targets is a target of its own, and not a missing one

    @property
    def merges_windows(self) -> bool:
        """Whether one row of outputs can be the mean over several windows of a long text."""
        return False

    def soft_loss(
        self, teacher_outputs: Any, student_outputs: Any, temperature: float, mask: tf.Tensor, targets: Any
    ) -> tf.Tensor:
        """Returns the loss that holds the answers of this task, the student, to its teacher's.

        Args:
          teacher_outputs: what calling the teacher gives for a batch.
          student_outputs: what calling this task gives for the batch.
          temperature: a number above 0 that divides the logits of both.
          mask: float32 `[B, L]`, 1 at real tokens and 0 at padding.
          targets: the batch's encoded targets.

        Returns:
          A scalar.
        """
        return soft_targets(teacher_outputs, student_outputs, temperature)

    def hard_loss(self, outputs: Any, targets: Any, labelled: tf.Tensor) -> tf.Tensor:
        """Returns the mean of the task's loss over the texts that have a target.

        Args:
          outputs: what calling this task gives for a batch.
          targets: the batch's encoded targets. At texts without a target, a blank one stands.
          labelled: float32 `[B]`, 1 for a text with a target and 0 for a text without.

        Returns:
          A scalar; 0 if no text of the batch has a target.
        """
        return mean_of_labelled(self.default_loss(), targets, outputs, labelled)

    def blank_target(self, text: Any) -> Any:
        """Returns a valid target for a text whose own is missing. It never counts in `hard_loss`.

        Args:
          text: the text as `fit` takes it: a string, or a list of words; the first of a pair.
        """
        return None

    def check_student(self, student: Task) -> None:
        """Raises TypeError or ValueError if the outputs of `student` cannot be compared with this task's."""
        if type(self) is not type(student):
            raise TypeError(
                f"teacher and student should do the same: got a {type(self).__name__} and a {type(student).__name__}"
            )

    def get_config(self) -> dict[str, Any]:
        """Returns what builds the task anew, weights aside."""
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "dtype": serialize(self.dtype_policy),
            "encoder": serialize(self.encoder),
            "preprocessor": None if self.preprocessor is None else serialize(self.preprocessor),
            **self.remembered(),
        }

    def preset_settings(self) -> dict[str, Any]:
        """Returns the settings that a preset folder keeps beside the weights: the class, its options, and `remembered`."""
        left_out = ("name", "dtype", "encoder", "preprocessor", *self.remembered())
        options = {name: value for name, value in self.get_config().items() if name not in left_out}
        return {"class": type(self).__name__, "options": options, **self.remembered()}

    def remembered(self) -> dict[str, Any]:
        """Returns the settings that are no arguments of the constructor: trained layers, training on pairs, provenance."""
        flags = trainable_flags(self)
        return {
            **({"trainable_flags": flags} if flags else {}),
            **({"trained_on_pairs": True} if self.trained_on_pairs else {}),
            **({"provenance": {**self.provenance}} if self.provenance else {}),
        }

    def remember(self, remembered: Mapping[str, Any]) -> None:
        """Sets what another task's `remembered` returned. Flags of layers that this task does not have are left out."""
        set_trainable(self, remembered.get("trainable_flags", {}))
        self.trained_on_pairs = bool(remembered.get("trained_on_pairs", False))
        self.provenance.update(remembered.get("provenance", {}))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Returns a task with first weights, built of `config`, what `get_config` gave."""
        config = dict(config)
        for part in ("dtype", "encoder", "preprocessor"):
            config[part] = keras.saving.deserialize_keras_object(config[part])
        remembered = {name: config.pop(name) for name in REMEMBERED if name in config}
        task = cls(**config)
        task.remember(remembered)
        return task
