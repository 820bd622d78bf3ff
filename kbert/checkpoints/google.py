"""Google's TF1 folders: bert_config.json, vocab.txt, bert_model.ckpt.*. Read and written by one table."""

import pathlib
import re

import numpy as np
import tensorflow as tf

from kbert.checkpoints.huggingface import Family, Rule, read_json, weights_of, write_json
from kbert.encoders.bert import BertEncoder
from kbert.files.atomic import written_aside
from kbert.files.vocabulary import save_vocabulary

CONFIG = "bert_config.json"
_OPTIMIZER = re.compile(r"(/adam_[mv]|/lamb_[mv]|(^|/)global_step)$|^(beta[12]_power)$")


def _dense(ours, *theirs):
    return [Rule(f"{ours}.{part}", tuple(f"{name}/{part}" for name in theirs)) for part in ("kernel", "bias")]


def _norm(ours, theirs):
    return [Rule(f"{ours}.{part}", (f"{theirs}/{part}",)) for part in ("gamma", "beta")]


def _output(ours, theirs):
    return [Rule(f"{ours}.kernel", (f"{theirs}_weights",), transposed=True), Rule(f"{ours}.bias", (f"{theirs}_bias",))]


_LAYER = "encoder/layer_{n}"
_MASKED_LM = [
    *_dense("token_head.transform", "cls/predictions/transform/dense"),
    *_norm("token_head.norm", "cls/predictions/transform/LayerNorm"),
    Rule("token_head.bias", ("cls/predictions/output_bias",)),
]
FAMILY = Family(
    name="Bert",
    prefix="bert/",
    encoder=BertEncoder,
    keys={},
    implied={},
    stated={},
    embeddings=lambda config: [
        Rule("embeddings.tokens", ("embeddings/word_embeddings",)),
        Rule("embeddings.positions", ("embeddings/position_embeddings",)),
        Rule("embeddings.segments", ("embeddings/token_type_embeddings",)),
        *_norm("embeddings.norm", "embeddings/LayerNorm"),
    ],
    block=lambda config: [
        *_dense("blocks.{n}.attention.qkv", *(f"{_LAYER}/attention/self/{part}" for part in ("query", "key", "value"))),
        *_dense("blocks.{n}.attention.output_projection", f"{_LAYER}/attention/output/dense"),
        *_norm("blocks.{n}.attention_norm", f"{_LAYER}/attention/output/LayerNorm"),
        *_dense("blocks.{n}.feed_forward.inner", f"{_LAYER}/intermediate/dense"),
        *_dense("blocks.{n}.feed_forward.outer", f"{_LAYER}/output/dense"),
        *_norm("blocks.{n}.feed_forward_norm", f"{_LAYER}/output/LayerNorm"),
    ],
    pooler=_dense("pooler", "pooler/dense"),
    heads={
        # as run_classifier.py and run_squad.py name them
        "SequenceClassification": _output("classifier", "output"),
        "QuestionAnswering": _output("spans", "cls/squad/output"),
        "MaskedLM": _MASKED_LM,
        "NextSentencePrediction": _output("classifier", "cls/seq_relationship/output"),
        "PreTraining": [*_MASKED_LM, *_output("next_sentence", "cls/seq_relationship/output")],
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

    def tensor(self, *names):
        """A tensor, or several side by side."""
        try:
            values = [self._reader.get_tensor(self._stored[name]) for name in names]
        except (tf.errors.OpError, RuntimeError, IndexError) as error:
            raise ValueError(f"{self.path} is cut or damaged ({error}); fetch it again") from error
        return values[0] if len(values) == 1 else np.concatenate(values, -1)


def read_config(folder):
    """As `huggingface.read_config`: the family, the encoder's configuration, and nothing more, for labels are not stored."""
    path = pathlib.Path(folder) / CONFIG
    values = read_json(path)
    for key, kind in (("intra_bottleneck_size", "MobileBERT"), ("num_hidden_groups", "ALBERT")):
        if key in values:
            raise ValueError(f"{path} describes {kind}; of Google's layout kbert reads BERT only")
    return FAMILY, BertEncoder.config_class.from_dict(values, source=str(path)), {}


def is_cased(tokens):
    """Whether a vocabulary has upper case outside of its special tokens: Google's folders do not say."""
    return any(token != token.lower() for token in tokens if not (token.startswith("[") and token.endswith("]")))


def save_folder(folder, encoder, preprocessor=None, task=None):
    """Writes a folder that Google's code, and whatever reads its checkpoints, opens; arguments as of `huggingface.save_folder`."""
    config = encoder.config
    if type(encoder) is not BertEncoder or config.type_vocab_size == 0:
        raise ValueError("Google's layout has no place for DistilBERT and MobileBERT; save them in Hugging Face's")
    head_rules = [] if task is None else FAMILY.head(task.head)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = weights_of(encoder, FAMILY.rules(config), FAMILY.prefix)
    if task is not None:
        tensors.update(weights_of(task, head_rules))
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
    if preprocessor is not None:
        save_vocabulary(preprocessor.tokenizer.vocabulary, folder / "vocab.txt")
    keys = {key: value for key, value in config.to_dict().items() if key != "add_pooling_layer"}
    write_json(folder / CONFIG, keys)
