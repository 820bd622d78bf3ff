"""LiteRT (.tflite) files: strings in, answers out, on a phone."""

import tensorflow as tf

from kbert.atomic_files import check_target, written_aside


def export_litert(task, path, inputs="text", max_length=None, overwrite=False):
    """Writes one .tflite file that takes a string.

    >>> export_litert(task, "emotion.tflite")  # doctest: +SKIP

    Signature `serving_default`: `text`, string `[1]`; outputs as in the SavedModel. The file needs tensorflow-text's custom ops: in Python
    `InterpreterWithCustomOps(path, custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS)`.

    Args:
      task: a task with a preprocessor.
      path: the file to write.
      inputs: `"text"`.
      max_length: positions that every text is computed on; the task's own by default. A shorter one is faster.
      overwrite: replace a file that is there.

    Returns:
      The path.

    Raises:
      FileExistsError: the file is there; ValueError: other inputs, a length beyond the encoder's, no preprocessor.
    """
    path = check_target(path, overwrite)
    if inputs != "text":
        raise ValueError(f'inputs should be "text", got {inputs!r}')
    if task.preprocessor is None:
        raise ValueError("a task without a preprocessor cannot take strings; build it with a TextPreprocessor to export it")
    if getattr(task, "window_stride", None) is not None:
        raise ValueError("a LiteRT file reads one window of a text: export a task without window_stride, which cuts long texts")
    if task.tokenizer.recognize_special_tokens:
        raise ValueError(
            "recognize_special_tokens takes a regular expression, which LiteRT does not have; turn it off to export"
        )
    config = {**task.preprocessor.get_config(), "fixed_length": True}
    config["max_length"] = max_length or config["max_length"]
    if config["max_length"] > task.encoder.config.max_position_embeddings:
        raise ValueError(
            f"max_length {max_length} is more than the encoder's {task.encoder.config.max_position_embeddings} positions"
        )
    preprocessor = type(task.preprocessor)(**{**config, "tokenizer": task.tokenizer})

    @tf.function(input_signature=[tf.TensorSpec([1], tf.string, name="text")])
    def answer(text):
        packed = {name: tf.reshape(ids, [1, preprocessor.max_length]) for name, ids in preprocessor.call((text,)).items()}
        return task.serving_outputs(task(packed, training=False))

    real_tokens = task.encoder.real_tokens
    task.encoder.real_tokens = False  # XNNPACK computes shapes that are known beforehand
    try:
        concrete = answer.get_concrete_function()
    finally:
        task.encoder.real_tokens = real_tokens
    module = tf.Module()
    module.weights = [variable.value for variable in task.variables]
    module.answer = answer
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    converter.allow_custom_ops = True  # tensorflow-text's
    content = converter.convert()
    with written_aside(path) as aside:
        aside.write_bytes(content)
    return path
