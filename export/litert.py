"""LiteRT (.tflite) files: strings in, answers out, on a phone; or token ids in, in built-in ops only."""

import contextlib
import importlib.util
import warnings

import tensorflow as tf

from kbert.encoders.bert import INPUT_NAMES
from kbert.engines.litert import convert
from kbert.export import mediapipe
from kbert.export.calibrated import check_calibration, in_int8, ranges_of
from kbert.export.verify import PROBES, TOLERANCES, check, input_names, say_untrained
from kbert.files.atomic import check_target, written_aside
from kbert.scoring.entities import check_tags
from kbert.tasks.masked_lm import MaskedLM
from kbert.tasks.question_answerer import QuestionAnswerer
from kbert.tasks.spans import IMPOSSIBLE, at_pieces, best_spans
from kbert.tasks.text_classifier import TextClassifier
from kbert.tasks.text_embedder import TextEmbedder
from kbert.tasks.token_classifier import TokenClassifier
from kbert.text.tokenizer import tensorflow_text

QUANTIZE = (None, "float16", "int8", "int8-static")


def export_litert(
    task,
    path,
    inputs="text",
    quantize=None,
    max_length=None,
    metadata=None,
    pairs=False,
    texts=None,
    overwrite=False,
    verify=True,
):
    """Writes one .tflite file.

    >>> export_litert(task, "emotion.tflite", quantize="int8")  # doctest: +SKIP

    Signature `serving_default` takes `text`, string `[1]` (`question` and `context`; with `pairs=True` `text` and `text_pair`), and gives,
    for as much of the text as `max_length` holds:

    | task | outputs |
    |---|---|
    | `TextClassifier` | `label`, `score`, `probabilities` `[1, labels]` and `logits`; of a regression `scores` |
    | `TextEmbedder` | `embedding` `[1, D]` |
    | `TokenClassifier` | `count` `[1]`, and `label`, `entity`, `start`, `end`, `score`, `[max_length - 2]`, of which the first `count` are there |
    | `QuestionAnswerer` | `answer`, `start`, `end`, `score`, `no_answer`, `[1]` |
    | `MaskedLM` | `count` `[1]`, and `tokens`, `ids`, `scores` `[max_length - 2, 5]`, of which the first `count` are there |

    `start` and `end` are in characters. A second signature, `tokenize`, gives the ids of the same strings: `token_ids`, `segment_ids` and
    `padding_mask`, int32 `[1, max_length]`. With `inputs="tokens"` it takes `token_ids`, `segment_ids` and `padding_mask`, int32 `[1, max_length]`, and
    gives the outputs of a call. A file that takes text needs tensorflow-text's custom ops: in Python
    `InterpreterWithCustomOps(model_path=path, custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS)`. One that takes tokens
    runs anywhere.

    Args:
      task: a task with a preprocessor.
      path: the file to write.
      inputs: `"text"` or `"tokens"`.
      quantize: `"float16"` stores weights in half the bytes, `"int8"` in a quarter, and computes products in int8 with ranges found as it
        runs. `"int8-static"` has the ranges found beforehand, on `texts`, for processors that cannot find any; on a CPU it is no faster.
      texts: of `"int8-static"`, some hundred texts like those that the file will read: a list, or a tuple of two columns.
      max_length: positions that every text is computed on; the task's own by default. A shorter one is faster.
      metadata: `"mediapipe"`, with `inputs="tokens"`: what MediaPipe's TextClassifier or TextEmbedder needs to open the file. MediaPipe then
        reads the text, with a clean-up of its own that keeps accents; which of the built-in hard texts it reads otherwise is said in a warning.
      pairs: whether a `TextClassifier` takes pairs of texts.
      overwrite: replace a file that is there.
      verify: open the file, and compare its answers on a built-in set of texts with the task's, before it takes its place: within 1e-4, in
        float16 within 5e-3; of int8, that they are numbers.

    Returns:
      The path.

    Raises:
      FileExistsError: the file is there; ValueError: other inputs, a length beyond the encoder's, no preprocessor; NotImplementedError: a
        `Pretrainer` with `inputs="text"`; RuntimeError: the answers differ, and the texts are named.
    """
    path = check_target(path, overwrite)
    if inputs not in ("text", "tokens"):
        raise ValueError(f'inputs should be "text" or "tokens", got {inputs!r}')
    if quantize not in QUANTIZE:
        raise ValueError(f"quantize should be one of {', '.join(map(repr, QUANTIZE))}, got {quantize!r}")
    if quantize == "int8-static":
        check_calibration(task, texts)
    elif texts is not None:
        raise ValueError(
            f'texts are what quantize="int8-static" finds its ranges on; with quantize={quantize!r} leave them out'
        )
    if max_length is not None and max_length > task.encoder.config.max_position_embeddings:
        raise ValueError(
            f"max_length {max_length} is more than the encoder's {task.encoder.config.max_position_embeddings} positions"
        )
    if metadata not in (None, "mediapipe"):
        raise ValueError(f'metadata should be None or "mediapipe", got {metadata!r}')
    if metadata:
        if inputs != "tokens":
            raise ValueError('MediaPipe reads the text itself: metadata="mediapipe" goes with inputs="tokens"')
        mediapipe.check_task(task)
        length = max_length or task.preprocessor.max_length
        signatures = {"serving_default": mediapipe.function_of(task, length)}
    elif inputs == "tokens":
        signatures = {"serving_default": of_tokens(task, max_length)}
    else:
        signatures = of_text(task, max_length, pairs)
    say_untrained(task)
    # XNNPACK computes shapes that are known beforehand.
    static = in_int8(task, ranges_of(task, texts, max_length)) if quantize == "int8-static" else contextlib.nullcontext()
    with task.encoder.padded(), static:
        content = convert(signatures, [variable.value for variable in task.variables], quantize)
    if metadata:
        content = mediapipe.with_metadata(content, task)
        other = mediapipe.texts_read_otherwise(task, [text for text in PROBES if text.strip()], length)
        if other:
            warnings.warn(
                f"MediaPipe reads {len(other)} of {len(PROBES)} hard texts as other ids than the model was trained on (it keeps accents): "
                + ", ".join(f"{text!r:.40}" for text in other),
                stacklevel=3,
            )
    with written_aside(path) as aside:
        aside.write_bytes(content)
        if verify and task.preprocessor is not None:
            if importlib.util.find_spec("ai_edge_litert") is None:
                warnings.warn(f'{path} is not compared with the task: that takes pip install "kbert[litert]"', stacklevel=3)
            else:
                check(aside, task, pairs, tolerance=TOLERANCES.get(quantize), max_length=max_length)
    return path


