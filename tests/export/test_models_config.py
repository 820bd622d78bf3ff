"""`models.config` is merged: what somebody wrote by hand stays, and what cannot be kept is refused with its line."""

import pytest
from tensorflow_serving.config import model_server_config_pb2

from kbert.export.models_config import Served, parsed, with_model

BY_HAND = """# Ours. Ask Ada before you change it.
model_config_list: <
  config { name: 'spam' base_path: "/models/spam" # in one line }
    model_platform: "tensorflow", field_of_2030 { x: 1 }
    model_version_policy { latest { num_versions: 2 } }; version_labels { key: "stable" value: 1 } }
> # the end
"""


def entry_of(text, name):
    (entry,) = [entry for entry in parsed(text, "models.config").model_config_list.config if entry.name == name]
    return entry


def test_a_second_model_is_added_and_the_first_stays_as_it_is_written():
    text = with_model(BY_HAND, "ner", Served(), {1})
    lines = text.splitlines()
    assert [line for line in lines if line in BY_HAND.splitlines()] == BY_HAND.splitlines()
    assert lines[5:10] == [
        "  config {",
        '    name: "ner"',
        '    base_path: "/models/ner"',
        '    model_platform: "tensorflow"',
        "  }",
    ]
    assert with_model(text, "ner", Served(), {1, 2}) == text


@pytest.mark.parametrize(
    "text", ["", "# nothing yet", "model_config_list {}", "model_config_list {\n}\n", "model_config_list { config: [] }"]
)
def test_a_list_without_models_takes_one(text):
    merged = with_model(text, "ner", Served(), {1})
    assert entry_of(merged, "ner").base_path == "/models/ner" and text.rstrip("}\n ") in merged


def test_versions_and_labels_are_replaced_and_nothing_else():
    text = with_model(BY_HAND, "spam", Served(versions=(3, 1), labels={"canary": 3}), {1, 2, 3})
    entry = entry_of(text, "spam")
    assert list(entry.model_version_policy.specific.versions) == [1, 3]
    assert dict(entry.version_labels) == {"stable": 1, "canary": 3}
    for kept in ("# Ours. Ask Ada before you change it.", "# in one line", "field_of_2030 { x: 1 }", "# the end"):
        assert kept in text
    again = with_model(text, "spam", Served(latest=3), {1, 2, 3})
    assert entry_of(again, "spam").model_version_policy.latest.num_versions == 3
    assert with_model(again, "spam", Served(latest=3, labels={"canary": 3}), {1, 2, 3}) == again


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list {\n config { name: 3 }\n}", "models.config, line 2: TF Serving could not read this"),
        ("model_config_list {\n config {\n", "models.config, line [123]: TF Serving could not read this"),
        ("\ncustom_model_config {}", "line 2: a custom_model_config has no list of models"),
        (
            "model_config_list {\n config { name: 'spam' }\n config { name: 'spam' } }",
            "line 3: model spam stands here",
        ),
        (
            "model_config_list { config { name: 'spam'\n model_version_policy { # why\n latest {} } } }",
            "line 2: a comment or an unknown field would be lost",
        ),
        (
            "model_config_list { config { name: 'spam'\n\n model_version_policy { newer: 1 } } }",
            "line 3: a comment or an unknown field would be lost",
        ),
        ("model_config_list { config: [{ name: 'spam' }] }", "cannot be edited here"),
    ],
)
def test_a_list_that_cannot_be_changed_is_refused_with_the_line(text, message):
    with pytest.raises(ValueError, match=message):
        with_model(text, "spam", Served(latest=2), {1, 2})


LABELED = 'model_config_list { config { name: "spam" version_labels { key: "stable" value: 1 } } }'


@pytest.mark.parametrize(
    ("text", "served", "message"),
    [
        ("", Served(versions=(7,)), r"model spam has no version 7; its folder holds \[1, 2, 3\]"),
        ("", Served(labels={"stable": 1}), r"label stable of model spam names version 1, but the server would load \[3\]"),
        ("", Served(latest=2, labels={"stable": 1}), r"would load \[2, 3\]"),
        ("", Served(versions=(1, 2), labels={"canary": 3}), r"would load \[1, 2\]"),
        (LABELED, Served(), "label stable of model spam names version 1"),
    ],
)
def test_a_label_of_a_version_that_is_not_loaded_is_refused(text, served, message):
    """TF Serving refuses the whole list for it."""
    with pytest.raises(ValueError, match=message):
        with_model(text, "spam", served, {1, 2, 3})


def test_labels_are_those_of_the_versions_that_a_policy_loads():
    all_versions = LABELED.replace("version_labels", "model_version_policy { all {} } version_labels")
    for text in (all_versions, with_model("", "spam", Served(latest=3, labels={"stable": 1}), {1, 2, 3})):
        assert dict(entry_of(with_model(text, "spam", Served(), {1, 2, 3}), "spam").version_labels) == {"stable": 1}
    assert model_server_config_pb2.ModelServerConfig() == parsed("", "models.config")
