"""Reads and writes sentence-transformers' modules, which lie beside a Hugging Face folder's files."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple

from kbert.checkpoints.names import Rule
from kbert.checkpoints.owners import Embedder
from kbert.checkpoints.weight_files import open_weights
from kbert.checkpoints.weights import load_weights, weights_of
from kbert.files.json import read_json, write_json

_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}
_ACTIVATIONS = {"Identity": None, "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "SiLU": "silu"}
_RULES = [Rule("kernel", ("linear.weight",), transposed=True), Rule("bias", ("linear.bias",))]


class Modules(NamedTuple):
    """What a folder says of the way from the vectors of tokens to the vector of a text."""

    options: dict[str, Any]  # arguments of TextEmbedder
    max_length: int | None
    dense: list[pathlib.Path]  # folders of the Dense modules


def read_modules(folder: pathlib.Path) -> Modules:
    """Reads a folder's modules.json and the configurations that it names.

    Args:
      folder: a Hugging Face folder. Without a modules.json the options are empty.

    Raises:
      ValueError: a module is one that kbert does not have, or lies outside of the folder.
    """
    listing = folder / "modules.json"
    if not listing.is_file():
        return Modules({}, None, [])
    try:
        modules = json.loads(listing.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{listing} is not JSON: {error}") from None
    options: dict[str, Any] = {"normalize": False, "dense": []}
    dense = []
    for module in modules:
        kind = module["type"].rsplit(".", 1)[-1]
        # The file comes from outside: it may name folders beside itself, and nothing else.
        path = folder / module["path"]
        if folder.resolve() not in (path.resolve(), *path.resolve().parents):
            raise ValueError(f"{listing} names {module['path']!r}, which is outside its folder; it is refused")
        if kind == "Pooling":
            options["pooling"] = _read_pooling(path / "config.json")
        elif kind == "Dense":
            options["dense"].append(_read_dense(path / "config.json"))
            dense.append(path)
        elif kind == "Normalize":
            options["normalize"] = True
        elif kind != "Transformer":
            raise ValueError(f"{listing} has a module {kind}, which kbert does not know")
    limit = folder / "sentence_bert_config.json"
    return Modules(options, read_json(limit).get("max_seq_length") if limit.is_file() else None, dense)


def _read_pooling(path: pathlib.Path) -> str:
    """Returns the one pooling of a Pooling module: `"mean"`, `"cls"` or `"max"`."""
    stated = read_json(path)
    modes = stated.get("pooling_mode")
    if modes is None:
        modes = [_POOLINGS.get(key, key) for key, value in stated.items() if key.startswith("pooling_mode_") and value is True]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in _POOLINGS.values():
        raise ValueError(f"{path} pools by {' and '.join(map(str, modes)) or 'nothing'}; kbert pools by mean, cls or max")
    return modes[0]


def _read_dense(path: pathlib.Path) -> dict[str, Any]:
    """Returns the width and the activation of a Dense module."""
    stated = read_json(path)
    activation = str(stated.get("activation_function", "Identity")).rsplit(".", 1)[-1]
    if activation not in _ACTIVATIONS or not stated.get("bias", True):
        raise ValueError(f"{path}: a Dense module without bias or with {activation} is not supported")
    return {"width": stated["out_features"], "activation": _ACTIVATIONS[activation]}


def load_dense(task: Embedder, modules: Modules) -> None:
    """Fills a task's Dense layers from the folders of their modules.

    Args:
      task: was made with the modules' options.
      modules: what `read_modules` gave.

    Raises:
      ValueError: a folder lacks a weight.
    """
    for layer, folder in zip(task.dense_layers, modules.dense):
        with closing(open_weights(folder)) as checkpoint:
            _, missing = load_weights(layer, _RULES, checkpoint)
        if missing:
            raise ValueError(f"{folder} lacks the {missing[0]} of its Dense module")


def write_modules(folder: pathlib.Path, task: Embedder) -> None:
    """Writes modules.json and the modules that it names, so that `SentenceTransformer(folder)` opens the folder.

    Args:
      folder: a Hugging Face folder that holds the task's encoder.
      task: pools, projects and normalizes.
    """
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    width = task.encoder.config.hidden_size
    pooling = {"word_embedding_dimension": width, **{key: name == task.pooling for key, name in _POOLINGS.items()}}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    write_json(folder / "1_Pooling" / "config.json", {**pooling, "pooling_mode_mean_sqrt_len_tokens": False})
    for number, (options, layer) in enumerate(zip(task.dense, task.dense_layers), 2):
        path = folder / f"{number}_Dense"
        _write_dense(path, width, options, layer)
        modules.append((path.name, "Dense"))
        width = options["width"]
    if task.normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    _write_listing(folder / "modules.json", modules)
    if task.preprocessor is not None:
        limit = {"max_seq_length": task.preprocessor.max_length, "do_lower_case": False}
        write_json(folder / "sentence_bert_config.json", limit)


def _write_dense(path: pathlib.Path, width: int, options: dict[str, Any], layer: Any) -> None:
    """Writes the folder of a Dense module.

    Args:
      path: of the folder.
      width: of the vectors that come in.
      options: the layer's `width` and `activation`.
      layer: the owner of the kernel and the bias.
    """
    from safetensors.numpy import save_file

    path.mkdir(exist_ok=True)
    names = {ours: name for name, ours in _ACTIVATIONS.items()}
    activation = options["activation"]
    kind = f"torch.nn.modules.{'activation' if activation else 'linear'}.{names[activation]}"
    write_json(
        path / "config.json",
        {"in_features": width, "out_features": options["width"], "bias": True, "activation_function": kind},
    )
    save_file(weights_of(layer, _RULES), path / "model.safetensors", metadata={"format": "pt"})


def _write_listing(path: pathlib.Path, modules: Sequence[tuple[str, str]]) -> None:
    """Writes modules.json from the folders and the kinds of modules."""
    listing = [
        {"idx": number, "name": str(number), "path": name, "type": f"sentence_transformers.models.{kind}"}
        for number, (name, kind) in enumerate(modules)
    ]
    write_json(path, listing)
