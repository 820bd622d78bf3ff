"""Whether an exported file answers as its task does: on a built-in set of texts that are hard to read, or on given ones."""

import pathlib
import time
import warnings

import numpy as np
from rich.console import Console
from rich.table import Table

from kbert.export.exported_file import SavedModelFile, open_exported
from kbert.tasks.masked_lm import MaskedLM
from kbert.tasks.question_answerer import QuestionAnswerer
from kbert.tasks.text_classifier import REGRESSION, TextClassifier
from kbert.tasks.text_embedder import TextEmbedder
from kbert.tasks.token_classifier import TokenClassifier

# Nothing, everything at once, more than fits, seven scripts, emoji, typed special tokens, what clean-up deletes.
PROBES = [
    "A quiet word, please.", "", " \t\n ", "the same thing over and over again, " * 120, "x" * 300, "Élan VITAL: naïve café — Ünïcödé!",
    "Привет, как дела?", "你好，世界。今天天气很好", "नमस्ते दुनिया, आप कैसे हैं?", "مرحبا بالعالم", "สวัสดีชาวโลก", "안녕하세요 세계", "🙂👩‍👩‍👧 ❤️ flags 🇫🇷",
    "[CLS] typed [MASK] tokens [SEP]", "zero\u200bwidth\u00adsoft\x00null\ufffd", "e\u0301 n\u0303 A\u030a", "http://a.b/c?d=e&f#g 1,234.5€",
]  # fmt: skip
TOLERANCE = 1e-4
AT_ONCE = 64  # texts
TOLERANCES = {None: TOLERANCE, "float16": 5e-3}  # of int8, none

# What a SavedModel may be made of: tensorflow-text's three tokenization ops, and core ops that TensorFlow 2.12 has, for servers lag behind.
ALLOWED_OPS = frozenset(
    """
    FastBertNormalize FastWordpieceTokenizeWithOffsets TFText>WhitespaceTokenizeWithOffsetsV2

    AddV2 All Any ArgMax Assert AssignVariableOp BatchMatMulV2 BiasAdd BroadcastTo Cast ConcatV2 Const Cumsum DenseBincount DisableCopyOnRead
    Equal Erf ExpandDims Fill FloorDiv FloorMod GatherNd GatherV2 Greater GreaterEqual Identity IdentityN If Less LessEqual LogicalAnd
    LogicalNot LogicalOr MatMul Max Maximum Mean MergeV2Checkpoints Minimum Mul Neg NoOp NotEqual OneHot OnesLike Pack PadV2
    ParseExampleV2 Placeholder Prod RaggedGather RaggedRange RaggedTensorToTensor Range ReadVariableOp RealDiv Relu Reshape RestoreV2 Rsqrt
    SaveV2 ScatterNd SegmentMean SegmentMin SegmentSum Select SelectV2 Shape ShardedFilename Sigmoid Size Softmax SquaredDifference Squeeze
    StatefulPartitionedCall StatelessIf StaticRegexFullMatch StaticRegexReplace StopGradient StridedSlice StringJoin Sub Substr Sum Tanh
    Tile TopKV2 Transpose Unpack UnsortedSegmentMax VarHandleOp Where ZerosLike
    """.split()
)


def say_untrained(task):
    """Warns that a task's answers mean nothing yet."""
    if task.new_weights:
        warnings.warn(
            f"never trained, though exported: {', '.join(task.new_weights)}; its answers mean nothing yet", stacklevel=4
        )


def input_names(task, pairs=False):
    """What the strings of an exported task are called."""
    return ("text", "text_pair") if pairs else task.text_inputs


def probes_of(task, pairs=False):
    """The built-in texts as the columns of a task."""
    if isinstance(task, QuestionAnswerer):
        return (["Where is it?", "", "what " * 300] * 6)[: len(PROBES)], PROBES
    if isinstance(task, MaskedLM):
        mask = task.tokenizer.mask_token
        texts = [f"{mask} {text}" for text in PROBES] + [f"two {mask} and {mask} of them"]
        pieces = task._recognizing(texts).row_lengths().numpy()  # fill() refuses a text that does not fit
        return ([text for text, size in zip(texts, pieces) if size + 2 <= task.preprocessor.max_length],)
    return (PROBES, PROBES[::-1]) if pairs else (PROBES,)


