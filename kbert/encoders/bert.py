"""The BERT encoder (Devlin et al. 2018): ids to vectors."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import keras
import tensorflow as tf

from kbert.arguments import yes_or_no
from kbert.config import BertConfig, MobileBertConfig
from kbert.encoders.layers import Embeddings, EncoderBlock, Projection
from kbert.encoders.real_tokens import FirstTokens, PaddedView, RealTokensView, RowsView, View, are_all_positions_asked
from kbert.training.trainable_flags import set_trainable, trainable_flags
from kbert.training.whole_files import WholeFiles

INPUT_NAMES = ("token_ids", "segment_ids", "padding_mask")


@keras.saving.register_keras_serializable("kbert")
class BertEncoder(WholeFiles):
    """Turns packed token ids into a vector for each token and one for each text.

    >>> encoder = BertEncoder(BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2))
    >>> ids = tf.constant([[2, 7, 3], [2, 3, 0]])
    >>> outputs = encoder({"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": tf.cast(ids > 0, tf.int32)})
    >>> outputs["sequence_output"].shape, outputs["pooled_output"].shape
    (TensorShape([2, 3, 8]), TensorShape([2, 8]))

    Args:
      config: a `BertConfig`, or a dictionary of its values.
      real_tokens: whether the dense layers compute the real tokens only (see `real_tokens.py`). Turn it off for XLA: then all
        shapes follow from those of the input.
      **kwargs: passed to `keras.Model`, for example `dtype="mixed_bfloat16"`.

    `call` describes the inputs and the outputs.

    Raises:
      TypeError: if `config` is neither a `BertConfig` nor a dictionary.
    """

    config_class: type[BertConfig] | type[MobileBertConfig] = BertConfig
    embeddings_class: type[keras.layers.Layer] = Embeddings
    block_class: type[keras.layers.Layer] = EncoderBlock
    reads_next_token = False  # whether the embedding of a token depends on the token after it, also if that is [PAD]

    def __init__(self, config: BertConfig | dict[str, Any], real_tokens: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config: Any = self.config_class.from_dict(config) if isinstance(config, dict) else config
        if not isinstance(self.config, self.config_class):
            raise TypeError(
                f"config should be a {self.config_class.__name__} for a {type(self).__name__}, got {type(config).__name__}"
            )
        yes_or_no(real_tokens=real_tokens)
        self.real_tokens = bool(real_tokens)
        policy = self.dtype_policy
        self.embeddings = self.embeddings_class(self.config, dtype=policy, name="embeddings")
        self.blocks = [
            self.block_class(self.config, dtype=policy, name=f"block_{number}")
            for number in range(self.config.num_hidden_layers)
        ]
        self.pooler: Any = self.make_pooler()
        self.build()

    def make_pooler(self) -> Projection | None:
        """Returns a new layer for `pooled_output`, or None if the configuration has no such layer."""
        if not self.config.add_pooling_layer:
            return None
        width, initializer_range = self.config.hidden_size, self.config.initializer_range
        return Projection(width, initializer_range, dtype=self.dtype_policy, name="pooler")

    def pool(self, first: tf.Tensor) -> tf.Tensor:
        """Returns `pooled_output` `[B, H]`, which is `tanh(W x + b)` of the first tokens' rows `[B, H]`."""
        return tf.math.tanh(self.pooler(first))

    def build(self, input_shape: Any = None) -> None:
        self.embeddings.build()
        for block in self.blocks:
            block.build()
        if self.pooler is not None:
            self.pooler.build((None, self.config.hidden_size))
        self.built = True

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile a call.

        The number of real tokens is a shape that is known at run time only, so Keras has to leave XLA off by default.
        """
        return are_all_positions_asked() or not self.real_tokens

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        """Does nothing: Keras sets this on every layer."""

    def call(
        self,
        inputs: dict[str, tf.Tensor],
        training: bool | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        only_first: bool = False,
        only_at: tf.Tensor | None = None,
        real_tokens: bool | None = None,
    ) -> dict[str, Any]:
        """Computes the vectors of packed texts.

        Args:
          inputs: a dictionary of int32 `[B, L]`: `token_ids`, `segment_ids` (0 or 1) and `padding_mask` (1 on real tokens). The
            last two may be left out for single texts without padding. `L` is at most `max_position_embeddings`.
          training: whether dropout acts.
          output_hidden_states: whether the vectors of every block are returned too.
          output_attentions: whether the attention of every block is returned too.
          only_first: whether the first token of each text is the only one whose vector is returned. The last block then
            computes no other token.
          only_at: the positions of the tokens, int32 `[B, M]`, whose vectors are returned beside the first one's. The last
            block then computes no other tokens. A masked-LM head needs no more than those.
          real_tokens: whether the dense layers of this call compute the real tokens only. By default the encoder's argument of
            that name decides.

        Returns:
          A dictionary:

          * `sequence_output`, `[B, L, H]`, unless `only_first` or `only_at` is given. It is 0 at padding behind a text if
            `real_tokens` is true.
          * `first_output`, `[B, H]`: the vector of the first token.
          * `pooled_output`, `[B, H]`, if the configuration has a pooling layer: `tanh(W x + b)` of `first_output`.
          * `output_at`, `[B, M, H]`, with `only_at`: the vectors at those positions.
          * `hidden_states`, with `output_hidden_states`: a tuple of the embeddings and each block's output, each `[B, L, H]`.
          * `attentions`, `attention_scores` and `attention_values`, with `output_attentions`: tuples with an entry for each
            block. They are the weights `[B, heads, L, L]`, the scores before the softmax and without the mask `[B, heads, L,
            L]`, and the values `[B, heads, L, d]`, where `d` is the width of a head.

        Raises:
          ValueError: if `inputs` is not such a dictionary, the texts are too long, or `only_first` or `only_at` is given
            together with hidden states or attentions.
        """
        inputs = complete_inputs(inputs, self.config)
        only_some = only_first or only_at is not None
        if only_some and (output_hidden_states or output_attentions):
            raise ValueError("only_first and only_at compute some tokens alone: they go without hidden states and attentions")
        view = self._view(inputs, self.real_tokens if real_tokens is None else real_tokens)
        chosen = _chosen(view, only_at) if only_some else None

        rows = self.embeddings(inputs, view=view, training=training)  # [N, H]
        hidden_states, attentions = [rows], []
        for block in self.blocks:
            chosen_here = chosen if block is self.blocks[-1] else None
            rows, attention = block(rows, view=view, training=training, chosen=chosen_here)  # [N, H]
            hidden_states.append(rows)
            attentions.append(attention)

        outputs: dict[str, Any] = {}
        if only_at is not None:
            rows = tf.reshape(rows, [-1, 1 + tf.shape(only_at)[1], rows.shape[-1]])  # [B, 1 + M, H]
            outputs["output_at"], rows = rows[:, 1:], rows[:, 0]  # [B, M, H], [B, H]
        first = outputs["first_output"] = rows if only_some else view.first(rows)  # [B, H]
        if not only_some:
            outputs["sequence_output"] = view.padded(rows)  # [B, L, H]
        if self.config.add_pooling_layer:
            outputs["pooled_output"] = self.pool(first)  # [B, H]
        if output_hidden_states:
            outputs["hidden_states"] = tuple(view.padded(rows) for rows in hidden_states)  # each [B, L, H]
        if output_attentions:
            outputs["attentions"] = tuple(attention.probabilities for attention in attentions)  # each [B, heads, L, L]
            outputs["attention_scores"] = tuple(attention.scores for attention in attentions)  # each [B, heads, L, L]
            outputs["attention_values"] = tuple(attention.values for attention in attentions)  # each [B, heads, L, d]
        return outputs

    def _view(self, inputs: dict[str, tf.Tensor], real_tokens: bool) -> View:
        """Returns how the rows stand in their texts."""
        if "texts" in inputs:
            return RowsView(inputs["texts"], inputs["positions"], inputs["first"])
        return (RealTokensView if real_tokens and not are_all_positions_asked() else PaddedView)(inputs["padding_mask"])

    @classmethod
    def from_preset(cls, preset: Any, add_pooling_layer: bool | None = None, **kwargs: Any) -> BertEncoder:
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

    def to_keras_hub(self, preprocessor: Any = None) -> Any:
        """Returns a live `keras_hub.models.BertBackbone` with the same weights.

        KerasHub's BERT computes GELU by tanh, and published checkpoints were trained with the exact one. If that changes the
        vectors,
        a warning says by how much: MiniLM's differ by up to 6e-3.

        Args:
          preprocessor: not used, because a backbone takes packed ids.

        Raises:
          ValueError: if KerasHub's BERT cannot compute the architecture (DistilBERT, MobileBERT, or another activation).
        """
        from kbert.checkpoints.keras_hub import to_keras_hub

        return to_keras_hub(self, preprocessor)

    def get_config(self) -> dict[str, Any]:
        own = {"config": dataclasses.asdict(self.config), "real_tokens": self.real_tokens}
        flags = trainable_flags(self)
        return {**super().get_config(), **own, **({"trainable_flags": flags} if flags else {})}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BertEncoder:
        config = dict(config)
        # Keras's `trainable` says nothing of the layers inside the encoder.
        flags = {"": config.pop("trainable", True), **config.pop("trainable_flags", {})}
        encoder = cls(**config)
        set_trainable(encoder, flags)
        return encoder


def _chosen(view: View, only_at: tf.Tensor | None) -> FirstTokens:
    """Returns the first token of each text and, if there are positions int32 `[B, M]`, the tokens at those."""
    if only_at is None:
        return view.choose()
    return view.choose(tf.pad(tf.cast(only_at, tf.int32), [[0, 0], [1, 0]]))  # [B, 1 + M]


def as_int32(ids: tf.Tensor) -> tf.Tensor:
    """Returns ids as int32. An id beyond int32 becomes the largest int32, which has no vector; a cast would wrap it around."""
    ids = tf.convert_to_tensor(ids)
    return ids if ids.dtype == tf.int32 else tf.saturate_cast(ids, tf.int32)  # LiteRT lacks its op ClipByValue


def complete_inputs(inputs: dict[str, tf.Tensor], config: BertConfig | MobileBertConfig) -> dict[str, tf.Tensor]:
    """Checks packed inputs and fills in the tensors that were left out.

    Args:
      inputs: `token_ids` and, if texts are in pairs or padded, `segment_ids` and `padding_mask`, all `[B, L]`. A frozen task
        passes texts in rows instead: `texts`, `positions` and `first`, as `RowsView` takes them.
      config: the encoder's configuration.

    Returns:
      The three int32 tensors `[B, L]`, or the texts in rows as they are.

    Raises:
      ValueError: if there are no `token_ids`, or they are not `[B, L]` with `L` at most `max_position_embeddings`.
    """
    if not isinstance(inputs, dict) or "token_ids" not in inputs:
        given = sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__
        raise ValueError(f"the encoder takes a dictionary with {', '.join(INPUT_NAMES)}, got {given}")
    if "texts" in inputs:
        return inputs
    token_ids = as_int32(inputs["token_ids"])
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
        "segment_ids": tf.zeros_like(token_ids) if segment_ids is None else as_int32(segment_ids),
        "padding_mask": tf.ones_like(token_ids) if mask is None else tf.cast(mask, tf.int32),
    }
