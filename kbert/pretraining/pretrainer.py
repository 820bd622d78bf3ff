"""BERT's pretraining: masked language modelling and next-sentence prediction on one encoder (Devlin et al. 2018, section 3.1)."""

import time

import keras
import numpy as np
import tensorflow as tf

from kbert.config import MobileBertConfig
from kbert.encoders.bert import BertEncoder
from kbert.encoders.layers import Projection
from kbert.encoders.mobilebert import MobileBertEncoder
from kbert.pretraining.sentence_pairs import Corpus, draw_pairs, pair_columns, tokenize_documents
from kbert.tasks.columns import rows_kept
from kbert.tasks.fitting import as_list
from kbert.tasks.from_preset import load_task
from kbert.tasks.masked_lm import TokenHead, only_at_masks, vectors_at_masks
from kbert.tasks.task import Task
from kbert.training.batches import Phase, batches
from kbert.training.losses import LabelledCrossentropy
from kbert.training.masking import mask_tokens, with_draws
from kbert.training.metrics import LabelledAccuracy


@keras.saving.register_keras_serializable("kbert")
class Pretrainer(Task):
    """An encoder with both heads of pretraining.

    >>> config = kbert.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    >>> outputs = Pretrainer.from_config(config)({"token_ids": tf.constant([[2, 4, 3]])})
    >>> outputs["mlm_logits"].shape, outputs["nsp_logits"].shape
    (TensorShape([1, 3, 20]), TensorShape([1, 2]))

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder` with a pooler.
      preprocessor: a `TextPreprocessor`, or `None` for packed input.

    Calling it with the packed dictionary, with `mask_positions` `[B, M]` in it or not, gives `mlm_logits` `[B, M, V]` or `[B, L, V]`
    and `nsp_logits` `[B, 2]`: class 0 says that the second segment follows the first, class 1 that it does not. The loss is
    the sum of both cross-entropies; an MLM label of -100 counts for nothing.
    """

    head, pools = "PreTraining", True

    def __init__(self, encoder, preprocessor=None, **kwargs):
        super().__init__(encoder, preprocessor, **kwargs)
        if not encoder.config.add_pooling_layer:
            raise ValueError("next-sentence prediction reads the pooler, which this encoder lacks; MaskedLM needs none")
        config = encoder.config
        self.token_head = TokenHead(
            config, config.hidden_act, config.layer_norm_eps, dtype=self.dtype_policy, name="token_head"
        )
        self.token_head.build()
        self.next_sentence = Projection(2, encoder.config.initializer_range, dtype="float32", name="next_sentence")
        self.next_sentence.build((None, encoder.config.hidden_size))
        self.built = True

    def encoder_options(self, inputs):
        return only_at_masks(inputs)

    def head_outputs(self, outputs, inputs, training=None):
        return {
            "mlm_logits": self.token_head(vectors_at_masks(outputs, inputs), self.encoder.embeddings.tokens),
            "nsp_logits": self.next_sentence(tf.cast(outputs["pooled_output"], tf.float32)),
        }

    @classmethod
    def from_config(cls, config):
        """A pretrainer with first weights: of a `BertConfig` or `MobileBertConfig` (or of what `get_config` gives)."""
        if isinstance(config, dict):
            return super().from_config(config)
        return cls((MobileBertEncoder if isinstance(config, MobileBertConfig) else BertEncoder)(config))

    @classmethod
    def from_preset(cls, preset, max_length=None, **kwargs):
        """A pretrainer on the weights of a preset; arguments as of `TextClassifier.from_preset`."""

        def describe(task, missing):
            heads = {"token_head": "the masked-LM head", "next_sentence": "the next-sentence head"}
            return " and ".join(text for name, text in heads.items() if any(path.startswith(name) for path in missing))

        return load_task(cls, preset, describe, max_length=max_length, **kwargs)

    # Training

    def fit(
        self, x=None, y=None, batch_size=32, validation_split=0.0, validation_data=None, shuffle=True, epochs=None, phases=None,
        callbacks=None, objective="nsp", whole_words=False, mask_rate=0.15, **kwargs,
    ):  # fmt: skip
        """Trains on documents.

        >>> task.fit(read_documents(["corpus.txt"]), epochs=10)  # doctest: +SKIP
        >>> task.fit(documents, phases=[(128, 9), (512, 1)], batch_size=[64, 16])  # doctest: +SKIP

        Pairs of segments are drawn once (`kbert.pretraining.sentence_pairs`), masks anew in each epoch (`kbert.training.masking`). Beside
        the losses and accuracies of both heads there is `tokens_per_second`, of real tokens, padding aside.

        Args:
          x: an iterable of documents, each a text whose lines are its sentences, or a list of sentences; it is read as a stream, and the ids
            alone are kept. With packed dictionaries or a dataset (`read_records`) the masking is yours, and `y` the labels of both heads.
          batch_size: pairs of a batch; with `phases` there may be a list of as many.
          validation_split: the share of the documents to hold out, at the end.
          validation_data: documents.
          epochs: looks at the data; by default 1.
          phases: `(length, epochs)` one after the other under one learning-rate schedule, as the paper trains nine tenths on short rows
            and the rest on long ones; in place of `epochs`. By default all rows have the preprocessor's `max_length`.
          objective: `"nsp"`, next-sentence prediction; `"sop"`, sentence-order prediction in its place; or `"mlm"`, masked words alone.
          whole_words: hide words with all of their pieces.
          mask_rate: the share of tokens to hide.
          **kwargs: the other arguments of a task's `fit`.

        Raises:
          ValueError: an empty corpus, or a single document with `"nsp"`, before any step is run.
        """
        if phases is not None and epochs is not None:
            raise ValueError("phases say how many epochs there are: give one of both")
        if isinstance(x, (dict, tf.data.Dataset, type(None))):
            if phases is not None:
                raise ValueError("phases are for documents: records have the length that they were written with")
            if isinstance(x, tf.data.Dataset):
                if hasattr(x, "epochs"):  # of read_records
                    self._epochs[:] = x.epochs
                tokens = tf.Variable(0, dtype=tf.int64, trainable=False)
                x, callbacks = counted(x, tokens), [Throughput(tokens), *as_list(callbacks)]
            return super().fit(
                x, y, batch_size=batch_size, validation_split=validation_split, validation_data=validation_data, shuffle=shuffle,
                epochs=1 if epochs is None else epochs, callbacks=callbacks, **kwargs,
            )  # fmt: skip
        if y is not None:
            raise ValueError("pretraining learns from the documents alone: fit(documents)")
        self._is_packed(x)  # says so where there is no preprocessor
        phases = check_phases(phases, 1 if epochs is None else epochs, batch_size, self)
        if not getattr(self, "compiled", False):
            self.compile()
        self._epochs.clear()
        how = {"objective": objective, "whole_words": whole_words, "mask_rate": mask_rate}
        corpus = tokenize_documents(x, self.tokenizer)
        if validation_split and validation_data is None:
            count = len(corpus.document_splits) - 1
            first = rows_kept(count, validation_split)
            corpus, validation_data = corpus.part(0, first), corpus.part(first, count)
        elif validation_data is not None and not isinstance(validation_data, tf.data.Dataset):
            validation_data = tokenize_documents(validation_data, self.tokenizer)
        if isinstance(validation_data, Corpus):
            length, _, rows = phases[-1]
            validation_data = self._batches(validation_data, rows, False, length, **how)
        tokens = tf.Variable(0, dtype=tf.int64, trainable=False)
        parts = [
            Phase(counted(self._batches(corpus, rows, shuffle, length, **how), tokens), looks) for length, looks, rows in phases
        ]
        kwargs.setdefault("total_steps", sum(part.steps for part in parts))
        callbacks = [Throughput(tokens), *as_list(callbacks)]
        return self._fit_phases(parts, callbacks=callbacks, validation_data=validation_data, **kwargs)

    def evaluate(self, x=None, y=None, batch_size=32, objective="nsp", whole_words=False, mask_rate=0.15, **kwargs):
        """Losses and accuracies of both heads on documents, or on packed dictionaries and labels; arguments as of `fit`."""
        if not isinstance(x, (dict, tf.data.Dataset, type(None))):
            x = self.batches(x, batch_size, False, objective, whole_words, mask_rate)
        return super().evaluate(x, y, batch_size=batch_size, **kwargs)

    def batches(self, documents, batch_size=32, shuffle=True, objective="nsp", whole_words=False, mask_rate=0.15):
        """Documents as a dataset of `(inputs, labels)`, as `fit` makes it: for a loop of your own, or to look at.

        Returns:
          A `tf.data.Dataset` of packed dictionaries with `mask_positions` `[B, M]`, and `{"mlm_logits": [B, M], "nsp_logits": [B]}`; without
          shuffling always the same.
        """
        self._is_packed(documents)
        corpus = tokenize_documents(documents, self.tokenizer)
        return self._batches(corpus, batch_size, shuffle, self.preprocessor.max_length, objective, whole_words, mask_rate)

    def _batches(self, corpus, batch_size, shuffle, length, objective, whole_words, mask_rate):
        """A `Corpus` as a dataset of rows of at most `length` positions."""
        random = np.random.default_rng(np.random.randint(2**31))  # follows keras.utils.set_random_seed
        pairs, labels = draw_pairs(corpus, length - (2 if objective == "mlm" else 3), random, objective)
        if not len(pairs):
            raise ValueError("the documents hold no two sentences that could be a pair")
        preprocessor = self.preprocessor.with_length(length)
        epochs = self._epochs if shuffle else None
        columns, seed = pair_columns(corpus, pairs), int(random.integers(2**31))

        def pack(*columns):
            return self.rounded(preprocessor.pack(*columns), length)

        data = batches(columns, (labels,), pack, batch_size, shuffle, seed, epoch=epochs)

        @tf.autograph.experimental.do_not_convert
        def hide(batch, draw):
            packed, labels = batch
            inputs, hidden = mask_tokens(packed, self.tokenizer, mask_rate, draw, whole_words)
            return inputs, {"mlm_logits": hidden, "nsp_logits": labels}

        data = with_draws(data, int(random.integers(2**31)), shuffle, epochs)
        return data.map(hide, num_parallel_calls=2).prefetch(tf.data.AUTOTUNE)

    def default_loss(self):
        return {"mlm_logits": LabelledCrossentropy(), "nsp_logits": LabelledCrossentropy()}

    def default_metrics(self):
        return {"mlm_logits": [LabelledAccuracy()], "nsp_logits": [LabelledAccuracy()]}

    def preset_config(self):
        return {"tie_word_embeddings": True}