def of_text(task, max_length, pairs=False):
    """Functions of texts, `[1]` each, to the answer and to ids, by signature, each with its specification."""
    if task.preprocessor is None:
        raise ValueError("a task without a preprocessor cannot take strings; build it with a TextPreprocessor to export it")
    if pairs and not isinstance(task, TextClassifier):
        raise ValueError("pairs=True is for a TextClassifier")
    if isinstance(task, TextClassifier) and task.window_stride is not None:
        raise ValueError("a LiteRT file reads one window of a text: export a task without window_stride, which cuts long texts")
    if task.tokenizer.recognize_special_tokens:
        raise ValueError(
            "recognize_special_tokens takes a regular expression, which LiteRT does not have; turn it off to export"
        )
    answers = {
        TokenClassifier: _entities,
        QuestionAnswerer: _answer,
        MaskedLM: _fill,
        TextClassifier: _whole,
        TextEmbedder: _whole,
    }
    answer = next((answer for cls, answer in answers.items() if isinstance(task, cls)), None)
    if answer is None:
        raise NotImplementedError(f'a {type(task).__name__} has no answer to a text; inputs="tokens" gives its outputs')
    preprocessor = task.preprocessor.with_length(max_length, fixed_length=True)
    names = input_names(task, pairs)
    spec = {name: tf.TensorSpec([1], tf.string, name=name) for name in names}
    return {
        "serving_default": (lambda inputs: answer(task, preprocessor, *(inputs[name] for name in names)), spec),
        "tokenize": (lambda inputs: _fixed(preprocessor, preprocessor.call(tuple(inputs[name] for name in names))), spec),
    }


def _whole(task, preprocessor, *texts):
    """What a classifier or an embedder says of a text, or a classifier of a pair."""
    return task.serve_tokens(_fixed(preprocessor, preprocessor.call(texts)))


def _fixed(preprocessor, packed):
    """Packed ids of a text in a shape that is known beforehand."""
    return {name: tf.reshape(ids, [1, preprocessor.max_length]) for name, ids in packed.items()}


def _one_row(values):
    """Values as a ragged tensor of one row: a slice of a ragged tensor has no kernel in LiteRT (FACTS X2)."""
    return tf.RaggedTensor.from_row_splits(
        values, tf.stack([tf.constant(0, tf.int64), tf.size(values, tf.int64)]), validate=False
    )


def _substrings(text, starts, ends):
    """The strings between bytes of a text `[1]`, for int32 `[E]`."""
    return tensorflow_text().ByteSplitter().split_by_offsets(text, _one_row(starts), _one_row(ends)).values


def _entities(task, preprocessor, text):
    """The entities of a text, filled up to as many as there could be: outputs of no size cannot be read on some platforms.

    Returns:
      `count` int32 `[1]`, and `label`, `entity` (strings), `start`, `end` (int32, characters) and `score`, each `[max_length - 2]`.
    """
    check_tags(task.labels)
    most = preprocessor.max_length - 2
    ids, starts, ends = task.tokenizer.tokenize_with_offsets(text)
    _, byte_starts, byte_ends = task.tokenizer.tokenize_with_offsets(text, unit="bytes")
    ids = _one_row(ids.values[:most])
    logits = task(_fixed(preprocessor, preprocessor.pack(ids)), training=False)
    count = tf.size(ids.values)
    _, kind, first, last, score = task._entities(ids.values, tf.zeros([count], tf.int64), logits[0, 1:][:count])
    places = tf.range(tf.size(kind))[:, None]

    def filled(values):
        return tf.scatter_nd(places, values, [most])

    def at(offsets, pieces):
        return filled(tf.gather(offsets.values, pieces))

    return {
        "count": tf.reshape(tf.size(kind), [1]),
        "label": tf.gather(tf.constant(["", *task._kinds]), filled(kind + 1)),
        "entity": _substrings(text, at(byte_starts, first), at(byte_ends, last)),
        "start": at(starts, first),
        "end": at(ends, last),
        "score": filled(score),
    }


