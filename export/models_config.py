"""TF Serving's list of models, `models.config`: adds a model, or changes its versions and labels.

The text is edited in place, so that comments, fields that this version of the protocol does not know, and the order of what
somebody wrote by hand are kept. Each edit is read back with TF Serving's own protocol and compared with what it should say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from kbert.export.proto_text import Field, fields_of, has_comment, line_of, with_lines, without
from kbert.messages import listed

ENTRY = """  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
{fields}  }}
"""


class Served(NamedTuple):
    """Which versions of a model a server should load, and their labels. What is empty leaves the list of models as it is.

    Args:
      latest: the number of versions, the newest; 0 for the number that the list has.
      versions: the numbers of the versions instead.
      labels: names for versions, by which clients can ask for them.
    """

    latest: int = 0
    versions: Sequence[int] = ()
    labels: Mapping[str, int] = {}


def with_model(text: str, name: str, served: Served, numbers: Collection[int], path: str = "models.config") -> str:
    """Returns a list of models in which a model stands, with the versions and labels that a server should have.

    >>> print(with_model("", "spam", Served(latest=2, labels={"stable": 1}), {1, 2}))
    model_config_list {
      config {
        name: "spam"
        base_path: "/models/spam"
        model_platform: "tensorflow"
        model_version_policy { latest { num_versions: 2 } }
        version_labels { key: "stable" value: 1 }
      }
    }
    <BLANKLINE>

    Args:
      text: the list so far; it may be empty.
      name: the name of the model. If the list has it, the entry keeps everything that `served` does not change.
      served: the versions to load, and labels. Labels that the entry has under other names stay.
      numbers: the versions that the model's folder holds.
      path: the name of the file, for errors.

    Raises:
      ValueError: the text cannot be read, or not be changed without losing a comment or an unknown field; it names the line.
        Or a version is missing from `numbers`, or a label names a version that the server would not load.
    """
    config = parsed(text, path)
    if config.WhichOneof("config") == "custom_model_config":
        line = line_of(text, fields_of(text)[0].start)
        raise ValueError(f"{path}, line {line}: a custom_model_config has no list of models; give another folder")
    places = [field for field in entries_of(text) if name_of(text, field) == name]
    if len(places) > 1:
        line = line_of(text, places[1].start)
        raise ValueError(f"{path}, line {line}: model {name} stands here a second time, which TF Serving refuses; remove one")
    wanted = type(config)()
    wanted.CopyFrom(config)
    entries = wanted.model_config_list.config
    entry = next((entry for entry in entries if entry.name == name), None)
    if entry is None:
        entry = entries.add(name=name, base_path=f"/models/{name}", model_platform="tensorflow")
        lines = lines_of(entry, change(entry, served), " " * 4)
        edited = added(text, ENTRY.format(name=name, fields=lines))
    else:
        names = change(entry, served)
        edited = changed(text, places, names, lines_of(entry, names, " " * 4), path)
    check_versions(entry, served, numbers, path)
    if parsed(edited, path) != wanted:
        raise ValueError(f"{path} is written in a way that cannot be edited here; add or change model {name} by hand")
    return edited


def parsed(text: str, path: str) -> Any:
    """Returns a list of models as TF Serving's `ModelServerConfig`.

    Args:
      text: the list.
      path: the name of the file, for errors.

    Raises:
      ValueError: TF Serving cannot read it; the line is named.
      ImportError: the extra `serving` is missing.
    """
    from google.protobuf import text_format

    try:
        from tensorflow_serving.config import model_server_config_pb2
    except ImportError as error:
        raise ImportError('models.config is read with tensorflow-serving-api: pip install "kbert[serving]"') from error
    try:
        # A newer server knows fields that the installed protocol does not.
        return text_format.Parse(text, model_server_config_pb2.ModelServerConfig(), allow_unknown_field=True)
    except text_format.ParseError as error:
        words = str(error).split(" : ", 1)[-1]
        raise ValueError(
            f"{path}, line {error.GetLine() or 1}: TF Serving could not read this ({words}); mend it, or move the file away"
        ) from None


def change(entry: Any, served: Served) -> list[str]:
    """Changes a model's entry, and returns the names of the fields that changed.

    Args:
      entry: a `ModelConfig`.
      served: the versions and labels that it should have.
    """
    before = type(entry)()
    before.CopyFrom(entry)
    if served.latest:
        entry.model_version_policy.Clear()
        entry.model_version_policy.latest.num_versions = served.latest
    elif served.versions:
        entry.model_version_policy.Clear()
        entry.model_version_policy.specific.versions.extend(sorted(set(served.versions)))
    for label, version in served.labels.items():
        entry.version_labels[label] = version
    names = ("model_version_policy", "version_labels")
    return [name for name in names if getattr(before, name) != getattr(entry, name)]


def check_versions(entry: Any, served: Served, numbers: Collection[int], path: str) -> None:
    """Raises a ValueError for versions that are not there, and for labels of versions that the server does not load.

    TF Serving refuses the whole list for such a label.

    Args:
      entry: a `ModelConfig`.
      served: the versions and labels that were asked for.
      numbers: the versions that the model's folder holds.
      path: the name of the file, for errors.
    """
    missing = sorted(set(served.versions) - set(numbers))
    if missing:
        raise ValueError(f"model {entry.name} has no version {missing[0]}; its folder holds {listed(sorted(numbers))}")
    policy = entry.model_version_policy
    loaded = sorted(numbers)[-max(policy.latest.num_versions, 1) :]
    if policy.WhichOneof("policy_choice") == "all":
        loaded = sorted(numbers)
    elif policy.WhichOneof("policy_choice") == "specific":
        loaded = sorted(set(policy.specific.versions))
    for label, version in sorted(entry.version_labels.items()):
        if version not in loaded:
            raise ValueError(
                f"label {label} of model {entry.name} names version {version}, but the server would load {listed(loaded)} and "
                f"refuse {path}; give another version to the label, or a number of newest versions, or the versions to load"
            )


def lines_of(entry: Any, names: Sequence[str], indent: str) -> str:
    """Returns fields of a model's entry as lines of text.

    Args:
      entry: a `ModelConfig`.
      names: `model_version_policy`, `version_labels` or both.
      indent: spaces before each line.
    """
    from google.protobuf import text_format

    parts = []
    if "model_version_policy" in names:
        parts.append(type(entry)(model_version_policy=entry.model_version_policy))
    if "version_labels" in names:
        parts += [type(entry)(version_labels=dict([item])) for item in sorted(entry.version_labels.items())]
    return "".join(f"{indent}{text_format.MessageToString(part, as_one_line=True)}\n" for part in parts)


def added(text: str, entry: str) -> str:
    """Returns a list of models with one more entry behind the last.

    Args:
      text: the list.
      entry: the entry, in lines.
    """
    places = [field.inside for field in fields_of(text) if field.name == "model_config_list" and field.inside is not None]
    if places:
        return with_lines(text, places[-1], entry)
    end = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{end}model_config_list {{\n{entry}}}\n"


def changed(text: str, places: Sequence[Field], names: Sequence[str], lines: str, path: str) -> str:
    """Returns a list of models in which fields of one entry are replaced.

    Args:
      text: the list.
      places: the entry's place. Without one, as in a list in brackets, the text stays.
      names: the names of the fields.
      lines: the fields as they should be.
      path: the name of the file, for errors.

    Raises:
      ValueError: a comment or an unknown field in one of these fields would be lost.
    """
    for entry in places if names else ():
        replaced = [field for field in entry.fields if field.name in names]
        for field in replaced:
            if has_comment(text[field.start : field.end]) or not is_known(text[field.start : field.end]):
                raise ValueError(
                    f"{path}, line {line_of(text, field.start)}: a comment or an unknown field would be lost here; change "
                    f"{field.name} by hand"
                )
        text = with_lines(text, entry.inside or entry.end, lines)
        for field in reversed(replaced):
            text = without(text, field.start, field.end)
    return text


def entries_of(text: str) -> list[Field]:
    """Returns the places of the models' entries."""
    return [entry for field in fields_of(text) if field.name == "model_config_list" for entry in field.fields]


def name_of(text: str, entry: Field) -> str:
    """Returns the name of the model of an entry, read as TF Serving reads it."""
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    message = model_server_config_pb2.ModelConfigList()
    text_format.Parse(text[entry.start : entry.end], message, allow_unknown_field=True)
    return message.config[0].name if message.config else ""


def is_known(field: str) -> bool:
    """Returns whether the installed protocol knows everything in a field of an entry."""
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    try:
        text_format.Parse(field, model_server_config_pb2.ModelConfig())
    except text_format.ParseError:
        return False
    return True
