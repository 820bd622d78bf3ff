"""More texts like the given ones, for a student to learn from."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np

from kbert.tasks.masked_lm import MaskedLM
from kbert.text.texts import text_list


def augment(texts: Iterable[str], masked_lm: MaskedLM, copies: int = 3, share: float = 0.4, top_k: int = 15) -> list[str]:
    """Returns copies of texts in which a masked LM has replaced words (Jiao et al. 2020, section 3.2 and algorithm 1).

    >>> more = augment(texts, kbert.MaskedLM.from_preset("bert-base-uncased"))  # doctest: +SKIP

    Only words of one piece are replaced. The draws follow `keras.utils.set_random_seed`.

    Args:
      texts: a list of texts.
      masked_lm: the task that says which words could stand in the place of a word.
      copies: how many copies of each text there are.
      share: the probability that a word is replaced, from 0 to 1.
      top_k: the number of likeliest words among which the new one is drawn.

    Returns:
      `copies` texts for each text, in the order of the texts, without labels.
    """
    tokenizer = masked_lm.tokenizer
    random = np.random.default_rng(keras.random.SeedGenerator().state.numpy()[0])
    starts_word = np.array([not token.startswith("##") for token in tokenizer.vocabulary])
    rows = []
    for ids in tokenizer(text_list(texts)):
        pieces = ids.numpy()[: masked_lm.preprocessor.max_length - 2]
        words = likely_words(masked_lm, pieces, starts_word, top_k)
        for _ in range(copies):
            copy = pieces.copy()
            for place, candidates in words.items():
                if candidates and random.random() < share:
                    copy[place] = random.choice(candidates)
            rows.append(copy.tolist())
    return [text.decode("utf-8") for text in tokenizer.detokenize(rows).numpy()] if rows else []


def likely_words(masked_lm: MaskedLM, pieces: np.ndarray, starts_word: np.ndarray, top_k: int) -> dict[int, list[int]]:
    """Returns the ids of the likeliest words in the place of each word of a text that has one piece.

    Args:
      masked_lm: the task that predicts them.
      pieces: the text's ids, `[P]`.
      starts_word: whether each token of the vocabulary begins a word, bool `[V]`.
      top_k: how many words, at most.

    Returns:
      A dictionary from the place of a word among the pieces to a list of ids, the likeliest first.
    """
    tokenizer = masked_lm.tokenizer
    special = {tokenizer.token_to_id(token) for token in tokenizer.special_tokens}

    def is_word(place: int) -> bool:
        is_last = place + 1 == len(pieces) or starts_word[pieces[place + 1]]
        return bool(starts_word[pieces[place]] and pieces[place] not in special and is_last)

    places = [place for place in range(len(pieces)) if is_word(place)]
    row = np.concatenate([[tokenizer.cls_token_id], pieces, [tokenizer.sep_token_id]]).astype(np.int32)
    positions = np.arange(len(row))
    masked = [np.where(positions == place + 1, tokenizer.mask_token_id, row).astype(np.int32) for place in places]
    words = {}
    for place, logs in zip(places, masked_lm.log_probabilities(masked, [np.array([place + 1]) for place in places])):
        likeliest = np.argsort(-logs[0])[: top_k + len(special)]
        words[place] = [token for token in likeliest if starts_word[token] and token not in special][:top_k]
    return words
