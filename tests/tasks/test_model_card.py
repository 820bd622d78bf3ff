"""`save_to_preset` writes a card that huggingface_hub reads, and that shows any label as it is."""

import keras
import numpy as np
import pytest
from huggingface_hub import ModelCard, metadata_load

import kbert
from kbert.tasks.model_card import plain
from kbert.tasks.provenance import figures_of, training_of
from tests.commands.test_measures import TAGS

EVIL = ["<script>alert(1)</script>", "a|b\n# c", "[x](http://y)", "**bold**_", "---", "``` `", '"quoted": {yaml}', "1. one"]


@pytest.fixture
def packer(tokenizer):
    return kbert.TextPreprocessor(tokenizer, 24)


@pytest.mark.parametrize(
    ("kind", "options", "tag", "library", "uses"),
    [
        (kbert.TextClassifier, {"labels": ["a", "b"]}, "text-classification", "transformers", 'pipeline("text-classification"'),
        (kbert.TokenClassifier, {"labels": TAGS}, "token-classification", "transformers", "task.classify("),
        (kbert.QuestionAnswerer, {}, "question-answering", "transformers", "task.answer("),
        (kbert.MaskedLM, {}, "fill-mask", "transformers", "task.fill("),
        (kbert.TextEmbedder, {}, "sentence-similarity", "sentence-transformers", 'SentenceTransformer("mine")'),
        (kbert.Pretrainer, {}, "fill-mask", "transformers", "AutoModelForPreTraining"),
    ],
)
def test_each_task_has_its_tags_and_its_lines_of_use(kind, options, tag, library, uses, encoder, packer, tmp_path):
    kind(encoder, packer, **options).save_to_preset(tmp_path / "mine")
    card = ModelCard.load(tmp_path / "mine" / "README.md")
    assert (card.data.pipeline_tag, card.data.library_name) == (tag, library) and "kbert" in card.data.tags
    assert card.data.base_model is None and card.data.eval_results is None
    assert uses in card.text and 'task = kbert.from_preset("mine")' in card.text


def test_figures_settings_licence_and_base_model_stand_in_the_card(tiny_folder, texts_and_labels, tmp_path):
    (tiny_folder / "README.md").write_text("---\nlicense: mit\nlanguage: de\nbase_model: owner/base\n---\n")
    task = kbert.TextClassifier.from_preset(tiny_folder, labels=["bad", "good"])
    task.fit(*texts_and_labels, epochs=2, batch_size=8, verbose=0)
    figures = task.evaluate(*texts_and_labels, return_dict=True, verbose=0)
    task.save(tmp_path / "task.keras")
    kbert.load(tmp_path / "task.keras").save_to_preset(tmp_path / "mine")
    card = ModelCard.load(tmp_path / "mine" / "README.md")
    assert (card.data.license, card.data.language, card.data.base_model) == ("mit", ["de"], "owner/base")
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results == {name: pytest.approx(value, abs=1e-6) for name, value in figures.items()}
    assert "| epochs | 2 |" in card.text and "| batch size | 8 |" in card.text and "| optimizer | AdamW |" in card.text
    again = kbert.from_preset(tmp_path / "mine")
    assert again.provenance["figures"].keys() == figures.keys()
    again.fit(*texts_and_labels, epochs=1, verbose=0)
    assert "figures" not in again.provenance  # those of other weights


def test_labels_of_any_kind_are_shown_and_never_read_as_markup(encoder, packer, tmp_path):
    kbert.TextClassifier(encoder, packer, labels=EVIL).save_to_preset(tmp_path / "mi<n>e")
    path = tmp_path / "mi<n>e" / "README.md"
    card = ModelCard.load(path)
    assert "<script>" not in card.text and "[x](" not in card.text and metadata_load(path)["library_name"] == "transformers"
    lines = card.text.split("\n## Labels")[1].split("\n## ")[0].strip().splitlines()
    assert sum(line.startswith("- ") for line in lines) == len(EVIL)
    assert plain("a\n\n# b") == "a \\# b" and plain("") == '""' and plain("1. one") == "1\\. one"


def test_a_training_with_a_schedule_or_metrics_of_the_users_is_described_as_far_as_they_say(classifier):
    class Own(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.1

    classifier.compile(optimizer=keras.optimizers.SGD(Own()), loss=lambda y, logits: 0.0)
    history = keras.callbacks.History()
    history.epoch = [0, 1]
    settings = training_of(classifier, history, None)
    assert settings == {"epochs": 2, "optimizer": "SGD", "precision": "float32"}
    logs = {"loss": np.float32(0.5), "bad": float("inf"), "per label": np.zeros(3), "nested": {"a": 1.0}}
    assert figures_of(logs) == {"loss": 0.5}


def test_a_card_of_the_user_stays_and_kberts_own_is_replaced(classifier, tmp_path, recwarn):
    card = tmp_path / "mine" / "README.md"
    classifier.save_to_preset(tmp_path / "mine")
    first = card.read_text()
    classifier.labels = ["no", "yes"]
    classifier.save_to_preset(tmp_path / "mine")
    assert card.read_text() != first and not [w for w in recwarn if "README" in str(w.message)]
    card.write_text("my own words\n")
    with pytest.warns(UserWarning, match="README.md is kept, because kbert did not write it"):
        classifier.save_to_preset(tmp_path / "mine")
    assert card.read_text() == "my own words\n"
