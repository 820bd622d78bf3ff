"""Reads and writes the tokenizer of a Hugging Face folder: tokenizer.json, vocab.txt, tokenizer_config.json and others."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

from kbert.checkpoints import tokenizer_json
from kbert.checkpoints.owners import Preprocessor
from kbert.checkpoints.tokenizer_json import read_tokenizer_json, with_added_tokens
from kbert.files.json import read_json, write_json
from kbert.files.vocabulary import SPECIAL_TOKENS, save_vocabulary
from kbert.files.vocabulary import read_vocabulary as read_lines

VOCABULARY = "vocab.txt"
VOCABULARIES: tuple[pathlib.PurePath, ...] = (pathlib.PurePath(tokenizer_json.FILE), pathlib.PurePath(VOCABULARY))
KEYS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "tokenize_chinese_chars",
}  # from tokenizer_config.json to the tokenizer's arguments
# Classes of transformers that read tokenizer.json as it is. All others build BERT's pipeline from tokenizer_config.json.
_GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
# Classes whose vocab.txt is of WordPiece on BERT's words, without "Tokenizer" and "TokenizerFast".
_OF_BERT = (
    *("Bert", "DistilBert", "MobileBert", "Electra", "ConvBert", "SqueezeBert", "MPNet", "LayoutLM", "Lxmert", "Funnel"),
    *("RetriBert", "Realm", "Splinter", "DPRContextEncoder", "DPRQuestionEncoder", "DPRReader"),
)
# Classes that cut texts into words before WordPiece by rules that no tokenizer.json can hold.
_BY_OTHER_WORDS = ("BertJapaneseTokenizer",)
NO_LIMIT = 1_000_000  # transformers writes 1e30 where no length is stated


def read_vocabulary(path: pathlib.Path) -> list[str]:
    """Reads the tokens of a folder, with those that were added later.

    A tokenizer.json counts before a vocab.txt, as in transformers. A warning says where the two differ.

    Args:
      path: the tokenizer.json or the vocab.txt of a folder.

    Raises:
      ValueError: the file is not of BERT's WordPiece.
    """
    if path.name != tokenizer_json.FILE:
        return _with_added(path)[0]
    vocabulary = read_tokenizer_json(path).vocabulary
    beside = path.with_name(VOCABULARY)
    if beside.is_file():
        tokens = read_lines(beside)
        common = range(min(len(tokens), len(vocabulary)))
        place = next((number for number in common if tokens[number] != vocabulary[number]), None)
        if place is not None or len(tokens) > len(vocabulary):
            place = len(vocabulary) if place is None else place
            warnings.warn(
                f"{path} is read, as transformers does, and {beside.name} beside it differs from the id {place} on; remove the "
                "one that is not the checkpoint's",
                stacklevel=2,
            )
    return vocabulary


def _with_added(path: pathlib.Path) -> tuple[list[str], dict[str, list[str]]]:
    """Returns the tokens of a vocab.txt with those of the files beside it, and the added ones as arguments of a tokenizer."""
    vocabulary = read_lines(path)
    stated = stated_settings(path.parent)
    entries = {int(number): {**entry, "id": int(number)} for number, entry in stated.get("added_tokens_decoder", {}).items()}
    more = path.with_name("added_tokens.json")
    if more.is_file():
        for token, number in read_json(more).items():
            entries.setdefault(number, {"content": token, "id": number})
    return with_added_tokens(path, vocabulary, len(vocabulary), [entries[number] for number in sorted(entries)])


def stated_settings(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the settings in a folder's special_tokens_map.json and tokenizer_config.json, where these are there.

    Args:
      folder: a folder of any layout.
    """
    stated: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file():
            stated.update(read_json(path))
    return stated


