"""SavedModels: strings in, answers out, for `tf.saved_model.load` and TF Serving, without kbert."""

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kbert.encoders.bert import INPUT_NAMES
from kbert.export.verify import TOLERANCES, check, input_names, say_untrained
from kbert.files.atomic import check_target, written_aside
from kbert.tasks.text_classifier import REGRESSION, TextClassifier
from kbert.tasks.text_embedder import TextEmbedder

METHODS = {
    "classify": "tensorflow/serving/classify",
    "regress": "tensorflow/serving/regress",
}  # what TF Serving's APIs look for


def export_saved_model(task, path, pairs=False, quantize=None, overwrite=False, verify=True, beside=None):
    """Writes a SavedModel that takes strings.

    >>> export_saved_model(task, "models/emotion/1")  # doctest: +SKIP

    Its signatures, for any number of texts of any length:

    | signature | takes | gives |
    |---|---|---|
    | `serving_default` | `text` string `[B]` (and `text_pair` with `pairs=True`; `question` and `context`) | see below |
    | `tokens` | `token_ids`, `segment_ids`, `padding_mask`, int32 `[B, L]` | the same, or `logits` |
    | `tokenize` | as `serving_default` | the three above; a text beyond the task's `max_length` is cut |
    | `classify` | `inputs`, serialized `tf.Example`s with a feature `text`, for TF Serving's Classify API | `classes`, `scores` |
    | `regress` | the same, for its Regress API | `outputs` |
    | `embed` | `text`, of an embedder | `embedding` |

    `serving_default` gives, of a `TextClassifier`, `label` string `[B]`, `score` `[B]` and `probabilities` `[B, labels]` (of a regression
    `scores` `[B, numbers]`); of a `TextEmbedder` `embedding` `[B, D]`; of the others what their `serve` says: entities one after the other with
    `row_splits`, the text and place of an answer, the tokens of masks.

    The process that opens it imports tensorflow_text for the tokenization ops, and nothing of kbert.

    Args:
      task: a task with a preprocessor.
      path: the folder to write; for TF Serving its name is a version number.
      pairs: whether a `TextClassifier` takes pairs of texts.
      quantize: `"float16"` stores the weights in half the bytes; each call then casts them, which takes time.
      overwrite: replace a folder that is there.
      verify: open what was written, and compare its answers on a built-in set of texts with the task's, before it takes its place.
      beside: a function of the folder, before it takes its place, that writes more into it.

    Returns:
      The path.

    Raises:
      FileExistsError: the folder is there; ValueError: the task has no preprocessor; RuntimeError: the answers differ, and the texts are named.
    """
    path = check_target(path, overwrite)
    if quantize not in (None, "float16"):
        raise ValueError(f'quantize should be None or "float16" for a SavedModel, got {quantize!r}')
    module = to_module(task, pairs, tf.float16 if quantize else None)
    say_untrained(task)
    with written_aside(path) as aside:
        # Only inference is exported, so the functions' own gradients may stay behind.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, str(aside), signatures=dict(module.functions), options=options)
        name_methods(aside / "saved_model.pb")
        if verify:
            check(aside, task, pairs, tolerance=TOLERANCES[quantize])
        if beside:
            beside(aside)
    return path


def to_module(task, pairs=False, stored=None):
    """A tf.Module whose `functions` are the signatures, and which owns the task's weights, or copies in the type `stored`."""
    if task.preprocessor is None:
        raise ValueError("a task without a preprocessor cannot take strings; build it with a TextPreprocessor to export it")
    if pairs and (not isinstance(task, TextClassifier) or task.window_stride is not None):
        raise ValueError("pairs=True is for a TextClassifier without windows")
    names = input_names(task, pairs)
    text_specs = [tf.TensorSpec([None], tf.string, name=name) for name in names]
    token_specs = [tf.TensorSpec([None, None], tf.int32, name=name) for name in INPUT_NAMES]

    def tokens(*columns):
        return task.serve_tokens(dict(zip(INPUT_NAMES, columns)))

    def tokenize(*texts):
        return task.preprocessor.call(texts)

    def read(inputs):
        """Serialized tf.Examples to their texts."""
        features = tf.io.parse_example(inputs, {name: tf.io.FixedLenFeature([], tf.string) for name in names})
        return [features[name] for name in names]

    def classify(inputs):
        outputs = task.serve(*read(inputs))["probabilities"]
        return {"classes": tf.tile(tf.constant(task.labels)[None], [tf.shape(outputs)[0], 1]), "scores": outputs}

    def regress(inputs):
        return {"outputs": task.serve(*read(inputs))["scores"]}

    signatures = {
        "serving_default": (task.serve, text_specs),
        "tokens": (tokens, token_specs),
        "tokenize": (tokenize, text_specs),
    }
    serialized = [tf.TensorSpec([None], tf.string, name="inputs")]
    if isinstance(task, TextClassifier) and task.problem_type != REGRESSION:
        signatures["classify"] = (classify, serialized)
    elif isinstance(task, TextClassifier) and len(task.labels) == 1:
        signatures["regress"] = (regress, serialized)
    if isinstance(task, TextEmbedder):
        signatures["embed"] = (task.serve, text_specs)
    module = tf.Module()
    if stored is None:
        module.weights = [variable.value for variable in task.variables]
    else:
        module.weights = [tf.Variable(tf.cast(variable.value, stored), trainable=False) for variable in task.variables]

    def reading(function):
        """The function, traced on the stored copies."""

        def read(*inputs):
            mapped = [(ours, tf.cast(copy, ours.dtype)) for ours, copy in zip(task.variables, module.weights)]
            with keras.StatelessScope(state_mapping=mapped):
                return function(*inputs)

        return function if stored is None else read

    module.functions = {
        name: tf.function(reading(function), input_signature=specs, autograph=False)
        for name, (function, specs) in signatures.items()
    }
    return module


def name_methods(path):
    """Gives the signatures of the Classify and Regress APIs their method names; `tf.saved_model.save` calls them all predict."""
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in model.meta_graphs:
        for name, method in METHODS.items():
            if name in graph.signature_def:
                graph.signature_def[name].method_name = method
    path.write_bytes(model.SerializeToString())
