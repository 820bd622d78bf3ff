"""SavedModels: strings in, answers out, for `tf.saved_model.load` and TF Serving, without kbert."""

import tensorflow as tf

from kbert.atomic_files import check_target, written_aside


def export_saved_model(task, path, overwrite=False):
    """Writes a SavedModel whose `serving_default` takes strings.

    >>> export_saved_model(task, "models/emotion/1")  # doctest: +SKIP

    Signature `serving_default`: `text`, string `[B]`, gives what the task's `serving_outputs` says; for a
    `TextClassifier`, `label` string `[B]`, `score` float32 `[B]` and `probabilities` float32 `[B, labels]`. Any batch
    size, any length (cut at the task's `max_length`). The process that opens it imports tensorflow_text, for the
    tokenization ops, and nothing of kbert.

    Args:
      task: a task with a preprocessor.
      path: the folder to write; for TF Serving its name is a version number.
      overwrite: replace a folder that is there.

    Returns:
      The path.

    Raises:
      FileExistsError: the folder is there; ValueError: the task has no preprocessor.
    """
    path = check_target(path, overwrite)
    module = text_to_answer(task)
    with written_aside(path) as aside:
        # Only inference is exported, so the functions' own gradients may stay behind.
        tf.saved_model.save(
            module,
            str(aside),
            signatures={"serving_default": module.answer},
            options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )
    return path


def text_to_answer(task):
    """A tf.Module whose `answer` takes strings and owns the task's weights."""
    if task.preprocessor is None:
        raise ValueError("a task without a preprocessor cannot take strings; build it with a TextPreprocessor to export it")
    module = tf.Module()
    module.weights = [variable.value for variable in task.variables]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def answer(text):
        return task.serving_outputs(task(task._pack(task.tokenizer.call(text)), training=False))

    module.answer = answer
    return module
