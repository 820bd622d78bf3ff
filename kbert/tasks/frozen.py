"""`task.freeze()`: a read-only task on the LiteRT runtime.

LiteRT was chosen by measurement: the MiniLM encoder (6 layers, width 384) on one row of 16 tokens, two threads, took 2.65 ms
in LiteRT, 3.25 ms in onnxruntime and 8.8 ms in a TensorFlow graph, in one run on one machine with AVX-512. `docs/facts.md`
has the other shapes.

The model is converted once, for texts that stand one after the other in rows of any length (`RowsView`). Next to no padding is
computed, and a new length costs 0.3 ms and no new model. Two signatures share the weights: one row for a text alone, eight
for many. A task that answers at some positions of a row alone (masks) has two more, for its head at these positions.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert.arguments import check_verbose, whole_numbers
from kbert.encoders.bert import INPUT_NAMES
from kbert.engines.litert_converter import convert
from kbert.engines.litert_interpreter import interpreter_maker
from kbert.tasks.progress import Progress
from kbert.text.packing import TextPreprocessor
from kbert.training.precision import check_float32

# MiniLM on tweets, two cores, microseconds a token: 112 in one row of 176 tokens, 105 in 4 of 88, 102 in 8 of 44. A row's
# attention is computed across its texts, so that a row should not be long. A step should have some hundred tokens, so that
# the cores are busy.
ROWS = 8
ROW_TOKENS = 48
LONG = 128  # a text of more tokens is a step by itself
ONE_ROW_TOKENS = 192  # of a last few texts in one row
TEXTS_PER_READ = 512  # tokenized at a time
ROW = ("token_ids", "segment_ids", "positions", "texts", "first")
AFTER = "after"  # the id that follows each token, or -1 after a full row; for an encoder that reads the next token
READ_ONLY = (
    "fit", "compile", "evaluate", "train_on_batch", "test_on_batch", "predict_on_batch", "save", "save_to_preset",
    "save_weights", "load_weights", "get_weights", "set_weights", "weights", "variables", "trainable_weights",
    "trainable_variables", "optimizer", "export", "freeze", "call", "to_keras_hub", "make_student", "trim_vocabulary",
)  # fmt: skip


class FrozenTask:
    """A read-only task that answers from a copy of a task's weights, as they were when it was made.

    `predict` and the verbs that call it (`classify`, `embed`, `answer`, ...) are the task's own. Threads may share a frozen
    task: each call computes on all of its threads, one call at a time.

    Args:
      task: a task with a preprocessor.
      threads: the number of threads of the computation; by default as many as there are cores, 8 at most.
    """

    def __init__(self, task: Any, threads: int | None = None) -> None:
        if task.preprocessor is None:
            raise ValueError("a frozen task takes texts: build the task with a TextPreprocessor")
        whole_numbers(threads=threads)
        check_float32(task.encoder, "a frozen task")
        self._interpreter = interpreter_maker()
        self._task, self._threads = task, threads or min(8, os.cpu_count() or 1)
        self.preprocessor = task.preprocessor.with_length()  # a copy: the task's may get another length
        self._lock = threading.Lock()
        self._readers: dict[int, _Reader] = {}  # by the number of texts of a row
        interpreter = self._interpreter(_convert_model(task), self._threads)
        kinds = ("rows", "at") if task.answers_at_positions else ("rows",)
        self._models = {
            (kind, rows): interpreter.get_signature_runner(f"{kind}_{rows}") for kind in kinds for rows in (1, ROWS)
        }
        self._options = {name: plain_copy(value) for name, value in vars(task).items() if is_option(name, value)}

    def __getattr__(self, name: str) -> Any:
        if name == "_task" or name.startswith("__"):  # not there yet, while it is made
            raise AttributeError(name)
        if name in READ_ONLY:
            raise AttributeError(f"a frozen task is read-only: call {name} on the task that it was made from")
        if name in self._options:
            return self._options[name]
        value = getattr(self._task, name)
        if isinstance(value, keras.Layer) and value.weights:
            raise AttributeError(f"a frozen task has weights of its own: ask the task that it was made from for its {name}")
        # A verb of the task runs with this object's predict.
        return functools.partial(value.__func__, self) if getattr(value, "__self__", None) is self._task else value

    def reading(self, preprocessor: TextPreprocessor) -> FrozenTask:
        """Returns a frozen task with the same weights that reads texts with another preprocessor."""
        other = object.__new__(type(self))
        vars(other).update({**vars(self), "preprocessor": preprocessor, "_readers": {}})
        return other

    def predict(self, x: Any, batch_size: int | None = None, verbose: int | str = "auto") -> Any:
        """Returns the outputs for texts as NumPy arrays, in the order given, as the task's own `predict` does.

        Args:
          x: texts, pairs as a tuple of two columns, or a stream of either.
          batch_size: the most texts of one step; by default as many as fill a step with tokens.
          verbose: 1 for a progress bar, 0 for none. By default there is one on a terminal after some seconds.
        """
        whole_numbers(batch_size=batch_size)
        check_verbose(verbose)
        return self._predict_texts(x, batch_size, verbose)

    def _compute(self, columns: tuple[list, ...], batch_size: int | None, progress: Progress) -> tuple[list, list]:
        """Returns groups of row numbers, and the outputs of each group, for plain columns."""
        count = len(columns[0])
        ids: list[np.ndarray] = []
        segments: list[np.ndarray] = []
        for start in range(0, count, TEXTS_PER_READ):
            packed, pieces = self._read([column[start : start + TEXTS_PER_READ] for column in columns])
            self._task.say_truncated(pieces, len(columns))
            lengths = packed["padding_mask"].sum(1)
            ids += [row[:n] for row, n in zip(packed["token_ids"], lengths)]
            segments += [row[:n] for row, n in zip(packed["segment_ids"], lengths)]
        return self._compute_rows(ids, segments, batch_size, progress)

    def _compute_pieces(
        self, ids: tuple[tf.RaggedTensor, ...], batch_size: int | None, progress: Progress
    ) -> tuple[list, list]:
        """Returns groups of row numbers, and the outputs of each group, for ragged ids that fit."""
        packed = self.preprocessor.pack(*ids)
        lengths = packed["padding_mask"].numpy().sum(1)
        token_ids, segments = (
            [row[:n] for row, n in zip(packed[name].numpy(), lengths)] for name in ("token_ids", "segment_ids")
        )
        return self._compute_rows(token_ids, segments, batch_size, progress)

    def _compute_rows(
        self, ids: list[np.ndarray], segments: list[np.ndarray], batch_size: int | None, progress: Progress
    ) -> tuple[list, list]:
        count = len(ids)
        groups: list[np.ndarray] = []
        outputs: list = []
        lengths = [len(row) for row in ids]
        for rows in plan(lengths, batch_size) or [[]]:
            groups.append(np.array([place for row in rows for place in row], int))
            outputs.append(self._run(rows, ids, segments))
            progress.advance(len(groups[-1]), count)
        return groups, outputs

    def _forward_at(self, inputs: dict[str, tf.Tensor]) -> np.ndarray:
        """Returns the outputs at `mask_positions`, `[B, M, ...]`, as the task's own `_forward_at` does.

        Args:
          inputs: the packed dictionary `[B, L]`, with `mask_positions`, int32 `[B, M]`.
        """
        arrays = {name: np.asarray(values) for name, values in inputs.items()}
        rows, length = arrays["token_ids"].shape
        if self._task.encoder.reads_next_token:
            real = np.where(arrays["padding_mask"] != 0, arrays["token_ids"], self._task.encoder.config.pad_token_id)
            arrays[AFTER] = np.pad(real[:, 1:], [(0, 0), (0, 1)], constant_values=-1)
        whole = rows - rows % ROWS
        outputs = []
        for start, end in [(n, n + ROWS) for n in range(0, whole, ROWS)] + [(n, n + 1) for n in range(whole, rows)]:
            batch = {name: values[start:end] for name, values in arrays.items()}
            number: np.ndarray = np.arange(end - start, dtype=np.int32)[:, None]
            asked = {
                "token_ids": batch["token_ids"],
                "segment_ids": batch["segment_ids"],
                "positions": np.broadcast_to(np.arange(length, dtype=np.int32), (end - start, length)),
                "texts": np.where(batch["padding_mask"] != 0, number, np.int32(-1)),
                "first": number[:, 0] * np.int32(length),
                **{name: batch[name] for name in ("mask_positions", AFTER) if name in batch},
            }
            with self._lock:
                outputs.append(self._models["at", end - start](**asked)["output_0"])
        return np.concatenate(outputs)

    def _read(self, columns: list[list]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Returns texts as packed rows `[B, L]`, and their numbers of pieces `[B]`."""
        with self._lock:
            if len(columns) not in self._readers:
                self._readers[len(columns)] = _Reader(self.preprocessor, len(columns))
            return self._readers[len(columns)](columns)

    def _run(self, rows: list[list[int]], ids: list[np.ndarray], segments: list[np.ndarray]) -> Any:
        """Returns the outputs `[texts, ...]` of texts in rows, in the order of the rows.

        Args:
          rows: the numbers of the texts of each row.
          ids: the token ids of all texts.
          segments: their segment ids.
        """
        if not rows:  # the shape of no answers: those of an empty text, less that text
            one = np.array([self._task.tokenizer.cls_token_id, self._task.tokenizer.sep_token_id], np.int32)
            return tf.nest.map_structure(lambda output: output[:0], self._run([[0]], [one], [0 * one]))
        size = max(sum(len(ids[place]) for place in row) for row in rows)
        inputs: dict[str, np.ndarray] = {name: np.zeros((len(rows), size), np.int32) for name in row_inputs(self._task)}
        inputs["texts"] -= 1
        reads_next, most = AFTER in inputs, self.preprocessor.max_length
        pad = [self._task.encoder.config.pad_token_id]
        first: list[int] = []
        lengths: list[int] = []
        for number, row in enumerate(rows):
            start = 0
            for place in row:
                piece = slice(start, start + len(ids[place]))
                inputs["token_ids"][number, piece] = ids[place]
                inputs["segment_ids"][number, piece] = segments[place]
                inputs["positions"][number, piece] = np.arange(len(ids[place]))
                inputs["texts"][number, piece] = len(first)
                if reads_next:
                    end = pad if len(ids[place]) < most else [-1]
                    inputs[AFTER][number, piece] = np.concatenate([ids[place][1:], end])
                first.append(number * size + start)
                lengths.append(len(ids[place]))
                start = piece.stop
        inputs["first"] = np.array(first, np.int32)
        with self._lock:
            outputs = self._models["rows", len(rows)](**inputs)
        outputs = outputs["output_0"] if set(outputs) == {"output_0"} else outputs
        if self._task.positional:
            width = int(self.preprocessor.row_length(max(lengths)))
            return tf.nest.map_structure(lambda output: _apart(output, first, lengths, width), outputs)
        return outputs


