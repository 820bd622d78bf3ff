"""Peers, run live in .venv-peers, open what kbert writes without a warning and agree. `make test-peers` makes that place."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import kbert
from tests.conftest import TINY

PYTHON = Path(__file__).resolve().parents[1] / ".venv-peers" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-peers: make test-peers")

ASK = """
import json, sys, warnings
warnings.simplefilter("error")
import torch, transformers
answers = {}
texts, models = json.load(sys.stdin)
for folder, head in models:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, "AutoModel" + head).from_pretrained(folder).eval()
    with torch.no_grad():
        inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        outputs = model(**inputs)
    outputs = {name: values.tolist() for name, values in outputs.items() if torch.is_tensor(values)}
    answers[folder] = {"ids": inputs["input_ids"].tolist(), "outputs": outputs, "labels": model.config.id2label}
print(json.dumps(answers))
"""
TEXTS = ["good cat", "", "the film so BAD!", "Élan 你好 " * 20]
MOBILE = {**TINY, "intra_bottleneck_size": 8, "embedding_size": 8, "num_feedforward_networks": 2}
ENCODERS = {
    "bert": lambda: kbert.BertEncoder(kbert.BertConfig(**TINY)),
    "distilbert": lambda: kbert.BertEncoder(kbert.BertConfig(**TINY, type_vocab_size=0, add_pooling_layer=False)),
    "mobilebert": lambda: kbert.MobileBertEncoder(kbert.MobileBertConfig(**MOBILE)),
}
LABELS = {"labels": ["a", "b", "c"]}
# our task, the AutoModel that opens it, their names of our outputs
HEADS = {
    "SequenceClassification": (kbert.TextClassifier, LABELS, "ForSequenceClassification", {"": "logits"}),
    "TokenClassification": (kbert.TokenClassifier, LABELS, "ForTokenClassification", {"": "logits"}),
    "QuestionAnswering": (
        kbert.QuestionAnswerer, {}, "ForQuestionAnswering", {"start_logits": "start_logits", "end_logits": "end_logits"},
    ),
    "MaskedLM": (kbert.MaskedLM, {}, "ForMaskedLM", {"": "logits"}),
    "PreTraining": (
        kbert.Pretrainer, {}, "ForPreTraining", {"mlm_logits": "prediction_logits", "nsp_logits": "seq_relationship_logits"},
    ),
    "NextSentencePrediction": (
        kbert.TextClassifier, {"labels": ["is_next", "not_next"], "head": "NextSentencePrediction"},
        "ForNextSentencePrediction", {"": "logits"},
    ),
}  # fmt: skip


def ask(models, texts=TEXTS):
    """What transformers answers for `(folder, AutoModel's suffix)` pairs; any warning of it fails."""
    models = [(str(folder), head) for folder, head in models]
    done = subprocess.run([PYTHON, "-c", ASK], input=json.dumps([texts, models]), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "newly initialized" not in done.stderr and "not used" not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.filterwarnings("ignore:.*longer than max_length")
def test_transformers_opens_every_written_folder_and_agrees(tokenizer, tmp_path):
    preprocessor = kbert.TextPreprocessor(tokenizer, max_length=24)
    packed = preprocessor(TEXTS)
    tasks = {}
    for architecture, make in ENCODERS.items():
        for head, (cls, arguments, suffix, _) in HEADS.items():
            if architecture == "distilbert" and head in ("PreTraining", "NextSentencePrediction"):
                continue
            task = cls(make(), preprocessor, **arguments)
            folder = tmp_path / f"{architecture}_{head}"
            task.save_to_preset(folder)
            tasks[str(folder)] = task, head, suffix
    assert len(tasks) == 16
    answers = ask([(folder, suffix) for folder, (_, _, suffix) in tasks.items()])
    mask = packed["padding_mask"].numpy()
    for folder, (task, head, _) in tasks.items():
        assert answers[folder]["ids"] == packed["token_ids"].numpy().tolist()
        if hasattr(task, "labels") and head != "NextSentencePrediction":
            assert list(answers[folder]["labels"].values()) == task.labels
        outputs = task(packed, training=False)
        for ours, theirs in HEADS[head][3].items():
            values, expected = np.asarray(outputs[ours] if ours else outputs), np.array(answers[folder]["outputs"][theirs])
            if values.shape[:2] == mask.shape:
                where = mask.reshape(*mask.shape, *[1] * (values.ndim - 2))
                values, expected = values * where, expected * where
            tolerance = 2e-4 if "mobilebert" in folder else 1e-4
            np.testing.assert_allclose(values, expected, atol=tolerance, err_msg=folder)


ASK_SENTENCE_TRANSFORMERS = """
import json, logging, sys, warnings
warnings.simplefilter("error")
import sentence_transformers, tokenizers
folders, scored, texts, pairs = json.load(sys.stdin)
answers = {}
for folder in folders:
    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    names = [None, *model.prompts]
    answers[folder] = {str(name): model.encode(texts, prompt_name=name).tolist() for name in names}
    vectors = model.encode(texts)
    answers[folder]["similarity"] = model.similarity(vectors, vectors).tolist()
    answers[folder]["ids"] = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json").encode(texts[0]).ids