def _answer(task, preprocessor, question, context):
    """The best answer in the first window of a text: `answer` string, `start` and `end` int32, `score` and `no_answer` float32, each `[1]`."""
    question = _one_row(task.tokenizer.call(question).values[: preprocessor.longest_query])
    ids, starts, ends = task.tokenizer.tokenize_with_offsets(context)
    _, byte_starts, byte_ends = task.tokenizer.tokenize_with_offsets(context, unit="bytes")
    before = 2 + tf.size(question.values)
    count = tf.minimum(tf.size(ids.values), preprocessor.max_length - 1 - before)
    logits = task(_fixed(preprocessor, preprocessor.pack(question, _one_row(ids.values[:count]))), training=False)
    place = tf.range(preprocessor.max_length)
    allowed = (place >= before) & (place < before + count)
    scores, first, last = best_spans(logits["start_logits"], logits["end_logits"], allowed[None])
    found = tf.cast(scores[:, 0] > IMPOSSIBLE / 2, tf.int32)  # [1]
    first, last = first[:, :1] - before, last[:, :1] - before

    def at(offsets, piece):
        return found * at_pieces(offsets, piece)[:, 0]

    real = tf.cast(found, tf.float32)
    return {
        "answer": _substrings(context, at(byte_starts, first), at(byte_ends, last)),
        "start": at(starts, first),
        "end": at(ends, last),
        "score": real * tf.nn.softmax(scores)[:, 0] + (1 - real),
        "no_answer": real * (task._null(logits) - scores[:, 0]),
    }


def _fill(task, preprocessor, text):
    """The five likeliest tokens of each typed mask, filled up to as many masks as there could be.

    Returns:
      `count` int32 `[1]`, and `tokens` strings, `ids` int32 and `scores` float32, each `[max_length - 2, 5]`.
    """
    most = preprocessor.max_length - 2
    ids = _special_tokens_of(task.tokenizer, text)[:most]
    packed = _fixed(preprocessor, preprocessor.pack(_one_row(ids)))
    places = tf.where(tf.equal(packed["token_ids"][0], task.tokenizer.mask_token_id))[:, 0]
    vectors = tf.gather(task.encoder(packed, training=False)["sequence_output"][0], places)
    best = tf.math.top_k(tf.nn.softmax(task.token_head(vectors[None], task.encoder.embeddings.tokens)[0]), 5)
    rows = tf.range(tf.size(places))[:, None]
    found, scores = (tf.scatter_nd(rows, values, [most, 5]) for values in (best.indices, best.values))
    return {
        "count": tf.reshape(tf.size(places), [1]),
        "tokens": tf.gather(tf.constant(task.tokenizer.vocabulary), found),
        "ids": found,
        "scores": scores,
    }


def _special_tokens_of(tokenizer, text):
    """The ids of a text `[1]` with typed special tokens as tokens: found by their spelling among the pieces that they are cut into.

    The tokenizer itself finds them with a regular expression, which LiteRT does not have.
    """
    with tf.init_scope():
        widths = {token: len(tokenizer(token)) for token in tokenizer.special_tokens}
    ids, starts, ends = (part.values for part in tokenizer.tokenize_with_offsets(text, unit="bytes"))
    count, is_inside, special = tf.size(ids), tf.zeros_like(ids), tf.zeros_like(ids)
    for token, width in widths.items():
        begins = starts[: tf.maximum(count - width + 1, 0)]
        spelled = _substrings(text, begins, tf.minimum(begins + len(token.encode("utf-8")), ends[-1:]))
        found = tf.pad(tf.cast(tf.equal(spelled, token), tf.int32), [[0, width]])[:count]
        special += found * (tokenizer.token_to_id(token) + 1)
        for more in range(1, width):
            is_inside += tf.pad(found, [[more, 0]])[:count]
    kept = tf.where(tf.equal(is_inside, 0))[:, 0]
    return tf.gather(tf.where(special > 0, special - 1, ids), kept)


def of_tokens(task, max_length):
    """A function of packed ids `[1, max_length]` to the outputs, and its specification."""
    length = max_length or (task.preprocessor.max_length if task.preprocessor else task.encoder.config.max_position_embeddings)
    return task.serve_tokens, {name: tf.TensorSpec([1, length], tf.int32, name=name) for name in INPUT_NAMES}
