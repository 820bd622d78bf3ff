"""Downloads checkpoints of the form `hf://owner/name@revision` through huggingface_hub, with its cache and progress bars."""

from __future__ import annotations

import pathlib
import re

SCHEME = "hf://"
_PLACE = re.compile(r"hf://(?P<repository>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")
# Only files that kbert reads are fetched.
FILES = [
    "README.md",
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "added_tokens.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    # of sentence-transformers
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "*_Pooling/config.json",
    "*_Dense/config.json",
    "*_Normalize/config.json",
    "*_Dense/model.safetensors",
    "*_Dense/pytorch_model.bin",
]
# The weights, of one kind only: the first that the repository has. They lie beside the files above.
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"),
    ("tf_model.h5", "tf_model.h5.index.json", "tf_model-*.h5"),
)


def repository_of(place: str) -> tuple[str, str | None]:
    """Returns the repository of a place of the hub, and its revision or None.

    >>> repository_of("hf://owner/name@v1")
    ('owner/name', 'v1')

    Args:
      place: `hf://owner/name`, followed by `@` and a branch, tag or commit or not.

    Raises:
      ValueError: `place` is not of that form.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        raise ValueError(f"a hub preset is written hf://owner/name or hf://owner/name@revision, got {place!r}")
    return match["repository"], match["revision"]


def download(place: str, weights: bool = True) -> pathlib.Path:
    """Brings a repository's files into huggingface_hub's cache, or finds them there, and returns their folder.

    >>> download("hf://google-bert/bert-base-uncased@main")  # doctest: +SKIP
    PosixPath('.../snapshots/86b5e0934494bd15c9632b12f734a8a67f723594')

    huggingface_hub's environment variables hold: `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`.

    Args:
      place: `hf://owner/name`, followed by `@` and a branch, tag or commit if it is not the newest that is wanted.
      weights: whether files of weights are fetched too.

    Raises:
      ValueError: `place` is not of that form.
      FileNotFoundError: there is no such repository or revision.
      PermissionError: the repository is gated.
      ConnectionError: the hub cannot be reached or fails, and the cache does not hold the repository.
    """
    from huggingface_hub import errors, snapshot_download

    repository, revision = repository_of(place)
    small = [name for name in FILES if name.endswith((".json", ".txt", ".md"))]
    try:
        if not weights:
            return pathlib.Path(snapshot_download(repository, revision=revision, allow_patterns=small))
        for names in WEIGHTS:
            folder = pathlib.Path(snapshot_download(repository, revision=revision, allow_patterns=[*FILES, *names]))
            if any(path for pattern in names for path in folder.glob(pattern)):
                break
        return folder
    except errors.GatedRepoError:
        raise PermissionError(
            f"{place}: its owner asks you to agree to terms first; do so on its page, then log in (HF_TOKEN)"
        ) from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(
            f"{place}: the hub has no such repository, or it is private: check the name, or log in (HF_TOKEN)"
        ) from None
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(f"{place}: the repository has no revision {revision!r}") from None
    except errors.LocalEntryNotFoundError:
        raise ConnectionError(
            f"{place}: the hub cannot be reached (or HF_HUB_OFFLINE is set) and the cache does not hold it; connect once, or "
            "give the path of a folder"
        ) from None
    except (errors.HfHubHTTPError, OSError) as error:
        raise ConnectionError(f"{place}: the hub failed: {error}") from None
    except errors.HFValidationError as error:
        raise ValueError(f"{place}: {error}") from None
