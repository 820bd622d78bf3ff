"""LiteRT files for MediaPipe's text tasks: metadata in the model, vocabulary and labels in a zip behind it.

The model takes ids, and MediaPipe reads the text, with a clean-up of its own in the place of BERT's. `texts_read_otherwise`
names the texts of which MediaPipe makes other ids than those that the model was trained on.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flatbuffers
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from kbert.export.exported_file import MEDIAPIPE_NAMES
from kbert.tasks.exported_answers import MediaPipeOutput

if TYPE_CHECKING:
    from kbert.tasks.task import Task

# The name by which MediaPipe finds an input, for each of ours.
INPUTS = {"token_ids": "ids", "padding_mask": "mask", "segment_ids": "segment_ids"}
VOCABULARY, LABELS = "vocab.txt", "labels.txt"
METADATA_NAME, METADATA_IDENTIFIER, PARSER_VERSION = "TFLITE_METADATA", b"M001", "1.1.0"
# From metadata_schema.fbs: the kinds of associated files, and the place of BertTokenizerOptions in the union of process units.
VOCABULARY_FILE, AXIS_LABELS_FILE, BERT_TOKENIZER = 4, 2, 4

# How MediaPipe cuts words (bert_tokenizer.h): blanks, ASCII punctuation and Unicode's, CJK ideographs.
_IDEOGRAPHS = "".join(
    rf"|[\x{{{first}}}-\x{{{last}}}]"
    for first, last in (
        ("4E00", "9FFF"), ("3400", "4DBF"), ("20000", "2A6DF"), ("2A700", "2B73F"), ("2B740", "2B81F"), ("2B820", "2CEAF"),
        ("F900", "FAFF"), ("2F800", "2FA1F"),
    )
)  # fmt: skip
_SINGLE_CHARACTER_WORDS = r"[!-/]|[:-@]|[\[-`]|[{-~]|[\p{P}]" + _IDEOGRAPHS


def check_task(task: Task) -> None:
    """Raises a ValueError if MediaPipe has no such task, or cannot read text as the task's tokenizer does."""
    task.mediapipe_output()
    if task.preprocessor is None:
        raise ValueError("MediaPipe's metadata hold the vocabulary: build the task with a TextPreprocessor to export it")
    if not task.tokenizer.lowercase:
        raise ValueError("MediaPipe lower-cases every text, and this model is cased: its ids would be others")
    if task.preprocessor.settings_of_kbert:
        raise ValueError(f"MediaPipe lacks {', '.join(task.preprocessor.settings_of_kbert)}: turn it off to export")


