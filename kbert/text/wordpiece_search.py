"""Searches the tokens that spell counted words in few pieces, on arrays of all places of the words."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

LEAST = 2  # a token occurs at least so often
ROUNDS = 4  # how often the words are cut anew with the tokens of the round before
LONGEST_WORD = 50  # characters of the longest word that is learned from


def search_tokens(counts: Mapping[str, int], size: int, say: Callable[[str], None] = lambda text: None) -> list[str]:
    """Returns tokens of two and more characters that spell words in few pieces, the most frequent first.

    >>> search_tokens({"low": 9, "lower": 9, "slower": 9}, size=3)
    ['low', 'lower', 'slower']

    The search is the one of BERT's vocabularies (`wordpiece_tokenizer_learner_lib` of tensorflow-text). In the first round
    each character begins a piece. Each substring that reaches from the start of a piece to the end of its word is counted.
    Substrings with at least `threshold` occurrences are tokens. In each later round the words are cut with the tokens of the
    round before, longest match first, and the substrings are counted anew. The threshold is the lowest one that gives at most
    `size` tokens. The rest of the room goes to the most frequent tokens of the next lower threshold; tensorflow-text's learner
    leaves it empty. Ties are broken by the order of code points, so that the order of `counts` does not matter.

    Args:
      counts: the words and how often each occurs. Words with more than `LONGEST_WORD` characters are passed over.
      size: the largest number of tokens to return. There are fewer if fewer substrings occur `LEAST` times.
      say: takes a line about the progress.

    Returns:
      At most `size` tokens. Tokens that continue a word begin with `##`. Single characters are not among them.
    """
    words = sorted(word for word in counts if len(word) <= LONGEST_WORD)
    if not words or size <= 0:
        return []
    numbers = np.array([counts[word] for word in words], np.int64)
    # Substrings below the final threshold play no part. Most of them are left out by a first guess, which is lowered if the
    # search ends at it.
    least = max(LEAST, int(numbers.sum()) // (50 * size))
    while True:
        places = _Places(words, numbers, least)
        low, high = least, max(least, int(numbers.sum()))
        while low < high:
            middle = (low + high) // 2
            say(f"cut {len(words):,} different words with the tokens that occur {middle:,} times")
            low, high = (low, middle) if places.number_of_tokens(middle) <= size else (middle + 1, high)
        if low > least or least == LEAST:
            break
        least = max(LEAST, least // 8)
    tokens = _most_frequent_first(places.tokens(low))
    if len(tokens) < size and low > LEAST:
        present = set(tokens)
        tokens += [token for token in _most_frequent_first(places.tokens(low - 1)) if token not in present][
            : size - len(tokens)
        ]
    return tokens


def _most_frequent_first(counts: Mapping[str, int]) -> list[str]:
    return sorted(counts, key=lambda token: (-counts[token], token))


@dataclasses.dataclass(frozen=True)
class _Level:
    """The substrings of one length, and the places where they begin.

    Attributes:
      length: the characters of each substring.
      places: where a substring of this level begins, int32 `[P]`.
      substrings: the number of the substring that begins at each of `places`, int32 `[P]`.
      ending: whether the substring ends with its word there, bool `[P]`.
      examples: a place of each substring, int32 `[S]`.
    """

    length: int
    places: np.ndarray
    substrings: np.ndarray
    ending: np.ndarray
    examples: np.ndarray


class _Places:
    """All characters of all words in one row, and the substrings that begin at each of them.

    A substring at the start of a word and the same one inside a word are two, as tokens with and without `##` are.
    """

    def __init__(self, words: list[str], counts: np.ndarray, least: int) -> None:
        """Finds the substrings.

        Args:
          words: different words, none of them empty.
          counts: how often each word occurs, `[W]`.
          least: substrings that reach the end of a word less often than that are left out.
        """
        self._text = "".join(words)
        lengths = np.array([len(word) for word in words], np.int64)
        self._ends = np.cumsum(lengths)
        self._starts = self._ends - lengths
        self._weights: np.ndarray = np.repeat(counts, lengths)
        self._inside: np.ndarray = np.ones(len(self._text), bool)
        self._inside[self._starts] = False
        self._levels = list(self._find(np.repeat(self._ends, lengths), least))
        self._counted = functools.lru_cache(maxsize=2)(self._count)

    def _find(self, end_of: np.ndarray, least: int) -> list[_Level]:
        """Returns the levels, from two characters on.

        A substring that occurs `least` times has beginnings that occur as often. So each level extends the places of the level
        before, without those that were too rare.
        """
        _, codes = np.unique(np.frombuffer(self._text.encode("utf-32-le"), np.uint32), return_inverse=True)
        alphabet = int(codes.max()) + 1
        places: np.ndarray = np.arange(len(codes))
        beginnings: np.ndarray = self._inside.astype(np.int64)  # 0 begins a word, 1 continues one
        levels, length = [], 1
        while len(places):
            keys, substrings = np.unique(beginnings * alphabet + codes[places + length - 1], return_inverse=True)
            occurrences = np.bincount(substrings, self._weights[places], len(keys))
            frequent = occurrences[substrings] >= least
            places, substrings = places[frequent], substrings[frequent]
            ending = places + length == end_of[places]
            if length > 1:
                levels.append(self._level(length, places, substrings, ending, len(keys), least))
            places, beginnings = places[~ending], substrings[~ending]
            length += 1
        return levels

    def _level(
        self, length: int, places: np.ndarray, substrings: np.ndarray, ending: np.ndarray, size: int, least: int
    ) -> _Level:
        """Returns a level of the substrings that end a word `least` times; no other one can become a token."""
        possible = np.bincount(substrings[ending], self._weights[places[ending]], size) >= least
        kept = possible[substrings]
        numbers = (np.cumsum(possible) - 1).astype(np.int32)
        places, substrings, ending = places[kept].astype(np.int32), numbers[substrings[kept]], ending[kept]
        examples: np.ndarray = np.zeros(int(possible.sum()), np.int32)
        examples[substrings] = places
        return _Level(length, places, substrings, ending, examples)

    def number_of_tokens(self, threshold: int) -> int:
        """Returns how many tokens a threshold gives."""
        return sum(int((counts >= threshold).sum()) for counts in self._counted(threshold))

    def tokens(self, threshold: int) -> dict[str, int]:
        """Returns the tokens that a threshold gives, with their counts."""
        tokens = {}
        for level, counts in zip(self._levels, self._counted(threshold)):
            for substring in np.flatnonzero(counts >= threshold).tolist():
                place = int(level.examples[substring])
                letters = self._text[place : place + level.length]
                tokens[f"##{letters}" if self._inside[place] else letters] = int(counts[substring])
        return tokens

    def _count(self, threshold: int) -> list[np.ndarray]:
        """Returns the counts of each level's substrings in the last round."""
        begins: np.ndarray = np.ones(len(self._text), bool)
        for last in range(ROUNDS - 1, -1, -1):
            weights = np.where(begins, self._weights, 0)
            counts = [
                np.bincount(level.substrings[level.ending], weights[level.places[level.ending]], len(level.examples))
                for level in self._levels
            ]
            if last:
                begins = self._cut([each >= threshold for each in counts])
        return counts

    def _cut(self, tokens: list[np.ndarray]) -> np.ndarray:
        """Returns where pieces begin if each word is cut with the longest token first, bool, one a place.

        Args:
          tokens: whether each substring of a level is a token. Single characters always are.
        """
        longest: np.ndarray = np.ones(len(self._text), np.int32)
        for level, is_token in zip(self._levels, tokens):
            longest[level.places[is_token[level.substrings]]] = level.length
        begins: np.ndarray = np.zeros(len(self._text), bool)
        places, ends = self._starts, self._ends
        while len(places):
            begins[places] = True
            places = places + longest[places]
            unfinished = places < ends
            places, ends = places[unfinished], ends[unfinished]
        return begins