def check_phases(phases, epochs, batch_size, task):
    """`(length, epochs, batch size)` of each phase."""
    phases = [(task.preprocessor.max_length, epochs)] if phases is None else list(phases)
    sizes = list(batch_size) if isinstance(batch_size, (list, tuple)) else [batch_size] * len(phases)
    if len(sizes) != len(phases):
        raise ValueError(f"batch_size should be one number, or one for each of the {len(phases)} phases, got {batch_size!r}")
    wrong = next((size for size in sizes if not isinstance(size, int) or size < 1), None)
    if wrong is not None:
        raise ValueError(f"batch_size should be a positive whole number, got {wrong!r}")
    most = task.encoder.config.max_position_embeddings
    for phase in phases:
        whole = isinstance(phase, (list, tuple)) and len(phase) == 2 and all(isinstance(n, int) and n > 0 for n in phase)
        if not whole:
            raise ValueError(f"a phase is (length, epochs), two positive whole numbers, got {phase!r}")
        if not 8 <= phase[0] <= most:
            raise ValueError(f"a phase's length should be from 8 to the encoder's {most} positions, got {phase[0]}")
    return [(length, looks, size) for (length, looks), size in zip(phases, sizes)]


def counted(data, count):
    """A dataset of packed dictionaries that counts its real tokens in a variable."""

    @tf.autograph.experimental.do_not_convert
    def look(inputs, *labels):
        tokens = inputs["padding_mask"] if "padding_mask" in inputs else tf.ones_like(inputs["token_ids"])
        with tf.control_dependencies([count.assign_add(tf.cast(tf.math.count_nonzero(tokens), tf.int64))]):
            return (tf.nest.map_structure(tf.identity, inputs), *labels)

    return data.map(look, num_parallel_calls=1, deterministic=True)


class Throughput(keras.callbacks.Callback):
    """Puts `tokens_per_second` beside the figures of each epoch; validation does not count."""

    def __init__(self, count):
        super().__init__()
        self.count, self.since, self.seconds = count, None, None

    def on_epoch_begin(self, epoch, logs=None):
        self.count.assign(0)
        self.since, self.seconds = time.perf_counter(), None

    def on_test_begin(self, logs=None):
        if self.since is not None and self.seconds is None:
            self.seconds = time.perf_counter() - self.since

    def on_epoch_end(self, epoch, logs=None):
        seconds = self.seconds or time.perf_counter() - self.since
        logs["tokens_per_second"] = int(self.count) / seconds
