"""From a task's inputs to packed batches: the door, the encoding of targets, chunks of a stream."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.messages import reads_own_texts
from kbert.tasks.columns import PAIR, TEXT, Chunk, Columns, WrongColumns
from kbert.tasks.inputs import CHUNK, Texts, is_packed, is_stream, open_input
from kbert.tasks.packed import check_packed_batches, check_packed_weights, checked_batches, finite_arrays, packed_arrays
from kbert.tasks.row_weights import weights_of_rows
from kbert.tasks.streams import Targets
from kbert.training.examples import Examples
from kbert.training.length_batches import by_epoch
from kbert.training.replicas import DistributedModel

BATCH_SIZE = 32  # rows, where neither the call nor the container says
LENGTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384)  # of rows under XLA, and the most that there can be


class Encoding(DistributedModel, keras.Model):
    """What a task says of its inputs and targets, and the batches that are made of them; a part of `Task`."""

    columns: tuple[Columns, ...] = (TEXT, PAIR)  # the forms of the inputs that answers are asked for
    training_columns: tuple[Columns, ...] = (TEXT, PAIR)  # the forms of the inputs to train on
    targets: Targets = "required"
    fit_call = "fit(texts, labels)"  # how training data are given, for messages
    needs = ""  # what is said of another number of columns than these
    makes_windows = False  # whether a long text makes several rows to train on
    content_of_data = ""  # a digest of the data of a `fit` with `resume`
    trained_on_pairs = False  # whether the last training was on pairs; exports then take pairs by default
    _said_truncated = False  # whether the warning of texts that are cut was given

    _waits_for_data = False  # whether a step's ops wait for the batch

    def _wait_for_data_of(self, *datasets: Any) -> None:
        """Lets all ops of a step wait for its batch, if a dataset does not say its length.

        A step also has ops that read no data: the count of steps, and that of batches of each output's loss. Keras asks such a
        dataset for one batch more than there is, and these ops would run before the iterator says that nothing is left. A wait
        costs a little of each step, so that it is left out where the length is known.
        """
        if not self._waits_for_data and any(
            isinstance(data, tf.data.Dataset) and int(data.cardinality()) == tf.data.UNKNOWN_CARDINALITY for data in datasets
        ):
            self._waits_for_data = True
            self.train_function = self.test_function = None  # traced again

    @contextlib.contextmanager
    def _quiet_at_the_end(self) -> Iterator[None]:
        """Leaves out Keras's warning that the data ran out, which it gives at the end of each dataset of unknown length."""
        with warnings.catch_warnings():
            if self._waits_for_data:
                warnings.filterwarnings("ignore", message="Your input ran out of data")
            yield

    def _after(self, data: Any) -> Any:
        """Returns a context whose ops wait for a batch, if the task waits for data."""
        tensors = [tensor for tensor in keras.tree.flatten(data) if tf.is_tensor(tensor)]
        return tf.control_dependencies(tensors if self._waits_for_data else [])

    def read(self, columns: tuple[list, ...]) -> tuple[tf.RaggedTensor, ...]:
        """Returns plain columns as ragged ids `[B, (pieces)]`, cut to what fits; warns once if something does not.

        Args:
          columns: lists of UTF-8 bytes, one for each text of a row.
        """
        ids = tuple(self.tokenizer(tf.constant(column, tf.string)) for column in columns)
        lengths = sum(np.diff(column.row_splits.numpy()) for column in ids)
        room = self.say_truncated(lengths, len(columns))
        if len(columns) > 1 or int(np.max(lengths, initial=0)) <= room:
            return ids  # a pair is cut by its preprocessor
        return (ids[0][:, :room],)

    def say_truncated(self, lengths: np.ndarray, columns: int) -> int:
        """Warns once if texts are cut.

        Args:
          lengths: the number of pieces of each row `[B]`.
          columns: how many texts a row has.

        Returns:
          The number of pieces that have room in a row.
        """
        room = self.preprocessor.room(columns)
        longest = int(np.max(lengths, initial=0))
        if longest > room and not self._said_truncated and not reads_own_texts():
            self._said_truncated = True
            warnings.warn(
                f"{(lengths > room).sum()} of {len(lengths)} texts are longer than max_length={self.preprocessor.max_length} "
                f"and are cut (the longest has {longest} pieces); this is said once",
                stacklevel=6,
            )
        return room

    def pack(self, *columns: tf.RaggedTensor) -> dict[str, tf.Tensor]:
        """Returns the ragged ids of a batch's columns as the encoder's input, `[B, L]` each; in ops of a graph."""
        return self.rounded(self.preprocessor.pack(*columns))

    def rounded(self, packed: dict[str, tf.Tensor], most: int | None = None) -> dict[str, tf.Tensor]:
        """Pads packed rows to one of a few lengths under XLA, which compiles anew for each length.

        Args:
          packed: the packed dictionary, `[B, L]` each.
          most: the longest length; by default the preprocessor's `max_length`.
        """
        if not self.jit_compile or not getattr(self, "compiled", False):
            return packed
        length = tf.shape(packed["token_ids"])[1]
        most = most or self.preprocessor.max_length
        more = tf.reduce_min([tf.where(n >= length, n, most) for n in LENGTHS if n < most] + [most]) - length
        pad = self.tokenizer.pad_token_id
        return {
            name: tf.pad(ids, [[0, 0], [0, more]], constant_values=pad if name == "token_ids" else 0)
            for name, ids in packed.items()
        }

    def encode_targets(self, y: list) -> np.ndarray:
        """Returns the targets `y`, a Python value for each row, as an array `[rows, ...]`."""
        raise NotImplementedError

    def encode_packed_targets(self, y: Any) -> Any:
        """Returns `y`, the targets of packed rows in memory, as arrays that the loss takes."""
        return finite_arrays(y)

    def encoder_of_batches(self, spec: Any) -> Callable[[Any], Any] | None:
        """Returns a function, in ops of a graph, that encodes a batch of the targets of packed rows as the loss takes it.

        Args:
          spec: the `tf.TypeSpec` of a batch's targets.

        Returns:
          The function, or None if the targets are encoded already.
        """
        return None

    def packed_batches(self, data: Any) -> Any:
        """Returns batches of packed rows, checked, with encoded targets; a `PyDataset` as it is.

        Raises:
          TypeError: the targets are strings.
          ValueError: the dataset gives single rows, or no targets.
        """
        check_packed_batches(data)
        return checked_batches(data, self.encoder_of_batches)

    def packed_in_memory(self, x: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        """Returns packed rows in memory with their targets and weights as arrays, checked.

        Args:
          x: a packed dictionary, `[rows, L]` each.
          y: the targets of the rows.
          sample_weight: a weight for each row, or None.

        Raises:
          TypeError: `x` is no dictionary, or something in it or in `y` is no number.
          ValueError: a number is out of its range, sizes do not go together, or there are no targets.
        """
        if not isinstance(x, dict):
            raise TypeError(f"rows in memory are a packed dictionary, got {type(x).__name__}: {self.fit_call}")
        x = packed_arrays(x, self.encoder.config)
        rows = len(keras.tree.flatten(x)[0])
        if y is None:
            raise ValueError("targets are missing: packed rows need y, a target for each")
        y = self.encode_packed_targets(y)
        for part in keras.tree.flatten(y):
            if part is not None and np.shape(part)[:1] != (rows,):
                raise ValueError(f"each row needs one target: got {rows} packed rows and targets of shape {np.shape(part)}")
        if isinstance(sample_weight, (list, tuple)):
            sample_weight = np.asarray(sample_weight, np.float32)
        return x, y, check_packed_weights(sample_weight, rows)

    def encode_class_weight(self, class_weight: dict) -> np.ndarray:
        """Returns `class_weight`, a dictionary of weights by label, as float32 `[labels]`.

        Raises:
          ValueError: the task has no labels to weigh.
        """
        raise ValueError(f"class_weight is for one label a text; a {type(self).__name__} takes sample_weight")

    def examples(self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: dict | None = None) -> Examples:
        """Returns texts in memory with their targets as tokenized rows, as `fit` trains on them.

        Args:
          x: texts, as `fit` takes them.
          y: targets, as `fit` takes them.
          sample_weight: a weight for each text.
          class_weight: a dictionary from a label to a weight.
        """
        texts = self._open_for_training(x, y, sample_weight)
        return self.encode(texts.chunk, class_weight)

    def encode(self, chunk: Chunk, class_weight: dict | None = None) -> Examples:
        """Returns the tokenized rows of a chunk, their encoded targets and their weights.

        Args:
          chunk: rows in plain columns.
          class_weight: a dictionary from a label to a weight.

        Raises:
          TypeError: a target of another kind.
          ValueError: no row, a target too many or too few, or a label that the task does not have.
        """
        self.check_rows(chunk)
        targets = self.encode_targets(chunk.targets or [])
        weights = chunk.weights
        if class_weight is not None:
            weights = weights_of_rows(weights, self.encode_class_weight(class_weight), targets)
        return Examples(self.read(chunk.columns), targets, weights)

    def check_rows(self, chunk: Chunk) -> None:
        """Raises a ValueError for a chunk without rows, or with other targets than rows."""
        if chunk.rows == 0:
            raise ValueError("there are no texts: at least one text with its target is needed")
        if self.targets == "none":
            return
        if chunk.targets is None:
            raise ValueError(f"targets are missing: {self.fit_call}")
        if len(chunk.targets) != chunk.rows:
            raise ValueError(f"each text needs one target: got {chunk.rows} texts and {len(chunk.targets)} targets")

    def check_training(self, examples: Examples) -> None:
        """Warns of what is odd about `examples`, the encoded rows of a `fit`."""

    def check_held_out(self, chunk: Chunk, held_out: Chunk) -> None:
        """Warns of what is odd about `held_out`, the rows that `validation_split` takes away from `chunk`."""

    def note_form(self, chunk: Chunk) -> None:
        """Notes whether a task that takes texts or pairs is trained on pairs; `chunk` is of the data to train on."""
        if len(self.columns) > 1:
            self.trained_on_pairs = len(chunk.columns) > 1

    def choose_loss(self, has_targets: bool) -> None:
        """Chooses the default loss of a task whose loss depends on the data; `has_targets` says whether these have targets."""

    def batches_of(
        self,
        examples: Examples,
        batch_size: int,
        shuffle: bool,
        max_tokens: int | None = None,
        epochs: list | None = None,
        seed: int | None = None,
    ) -> tf.data.Dataset:
        """Returns examples as a dataset of packed batches `(inputs, targets)` or `(inputs, targets, weights)`.

        Args:
          examples: tokenized rows.
          batch_size: the rows of a batch.
          shuffle: makes a new order in each epoch, with rows of similar length in one batch.
          max_tokens: the most pieces of a batch, in place of `batch_size`.
          epochs: a list that gets the variable which counts the epochs; see `kbert.training.length_batches.by_epoch`.
          seed: the seed of the order; by default one that follows `keras.utils.set_random_seed`.
        """
        return examples.batches(self.pack, batch_size, shuffle, max_tokens, epochs, seed)

    def _is_packed(self, x: Any) -> bool:
        """Whether an input is packed dictionaries; without a preprocessor anything else is refused."""
        if is_packed(x, self.preprocessor is not None):
            return True
        self.check_reads_texts(x)
        return False

    def check_reads_texts(self, x: Any) -> None:
        """Raises a TypeError that names the type of `x` if the task has no preprocessor to read texts with."""
        if self.preprocessor is None:
            raise TypeError(
                "this task was built with preprocessor=None, so that it takes packed dictionaries (token_ids, segment_ids, "
                f"padding_mask), got {type(x).__name__}; build it with a TextPreprocessor to give it texts"
            )

    def _open_for_training(self, x: Any, y: Any = None, sample_weight: Any = None) -> Texts:
        if self.targets == "none" and y is not None:
            raise ValueError(f"a {type(self).__name__} learns from the texts alone: {self.fit_call}")
        try:
            return open_input(self.training_columns, x, y, sample_weight, targets=self.targets)
        except WrongColumns as error:
            raise ValueError(self.needs or str(error)) from None

    def _open_validation(self, data: Any) -> Texts:
        """Returns `validation_data`, which is no packed input, as `Texts`."""
        if is_stream(data):
            texts = self._open_for_training(data)
            if texts.once:
                raise ValueError(f"validation_data is a {texts.kind}, which gives its rows once: give a list or a dataset")
            return texts
        if self.targets == "none":
            return self._open_for_training(data)
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            raise ValueError("validation_data should be (texts, targets), (texts, targets, weights) or a tf.data.Dataset")
        return self._open_for_training(*data)

    def _training_data(
        self,
        texts: Texts,
        batch_size: int,
        shuffle: bool,
        max_tokens: int | None,
        class_weight: dict | None,
        steps: int | None = None,
    ) -> tf.data.Dataset:
        """Returns the batches to train on; `steps` are those of an epoch, where a stream does not end."""
        if texts.in_memory:
            examples = self.encode(texts.chunk, class_weight)
            self.check_training(examples)
            self.note_form(texts.chunk)
            return self.batches_of(examples, batch_size, shuffle, max_tokens, self._epochs)
        return self._streamed(texts, batch_size, shuffle, max_tokens, class_weight, self._epochs, steps)

    def _evaluation_data(self, texts: Texts, batch_size: int) -> tf.data.Dataset:
        if texts.in_memory:
            return self.batches_of(self.encode(texts.chunk), batch_size, shuffle=False)
        return self._streamed(texts, batch_size, shuffle=False)

    def _streamed(
        self,
        texts: Texts,
        batch_size: int,
        shuffle: bool,
        max_tokens: int | None = None,
        class_weight: dict | None = None,
        epochs: list | None = None,
        steps: int | None = None,
    ) -> tf.data.Dataset:
        """Returns a stream's batches: each chunk takes the steps that texts in memory take."""
        seed = int(np.random.randint(2**31))  # follows keras.utils.set_random_seed
        batches = max(1, CHUNK // batch_size) if steps is None else max(1, min(steps, CHUNK // batch_size))
        size = batches * batch_size  # so that only the last batch may have fewer rows

        def batches_of_chunk(chunk: Chunk, *numbers: int) -> tf.data.Dataset:
            of_chunk = int(np.random.default_rng([seed, *numbers]).integers(2**31))
            return self.batches_of(self.encode(chunk, class_weight), batch_size, shuffle, max_tokens, seed=of_chunk)

        source = texts.read(size if texts.once else batch_size)
        first = next(source, None)
        if first is None:
            raise ValueError(f"the {texts.kind} holds no rows: at least one text with its target is needed")
        spec = batches_of_chunk(first).element_spec
        if epochs is not None:
            self.note_form(first)

        def chunks() -> Iterator[Chunk]:
            if not texts.once:
                return texts.read(size)
            return itertools.chain([first], source)

        def generate(epoch: np.ndarray) -> Iterator[Any]:
            for place, chunk in enumerate(chunks()):
                for batch in batches_of_chunk(chunk, int(epoch), place):
                    yield tf.nest.map_structure(lambda tensor: tensor.numpy(), batch)

        data = by_epoch(lambda number: tf.data.Dataset.from_generator(generate, args=(number,), output_signature=spec), epochs)
        count = None if max_tokens or self.makes_windows else texts.batches(batch_size)
        if count is not None:
            data = data.apply(tf.data.experimental.assert_cardinality(count))
        return data.prefetch(tf.data.AUTOTUNE)


def texts_of(chunk: Chunk, like: Texts) -> Texts:
    """Returns the rows of a chunk as texts in memory."""
    return Texts(lambda size: iter([chunk]), like.kind, rows=chunk.rows, has_targets=like.has_targets, in_memory=True)
