"""The BERT encoder (Devlin et al. 2018): ids to vectors."""

import contextlib
import dataclasses
import os
from typing import Any

import keras
import tensorflow as tf

from kbert.config import BertConfig
from kbert.encoders.layers import Embeddings, EncoderBlock, Projection
from kbert.encoders.real_tokens import PaddedView, RealTokensView, RowsView

INPUT_NAMES = ("token_ids", "segment_ids", "padding_mask")


@keras.saving.register_keras_serializable("kbert")
class BertEncoder(keras.Model):
    """Turns packed token ids into a vector for each token and one for each text.

    >>> encoder = BertEncoder(BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2))
    >>> ids = tf.constant([[2, 7, 3], [2, 3, 0]])
    >>> outputs = encoder({"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": tf.cast(ids > 0, tf.int32)})
    >>> outputs["sequence_output"].shape, outputs["pooled_output"].shape
    (TensorShape([2, 3, 8]), TensorShape([2, 8]))

    Args:
      config: a `BertConfig`, or a dictionary of its values.
      real_tokens: compute on the real tokens only (see `real_tokens.py`). Turn it off for XLA: then all shapes follow from
        those of the input.

    A call takes a dictionary of int32 `[B, L]`: `token_ids`, `segment_ids` (0 or 1) and `padding_mask` (1 on real tokens);
    the last two may be left out for single texts without padding. `L` is at most `max_position_embeddings`. It
    gives a dictionary with `sequence_output` `[B, L, H]` (zeros at padding when on real tokens only) and `pooled_output`
    `[B, H]`, which is `tanh(W x + b)` of the first token, where the configuration has a pooling layer, and `first_output` `[B, H]`, the
    first token's vector. With `only_first=True` it gives the latter two only, and the last block computes only them; with `only_at`, positions
    int32 `[B, M]`, also `output_at` `[B, M, H]`, the vectors there: all that a masked-LM head needs. With `output_hidden_states=True` it also holds
    `hidden_states`, a tuple of the embeddings and each block's output `[B, L, H]`, and with `output_attentions=True`
    `attentions`, a tuple of each block's weights `[B, heads, L, L]`, and likewise `attention_scores`, before the softmax and without the
    mask, and `attention_values` `[B, heads, L, d]`.
    """

    config_class, embeddings_class, block_class = BertConfig, Embeddings, EncoderBlock

    def __init__(self, config, real_tokens=True, **kwargs):
        super().__init__(**kwargs)
        self.config = self.config_class.from_dict(config) if isinstance(config, dict) else config
        if not isinstance(self.config, self.config_class):
            raise TypeError(f"{type(self).__name__} takes a {self.config_class.__name__}, got {type(config).__name__}")
        self.real_tokens = real_tokens
        policy = self.dtype_policy
        self.embeddings = self.embeddings_class(self.config, dtype=policy, name="embeddings")
        self.blocks = [
            self.block_class(self.config, dtype=policy, name=f"block_{number}")
            for number in range(self.config.num_hidden_layers)
        ]
        self.pooler = self.make_pooler()
        self.build()

    def make_pooler(self):
        """The layer of `pooled_output`, or None."""
        if not self.config.add_pooling_layer:
            return None
        width, initializer_range = self.config.hidden_size, self.config.initializer_range
        return Projection(width, initializer_range, dtype=self.dtype_policy, name="pooler")

    def pool(self, first):
        """The first token's rows `[B, H]` to `pooled_output`."""
        return tf.math.tanh(self.pooler(first))

    def build(self, input_shape=None):
        self.embeddings.build()
        for block in self.blocks:
            block.build()
        if self.pooler is not None:
            self.pooler.build((None, self.config.hidden_size))
        self.built = True

    @property
    def real_tokens(self):
        """Whether the dense layers run on the real tokens only."""
        return self._real_tokens

    @real_tokens.setter
    def real_tokens(self, value):
        self._real_tokens = bool(value)
        # Keras then leaves XLA off by default: the number of real tokens is a shape known only at run time.
        self.supports_jit = not value

    @contextlib.contextmanager
    def padded(self):
        """Inside, it computes on all positions, in shapes that are known beforehand: for what is traced for another engine."""
        real_tokens, self.real_tokens = self.real_tokens, False
        try:
            yield
        finally:
            self.real_tokens = real_tokens

    def call(self, inputs, training=None, output_hidden_states=False, output_attentions=False, only_first=False, only_at=None):
        inputs = complete_inputs(inputs, self.config)
        part = only_first or only_at is not None
        if part and (output_hidden_states or output_attentions):
            raise ValueError("only_first and only_at compute some tokens alone: they go without hidden states and attentions")
        view, chosen = self._view(inputs), None
        if part:
            chosen = view.choose(None if only_at is None else tf.pad(tf.cast(only_at, tf.int32), [[0, 0], [1, 0]]))
        rows = self.embeddings(inputs, view=view, training=training)  # [N, H]
        hidden_states, attentions = [rows], []
        for block in self.blocks:
            here = chosen if block is self.blocks[-1] else None
            rows, attention = block(rows, view=view, training=training, chosen=here)  # [N, H]
            hidden_states.append(rows)
            attentions.append(attention)
        outputs = {}
        if only_at is not None:
            rows = tf.reshape(rows, [-1, 1 + tf.shape(only_at)[1], rows.shape[-1]])  # [B, 1 + M, H]
            outputs["output_at"], rows = rows[:, 1:], rows[:, 0]
        first = outputs["first_output"] = rows if part else view.first(rows)  # [B, H]
        if not part:
            outputs["sequence_output"] = view.padded(rows)  # [B, L, H]
        if self.config.add_pooling_layer:
            outputs["pooled_output"] = self.pool(first)  # [B, H]
        if output_hidden_states:
            outputs["hidden_states"] = tuple(view.padded(rows) for rows in hidden_states)
        if output_attentions:
            outputs["attentions"] = tuple(attention.probabilities for attention in attentions)
            outputs["attention_scores"] = tuple(attention.scores for attention in attentions)
            outputs["attention_values"] = tuple(attention.values for attention in attentions)
        return outputs

    def _view(self, inputs):
        """How the rows stand in their texts."""
        if "texts" in inputs:
            return RowsView(inputs["texts"], inputs["positions"], inputs["first"])
        return (RealTokensView if self.real_tokens else PaddedView)(inputs["padding_mask"])

    @classmethod
    def from_preset(cls, preset: Any, add_pooling_layer: bool | None = None, **kwargs: Any) -> "BertEncoder":
        """Returns the encoder of a preset with its weights. A head in the checkpoint is left out.

        Args:
          preset: a built-in name (`kbert.presets()`), `hf://owner/name@revision`, a folder, or a live model of KerasHub.
          add_pooling_layer: False leaves the pooler out. By default it is there if the architecture has one.
          **kwargs: passed to the constructor, for example `dtype="mixed_bfloat16"`.

        Raises:
          FileNotFoundError: there is no such preset, or one of its files is missing.
          ValueError: the preset holds another kind of encoder, or a weight is missing, left over or of a wrong shape.
        """
        from kbert.encoders.from_preset import load_encoder

        return load_encoder(cls, preset, add_pooling_layer=add_pooling_layer, **kwargs)

    def save_to_preset(self, folder: str | os.PathLike[str], preprocessor: Any = None, layout: str = "huggingface") -> None:
        """Writes a folder with the encoder alone, which `from_preset` and transformers' AutoModel open.

        Args:
          folder: made if it is not there.
          preprocessor: a `TextPreprocessor` whose vocabulary is written too. None writes no vocabulary.
          layout: `"huggingface"` (config.json, vocab.txt, tokenizer_config.json, model.safetensors), `"google"`
            (bert_config.json, vocab.txt, bert_model.ckpt.*) or `"keras_hub"` (config.json, model.weights.h5).

        Raises:
          ValueError: the layout has no place for this architecture, or there is no such layout.
        """
        from kbert.checkpoints.opened import writer_of

        writer_of(layout)(folder, self, preprocessor)

    def to_keras_hub(self, preprocessor=None):
        """A live `keras_hub.models.BertBackbone` with the same weights.

        KerasHub's BERT computes the tanh GELU, published checkpoints the exact one: where that makes a difference, a warning
        says how large it is. MiniLM's vectors differ by up to 6e-3.

        Raises:
          ValueError: an architecture that KerasHub's BERT is not (DistilBERT, MobileBERT, another activation).
        """
        from kbert.checkpoints.keras_hub import to_keras_hub

        return to_keras_hub(self, preprocessor)

    def get_config(self):
        return {**super().get_config(), "config": dataclasses.asdict(self.config), "real_tokens": self.real_tokens}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def complete_inputs(inputs, config):
    """The three int32 tensors `[B, L]`, with single unpadded texts as the default of the last two."""
    if not isinstance(inputs, dict) or "token_ids" not in inputs:
        given = sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__
        raise ValueError(f"the encoder takes a dictionary with {', '.join(INPUT_NAMES)}, got {given}")
    if "texts" in inputs:  # texts in rows, as a frozen task has them
        return inputs
    token_ids = tf.cast(tf.convert_to_tensor(inputs["token_ids"]), tf.int32)
    if token_ids.shape.rank != 2:
        raise ValueError(f"token_ids should be [batch, length], got shape {token_ids.shape}")
    if token_ids.shape[1] is not None and token_ids.shape[1] > config.max_position_embeddings:
        raise ValueError(
            f"the inputs are {token_ids.shape[1]} positions long, the encoder has {config.max_position_embeddings}; "
            "truncate them (max_length) or cut them into windows"
        )
    segment_ids, mask = inputs.get("segment_ids"), inputs.get("padding_mask")
    return {
        "token_ids": token_ids,
        "segment_ids": tf.zeros_like(token_ids) if segment_ids is None else tf.cast(segment_ids, tf.int32),
        "padding_mask": tf.ones_like(token_ids) if mask is None else tf.cast(mask, tf.int32),
    }
