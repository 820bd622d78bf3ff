"""Comparison of an exported file with its task: on a built-in set of texts that are hard to read, or on given ones."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from kbert.export.agreement import AGREEMENT, agreement_of, refusal
from kbert.export.exported_file import TEXT, ExportedFile, open_exported
from kbert.messages import own_texts
from kbert.tasks.exported_answers import ComparableAnswer
from kbert.text.packing import TextPreprocessor

if TYPE_CHECKING:
    from kbert.tasks.task import Task

Columns = tuple[Sequence[str], ...]  # texts, or the two columns of pairs

TOLERANCE = 1e-4
AT_ONCE = 64  # texts
TOLERANCES = {None: TOLERANCE, "float16": 5e-3}  # by kind of quantization; int8 has no tolerance but an `agreement`
RUNS = 30  # of one text, for the median time

# The ops that a SavedModel may be made of: tensorflow-text's three tokenization ops, and core ops that TensorFlow 2.12 has.
# Servers often run an older TensorFlow than the one that exports.
ALLOWED_OPS = frozenset(
    """
    FastBertNormalize FastWordpieceTokenizeWithOffsets TFText>WhitespaceTokenizeWithOffsetsV2

    AddV2 All Any ArgMax Assert AssignVariableOp BatchMatMulV2 BiasAdd BroadcastTo Cast ConcatV2 Const Cumsum DenseBincount
    DisableCopyOnRead EnsureShape Equal Erf ExpandDims Fill FloorDiv FloorMod GatherNd GatherV2 Greater GreaterEqual Identity
    IdentityN If Less LessEqual LogicalAnd LogicalNot LogicalOr MatMul Max Maximum Mean MergeV2Checkpoints Minimum Mul Neg NoOp
    NotEqual OneHot OnesLike Pack PadV2 ParseExampleV2 Placeholder PlaceholderWithDefault Prod RaggedGather RaggedRange
    RaggedTensorToTensor Range ReadVariableOp RealDiv Relu Reshape RestoreV2 Rsqrt SaveV2 ScatterNd SegmentMean SegmentMin
    SegmentSum Select SelectV2 Shape ShardedFilename Sigmoid Size Softmax SquaredDifference Squeeze StatefulPartitionedCall
    StatelessIf StaticRegexFullMatch StaticRegexReplace StopGradient StridedSlice StringJoin Sub Substr Sum Tanh Tile TopKV2
    Transpose UnicodeDecode UnicodeEncode UnicodeTranscode Unpack UnsortedSegmentMax VarHandleOp Where ZerosLike
    """.split()
)


def compare(
    expected: Sequence[ComparableAnswer], served: Sequence[ComparableAnswer], tolerance: float = TOLERANCE
) -> tuple[float, list[int]]:
    """Returns the largest absolute difference of a number and the indices of the texts whose answers differ.

    Args:
      expected: the task's answers, one for each text.
      served: the file's answers.
      tolerance: how far apart two numbers of an answer may be.

    Raises:
      RuntimeError: there are not as many answers as texts.
    """
    wrong, largest = [], 0.0
    if len(expected) != len(served):
        raise RuntimeError(f"{len(expected)} texts have {len(served)} answers")
    for place, (ours, other) in enumerate(zip(expected, served)):
        same_shape = ours.near.shape == other.near.shape
        difference = float(np.abs(ours.near - other.near).max(initial=0)) if same_shape else np.inf
        largest = max(largest, difference)
        if ours.exact != other.exact or not difference <= tolerance:
            wrong.append(place)
    return largest, wrong


class Checked(NamedTuple):
    """The result of comparing a file with its task."""

    largest: float  # the largest absolute difference of a number
    texts: int  # the number of texts that were compared
    agreement: float | None  # the share of labels that stay; None if a tolerance was given
    file: ExportedFile  # the opened file


def check(
    path: str | pathlib.Path,
    task: Task,
    pairs: bool | None = None,
    columns: Columns | None = None,
    tolerance: float | None = TOLERANCE,
    max_length: int | None = None,
    agreement: float = AGREEMENT,
) -> Checked:
    """Compares an exported file with its task, on the task's probes or on given texts.

    Args:
      path: a SavedModel's folder, a LiteRT or an ONNX file.
      task: the task from which the file was made.
      pairs: whether the file takes pairs of texts; by default it does if the task was trained on pairs.
      columns: the texts to compare on; by default the task's `probes`.
      tolerance: how far apart two numbers may be. If it is None, as for int8, the `agreement` is asked for instead.
      max_length: the positions of a LiteRT file that takes text, if they are not the task's own.
      agreement: without a tolerance, the least share of labels that has to stay; see `kbert.export.agreement`.

    Raises:
      ValueError: the file takes other texts than the task.
      RuntimeError: ids or answers differ; the texts are named.
    """
    if columns is None:
        with own_texts():
            return check(path, task, pairs, task.probes(pairs), tolerance, max_length, agreement)
    file = open_exported(path)
    names = task.string_inputs(pairs)
    if (file.takes_many_texts or set(file.inputs) & set(TEXT)) and set(names) != set(file.inputs):
        raise ValueError(
            f"{path} takes {', '.join(file.inputs)}, and the task's files take {', '.join(names)}: it was made from another "
            "task"
        )
    if file.takes_many_texts:
        answers = answers_in_batches(file, task, names, columns)
    elif set(names) <= set(file.inputs):
        columns = task.fitting(columns, max_length)
        answers = answers_one_by_one(file, task, names, columns, max_length)
    else:
        answers = answers_from_tokens(file, task, columns)
    if tolerance is None:
        found = agreement_of(*answers)
        why = refusal(found, agreement, len(columns[0]))
        if why:
            raise RuntimeError(f"{path} {why}" + (f": {texts_at(columns, found.differing)}" if found.differing else ""))
        return Checked(found.largest, len(columns[0]), found.share, file)
    largest, wrong = compare(*answers, tolerance)
    if wrong:
        raise RuntimeError(f"{path} answers otherwise than the task (by up to {largest:.1e}) for {texts_at(columns, wrong)}")
    return Checked(largest, len(columns[0]), None, file)


Answers = tuple[list[ComparableAnswer], list[ComparableAnswer]]  # the task's and the file's, one of each for a text


def answers_in_batches(file: ExportedFile, task: Task, names: Sequence[str], columns: Columns) -> Answers:
    """Returns the answers of a task and of a file that takes any number of texts at once, and compares the texts' ids.

    Args:
      file: the opened file.
      task: its task.
      names: the names of the file's string inputs.
      columns: the texts, a column for each name.
    """
    expected: list[ComparableAnswer] = []
    served: list[ComparableAnswer] = []
    for start in range(0, len(columns[0]), AT_ONCE):
        batch = tuple(column[start : start + AT_ONCE] for column in columns)
        inputs = dict(zip(names, batch))
        compare_ids(file, inputs, ids_of(task.preprocessor, batch))
        expected += task.expected_answers(batch)
        served += served_by(file, task, inputs)
    return expected, served


def answers_one_by_one(
    file: ExportedFile, task: Task, names: Sequence[str], columns: Columns, max_length: int | None
) -> Answers:
    """Returns the answers of a task and of a file that takes one text at a time, and compares the ids if the file gives them.

    Args:
      file: the opened file.
      task: its task.
      names: the names of the file's string inputs.
      columns: the texts, a column for each name.
      max_length: the positions of the file, where they are not the task's own.
    """
    rows = [{name: [text] for name, text in zip(names, row)} for row in zip(*columns)]
    if "tokenize" in file.signatures:
        preprocessor = task.preprocessor.with_length(max_length, fixed_length=True)
        for inputs, ids in zip(rows, ids_of(preprocessor, columns)):
            compare_ids(file, inputs, ids[None])
    return task.expected_answers(columns), [answer for inputs in rows for answer in served_by(file, task, inputs)]


def served_by(file: ExportedFile, task: Task, inputs: Mapping[str, Sequence[str]]) -> Sequence[ComparableAnswer]:
    """Returns a file's answers to texts.

    Args:
      file: the opened file.
      task: its task.
      inputs: the texts by the names of the file's string inputs.

    Raises:
      ValueError: the file lacks an output of the task.
    """
    outputs = file.run(inputs)
    try:
        return task.served_answers(outputs)
    except KeyError as error:
        raise ValueError(
            f"{file.path} has no output {error}, only {', '.join(sorted(outputs))}: it was made from another task"
        ) from None


def answers_from_tokens(file: ExportedFile, task: Task, columns: Columns) -> Answers:
    """Returns the outputs of a task and of a file that takes ids, text by text.

    Args:
      file: the opened file.
      task: its task.
      columns: texts, or pairs as two columns.
    """
    expected: list[ComparableAnswer] = []
    served: list[ComparableAnswer] = []
    for start in range(0, len(columns[0]), AT_ONCE):
        packed = packed_for(file, task, tuple(column[start : start + AT_ONCE] for column in columns))
        task_outputs = {name: value.numpy() for name, value in task.serve_tokens(packed).items()}
        for place, real in enumerate(packed["padding_mask"].numpy().astype(bool)):
            # MobileBERT reads the position after the last token, so that its rows end with padding where there is room.
            length = file.length or min(int(real.sum()) + task.preprocessor.padded_end, len(real))
            file_outputs = file.run({name: ids.numpy()[place : place + 1, :length] for name, ids in packed.items()})
            shared = [name for name, value in task_outputs.items() if name in file_outputs and value.dtype.kind == "f"]
            if not shared:
                raise RuntimeError(f"{file.path} has the outputs {sorted(file_outputs)}, the task {sorted(task_outputs)}")
            for outputs, row, answers in ((task_outputs, place, expected), (file_outputs, 0, served)):
                values = {name: outputs[name][row] for name in shared}
                if task.positional:
                    values = {name: value[real[: len(value)]] for name, value in values.items()}
                near = np.concatenate([value.ravel() for value in values.values()])
                answers.append(ComparableAnswer((), near, task.decided(values)))
    return expected, served


def ids_of(preprocessor: TextPreprocessor, columns: Columns) -> np.ndarray:
    """Returns the token ids of texts, or of pairs as two columns, `[B, L]`."""
    return preprocessor(columns if len(columns) > 1 else columns[0])["token_ids"].numpy()


def compare_ids(file: ExportedFile, inputs: Mapping[str, Sequence[str]], expected: np.ndarray) -> None:
    """Raises a RuntimeError that names the texts which a file reads as other ids than the task.

    Args:
      file: a file with a signature `tokenize`.
      inputs: columns of texts by the name of the file's input.
      expected: the task's ids of the texts, `[B, L]`.
    """
    ids = file.run(inputs, "tokenize")["token_ids"]
    if ids.shape != expected.shape or (ids != expected).any():
        places = differing_rows(ids, expected)
        raise RuntimeError(f"{file.path} reads other token ids than the task for {texts_at(tuple(inputs.values()), places)}")


def differing_rows(ids: np.ndarray, expected: np.ndarray) -> list[int]:
    """Returns the rows in which ids differ as far as both arrays reach; the first row if only their widths differ."""
    width = min(ids.shape[1], expected.shape[1])
    return np.flatnonzero((ids[:, :width] != expected[:, :width]).any(1)).tolist() or [0]


def packed_for(file: ExportedFile, task: Task, columns: Columns) -> dict[str, tf.Tensor]:
    """Returns texts, or pairs as two columns, as packed ids `[B, L]` of the length that a file takes."""
    preprocessor = task.preprocessor.with_length(file.length, fixed_length=True) if file.length else task.preprocessor
    return preprocessor(columns if len(columns) > 1 else columns[0])


def texts_at(columns: Columns, places: Sequence[int]) -> str:
    """Returns the texts at the first five places, for a message."""
    shown = [" | ".join(column[place] for column in columns) for place in places[:5]]
    return ", ".join(f"{text!r:.60}" for text in shown)


def verify(
    path: str | pathlib.Path,
    task: Task,
    texts: Sequence[str] | Columns | None = None,
    pairs: bool | None = None,
    tolerance: float | None = TOLERANCE,
    max_length: int | None = None,
    agreement: float = AGREEMENT,
) -> dict[str, Any]:
    """Compares an exported file with its task, and prints its size, its speed and its ops.

    >>> verify("models/emotion/1", task)  # doctest: +SKIP
    >>> verify("emotion.tflite", task, tolerance=5e-3)  # doctest: +SKIP

    Args:
      path: a SavedModel's folder, a LiteRT or an ONNX file.
      task: the task from which the file was made.
      texts: the texts to compare on, or a tuple of two columns for pairs; by default a built-in set. If the file reads one
        window, only the texts that fit are compared.
      pairs: whether the file takes pairs of texts; by default it does if the task was trained on pairs.
      tolerance: how far apart two numbers may be. 5e-3 is usual for float16. If it is None, as for int8, the `agreement` is
        asked for instead.
      max_length: the positions of a LiteRT file that takes text, where they are not the task's own.
      agreement: without a tolerance, the least share of labels (entities, answers, tokens) that has to be the task's. The
        file's numbers also have to correlate with the task's by 0.9 or more. With 0 only NaN and infinite numbers are
        refused.

    Returns:
      A dictionary with `largest_difference`, `texts` (how many were compared), `megabytes`, `ops`, `signatures` and
      `milliseconds` (the median time for one text); without a tolerance also `agreement`, the share of labels that stay.

    Raises:
      FileNotFoundError: there is no such file or folder.
      ValueError: the file is of another format, or was made from another task.
      RuntimeError: token ids or answers differ; the texts are named.
    """
    path = pathlib.Path(path)
    given: Columns | None = texts if isinstance(texts, tuple) or texts is None else (texts,)
    if pairs is None and given is not None and len(task.text_inputs) == 1:
        pairs = len(given) > 1
    checked = check(path, task, pairs, given, tolerance, max_length, agreement)
    row, file = [column[0] for column in given or task.probes(pairs)], checked.file
    size = sum(part.stat().st_size for part in ([path] if path.is_file() else path.rglob("*")) if part.is_file())
    figures = {
        "largest_difference": checked.largest,
        **({} if checked.agreement is None else {"agreement": checked.agreement}),
        "texts": checked.texts,
        "megabytes": round(size / 1e6, 1),
        "ops": file.ops(),
        "signatures": sorted(file.signatures),
        "milliseconds": round(milliseconds_of(file, task, pairs, row), 1),
    }
    show(path, figures)
    return figures


def milliseconds_of(file: ExportedFile, task: Task, pairs: bool | None, row: Sequence[str]) -> float:
    """Returns the median time in which a file answers one text, or one pair, in milliseconds."""
    inputs: dict[str, Any] = {name: [text] for name, text in zip(task.string_inputs(pairs), row)}
    if not set(inputs) <= set(file.inputs):
        inputs = {name: ids.numpy() for name, ids in packed_for(file, task, tuple([text] for text in row)).items()}
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        file.run(inputs)
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))


def show(path: pathlib.Path, figures: Mapping[str, Any]) -> None:
    """Prints the figures of `verify` as a table."""
    table = Table(title=f"{path}: the task's answers on {figures['texts']} texts", title_justify="left", show_header=False)
    for name in ("largest_difference", "agreement", "megabytes", "milliseconds"):
        if name in figures:
            table.add_row(name.replace("_", " "), f"{figures[name]:.3g}")
    table.add_row("signatures", ", ".join(figures["signatures"]))
    table.add_row("ops", f"{len(figures['ops'])}: {', '.join(figures['ops'])}")
    Console().print(table)
