"""A vector for each text; what is similar has similar vectors."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.arguments import whole_number, yes_or_no
from kbert.checkpoints import sentence_transformers
from kbert.checkpoints.opened import open_preset, writer_of
from kbert.encoders.layers import ACTIVATIONS, Projection
from kbert.scoring.correlation import pearson, spearman
from kbert.scoring.figures import Figures, figures_of_search
from kbert.tasks.columns import TEXT, Chunk, Columns
from kbert.tasks.compiling import is_auto
from kbert.tasks.encoding import Encoding
from kbert.tasks.exported_answers import ComparableAnswer, MediaPipeOutput
from kbert.tasks.from_preset import load_task
from kbert.tasks.inputs import is_packed, texts_in_list
from kbert.tasks.on_logits import own_of_keras
from kbert.tasks.pooling import POOLINGS, pool, unit_length
from kbert.tasks.prompts import Prompted, checked_prompts, prompt_named
from kbert.tasks.targets import finite_numbers
from kbert.tasks.task import Task
from kbert.tasks.vectors import SIMILARITIES, nearest, of_unit_length, similarities, vectors_in
from kbert.text.packing import TextPreprocessor
from kbert.training import keras_internals
from kbert.training.examples import Examples
from kbert.training.losses import CosineSimilarityError, MultipleNegativesRanking


@keras.saving.register_keras_serializable("kbert")
class TextEmbedder(Prompted, Task):
    """A task that turns texts into vectors, to compare and to search.

    >>> embedder = TextEmbedder.from_preset("all-minilm-l6-v2", max_length=32)
    >>> a, b, c = embedder.embed(["A cat sat.", "A cat was sitting.", "Shares fell."])
    >>> bool(a @ b > 0.8 > 0.2 > a @ c)
    True

    `fit` trains on pairs of texts that belong together, `fit((anchors, positives))`, on triplets, `fit((anchors, positives,
    negatives))`, or on pairs with scores, `fit((texts, others), scores)`. Without scores the loss is
    `MultipleNegativesRanking`: each anchor has to find its own positive among all those (and the negatives) of its batch, so
    that large batches teach more. With scores it is `CosineSimilarityError`: the cosine of a pair should be its score.

    Args:
      encoder: a `BertEncoder` or `MobileBertEncoder`; its pooler, if it has one, is not used.
      preprocessor: a `TextPreprocessor`, or None for packed input.
      pooling: `"mean"` over a text's tokens, `"cls"` for the first one's vector, `"max"` over each coordinate, or
        `"mean_sqrt_len"`, the sum over the tokens by the root of their number.
      normalize: scales vectors to length 1, so that their product is the cosine.
      dense: layers behind the pooling, as sentence-transformers' Dense modules. Each is a dictionary with `width` and
        `activation` (a name, or None).
      prompts: texts before each text, by name, such as `{"query": "query: ", "passage": "passage: "}`.
      default_prompt_name: the one of the prompts that stands before every text where `embed` is asked for no other: in
        training, in answers, and in exported and frozen tasks. None stands for the preprocessor's own prompt, or none.
      include_prompt: whether the tokens of the prompt count in the pooling. If not, [CLS] does not count either.
      similarity: what `similarity` and `search` compute: `"cosine"`, `"dot"`, or `"euclidean"` or `"manhattan"`, distances with
        a minus sign.
      **kwargs: `name`, and `dtype`, a Keras dtype policy.

    Calling the task with the packed dictionary gives vectors `[B, D]`, float32.
    """

    head, pools = "", False

    def __init__(
        self,
        encoder: Any,
        preprocessor: TextPreprocessor | None = None,
        pooling: str = "mean",
        normalize: bool = True,
        dense: Sequence[dict[str, Any]] = (),
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        include_prompt: bool = True,
        similarity: str = "cosine",
        **kwargs: Any,
    ) -> None:
        prompts = checked_prompts(prompts)
        if default_prompt_name is not None:
            text = prompt_named(prompts, default_prompt_name)
            preprocessor = preprocessor if preprocessor is None else preprocessor.with_prompt(text)
        super().__init__(encoder, preprocessor, **kwargs)
        if similarity not in SIMILARITIES:
            raise ValueError(f"similarity should be one of {', '.join(SIMILARITIES)}, got {similarity!r}")
        yes_or_no(include_prompt=include_prompt)
        self.prompts, self.default_prompt_name = prompts, default_prompt_name
        self.include_prompt, self.similarity_kind = bool(include_prompt), similarity
        if pooling not in POOLINGS:
            raise ValueError(f"pooling should be one of {', '.join(POOLINGS)}, got {pooling!r}")
        yes_or_no(normalize=normalize)
        self.pooling, self.normalize, self.dense = pooling, bool(normalize), [checked_dense(layer) for layer in dense]
        width = encoder.config.hidden_size
        self.dense_layers: list[Projection] = []
        for number, layer in enumerate(self.dense):
            projection = Projection(layer["width"], encoder.config.initializer_range, dtype="float32", name=f"dense_{number}")
            projection.build((None, width))
            self.dense_layers.append(projection)
            width = layer["width"]
        self.width = width
        self.built = True

    def encoder_options(self, inputs: dict[str, tf.Tensor]) -> dict[str, Any]:
        return {"only_first": True} if self.pooling == "cls" and not self.skipped_positions else {}

    def head_outputs(
        self, outputs: dict[str, tf.Tensor], inputs: dict[str, tf.Tensor], training: bool | None = None
    ) -> tf.Tensor:
        if self.encoder_options(inputs):
            vectors = tf.cast(outputs["first_output"], tf.float32)
        else:
            vectors = pool(tf.cast(outputs["sequence_output"], tf.float32), inputs, self.pooling, self.skipped_positions)
        for layer, projection in zip(self.dense, self.dense_layers):
            vectors = projection(vectors)
            vectors = ACTIVATIONS[layer["activation"]](vectors) if layer["activation"] else vectors
        return unit_length(vectors) if self.normalize else vectors  # [B, D]

    @classmethod
    def from_preset(
        cls,
        preset: Any,
        max_length: int | None = None,
        pooling: str | None = None,
        normalize: bool | None = None,
        **kwargs: Any,
    ) -> TextEmbedder:
        """Returns an embedder on the encoder of a checkpoint.

        >>> embedder = TextEmbedder.from_preset("all-minilm-l6-v2", max_length=32)

        A sentence-transformers folder says how it pools, which Dense layers follow, whether vectors have length 1, which
        prompts there are and how vectors are compared. Without a modules.json the embedder takes the mean, normalized.
        Arguments that are given win.

        Args:
          preset: a built-in name (`kbert.presets()`), `hf://owner/name[@revision]`, a folder, or a live KerasHub model.
          max_length: the most positions of a text; by default the folder's own, or the checkpoint's most (512).
          pooling: `"mean"`, `"cls"`, `"max"` or `"mean_sqrt_len"`; by default the folder's own.
          normalize: scales vectors to length 1; by default the folder's own.
          **kwargs: `dtype`, a Keras dtype policy; `preprocessor`, a `TextPreprocessor` in place of the checkpoint's, or None
            for packed input; `vocabulary`, the path of a vocab.txt or a list of tokens where the preset has none;
            and the constructor's `dense`, `prompts`, `default_prompt_name`, `include_prompt`, `similarity`.

        Raises:
          FileNotFoundError: there is no such checkpoint, or its files are not complete.
          ValueError: a weight is missing, left over or of another shape, or a module of the folder is not known.
        """
        with open_preset(preset, kwargs.pop("vocabulary", None)) as opened:
            modules = sentence_transformers.read_modules(opened.folder)
            given = {"pooling": pooling, "normalize": normalize}
            if modules.other_task:
                raise ValueError(f"{opened} is for {modules.other_task}, not for vectors; kbert.from_preset opens it")
            stated = modules.options or opened.values.get("embedder", {})
            options = {**stated, **{name: value for name, value in given.items() if value is not None}}
            if max_length is None and modules.max_length and kwargs.get("preprocessor", "auto") == "auto":
                max_length = min(modules.max_length, opened.config.max_position_embeddings)
            task = load_task(cls, opened, lambda task, missing: "", max_length=max_length, **options, **kwargs)
            sentence_transformers.load_dense(task, modules)
        return task

    # Training

    columns = (TEXT,)
    training_columns = (Columns(("anchor", "positive")), Columns(("anchor", "positive", "negative")))
    targets = "optional"
    fit_call = "fit((anchors, positives))"
    needs = (
        "an embedder learns from pairs, fit((anchors, positives)), from triplets, fit((anchors, positives, negatives)), or "
        "from scored pairs, fit((texts, others), scores)"
    )

    def read(self, columns: tuple[list, ...]) -> tuple[tf.RaggedTensor, ...]:
        """Returns plain columns as ragged ids, each column cut by itself, for its texts are embedded by themselves."""
        return tuple(ids for column in columns for ids in Encoding.read(self, (column,)))

    def pack(self, *columns: tf.RaggedTensor) -> dict[str, tf.Tensor]:
        """Returns the columns of a batch one below the other, as the encoder's input `[columns * B, L]`."""
        return self.rounded(self.preprocessor.pack(tf.concat(columns, 0)))

    def encode(self, chunk: Chunk, class_weight: dict | None = None) -> Examples:
        """Returns the tokenized rows of pairs or triplets, with the scores of pairs that have them, and 0 otherwise."""
        if chunk.targets is not None and len(chunk.columns) == 3:
            raise ValueError("triplets have no scores: leave y out")
        if class_weight is not None:
            self.encode_class_weight(class_weight)  # refuses
        chunk = chunk if chunk.targets is not None else chunk._replace(targets=[0.0] * chunk.rows)
        self.check_rows(chunk)
        return Examples(self.read(chunk.columns), self.encode_targets(chunk.targets or []), chunk.weights)

    def encode_targets(self, y: list) -> np.ndarray:
        """Returns the scores of pairs as float32 `[B]`."""
        scores = finite_numbers(y)
        if scores.ndim == 2 and scores.shape[1] == 1:
            scores = scores[:, 0]
        if scores.ndim != 1:
            raise ValueError("the scores of pairs should be one finite number each, such as the cosine that they should have")
        return scores

    @property
    def torn_by_replicas(self) -> str:
        return "the texts of an embedder's batch are compared with each other, and replicas would tear them apart"

    def compile(self, optimizer: Any = "auto", loss: Any = "auto", **kwargs: Any) -> None:
        """Prepares for training. `fit` and `evaluate` choose the default loss, because they see whether there are scores.

        Args:
          optimizer: `"auto"` is BERT's AdamW with warm-up and linear decay, `"lamb"` LAMB; anything else is Keras's.
          loss: `"auto"` is `MultipleNegativesRanking` for pairs without scores, `CosineSimilarityError` for pairs with them.
          **kwargs: `metrics`, `learning_rate`, `gradient_accumulation_steps`, `jit_compile` and Keras's, as `Task.compile`
            takes them.

        Raises:
          ValueError: a loss of Keras's, or the name of a metric of Keras's. None of them is made for vectors.
        """
        own = own_of_keras(loss if is_auto(loss) else keras.losses.get(loss), keras.losses)
        if own is not None:
            raise ValueError(
                f"{own} does not know which vectors belong together: give one of kbert.training.losses, or your own"
            )
        for metrics in (kwargs.get("metrics"), kwargs.get("weighted_metrics")):
            names = [metric for metric in keras.tree.flatten(metrics) if isinstance(metric, str) and metric != "auto"]
            if names:
                raise ValueError(f"an embedder gives vectors, for which Keras's {names[0]} is not made: give your own metric")
        super().compile(optimizer, loss, **kwargs)
        of_optimizer = ("learning_rate", "gradient_accumulation_steps")
        again = {name: value for name, value in kwargs.items() if name not in of_optimizer}
        keras_internals.hide(self, "_compile_again", again if isinstance(loss, str) and loss == "auto" else None)

    def choose_loss(self, has_targets: bool) -> None:
        """Compiles with the default loss for the data, if the loss is the default one."""
        again, wanted = (
            getattr(self, "_compile_again", None),
            CosineSimilarityError if has_targets else MultipleNegativesRanking,
        )
        if again is not None and not isinstance(self.loss, wanted):
            with self.distribute_strategy.scope():
                super().compile(self.optimizer, wanted(), **again)
            keras_internals.hide(self, "_has_default_loss", True)

    def default_loss(self) -> keras.losses.Loss:
        return MultipleNegativesRanking()

    def default_metrics(self) -> list[keras.metrics.Metric]:
        return []

    # Answers

    def embed(
        self,
        texts: Any,
        batch_size: int | None = None,
        normalize: bool | None = None,
        verbose: int | str = "auto",
        prompt_name: str | None = None,
        prompt: str | None = None,
    ) -> np.ndarray:
        """Returns the vectors of texts, float32 `[B, D]`, in the order given.

        >>> embedder.embed(["A cat sat."]).shape  # doctest: +SKIP
        (1, 384)

        Args:
          texts: texts, or a stream of them.
          batch_size: the most texts of one step; by default as many as fill a step with tokens.
          normalize: scales to length 1; by default the embedder's own `normalize`.
          verbose: 1 for a progress bar, 0 for none. By default there is one on a terminal after some seconds.
          prompt_name: the name of the one of `prompts` that stands before each text; by default the embedder's own.
          prompt: the text that stands before each text, in place of a name; `""` for none.

        Raises:
          ValueError: `normalize=False` of an embedder that is built to give vectors of length 1; or there is no prompt of that
            name, or a prompt is given with packed dictionaries.
        """
        if prompt is not None or prompt_name is not None:
            if self.preprocessor is None or is_packed(texts, True):
                raise ValueError("a prompt stands before texts, and packed dictionaries are given: leave it out")
            other = self.with_prompt(prompt_name, prompt)
            if other is not self:
                return other.embed(texts, batch_size, normalize, verbose)
        vectors = self.predict(texts, batch_size=batch_size, verbose=verbose)
        if normalize and not self.normalize:
            vectors = of_unit_length(vectors)
        elif normalize is False and self.normalize:
            raise ValueError("this embedder gives vectors of length 1: build it with normalize=False to have others")
        return vectors

    def similarity(self, texts: Any, others: Any) -> np.ndarray:
        """Returns the similarities of texts with others, `[A, B]`: cosines, or what the embedder's `similarity` names.

        Args:
          texts: `A` texts, or their vectors `[A, D]`, in any precision of floats; the cosines are computed in float32.
          others: `B` texts, or their vectors `[B, D]`.
        """
        vectors, of_others = self._comparable_vectors(texts, "texts", others, "others")
        return similarities(vectors, of_others, self.similarity_kind)

    def search(self, queries: Any, corpus: Any, top_k: int = 10) -> list[list[dict[str, Any]]]:
        """Returns the texts of a corpus that are most similar to each query, exactly, in blocks of bounded memory.

        Queries and corpus have the embedder's own prompt. For prompts of their own give vectors:
        `search(embedder.embed(queries, prompt_name="query"), embedder.embed(corpus, prompt_name="passage"))`.

        >>> embedder.search(["a cat"], ["A cat sat.", "Shares fell."], top_k=1)  # doctest: +SKIP
        [[{'place': 0, 'score': 0.79, 'text': 'A cat sat.'}]]

        Args:
          queries: texts, or their vectors `[Q, D]`.
          corpus: texts, or a stream of them; or their vectors `[C, D]` from `embed`, which need not be computed again for
            each search.
          top_k: how many texts for each query.

        Returns:
          A list for each query, the best first: `{"place": int, "score": float}` and, if the corpus is texts, `"text"`.

        Raises:
          ValueError: `top_k` is no whole number from 1 on, queries and corpus differ in width, or a vector is not finite.
        """
        top_k = whole_number("top_k", top_k)
        texts = texts_in_list(corpus) if vectors_in(corpus, "corpus") is None else None
        queries, vectors = self._comparable_vectors(queries, "queries", corpus if texts is None else texts, "the corpus")

        def answer(place: int, score: float) -> dict[str, Any]:
            return {"place": place, "score": score, **({} if texts is None else {"text": texts[place]})}

        return [[answer(*found) for found in row] for row in nearest(queries, vectors, top_k, self.similarity_kind)]

    def _comparable_vectors(self, texts: Any, name: str, others: Any, other_name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns two columns of texts or vectors as vectors, of length 1 for cosines; the names are for errors."""
        first, second = vectors_in(texts, name), vectors_in(others, other_name)
        for ours, theirs, our_name, their_name in ((first, second, name, other_name), (second, first, other_name, name)):
            width = self.width if theirs is None else theirs.shape[1]
            if ours is not None and ours.shape[1] != width:
                raise ValueError(f"{our_name} have {ours.shape[1]} coordinates, {their_name} {width}: embed both alike")
        vectors = (self.embed(texts) if first is None else first, self.embed(others) if second is None else second)
        return (of_unit_length(vectors[0]), of_unit_length(vectors[1])) if self.similarity_kind == "cosine" else vectors

    # Figures

    job = "embedding"
    pipeline_tag = "sentence-similarity"

    def figures(self, x: Any, y: Any = None) -> Figures:
        """Returns how well the embedder tells which texts belong together.

        With scores these are the correlations of the pairs' cosines with them, `pearson` and `spearman`. Without scores each
        first text searches for its own second text among all second texts: `found_first` is the share of first texts that
        find it in the first place, `mean_reciprocal_rank` the mean of 1 / place, which is 0 beyond the tenth place.

        Args:
          x: a tuple of two columns of texts.
          y: a score for each pair, or None.
        """
        if y is not None:
            cosines = [float(a @ b) for a, b in zip(self.embed(x[0], normalize=True), self.embed(x[1], normalize=True))]
            return Figures({"pearson": pearson(cosines, y), "spearman": spearman(cosines, y)})
        anchors, others = map(list, x)
        return figures_of_search(anchors, others, self.search(anchors, self.embed(others), top_k=10))

    # Distillation

    hard_targets = "none"  # a student is held to the teacher's vectors alone

    def soft_loss(
        self, teacher_outputs: tf.Tensor, student_outputs: tf.Tensor, temperature: float, mask: tf.Tensor, targets: tf.Tensor
    ) -> tf.Tensor:
        return tf.reduce_mean(tf.reduce_sum(tf.square(teacher_outputs - student_outputs), -1))

    def check_student(self, student: Task) -> None:
        super().check_student(student)
        if self.width != student.width:
            raise ValueError(
                f"the teacher's vectors have {self.width} coordinates, the student's {student.width}: give it a dense layer"
            )

    # Export

    onnx_output = "sentence_embedding"

    def serve(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the vectors of `text`, strings `[B]`, as `embedding`, `[B, D]`, in ops of a graph."""
        return self.serve_tokens(self.preprocessor.call((text,)))

    def serve_tokens(self, packed: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"embedding": self(packed, training=False)}

    @property
    def reads_one_window(self) -> bool:
        return True

    def expected_answers(self, columns: tuple[Sequence[str], ...]) -> list[ComparableAnswer]:
        return [ComparableAnswer((), vector) for vector in self.embed(columns[0], verbose=0)]

    def served_answers(self, outputs: Mapping[str, np.ndarray]) -> list[ComparableAnswer]:
        return [ComparableAnswer((), vector) for vector in outputs["embedding"]]

    def decided(self, outputs: Mapping[str, np.ndarray]) -> tuple:
        return ()  # a vector has no label

    def serving_apis(self) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
        return {"embed": self.serve}

    def mediapipe_output(self) -> MediaPipeOutput:
        return MediaPipeOutput("TextEmbedder", "embedding", "embedding", None)

    def preset_config(self) -> dict[str, Any]:
        return {}

    def save_to_preset(self, folder: str | os.PathLike, layout: str = "huggingface") -> None:
        """Writes a Hugging Face folder with sentence-transformers' modules, which `SentenceTransformer(folder)` opens.

        >>> embedder.save_to_preset("minilm")  # doctest: +SKIP

        Args:
          folder: the folder to write; it is made if it is not there.
          layout: `"huggingface"`, or `"keras_hub"` for a `BertTextEmbedder` of KerasHub; no other has a place for the pooling.

        Raises:
          ValueError: `layout` is another one; or the folder has the name of a file, or holds a model of another layout.
        """
        if layout == "keras_hub":
            return super().save_to_preset(folder, layout)
        if layout != "huggingface":
            raise ValueError(f"an embedder's folder is Hugging Face's with modules.json or KerasHub's, got layout {layout!r}")
        write_modules = functools.partial(sentence_transformers.write_modules, task=self)
        beside = {**self.beside_weights(folder, layout), "beside": write_modules}
        writer_of(layout)(folder, self.encoder, self.preprocessor, **beside)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pooling": self.pooling,
            "normalize": self.normalize,
            "dense": json.loads(json.dumps(self.dense)),
            "prompts": dict(self.prompts),
            "default_prompt_name": self.default_prompt_name,
            "include_prompt": self.include_prompt,
            "similarity": self.similarity_kind,
        }


def checked_dense(layer: dict[str, Any]) -> dict[str, Any]:
    """Returns a copy of one of the dictionaries of `dense`, with both keys.

    Args:
      layer: a dictionary with `width` and, optionally, `activation`, a name among `ACTIVATIONS` or None.

    Raises:
      ValueError: the layer has other keys, its width is no whole number from 1 on, or its activation is unknown.
    """
    if not isinstance(layer, dict) or set(layer) - {"width", "activation"} or "width" not in layer:
        raise ValueError(f'a layer of dense should be such as {{"width": 256, "activation": "tanh"}}, got {layer!r}')
    whole_number("the width of a layer of dense", layer["width"])
    if layer.get("activation") not in (None, *ACTIVATIONS):
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"the activation of a layer of dense should be one of {known}, got {layer['activation']!r}")
    return {"activation": None, **layer}
