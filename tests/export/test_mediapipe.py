"""Files with metadata: MediaPipe's own tasks open them, in a process of their own, and answer as the interpreter does."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import kbert
from kbert.commands.inspect import facts_of
from kbert.export import mediapipe
from kbert.tasks.probes import PROBES

LENGTH = 24
TEXTS = ["The good cat sat.", "a BAD film!", "very good night " * 20, "un\u00e9", "[MASK] 好"]
MEDIAPIPE = """
import json, sys
from mediapipe.tasks.python import BaseOptions, text
kind, path = sys.argv[1:]
cls, options = getattr(text, kind), getattr(text, kind + "Options")
with cls.create_from_options(options(base_options=BaseOptions(model_asset_path=path))) as task:
    found = []
    for line in json.load(sys.stdin):
        if kind == "TextEmbedder":
            found.append([float(x) for x in task.embed(line).embeddings[0].embedding])
        else:
            found.append({c.category_name: c.score for c in task.classify(line).classifications[0].categories})
print(json.dumps(found))
"""


def by_mediapipe(kind, path):
    done = subprocess.run(
        [sys.executable, "-c", MEDIAPIPE, kind, str(path)], input=json.dumps(TEXTS), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def by_the_interpreter(task, path):
    """Outputs for the ids that MediaPipe is said to make."""
    run = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    found = []
    for ids in mediapipe.mediapipe_ids(task, TEXTS, LENGTH):
        padded = np.zeros((3, 1, LENGTH), np.int32)
        padded[0, 0, : len(ids)], padded[1, 0, : len(ids)] = ids, 1
        (values,) = run(input_word_ids=padded[0], input_mask=padded[1], input_type_ids=padded[2]).values()
        found.append(values[0])
    return np.array(found)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.tflite"


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_classifier_opens_in_mediapipe(classifier, file, quantize):
    with pytest.warns(UserWarning, match="MediaPipe reads"):
        classifier.export(file, format="litert", inputs="tokens", metadata="mediapipe", quantize=quantize)
    expected = by_the_interpreter(classifier, file)
    for found, values in zip(by_mediapipe("TextClassifier", file), expected):
        np.testing.assert_allclose([found[label] for label in classifier.labels], values, atol=1e-5)
    assert zipfile.ZipFile(file).read("labels.txt").decode().split() == classifier.labels
    facts = facts_of(str(file))
    assert facts["labels"] == classifier.labels and facts["vocabulary_size"] == classifier.tokenizer.vocabulary_size
    assert "int32 [1, 24]" in facts["inputs"].values() and facts["parameters"] > 1000
    # Where MediaPipe makes the same ids, the probabilities are the task's.
    same = [n for n, text in enumerate(TEXTS) if text not in mediapipe.texts_read_otherwise(classifier, TEXTS, LENGTH)]
    assert len(same) >= 3
    ours = [list(answer["scores"].values()) for answer in classifier.classify([TEXTS[n] for n in same], verbose=0)]
    np.testing.assert_allclose(expected[same], ours, atol=1e-4 if quantize is None else 0.05)


def test_an_embedder_opens_in_mediapipe(encoder, tokenizer, file):
    task = kbert.TextEmbedder(encoder, kbert.TextPreprocessor(tokenizer, max_length=LENGTH))
    with pytest.warns(UserWarning, match="MediaPipe reads"):
        task.export(file, format="litert", inputs="tokens", metadata="mediapipe")
    np.testing.assert_allclose(by_mediapipe("TextEmbedder", file), by_the_interpreter(task, file), atol=1e-5)


def test_what_mediapipe_reads_otherwise_is_what_has_accents(minilm):
    task = kbert.TextEmbedder.from_preset(minilm, max_length=64)
    other = mediapipe.texts_read_otherwise(task, [text for text in PROBES if text.strip()], 64)
    assert any("Élan" in text for text in other)
    assert not any(text.isascii() for text in other)
    assert "你好，世界。今天天气很好" not in other


def test_what_mediapipe_has_no_place_for_is_refused(encoder, tokenizer, classifier, file):
    cased = kbert.TextPreprocessor(kbert.WordPieceTokenizer(tokenizer.vocabulary, lowercase=False), LENGTH)
    tagger = kbert.TokenClassifier(encoder, classifier.preprocessor, labels=["O", "B-X"])
    for task, inputs, message in (
        (kbert.TextClassifier(encoder, cased, labels=["a", "b"]), "tokens", "cased"),
        (tagger, "tokens", "not for a TokenClassifier"),
        (classifier, "text", 'goes with inputs="tokens"'),
    ):
        with pytest.raises(ValueError, match=message):
            task.export(file, format="litert", inputs=inputs, metadata="mediapipe")
    with pytest.raises(ValueError, match="metadata should be"):
        classifier.export(file, format="litert", inputs="tokens", metadata="tfhub")
    assert not file.exists()
