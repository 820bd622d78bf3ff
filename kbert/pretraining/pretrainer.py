"""Pretraining of an encoder by masked language modelling and next-sentence prediction (Devlin et al. 2018, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.arguments import known_only, share, whole_number, yes_or_no
from kbert.config import BertConfig, MobileBertConfig
from kbert.encoders.bert import BertEncoder
from kbert.encoders.layers import Projection
from kbert.encoders.mobilebert import MobileBertEncoder
from kbert.pretraining.sentence_pairs import Corpus, Document, draw_pairs, pair_columns, tokenize_documents
from kbert.pretraining.throughput import Throughput, counted
from kbert.tasks.columns import rows_kept
from kbert.tasks.fit_arguments import check_fit
from kbert.tasks.from_preset import load_task
from kbert.tasks.inputs import is_packed
from kbert.tasks.on_logits import Logits
from kbert.tasks.task import Task
from kbert.tasks.token_head import TokenHead, only_at_masks, vectors_at_masks
from kbert.text.packing import TextPreprocessor
from kbert.training import keras_internals
from kbert.training.fingerprint import digest
from kbert.training.length_batches import batches
from kbert.training.losses import LabelledCrossentropy
from kbert.training.masking import mask_tokens, with_draws
from kbert.training.metrics import LabelledAccuracy
from kbert.training.phases import Phase
from kbert.training.resume import random_at_start
from kbert.training.watching import as_list

OF_DOCUMENTS = (
    "verbose", "initial_epoch", "steps_per_epoch", "total_steps", "resume", "resume_every", "validation_steps",
    "validation_freq",
)  # fmt: skip


@keras.saving.register_keras_serializable("kbert")
class Pretrainer(Task):
    """A task that pretrains an encoder, with a masked-LM head and a next-sentence head.

    >>> config = kbert.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    >>> outputs = Pretrainer.from_config(config)({"token_ids": tf.constant([[2, 4, 3]])})
    >>> outputs["mlm_logits"].shape, outputs["nsp_logits"].shape
    (TensorShape([1, 3, 20]), TensorShape([1, 2]))

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder` with a pooler.
      preprocessor: a `TextPreprocessor`, or `None` for packed input.

    Calling the task with the packed dictionary gives `mlm_logits` `[B, L, V]` and `nsp_logits` `[B, 2]`. If the dictionary has
    `mask_positions` `[B, M]`, `mlm_logits` are `[B, M, V]`. Class 0 of `nsp_logits` says that the second segment follows the
    first, class 1 that it does not. The loss is the sum of both cross-entropies. Positions whose label is -100 do not count.
    """

    head, pools = "PreTraining", True
    pipeline_tag = "fill-mask"

    def __init__(
        self, encoder: BertEncoder | MobileBertEncoder, preprocessor: TextPreprocessor | None = None, **kwargs: Any
    ) -> None:
        super().__init__(encoder, preprocessor, **kwargs)
        if not encoder.config.add_pooling_layer:
            raise ValueError("next-sentence prediction reads the pooler, which this encoder lacks; MaskedLM needs none")
        config = encoder.config
        self.token_head = TokenHead(
            config,
            config.hidden_act,
            config.layer_norm_eps,
            tokens=self.token_count,
            dtype=self.dtype_policy,
            name="token_head",
        )
        self.token_head.build()
        self.next_sentence = Projection(2, encoder.config.initializer_range, dtype="float32", name="next_sentence")
        self.next_sentence.build((None, encoder.config.hidden_size))
        self.built = True

    def encoder_options(self, inputs: dict[str, tf.Tensor]) -> dict[str, Any]:
        return only_at_masks(inputs)

    def head_outputs(
        self, outputs: dict[str, tf.Tensor], inputs: dict[str, tf.Tensor], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        return {
            "mlm_logits": self.token_head(vectors_at_masks(outputs, inputs), self.encoder.embeddings.tokens),
            "nsp_logits": self.next_sentence(tf.cast(outputs["pooled_output"], tf.float32)),
        }

    @classmethod
    def from_config(cls, config: BertConfig | MobileBertConfig | dict) -> Pretrainer:
        """Returns a pretrainer with new weights.

        Args:
          config: the encoder's configuration; or the dictionary that `get_config` gives.
        """
        if isinstance(config, dict):
            return super().from_config(config)
        encoder_class: Any = MobileBertEncoder if isinstance(config, MobileBertConfig) else BertEncoder
        return cls(encoder_class(config))

    @classmethod
    def from_preset(cls, preset: Any, max_length: int | None = None, **kwargs: Any) -> Pretrainer:
        """Returns a pretrainer on the weights of a preset.

        Args:
          preset: a built-in name (`kbert.presets()`), `hf://owner/name` or a folder.
          max_length: the most positions of a pair of segments; by default the checkpoint's most (512).
          **kwargs: `dtype`, a Keras dtype policy; `preprocessor`, None for packed input; `vocabulary`, as for a classifier.
        """

        def describe(task: Pretrainer, missing: Sequence[str]) -> str:
            """Names the heads among the paths of weights that the checkpoint lacks."""
            heads = {"token_head": "the masked-LM head", "next_sentence": "the next-sentence head"}
            return " and ".join(text for name, text in heads.items() if any(path.startswith(name) for path in missing))

        return load_task(cls, preset, describe, max_length=max_length, **kwargs)

    # Training

    def fit(  # type: ignore[override]
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | Sequence[int] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        epochs: int | None = None,
        phases: Sequence[tuple[int, int]] | None = None,
        callbacks: Any = None,
        objective: str = "nsp",
        whole_words: bool = False,
        mask_rate: float = 0.15,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains on documents.

        >>> task.fit(read_documents(["corpus.txt"]), epochs=10)  # doctest: +SKIP
        >>> task.fit(documents, phases=[(128, 9), (512, 1)], batch_size=[64, 16])  # doctest: +SKIP

        Pairs of segments are drawn once (`kbert.pretraining.sentence_pairs`). Tokens to hide are drawn anew in each epoch
        (`kbert.training.masking`). The figures of an epoch are the losses and accuracies of both heads, and
        `tokens_per_second`, which counts real tokens, without padding.

        Args:
          x: an iterable of documents, each a text whose lines are its sentences, or a list of sentences. It is read as a
            stream, and only the ids are kept. Or packed dictionaries or a dataset (`read_records`), whose tokens are hidden
            already.
          y: the labels of both heads for packed dictionaries: `{"mlm_logits": [B, M], "nsp_logits": [B]}`.
          batch_size: pairs of a batch, 32 by default; with `phases` a number, or a list with one for each phase. A dataset has
            batches of its own.
          validation_split: the share of the documents, at the end, that is held out.
          validation_data: documents, or a dataset.
          shuffle: whether the pairs come in another order in each epoch.
          epochs: how often each pair is seen; by default once.
          phases: `(length, epochs)` of each phase, in place of `epochs`. They follow each other under one learning-rate
            schedule. The paper trains nine tenths of the steps on short rows and the rest on long ones. By default there is one
            phase, whose rows have at most the preprocessor's `max_length` positions.
          callbacks: Keras's callbacks, one or a list.
          objective: `"nsp"` for next-sentence prediction, `"sop"` for sentence-order prediction in its place, or `"mlm"` for
            hidden tokens alone.
          whole_words: whether words are hidden with all of their pieces.
          mask_rate: the share of tokens to hide.
          **kwargs: `verbose`, `initial_epoch`, `steps_per_epoch`, `total_steps`, `resume`, `resume_every`, `validation_steps`
            and `validation_freq`, as a task's `fit` takes them. With packed input, all arguments of a task's `fit` are taken.

        Returns:
          Keras's `History`.

        Raises:
          TypeError: `x` is a table, a set or a single text, or an argument is given that training on documents does not have.
          ValueError: the corpus is empty, there is a single document with `"nsp"`, or an argument is out of its range or
            does not go with this kind of input. The error comes before any step is run.
        """
        if kwargs.get("resume") is not None:
            keras_internals.hide(self, "_random_at_start", random_at_start(kwargs["resume"]))
        if phases is not None and epochs is not None:
            raise ValueError("phases say how many epochs there are: give one of both")
        if is_packed(x, self.preprocessor is not None):
            if phases is not None:
                raise ValueError("phases are for documents: records have the length that they were written with")
            if (objective, whole_words, mask_rate) != ("nsp", False, 0.15):
                raise ValueError("objective, whole_words and mask_rate are for documents; packed input has its hidden tokens")
            if isinstance(x, tf.data.Dataset):
                if hasattr(x, "epochs"):  # of read_records
                    self._epochs[:] = x.epochs
                tokens = tf.Variable(0, dtype=tf.int64, trainable=False)
                made_of = getattr(x, "made_of", "")
                x, callbacks = counted(x, tokens), [Throughput(tokens), *as_list(callbacks)]
                x.made_of = made_of
            return super().fit(
                x,
                y,
                batch_size=batch_size,  # type: ignore[arg-type]
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                epochs=1 if epochs is None else epochs,
                callbacks=callbacks,
                **kwargs,
            )
        if y is not None:
            raise ValueError("pretraining learns from the documents alone: fit(documents)")
        self.check_reads_texts(x)  # raises TypeError if there is no preprocessor
        checked_phases = check_phases(phases, 1 if epochs is None else epochs, batch_size, self)
        self._compile_if_needed()
        known_only("fit on documents", kwargs, OF_DOCUMENTS)
        more: dict[str, Any] = {name: kwargs[name] for name in kwargs if name in ("validation_steps", "validation_freq")}
        checked = {name: kwargs[name] for name in set(kwargs) - set(more)}
        total_epochs = sum(of_phase for _, of_phase, _ in checked_phases)
        check_fit(
            epochs=total_epochs, shuffle=shuffle, validation_split=validation_split, validation_data=validation_data, more=more,
            **checked,
        )  # fmt: skip
        share("mask_rate", mask_rate)
        yes_or_no(whole_words=whole_words)
        tokens = tf.Variable(0, dtype=tf.int64, trainable=False)
        callbacks = [Throughput(tokens), *as_list(callbacks)]
        self._check_callbacks(callbacks, bool(validation_split) or validation_data is not None, [])
        self._epochs.clear()
        options: dict[str, Any] = {"objective": objective, "whole_words": whole_words, "mask_rate": mask_rate}
        corpus = tokenize_documents(x, self.tokenizer)
        corpus, validation_data = self._held_out(corpus, validation_split, validation_data)
        if kwargs.get("resume") is not None:
            self.content_of_data = digest([list(corpus), options, checked_phases])
        if isinstance(validation_data, Corpus):
            length, _, rows = checked_phases[-1]
            validation_data = self._batches(validation_data, rows, False, length, **options)
        steps = kwargs.get("steps_per_epoch")
        parts = [
            Phase.of(counted(self._batches(corpus, rows, shuffle, length, **options), tokens), phase_epochs, steps)
            for length, phase_epochs, rows in checked_phases
        ]
        total_steps = kwargs.pop("total_steps", None)
        return self._fit_phases(parts, total_steps, callbacks=callbacks, validation_data=validation_data, **kwargs)

    def _held_out(self, corpus: Corpus, validation_split: float, validation_data: Any) -> tuple[Corpus, Any]:
        """Returns the documents to train on, and those to validate with as a `Corpus`.

        Args:
          corpus: the tokenized documents of a `fit`.
          validation_split: the share of them that is held out at their end, if there is no `validation_data`.
          validation_data: documents; or None or a dataset, which is returned as it is.
        """
        if validation_data is None and validation_split:
            first = rows_kept(corpus.num_documents, validation_split)
            return corpus.part(0, first), corpus.part(first, corpus.num_documents)
        if validation_data is None or isinstance(validation_data, tf.data.Dataset):
            return corpus, validation_data
        return corpus, tokenize_documents(validation_data, self.tokenizer)

    def evaluate(  # type: ignore[override]
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        objective: str = "nsp",
        whole_words: bool = False,
        mask_rate: float = 0.15,
        **kwargs: Any,
    ) -> Any:
        """Returns losses and accuracies of both heads.

        Args:
          x: documents, packed dictionaries or a dataset, as `fit` takes them. Of documents, always the same tokens are hidden.
          y: the labels of both heads for packed dictionaries.
          batch_size: pairs of a batch, 32 by default. A dataset has batches of its own.
          objective: `"nsp"`, `"sop"` or `"mlm"`.
          whole_words: whether words are hidden with all of their pieces.
          mask_rate: the share of tokens to hide.
          **kwargs: the other arguments of a task's `evaluate`, such as `return_dict`.
        """
        if not is_packed(x, self.preprocessor is not None):
            if y is not None or kwargs.get("sample_weight") is not None:
                raise ValueError("pretraining learns from the documents alone: evaluate(documents)")
            x, batch_size = self.batches(x, batch_size or 32, False, objective, whole_words, mask_rate), None
        return super().evaluate(x, y, batch_size=batch_size, **kwargs)

    def batches(
        self,
        documents: Iterable[Document],
        batch_size: int = 32,
        shuffle: bool = True,
        objective: str = "nsp",
        whole_words: bool = False,
        mask_rate: float = 0.15,
    ) -> tf.data.Dataset:
        """Returns documents as the dataset that `fit` makes of them, for a training loop of your own.

        Args:
          documents: an iterable of documents, each a text whose lines are its sentences, or a list of sentences.
          batch_size: pairs of a batch.
          shuffle: whether order and hidden tokens are others in each epoch. Otherwise they are always the same.
          objective: `"nsp"`, `"sop"` or `"mlm"`.
          whole_words: whether words are hidden with all of their pieces.
          mask_rate: the share of tokens to hide.

        Returns:
          A `tf.data.Dataset` of `(inputs, labels)`: packed dictionaries with `mask_positions` `[B, M]`, and
          `{"mlm_logits": [B, M], "nsp_logits": [B]}`.
        """
        self.check_reads_texts(documents)
        whole_number("batch_size", batch_size)
        share("mask_rate", mask_rate)
        corpus = tokenize_documents(documents, self.tokenizer)
        return self._batches(corpus, batch_size, shuffle, self.preprocessor.max_length, objective, whole_words, mask_rate)

    def _batches(
        self,
        corpus: Corpus,
        batch_size: int,
        shuffle: bool,
        length: int,
        objective: str,
        whole_words: bool,
        mask_rate: float,
    ) -> tf.data.Dataset:
        """Returns tokenized documents as the dataset that `fit` trains on.

        Args:
          corpus: the tokenized documents.
          batch_size: pairs of a batch.
          shuffle: whether order and hidden tokens are others in each epoch.
          length: the most positions of a row.
          objective: `"nsp"`, `"sop"` or `"mlm"`.
          whole_words: whether words are hidden with all of their pieces.
          mask_rate: the share of tokens to hide.
        """
        random = np.random.default_rng(np.random.randint(2**31))  # follows keras.utils.set_random_seed
        pairs, labels = draw_pairs(corpus, length - (2 if objective == "mlm" else 3), random, objective)
        if not len(pairs):
            raise ValueError("the documents hold no two sentences that could be a pair")
        preprocessor = self.preprocessor.with_length(length)
        epochs = self._epochs if shuffle else None
        columns, seed = pair_columns(corpus, pairs), int(random.integers(2**31))

        def pack(*columns: tf.RaggedTensor) -> dict[str, tf.Tensor]:
            return self.rounded(preprocessor.pack(*columns), length)

        data = batches(columns, (labels,), pack, batch_size, shuffle, seed, epoch=epochs)

        @tf.autograph.experimental.do_not_convert
        def hide(batch: tuple[dict, tf.Tensor], draw: tf.Tensor) -> tuple[dict, dict]:
            packed, labels = batch
            inputs, hidden = mask_tokens(packed, self.tokenizer, mask_rate, draw, whole_words)
            return inputs, {"mlm_logits": hidden, "nsp_logits": labels}

        data = with_draws(data, int(random.integers(2**31)), shuffle, epochs)
        return data.map(hide, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    @property
    def logits(self) -> Logits | None:
        return Logits()

    def default_loss(self) -> dict[str, keras.losses.Loss]:
        return {"mlm_logits": LabelledCrossentropy(), "nsp_logits": LabelledCrossentropy()}

    def default_metrics(self) -> dict[str, list]:
        return {"mlm_logits": [LabelledAccuracy()], "nsp_logits": [LabelledAccuracy()]}

    def preset_config(self) -> dict[str, Any]:
        return {"tie_word_embeddings": True}


def check_phases(
    phases: Sequence[tuple[int, int]] | None, epochs: int, batch_size: int | Sequence[int] | None, task: Pretrainer
) -> list[tuple[int, int, int]]:
    """Returns `(length, epochs, batch size)` of each phase.

    Args:
      phases: `(length, epochs)` of each phase; None for one phase with the preprocessor's `max_length`.
      epochs: the epochs of the one phase, if `phases` is None.
      batch_size: pairs of a batch, or a list with a number for each phase.
      task: the task to train.

    Raises:
      ValueError: a phase or a batch size is out of its range, or there are not as many batch sizes as phases.
    """
    batch_size = 32 if batch_size is None else batch_size
    phases = [(task.preprocessor.max_length, epochs)] if phases is None else list(phases)
    sizes: list[Any] = list(batch_size) if isinstance(batch_size, (list, tuple)) else [batch_size] * len(phases)
    if len(sizes) != len(phases):
        raise ValueError(f"batch_size should be one number, or one for each of the {len(phases)} phases, got {batch_size!r}")
    for size in sizes:
        whole_number("batch_size", size)
    most = task.encoder.config.max_position_embeddings
    for phase in phases:
        is_pair = isinstance(phase, (list, tuple)) and len(phase) == 2
        if not is_pair or not all(isinstance(number, int) and number > 0 for number in phase):
            raise ValueError(f"a phase is (length, epochs), two positive whole numbers, got {phase!r}")
        if not 8 <= phase[0] <= most:
            raise ValueError(f"a phase's length should be from 8 to the encoder's {most} positions, got {phase[0]}")
    return [(length, phase_epochs, size) for (length, phase_epochs), size in zip(phases, sizes)]
