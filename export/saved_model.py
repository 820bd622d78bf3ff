"""SavedModels: strings in, answers out, for `tf.saved_model.load` and TF Serving, without kbert."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kbert.checkpoints.untrained_weights import warn_of_untrained_export
from kbert.encoders.bert import INPUT_NAMES
from kbert.engines.saved_model import save
from kbert.export.checked_inputs import packed_of, texts_of, texts_of_examples
from kbert.export.verify import TOLERANCES, check
from kbert.files.atomic import written_aside
from kbert.files.targets import SAVED_MODEL, check_target

if TYPE_CHECKING:
    from kbert.tasks.task import Task

# The method names that TF Serving's APIs look for. Signatures of these names take serialized tf.Examples.
METHODS = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}


def export_saved_model(
    task: Task,
    path: str | pathlib.Path,
    pairs: bool | None = None,
    quantize: str | None = None,
    overwrite: bool = False,
    verify: bool = True,
    beside: Callable[[pathlib.Path], None] | None = None,
) -> pathlib.Path:
    """Writes a SavedModel that takes strings.

    >>> export_saved_model(task, "models/emotion/1")  # doctest: +SKIP

    Its signatures, for any number of texts of any length:

    | signature | takes | gives |
    |---|---|---|
    | `serving_default` | `text` string `[B]` (with `pairs=True` also `text_pair`), or `question` and `context` | see below |
    | `tokens` | `token_ids`, `segment_ids`, `padding_mask`, int32 `[B, L]` | the same, or `logits` |
    | `tokenize` | as `serving_default` | the three above; a text beyond the task's `max_length` is cut |
    | `classify` | `inputs`, serialized `tf.Example`s with the same features, for the Classify API | `classes`, `scores` |
    | `regress` | the same, for the Regress API | `outputs` |
    | `embed` | `text`, of an embedder | `embedding` |
    | `labels` | `text`, any string, of a task with labels | `labels` `[B, labels]`: the order of the other outputs |

    `serving_default` of a `TextClassifier` gives `label` string `[B]`, `score` `[B]` and `probabilities` `[B, labels]`; of a
    regression it gives `scores` `[B, numbers]`. Of a `TextEmbedder` it gives `embedding` `[B, D]`. The other tasks describe
    theirs under `serve`: entities and masks with the `count` of each text, the text and place of an answer. The first axis of
    every output is the rows of the request, because servers join requests at it. `docs/serving.md` has an example of each.

    A request whose inputs do not fit (their axes, their rows, ids beyond the tables) is answered by an INVALID_ARGUMENT that
    names the input. Bytes that are not UTF-8 are read as U+FFFD.

    The Classify and Regress APIs are TF Serving's. The process that opens the folder imports tensorflow_text for the
    tokenization ops, and nothing of kbert.

    Args:
      task: a task with a preprocessor.
      path: the folder to write; for TF Serving its name is a version number.
      pairs: whether a `TextClassifier` takes pairs of texts; by default it does if it was trained on pairs.
      quantize: `"float16"` stores the weights in half the bytes; each call then casts them, which takes time.
      overwrite: replace a folder that is there.
      verify: open what was written, and compare its answers on a built-in set of texts with the task's, before it takes its
        place.
      beside: a function that writes more into the folder, whose path it is given, before the folder takes its place.

    Returns:
      The path.

    Raises:
      FileExistsError: something is there, and `overwrite` is False or the folder holds other files than a SavedModel's.
      ValueError: the task has no preprocessor, or no answer to pairs; `quantize` is neither None nor `"float16"`; or the path
        has the suffix of another kind of file.
      RuntimeError: the answers differ; the texts are named.
    """
    path = check_target(path, overwrite, SAVED_MODEL)
    if quantize not in (None, "float16"):
        raise ValueError(f'quantize should be None or "float16" for a SavedModel, got {quantize!r}')
    module = to_module(task, pairs, tf.float16 if quantize else None)
    warn_of_untrained_export(task.new_weights)
    with written_aside(path) as aside:
        save(module, aside)
        name_methods(aside / "saved_model.pb")
        if verify:
            check(aside, task, pairs, tolerance=TOLERANCES[quantize])
        if beside:
            beside(aside)
    return path


def to_module(task: Task, pairs: bool | None = None, stored: tf.DType | None = None) -> tf.Module:
    """Returns a module whose `functions` are the signatures, and which owns the weights.

    Args:
      task: a task with a preprocessor.
      pairs: whether the signatures take pairs of texts; by default they do if the task was trained on pairs.
      stored: the type in which the module has copies of the weights; by default it has the task's own variables.
    """
    if task.preprocessor is None:
        raise ValueError("a task without a preprocessor cannot take strings; build it with a TextPreprocessor to export it")
    module = tf.Module()
    if stored is None:
        module.weights = [variable.value for variable in task.variables]
    else:
        module.weights = [tf.Variable(tf.cast(variable.value, stored), trainable=False) for variable in task.variables]

    def reading_copies(function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function, in which the stored copies stand in the place of the task's variables."""

        def on_copies(*inputs: tf.Tensor) -> Any:
            mapped = [(variable, tf.cast(copy, variable.dtype)) for variable, copy in zip(task.variables, module.weights)]
            with keras.StatelessScope(state_mapping=mapped):
                return function(*inputs)

        return on_copies

    module.functions = {
        name: tf.function(function if stored is None else reading_copies(function), input_signature=specs, autograph=False)
        for name, (function, specs) in signatures_of(task, task.string_inputs(pairs)).items()
    }
    return module


