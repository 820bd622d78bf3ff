"""Whether an exported file answers as its task does: on a built-in set of texts that are hard to read, or on given ones."""

import pathlib
import time

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from tensorflow.core.protobuf import saved_model_pb2

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

# What a SavedModel may be made of: tensorflow-text's three tokenization ops, and core ops that TensorFlow 2.12 has, for servers lag behind.
ALLOWED_OPS = frozenset(
    """
    FastBertNormalize FastWordpieceTokenizeWithOffsets TFText>WhitespaceTokenizeWithOffsetsV2

    AddV2 All Any ArgMax Assert AssignVariableOp BatchMatMulV2 BiasAdd BroadcastTo Cast ConcatV2 Const Cumsum DenseBincount DisableCopyOnRead
    Equal Erf ExpandDims Fill FloorDiv FloorMod GatherNd GatherV2 Greater GreaterEqual Identity IdentityN If Less LessEqual LogicalAnd
    LogicalNot LogicalOr MatMul Max Maximum Mean MergeV2Checkpoints Minimum Mul Neg NoOp NotEqual OneHot OnesLike Pack PadV2
    ParseExampleV2 Placeholder Prod RaggedGather RaggedRange RaggedTensorToTensor Range ReadVariableOp RealDiv Relu Reshape RestoreV2 Rsqrt
    SaveV2 ScatterNd SegmentMean SegmentMin Select SelectV2 Shape ShardedFilename Sigmoid Size Softmax SquaredDifference Squeeze
    StatefulPartitionedCall StatelessIf StaticRegexFullMatch StaticRegexReplace StopGradient StridedSlice StringJoin Sub Substr Sum Tanh
    Tile TopKV2 Transpose Unpack UnsortedSegmentMax VarHandleOp Where ZerosLike
    """.split()
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
    """The outputs of an exported graph in the form of `expected_answers`."""
    outputs = {name: np.asarray(value) for name, value in outputs.items()}
    if isinstance(task, TextClassifier):
        return [((), value) for value in outputs["scores" if task.problem_type == REGRESSION else "probabilities"]]
    if isinstance(task, TextEmbedder):
        return [((), vector) for vector in outputs["embedding"]]
    if isinstance(task, QuestionAnswerer):
        parts = zip(outputs["answer"], outputs["start"], outputs["end"], outputs["score"])
        return [((text.decode("utf-8"), int(start), int(end)), np.array([score])) for text, start, end, score in parts]
    splits = outputs["row_splits"]
    spans = [slice(a, b) for a, b in zip(splits, splits[1:])]
    if isinstance(task, MaskedLM):
        return [((), outputs["scores"][span]) for span in spans]
    entities = list(zip(outputs["label"], outputs["entity"], outputs["start"], outputs["end"]))
    entities = [(label.decode("utf-8"), text.decode("utf-8"), int(start), int(end)) for label, text, start, end in entities]
    return [(tuple(entities[span]), outputs["score"][span]) for span in spans]


def compare(expected, found, tolerance=TOLERANCE):
    """The largest difference of a number, and the places of texts whose answers differ."""
    wrong, largest = [], 0.0
    for place, ((exact, near), (other_exact, other_near)) in enumerate(zip(expected, found)):
        difference = np.inf if near.shape != other_near.shape else float(np.abs(near - other_near).max(initial=0))
        largest = max(largest, difference)
        if exact != other_exact or not difference <= tolerance:
            wrong.append(place)
    if len(expected) != len(found):
        raise RuntimeError(f"{len(expected)} texts have {len(found)} answers")
    return largest, wrong


def check_saved_model(folder, task, pairs=False, columns=None):
    """Compares a folder with its task on the probes.

    Returns:
      The largest difference of a number.

    Raises:
      RuntimeError: ids or answers differ; the texts are named.
    """
    columns = columns or probes_of(task, pairs)
    signatures = tf.saved_model.load(str(folder)).signatures
    names = input_names(task, pairs)
    given = {name: tf.constant(column, tf.string) for name, column in zip(names, columns)}
    ids = signatures["tokenize"](**given)["token_ids"].numpy()
    ours = task.preprocessor(columns if len(columns) > 1 else columns[0])["token_ids"].numpy()
    if ids.shape != ours.shape or (ids != ours).any():
        raise RuntimeError(f"{folder} reads other token ids than the task for {texts_at(columns, differing_rows(ids, ours))}")
    largest, wrong = compare(expected_answers(task, columns), answers_of(task, signatures["serving_default"](**given)))
    if wrong:
        raise RuntimeError(f"{folder} answers otherwise than the task (by up to {largest:.1e}) for {texts_at(columns, wrong)}")
    return largest


def differing_rows(ids, ours):
    width = min(ids.shape[1], ours.shape[1])
    return np.flatnonzero((ids[:, :width] != ours[:, :width]).any(1)).tolist() or [0]


def texts_at(columns, places):
    shown = [" | ".join(column[place] for column in columns) for place in places[:5]]
    return ", ".join(f"{text!r:.60}" for text in shown)


def ops_of(folder):
    """The names of all ops in a SavedModel's graphs."""
    model = saved_model_pb2.SavedModel.FromString((pathlib.Path(folder) / "saved_model.pb").read_bytes())
    nodes = [node for graph in model.meta_graphs for node in graph.graph_def.node]
    nodes += [
        node for graph in model.meta_graphs for function in graph.graph_def.library.function for node in function.node_def
    ]
    return sorted({node.op for node in nodes})


def verify(path, task, texts=None, pairs=False):
    """Compares an exported SavedModel with its task, and prints what it is.

    >>> verify("models/emotion/1", task)  # doctest: +SKIP

    Args:
      path: the folder.
      task: the task that it was made from.
      texts: columns to compare on, as the task takes them; by default a built-in set.
      pairs: whether it takes pairs of texts.

    Returns:
      A dictionary with `largest_difference`, `texts`, `megabytes`, `ops`, `signatures` and `milliseconds` (the median for one text).

    Raises:
      RuntimeError: token ids or answers differ; the texts are named.
    """
    path = pathlib.Path(path)
    if not (path / "saved_model.pb").is_file():
        raise FileNotFoundError(f"{path} is not a SavedModel: it has no saved_model.pb")
    columns = probes_of(task, pairs) if texts is None else texts if isinstance(texts, tuple) else (texts,)
    largest = check_saved_model(path, task, pairs, columns)
    signatures = tf.saved_model.load(str(path)).signatures
    names = input_names(task, pairs)
    one = {name: tf.constant(column[:1], tf.string) for name, column in zip(names, columns)}
    times = []
    for _ in range(30):
        started = time.perf_counter()
        signatures["serving_default"](**one)
        times.append(time.perf_counter() - started)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6
    found = {
        "largest_difference": largest, "texts": len(columns[0]), "megabytes": round(size, 1), "ops": ops_of(path),
        "signatures": sorted(signatures), "milliseconds": round(1000 * float(np.median(times)), 1),
    }  # fmt: skip
    table = Table(title=f"{path}: the task's answers on {found['texts']} texts", title_justify="left", show_header=False)
    for name in ("largest_difference", "megabytes", "milliseconds"):
        table.add_row(name.replace("_", " "), f"{found[name]:.3g}")
    table.add_row("signatures", ", ".join(found["signatures"]))
    table.add_row("ops", f"{len(found['ops'])}")
    Console().print(table)
    return found
