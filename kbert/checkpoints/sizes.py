"""The configuration of a BERT or a DistilBERT, from the shapes of its weights, for folders that state none."""

from __future__ import annotations

import pathlib
import re
import warnings
from collections.abc import Mapping
from typing import Any

USUAL_HEAD = 64  # the width of a head of attention in every published BERT


def config_of_shapes(shapes: Mapping[str, tuple[int, ...]], path: pathlib.Path, kernels_are_ours: bool) -> dict[str, Any]:
    """Returns what a config.json would state, and warns of what shapes do not say.

    Args:
      shapes: the shapes of the weights, by the torch names without the family's prefix.
      path: the path of the weights, for messages.
      kernels_are_ours: whether a dense kernel is stored as `[in, out]`.

    Raises:
      ValueError: the weights are of another architecture, or the width is no multiple of 64.
    """
    words = shapes.get("embeddings.word_embeddings.weight", ())
    layers = {
        int(match[1]) for match in (re.match(r"(?:encoder|transformer)\.layer\.(\d+)\.", name) for name in shapes) if match
    }
    distilled = any(name.startswith("transformer.layer.") for name in shapes)
    inner = shapes.get("transformer.layer.0.ffn.lin1.weight" if distilled else "encoder.layer.0.intermediate.dense.weight", ())
    bottlenecks = any(".bottleneck." in name for name in shapes)
    if len(words) != 2 or len(inner) != 2 or layers != set(range(len(layers))) or bottlenecks:
        raise ValueError(
            f"{path} has no config.json beside it, and its shapes are not those of a BERT or a DistilBERT: add one"
        )
    if words[1] % USUAL_HEAD:
        raise ValueError(
            f"{path} has no config.json beside it, and its width of {words[1]} does not say how many heads it has: "
            'add a config.json with the model\'s sizes, for example {"num_attention_heads": 12, ...}'
        )
    sizes = {
        "vocab_size": words[0],
        "hidden_size": words[1],
        "num_hidden_layers": len(layers),
        "num_attention_heads": words[1] // USUAL_HEAD,
        "intermediate_size": inner[1] if kernels_are_ours else inner[0],
        "max_position_embeddings": shapes.get("embeddings.position_embeddings.weight", (512,))[0],
        "type_vocab_size": shapes.get("embeddings.token_type_embeddings.weight", (2,))[0],
    }
    warnings.warn(
        f"{path} has no config.json beside it: its sizes are those of the weights. "
        f"Heads of {USUAL_HEAD} ({words[1] // USUAL_HEAD} of them), the activation gelu and the epsilon 1e-12 are "
        "assumed; write a config.json if they differ",
        stacklevel=2,
    )
    if distilled:
        names = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
        names["intermediate_size"] = "hidden_dim"
        return {"model_type": "distilbert", **{names.get(key, key): value for key, value in sizes.items()}}
    return {"model_type": "bert", **sizes}