def plan(lengths: Sequence[int] | np.ndarray, most_texts: int | None = None) -> list[list[list[int]]]:
    """Returns steps for texts, longest first. A step is a list of rows, and a row a list of numbers of texts.

    >>> plan([3, 200, 5])
    [[[1]], [[2, 0]]]

    Args:
      lengths: the number of tokens of each text.
      most_texts: the most texts of a step.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    most_texts = most_texts or len(order)
    steps: list[list[list[int]]] = []
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        many = longest <= LONG and len(order) - start >= ROWS <= most_texts
        room = 0 if longest > LONG else max(longest, ROW_TOKENS if many else ONE_ROW_TOKENS)
        rows: list[list[int]] = []
        taken = 0
        while len(rows) < (ROWS if many else 1) and start < len(order) and taken < most_texts:
            row, size = [order[start]], lengths[order[start]]
            start, taken = start + 1, taken + 1
            while start < len(order) and taken < most_texts and size + lengths[order[start]] <= room:
                row.append(order[start])
                size += lengths[order[start]]
                start, taken = start + 1, taken + 1
            rows.append(row)
        # The last texts may not fill all rows of a step: then they are steps of one row each.
        steps += [rows] if len(rows) == ROWS else [[row] for row in rows]
    return steps


def _apart(values: np.ndarray, first: list[int], lengths: list[int], width: int) -> np.ndarray:
    """Returns the values of tokens in rows `[R, S, ...]` as `[texts, width, ...]`, with zeros beyond a text's end."""
    values = values.reshape(-1, *values.shape[2:])
    result = np.zeros((len(lengths), width, *values.shape[1:]), values.dtype)
    for number, (start, length) in enumerate(zip(first, lengths)):
        result[number, :length] = values[start : start + length]
    return result


