"""Prompts: texts that stand before every text of an embedder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kbert.tasks.encoding import Encoding
from kbert.training import keras_internals


class Prompted(Encoding):
    """What an embedder has to do with prompts; a part of `TextEmbedder`.

    The prompt in use is the preprocessor's, so that training, answers, exports and frozen tasks all read texts behind it.
    """

    prompts: dict[str, str]
    include_prompt: bool

    @property
    def skipped_positions(self) -> int:
        """How many positions at the start of each text do not count in the pooling."""
        return 0 if self.include_prompt or self.preprocessor is None else self.preprocessor.prompt_length

    def with_prompt(self, prompt_name: str | None = None, prompt: str | None = None) -> Any:
        """Returns the same embedder, on the same weights, with another prompt before every text, to train, export or freeze it.

        >>> embedder.with_prompt("query").export("queries/1")  # doctest: +SKIP

        Args:
          prompt_name: the name of one of `prompts`.
          prompt: the text itself, in place of a name; `""` for none.

        Raises:
          ValueError: there is no prompt of that name, both are given or neither is, or the prompt ends inside a word; or a
            frozen embedder leaves the prompt's tokens out of the pooling, which another prompt would change.
        """
        if (prompt_name is None) == (prompt is None):
            raise ValueError("give prompt_name or prompt, one of the two")
        text = prompt if prompt_name is None else prompt_named(self.prompts, prompt_name)
        preprocessor = self.preprocessor.with_prompt(text)
        if preprocessor is self.preprocessor:
            return self
        reading = getattr(self, "reading", None)
        if reading is not None:
            if not self.include_prompt:
                raise ValueError(
                    "a frozen embedder with include_prompt=False has one prompt: freeze with_prompt(...) of its task"
                )
            return reading(preprocessor)
        kept = keras_internals.hidden(self, "_by_prompt", dict)
        if text not in kept:
            options = {**self.get_config(), "encoder": self.encoder, "preprocessor": preprocessor}
            options.update(dtype=self.dtype_policy, default_prompt_name=prompt_name)
            other = type(self)(**{name: value for name, value in options.items() if name not in self.remembered()})
            other.dense_layers = self.dense_layers
            kept[text] = other
        return kept[text]


def checked_prompts(prompts: Mapping[str, str] | None) -> dict[str, str]:
    """Returns a copy of the prompts; raises a TypeError if they are no texts by name."""
    texts = {} if prompts is None else prompts
    if not isinstance(texts, Mapping) or not all(isinstance(part, str) for pair in texts.items() for part in pair):
        raise TypeError(f'prompts should be texts by name, such as {{"query": "query: "}}, got {prompts!r}')
    return dict(texts)


def prompt_named(prompts: Mapping[str, str], name: str) -> str:
    """Returns a prompt by its name.

    Raises:
      ValueError: there is none of that name.
    """
    if name not in prompts:
        known = f"the embedder's are {', '.join(map(repr, prompts))}" if prompts else "the embedder has none; give prompts="
        raise ValueError(f"there is no prompt of the name {name!r}: {known}")
    return prompts[name]