def expected_answers(task, columns):
    """The task's own answers, one for each text: a tuple of what has to be equal, and an array of what has to be near."""
    texts = columns if len(columns) > 1 else columns[0]
    if isinstance(task, TextClassifier):
        answers = task.classify(texts, verbose=0)
        values = [np.array(list(answer["scores"].values())) for answer in answers]
        return [((), value) for value in values]
    if isinstance(task, TextEmbedder):
        return [((), vector) for vector in task.embed(texts, verbose=0)]
    if isinstance(task, TokenClassifier):
        answers = task.classify(texts, verbose=0)
        return [
            (tuple((e["label"], e["text"], e["start"], e["end"]) for e in found), np.array([e["score"] for e in found]))
            for found in answers
        ]
    if isinstance(task, QuestionAnswerer):
        return [((a["text"], a["start"], a["end"]), np.array([a["score"]])) for a in task.answer(*columns, verbose=0)]
    answers = [found if isinstance(found[0], list) else [found] for found in task.fill(texts)]
    return [((), np.array([[one["score"] for one in mask] for mask in found])) for found in answers]


def answers_of(task, outputs):
    """The outputs of an exported graph that takes texts in the form of `expected_answers`."""
    if isinstance(task, TextClassifier):
        return [((), value) for value in outputs["scores" if task.problem_type == REGRESSION else "probabilities"]]
    if isinstance(task, TextEmbedder):
        return [((), vector) for vector in outputs["embedding"]]
    if isinstance(task, QuestionAnswerer):
        parts = zip(outputs["answer"], outputs["start"], outputs["end"], outputs["score"])
        return [((text.decode("utf-8"), int(start), int(end)), np.array([score])) for text, start, end, score in parts]
    # One after the other with row splits, or in LiteRT filled up behind as many as there are.
    splits = outputs["row_splits"] if "row_splits" in outputs else [0, int(outputs["count"][0])]
    spans = [slice(a, b) for a, b in zip(splits, splits[1:])]
    if isinstance(task, MaskedLM):
        return [((), outputs["scores"][span]) for span in spans]
    entities = list(zip(outputs["label"], outputs["entity"], outputs["start"], outputs["end"]))
    return [
        (
            tuple(
                (label.decode("utf-8"), text.decode("utf-8"), int(start), int(end))
                for label, text, start, end in entities[span]
            ),
            outputs["score"][span],
        )
        for span in spans
    ]


def compare(expected, found, tolerance=TOLERANCE):
    """The largest difference of a number, and the places of texts whose answers differ; without a tolerance, those that are no numbers."""
    wrong, largest = [], 0.0
    if len(expected) != len(found):
        raise RuntimeError(f"{len(expected)} texts have {len(found)} answers")
    for place, ((exact, near), (other_exact, other_near)) in enumerate(zip(expected, found)):
        same_shape = near.shape == other_near.shape
        difference = float(np.abs(near - other_near).max(initial=0)) if same_shape else np.inf
        if tolerance is None:
            differs = not np.isfinite(other_near).all()
            difference = difference if same_shape else 0.0
        else:
            differs = exact != other_exact or not difference <= tolerance
        largest = max(largest, difference)
        if differs:
            wrong.append(place)
    return largest, wrong


def check(path, task, pairs=False, columns=None, tolerance=TOLERANCE, max_length=None):
    """Compares an exported file with its task, on the probes or on given texts; arguments as of `verify`.

    Returns:
      The largest difference of a number, how many texts were compared, and the opened file.

    Raises:
      RuntimeError: ids or answers differ; the texts are named.
    """
    file = open_exported(path)
    columns = columns or probes_of(task, pairs)
    names = input_names(task, pairs)
    if isinstance(file, SavedModelFile):
        largest, wrong = 0.0, []
        for start in range(0, len(columns[0]), AT_ONCE):
            part = tuple(column[start : start + AT_ONCE] for column in columns)
            given = dict(zip(names, part))
            compare_ids(file, task.preprocessor, given)
            apart, places = compare(expected_answers(task, part), answers_of(task, file.run(given)), tolerance)
            largest, wrong = max(largest, apart), wrong + [start + place for place in places]
    elif set(names) <= set(file.inputs):
        columns = fitting(task, columns, max_length)
        rows = [{name: [text] for name, text in zip(names, row)} for row in zip(*columns)]
        if "tokenize" in file.signatures:
            preprocessor = task.preprocessor.with_length(max_length, fixed_length=True)
            for given in rows:
                compare_ids(file, preprocessor, given)
        found = [file.run(given) for given in rows]
        found = [answer for outputs in found for answer in answers_of(task, outputs)]
        largest, wrong = compare(expected_answers(task, columns), found, tolerance)
    else:
        largest, wrong = compare_tokens(file, task, columns, tolerance)
    if wrong:
        raise RuntimeError(f"{path} answers otherwise than the task (by up to {largest:.1e}) for {texts_at(columns, wrong)}")
    return largest, len(columns[0]), file


def compare_ids(file, preprocessor, given):
    """Says where a file reads other ids than a preprocessor; `given` are columns by name."""
    part = tuple(given.values())
    ids, ours = file.run(given, "tokenize")["token_ids"], preprocessor(part if len(part) > 1 else part[0])["token_ids"].numpy()
    if ids.shape != ours.shape or (ids != ours).any():
        raise RuntimeError(f"{file.path} reads other token ids than the task for {texts_at(part, differing_rows(ids, ours))}")


