"""Google's TF1 folders: bert_config.json, vocab.txt, bert_model.ckpt.*. Read and written by one table."""

import pathlib
import re

import numpy as np
import tensorflow as tf

from kbert.atomic_files import written_aside
from kbert.checkpoints.huggingface import Family, Rule, weights_of
from kbert.config import BertConfig
from kbert.text.vocabulary import save_vocabulary

CONFIG = "bert_config.json"
_OPTIMIZER = re.compile(r"(/adam_[mv]|/lamb_[mv]|(^|/)global_step)$|^(beta[12]_power)$")


def _dense(ours, *theirs):
    return [Rule(f"{ours}.{part}", tuple(f"{name}/{part}" for name in theirs)) for part in ("kernel", "bias")]


def _norm(ours, theirs):
    return [Rule(f"{ours}.{part}", (f"{theirs}/{part}",)) for part in ("gamma", "beta")]


_LAYER = "encoder/layer_{n}"
FAMILY = Family(
    name="Bert",
    prefix="bert/",
    keys={},
    implied={},
    stated={},
    embeddings=[
        Rule("embeddings.tokens", ("embeddings/word_embeddings",)),
        Rule("embeddings.positions", ("embeddings/position_embeddings",)),
        Rule("embeddings.segments", ("embeddings/token_type_embeddings",)),
        *_norm("embeddings.norm", "embeddings/LayerNorm"),
    ],
    block=[
        *_dense("blocks.{n}.attention.qkv", *(f"{_LAYER}/attention/self/{part}" for part in ("query", "key", "value"))),
        *_dense("blocks.{n}.attention.output_projection", f"{_LAYER}/attention/output/dense"),
        *_norm("blocks.{n}.attention_norm", f"{_LAYER}/attention/output/LayerNorm"),
        *_dense("blocks.{n}.feed_forward.inner", f"{_LAYER}/intermediate/dense"),
        *_dense("blocks.{n}.feed_forward.outer", f"{_LAYER}/output/dense"),
        *_norm("blocks.{n}.feed_forward_norm", f"{_LAYER}/output/LayerNorm"),
    ],
    pooler=_dense("pooler", "pooler/dense"),
    heads={  # as run_classifier.py names them
        "SequenceClassification": [
            Rule("classifier.kernel", ("output_weights",), transposed=True),
            Rule("classifier.bias", ("output_bias",)),
        ]
    },
)


class Checkpoint:
    """The tensors of a TF1 checkpoint, by names without `bert/`; the optimizer's slots are passed over."""

    def __init__(self, folder):
        found = sorted(pathlib.Path(folder).glob("*.ckpt*.index"))
        if not found:
            raise FileNotFoundError(f"{folder} has a {CONFIG}, but no checkpoint such as bert_model.ckpt.index beside it")
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ValueError(f"{folder} holds several checkpoints ({names}); keep the one to open in a folder of its own")
        self.path = found[0].with_suffix("")
        try:
            self._reader = tf.train.load_checkpoint(str(self.path))
        except (tf.errors.OpError, RuntimeError) as error:
            raise ValueError(f"{self.path} cannot be read ({error}); are all of its .data files there?") from error
        stored = self._reader.get_variable_to_shape_map()
        self._shapes = {
            name.removeprefix(FAMILY.prefix): tuple(shape) for name, shape in stored.items() if not _OPTIMIZER.search(name)
        }
        self._stored = {name.removeprefix(FAMILY.prefix): name for name in stored}

    def __contains__(self, name):
        return name in self._shapes

    def names(self):
        return set(self._shapes)

    def shape(self, name):
        return self._shapes[name]

    def tensor(self, name):
        try:
            return self._reader.get_tensor(self._stored[name])
        except (tf.errors.OpError, RuntimeError, IndexError) as error:
            raise ValueError(f"{self.path} is cut or damaged ({error}); fetch it again") from error


def read_config(folder):
    """As `huggingface.read_config`: the family, the encoder's configuration, and nothing more, for labels are not stored."""
    return FAMILY, BertConfig.from_json(pathlib.Path(folder) / CONFIG), {}


def is_cased(tokens):
    """Whether a vocabulary has upper case outside of its special tokens: Google's folders do not say."""
    return any(token != token.lower() for token in tokens if not (token.startswith("[") and token.endswith("]")))


def save_folder(folder, task):
    """Writes a folder that Google's code, and whatever reads its checkpoints, opens."""
    config = task.encoder.config
    if not config.add_pooling_layer or config.type_vocab_size == 0:
        raise ValueError("Google's layout has no place for DistilBERT; save it in Hugging Face's")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = weights_of(task.encoder, FAMILY.rules(config), FAMILY.prefix)
    tensors.update(weights_of(task, FAMILY.heads[task.head]))
    names = sorted(tensors)
    with written_aside(folder / "bert_model.ckpt.index") as aside:
        prefix = aside.with_suffix("")
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.constant(np.asarray(tensors[name])) for name in names],
        )
        # The data first: an index without its data would be half a checkpoint.
        for data in prefix.parent.glob(f"{prefix.name}.data-*"):
            data.replace(folder / data.name)
    if task.tokenizer is not None:
        save_vocabulary(task.tokenizer.vocabulary, folder / "vocab.txt")
    with written_aside(folder / CONFIG) as aside:
        aside.write_text(config.to_json(), encoding="utf-8")
