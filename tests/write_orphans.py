"""Writes tiny files with the libraries that nobody keeps any more, and what their models answer. `make test-orphans` runs it.

    .venv-orphans/bin/python -m tests.write_orphans FOLDER [KIND ...]

Each kind has a folder with its files and a golden.json: the task, packed inputs, and outputs by kbert's names.
"""

import json
import os
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import tensorflow as tf

SIZES = {"vocab_size": 30, "hidden_size": 16, "num_attention_heads": 2, "max_sequence_length": 20}
LENGTH = 9
CONFIG = {
    "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 28,
    "hidden_act": "gelu", "max_position_embeddings": 20, "type_vocab_size": 2,
}  # fmt: skip


def inputs():
    """Two rows, one of them a pair and the other shorter."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, SIZES["vocab_size"], (2, LENGTH)).astype("int32")
    mask = np.ones_like(ids)
    mask[1, 5:] = 0
    types = np.zeros_like(ids)
    types[0, 4:] = 1
    positions = np.tile(np.arange(LENGTH, dtype="int32"), (2, 1))
    return {"input_word_ids": ids * mask, "input_mask": mask, "input_type_ids": types, "masked_lm_positions": positions}


def packed_inputs():
    """The inputs of an encoder."""
    return {name: value for name, value in inputs().items() if name != "masked_lm_positions"}


def trained(model):
    """Gives a model's weights other values than a new model's."""
    rng = np.random.default_rng(1)
    for variable in model.weights:
        if variable.dtype.is_floating:
            new = rng.normal(0, 0.3, variable.shape) + (1.0 if "gamma" in variable.name else 0.0)
            variable.assign(new.astype("float32"))
    tables = [variable for variable in model.weights if "word_embeddings" in variable.name]
    for variable in model.weights:  # MobileBERT's tied table is a variable of its own
        if variable.name.endswith("decoder/weight:0"):
            variable.assign(tables[0])
    return model


def note(folder, task, outputs):
    """Writes golden.json."""
    values = {name: np.asarray(value).tolist() for name, value in inputs().items()}
    values["outputs"] = {name: np.asarray(value, "float32").round(6).tolist() for name, value in outputs.items()}
    versions = {name: __import__(name).__version__ for name in ("tensorflow", "tf_keras")}
    said = {"task": task, "written_by": versions, "cases": [values]}
    (folder / "golden.json").write_text(json.dumps(said, separators=(",", ":")) + "\n", "utf-8")


# Model Garden


def encoder_of(version):
    from official.nlp.modeling import networks

    if version == "v1":
        return networks.BertEncoder(num_layers=2, intermediate_size=28, **SIZES)
    return networks.BertEncoderV2(num_layers=2, inner_dim=28, **SIZES)


def garden_model(head, version):
    """A model of Model Garden's, and a function from its outputs to ours."""
    from official.modeling import tf_utils
    from official.nlp.modeling import layers, models

    encoder = encoder_of(version)
    if head == "classifier":
        return models.BertClassifier(encoder, 3), "TextClassifier", lambda out: {"logits": out}
    if head == "classifier_own_pooler":
        model = models.BertClassifier(encoder, 3, use_encoder_pooler=False)
        return model, "TextClassifier", lambda out: {"logits": out}
    if head == "tokens":
        return models.BertTokenClassifier(encoder, 3), "TokenClassifier", lambda out: {"logits": out["logits"]}
    if head == "spans":
        return (
            models.BertSpanLabeler(encoder),
            "QuestionAnswerer",
            lambda out: {"start_logits": out[0], "end_logits": out[1]},
        )
    next_sentence = layers.ClassificationHead(inner_dim=16, num_classes=2, dropout_rate=0.1, name="next_sentence")
    model = models.BertPretrainerV2(encoder, tf_utils.get_activation("gelu"), classification_heads=[next_sentence])
    return model, "Pretrainer", lambda out: {"mlm_logits": out["mlm_logits"], "nsp_logits": out["next_sentence"]}


