"""Words in the place of [MASK]."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.arguments import number, whole_number
from kbert.config import ACTIVATIONS
from kbert.scoring.figures import Figures
from kbert.tasks.columns import TEXT, Chunk
from kbert.tasks.exported_answers import ComparableAnswer, rows_with_count, values_by_text
from kbert.tasks.from_preset import load_task
from kbert.tasks.inputs import texts_in_list
from kbert.tasks.on_logits import Logits
from kbert.tasks.one_window import masks_of_window
from kbert.tasks.prediction import softmax
from kbert.tasks.probes import PROBES
from kbert.tasks.token_head import TokenHead, only_at_masks, vectors_at_masks
from kbert.tasks.token_probabilities import TokenProbabilities
from kbert.text.packing import TextPreprocessor
from kbert.text.texts import text_list
from kbert.text.tokenizer import WordPieceTokenizer
from kbert.training import keras_internals
from kbert.training.examples import Examples
from kbert.training.losses import NO_LABEL, LabelledCrossentropy
from kbert.training.masking import mask_tokens, with_draws
from kbert.training.metrics import LabelledAccuracy
from kbert.training.soft_targets import soft_targets


@keras.saving.register_keras_serializable("kbert")
class MaskedLM(TokenProbabilities):
    """A task that predicts the tokens of positions, most of all those of [MASK].

    `fit(texts)` trains on plain texts: further pretraining on texts of one's own trade. In every epoch other tokens are hidden
    (`kbert.training.masking`). `fill(texts)` answers.

    >>> encoder = kbert.BertEncoder(kbert.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    >>> task = MaskedLM(encoder)
    >>> task({"token_ids": tf.constant([[2, 4, 3]])}).shape
    TensorShape([1, 3, 20])
    >>> task({"token_ids": tf.constant([[2, 4, 3]]), "mask_positions": tf.constant([[1]])}).shape
    TensorShape([1, 1, 20])

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder`, whose embedding is the output table too.
      preprocessor: a `TextPreprocessor`, or None for packed input.
      head_act: the head's activation; by default the encoder's. A KerasHub preset has its own.
      head_layer_norm_eps: the epsilon of the head's layer norm; by default the encoder's.
      **kwargs: `name`, and `dtype`, a Keras dtype policy.

    Calling the task with the packed dictionary gives logits `[B, L, V]`. With `mask_positions` `[B, M]` in it the logits are
    `[B, M, V]`, and only those are computed. A label of -100 counts for nothing in the loss.
    """

    head, pools, positional = "MaskedLM", False, True

    def __init__(
        self,
        encoder: Any,
        preprocessor: TextPreprocessor | None = None,
        head_act: str | None = None,
        head_layer_norm_eps: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, preprocessor, **kwargs)
        if head_layer_norm_eps is not None:
            number("head_layer_norm_eps", head_layer_norm_eps, above=0)
        if head_act is not None and head_act not in ACTIVATIONS:
            raise ValueError(f"head_act should be one of {', '.join(ACTIVATIONS)}, got {head_act!r}")
        self.head_act = head_act or encoder.config.hidden_act
        self.head_layer_norm_eps = head_layer_norm_eps or encoder.config.layer_norm_eps
        self.token_head = TokenHead(
            encoder.config,
            self.head_act,
            self.head_layer_norm_eps,
            tokens=self.token_count,
            dtype=self.dtype_policy,
            name="token_head",
        )
        self.token_head.build()
        self.built = True

    def encoder_options(self, inputs: dict[str, tf.Tensor]) -> dict[str, Any]:
        return only_at_masks(inputs)

    def head_outputs(
        self, outputs: dict[str, tf.Tensor], inputs: dict[str, tf.Tensor], training: bool | None = None
    ) -> tf.Tensor:
        return self.token_head(vectors_at_masks(outputs, inputs), self.encoder.embeddings.tokens)

    @classmethod
    def from_preset(cls, preset: Any, max_length: int | None = None, **kwargs: Any) -> MaskedLM:
        """Returns a masked LM on the encoder of a checkpoint, with its masked-LM head if it has one.

        >>> task = MaskedLM.from_preset("bert-base-uncased")  # doctest: +SKIP

        Args:
          preset: a built-in name (`kbert.presets()`), `hf://owner/name[@revision]`, a folder, or a live KerasHub model.
          max_length: the most positions of a text; the checkpoint's most (512) by default. A shorter one is faster.
          **kwargs: `dtype`, a Keras dtype policy; `preprocessor`, a `TextPreprocessor` in place of the checkpoint's, or None
            for packed input; `vocabulary`, the path of a vocab.txt or a list of tokens where the preset has none;
            `head_act` and `head_layer_norm_eps`, as in the constructor.

        Raises:
          FileNotFoundError: there is no such checkpoint, or its files are not complete.
          ValueError: a weight is missing, left over or of another shape.
        """
        stated = {key: operator.methodcaller("get", key) for key in ("head_act", "head_layer_norm_eps")}
        return load_task(cls, preset, lambda task, missing: "the masked-LM head", max_length=max_length, **{**stated, **kwargs})

    # Training

    columns = training_columns = (TEXT,)
    targets = "none"
    fit_call = "fit(texts)"

    def encode(self, chunk: Chunk, class_weight: dict | None = None) -> Examples:
        """Returns the tokenized rows of a chunk; `batches_of` makes their targets, the tokens that it hides."""
        if not chunk.rows:
            raise ValueError("there are no texts to train on")
        if class_weight is not None:
            self.encode_class_weight(class_weight)  # refuses
        weights = None if chunk.weights is None else chunk.weights[:, None]  # [B, 1], for labels [B, M]
        return Examples(self.read(chunk.columns), np.zeros(chunk.rows, np.int32), weights)

    def batches_of(
        self,
        examples: Examples,
        batch_size: int,
        shuffle: bool,
        max_tokens: int | None = None,
        epochs: list | None = None,
        seed: int | None = None,
    ) -> tf.data.Dataset:
        """Returns examples as a dataset of packed batches with some tokens hidden, other ones in each epoch.

        Without shuffling the same tokens are hidden in each epoch; see `kbert.training.masking`.

        Args:
          examples: tokenized rows.
          batch_size: the rows of a batch.
          shuffle: makes a new order and new masks in each epoch.
          max_tokens: the most pieces of a batch, in place of `batch_size`.
          epochs: a list that gets the variables which count the epochs.
          seed: the seed of the order and the masks; by default one that follows `keras.utils.set_random_seed`.
        """
        epochs = epochs if shuffle else None
        data = super().batches_of(examples, batch_size, shuffle, max_tokens, epochs, seed)

        @tf.autograph.experimental.do_not_convert
        def hide(batch: tuple, draw: tf.Tensor) -> tuple:
            return (*mask_tokens(batch[0], self.tokenizer, seed=draw), *batch[2:])

        if seed is None:
            seed = int(np.random.randint(2**31))  # follows keras.utils.set_random_seed
        return with_draws(data, seed, shuffle, epochs).map(hide, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    # Figures

    job = "fill-mask"
    pipeline_tag = "fill-mask"

    def figures(self, x: Any, y: None = None) -> Figures:
        """Returns the loss on texts with some tokens hidden, and its exponential, the perplexity.

        Keras's random seed is set to 0 first, so that the same tokens are hidden each time.

        Args:
          x: texts.
          y: None; a masked LM learns from the texts alone.
        """
        keras.utils.set_random_seed(0)
        loss = self.evaluate(x, return_dict=True, verbose=0)["loss"]
        return Figures({"loss": loss, "perplexity": math.exp(loss)})

    # Answers

    def fill(self, texts: Any, top_k: int = 5, candidates: Sequence[str] | None = None) -> list:
        """Returns the likeliest tokens in the place of each [MASK].

        >>> task.fill("Paris is the [MASK] of France.", top_k=2)  # doctest: +SKIP
        [{'token': 'capital', 'id': 3007, 'score': 0.99}, {'token': 'heart', 'id': 2540, 'score': 0.01}]

        Args:
          texts: a text or a list of texts, each with one or more mask tokens (`tokenizer.mask_token`).
          top_k: how many tokens for each mask.
          candidates: words to choose among, in place of the whole vocabulary, for texts with one mask. A word of several pieces
            stands in the place of as many masks.

        Returns:
          For one text a list of `{"token": str, "id": int, "score": float}`, the likeliest first, and a list of such lists
          where it has several masks; for a list of texts a list of those. With candidates `score` is the share of the
          candidates' probabilities. `log_likelihood` is the logarithm of the probability before that, summed over the pieces.

        Raises:
          TypeError: something is no text, or the task has no preprocessor.
          ValueError: a text has no mask, or is too long for `max_length`.
        """
        single = isinstance(texts, (str, bytes))
        column = text_list(texts if single else texts_in_list(texts))
        top_k = whole_number("top_k", top_k, most=self.tokenizer.vocabulary_size)
        rows = self._rows_with_masks(column)
        mask = self.tokenizer.mask_token_id
        if candidates is not None:
            chosen = [self._choose(row, place, candidates) for place, row in enumerate(rows)]
            return chosen[0] if single else chosen
        where = [np.flatnonzero(row == mask) for row in rows]
        answers: list[list] = []
        for logs in self.log_probabilities(rows, where):
            best = np.argsort(-logs, axis=-1, kind="stable")[:, :top_k]
            likeliest = [
                [{"token": self.tokenizer.id_to_token(n), "id": int(n), "score": float(np.exp(row[n]))} for n in ids]
                for row, ids in zip(logs, best)
            ]
            answers.append(likeliest[0] if len(likeliest) == 1 else likeliest)
        return answers[0] if single else answers

    def pseudo_perplexity(self, texts: Any) -> np.ndarray:
        """Returns how badly the model foresees each text (Salazar et al. 2020, section 2.3).

        That is `exp` of the mean of `-log p(token | all others)`. Each token is masked once, so that a text costs as many
        rows as it has tokens.

        Args:
          texts: a list of texts.

        Returns:
          Float array `[B]`; NaN for a text without tokens.
        """
        mask, answers = self.tokenizer.mask_token_id, []
        for ids in self.read((text_list(texts_in_list(texts)),))[0]:
            ids = self._with_ends(ids.numpy())
            rows, where = [], []
            for place in range(1, len(ids) - 1):
                row = ids.copy()
                row[place] = mask
                rows.append(row)
                where.append(np.array([place]))
            logs = [log[0, ids[place[0]]] for log, place in zip(self.log_probabilities(rows, where), where)]
            answers.append(np.exp(-np.mean(logs)) if logs else np.nan)
        return np.array(answers)

    @property
    def _recognizing(self) -> WordPieceTokenizer:
        """The tokenizer, with typed special tokens as tokens."""

        def make() -> WordPieceTokenizer:
            return WordPieceTokenizer.from_config({**self.tokenizer.get_config(), "recognize_special_tokens": True})

        return keras_internals.hidden(self, "_recognizing_tokenizer", make)

    def serve(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the five likeliest tokens of each mask, in ops of a graph.

        Args:
          text: strings `[B]`. A mask beyond `max_length` is cut off.

        Returns:
          `count` int32 `[B]`, how many masks each text has, and, with `M` the most of them, `tokens` string, `ids` int32 and
          `scores` float32, each `[B, M, 5]`, the likeliest first. Behind a text's last mask the strings are empty, `ids` -1
          and `scores` 0.
        """
        packed = self.preprocessor.pack(self._recognizing.call(text))
        vectors = self.encode_tokens(packed, training=False)["sequence_output"]
        masks = tf.where(tf.equal(packed["token_ids"], self.tokenizer.mask_token_id))  # [masks of all texts, 2]
        logits = self.token_head(tf.gather_nd(vectors, masks)[None], self.encoder.embeddings.tokens)[0]
        best = tf.math.top_k(tf.nn.softmax(logits), 5)
        tokens = tf.gather(tf.constant(self.tokenizer.vocabulary), best.indices)
        columns = {"tokens": (tokens, ""), "ids": (best.indices, -1), "scores": (best.values, 0.0)}
        return rows_with_count(tf.cast(masks[:, 0], tf.int32), tf.size(text), columns)

    # Export

    def probes(self, pairs: bool | None = None) -> tuple[list[str], ...]:
        """Returns the built-in texts with masks before them, as far as they fit: `fill` refuses a text that does not."""
        mask = self.tokenizer.mask_token
        texts = [f"{mask} {text}" for text in PROBES] + [f"two {mask} and {mask} of them"]
        pieces = self._recognizing(texts).row_lengths().numpy()
        return ([text for text, count in zip(texts, pieces) if count + 2 <= self.preprocessor.max_length],)

    def expected_answers(self, columns: tuple[Sequence[str], ...]) -> list[ComparableAnswer]:
        answers = [answer if isinstance(answer[0], list) else [answer] for answer in self.fill(columns[0])]
        return [
            ComparableAnswer(
                (),
                np.array([[token["score"] for token in mask] for mask in answer]),
                tuple(enumerate(mask[0]["id"] for mask in answer)),
            )
            for answer in answers
        ]

    def served_answers(self, outputs: Mapping[str, np.ndarray]) -> list[ComparableAnswer]:
        scores, ids = (values_by_text(outputs, name, axes=2) for name in ("scores", "ids"))
        return [ComparableAnswer((), near, tuple(enumerate(best[:, 0].tolist()))) for near, best in zip(scores, ids)]

    def window_answer(self, preprocessor: TextPreprocessor) -> Callable[..., dict[str, tf.Tensor]]:
        return functools.partial(masks_of_window, self, preprocessor)

    def check_static_ranges(self) -> None:
        raise ValueError('a MaskedLM multiplies by its whole vocabulary, which has no fixed ranges: use quantize="int8"')

    # Rows with masks

    def _with_ends(self, ids: np.ndarray) -> np.ndarray:
        """Returns pieces with [CLS] and [SEP] at the ends, int32."""
        return np.concatenate([[self.tokenizer.cls_token_id], ids, [self.tokenizer.sep_token_id]]).astype(np.int32)

    def _rows_with_masks(self, texts: list[bytes]) -> list[np.ndarray]:
        """Returns texts as ids with [CLS] and [SEP], in which typed special tokens are tokens."""
        if self.preprocessor is None:
            raise TypeError("this task was built with preprocessor=None; build it with a TextPreprocessor to fill texts")
        rows = [self._with_ends(ids.numpy()) for ids in self._recognizing(texts)]
        for place, row in enumerate(rows):
            if not (row == self.tokenizer.mask_token_id).any():
                raise ValueError(
                    f"texts[{place}] has no {self.tokenizer.mask_token}: {texts[place].decode('utf-8')!r:.80}; write it "
                    "where a word is to be found"
                )
            if len(row) > self.preprocessor.max_length:
                raise ValueError(
                    f"texts[{place}] has {len(row)} tokens with [CLS] and [SEP], more than max_length "
                    f"{self.preprocessor.max_length}; shorten it, for the mask might be cut off"
                )
        return rows

    def _choose(self, row: np.ndarray, place: int, candidates: Sequence[str]) -> list[dict]:
        """Returns candidates for the one mask of a row, the likeliest first.

        Args:
          row: ids with [CLS] and [SEP].
          place: the number of the text, for an error.
          candidates: the words to choose among.
        """
        (masks,) = np.nonzero(row == self.tokenizer.mask_token_id)
        if len(masks) != 1:
            raise ValueError(f"candidates are for texts with one mask, texts[{place}] has {len(masks)}")
        words = list(candidates)
        pieces = [ids.numpy() for ids in self.tokenizer(words)] if words else []
        if not words or not all(map(len, pieces)):
            raise ValueError(f"candidates should be words, got {words}")
        rows, where = [], []
        for ids in pieces:
            hidden: np.ndarray = np.full(len(ids), self.tokenizer.mask_token_id, np.int32)
            rows.append(np.concatenate([row[: masks[0]], hidden, row[masks[0] + 1 :]]))
            where.append(masks[0] + np.arange(len(ids)))
        logs = self.log_probabilities(rows, where)
        sums = np.array([log[np.arange(len(ids)), ids].sum() for log, ids in zip(logs, pieces)])
        shares = softmax(sums)
        return [
            {"token": words[n], "score": float(shares[n]), "log_likelihood": float(sums[n])}
            for n in np.argsort(-sums, kind="stable")
        ]

    @property
    def logits(self) -> Logits | None:
        return Logits()

    def default_loss(self) -> keras.losses.Loss:
        return LabelledCrossentropy()

    def default_metrics(self) -> list[keras.metrics.Metric]:
        return [LabelledAccuracy()]

    # Distillation

    hard_targets = "drawn"  # the hidden tokens

    def soft_loss(
        self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor, temperature: float, mask: tf.Tensor, targets: tf.Tensor
    ) -> tf.Tensor:
        return soft_targets(teacher_outputs, student_outputs, temperature, tf.not_equal(targets, NO_LABEL))

    def hard_loss(self, outputs: tf.Tensor, targets: tf.Tensor, labelled: tf.Tensor) -> tf.Tensor:
        return self.default_loss()(targets, outputs)  # a mean over the hidden tokens

    def preset_config(self) -> dict[str, Any]:
        """Returns the head's keys of config.json; those of a head unlike its encoder are read here, but not by transformers."""
        return {"tie_word_embeddings": True, **self._own_head()}

    def _own_head(self) -> dict[str, Any]:
        config = self.encoder.config
        if (self.head_act, self.head_layer_norm_eps) == (config.hidden_act, config.layer_norm_eps):
            return {}
        return {"head_act": self.head_act, "head_layer_norm_eps": self.head_layer_norm_eps}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._own_head()}
