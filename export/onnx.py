"""ONNX files: token ids in, for onnxruntime and for code that reads Hugging Face's exports."""

import tempfile
import warnings

import numpy as np
import tensorflow as tf

from kbert.atomic_files import check_target, written_aside
from kbert.export.verify import PROBES, TOLERANCE
from kbert.tasks.text_embedder import TextEmbedder

NAMES = {"input_ids": "token_ids", "attention_mask": "padding_mask", "token_type_ids": "segment_ids"}  # Hugging Face's, ours
OPSET = 17


def export_onnx(task, path, inputs="tokens", quantize=None, overwrite=False, verify=True):
    """Writes an ONNX file with the names of Hugging Face's exports, so that code for those runs it.

    >>> export_onnx(task, "emotion.onnx")  # doctest: +SKIP

    Inputs `input_ids`, `attention_mask` and, where the encoder has segments, `token_type_ids`, int64 `[B, L]`; outputs `logits`, of a
    `QuestionAnswerer` `start_logits` and `end_logits`, of a `TextEmbedder` `sentence_embedding`. Any batch size and length.

    Args:
      task: any task.
      path: the file to write.
      inputs: `"tokens"`.
      quantize: `"int8"` stores the weights of matrix products in a quarter of the bytes, by onnxruntime's quantizer.
      overwrite: replace a file that is there.
      verify: check the file with `onnx.checker`, run it, and compare it with the task before it takes its place; in float32.

    Returns:
      The path.

    Raises:
      FileExistsError: the file is there; ImportError: the extra `onnx` is missing; ValueError: other arguments; RuntimeError: the outputs differ.
    """
    path = check_target(path, overwrite)
    if inputs != "tokens":
        raise ValueError(f'inputs should be "tokens", got {inputs!r}; a SavedModel and a LiteRT file take text')
    if quantize not in (None, "int8"):
        raise ValueError(f"quantize should be None or 'int8', got {quantize!r}")
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise ImportError('ONNX files are written with tf2onnx: pip install "kbert[onnx]"') from error
    names = [name for name in NAMES if name != "token_type_ids" or task.encoder.config.type_vocab_size]

    def answer(*columns):
        packed = {NAMES[name]: tf.cast(column, tf.int32) for name, column in zip(names, columns)}
        packed.setdefault("segment_ids", tf.zeros_like(packed["token_ids"]))
        outputs = task(packed, training=False)
        if isinstance(outputs, dict):
            return outputs
        return {"sentence_embedding" if isinstance(task, TextEmbedder) else "logits": outputs}

    spec = [tf.TensorSpec([None, None], tf.int64, name=name) for name in names]
    with task.encoder.padded():
        function = tf.function(answer, input_signature=spec, autograph=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, _ = tf2onnx.convert.from_function(function, input_signature=spec, opset=OPSET)
        expected = [function(*columns) for columns in _probes(task, names)] if verify else []
    for value in (*model.graph.input, *model.graph.output):  # names in place of tf2onnx's unk__1
        for axis, dimension in zip(("batch", "length"), value.type.tensor_type.shape.dim):
            if not dimension.dim_value:
                dimension.dim_param = axis
    onnx.checker.check_model(model)
    with written_aside(path) as aside:
        onnx.save(model, aside)
        if verify:
            _compare(aside, task, names, expected)
        if quantize:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            with tempfile.NamedTemporaryFile(suffix=".onnx", dir=aside.parent) as whole:
                aside.rename(whole.name)
                quantize_dynamic(whole.name, aside, weight_type=QuantType.QInt8)
    return path


def _probes(task, names):
    """Batches of ids in the order of `names`: the built-in texts where there is a tokenizer, or random ids."""
    config = task.encoder.config
    if task.preprocessor is None:
        ids = np.random.default_rng(0).integers(0, config.vocab_size, (3, min(16, config.max_position_embeddings)))
        packed = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
        batches = [packed, {name: values[:1, :4] for name, values in packed.items()}]
    else:
        batches = [task.preprocessor(texts) for texts in (PROBES, PROBES[:1])]
    return [[tf.cast(packed[NAMES[name]], tf.int64) for name in names] for packed in batches]


def _compare(path, task, names, expected):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    for columns, ours in zip(_probes(task, names), expected):
        found = dict(zip(outputs, session.run(None, {name: column.numpy() for name, column in zip(names, columns)})))
        real = columns[names.index("attention_mask")].numpy()[..., None] if task.positional else 1
        for name, value in ours.items():
            shape = real if np.ndim(real) == 0 or value.shape.rank == 3 else real[..., 0]
            apart = float(np.abs((found[name] - value.numpy()) * shape).max(initial=0))
            if not apart <= TOLERANCE:
                raise RuntimeError(f"{name} of the ONNX file differs from the task's by up to {apart:.1e}")
