"""What MediaPipe's text tasks ask of a LiteRT file: metadata in the model, vocabulary and labels in a zip behind it.

The model takes ids and MediaPipe reads the text: its own clean-up, on the phone, in the place of BERT's. Where that gives other ids than those
that the model was trained on, `texts_read_otherwise` says so.
"""

import io
import zipfile

import flatbuffers
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from kbert.export.exported_file import MEDIAPIPE_NAMES
from kbert.tasks.text_classifier import TextClassifier
from kbert.tasks.text_embedder import TextEmbedder

# The name that MediaPipe finds an input by, for each of ours.
INPUTS = {"token_ids": "ids", "padding_mask": "mask", "segment_ids": "segment_ids"}
VOCABULARY, LABELS = "vocab.txt", "labels.txt"
METADATA_NAME, METADATA_IDENTIFIER, PARSER_VERSION = "TFLITE_METADATA", b"M001", "1.1.0"
# From metadata_schema.fbs: kinds of associated files, and the place of BertTokenizerOptions in the union of process units.
VOCABULARY_FILE, AXIS_LABELS_FILE, BERT_TOKENIZER = 4, 2, 4

# How MediaPipe cuts words (bert_tokenizer.h): blanks, ASCII punctuation and Unicode's, CJK ideographs.
_IDEOGRAPHS = "".join(
    rf"|[\x{{{first}}}-\x{{{last}}}]"
    for first, last in (
        ("4E00", "9FFF"), ("3400", "4DBF"), ("20000", "2A6DF"), ("2A700", "2B73F"), ("2B740", "2B81F"), ("2B820", "2CEAF"),
        ("F900", "FAFF"), ("2F800", "2FA1F"),
    )
)  # fmt: skip
_KEPT = r"[!-/]|[:-@]|[\[-`]|[{-~]|[\p{P}]" + _IDEOGRAPHS


def check_task(task):
    """Raises where MediaPipe has no task for it, or reads text in another way than its tokenizer."""
    if not isinstance(task, (TextClassifier, TextEmbedder)):
        raise ValueError(f"MediaPipe has tasks for a TextClassifier and a TextEmbedder, not for a {type(task).__name__}")
    if task.preprocessor is None:
        raise ValueError("MediaPipe's metadata hold the vocabulary: build the task with a TextPreprocessor to export it")
    if not task.tokenizer.lowercase:
        raise ValueError("MediaPipe lower-cases every text, and this model is cased: its ids would be others")
    if task.tokenizer.recognize_special_tokens:
        raise ValueError("MediaPipe has no special tokens in texts: turn recognize_special_tokens off to export")


def function_of(task, length):
    """A function of ids `[1, length]` to the one output that MediaPipe reads, and its specification."""

    def answer(inputs):
        packed = {ours: inputs[name] for name, ours in MEDIAPIPE_NAMES.items()}
        outputs = task.serve_tokens(packed)
        name = next(name for name in ("probabilities", "scores", "embedding") if name in outputs)
        return {name: outputs[name]}

    return answer, {name: tf.TensorSpec([1, length], tf.int32, name=name) for name in MEDIAPIPE_NAMES}


def with_metadata(content, task):
    """The bytes of a LiteRT file, with metadata and the files that they name."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    names = [graph.tensors[place].name.decode("utf-8") for place in graph.inputs]
    inputs = [next(INPUTS[ours] for theirs, ours in MEDIAPIPE_NAMES.items() if theirs in name) for name in names]
    is_classifier = isinstance(task, TextClassifier)
    buffer = schema.BufferT()
    buffer.data = _metadata(inputs, is_classifier)
    entry = schema.MetadataT(METADATA_NAME, len(model.buffers))
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = _Aligned(len(content) + 65536)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    whole = io.BytesIO(bytes(builder.Output()))
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as files:  # MediaPipe reads them in place
        files.writestr(VOCABULARY, "\n".join(task.tokenizer.vocabulary) + "\n")
        if is_classifier:
            files.writestr(LABELS, "\n".join(task.labels) + "\n")
    return whole.getvalue()


class _Aligned(flatbuffers.Builder):
    """Weights at multiples of 16 bytes, as the schema has it and the generated Python code has not."""

    def StartVector(self, elemSize, numElems, alignment):
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)


def _metadata(inputs, is_classifier):
    """The metadata of a model with these inputs (metadata_schema.fbs): fields are given by their number in the schema."""
    builder = flatbuffers.Builder(1024)
    vocabulary = _table(builder, 5, {0: _text(builder, VOCABULARY)}, {2: VOCABULARY_FILE})
    tokenizer = _table(builder, 1, {0: _vector(builder, [vocabulary])})
    unit = _table(builder, 2, {1: tokenizer}, {0: BERT_TOKENIZER})
    columns = [_table(builder, 7, {0: _text(builder, name)}) for name in inputs]
    output = {0: _text(builder, "probability" if is_classifier else "embedding")}
    if is_classifier:
        labels = _table(builder, 5, {0: _text(builder, LABELS)}, {2: AXIS_LABELS_FILE})
        output[6] = _vector(builder, [labels])
    found = _table(builder, 7, output)
    graph = _table(builder, 8, {2: _vector(builder, columns), 3: _vector(builder, [found]), 5: _vector(builder, [unit])})
    fields = {
        0: _text(builder, "kbert TextClassifier" if is_classifier else "kbert TextEmbedder"),
        3: _vector(builder, [graph]),
        7: _text(builder, PARSER_VERSION),
    }
    builder.Finish(_table(builder, 8, fields), file_identifier=METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _text(builder, text):
    return builder.CreateString(text)


def _vector(builder, tables):
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return builder.EndVector()


def _table(builder, fields, offsets, numbers=None):
    """A table with as many fields: some of them other tables, texts or vectors, some small numbers."""
    builder.StartObject(fields)
    for place, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(place, offset, 0)
    for place, number in (numbers or {}).items():
        builder.PrependUint8Slot(place, number, 0)
    return builder.EndObject()


def mediapipe_ids(task, texts, length):
    """The ids that MediaPipe makes of texts: ASCII in lower case, accents kept, cut at `length` (bert_preprocessor_calculator.cc)."""
    import tensorflow_text

    tokenizer, rows = task.tokenizer, []
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.KeyValueTensorInitializer(tokenizer.vocabulary, tf.range(tokenizer.vocabulary_size, dtype=tf.int64)), 1
    )
    pieces = tensorflow_text.WordpieceTokenizer(table, unknown_token=tokenizer.unk_token)
    for text in texts:
        lowered = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in text.encode("utf-8"))
        words = tensorflow_text.regex_split([lowered], rf"(\s+|{_KEPT})", rf"({_KEPT})").flat_values
        ids = pieces.tokenize(words).flat_values.numpy().tolist()[: length - 2]
        rows.append([tokenizer.cls_token_id, *ids, tokenizer.sep_token_id])
    return rows


def texts_read_otherwise(task, texts, length):
    """Those of the texts that MediaPipe reads as other ids than the task does."""
    ours = task.tokenizer(texts).to_list()
    ends = task.tokenizer.cls_token_id, task.tokenizer.sep_token_id
    ours = [[ends[0], *ids[: length - 2], ends[1]] for ids in ours]
    return [text for text, a, b in zip(texts, ours, mediapipe_ids(task, texts, length)) if a != b]