for folder in scored:
    answers[folder] = sentence_transformers.CrossEncoder(folder, device="cpu").predict(pairs).tolist()
print(json.dumps(answers))
"""
EMBEDDERS = {
    "plain": {},
    "prompts": {"prompts": {"query": "the film: ", "other": "a "}, "default_prompt_name": "query", "similarity": "dot"},
    "prompt_left_out": {"prompts": {"query": "the film: "}, "default_prompt_name": "query", "include_prompt": False},
    "cls_left_out": {"prompts": {"query": "a "}, "include_prompt": False, "pooling": "cls", "normalize": False},
    "sqrt_and_dense": {"pooling": "mean_sqrt_len", "dense": [{"width": 6, "activation": "tanh"}], "similarity": "manhattan"},
    "max": {"pooling": "max", "normalize": False, "similarity": "euclidean"},
}


def without_pooler():
    return kbert.BertEncoder(kbert.BertConfig(**TINY, add_pooling_layer=False))


@pytest.mark.filterwarnings("ignore:.*longer than max_length")
def test_sentence_transformers_opens_embedders_and_classifiers_of_pairs_and_agrees(tokenizer, tmp_path):
    preprocessor = kbert.TextPreprocessor(tokenizer, max_length=16)
    embedders = {
        str(tmp_path / name): kbert.TextEmbedder(without_pooler(), preprocessor, **options)
        for name, options in EMBEDDERS.items()
    }
    classifiers = {
        str(tmp_path / kind): kbert.TextClassifier(ENCODERS["bert"](), preprocessor, labels=labels, problem_type=kind)
        for kind, labels in (("regression", ["score"]), ("multi_label", ["yes"]), ("single_label", ["a", "b", "c"]))
    }
    for folder, task in {**embedders, **classifiers}.items():
        task.save_to_preset(folder)
    pairs = [["good cat", "the film so BAD!"], ["", "a dog"]]
    asked = json.dumps([list(embedders), list(classifiers), TEXTS, pairs])
    done = subprocess.run([PYTHON, "-c", ASK_SENTENCE_TRANSFORMERS], input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    usual = ("Loading weights", "Default prompt name is set to")  # said of their own folders, too
    said = [line for line in done.stderr.splitlines() if line.strip() and not any(text in line for text in usual)]
    assert said == [], done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    for folder, task in embedders.items():
        expected = answers[folder]
        for name in ("None", *task.prompts):
            vectors = task.embed(TEXTS, prompt_name=None if name == "None" else name)
            np.testing.assert_allclose(vectors, expected[name], atol=1e-5, err_msg=f"{folder} {name}")
        np.testing.assert_allclose(task.similarity(TEXTS, TEXTS), expected["similarity"], atol=1e-4, err_msg=folder)
        assert expected["ids"] == kbert.TextPreprocessor(tokenizer)(TEXTS[:1])["token_ids"][0].numpy().tolist()
    for folder, task in classifiers.items():
        logits = task.predict(tuple(map(list, zip(*pairs))))
        scores = {"regression": logits[:, 0], "multi_label": 1 / (1 + np.exp(-logits[:, 0])), "single_label": logits}
        np.testing.assert_allclose(answers[folder], scores[Path(folder).name], atol=1e-5, err_msg=folder)


@pytest.mark.slow
def test_the_real_checkpoint_on_64_texts_of_any_length(minilm, tmp_path):
    random = np.random.default_rng(0)
    words = [w for w in kbert.WordPieceTokenizer.from_preset(minilm).vocabulary[1996:20000] if w.isalpha()]
    texts = [" ".join(random.choice(words, count)) for count in np.linspace(1, 500, 64).astype(int)]
    encoder = kbert.BertEncoder.from_preset(minilm)
    preprocessor = kbert.TextPreprocessor(kbert.WordPieceTokenizer.from_preset(minilm))
    encoder.save_to_preset(tmp_path / "mine", preprocessor)
    answer = ask([(tmp_path / "mine", "")], texts)[str(tmp_path / "mine")]
    packed = preprocessor(texts)
    assert answer["ids"] == packed["token_ids"].numpy().tolist()
    np.testing.assert_allclose(encoder(packed)["pooled_output"], answer["outputs"]["pooler_output"], atol=1e-4)
    mask = packed["padding_mask"].numpy()[:, :, None]
    vectors = np.array(answer["outputs"]["last_hidden_state"], np.float32)
    np.testing.assert_allclose(encoder(packed)["sequence_output"] * mask, vectors * mask, atol=1e-4)
