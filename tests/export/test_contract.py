"""Exports ask a task only what its contract has: a task that they have never seen is exported, and they name no class."""

import ast
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import kbert
import kbert.export
from kbert.commands.exported_facts import onnx_facts
from kbert.commands.inspect import facts_of
from kbert.encoders.layers import Projection
from kbert.tasks.exported_answers import ComparableAnswer, values_by_text
from kbert.tasks.task import Task
from tests.conftest import TINY

CLASSES = ("TextClassifier", "TokenClassifier", "QuestionAnswerer", "MaskedLM", "TextEmbedder", "Pretrainer")


class Scorer(Task):
    """A task that gives each text two numbers."""

    head = ""

    def __init__(self, encoder, preprocessor):
        super().__init__(encoder, preprocessor)
        self.scores_of = Projection(2, 0.5, dtype="float32", name="scores")
        self.scores_of.build((None, encoder.config.hidden_size))
        self.built = True

    reads_one_window = True

    def head_outputs(self, outputs, inputs, training=None):
        return self.scores_of(outputs["pooled_output"])

    def serve(self, text):
        return self.serve_tokens(self.preprocessor.call((text,)))

    def expected_answers(self, columns):
        return [ComparableAnswer((), row) for row in self.predict(columns[0], verbose=0)]

    def served_answers(self, outputs):
        return [ComparableAnswer((), row) for row in outputs["logits"]]


@pytest.fixture
def scorer(tokenizer):
    return Scorer(kbert.BertEncoder(kbert.BertConfig(**TINY)), kbert.TextPreprocessor(tokenizer, 24))


@pytest.mark.parametrize("format", ["tf_saved_model", "litert", "onnx"])
def test_a_task_that_exports_have_never_seen_is_exported_and_compared(scorer, tmp_path, format):
    path = tmp_path / "1"
    scorer.export(path, format=format)
    assert kbert.export.verify(path, scorer)["largest_difference"] < 1e-4
    facts = facts_of(str(path)) if format != "onnx" else onnx_facts(path)
    assert facts["architecture"] == ("takes token ids" if format == "onnx" else "takes text")
    assert list(facts["outputs"]) == ["logits"] and facts["bytes"] > 3 * scorer.count_params() > 0
    scorer.scores_of.bias.assign([3.0, 0.0])
    with pytest.raises(RuntimeError, match="answers otherwise than the task"):
        kbert.export.verify(path, scorer)


def test_what_a_task_does_not_say_is_refused_by_its_name(scorer, tmp_path):
    with pytest.raises(ValueError, match="not for a Scorer"):
        scorer.export(tmp_path / "x", format="litert", inputs="tokens", metadata="mediapipe")
    for format in ("tf_saved_model", "litert"):
        with pytest.raises(ValueError, match="pairs=True is for a TextClassifier"):
            scorer.export(tmp_path / "x", format=format, pairs=True)
    assert not list(tmp_path.iterdir())


def test_no_export_asks_which_class_a_task_is():
    for path in Path(kbert.export.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert not names & set(CLASSES), path
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert "problem_type" not in attributes, path


def test_windows_and_pairs_are_the_tasks_own_answer(encoder, tokenizer):
    preprocessor = kbert.TextPreprocessor(tokenizer, 24)
    whole = kbert.TextClassifier(encoder, preprocessor, labels=["bad", "good"])
    cut = kbert.TextClassifier(encoder, preprocessor, labels=["bad", "good"], window_stride=4)
    assert whole.string_inputs(pairs=True) == ("text", "text_pair") and whole.string_inputs() == ("text",)
    with pytest.raises(ValueError, match="pairs=True"):
        cut.string_inputs(pairs=True)
    with pytest.raises(ValueError, match="reads one window"):
        cut.window_answer(preprocessor)
    columns = (["good cat", "good " * 50],)
    assert whole.fitting(columns) == columns
    assert whole.fitting(columns, max_length=12) == (["good cat"],) == cut.fitting(columns)


def test_values_of_texts_are_found_by_their_count():
    outputs = {"count": np.array([2, 0, 1]), "label": np.array([["a", "b"], ["", ""], ["c", ""]])}
    assert [row.tolist() for row in values_by_text(outputs, "label")] == [["a", "b"], [], ["c"]]
    of_litert = {"count": np.array([1]), "scores": np.array([[0.5, 0.1], [0, 0]])}
    assert values_by_text(of_litert, "scores", axes=2)[0].tolist() == [[0.5, 0.1]]


def test_the_server_is_imported_from_its_folder():
    from kbert.export.server import Server
    from kbert.export.server.server import Server as same

    assert Server is same


def test_a_models_bytes_become_an_interpreter():
    from kbert.engines.litert_converter import convert
    from kbert.engines.litert_interpreter import interpreter_maker

    spec = {"x": tf.TensorSpec([2], tf.float32, name="x")}
    content = convert({"twice": (lambda inputs: {"y": inputs["x"] * 2}, spec), "half": (lambda i: {"y": i["x"] / 2}, spec)})
    interpreter = interpreter_maker()(content, 1)
    x = np.array([1, 3], np.float32)
    assert interpreter.get_signature_runner("twice")(x=x)["y"].tolist() == [2, 6]
    assert interpreter.get_signature_runner("half")(x=x)["y"].tolist() == [0.5, 1.5]