def fitting(task, columns, max_length=None):
    """Those of the texts that a file which reads one window of `max_length` answers as a task which reads all of them does."""
    length = max_length or task.preprocessor.max_length
    cuts = isinstance(task, (TextClassifier, TextEmbedder)) and length == task.preprocessor.max_length
    if cuts and getattr(task, "window_stride", None) is None:
        return columns  # the task cuts a long text at the same place
    lengths = sum(task.tokenizer(column).row_lengths().numpy() for column in columns)
    keep = np.flatnonzero(lengths + 1 + len(columns) <= length)
    return tuple([column[place] for place in keep] for column in columns)


def packed_for(file, task, row):
    """One text, or a pair, as the ids that a file takes."""
    texts = tuple([text] for text in row)
    preprocessor = task.preprocessor.with_length(file.length, fixed_length=True) if file.length else task.preprocessor
    return preprocessor(texts if len(texts) > 1 else texts[0])


def compare_tokens(file, task, columns, tolerance):
    """As `compare`, of a file that takes ids: its outputs beside the task's, text by text."""
    expected, found = [], []
    for row in zip(*columns):
        packed = packed_for(file, task, row)
        ours = {name: value.numpy() for name, value in task.serve_tokens(packed).items()}
        theirs = file.run({name: ids.numpy() for name, ids in packed.items()})
        shared = [name for name, value in ours.items() if name in theirs and value.dtype.kind == "f"]
        if not shared:
            raise RuntimeError(f"{file.path} has the outputs {sorted(theirs)}, the task {sorted(ours)}")
        real = packed["padding_mask"].numpy()[0].astype(bool)
        for outputs, answers in ((ours, expected), (theirs, found)):
            parts = [outputs[name][0][real] if task.positional else outputs[name][0] for name in shared]
            answers.append(((), np.concatenate([part.ravel() for part in parts])))
    return compare(expected, found, tolerance)


def differing_rows(ids, ours):
    width = min(ids.shape[1], ours.shape[1])
    return np.flatnonzero((ids[:, :width] != ours[:, :width]).any(1)).tolist() or [0]


def texts_at(columns, places):
    shown = [" | ".join(column[place] for column in columns) for place in places[:5]]
    return ", ".join(f"{text!r:.60}" for text in shown)


def verify(path, task, texts=None, pairs=False, tolerance=TOLERANCE, max_length=None):
    """Compares an exported file with its task, and prints what it is.

    >>> verify("models/emotion/1", task)  # doctest: +SKIP
    >>> verify("emotion.tflite", task, tolerance=5e-3)  # doctest: +SKIP

    Args:
      path: a SavedModel's folder, a LiteRT or an ONNX file.
      task: the task that it was made from.
      texts: columns to compare on, as the task takes them; by default a built-in set. Of a file that reads one window, those that fit.
      pairs: whether it takes pairs of texts.
      tolerance: how far numbers may be apart; 5e-3 is usual for float16. `None`, for int8, refuses no difference.
      max_length: of a LiteRT file that takes text and was made with a shorter one than the task's.

    Returns:
      A dictionary with `largest_difference`, `texts`, `megabytes`, `ops`, `signatures` and `milliseconds` (the median for one text).

    Raises:
      RuntimeError: token ids or answers differ; the texts are named.
    """
    path = pathlib.Path(path)
    columns = probes_of(task, pairs) if texts is None else texts if isinstance(texts, tuple) else (texts,)
    largest, count, file = check(path, task, pairs, columns, tolerance, max_length)
    row = tuple(column[0] for column in columns)
    given = {name: [text] for name, text in zip(input_names(task, pairs), row)}
    if not set(given) <= set(file.inputs):
        given = {name: ids.numpy() for name, ids in packed_for(file, task, row).items()}
    times = []
    for _ in range(30):
        started = time.perf_counter()
        file.run(given)
        times.append(time.perf_counter() - started)
    size = sum(part.stat().st_size for part in ([path] if path.is_file() else path.rglob("*")) if part.is_file()) / 1e6
    found = {
        "largest_difference": largest, "texts": count, "megabytes": round(size, 1), "ops": file.ops(),
        "signatures": sorted(file.signatures), "milliseconds": round(1000 * float(np.median(times)), 1),
    }  # fmt: skip
    table = Table(title=f"{path}: the task's answers on {found['texts']} texts", title_justify="left", show_header=False)
    for name in ("largest_difference", "megabytes", "milliseconds"):
        table.add_row(name.replace("_", " "), f"{found[name]:.3g}")
    table.add_row("signatures", ", ".join(found["signatures"]))
    table.add_row("ops", f"{len(found['ops'])}: {', '.join(found['ops'])}")
    Console().print(table)
    return found