def row_inputs(task: Any) -> tuple[str, ...]:
    """Returns the names of the tensors that a task's encoder takes for texts in rows."""
    return (*ROW, AFTER) if task.encoder.reads_next_token else ROW


def _convert_model(task: Any) -> bytes:
    """Returns the encoder and the head as a LiteRT model, for one row and for `ROWS` rows.

    A task with `answers_at_positions` also gets signatures for its head at `mask_positions`.
    """

    def spec(rows: int, *more: str) -> dict[str, tf.TensorSpec]:
        shapes = {name: [None] if name == "first" else [rows, None] for name in (*row_inputs(task), *more)}
        return {name: tf.TensorSpec(shape, tf.int32, name=name) for name, shape in shapes.items()}

    def answer(inputs: dict[str, tf.Tensor]) -> Any:
        return task(inputs, training=False)

    def answer_at(inputs: dict[str, tf.Tensor]) -> Any:
        outputs = task.encoder({name: inputs[name] for name in row_inputs(task)}, training=False)
        return task.head_outputs(outputs, inputs, False)

    signatures = {f"rows_{rows}": (answer, spec(rows)) for rows in (1, ROWS)}
    if task.answers_at_positions:
        signatures.update({f"at_{rows}": (answer_at, spec(rows, "mask_positions")) for rows in (1, ROWS)})
    return convert(signatures, [variable.value for variable in task.variables])


