"""Packing: pairs, truncation and windows, equal to the reference's with the same settings."""

import itertools
import random

import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.text.truncation import truncated_lengths, windows
from tests.conftest import SPECIAL
from tests.text.reference import reference, with_packing

LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]


@pytest.fixture(scope="module")
def letters():
    return kbert.WordPieceTokenizer([*SPECIAL, *LETTERS])


def text(count, seed=0):
    r = random.Random(seed)
    return " ".join(r.choice(LETTERS) for _ in range(count))


def rows(packed):
    """The packed batch without its padding, as lists of (ids, segments)."""
    packed = {name: values.numpy() for name, values in packed.items()}
    return [
        (ids[mask == 1].tolist(), segments[mask == 1].tolist())
        for ids, segments, mask in zip(packed["token_ids"], packed["segment_ids"], packed["padding_mask"])
    ]


@pytest.mark.parametrize("truncation", ["longest_first", "only_first", "only_second"])
@pytest.mark.parametrize("max_length", [7, 8, 15])
def test_pairs_equal_the_reference(letters, truncation, max_length):
    theirs = with_packing(reference(letters), letters)
    theirs.enable_truncation(max_length, strategy=truncation)
    first, second, expected = [], [], []
    for a, b in itertools.product(range(20), repeat=2):
        try:
            encoding = theirs.encode(text(a, a), text(b, 100 + b))
        except BaseException as error:  # the reference refuses to cut one text where the other alone is too long
            assert "too short" in str(error) or "truncat" in str(error).lower(), error
            continue
        first.append(text(a, a))
        second.append(text(b, 100 + b))
        expected.append((encoding.ids, encoding.type_ids))
    assert len(expected) > 50
    preprocessor = kbert.TextPreprocessor(letters, max_length, truncation)
    assert rows(preprocessor((first, second))) == expected


def test_single_texts_equal_the_reference(letters):
    theirs = with_packing(reference(letters), letters)
    theirs.enable_truncation(9)
    texts = [text(count, count) for count in range(30)]
    expected = [(encoding.ids, encoding.type_ids) for encoding in theirs.encode_batch(texts)]
    assert rows(kbert.TextPreprocessor(letters, 9)(texts)) == expected


def test_all_length_pairs_keep_the_references_numbers():
    """The closed form against taking piece by piece from the longer text (the second on a tie is the one that keeps more)."""

    def one_by_one(a, b, budget):
        while a + b > budget:
            if a >= b:
                a -= 1
            else:
                b -= 1
        return a, b

    pairs = np.array(list(itertools.product(range(26), repeat=2)), np.int32)
    for budget in range(1, 27):
        kept = truncated_lengths(tf.constant(pairs[:, 0]), tf.constant(pairs[:, 1]), budget)
        expected = [sum(one_by_one(a, b, budget)) for a, b in pairs.tolist()]
        assert (kept[0] + kept[1]).numpy().tolist() == expected
        assert np.abs(kept[0] - kept[1])[(pairs.min(1) >= budget)].max(initial=0) <= 1


@pytest.mark.parametrize(("max_length", "stride"), [(7, 0), (7, 4), (12, 3), (12, 9), (30, 5)])
def test_windows_equal_the_references_overflow(letters, max_length, stride):
    theirs = with_packing(reference(letters), letters)
    theirs.enable_truncation(max_length, stride=stride)
    texts = [text(count, count) for count in [*range(40), 200]]
    expected, documents = [], []
    for number, encoding in enumerate(theirs.encode_batch(texts)):
        for part in [encoding, *encoding.overflowing]:
            expected.append((part.ids, part.type_ids))
            documents.append(number)
    packed, cut = kbert.TextPreprocessor(letters, max_length).pack_windows(letters(texts), stride)
    assert rows(packed) == expected
    assert cut.document.numpy().tolist() == documents


@pytest.mark.parametrize(("max_length", "stride"), [(20, 0), (20, 4), (40, 7)])
def test_windows_of_questions_equal_the_references_overflow(letters, max_length, stride):
    theirs = with_packing(reference(letters), letters)
    theirs.enable_truncation(max_length, stride=stride, strategy="only_second")
    pairs = [(text(q, q), text(c, 50 + c)) for q in range(8) for c in (1, 5, 12, 13, 14, 30, 90)]
    expected = []
    for encoding in theirs.encode_batch(pairs):
        expected += [(part.ids, part.type_ids) for part in [encoding, *encoding.overflowing]]
    questions, contexts = zip(*pairs)
    preprocessor = kbert.TextPreprocessor(letters, max_length)
    packed, cut = preprocessor.pack_windows(letters(list(contexts)), stride, queries=letters(list(questions)))
    assert rows(packed) == expected
    assert cut.start.numpy()[cut.document.numpy() == 6].tolist()[0] == 0


