"""LiteRT (.tflite) files: strings in, answers out, on a phone; or token ids in, in built-in ops only."""

from __future__ import annotations

import contextlib
import importlib.util
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from kbert.checkpoints.untrained_weights import warn_of_untrained_export
from kbert.encoders.bert import INPUT_NAMES
from kbert.encoders.real_tokens import all_positions
from kbert.engines.litert_converter import QUANTIZATIONS, convert
from kbert.export import mediapipe
from kbert.export.agreement import check_agreement, with_given
from kbert.export.calibrated import check_calibration, copy_of, in_int8, ranges_of
from kbert.export.verify import TOLERANCES, check
from kbert.files.atomic import written_aside
from kbert.files.targets import LITERT, check_target
from kbert.messages import own_texts
from kbert.tasks.one_window import fixed_shape
from kbert.tasks.probes import PROBES
from kbert.training.precision import check_float32

if TYPE_CHECKING:
    from kbert.tasks.task import Task

Texts = Sequence[str] | tuple[Sequence[str], Sequence[str]]
Signatures = dict[str, tuple[Callable[..., Any], dict[str, tf.TensorSpec]]]  # a function and its specification by name


def export_litert(
    task: Task,
    path: str | pathlib.Path,
    inputs: str = "text",
    quantize: str | None = None,
    max_length: int | None = None,
    metadata: str | None = None,
    pairs: bool | None = None,
    texts: Texts | None = None,
    overwrite: bool = False,
    verify: bool = True,
    agreement: float | None = None,
) -> pathlib.Path:
    """Writes one .tflite file.

    >>> export_litert(task, "emotion.tflite", quantize="int8")  # doctest: +SKIP

    Signature `serving_default` takes `text`, string `[1]` (a question answerer `question` and `context`; with `pairs=True`
    `text` and `text_pair`). It answers from as much of the text as `max_length` holds:

    | task | outputs |
    |---|---|
    | `TextClassifier` | `label`, `score`, `probabilities` `[1, labels]` and `logits`; of a regression `scores` |
    | `TextEmbedder` | `embedding` `[1, D]` |
    | `TokenClassifier` | `count` `[1]`, and `label`, `entity`, `start`, `end`, `score`, `[max_length - 2]` |
    | `QuestionAnswerer` | `answer`, `start`, `end`, `score`, `no_answer`, `[1]` |
    | `MaskedLM` | `count` `[1]`, and `tokens`, `ids`, `scores` `[max_length - 2, 5]` |

    `count` says how many of the values are there; the others are empty. `start` and `end` are in characters. A second
    signature, `tokenize`, gives the ids of the same strings: `token_ids`, `segment_ids` and `padding_mask`, int32 `[1,
    max_length]`. With `inputs="tokens"` the file takes those three, and gives the outputs of a call.

    A file that takes text needs tensorflow-text's custom ops: in Python `InterpreterWithCustomOps(model_path=path,
    custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS)`. A file that takes tokens runs anywhere.

    Args:
      task: a task with a preprocessor.
      path: the file to write.
      inputs: `"text"` or `"tokens"`.
      quantize: `"float16"` stores weights in half the bytes. `"int8"` stores them in a quarter of the bytes, and computes
        products in int8 with ranges found as the file runs. `"int8-static"` has the ranges found beforehand, on `texts`, for
        processors that cannot find any; on a CPU it is no faster.
      max_length: positions that every text is computed on; the task's own by default. A shorter one is faster.
      metadata: `"mediapipe"`, with `inputs="tokens"`, adds what MediaPipe's TextClassifier or TextEmbedder needs to open the
        file. MediaPipe then reads the text, with a clean-up of its own that keeps accents. A warning names the built-in hard
        texts that it reads otherwise.
      pairs: whether a `TextClassifier` takes pairs of texts; by default it does if it was trained on pairs.
      texts: for `"int8-static"`, some hundred texts like those that the file will read: a list, or a tuple of two columns.
      overwrite: replace a file that is there.
      verify: open the file, and compare its answers on a built-in set of texts with the task's, before it takes its place:
        within 1e-4, in float16 within 5e-3. An int8 file has to keep the share `agreement` of the labels of these texts and
        of the first 200 `texts`. Its numbers have to correlate with the task's by 0.9 or more.
      agreement: the least share of labels (entities, answers, tokens) that an int8 file has to keep; 0.95 by default. With
        0 neither labels nor correlation are asked for.

    Returns:
      The path.

    Raises:
      FileExistsError: the file is there and `overwrite` is False, or a folder is there.
      ValueError: the task computes in half precision, an argument is none of these, the length is beyond the encoder's, or
        the task has no preprocessor.
      NotImplementedError: a `Pretrainer` is given with `inputs="text"`.
      RuntimeError: the answers differ; the texts are named.
    """
    path = check_target(path, overwrite, LITERT)
    check_float32(task.encoder, "a LiteRT file")
    check_arguments(task, inputs, quantize, max_length, metadata, texts)
    least = check_agreement(agreement, quantize)
    columns = None
    if texts is not None:
        given = task.text_columns(texts)
        columns = with_given(task.probes(len(given) > 1 if inputs == "tokens" else pairs), given)
    source = copy_of(task) if quantize == "int8-static" else task  # the layers compute in int8 while they are converted
    if metadata:
        mediapipe.check_task(task)
        signatures = {"serving_default": mediapipe.function_of(source, max_length or task.preprocessor.max_length)}
    elif inputs == "tokens":
        signatures = {"serving_default": of_tokens(source, max_length)}
    else:
        signatures = of_text(source, max_length, pairs)
    warn_of_untrained_export(task.new_weights)
    static = in_int8(source, ranges_of(source, texts, max_length)) if quantize == "int8-static" else contextlib.nullcontext()
    with all_positions(), static:  # XNNPACK computes shapes that are known beforehand
        content = convert(signatures, [variable.value for variable in source.variables], quantize)
    if metadata:
        content = mediapipe.with_metadata(content, task)
        warn_of_other_ids(task, max_length or task.preprocessor.max_length)
    with written_aside(path) as aside:
        aside.write_bytes(content)
        if verify and task.preprocessor is not None:
            if importlib.util.find_spec("ai_edge_litert") is None:
                warnings.warn(f'{path} is not compared with the task: that takes pip install "kbert[litert]"', stacklevel=3)
            else:
                with own_texts():
                    check(aside, task, pairs, columns, TOLERANCES.get(quantize), max_length, least)
    return path