def is_option(name: str, value: Any) -> bool:
    """Returns whether an attribute of a task is a setting in plain values, such as its labels."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return not name.startswith("_") and all(item is None or isinstance(item, (str, int, float)) for item in items)


def plain_copy(value: Any) -> Any:
    """Returns a copy of a setting, so that a change of the task's list does not change it."""
    return list(value) if isinstance(value, list) else value


class _Reader:
    """The tokenizer and packing as a graph: in LiteRT where it has the ops, for a call of TensorFlow costs 0.4 ms by itself."""

    def __init__(self, preprocessor: TextPreprocessor, columns: int) -> None:
        def read(texts: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            pieces = [preprocessor.tokenizer.call(texts[f"text_{n}"]) for n in range(columns)]
            counts = [tf.cast(column.row_lengths(), tf.int32) for column in pieces]
            return {**preprocessor.pack(*pieces), "pieces": tf.add_n(counts)}

        spec = {f"text_{n}": tf.TensorSpec([None], tf.string, name=f"text_{n}") for n in range(columns)}
        if preprocessor.tokenizer.typed_tokens:  # takes a regular expression, which LiteRT does not have
            compute = tf.function(read, input_signature=[spec], autograph=False)
            self._run: Callable = lambda texts: tf.nest.map_structure(
                lambda t: t.numpy(), compute({name: tf.constant(column, tf.string) for name, column in texts.items()})
            )
        else:
            interpreter = interpreter_maker()(convert({"read": (read, spec)}), 1)
            runner = interpreter.get_signature_runner("read")
            self._run = lambda texts: runner(**{name: np.array(column, object) for name, column in texts.items()})

    def __call__(self, columns: list[list]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        outputs = self._run({f"text_{n}": column for n, column in enumerate(columns)})
        return {name: outputs[name] for name in INPUT_NAMES}, outputs["pieces"]