def test_windows_map_back_to_every_piece():
    lengths = tf.constant([0, 1, 10, 33, 100])
    cut = windows(lengths, room=10, stride=3)
    for number, length in enumerate(lengths.numpy()):
        covered = np.zeros(length, int)
        for document, start, size in zip(*(part.numpy() for part in cut)):
            if document == number:
                covered[start : start + size] += 1
        assert (covered >= 1).all()


@pytest.mark.parametrize("stride", [-1, 10, 11])
def test_a_stride_that_loses_text_is_refused(letters, stride):
    with pytest.raises(ValueError, match=f"stride should be .* got {stride}"):
        kbert.TextPreprocessor(letters, 12).pack_windows(letters(["a b c"]), stride)
    with pytest.raises(ValueError, match=f"stride should be .* got {stride}"):
        kbert.TextPreprocessor(letters, 22).pack_windows(letters(["a b c"]), stride, queries=letters(["a"]))


def test_fixed_and_dynamic_length(letters):
    dynamic = kbert.TextPreprocessor(letters, 12)(["a b", "c"])
    fixed = kbert.TextPreprocessor(letters, 12, fixed_length=True)(["a b", "c"])
    assert dynamic["token_ids"].shape == (2, 4) and fixed["token_ids"].shape == (2, 12)
    assert rows(dynamic) == rows(fixed)
    assert {values.dtype for values in fixed.values()} == {tf.int32}
    assert kbert.TextPreprocessor(letters, 12)([])["token_ids"].shape == (0, 2)


def test_ragged_rows_are_the_dense_ones_without_padding(letters):
    columns = (["a b c", "", "d"], ["e", "f g", ""])
    dense = rows(kbert.TextPreprocessor(letters, 8)(columns))
    ragged = kbert.TextPreprocessor(letters, 8, ragged=True)(columns)
    assert ragged["token_ids"].to_list() == [ids for ids, _ in dense]
    assert ragged["segment_ids"].to_list() == [segments for _, segments in dense]
    packed, _ = kbert.TextPreprocessor(letters, 8, ragged=True).pack_windows(letters([text(20)]), 2)
    assert packed["token_ids"].row_lengths().numpy().tolist() == [8, 8, 8, 8, 6]


def test_litert_packs_pairs_and_windows_the_same(letters, tmp_path):
    import tensorflow_text
    from ai_edge_litert.interpreter import InterpreterWithCustomOps

    preprocessor = kbert.TextPreprocessor(letters, 12, fixed_length=True)
    string = tf.TensorSpec([None], tf.string)

    def pack(question, context):
        packed, cut = preprocessor.pack_windows(letters.call(context), 2, queries=letters.call(question))
        pair = preprocessor.call((question, context))
        return {"pair": pair["token_ids"], "segments": pair["segment_ids"], "windows": packed["token_ids"], "starts": cut.start}

    module = tf.Module()
    module.pack = tf.function(pack, input_signature=[string, string])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.pack.get_concrete_function()], module)
    converter.allow_custom_ops = True
    (tmp_path / "pack.tflite").write_bytes(converter.convert())
    interpreter = InterpreterWithCustomOps(
        model_path=str(tmp_path / "pack.tflite"), custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS
    )
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [3])
    interpreter.resize_tensor_input(interpreter.get_input_details()[1]["index"], [3])
    runner = interpreter.get_signature_runner()
    for seed in range(20):
        questions = [text(count, seed) for count in (seed % 7, 1, 0)]
        contexts = [text(count, seed + 1) for count in (40, seed, 0)]
        expected = module.pack(tf.constant(questions), tf.constant(contexts))
        ours = runner(question=np.array([t.encode() for t in questions]), context=np.array([t.encode() for t in contexts]))
        for name, values in expected.items():
            np.testing.assert_array_equal(ours[name], values, err_msg=name)


def test_bad_arguments_are_clear(letters):
    with pytest.raises(ValueError, match="ragged=True or fixed_length=True"):
        kbert.TextPreprocessor(letters, ragged=True, fixed_length=True)
    with pytest.raises(ValueError, match="longest_first, only_first, only_second, round_robin, got 'first'"):
        kbert.TextPreprocessor(letters, truncation="first")
    with pytest.raises(ValueError, match="at least 4, got 3"):
        kbert.TextPreprocessor(letters, 3)
    with pytest.raises(ValueError, match="tuple of 3 columns"):
        kbert.TextPreprocessor(letters)((["a"], ["b"], ["c"]))