def signatures_of(task: Task, names: Sequence[str]) -> dict[str, tuple[Callable[..., Any], list[tf.TensorSpec]]]:
    """Returns a function and its input specification for each signature.

    Args:
      task: a task with a preprocessor.
      names: the names of the string inputs.
    """
    text_specs = [tf.TensorSpec([None], tf.string, name=name) for name in names]
    token_specs = [tf.TensorSpec([None, None], tf.int32, name=name) for name in INPUT_NAMES]
    example_specs = [tf.TensorSpec([None], tf.string, name="inputs")]

    def tokens(*columns: tf.Tensor) -> dict[str, tf.Tensor]:
        return task.serve_tokens(packed_of(dict(zip(INPUT_NAMES, columns)), task.encoder.config))

    def labels(text: tf.Tensor) -> dict[str, tf.Tensor]:
        # A signature without an input cannot be asked by REST, nor of a server that joins requests.
        rows = tf.size(texts_of({"text": text})[0])
        return {"labels": tf.tile(tf.constant(list(task.served_labels))[None], [rows, 1])}

    def of_texts(function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function of the string inputs that checks them first."""
        return lambda *texts: function(*texts_of(dict(zip(names, texts))))

    def of_examples(function: Callable[..., Any]) -> Callable[[tf.Tensor], Any]:
        """Returns a function of serialized tf.Examples, whose features have the names of the string inputs."""
        return lambda inputs: function(*texts_of_examples(inputs, names))

    signatures = {
        "serving_default": (of_texts(task.serve), text_specs),
        "tokens": (tokens, token_specs),
        "tokenize": (of_texts(lambda *texts: task.preprocessor.call(texts)), text_specs),
    }
    if task.served_labels:
        signatures["labels"] = (labels, [tf.TensorSpec([None], tf.string, name="text")])
    for name, function in task.serving_apis().items():
        signatures[name] = (of_examples(function), example_specs) if name in METHODS else (of_texts(function), text_specs)
    return signatures


def name_methods(path: pathlib.Path) -> None:
    """Writes the method names of the Classify and Regress APIs into a `saved_model.pb`.

    `tf.saved_model.save` gives every signature the method name of the Predict API.
    """
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in model.meta_graphs:
        for name, method in METHODS.items():
            if name in graph.signature_def:
                graph.signature_def[name].method_name = method
    path.write_bytes(model.SerializeToString())
