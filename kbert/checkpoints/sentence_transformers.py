"""sentence-transformers' folders: modules.json and its modules' folders, beside a Hugging Face folder."""

import json
import pathlib
from typing import NamedTuple

from kbert.checkpoints import huggingface
from kbert.checkpoints.huggingface import read_json, write_json

_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}
_ACTIVATIONS = {"Identity": None, "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "SiLU": "silu"}
_RULES = [huggingface.Rule("kernel", ("linear.weight",), transposed=True), huggingface.Rule("bias", ("linear.bias",))]


class Modules(NamedTuple):
    """What a folder says of the way from tokens' vectors to a text's."""

    options: dict  # arguments of TextEmbedder
    max_length: int | None
    dense: list  # folders of the Dense modules


def read_modules(folder):
    """Reads `modules.json`; a folder without one pools by the mean and normalizes."""
    folder = pathlib.Path(folder)
    if not (folder / "modules.json").is_file():
        return Modules({}, None, [])
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder / 'modules.json'} is not JSON: {error}") from error
    options, dense = {"normalize": False, "dense": []}, []
    for module in modules:
        kind = module["type"].rsplit(".", 1)[-1]
        # A folder beside modules.json, and nothing else: the file comes from outside.
        path = folder / module["path"]
        if folder.resolve() not in (path.resolve(), *path.resolve().parents):
            raise ValueError(f"{folder / 'modules.json'} names {module['path']!r}, which is outside its folder; it is refused")
        if kind == "Pooling":
            options["pooling"] = _read_pooling(path / "config.json")
        elif kind == "Dense":
            stated = read_json(path / "config.json")
            activation = str(stated.get("activation_function", "Identity")).rsplit(".", 1)[-1]
            if activation not in _ACTIVATIONS or not stated.get("bias", True):
                raise ValueError(f"{path / 'config.json'}: a Dense module without bias or with {activation} is not supported")
            options["dense"].append({"width": stated["out_features"], "activation": _ACTIVATIONS[activation]})
            dense.append(path)
        elif kind == "Normalize":
            options["normalize"] = True
        elif kind != "Transformer":
            raise ValueError(f"{folder / 'modules.json'} has a module {kind}, which kbert does not know")
    limit = folder / "sentence_bert_config.json"
    return Modules(options, read_json(limit).get("max_seq_length") if limit.is_file() else None, dense)


def _read_pooling(path):
    stated = read_json(path)
    modes = stated.get("pooling_mode")
    if modes is None:
        modes = [_POOLINGS.get(key, key) for key, value in stated.items() if key.startswith("pooling_mode_") and value is True]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in _POOLINGS.values():
        raise ValueError(f"{path} pools by {' and '.join(map(str, modes)) or 'nothing'}; kbert pools by mean, cls or max")
    return modes[0]


def load_dense(task, modules):
    """Fills the Dense layers."""
    for layer, folder in zip(task.dense_layers, modules.dense):
        _, missing = huggingface.load_weights(layer, _RULES, huggingface.Tensors(folder))
        if missing:
            raise ValueError(f"{folder} lacks the {missing[0]} of its Dense module")


def write_modules(folder, task):
    """Writes modules.json and what it names."""
    from safetensors.numpy import save_file

    from kbert.files.atomic import written_aside

    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    width = task.encoder.config.hidden_size
    pooling = {"word_embedding_dimension": width, **{key: name == task.pooling for key, name in _POOLINGS.items()}}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    write_json(folder / "1_Pooling" / "config.json", {**pooling, "pooling_mode_mean_sqrt_len_tokens": False})
    theirs = {ours: name for name, ours in _ACTIVATIONS.items()}
    for number, (layer, projection) in enumerate(zip(task.dense, task.dense_layers), 2):
        path = folder / f"{number}_Dense"
        path.mkdir(exist_ok=True)
        place = "activation" if layer["activation"] else "linear"
        kind = f"torch.nn.modules.{place}.{theirs[layer['activation']]}"
        write_json(
            path / "config.json",
            {"in_features": width, "out_features": layer["width"], "bias": True, "activation_function": kind},
        )
        with written_aside(path / "model.safetensors") as aside:
            save_file(huggingface.weights_of(projection, _RULES), aside, metadata={"format": "pt"})
        modules.append((path.name, "Dense"))
        width = layer["width"]
    if task.normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(modules)
    ]
    write_json(folder / "modules.json", listed)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": task.preprocessor.max_length, "do_lower_case": False})