def write_checkpoint(folder, head, version):
    model, task, ours = garden_model(head.removesuffix("_whole").removesuffix("_items"), version)
    given = inputs() if head.startswith("pretrainer") else packed_inputs()
    model(given)
    outputs = ours(trained(model)(given))
    if head == "pretrainer_items":
        task, outputs = "MaskedLM", {"logits": outputs["mlm_logits"]}
        tf.train.Checkpoint(**model.checkpoint_items).write(str(folder / "bert_model.ckpt"))
    else:
        tf.train.Checkpoint(model=model, **model.checkpoint_items).write(str(folder / "ckpt"))
    note(folder, task, outputs)


def write_encoder(folder, version):
    """The encoder alone."""
    encoder = encoder_of(version)
    encoder(packed_inputs())
    out = trained(encoder)(packed_inputs())
    out = out if isinstance(out, dict) else {"sequence_output": out[0], "pooled_output": out[1]}
    tf.train.Checkpoint(encoder=encoder).save(str(folder / "bert_model.ckpt"))
    note(folder, "BertEncoder", {name: out[name] for name in ("sequence_output", "pooled_output")})


def write_keras(folder, version, name):
    """A classifier in a file of Keras's."""
    model, task, ours = garden_model("classifier", version)
    given = packed_inputs()
    model(given)
    outputs = ours(trained(model)(given))
    model.save(folder / name) if name.endswith(".keras") else model.save_weights(folder / name)
    note(folder, task, outputs)


