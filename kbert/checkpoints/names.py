"""Tables that pair our weights with the names of a format. Reading a checkpoint walks them one way, writing the other way."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from kbert.config import BertConfig, MobileBertConfig

Config = BertConfig | MobileBertConfig

# The weights of heads in all three formats: a checkpoint may hold the head of another task than the one that opens it.
OF_HEADS = re.compile(r"^(cls|classifier|qa_outputs|pre_classifier|vocab_\w+|task)[./]|^output_(weights|bias)$")


POOLED = ("SequenceClassification", "NextSentencePrediction", "PreTraining")  # heads that read the pooler


class Rule(NamedTuple):
    """One of our weights, and the tensors of a format that hold its values."""

    path: str  # of our variable: the dotted attributes from its owner, such as `blocks.3.attention.qkv.kernel`
    names: tuple[str, ...]  # of the format's tensors, which lie side by side in ours
    transposed: bool = False  # torch stores a dense kernel as [out, in], ours is [in, out]


class Family(NamedTuple):
    """How one format describes one architecture: its name, its configuration's keys and the names of its weights."""

    name: str  # transformers calls the classes `<name>For<head>`
    prefix: str  # of the encoder's weights in a checkpoint with a head
    config_class: type[Config]  # says which encoder it is
    keys: Mapping[str, str]  # from our configuration keys to the format's; keys that are not here are the same in both
    implied: Mapping[str, Any]  # values of our configuration that the architecture implies
    stated: Mapping[str, Any]  # keys that are written to config.json beside ours
    embeddings: Callable[[Any], Sequence[Rule]]  # from a configuration to the rules of the embeddings
    block: Callable[[Any], Sequence[Rule]]  # from a configuration to the rules of a block; {n} is its number, {_n} "" or "_1"
    pooler: Sequence[Rule]
    heads: Mapping[str, Sequence[Rule]]

    def rules(self, config: Config) -> list[Rule]:
        """Returns the rules of all weights of an encoder.

        Args:
          config: the encoder's configuration, which says how many blocks there are and whether there is a pooler.
        """
        block = self.block(config)
        blocks = [
            Rule(
                rule.path.format(n=n),
                tuple(name.format(n=n, _n=f"_{n}" if n else "") for name in rule.names),
                rule.transposed,
            )
            for n in range(config.num_hidden_layers)
            for rule in block
        ]
        # MobileBERT's pooler without its activation is the first token's vector, which takes no weights.
        has_pooler = config.add_pooling_layer and getattr(config, "classifier_activation", True)
        return [*self.embeddings(config), *blocks, *(self.pooler if has_pooler else [])]

    def head_of(self, architecture: str) -> str | None:
        """Returns the head of a class of transformers: a key of `heads`, `""` for the encoder alone, None if it is not known.

        Args:
          architecture: the name of the class, with `TF` or `Flax` in front or without.
        """
        name = architecture.removeprefix("TF").removeprefix("Flax").removeprefix(self.name)
        known = {"Model": "", **{f"For{head}": head for head in self.heads}}
        return known.get(name) if self.name in architecture else None

    def head(self, name: str) -> Sequence[Rule]:
        """Returns the rules of a head.

        Args:
          name: the head's name, such as `"SequenceClassification"`.

        Raises:
          ValueError: the format has no such head for this architecture.
        """
        if name not in self.heads:
            raise ValueError(f"{self.name} has no {name} head here, only {', '.join(self.heads)}")
        return self.heads[name]


class Description(NamedTuple):
    """What a checkpoint's configuration file says."""

    family: Family
    config: Config  # of the encoder
    values: dict[str, Any]  # the file's own dictionary, with keys of the head such as `id2label`
    architecture: str = ""  # the class that the file names, such as `"BertForMaskedLM"`; empty if it names none
    head: str | None = None  # of that class: a key of `Family.heads`, or "" for the encoder alone; None if none is known
