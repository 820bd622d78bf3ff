"""Students: a task like another one, with fewer or narrower layers, or with a smaller vocabulary."""

import collections
import dataclasses

import numpy as np

from kbert.text.packing import TextPreprocessor
from kbert.text.texts import text_list
from kbert.text.tokenizer import WordPieceTokenizer


def make_student(task, num_hidden_layers=None, hidden_size=None, layers="uniform", **sizes):
    """A smaller task of the same kind, with the same tokenizer and labels. See `Task.make_student`."""
    config = task.encoder.config
    changes = {"num_hidden_layers": num_hidden_layers, "hidden_size": hidden_size, **sizes}
    changes = {name: value for name, value in changes.items() if value is not None}
    unknown = sorted(set(changes) - {field.name for field in dataclasses.fields(config)})
    if unknown:
        raise ValueError(f"{type(config).__name__} has no {unknown[0]!r}")
    if not changes:
        raise ValueError("say what is to be smaller: make_student(num_hidden_layers=3), or hidden_size=...")
    count = changes.get("num_hidden_layers", config.num_hidden_layers)
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"num_hidden_layers should be a positive whole number, got {count!r}")
    same_width = not set(changes) - {"num_hidden_layers"}
    chosen = layer_map(layers, count, config.num_hidden_layers) if same_width else []
    if (
        "hidden_size" in changes
        and "num_attention_heads" not in changes
        and changes["hidden_size"] % config.num_attention_heads
    ):
        raise ValueError(
            f"hidden_size {changes['hidden_size']} is not a multiple of the {config.num_attention_heads} attention heads; "
            "give num_attention_heads too"
        )
    student = rebuilt(task, dataclasses.replace(config, **changes), task.preprocessor)
    if same_width:
        copy_weights(task.encoder.embeddings, student.encoder.embeddings)
        for block, theirs in zip(student.encoder.blocks, chosen):
            copy_weights(task.encoder.blocks[theirs], block)
        if task.encoder.pooler is not None:
            copy_weights(task.encoder.pooler, student.encoder.pooler)
        for ours, theirs in zip(head_variables(student), head_variables(task)):
            ours.assign(theirs)
    else:
        student.new_weights.append("the student's encoder and head")
    return student


def rebuilt(task, config, preprocessor):
    """A task with everything of another one but its encoder's configuration, its preprocessor, and its weights."""
    shared = ("name", "dtype", "encoder", "preprocessor")
    own = {name: value for name, value in task.get_config().items() if name not in shared}
    encoder = type(task.encoder)(config, real_tokens=task.encoder.real_tokens, dtype=task.encoder.dtype_policy)
    return type(task)(encoder, preprocessor, dtype=task.dtype_policy, **own)


def head_variables(task):
    """The weights of a task beside its encoder."""
    inside = {id(variable) for variable in task.encoder.variables}
    return [variable for variable in task.trainable_variables if id(variable) not in inside]


def copy_weights(source, target):
    for theirs, ours in zip(source.variables, target.variables):
        if theirs.dtype == ours.dtype and theirs.shape == ours.shape:
            ours.assign(theirs)


def trim_vocabulary(task, texts, size=None):
    """The same task with only the tokens that texts use. See `Task.trim_vocabulary`."""
    if task.preprocessor is None:
        raise ValueError("this task was built with preprocessor=None: it has no vocabulary to trim")
    texts = text_list(texts, "texts")
    if not texts:
        raise ValueError("texts are needed, like those that the task will read")
    old = task.tokenizer
    seen = collections.Counter(old(texts).values.numpy().tolist())
    special = [old.token_to_id(token) for token in old.special_tokens]
    # Single ASCII characters, at the start of a word and in it, spell whatever word has no piece of its own.
    spelled = [place for place, token in enumerate(old.vocabulary) if len(token.removeprefix("##")) == 1 and token.isascii()]
    least = len(set(special + spelled))
    size = size or len(old.vocabulary)
    if not least <= size:
        raise ValueError(f"size should be at least {least}, the special tokens and single characters; got {size}")
    kept = dict.fromkeys(special + spelled)
    for place, _ in seen.most_common():
        if len(kept) >= size:
            break
        kept.setdefault(place)
    kept = sorted(kept)
    options = {
        name: value for name, value in old.get_config().items() if name not in ("name", "trainable", "dtype", "vocabulary")
    }
    tokenizer = WordPieceTokenizer([old.vocabulary[place] for place in kept], **options)
    settings = task.preprocessor.get_config()
    preprocessor = TextPreprocessor(
        tokenizer, **{name: settings[name] for name in ("max_length", "truncation", "fixed_length", "ragged")}
    )
    config = dataclasses.replace(task.encoder.config, vocab_size=len(kept), pad_token_id=tokenizer.pad_token_id)
    trimmed = rebuilt(task, config, preprocessor)
    size_before = task.encoder.config.vocab_size
    for theirs, ours in zip(task.variables, trimmed.variables):
        if theirs.shape == ours.shape:
            if theirs.dtype == ours.dtype:
                ours.assign(theirs)
            continue
        (axis,) = [axis for axis, (a, b) in enumerate(zip(theirs.shape, ours.shape)) if a != b]
        if theirs.shape[axis] != size_before:
            raise RuntimeError(f"{theirs.path} has shape {theirs.shape}, which is not along the vocabulary")
        ours.assign(np.take(theirs.numpy(), kept, axis))
    unknown = [(read(texts).values.numpy() == read.unk_token_id).mean() for read in (old, tokenizer)]
    trimmed.trimmed = {
        "tokens": len(kept),
        "tokens_before": len(old.vocabulary),
        "unknown": float(unknown[1]),
        "unknown_before": float(unknown[0]),
    }
    return trimmed


def layer_map(kind, student_layers, teacher_layers):
    """Which of the teacher's layers each of the student's is held to, counted from 0.

    >>> layer_map("uniform", 3, 6), layer_map("last", 3, 6), layer_map([0, 2, 5], 3, 6)
    ([1, 3, 5], [3, 4, 5], [0, 2, 5])

    Args:
      kind: `"uniform"`, every so many layers, the last one to the last one (Jiao et al. 2020, section 3.1); `"last"`; or a list.
      student_layers, teacher_layers: how many there are.
    """
    if kind == "uniform":
        return [round((place + 1) * teacher_layers / student_layers) - 1 for place in range(student_layers)]
    if kind == "last":
        if student_layers > teacher_layers:
            raise ValueError(f"layer_map='last' of {student_layers} layers, but the teacher has {teacher_layers}")
        return list(range(teacher_layers - student_layers, teacher_layers))
    if isinstance(kind, str):
        raise ValueError(f"layer_map should be 'uniform', 'last' or a list of the teacher's layers, got {kind!r}")
    layers = [int(layer) for layer in kind]
    if len(layers) != student_layers:
        raise ValueError(
            f"layer_map should name one of the teacher's layers for each of the student's {student_layers}, got {layers}"
        )
    wrong = [layer for layer in layers if not 0 <= layer < teacher_layers]
    if wrong:
        raise ValueError(
            f"layer_map names the teacher's layer {wrong[0]}, but its {teacher_layers} layers are 0 to {teacher_layers - 1}"
        )
    return layers