def function_of(task: Task, length: int) -> tuple[Callable[..., Any], dict[str, tf.TensorSpec]]:
    """Returns a function from ids `[1, length]` to the one output that MediaPipe reads, and its specification."""
    name = task.mediapipe_output().output

    def answer(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        packed = {ours: inputs[theirs] for theirs, ours in MEDIAPIPE_NAMES.items()}
        return {name: task.serve_tokens(packed)[name]}

    return answer, {name: tf.TensorSpec([1, length], tf.int32, name=name) for name in MEDIAPIPE_NAMES}


def with_metadata(content: bytes, task: Task) -> bytes:
    """Returns the bytes of a LiteRT file with metadata, and with the files that the metadata name behind it.

    Args:
      content: the bytes of the LiteRT file, whose inputs have `MEDIAPIPE_NAMES`.
      task: the task that it was made from.
    """
    output = task.mediapipe_output()
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    names = [graph.tensors[place].name.decode("utf-8") for place in graph.inputs]
    inputs = [next(INPUTS[ours] for theirs, ours in MEDIAPIPE_NAMES.items() if theirs in name) for name in names]
    buffer = schema.BufferT()
    buffer.data = _metadata(inputs, output)
    entry = schema.MetadataT(METADATA_NAME, len(model.buffers))
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = _Aligned(len(content) + 65536)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    whole = io.BytesIO(bytes(builder.Output()))
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as files:  # MediaPipe reads them in place
        files.writestr(VOCABULARY, "\n".join(task.tokenizer.vocabulary) + "\n")
        if output.labels is not None:
            files.writestr(LABELS, "\n".join(output.labels) + "\n")
    return whole.getvalue()


class _Aligned(flatbuffers.Builder):
    """A builder that puts weights at multiples of 16 bytes: the schema asks for it, the generated code does not do it."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)


def _metadata(inputs: Sequence[str], described: MediaPipeOutput) -> bytes:
    """Returns the metadata of a model (metadata_schema.fbs). Fields are given by their numbers in the schema.

    Args:
      inputs: MediaPipe's names of the model's inputs, in order.
      described: the output.
    """
    builder = flatbuffers.Builder(1024)
    vocabulary = _table(builder, 5, {0: _text(builder, VOCABULARY)}, {2: VOCABULARY_FILE})
    tokenizer = _table(builder, 1, {0: _vector(builder, [vocabulary])})
    unit = _table(builder, 2, {1: tokenizer}, {0: BERT_TOKENIZER})
    columns = [_table(builder, 7, {0: _text(builder, name)}) for name in inputs]
    output = {0: _text(builder, described.name)}
    if described.labels is not None:
        labels = _table(builder, 5, {0: _text(builder, LABELS)}, {2: AXIS_LABELS_FILE})
        output[6] = _vector(builder, [labels])
    outputs = [_table(builder, 7, output)]
    graph = _table(builder, 8, {2: _vector(builder, columns), 3: _vector(builder, outputs), 5: _vector(builder, [unit])})
    fields = {
        0: _text(builder, f"kbert {described.kind}"),
        3: _vector(builder, [graph]),
        7: _text(builder, PARSER_VERSION),
    }
    builder.Finish(_table(builder, 8, fields), file_identifier=METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _text(builder: flatbuffers.Builder, text: str) -> int:
    """Writes a string; returns its offset."""
    return builder.CreateString(text)


def _vector(builder: flatbuffers.Builder, tables: Sequence[int]) -> int:
    """Writes a vector of tables, given by their offsets; returns its offset."""
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return builder.EndVector()


def _table(
    builder: flatbuffers.Builder, fields: int, offsets: Mapping[int, int], numbers: Mapping[int, int] | None = None
) -> int:
    """Writes a table; returns its offset.

    Args:
      builder: the builder to write with.
      fields: how many fields the table has in the schema.
      offsets: the offsets of tables, texts and vectors, by the number of the field.
      numbers: small numbers, by the number of the field.
    """
    builder.StartObject(fields)
    for place, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(place, offset, 0)
    for place, number in (numbers or {}).items():
        builder.PrependUint8Slot(place, number, 0)
    return builder.EndObject()


def mediapipe_ids(task: Task, texts: Sequence[str], length: int) -> list[list[int]]:
    """Returns the ids that MediaPipe makes of texts: ASCII in lower case, accents kept (bert_preprocessor_calculator.cc).

    Args:
      task: the task whose vocabulary MediaPipe reads.
      texts: the texts.
      length: the most ids of a text, [CLS] and [SEP] included.
    """
    import tensorflow_text

    tokenizer, rows = task.tokenizer, []
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.KeyValueTensorInitializer(tokenizer.vocabulary, tf.range(tokenizer.vocabulary_size, dtype=tf.int64)), 1
    )
    pieces = tensorflow_text.WordpieceTokenizer(table, unknown_token=tokenizer.unk_token)
    for text in texts:
        lowered = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in text.encode("utf-8"))
        words = tensorflow_text.regex_split(
            [lowered], rf"(\s+|{_SINGLE_CHARACTER_WORDS})", rf"({_SINGLE_CHARACTER_WORDS})"
        ).flat_values
        ids = pieces.tokenize(words).flat_values.numpy().tolist()[: length - 2]
        rows.append([tokenizer.cls_token_id, *ids, tokenizer.sep_token_id])
    return rows


def texts_read_otherwise(task: Task, texts: Sequence[str], length: int) -> list[str]:
    """Returns those of the texts that MediaPipe reads as other ids than the task does.

    Args:
      task: the task.
      texts: the texts to compare on.
      length: the most ids of a text, [CLS] and [SEP] included.
    """
    tokenizer = task.tokenizer
    rows = [[tokenizer.cls_token_id, *ids[: length - 2], tokenizer.sep_token_id] for ids in tokenizer(texts).to_list()]
    return [text for text, ids, other in zip(texts, rows, mediapipe_ids(task, texts, length)) if ids != other]
