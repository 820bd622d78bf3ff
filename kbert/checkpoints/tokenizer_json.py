"""Reads and writes tokenizer.json, the file of the `tokenizers` package, for tokenizers of BERT's kind."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kbert.checkpoints.owners import Tokenizer
from kbert.files.json import read_json
from kbert.files.vocabulary import check_vocabulary, fill_gaps

FILE = "tokenizer.json"
PREFIX = "##"  # of a piece that continues a word
_LARGEST_ID = 4_000_000  # a file could otherwise ask for any amount of memory
# The parts of the file, with the one kind of each that kbert reads.
_KINDS = {"normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer", "model": "WordPiece"}
# From the file's keys to the tokenizer's arguments. All of the first are of the normalizer, the others of the model.
NORMALIZER_KEYS = {
    "lowercase": "lowercase",
    "strip_accents": "strip_accents",
    "handle_chinese_chars": "tokenize_chinese_chars",
    "clean_text": "clean_text",
}
MODEL_KEYS = {"unk_token": "unk_token", "max_input_chars_per_word": "max_input_chars_per_word"}


class TokenizerFile(NamedTuple):
    """What a tokenizer.json says."""

    vocabulary: list[str]
    options: dict[str, Any]  # arguments of a tokenizer; `added_tokens` and `added_words` may name special tokens among others


def read_tokenizer_json(path: pathlib.Path) -> TokenizerFile:
    """Reads a tokenizer.json.

    Its entries `truncation` and `padding` are not read: who encodes a text says how long rows are.

    Args:
      path: the file.

    Raises:
      ValueError: the file is of another kind of tokenizer than BERT's, or has an option that kbert lacks; both are named.
    """
    stated = read_json(path)
    parts = {name: _part(path, stated, name, kind) for name, kind in _KINDS.items()}
    model, normalizer = parts["model"], parts["normalizer"]
    if model.get("continuing_subword_prefix", PREFIX) != PREFIX:
        raise ValueError(
            f"{path}: continuing_subword_prefix {model['continuing_subword_prefix']!r} is not supported; kbert's pieces that "
            f"continue a word begin with {PREFIX}"
        )
    by_token = model.get("vocab")
    if not isinstance(by_token, dict) or not all(type(number) is int for number in by_token.values()):
        raise ValueError(f"{path}: the vocabulary of model should map tokens to whole numbers")
    vocabulary, added = with_added_tokens(path, _by_id(path, by_token), len(by_token), stated.get("added_tokens") or [])
    options = {argument: normalizer[key] for key, argument in NORMALIZER_KEYS.items() if key in normalizer}
    options.update({argument: model[key] for key, argument in MODEL_KEYS.items() if key in model})
    options.update(_special_tokens(path, stated.get("post_processor"), vocabulary))
    return TokenizerFile(vocabulary, {**options, **added})


def _part(path: pathlib.Path, stated: Mapping[str, Any], name: str, kind: str) -> dict[str, Any]:
    """Returns a part of the file; raises a ValueError that names its kind if that is not the one that kbert reads."""
    part = stated.get(name)
    if isinstance(part, dict) and part.get("type") == "Sequence":
        parts = part.get(f"{name}s", part.get("pretokenizers")) or []
        part = parts[0] if len(parts) == 1 else part
    # Files of early releases do not state the kind of their model.
    found = part.get("type", kind if name == "model" and "merges" not in part else None) if isinstance(part, dict) else part
    if found != kind:
        raise ValueError(f"{path}: the {name} is {found}; of tokenizers kbert reads BERT's, whose {name} is {kind}")
    return dict(part or {})


def _by_id(path: pathlib.Path, by_token: Mapping[str, int]) -> list[str]:
    """Returns the tokens in the order of their ids. An id without a token gets a name that no text can have."""
    largest = max(by_token.values(), default=-1)
    if largest > _LARGEST_ID or min(by_token.values(), default=0) < 0:
        raise ValueError(f"{path}: ids should be from 0 to {_LARGEST_ID}, got {min(by_token.values())} to {largest}")
    tokens: list[str | None] = [None] * (largest + 1)
    for token, number in by_token.items():
        if tokens[number] is not None:
            raise ValueError(f"{path}: {tokens[number]!r} and {token!r} have one id, {number}; each id is one token's")
        tokens[number] = token or None
    return fill_gaps(tokens)


def with_added_tokens(
    path: pathlib.Path, vocabulary: Sequence[str], count: int, added: Iterable[Mapping[str, Any]]
) -> tuple[list[str], dict[str, list[str]]]:
    """Returns a vocabulary with the tokens that were added to it, and the added tokens as arguments of a tokenizer.

    Args:
      path: the file that states the added tokens.
      vocabulary: the tokens in the order of their ids.
      count: how many of them the reference counts. It leaves out ids without a token.
      added: the entries, each with `content` and `id`, and perhaps `normalized` and `single_word`.

    Raises:
      ValueError: the reference gives a token another id than the stated one, or recognizes it by a rule that kbert lacks.
    """
    tokens = list(vocabulary)
    known = set(tokens)
    recognized: dict[str, list[str]] = {"added_tokens": [], "added_words": []}
    for entry in added:
        token, number = entry.get("content"), entry.get("id")
        if not isinstance(token, str) or not token:
            raise ValueError(f"{path}: an added token has no content: {entry!r}")
        if entry.get("single_word"):
            raise ValueError(
                f"{path}: the added token {token!r} has single_word true, which kbert does not have; write false there, and it "
                "is recognized inside words too"
            )
        if token not in known:
            if number != len(tokens) or count != len(vocabulary):
                raise ValueError(
                    f"{path}: the added token {token!r} has the id {number}, but the first free one behind the {count} tokens "
                    f"is {count + len(tokens) - len(vocabulary)}; write the file anew with its tokenizer's save_pretrained"
                )
            tokens.append(token)
            known.add(token)
        elif number is not None and (not 0 <= number < len(tokens) or tokens[number] != token):
            raise ValueError(f"{path}: the added token {token!r} has the id {number}, in the vocabulary {tokens.index(token)}")
        recognized["added_words" if entry.get("normalized") else "added_tokens"].append(token)
    check_vocabulary(tokens, source=str(path))
    return tokens, recognized


def _special_tokens(path: pathlib.Path, processor: Any, vocabulary: Sequence[str]) -> dict[str, str]:
    """Returns the names of [CLS] and [SEP] that a post-processor puts around texts; none if the file has no post-processor."""
    if processor is None:  # whoever reads the file packs texts
        return {}
    kind = processor.get("type")
    if kind == "Sequence" and len(processor.get("processors") or []) == 1:
        return _special_tokens(path, processor["processors"][0], vocabulary)
    if kind == "BertProcessing":
        pairs = [processor["cls"], processor["sep"]]
    elif kind == "TemplateProcessing":
        names = [piece.get("SpecialToken", {}).get("id", "text") for piece in processor.get("single", [])]
        if len(names) != 3 or names[1] != "text" or "text" in (names[0], names[2]):
            raise ValueError(f"{path}: the post_processor's template is {' '.join(names)}; kbert packs [CLS] text [SEP]")
        if [*map(_place, processor.get("pair", []))] not in ([], _PAIR):
            raise ValueError(f"{path}: the post_processor packs pairs otherwise than [CLS] text [SEP] text [SEP] with segments")
        ids = {name: entry.get("ids", []) for name, entry in processor.get("special_tokens", {}).items()}
        pairs = [(name, *ids.get(name, [])) for name in (names[0], names[2])]
    else:
        raise ValueError(f"{path}: the post_processor is {kind}; kbert reads TemplateProcessing and BertProcessing")
    for pair in pairs:
        if len(pair) != 2 or pair[0] not in vocabulary or vocabulary[pair[1]] != pair[0]:
            raise ValueError(f"{path}: the post_processor's special token {pair[0]!r} does not have its id in the vocabulary")
    return {"cls_token": pairs[0][0], "sep_token": pairs[1][0]}


_PAIR = [("SpecialToken", 0), ("Sequence", 0), ("SpecialToken", 0), ("Sequence", 1), ("SpecialToken", 1)]


def _place(piece: Mapping[str, Any]) -> tuple[str, int]:
    """Returns the kind of a piece of a template and its segment."""
    ((kind, entry),) = piece.items()
    return kind, entry.get("type_id", 0)


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """Returns the contents of a tokenizer.json with the ids of a tokenizer, packing included.

    The `tokenizers` package always recognizes special tokens that are typed in a text. kbert does so where it is told to.

    Args:
      tokenizer: a WordPiece tokenizer.
    """
    special = [getattr(tokenizer, name) for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")]
    ids = {token: number for number, token in enumerate(tokenizer.vocabulary)}
    added = sorted({*special, *tokenizer.added_tokens, *tokenizer.added_words}, key=ids.__getitem__)

    def rules(token: str) -> dict[str, bool]:
        is_word = token in tokenizer.added_words
        return {"single_word": False, "lstrip": False, "rstrip": False, "normalized": is_word, "special": not is_word}

    cls, first, sep, second = (
        {"SpecialToken": {"id": tokenizer.cls_token, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": tokenizer.sep_token, "type_id": 0}},
        [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": tokenizer.sep_token, "type_id": 1}}],
    )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": ids[token], "content": token, **rules(token)} for token in added],
        "normalizer": {
            "type": _KINDS["normalizer"],
            **{key: getattr(tokenizer, NORMALIZER_KEYS[key]) for key in ("clean_text", "handle_chinese_chars")},
            **{key: getattr(tokenizer, NORMALIZER_KEYS[key]) for key in ("strip_accents", "lowercase")},
        },
        "pre_tokenizer": {"type": _KINDS["pre_tokenizer"]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, first, sep],
            "pair": [cls, first, sep, *second],
            "special_tokens": {
                token: {"id": token, "ids": [ids[token]], "tokens": [token]}
                for token in (tokenizer.cls_token, tokenizer.sep_token)
            },
        },
        "decoder": {"type": "WordPiece", "prefix": PREFIX, "cleanup": True},
        "model": {
            "type": _KINDS["model"],
            "unk_token": tokenizer.unk_token,
            "continuing_subword_prefix": PREFIX,
            "max_input_chars_per_word": tokenizer.max_input_chars_per_word,
            "vocab": ids,
        },
    }
