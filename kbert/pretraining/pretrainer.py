"""BERT's pretraining: masked language modelling and next-sentence prediction on one encoder (Devlin et al. 2018, section 3.1)."""

import keras
import tensorflow as tf

from kbert.config import MobileBertConfig
from kbert.encoders.bert import BertEncoder
from kbert.encoders.layers import Projection
from kbert.encoders.mobilebert import MobileBertEncoder
from kbert.tasks.masked_lm import TokenHead, vectors_at
from kbert.tasks.task import Task
from kbert.training.losses import LabelledCrossentropy


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

    def default_loss(self):
        return {
            "mlm_logits": LabelledCrossentropy(),
            "nsp_logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        }

    def default_metrics(self):
        return {}

    def preset_config(self):
        return {"tie_word_embeddings": True}