def check_arguments(
    task: Task, inputs: str, quantize: str | None, max_length: int | None, metadata: str | None, texts: Texts | None
) -> None:
    """Raises a ValueError for arguments of `export_litert` that are unknown or do not go together.

    They are `task`, `inputs`, `quantize`, `max_length`, `metadata` and `texts` as `export_litert` takes them.
    """
    if inputs not in ("text", "tokens"):
        raise ValueError(f'inputs should be "text" or "tokens", got {inputs!r}')
    if quantize not in QUANTIZATIONS:
        raise ValueError(f"quantize should be one of {', '.join(map(repr, QUANTIZATIONS))}, got {quantize!r}")
    if quantize == "int8-static":
        check_calibration(task, texts)
    elif texts is not None:
        raise ValueError(
            f'texts are what quantize="int8-static" finds its ranges on; with quantize={quantize!r} leave them out'
        )
    positions = task.encoder.config.max_position_embeddings
    if max_length is not None and max_length > positions:
        raise ValueError(f"max_length {max_length} is more than the encoder's {positions} positions")
    if metadata not in (None, "mediapipe"):
        raise ValueError(f'metadata should be None or "mediapipe", got {metadata!r}')
    if metadata and inputs != "tokens":
        raise ValueError('MediaPipe reads the text itself: metadata="mediapipe" goes with inputs="tokens"')


def of_text(task: Task, max_length: int | None, pairs: bool | None = None) -> Signatures:
    """Returns the signatures of a file that takes texts `[1]`: one for the answer, one for the ids.

    Args:
      task: the task.
      max_length: positions of the window; the task's own if None.
      pairs: whether the file takes pairs of texts; by default it does if the task was trained on pairs.
    """
    if task.preprocessor is None:
        raise ValueError("a task without a preprocessor cannot take strings; build it with a TextPreprocessor to export it")
    preprocessor = task.preprocessor.with_length(max_length, fixed_length=True)
    answer = task.window_answer(preprocessor)
    names = task.string_inputs(pairs)
    if task.tokenizer.typed_tokens:
        raise ValueError(
            "recognize_special_tokens and added_tokens take a regular expression, which LiteRT does not have; turn them off "
            f"to export (they name {', '.join(task.tokenizer.typed_tokens[:5])})"
        )
    spec = {name: tf.TensorSpec([1], tf.string, name=name) for name in names}
    return {
        "serving_default": (lambda inputs: answer(*(inputs[name] for name in names)), spec),
        "tokenize": (
            lambda inputs: fixed_shape(preprocessor, preprocessor.call(tuple(inputs[name] for name in names))),
            spec,
        ),
    }


def of_tokens(task: Task, max_length: int | None) -> tuple[Callable[..., Any], dict[str, tf.TensorSpec]]:
    """Returns a function from packed ids `[1, L]` to the outputs of a call, and its specification.

    Args:
      task: the task.
      max_length: `L`; the preprocessor's or else the encoder's own if None.
    """
    length = max_length or (task.preprocessor.max_length if task.preprocessor else task.encoder.config.max_position_embeddings)
    return task.serve_tokens, {name: tf.TensorSpec([1, length], tf.int32, name=name) for name in INPUT_NAMES}


def warn_of_other_ids(task: Task, length: int) -> None:
    """Warns of the built-in hard texts that MediaPipe reads as other ids than the task does, of rows of `length` positions."""
    other = mediapipe.texts_read_otherwise(task, [text for text in PROBES if text.strip()], length)
    if other:
        warnings.warn(
            f"MediaPipe reads {len(other)} of {len(PROBES)} hard texts as other ids than the model was trained on "
            "(it keeps accents): " + ", ".join(f"{text!r:.40}" for text in other),
            stacklevel=4,
        )
