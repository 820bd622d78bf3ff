"""LiteRT (.tflite) files: strings in, answers out, on a phone; or token ids in, in built-in ops only."""

import warnings

import tensorflow as tf

from kbert.atomic_files import check_target, written_aside
from kbert.encoders.bert import INPUT_NAMES
from kbert.export import mediapipe
from kbert.export.verify import PROBES
from kbert.tasks.frozen import convert
from kbert.tasks.text_classifier import TextClassifier
from kbert.tasks.text_embedder import TextEmbedder

QUANTIZE = (None, "float16", "int8")


def export_litert(task, path, inputs="text", quantize=None, max_length=None, metadata=None, overwrite=False):
    """Writes one .tflite file.

    >>> export_litert(task, "emotion.tflite", quantize="int8")  # doctest: +SKIP

    Signature `serving_default` takes `text`, string `[1]`, and gives what the SavedModel does and `logits`; with `inputs="tokens"` it takes
    `token_ids`, `segment_ids` and `padding_mask`, int32 `[1, max_length]`. A file that takes text needs tensorflow-text's custom ops: in Python
    `InterpreterWithCustomOps(model_path=path, custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS)`. One that takes tokens
    runs anywhere.

    Args:
      task: a task with a preprocessor; with `inputs="text"` a `TextClassifier` or a `TextEmbedder`.
      path: the file to write.
      inputs: `"text"` or `"tokens"`.
      quantize: `"float16"` stores weights in half the bytes, `"int8"` in a quarter, and computes products in int8 with ranges found as it
        runs.
      max_length: positions that every text is computed on; the task's own by default. A shorter one is faster.
      metadata: `"mediapipe"`, with `inputs="tokens"`: what MediaPipe's TextClassifier or TextEmbedder needs to open the file. MediaPipe then
        reads the text, with a clean-up of its own that keeps accents; which of the built-in hard texts it reads otherwise is said in a warning.
      overwrite: replace a file that is there.

    Returns:
      The path.

    Raises:
      FileExistsError: the file is there; ValueError: other inputs, a length beyond the encoder's, no preprocessor; NotImplementedError: a
        task whose answer has no ops in LiteRT, with `inputs="text"`.
    """
    path = check_target(path, overwrite)
    if inputs not in ("text", "tokens"):
        raise ValueError(f'inputs should be "text" or "tokens", got {inputs!r}')
    if quantize not in QUANTIZE:
        raise ValueError(f"quantize should be one of {', '.join(map(repr, QUANTIZE))}, got {quantize!r}")
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
        function, spec = mediapipe.function_of(task, length)
    else:
        function, spec = (of_text if inputs == "text" else of_tokens)(task, max_length)
    with task.encoder.padded():  # XNNPACK computes shapes that are known beforehand
        content = convert({"serving_default": (function, spec)}, [variable.value for variable in task.variables], quantize)
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
    return path


def of_text(task, max_length):
    """A function of `{"text": [1]}` to the answer, and its specification."""
    if task.preprocessor is None:
        raise ValueError("a task without a preprocessor cannot take strings; build it with a TextPreprocessor to export it")
    if not isinstance(task, (TextClassifier, TextEmbedder)):
        raise NotImplementedError(
            f'the answer of a {type(task).__name__} needs ops that LiteRT lacks; inputs="tokens" gives its logits'
        )
    if getattr(task, "window_stride", None) is not None:
        raise ValueError("a LiteRT file reads one window of a text: export a task without window_stride, which cuts long texts")
    if task.tokenizer.recognize_special_tokens:
        raise ValueError(
            "recognize_special_tokens takes a regular expression, which LiteRT does not have; turn it off to export"
        )
    config = {**task.preprocessor.get_config(), "fixed_length": True}
    config["max_length"] = max_length or config["max_length"]
    preprocessor = type(task.preprocessor)(**{**config, "tokenizer": task.tokenizer})

    def answer(inputs):
        packed = preprocessor.call((inputs["text"],))
        return task.serve_tokens({name: tf.reshape(ids, [1, preprocessor.max_length]) for name, ids in packed.items()})

    return answer, {"text": tf.TensorSpec([1], tf.string, name="text")}


def of_tokens(task, max_length):
    """A function of packed ids `[1, max_length]` to the outputs, and its specification."""
    length = max_length or (task.preprocessor.max_length if task.preprocessor else task.encoder.config.max_position_embeddings)
    return task.serve_tokens, {name: tf.TensorSpec([1, length], tf.int32, name=name) for name in INPUT_NAMES}
