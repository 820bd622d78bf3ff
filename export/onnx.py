"""ONNX files: token ids in, for onnxruntime and for code that reads Hugging Face's exports; or text in (`onnx_text`)."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from kbert.checkpoints.untrained_weights import warn_of_untrained_export
from kbert.encoders.real_tokens import all_positions
from kbert.export.agreement import check_agreement
from kbert.export.exported_file import ONNX_NAMES, ONNX_OUTPUTS, OnnxFile
from kbert.export.onnx_text import OPSET, check_tokenizer, put_tokenizer_before
from kbert.export.verify import TOLERANCE, check
from kbert.files.atomic import written_aside
from kbert.files.targets import ONNX, check_target
from kbert.tasks.probes import PROBES
from kbert.training.precision import check_float32

if TYPE_CHECKING:
    from kbert.tasks.task import Task


def export_onnx(
    task: Task,
    path: str | pathlib.Path,
    inputs: str = "tokens",
    quantize: str | None = None,
    texts: Sequence[str] | None = None,
    overwrite: bool = False,
    verify: bool = True,
    agreement: float | None = None,
) -> pathlib.Path:
    """Writes an ONNX file with the names of Hugging Face's exports, so that code for those runs it.

    >>> export_onnx(task, "emotion.onnx")  # doctest: +SKIP

    The inputs are `input_ids`, `attention_mask` and, where the encoder has segments, `token_type_ids`, int64 `[B, L]`. The
    output is `logits`; a `QuestionAnswerer` has `start_logits` and `end_logits`, a `TextEmbedder` `sentence_embedding`. Any
    batch size and length will do.

    With `inputs="text"` the file takes `text`, string `[1]`; that of a `TextClassifier` also gives `probabilities` `[1,
    labels]` and `label`. Text is then read by onnxruntime-extensions' BertTokenizer, which the session needs
    (`SessionOptions.register_custom_ops_library`), and which reads some scripts in another way than BERT. So the ids are
    compared first, and the export is refused if they differ.

    Args:
      task: any task; with `inputs="text"` a `TextClassifier` or a `TextEmbedder`.
      path: the file to write.
      inputs: `"tokens"` or `"text"`.
      quantize: `"int8"` stores the weights of matrix products in a quarter of the bytes, by onnxruntime's quantizer.
      texts: with `inputs="text"`, texts of the kind that the file is for, on which the ids have to be equal. By default they
        are a built-in set with many scripts, of which BertTokenizer reads Hindi, Thai and Korean in another way.
      overwrite: replace a file that is there.
      verify: check the file with `onnx.checker`, run it, and compare it with the task before it takes its place. An int8 file
        has to keep the share `agreement` of the labels, and its numbers have to correlate with the task's by 0.9 or more.
      agreement: the least share of labels (answers, tokens) that an int8 file has to keep; 0.95 by default. With 0 neither
        labels nor correlation are asked for.

    Returns:
      The path.

    Raises:
      FileExistsError: the file is there and `overwrite` is False, or a folder is there.
      ImportError: the extra `onnx` is missing.
      ValueError: the task computes in half precision, an argument is none of these, or BertTokenizer reads the texts in
        another way.
      RuntimeError: the outputs differ.
    """
    path = check_target(path, overwrite, ONNX)
    check_float32(task.encoder, "an ONNX file")
    if inputs not in ("tokens", "text"):
        raise ValueError(f'inputs should be "tokens" or "text", got {inputs!r}')
    if texts is not None and inputs != "text":
        raise ValueError('texts are for inputs="text", whose ids are compared on them')
    if quantize not in (None, "int8"):
        raise ValueError(f"quantize should be None or 'int8', got {quantize!r}")
    least = check_agreement(agreement, quantize)
    try:
        import onnx
        import tf2onnx  # noqa: F401 - missing packages are named before any work
    except ImportError as error:
        raise ImportError('ONNX files are written with tf2onnx: pip install "kbert[onnx]"') from error
    if inputs == "text":
        texts = PROBES if texts is None else list(texts)
        check_tokenizer(task, texts)
    warn_of_untrained_export(task.new_weights)
    model, function, names = to_model(task)
    onnx.checker.check_model(model)
    with written_aside(path) as aside:
        onnx.save(model, aside)
        if verify and task.preprocessor is None:
            _compare_random_ids(aside, task, function, names)
        elif verify:
            check(aside, task)
        if quantize:
            _quantize(aside)
        if inputs == "text":
            model = onnx.load(aside)
            put_tokenizer_before(model, task)
            onnx.save(model, aside)
        if verify and task.preprocessor is not None and (quantize or inputs == "text"):
            columns = (texts,) if texts else None
            check(aside, task, columns=columns, tolerance=None if quantize else TOLERANCE, agreement=least)
    return path


def to_model(task: Task) -> tuple[Any, Callable[..., dict[str, tf.Tensor]], list[str]]:
    """Converts a task to an ONNX model of ids.

    Returns:
      The `ModelProto`, the TensorFlow function that it was converted from, and the names of their inputs, which are int64 `[B,
      L]`.
    """
    import tf2onnx

    names = [name for name in ONNX_NAMES if name != "token_type_ids" or task.encoder.config.type_vocab_size]

    def answer(*columns: tf.Tensor) -> dict[str, tf.Tensor]:
        packed = {ONNX_NAMES[name]: tf.cast(column, tf.int32) for name, column in zip(names, columns)}
        packed.setdefault("segment_ids", tf.zeros_like(packed["token_ids"]))
        outputs = task(packed, training=False)
        return outputs if isinstance(outputs, dict) else {task.onnx_output: outputs}

    spec = [tf.TensorSpec([None, None], tf.int64, name=name) for name in names]
    with all_positions(), warnings.catch_warnings():
        function = tf.function(answer, input_signature=spec, autograph=False)
        warnings.simplefilter("ignore")
        model, _ = tf2onnx.convert.from_function(function, input_signature=spec, opset=OPSET)
        for value in (*model.graph.input, *model.graph.output):  # names in place of tf2onnx's unk__1
            for axis, dimension in zip(("batch", "length"), value.type.tensor_type.shape.dim):
                if not dimension.dim_value:
                    dimension.dim_param = axis
    return model, function, names


def _quantize(path: pathlib.Path) -> None:
    """Replaces an ONNX file by one with the weights of matrix products in int8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_name(f"whole-{path.name}")
    path.rename(whole)
    quantize_dynamic(whole, path, weight_type=QuantType.QInt8)
    whole.unlink()


def _compare_random_ids(
    path: pathlib.Path, task: Task, function: Callable[..., dict[str, tf.Tensor]], names: Sequence[str]
) -> None:
    """Compares the file of a task without a tokenizer with the traced function, on random ids.

    Args:
      path: the ONNX file.
      task: the task.
      function: the function that the file was converted from.
      names: the names of the function's inputs, in order.

    Raises:
      RuntimeError: an output differs by more than `TOLERANCE`.
    """
    config, random, file = task.encoder.config, np.random.default_rng(0), OnnxFile(path)
    for shape in ((3, min(16, config.max_position_embeddings)), (1, 4)):
        ids = random.integers(0, config.vocab_size, shape)
        packed = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
        outputs = file.run(packed)
        expected = function(*(tf.constant(packed[ONNX_NAMES[name]]) for name in names))
        for name, value in expected.items():
            difference = float(np.abs(outputs[ONNX_OUTPUTS.get(name, name)] - value.numpy()).max(initial=0))
            if not difference <= TOLERANCE:
                raise RuntimeError(f"{name} of the ONNX file differs from the task's by up to {difference:.1e}")
