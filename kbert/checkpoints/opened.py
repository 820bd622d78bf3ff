"""Opens a preset: from a name, a folder or a live model to what its files say, whichever format they have."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, Protocol

from kbert.checkpoints import catalogue, google, hub, huggingface, keras_hub, object_graph
from kbert.checkpoints.checkpoint import Checkpoint
from kbert.checkpoints.names import Config, Description, Family
from kbert.checkpoints.own_settings import read_own_settings
from kbert.checkpoints.preset_folder import write_preset
from kbert.checkpoints.source_card import Source, read_source
from kbert.checkpoints.weight_files import kernels_are_ours
from kbert.files.atomic import recover
from kbert.files.json import naming, read_json
from kbert.files.vocabulary import read_vocabulary


class ReadFormat(Protocol):
    """A module that reads folders of one format."""

    KIND: str  # what people call such a folder, with an article
    VOCABULARIES: tuple[pathlib.PurePath, ...]  # where the vocabulary may be; the first that is there counts

    def read_config(self, folder: pathlib.Path) -> Description:
        """Reads the configuration file."""

    def read_vocabulary(self, path: pathlib.Path) -> list[str]:
        """Reads one of the `VOCABULARIES`."""

    def read_tokenizer_options(self, folder: pathlib.Path, vocabulary: Sequence[str]) -> dict[str, Any]:
        """Returns the arguments of a tokenizer that the folder states."""

    def read_preprocessor_options(self, folder: pathlib.Path) -> dict[str, Any]:
        """Returns the arguments of a preprocessor that the folder states, such as `max_length`."""

    def open_checkpoint(self, folder: pathlib.Path, family: Family) -> Checkpoint:
        """Opens the weights."""


class Format(ReadFormat, Protocol):
    """A module that reads and writes folders of one format."""

    def check_place(self, config: Config, head: str, pools: bool = True) -> None:
        """Raises a ValueError if the format has no place for an encoder, or for a head: `""` is the encoder alone."""

    @property
    def save_folder(self) -> Callable[..., None]:
        """Writes a folder: a function of `folder, encoder, preprocessor, task`."""


FORMATS: dict[str, Format] = {"huggingface": huggingface, "google": google, "keras_hub": keras_hub}


class Opened:
    """A checkpoint that was opened. Each attribute is read from the files when it is first asked for.

    A folder thus need not be complete: a tokenizer asks for no weights, and an encoder for no vocabulary.

    Args:
      folder: where the files are.
      name: what a notice calls the checkpoint.
      hub_name: `owner/name` of the repository of a hub that the files come from, if they do.
    """

    def __init__(self, folder: pathlib.Path, name: str, hub_name: str = "") -> None:
        self.folder = folder
        self.name = name
        self.hub_name = hub_name
        self.given_vocabulary = ""  # what an error calls the vocabulary of `give_vocabulary`

    def __str__(self) -> str:
        return self.name

    @cached_property
    def format(self) -> ReadFormat:
        """The module that reads the folder."""
        config = self.folder / "config.json"
        if not config.is_file():
            if object_graph.is_one(self.folder):
                return object_graph
            stated = (self.folder / google.CONFIG).is_file()
            return huggingface if not stated and kernels_are_ours(self.folder) else google
        return keras_hub if "class_name" in read_json(config) else huggingface

    @cached_property
    def _description(self) -> Description:
        with naming(self.folder):
            return self.format.read_config(self.folder)

    @property
    def family(self) -> Family:
        """The architecture, with the format's names for its weights."""
        return self._description.family

    @property
    def config(self) -> Config:
        """The encoder's configuration. Its class says which encoder it is."""
        return self._description.config

    @property
    def values(self) -> dict[str, Any]:
        """The configuration file's own dictionary, with the head's keys, for example `id2label`.

        If the file states no labels or no problem type, as in Google's layout, they are read from kbert.json.
        """
        options = self.own_settings["task"].get("options", {})
        stated = {"id2label": {str(number): label for number, label in enumerate(options.get("labels") or [])}}
        stated["problem_type"] = options.get("problem_type")
        return {**{key: value for key, value in stated.items() if value}, **self._description.values}

    @property
    def architecture(self) -> str:
        """The class that the configuration names, such as `"BertForMaskedLM"`; empty if it names none."""
        return self._description.architecture

    @cached_property
    def head(self) -> str | None:
        """The checkpoint's head: a key of `family.heads`, `""` for an encoder alone, None for a head that is not known.

        A configuration that names no class, as Google's, leaves it to the weights.
        """
        return self._description.head if self.architecture else held_head(self.checkpoint, self.family)

    @property
    def labels(self) -> list[str] | None:
        """The labels that the files state, in the order of their ids, or None if they state none."""
        with naming(self.folder):
            return label_names(self.values)

    @cached_property
    def own_settings(self) -> dict[str, dict[str, Any]]:
        """The settings of `tokenizer`, `preprocessor` and `task` in the folder's kbert.json."""
        return read_own_settings(self.folder)

    @cached_property
    def source(self) -> Source:
        """Licence, languages and base model, as the folder's card or the list of built-in names states them."""
        stated = read_source(self.folder)
        preset = catalogue.find_built_in(self.name.strip("'"))
        return stated if stated.licence or preset is None else stated._replace(licence=preset.licence.lower())

    @property
    def vocabulary_path(self) -> pathlib.Path:
        """Where the folder's vocabulary is, if it has one."""
        places = [self.folder / place for place in self.format.VOCABULARIES]
        return next((place for place in places if place.is_file()), places[-1])

    @cached_property
    def vocabulary(self) -> list[str]:
        """The list of `V` tokens, in the order of their ids.

        Raises:
          FileNotFoundError: the folder has none.
        """
        path = self.vocabulary_path
        if not path.is_file():
            raise FileNotFoundError(
                f"{self.folder} has no {' and no '.join(map(str, self.format.VOCABULARIES))}; without its vocabulary a "
                'checkpoint cannot read text: copy the file there, or pass vocabulary="vocab.txt"'
            )
        with naming(path):
            return self.format.read_vocabulary(path)

    def give_vocabulary(self, vocabulary: str | os.PathLike[str] | Sequence[str]) -> None:
        """Gives the vocabulary of a folder that has none.

        Args:
          vocabulary: the path of a file with one token a line, or the list of `V` tokens.

        Raises:
          FileNotFoundError: there is no such file.
          TypeError: the list holds something else than texts.
          ValueError: the folder has another vocabulary.
        """
        if isinstance(vocabulary, (str, os.PathLike)):
            tokens, name = read_vocabulary(vocabulary), str(vocabulary)
        else:
            tokens, name = list(vocabulary), "the list vocabulary="
        for token in tokens:
            if not isinstance(token, str):
                raise TypeError(f"vocabulary should be the path of a vocab.txt or a list of texts, got {token!r} in the list")
        if self.vocabulary_path.is_file() and self.vocabulary != tokens:
            raise ValueError(
                f"{self.vocabulary_path} is the vocabulary of {self}, and vocabulary= gives another one: leave it out, or put "
                "the weights into a folder without that file"
            )
        self.vocabulary, self.given_vocabulary = tokens, name

    @cached_property
    def tokenizer_options(self) -> dict[str, Any]:
        """The arguments of `WordPieceTokenizer` that the folder states."""
        with naming(self.folder):
            return {**self.own_settings["tokenizer"], **self.format.read_tokenizer_options(self.folder, self.vocabulary)}

    @cached_property
    def preprocessor_options(self) -> dict[str, Any]:
        """The arguments of `TextPreprocessor` that the folder's files state, kbert.json aside."""
        with naming(self.folder):
            return self.format.read_preprocessor_options(self.folder)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The weights, open until `close`.

        Raises:
          ValueError: the configuration states sizes that are far beyond the tensors'.
        """
        checkpoint = self.format.open_checkpoint(self.folder, self.family)
        try:
            check_sizes(self.config, checkpoint)
        except ValueError:
            checkpoint.close()
            raise
        return checkpoint

    def close(self) -> None:
        """Closes the files of the weights."""
        if "checkpoint" in self.__dict__:
            self.checkpoint.close()


def check_sizes(config: Config, checkpoint: Checkpoint) -> None:
    """Raises a ValueError if a configuration states sizes that no model of the checkpoint's tensors has.

    An encoder is made before its weights are read. Without this check a number in a configuration file could ask for all of the
    memory. Smaller errors are left to the comparison of each weight's shape, whose message is more exact.

    Args:
      config: the encoder's configuration.
      checkpoint: its weights.
    """
    shapes = [checkpoint.shape(name) for name in checkpoint.names()]
    largest = max((size for shape in shapes for size in shape), default=0)
    bounds = {field.name: 4 * largest for field in dataclasses.fields(config) if field.name.endswith("_size")}
    bounds.update(max_position_embeddings=4 * largest, num_attention_heads=largest, num_hidden_layers=len(shapes))
    for name, bound in bounds.items():
        if isinstance(size := getattr(config, name), int) and size > bound:
            raise ValueError(
                f"{checkpoint.path} holds {len(shapes)} tensors of at most {largest:,} rows or columns, and the configuration "
                f"beside it states {name} {size:,}: it is another model's, or damaged"
            )


def held_head(checkpoint: Checkpoint, family: Family) -> str:
    """Returns the largest head whose tensors a checkpoint holds, or `""`.

    Args:
      checkpoint: the weights.
      family: the names of their format.
    """
    pooled = all(name in checkpoint for rule in family.pooler for name in rule.names)
    best, most = "", (0, False)
    for head, rules in family.heads.items():
        names = [name for rule in rules for name in rule.names]
        # The tensors of a text classifier and of a token classifier have the same names. Only the first reads the pooler.
        rank = (len(names), (head == "TokenClassification") != pooled)
        if all(name in checkpoint for name in names) and rank > most:
            best, most = head, rank
    return best


def label_names(config: dict[str, Any]) -> list[str] | None:
    """Returns the labels in a configuration's `id2label`, in the order of their ids, or None if it has none.

    Args:
      config: the dictionary in a config.json.

    Raises:
      ValueError: an id is not a number, or a name is neither text nor number.
    """
    names = config.get("id2label")
    if not names:
        return None
    try:
        labels = [names[key] for key in sorted(names, key=int)]
    except (LookupError, TypeError, ValueError):
        labels = [None]
    if not all(isinstance(label, (str, int, float)) for label in labels):
        raise ValueError(f"id2label should map numbers to names, got {json.dumps(names)[:80]}")
    return [str(label) for label in labels]


@contextlib.contextmanager
def open_preset(preset: Any, vocabulary: str | os.PathLike[str] | Sequence[str] | None = None) -> Iterator[Opened]:
    """Opens a preset for the length of a `with` block.

    Args:
      preset: a built-in name, `hf://owner/name@revision`, a folder, a live model of KerasHub, or an `Opened`, which stays open.
        A live model is written to a temporary folder.
      vocabulary: the vocabulary of a folder that has none, as `Opened.give_vocabulary` takes it.

    Yields:
      An `Opened`, whose files are closed after the block.
    """
    if isinstance(preset, Opened):
        if vocabulary is not None:
            preset.give_vocabulary(vocabulary)
        yield preset
        return
    with contextlib.ExitStack() as stack:
        if keras_hub.is_live(preset):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            preset.save_to_preset(folder)
            opened = Opened(pathlib.Path(folder), type(preset).__name__)
        else:
            opened = Opened(find_folder(preset), repr(str(preset)), hub_name(str(preset)))
        stack.callback(opened.close)
        if vocabulary is not None:
            opened.give_vocabulary(vocabulary)
        yield opened


def hub_name(preset: str) -> str:
    """Returns `owner/name` of the repository of a hub that a preset's files come from, or an empty text.

    Args:
      preset: a built-in name, `hf://owner/name@revision`, or a folder.
    """
    if not preset.startswith(hub.SCHEME):
        built_in = None if pathlib.Path(preset).is_dir() else catalogue.find_built_in(preset)
        preset = built_in.source if built_in is not None else ""
    return preset.removeprefix(hub.SCHEME).split("@")[0] if preset.startswith(hub.SCHEME) else ""


def find_folder(preset: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the folder of a preset, which is downloaded if need be.

    Args:
      preset: a built-in name, in any case, `hf://owner/name@revision`, or the path of a folder of one of the `FORMATS`.

    Raises:
      FileNotFoundError: there is no such folder or name, or its files are not complete.
      ImportError: the data package of a built-in name is not installed; the command that installs it is named.
      ValueError: a file of a data package is not the published one.
    """
    if str(preset).startswith(hub.SCHEME):
        return hub.download(str(preset))
    folder = pathlib.Path(preset)
    recover(folder)
    built_in = catalogue.find_built_in(str(preset))
    if built_in is not None and not folder.is_dir():
        return catalogue.folder_of(built_in)
    if not folder.is_dir():
        raise FileNotFoundError(catalogue.unknown(str(preset)))
    stated = any((folder / name).is_file() for name in ("config.json", google.CONFIG))
    if not stated and not kernels_are_ours(folder) and not object_graph.is_one(folder):
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(
            f"{folder} is not a checkpoint that kbert reads: a Hugging Face folder has config.json, tokenizer.json or "
            f"vocab.txt, and model.safetensors; Google's has {google.CONFIG}, vocab.txt and bert_model.ckpt.index. "
            f"This one holds {there}"
        )
    return folder


def writer_of(layout: str) -> Callable[..., None]:
    """Returns the function that writes a folder of a layout.

    The function takes a folder, an encoder, a preprocessor and a task, and the other arguments of `write_preset`.

    Args:
      layout: `"huggingface"`, `"google"` or `"keras_hub"`.

    Raises:
      ValueError: there is no such layout.
    """
    if layout not in FORMATS:
        raise ValueError(f"layout should be one of {', '.join(FORMATS)}, got {layout!r}")
    return partial(write_preset, layout, FORMATS[layout].save_folder)
