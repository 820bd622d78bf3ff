"""A vector for each text; what is similar has similar vectors."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from kbert.encoders.layers import ACTIVATIONS, Projection
from kbert.tasks.exported_answers import ComparableAnswer, MediaPipeOutput
from kbert.tasks.task import Task
from kbert.text.texts import text_list
from kbert.training.losses import CosineSimilarityError, MultipleNegativesRanking

POOLINGS = ("mean", "cls", "max")
SCORES_AT_ONCE = 16_000_000  # similarities of queries and corpus held at a time in `search`


@keras.saving.register_keras_serializable("kbert")
class TextEmbedder(Task):
    """Turns texts into vectors, to compare and to search.

    >>> embedder = TextEmbedder.from_preset("all-minilm-l6-v2", max_length=32)
    >>> a, b, c = embedder.embed(["A cat sat.", "A cat was sitting.", "Shares fell."])
    >>> bool(a @ b > 0.8 > 0.2 > a @ c)
    True

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder`; its pooler, if it has one, is not used.
      preprocessor: a `TextPreprocessor`, or `None` for packed input.
      pooling: `"mean"` over a text's tokens, `"cls"` for the first one's vector, `"max"` over each coordinate.
      normalize: scale vectors to length 1, so that their product is the cosine.
      dense: layers behind the pooling, each a dictionary with `width` and `activation` (a name, or None), as sentence-transformers'
        Dense modules.

    Calling it with the packed dictionary gives vectors `[B, D]`, float32.
    """

    head, pools = "", False

    def __init__(self, encoder, preprocessor=None, pooling="mean", normalize=True, dense=(), **kwargs):
        super().__init__(encoder, preprocessor, **kwargs)
        if pooling not in POOLINGS:
            raise ValueError(f"pooling should be one of {', '.join(POOLINGS)}, got {pooling!r}")
        self.pooling, self.normalize, self.dense = pooling, bool(normalize), [dict(layer) for layer in dense]
        width, self.dense_layers = encoder.config.hidden_size, []
        for number, layer in enumerate(self.dense):
            projection = Projection(layer["width"], encoder.config.initializer_range, dtype="float32", name=f"dense_{number}")
            projection.build((None, width))
            self.dense_layers.append(projection)
            width = layer["width"]
        self.width = width
        self.built = True

    def encoder_options(self, inputs):
        return {"only_first": True} if self.pooling == "cls" else {}

    def head_outputs(self, outputs, inputs, training=None):
        if self.pooling == "cls":
            vectors = tf.cast(outputs["first_output"], tf.float32)
        else:
            vectors = pool(tf.cast(outputs["sequence_output"], tf.float32), inputs, self.pooling)  # [B, H]
        for layer, projection in zip(self.dense, self.dense_layers):
            vectors = projection(vectors)
            vectors = ACTIVATIONS[layer["activation"]](vectors) if layer["activation"] else vectors
        return unit_length(vectors) if self.normalize else vectors  # [B, D]

    @classmethod
    def from_preset(cls, preset, max_length=None, pooling=None, normalize=None, **kwargs):
        """An embedder on the encoder of a preset.

        A sentence-transformers folder says in its `modules.json` how it pools, which Dense layers follow and whether vectors have length
        1; without one it is the mean, normalized. Arguments that are given win; the others are those of
        `TextClassifier.from_preset`.
        """
        from kbert.checkpoints import sentence_transformers
        from kbert.checkpoints.opened import load_task, opened

        with opened(preset) as folder:
            modules = sentence_transformers.read_modules(folder)
            given = {"pooling": pooling, "normalize": normalize}
            options = {**modules.options, **{name: value for name, value in given.items() if value is not None}}
            if max_length is None and modules.max_length:
                max_length = modules.max_length if kwargs.get("preprocessor", "auto") == "auto" else None
            task = load_task(cls, preset, lambda task, missing: "", max_length=max_length, **options, **kwargs)
            sentence_transformers.load_dense(task, modules)
        return task

    # Training

    def _tokenize(self, texts, name="x", cut=True):
        """Each column's texts are embedded by themselves."""
        columns = [text_list(column, name) for column in (texts if isinstance(texts, tuple) else (texts,))]
        self._check_pairs(columns)
        ids = [self.tokenizer(column) for column in columns]
        for column in ids:
            room = self._say_truncated(np.diff(column.row_splits.numpy()), 1)
        return tuple(column[:, :room] if cut else column for column in ids)

    def _pack(self, *columns):
        """The columns of a batch one below the other."""
        return self._rounded(self.preprocessor.pack(tf.concat(columns, 0)))

    def _examples(self, x, y=None, sample_weight=None, class_weight=None):
        if not isinstance(x, tuple) or len(x) not in (2, 3):
            raise ValueError(
                "an embedder learns from pairs, fit((anchors, positives)), from triplets, fit((anchors, positives, negatives)), or "
                "from scored pairs, fit((texts, others), scores)"
            )
        if y is None:
            y = np.zeros(len(x[0]), np.float32)
        elif len(x) == 3:
            raise ValueError("triplets have no scores: leave y out")
        return super()._examples(x, y, sample_weight, class_weight)

    def encode_targets(self, y):
        """Scores of pairs to float32 `[B]`."""
        scores = np.asarray(y, np.float32)
        if scores.ndim != 1 or not np.isfinite(scores).all():
            raise ValueError("the scores of pairs should be one finite number each, such as the cosine that they should have")
        return scores

    def compile(self, optimizer="auto", loss="auto", **kwargs):
        """As of a task; the default loss is chosen by `fit`, which sees whether the pairs have scores."""
        super().compile(optimizer, loss, **kwargs)
        of_optimizer = ("learning_rate", "gradient_accumulation_steps")
        again = {name: value for name, value in kwargs.items() if name not in of_optimizer}
        self.__dict__["_compile_again"] = again if isinstance(loss, str) and loss == "auto" else None

    def fit(self, x=None, y=None, **kwargs):
        """Trains on pairs of texts that belong together, on triplets, or on pairs with scores.

        >>> embedder.fit((questions, answers))  # doctest: +SKIP
        >>> embedder.fit((anchors, positives, negatives))  # doctest: +SKIP
        >>> embedder.fit((texts, others), scores)  # doctest: +SKIP

        Without scores the loss is `MultipleNegativesRanking`: each anchor has to find its own positive among all those (and the
        negatives) of its batch, so that large batches teach more. With scores it is `CosineSimilarityError`: the cosine of a pair should
        be its score. The other arguments are those of a task's `fit`.
        """
        if not getattr(self, "compiled", False):
            self.compile()
        again, wanted = self.__dict__.get("_compile_again"), MultipleNegativesRanking if y is None else CosineSimilarityError
        if again is not None and not isinstance(self.loss, wanted):
            with self.distribute_strategy.scope():
                super().compile(self.optimizer, wanted(), **again)
        return super().fit(x, y, **kwargs)

    def default_loss(self):
        return MultipleNegativesRanking()

    def default_metrics(self):
        return []

    # Answers

    def embed(self, texts, batch_size=None, normalize=None, verbose="auto"):
        """The vectors of texts, float32 `[B, D]`, in the order given.

        Args:
          texts, batch_size, verbose: as of `predict`.
          normalize: scale to length 1; by default the embedder's own `normalize`.
        """
        vectors = self.predict(texts, batch_size=batch_size, verbose=verbose)
        if normalize and not self.normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
        elif normalize is False and self.normalize:
            raise ValueError("this embedder gives vectors of length 1: build it with normalize=False to have others")
        return vectors

    def similarity(self, texts, others):
        """The cosines of texts, or of vectors, with others: `[A, B]`."""
        return self._vectors(texts) @ self._vectors(others).T

    def search(self, queries, corpus, top_k=10):
        """The texts of a corpus that are most similar to each query, exactly, in blocks of bounded memory.

        Args:
          queries: texts, or their vectors `[Q, D]`.
          corpus: texts, or their vectors `[C, D]` from `embed`, which need not be computed again for each search.
          top_k: how many.

        Returns:
          A list for each query: `{"place": int, "score": float}` and, if the corpus is texts, `"text"`; the best first.
        """
        if not isinstance(top_k, int) or top_k < 1:
            raise ValueError(f"top_k should be a positive whole number, got {top_k!r}")
        texts = None if isinstance(corpus, np.ndarray) and corpus.dtype.kind == "f" else list(corpus)
        queries, corpus = self._vectors(queries), self._vectors(corpus)
        if queries.shape[1] != corpus.shape[1]:
            raise ValueError(f"queries have {queries.shape[1]} coordinates, the corpus {corpus.shape[1]}: embed both alike")
        top_k, block = min(top_k, len(corpus)), max(1, SCORES_AT_ONCE // max(1, len(corpus)))
        answers = []
        for start in range(0, len(queries), block):
            scores = queries[start : start + block] @ corpus.T
            best = np.argpartition(-scores, top_k - 1, axis=1)[:, :top_k] if top_k else np.zeros((len(scores), 0), int)
            for row, places in zip(scores, best):
                places = places[np.argsort(-row[places], kind="stable")]
                found = [{"place": int(place), "score": float(row[place])} for place in places]
                answers.append(found if texts is None else [{**one, "text": texts[one["place"]]} for one in found])
        return answers

    def _vectors(self, texts):
        """Vectors of length 1, of texts or of vectors."""
        if isinstance(texts, np.ndarray) and texts.dtype.kind == "f":
            vectors = texts
        else:
            vectors = self.embed(texts)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)

    def serve(self, text):
        """Texts `[B]` to `embedding`, `[B, D]`, in a graph."""
        return self.serve_tokens(self.preprocessor.call((text,)))

    def serve_tokens(self, packed):
        return {"embedding": self(packed, training=False)}

    # Export

    onnx_output = "sentence_embedding"

    @property
    def reads_one_window(self) -> bool:
        return True

    def expected_answers(self, columns: tuple[Sequence[str], ...]) -> list[ComparableAnswer]:
        return [ComparableAnswer((), vector) for vector in self.embed(columns[0], verbose=0)]

    def served_answers(self, outputs: Mapping[str, np.ndarray]) -> list[ComparableAnswer]:
        return [ComparableAnswer((), vector) for vector in outputs["embedding"]]

    def serving_apis(self) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
        return {"embed": self.serve}

    def mediapipe_output(self) -> MediaPipeOutput:
        return MediaPipeOutput("TextEmbedder", "embedding", "embedding", None)

    def preset_config(self):
        return {}

    def save_to_preset(self, folder, layout="huggingface"):
        """As of a task; in Hugging Face's layout with sentence-transformers' modules, so that `SentenceTransformer(folder)` opens it."""
        from kbert.checkpoints import sentence_transformers
        from kbert.checkpoints.opened import writer_of

        if layout != "huggingface":
            raise ValueError(f"an embedder's folder is Hugging Face's with modules.json, got layout {layout!r}")
        writer_of(layout)(folder, self.encoder, self.preprocessor)
        sentence_transformers.write_modules(pathlib.Path(folder), self)

    def get_config(self):
        return {
            **super().get_config(),
            "pooling": self.pooling,
            "normalize": self.normalize,
            "dense": json.loads(json.dumps(self.dense)),
        }


def unit_length(vectors):
    """Vectors scaled to length 1; one of zeros stays so."""
    return vectors * tf.math.rsqrt(tf.maximum(tf.reduce_sum(vectors * vectors, -1, keepdims=True), 1e-24))


def pool(vectors, inputs, pooling):
    """Tokens' vectors `[B, L, H]` to texts' vectors `[B, H]`, over what is not padding.

    Args:
      vectors: of each position.
      inputs: the packed dictionary, or texts in rows (`RowsView`).
      pooling: `"mean"` or `"max"`.
    """
    if "texts" in inputs:  # one row for each text, each with its own mask
        count = tf.shape(inputs["first"])[0]
        vectors = tf.reshape(vectors, [1, -1, vectors.shape[-1]])  # [1, N, H]
        mask = tf.equal(tf.reshape(tf.range(count), [-1, 1]), tf.reshape(inputs["texts"], [1, -1]))  # [T, N]
    elif inputs.get("padding_mask") is None:
        mask = tf.ones_like(inputs["token_ids"], tf.bool)
    else:
        mask = tf.not_equal(inputs["padding_mask"], 0)  # [B, L]
    if pooling == "max":
        beyond = tf.cast(~mask, vectors.dtype) * vectors.dtype.min  # where() on a broadcast mask is not an op of LiteRT
        return tf.reduce_max(vectors + tf.expand_dims(beyond, 2), axis=1)
    counted = tf.cast(mask, vectors.dtype)
    if "texts" in inputs:
        total = tf.matmul(counted, vectors[0])
    else:
        total = tf.matmul(counted[:, None], vectors)[:, 0]
    return total / tf.maximum(tf.reduce_sum(counted, 1, keepdims=True), 1.0)
