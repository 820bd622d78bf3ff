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
from kbert.files.json import naming, read_json, write_json

SETTINGS = "config_sentence_transformers.json"
_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
}
_VECTOR = "sentence_embedding"  # the name of a text's vector, which modules read and write
_ACTIVATIONS = {"Identity": None, "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "SiLU": "silu"}
_RULES = [Rule("kernel", ("linear.weight",), transposed=True), Rule("bias", ("linear.bias",))]


class Modules(NamedTuple):
    """What a folder says of the way from the vectors of tokens to the vector of a text."""

    options: dict[str, Any]  # arguments of TextEmbedder
    max_length: int | None
    dense: list[pathlib.Path]  # folders of the Dense modules
    other_task: str = ""  # what the folder is for, if not for vectors, such as "sequence-classification"


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
    with naming(folder):
        return _read_modules(folder, listing)


def _read_modules(folder: pathlib.Path, listing: pathlib.Path) -> Modules:
    """Returns what a modules.json and the configurations that it names say."""
    try:
        modules = json.loads(listing.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{listing} is not JSON: {error}") from None
    options: dict[str, Any] = {"normalize": False, "dense": [], **_read_settings(folder)}
    dense = []
    for module in modules:
        kind = module["type"].rsplit(".", 1)[-1]
        if options["normalize"]:
            raise ValueError(f"{listing} has a module {kind} behind Normalize, and kbert scales to length 1 at the end")
        # The file comes from outside: it may name folders beside itself, and nothing else.
        path = folder / module["path"]
        if folder.resolve() not in (path.resolve(), *path.resolve().parents):
            raise ValueError(f"{listing} names {module['path']!r}, which is outside its folder; it is refused")
        if kind == "Pooling":
            options.update(_read_pooling(path / "config.json"))
        elif kind == "Dense":
            options["dense"].append(_read_dense(path / "config.json"))
            dense.append(path)
        elif kind == "Normalize":
            _check_names(path / "config.json")
            options["normalize"] = True
        elif kind != "Transformer":
            raise ValueError(f"{listing} has a module {kind}, which kbert does not know")
    path = folder / "sentence_bert_config.json"
    stated = read_json(path) if path.is_file() else {}
    if stated.get("transformer_task", "feature-extraction") not in ("feature-extraction", "fill-mask"):
        return Modules({}, stated.get("max_seq_length"), [], stated["transformer_task"])
    return Modules(options, stated.get("max_seq_length"), dense)


def _read_settings(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the prompts and the kind of similarity that a folder states, as arguments of an embedder."""
    path = folder / SETTINGS
    stated = read_json(path) if path.is_file() else {}
    options: dict[str, Any] = {"prompts": {name: text or "" for name, text in (stated.get("prompts") or {}).items()}}
    name = stated.get("default_prompt_name")
    if name is not None and name not in options["prompts"]:
        raise ValueError(
            f"{path}: default_prompt_name {name!r} is none of its prompts {', '.join(options['prompts']) or '(none)'}"
        )
    return {**options, "default_prompt_name": name, "similarity": stated.get("similarity_fn_name") or "cosine"}


def problem_of_cross_encoder(folder: pathlib.Path, config: dict[str, Any]) -> str | None:
    """Returns the problem type that a CrossEncoder's activation means; None if the folder states none that says so.

    Args:
      folder: a Hugging Face folder.
      config: the dictionary in its config.json, where releases before 6 state the activation.

    Raises:
      ValueError: the CrossEncoder puts a prompt before each text.
    """
    path = folder / SETTINGS
    stated = read_json(path) if path.is_file() else {}
    settings = stated if stated.get("model_type") == "CrossEncoder" else {}
    if (settings.get("prompts") or {}).get(settings.get("default_prompt_name")):
        raise ValueError(f"{path}: a CrossEncoder with a default prompt is not supported; write null for default_prompt_name")
    of_config = config.get("sentence_transformers")
    older = (
        of_config.get("activation_fn") if isinstance(of_config, dict) else config.get("sbert_ce_default_activation_function")
    )
    activation = str(settings.get("activation_fn") or older).rsplit(".", 1)[-1]
    return "multi_label_classification" if activation == "Sigmoid" else None


def _read_pooling(path: pathlib.Path) -> dict[str, Any]:
    """Returns the one pooling of a Pooling module, and whether a prompt counts in it, as arguments of an embedder."""
    stated = read_json(path)
    modes = stated.get("pooling_mode")
    if modes is None:
        modes = [key for key, value in stated.items() if key.startswith("pooling_mode_") and value is True]
    names = {key.removeprefix("pooling_mode_"): name for key, name in _POOLINGS.items()}
    modes = [modes] if isinstance(modes, str) else modes or ["mean"]
    known = [names.get(str(mode).removeprefix("pooling_mode_"), mode) for mode in modes]
    if len(known) != 1 or known[0] not in _POOLINGS.values():
        raise ValueError(
            f"{path} pools by {' and '.join(map(str, modes))}; kbert pools by one of {', '.join(_POOLINGS.values())}"
        )
    return {"pooling": known[0], "include_prompt": stated.get("include_prompt", True)}


def _check_names(path: pathlib.Path) -> dict[str, Any]:
    """Returns the configuration of a module, if there is one, that reads and writes the vector of a text.

    Raises:
      ValueError: it reads or writes something else.
    """
    stated = read_json(path) if path.is_file() else {}
    for key in ("module_input_name", "module_output_name"):
        if stated.get(key) not in (None, _VECTOR):
            raise ValueError(f"{path}: {key} {stated[key]!r} is not supported; kbert has modules for {_VECTOR} alone")
    return stated


def _read_dense(path: pathlib.Path) -> dict[str, Any]:
    """Returns the width and the activation of a Dense module."""
    stated = _check_names(path)
    activation = str(stated.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    if activation not in _ACTIVATIONS or not stated.get("bias", True) or stated.get("use_residual"):
        raise ValueError(f"{path}: a Dense module without bias, with use_residual or with {activation} is not supported")
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
    if not task.include_prompt:  # older releases do not know the key
        pooling["include_prompt"] = False
    write_json(folder / "1_Pooling" / "config.json", pooling)
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
    prompts, default = dict(task.prompts), task.default_prompt_name
    if default is None and task.preprocessor is not None and task.preprocessor.prompt:  # a prompt without a name
        default = next(name for name in (f"default{'_' * more}" for more in range(len(prompts) + 1)) if name not in prompts)
        prompts[default] = task.preprocessor.prompt
    write_json(
        folder / SETTINGS,
        {
            "model_type": "SentenceTransformer",
            "prompts": prompts,
            "default_prompt_name": default,
            "similarity_fn_name": task.similarity_kind,
        },
    )


def _write_dense(path: pathlib.Path, width: int, options: dict[str, Any], layer: Any) -> None:
    """Writes the folder of a Dense module.

    Args:
      path: the path of the folder.
      width: the width of the vectors that come in.
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