FOUR = ["a b c", "d", "", "e f"]
ONE_COLUMN = {
    "list": FOUR,
    "array": np.array(FOUR),
    "bytes": np.array(FOUR, "S"),
    "[B, 1] array": np.array(FOUR)[:, None],
    "tensor": tf.constant(FOUR),
    "[B, 1] tensor": tf.constant(FOUR)[:, None],
    "tuple of one": (FOUR,),
    "eager texts in a list": [tf.constant(t) for t in FOUR],
}


@pytest.mark.parametrize("kind", ONE_COLUMN)
def test_a_column_is_read_alike_in_every_container(letters, kind):
    preprocessor = kbert.TextPreprocessor(letters, 8, fixed_length=True)
    expected = rows(preprocessor.pack(letters(FOUR)))
    assert rows(preprocessor(ONE_COLUMN[kind])) == expected


@pytest.mark.parametrize("fixed_length", [True, False])
@pytest.mark.parametrize("pairs", [False, True])
def test_one_text_has_no_axis_for_rows(letters, fixed_length, pairs):
    preprocessor = kbert.TextPreprocessor(letters, 8, fixed_length=fixed_length)
    expected = {name: ids.numpy()[0].tolist() for name, ids in preprocessor((["a b"], ["c"]) if pairs else ["a b"]).items()}
    for one in (str, np.array, np.str_, tf.constant):
        packed = preprocessor((one("a b"), one("c")) if pairs else one("a b"))
        assert {name: ids.numpy().tolist() for name, ids in packed.items()} == expected


@pytest.mark.parametrize("pairs", [False, True])
def test_a_dataset_is_mapped_before_or_after_it_is_batched(letters, pairs):
    preprocessor = kbert.TextPreprocessor(letters, 8, fixed_length=True)
    columns = (FOUR, FOUR[::-1]) if pairs else FOUR
    expected = rows(preprocessor(columns))
    signature = (tf.TensorSpec(None, tf.string),) * 2 if pairs else tf.TensorSpec(None, tf.string)

    def batches():
        yield tuple(map(tf.constant, columns)) if pairs else tf.constant(columns)

    def texts():
        yield from zip(*columns) if pairs else columns

    one = tf.data.Dataset.from_generator(texts, output_signature=signature)
    many = tf.data.Dataset.from_generator(batches, output_signature=signature)
    known = tf.data.Dataset.from_tensor_slices(columns)

    def read(*texts):
        return preprocessor(texts)

    datasets = [known.map(read).batch(4), one.map(read).batch(4)]
    for dataset in datasets if pairs else [*datasets, known.batch(4).map(read), many.map(read)]:
        assert [rows(packed) for packed in dataset] == [expected]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (tf.constant([["a", "b"]]), "a pair is a tuple of two columns"),
        (np.array([["a", "b"]]), "a pair is a tuple of two columns"),
        (tf.ragged.constant([["a"], ["b", "c"]]), "words are joined by spaces"),
        ((["a"], "b"), "got a column and a text"),
        ((), "a tuple of 0 columns"),
        ([("a", "b")], "a pair as a tuple of two columns"),
        (tf.constant([1]), "should be strings, got a tensor of int32"),
        ({"a", "b"}, "no order"),
        (["a", None], r"texts\[1\] is None.*drop that row"),
        (["a", np.float64("nan")], r"texts\[1\] is .*nan.*drop that row"),
    ],
)
def test_what_is_no_column_is_named(letters, texts, message):
    with pytest.raises((TypeError, ValueError), match=message):
        kbert.TextPreprocessor(letters, 8)(texts)


def test_axes_that_are_not_known_are_asked_for(letters):
    texts = tf.TensorSpec(None, tf.string)
    with pytest.raises(ValueError, match="ensure_shape"):
        tf.function(letters.call, autograph=False).get_concrete_function(texts)
    with pytest.raises(ValueError, match="ensure_shape"):
        ragged = kbert.TextPreprocessor(letters, 8, ragged=True)
        tf.function(lambda t: ragged(t), autograph=False).get_concrete_function(texts)
    read = tf.function(lambda t: kbert.TextPreprocessor(letters, 8)(t), input_signature=[texts], autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="a pair is a tuple of two columns"):
        read(tf.constant([["a", "b"]]))
