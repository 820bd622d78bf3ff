"""BERT's pretraining: masked language modelling and next-sentence prediction on one encoder (Devlin et al. 2018, section 3.1)."""

import keras
import numpy as np
import tensorflow as tf

from kbert.config import MobileBertConfig
from kbert.encoders.bert import BertEncoder
from kbert.encoders.layers import Projection
from kbert.encoders.mobilebert import MobileBertEncoder
from kbert.pretraining.masking import mask_tokens, with_draws
from kbert.pretraining.sentence_pairs import draw_pairs, pair_columns, tokenize_documents
from kbert.tasks.masked_lm import TokenHead, vectors_at
from kbert.tasks.task import Task
from kbert.training.batches import batches
from kbert.training.examples import rows_kept
from kbert.training.losses import LabelledCrossentropy
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

    def head_outputs(self, outputs, inputs, training=None):
        return {
            "mlm_logits": self.token_head(vectors_at(outputs["sequence_output"], inputs), self.encoder.embeddings.tokens),
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
        from kbert.checkpoints.presets import load_task

        def describe(task, missing):
            heads = {"token_head": "the masked-LM head", "next_sentence": "the next-sentence head"}
            return " and ".join(text for name, text in heads.items() if any(path.startswith(name) for path in missing))

        return load_task(cls, preset, describe, max_length=max_length, **kwargs)

    # Training

    def fit(
        self, x=None, y=None, batch_size=32, validation_split=0.0, validation_data=None, shuffle=True, objective="nsp",
        whole_words=False, mask_rate=0.15, **kwargs,
    ):  # fmt: skip
        """Trains on documents.

        >>> task.fit(read_documents(["corpus.txt"]), epochs=10)  # doctest: +SKIP

        Pairs of segments are drawn once (`kbert.pretraining.sentence_pairs`), masks anew in each epoch (`kbert.pretraining.masking`).

        Args:
          x: an iterable of documents, each a text whose lines are its sentences, or a list of sentences. With packed dictionaries or a
            dataset the masking is yours, and `y` the labels of both heads.
          validation_split: the share of the documents to hold out, at the end.
          validation_data: documents.
          objective: `"nsp"`, next-sentence prediction, or `"sop"`, sentence-order prediction in its place.
          whole_words: hide words with all of their pieces.
          mask_rate: the share of tokens to hide.
          **kwargs: the other arguments of a task's `fit`.

        Raises:
          ValueError: an empty corpus, or a single document with `"nsp"`, before any step is run.
        """
        if isinstance(x, (dict, tf.data.Dataset, type(None))):
            return super().fit(
                x, y, batch_size=batch_size, validation_split=validation_split, validation_data=validation_data, shuffle=shuffle,
                **kwargs,
            )  # fmt: skip
        if y is not None:
            raise ValueError("pretraining learns from the documents alone: fit(documents)")
        self._epochs.clear()
        documents = document_list(x)
        how = {"objective": objective, "whole_words": whole_words, "mask_rate": mask_rate}
        if validation_split and validation_data is None:
            first = rows_kept(len(documents), validation_split)
            documents, validation_data = documents[:first], documents[first:]
        if validation_data is not None:
            validation_data = self.batches(document_list(validation_data), batch_size, False, **how)
        return super().fit(
            self.batches(documents, batch_size, shuffle, **how),
            batch_size=batch_size,
            validation_data=validation_data,
            **kwargs,
        )

    def evaluate(self, x=None, y=None, batch_size=32, objective="nsp", whole_words=False, mask_rate=0.15, **kwargs):
        """Losses and accuracies of both heads on documents, or on packed dictionaries and labels; arguments as of `fit`."""
        if not isinstance(x, (dict, tf.data.Dataset, type(None))):
            x = self.batches(document_list(x), batch_size, False, objective, whole_words, mask_rate)
        return super().evaluate(x, y, batch_size=batch_size, **kwargs)

    def batches(self, documents, batch_size=32, shuffle=True, objective="nsp", whole_words=False, mask_rate=0.15):
        """Documents as a dataset of `(inputs, labels)`, as `fit` makes it: for a loop of your own, or to look at.

        Returns:
          A `tf.data.Dataset` of packed dictionaries with `mask_positions` `[B, M]`, and `{"mlm_logits": [B, M], "nsp_logits": [B]}`; without
          shuffling always the same.
        """
        self._is_raw(documents)  # says so where there is no preprocessor
        corpus = tokenize_documents(documents, self.tokenizer)
        random = np.random.default_rng(np.random.randint(2**31))  # follows keras.utils.set_random_seed
        pairs, labels = draw_pairs(corpus, self.preprocessor.max_length - 3, random, objective)
        if not len(pairs):
            raise ValueError("the documents hold no two sentences that could be a pair")
        epochs = self._epochs if shuffle else None
        columns, seed = pair_columns(corpus, pairs), int(random.integers(2**31))
        data = batches(columns, (labels,), self._pack, batch_size, shuffle, seed, epoch=epochs)

        @tf.autograph.experimental.do_not_convert
        def hide(batch, draw):
            packed, labels = batch
            inputs, hidden = mask_tokens(packed, self.tokenizer, mask_rate, draw, whole_words)
            return inputs, {"mlm_logits": hidden, "nsp_logits": labels}

        data = with_draws(data, int(random.integers(2**31)), shuffle, epochs)
        return data.map(hide, num_parallel_calls=2).prefetch(tf.data.AUTOTUNE)

    def default_loss(self):
        return {
            "mlm_logits": LabelledCrossentropy(),
            "nsp_logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        }

    def default_metrics(self):
        return {
            "mlm_logits": [LabelledAccuracy()],
            "nsp_logits": [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        }

    def preset_config(self):
        return {"tie_word_embeddings": True}


def document_list(documents):
    """An iterable of documents as a list; a bare text is a mistake."""
    if isinstance(documents, (str, bytes)):
        raise TypeError(
            "documents should be a list (or another iterable) of texts, got one text; read files with read_documents([path])"
        )
    documents = list(documents)
    wrong = next((n for n, one in enumerate(documents) if not isinstance(one, (str, list, tuple))), None)
    if wrong is not None:
        raise TypeError(f"documents[{wrong}] should be a text or a list of sentences, got {type(documents[wrong]).__name__}")
    return documents