def stated_options(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the arguments of a tokenizer in a folder's tokenizer_config.json and special_tokens_map.json.

    Args:
      folder: a folder of any layout.

    Raises:
      ValueError: texts are cut on the left.
    """
    stated = stated_settings(folder)
    if stated.get("truncation_side", "right") != "right":
        raise ValueError(
            f"{folder}: truncation_side {stated['truncation_side']!r} is not supported; kbert cuts the end of texts"
        )
    options = {argument: stated[key] for key, argument in KEYS.items() if key in stated}
    for name in SPECIAL_TOKENS:
        token = stated.get(name)
        if isinstance(token, dict):  # an AddedToken
            token = token.get("content")
        if token is not None:
            options[name] = token
    return options


def read_tokenizer_options(folder: pathlib.Path, vocabulary: Sequence[str]) -> dict[str, Any]:
    """Reads the arguments of a tokenizer. A warning says where tokenizer.json and tokenizer_config.json differ.

    Args:
      folder: a Hugging Face folder.
      vocabulary: the folder's tokens. This format does not need them.

    Raises:
      ValueError: the tokenizer is not BERT's WordPiece.
    """
    stated, options = stated_settings(folder), stated_options(folder)
    kind = str(stated.get("tokenizer_class") or "")
    path = folder / tokenizer_json.FILE
    is_of_bert = not kind or kind in _GENERIC or kind.removesuffix("Fast").removesuffix("Tokenizer") in _OF_BERT
    if kind in _BY_OTHER_WORDS or not (is_of_bert or path.is_file()):
        raise ValueError(f"{folder}: its tokenizer is a {kind}, and kbert reads BERT's WordPiece; use another checkpoint")
    if path.is_file():
        of_file = read_tokenizer_json(path).options
        other = sorted(name for name, value in options.items() if name in of_file and of_file[name] != value)
        of_file.update({} if kind in _GENERIC else options)
        if other:
            chosen = {name: of_file[name] for name in other}
            warnings.warn(
                f"{path} and tokenizer_config.json differ in {', '.join(other)}; {chosen} is taken, as transformers does",
                stacklevel=2,
            )
        options = {**options, **of_file}
    elif not stated.get("do_basic_tokenize", True):
        raise ValueError(f"{folder}: do_basic_tokenize false is not supported; kbert cuts texts into BERT's words")
    elif (folder / VOCABULARY).is_file():
        options.update(_with_added(folder / VOCABULARY)[1])
    lowered = folder / "sentence_bert_config.json"
    if lowered.is_file() and read_json(lowered).get("do_lower_case") and not options.get("lowercase", True):
        # sentence-transformers lower-cases texts before a cased tokenizer.
        options.update(lowercase=True, strip_accents=bool(options.get("strip_accents")))
    special = {options.get(name, token) for name, token in SPECIAL_TOKENS.items()}
    for name in {"added_tokens", "added_words"} & set(options):
        options[name] = [token for token in options[name] if token not in special]
    return options


def read_preprocessor_options(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the most positions of a row that tokenizer_config.json states, as `max_length`; empty if it states none.

    Args:
      folder: a folder of any layout.
    """
    limit = stated_settings(folder).get("model_max_length")
    return {"max_length": int(limit)} if isinstance(limit, (int, float)) and 0 < limit < NO_LIMIT else {}


def save_tokenizer(folder: pathlib.Path, preprocessor: Preprocessor, architecture: str) -> None:
    """Writes tokenizer.json, vocab.txt, tokenizer_config.json and special_tokens_map.json.

    Args:
      folder: where they go.
      preprocessor: its tokenizer and the most positions of a row.
      architecture: transformers' name for it, `"Bert"`, `"DistilBert"` or `"MobileBert"`.
    """
    tokenizer = preprocessor.tokenizer
    save_vocabulary(tokenizer.vocabulary, folder / VOCABULARY)
    write_json(folder / tokenizer_json.FILE, tokenizer_json.tokenizer_json(tokenizer))
    special = {name: getattr(tokenizer, name) for name in SPECIAL_TOKENS}
    # The class of BERT states neither of these, and would not read them.
    generic = not tokenizer.clean_text or tokenizer.max_input_chars_per_word != 100
    write_json(
        folder / "tokenizer_config.json",
        {
            # MobileBERT's tokenizer is BERT's.
            "tokenizer_class": _GENERIC[0] if generic else f"{architecture.removeprefix('Mobile')}Tokenizer",
            "backend": "tokenizers",
            **{key: getattr(tokenizer, argument) for key, argument in KEYS.items()},
            "model_max_length": preprocessor.max_length,
            **special,
        },
    )
    write_json(folder / "special_tokens_map.json", special)