def write_hub(folder, version, with_mlm=False):
    """A SavedModel as those of TF-Hub are: `export_tfhub_lib` builds the encoder and fills it from a checkpoint."""
    from official.legacy.bert.configs import BertConfig
    from official.nlp.configs.encoders import EncoderConfig
    from official.nlp.tools import export_tfhub_lib

    if version == "v1":
        config = {"bert_config": BertConfig.from_dict(CONFIG)}
    else:
        sizes = {name: value for name, value in CONFIG.items() if name not in ("hidden_act", "num_hidden_layers")}
        config = {"encoder_config": EncoderConfig(type="bert", bert={**sizes, "num_layers": 1, "intermediate_size": 28})}
    core, whole = export_tfhub_lib._create_model(**config, with_mlm=with_mlm)
    trained(whole)
    items = whole.checkpoint_items if with_mlm else {"model": whole, "encoder": whole}
    given = inputs() if with_mlm else packed_inputs()
    out = (core.mlm if with_mlm else core)(given)
    beside = pathlib.Path(tempfile.mkdtemp())
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxy"]
    (beside / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    checkpoint = tf.train.Checkpoint(**items).save(str(beside / "ckpt"))
    export_tfhub_lib.export_model(
        str(folder), **config, model_checkpoint_path=checkpoint, with_mlm=with_mlm,
        vocab_file=str(beside / "vocab.txt"), do_lower_case=True,
    )  # fmt: skip
    shutil.rmtree(beside)
    if with_mlm:
        note(folder, "MaskedLM", {"logits": out["mlm_logits"]})
    else:
        note(folder, "BertEncoder", {name: out[name] for name in ("sequence_output", "pooled_output")})


def write_tutorial(folder, version, form):
    """The tutorials' classifier: a hub.KerasLayer and a dense layer on its pooled output."""
    import tensorflow_hub as hub
    import tf_keras

    saved = folder.parent / f"{folder.name}.saved"
    saved.mkdir()
    write_hub(saved, version)
    given = packed_inputs()
    parts = {name: tf_keras.Input((None,), dtype=tf.int32, name=name) for name in given}
    vectors = hub.KerasLayer(str(saved), trainable=True, name="BERT_encoder")(parts)["pooled_output"]
    logits = tf_keras.layers.Dense(3, name="classifier")(tf_keras.layers.Dropout(0.1)(vectors))
    model = tf_keras.Model(parts, logits)
    outputs = trained(model)(given)
    if form == "saved_model":
        model.save(folder, include_optimizer=False)
    elif form == "checkpoint":
        model.save_weights(folder / "cp.ckpt")
    elif form == "keras":
        model.save(folder / "model.keras")
    else:
        model.save_weights(folder / form)
    note(folder, "TextClassifier", {"logits": outputs})


# transformers


def write_transformers(folder, architecture, head, form):
    import transformers

    sizes = {"vocab_size": 30, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 28}
    sizes |= {"max_position_embeddings": 20, "num_labels": 2 if head == "QuestionAnswering" else 3}
    if architecture == "DistilBert":
        sizes |= {"dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 28}
    if architecture == "MobileBert":
        sizes |= {"embedding_size": 8, "intra_bottleneck_size": 8, "num_feedforward_networks": 2}
    config = getattr(transformers, f"{architecture}Config")(**sizes)
    model = getattr(transformers, f"TF{architecture}{'For' + head if head else 'Model'}")(config)
    given = inputs()
    named = {"input_ids": given["input_word_ids"], "attention_mask": given["input_mask"]}
    if architecture != "DistilBert":
        named["token_type_ids"] = given["input_type_ids"]
    model(named)
    out = trained(model)(named)
    ours = {
        "": lambda: ("BertEncoder", {"sequence_output": out[0]}),
        "SequenceClassification": lambda: ("TextClassifier", {"logits": out.logits}),
        "TokenClassification": lambda: ("TokenClassifier", {"logits": out.logits}),
        "QuestionAnswering": lambda: (
            "QuestionAnswerer",
            {"start_logits": out.start_logits, "end_logits": out.end_logits},
        ),
        "MaskedLM": lambda: ("MaskedLM", {"logits": out.logits}),
        "PreTraining": lambda: (
            "Pretrainer",
            {"mlm_logits": out.prediction_logits, "nsp_logits": out.seq_relationship_logits},
        ),
    }
    model.save_pretrained(folder, safe_serialization=form == "safetensors")
    note(folder, *ours[head]())


HEADS = ("classifier", "classifier_own_pooler", "tokens", "spans", "pretrainer_whole", "pretrainer_items")
FORMS = ("saved_model", "checkpoint", "keras", "model.h5", "model.weights.h5")
OF_TRANSFORMERS = {
    "Bert": ("", "SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM", "PreTraining"),
    "DistilBert": ("", "SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM"),
    "MobileBert": ("", "SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM", "PreTraining"),
}
KINDS = {}
for _version in ("v1", "v2"):
    KINDS.update({f"garden_{_version}_{head}": (write_checkpoint, head, _version) for head in HEADS})
    KINDS[f"garden_{_version}_encoder"] = (write_encoder, _version)
    for _name in ("model.h5", "model.weights.h5", "model.keras"):
        KINDS[f"garden_{_version}_{_name}"] = (write_keras, _version, _name)
    KINDS[f"tfhub_{_version}"] = (write_hub, _version)
    KINDS[f"tfhub_{_version}_mlm"] = (write_hub, _version, True)
    KINDS.update({f"tutorial_{_version}_{form}": (write_tutorial, _version, form) for form in FORMS})
for _architecture, _heads in OF_TRANSFORMERS.items():
    for _head in _heads:
        for _form in ("h5", "safetensors"):
            KINDS[f"TF{_architecture}_{_head or 'Model'}_{_form}"] = (write_transformers, _architecture, _head, _form)


def main(folder, *kinds):
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tf_keras

    failed = []
    for kind in kinds or KINDS:
        write, *arguments = KINDS[kind]
        place = pathlib.Path(folder) / kind
        place.mkdir(parents=True)
        tf_keras.backend.clear_session()
        try:
            write(place, *arguments)
        except Exception as error:  # the others are written all the same, and the caller hears of it
            failed.append(f"{kind}: {type(error).__name__}: {str(error)[:300]}")
    print("\n".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
