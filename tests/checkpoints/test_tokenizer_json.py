"""tokenizer.json: the `tokenizers` package and kbert make the same ids of it, whoever wrote it."""

import json

import pytest
from tokenizers import Tokenizer

import kbert
from kbert.checkpoints.hub import FILES
from kbert.checkpoints.tokenizer_json import read_tokenizer_json, tokenizer_json
from tests.checkpoints.test_todays_folders import TODAY
from tests.conftest import SPECIAL, TINY
from tests.text.reference import reference, with_packing

WORDS = ["good", "day", "a", "e", "1", "##1", "[", "]", "in", "e\u0301", "\u00e9", "Day", "\u4f60"]
CHARACTERS = [chr(code) for code in [*range(0x21, 0x500), *range(0x300, 0x370), *range(0x3000, 0x3040), *range(0x4E00, 0x4E20)]]
RICH = list(dict.fromkeys([*SPECIAL, *WORDS, *(c for c in CHARACTERS if c.strip()), *(f"##{c}" for c in CHARACTERS)]))


def stated(tokens=RICH, **options):
    return tokenizer_json(kbert.WordPieceTokenizer(tokens, **options))


def written(tmp_path, values, config=None, name="tokenizer.json"):
    """A folder with a tokenizer.json, and with a tokenizer_config.json if there is one to write."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / name).write_text(values if isinstance(values, str) else json.dumps(values))
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def added(token, number, **rules):
    return {
        "id": number,
        "content": token,
        **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False),
        **rules,
    }


def both(tmp_path, values, texts):
    """The ids of texts from kbert and from `tokenizers`, without [CLS] and [SEP]."""
    ours = kbert.WordPieceTokenizer.from_preset(written(tmp_path, values))
    theirs = Tokenizer.from_str(json.dumps(values))
    return ours(texts).to_list(), [encoding.ids for encoding in theirs.encode_batch(texts, add_special_tokens=False)]


OPTIONS = [
    {}, {"lowercase": False}, {"strip_accents": False}, {"lowercase": False, "strip_accents": True},
    {"tokenize_chinese_chars": False}, {"clean_text": False}, {"max_input_chars_per_word": 3},
]  # fmt: skip
SOME = [chr(code) for code in [*range(0x600), *range(0x2000, 0x2100), *range(0x3000, 0x3040), *range(0x4E00, 0x4E20), 0xFFFD]]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("template", ["aXb", "X", "XX", "eX\u0301a"])
def test_ids_are_those_of_tokenizers_with_every_option(tmp_path, options, template):
    ours, theirs = both(tmp_path, stated(**options), [template.replace("X", character) for character in SOME])
    assert ours == theirs


@pytest.mark.parametrize("lowercase", [True, False])
def test_the_file_is_the_reference_itself_whose_ids_are_ours_on_every_code_point(lowercase):
    """`tests/text/test_code_points.py` compares the reference with kbert on all of them."""
    tokenizer = kbert.WordPieceTokenizer(RICH, lowercase=lowercase)
    theirs = with_packing(reference(tokenizer, special_tokens=True), tokenizer)
    assert json.loads(theirs.to_str()) == tokenizer_json(tokenizer)


def test_the_file_is_as_transformers_5_writes_it():
    folder = TODAY / "transformers"
    written_there = json.loads((folder / "tokenizer.json").read_text())
    assert tokenizer_json(kbert.WordPieceTokenizer.from_preset(folder)) == written_there


def test_what_kbert_writes_tokenizers_reads_with_packing(tmp_path):
    encoder = kbert.BertEncoder(kbert.BertConfig(**{**TINY, "vocab_size": len(RICH)}))
    tokenizer = kbert.WordPieceTokenizer(RICH)
    preprocessor = kbert.TextPreprocessor(tokenizer, max_length=20)
    encoder.save_to_preset(tmp_path / "model", preprocessor)
    theirs = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    encoding = theirs.encode("Good day", "in a day")
    packed = preprocessor((["Good day"], ["in a day"]))
    assert encoding.ids == packed["token_ids"][0].numpy().tolist()
    assert encoding.type_ids == packed["segment_ids"][0].numpy().tolist()
    assert theirs.decode(encoding.ids) == "good day in a day"
    (tmp_path / "model" / "vocab.txt").unlink()  # transformers 5 writes none
    assert kbert.WordPieceTokenizer.from_preset(tmp_path / "model").vocabulary == RICH


def test_ids_without_a_token_are_filled(tmp_path):
    values = stated()
    values["model"]["vocab"] = {token: number + 3 * (number > 9) for token, number in values["model"]["vocab"].items()}
    ours, theirs = both(tmp_path, values, ["good day in e\u0301 1 [unused10] \u4f60"])
    assert ours == theirs
    vocabulary = read_tokenizer_json(tmp_path / "tokenizer.json").vocabulary
    assert vocabulary[10:13] == ["[unused10]", "[unused11]", "[unused12]"] and len(vocabulary) == len(RICH) + 3


@pytest.mark.parametrize("special", [True, False])
def test_an_added_token_is_one_id_wherever_it_is_typed(tmp_path, special):
    values = stated()
    values["added_tokens"] += [added("[E1]", len(RICH), special=special), added("<x>", len(RICH) + 1, special=special)]
    texts = ["in [E1] day", "x[E1]y<x><x>", "[e1] [E 1]", "goo<x>d \U000f0000\ue000 [E1"]
    ours, theirs = both(tmp_path, values, texts)
    assert ours == theirs
    tokenizer = kbert.WordPieceTokenizer.from_preset(tmp_path)
    assert tokenizer.added_tokens == ["[E1]", "<x>"] and tokenizer.vocabulary[-2:] == ["[E1]", "<x>"]
    assert tokenizer_json(tokenizer)["model"]["vocab"]["<x>"] == len(RICH) + 1


def test_an_added_word_is_found_in_the_text_that_is_cleaned_up(tmp_path):
    words = ["Covid", "covid-19", "caf\u00e9", "[E1]", "new day", "\u4f60\u4f60", "day"]
    values = stated()
    values["added_tokens"] = [entry for entry in values["added_tokens"] if entry["content"] != "day"]
    values["added_tokens"] += [added(word, len(RICH) + n, normalized=True) for n, word in enumerate(words[:-1])]
    values["added_tokens"] += [added("day", RICH.index("day"), normalized=True), added("<x>", len(RICH) + len(words) - 1)]
    texts = [
        "COVID-19 xcovid COVID -19", "CAF\u00c9 cafe\u0301 Cafes", "[e1][E1] [ E1]", "new  day New\tDay anewday",
        "\u4f60\u4f60\u4f60 days",
        "<x>covid<X>", "c\u00adovid\u0301-1\u03019!", "", "\U000f0000covid\ue000\x01\x02covid\x03",
    ]  # fmt: skip
    ours, theirs = both(tmp_path, values, texts)
    assert ours == theirs
    tokenizer = kbert.WordPieceTokenizer.from_preset(tmp_path)
    assert tokenizer.added_words == words and tokenizer.added_tokens == ["<x>"]
    ids, starts, ends = (part.to_list() for part in tokenizer.tokenize_with_offsets(texts[:6]))
    for row, encoding in enumerate(Tokenizer.from_str(json.dumps(values)).encode_batch(texts[:6], add_special_tokens=False)):
        assert list(zip(starts[row], ends[row])) == encoding.offsets
    assert tokenizer_json(tokenizer)["added_tokens"][-1]["content"] == "<x>"


def test_of_two_tokens_the_first_and_then_the_longest_is_recognized(tmp_path):
    values = stated()
    more = ["abcd", "bcde5", "abc", "cdefgh"]
    values["added_tokens"] += [added(token, len(RICH) + n) for n, token in enumerate(more)]
    ours, theirs = both(tmp_path, values, ["abcde5", "abcdefgh", "bcdefgh abcd", "xabcabcd"])
    assert ours == theirs


def test_added_tokens_beside_a_vocab_txt_are_read_too(tmp_path):
    folder = written(tmp_path, "\n".join(RICH) + "\n", {"tokenizer_class": "BertTokenizer"}, name="vocab.txt")
    (folder / "added_tokens.json").write_text(json.dumps({"[E1]": len(RICH)}))
    assert kbert.WordPieceTokenizer.from_preset(folder)(["[E1]"]).to_list() == [[len(RICH)]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["model"].update(type="BPE"), "the model is BPE"),
        (lambda v: v["model"].update(type="Unigram"), "the model is Unigram"),
        (lambda v: v.update(normalizer=None), "the normalizer is None"),
        (lambda v: v["normalizer"].update(type="NFKC"), "the normalizer is NFKC"),
        (lambda v: v["pre_tokenizer"].update(type="Whitespace"), "the pre_tokenizer is Whitespace"),
        (lambda v: v.update(post_processor={"type": "RobertaProcessing"}), "post_processor is RobertaProcessing"),
        (
            lambda v: v["post_processor"]["special_tokens"]["[CLS]"].update(ids=[0]),
            "special token '.CLS.' does not have its id",
        ),
        (lambda v: v["post_processor"]["single"].pop(), "template is .CLS. text; kbert packs"),
        (lambda v: v["model"].update(continuing_subword_prefix="@@"), "continuing_subword_prefix '@@'"),
        (lambda v: v["model"]["vocab"].update(good=6), "have one id, 6"),
        (lambda v: v["model"]["vocab"].update(good=10**9), "ids should be from 0 to"),
        (lambda v: v["model"]["vocab"].update(good="5"), "map tokens to whole numbers"),
        (lambda v: v["added_tokens"].append(added("[E1]", 9)), "'.E1.' has the id 9, but the first free one"),
        (lambda v: v["added_tokens"].append(added("good", 9)), "'good' has the id 9, in the vocabulary 5"),
        (lambda v: v["added_tokens"].append(added("[E1]", len(RICH), single_word=True)), "'.E1.' has single_word true"),
    ],
)
def test_another_tokenizer_is_refused_by_name(tmp_path, change, message):
    values = stated()
    change(values)
    with pytest.raises(ValueError, match=f"tokenizer.json: .*{message}"):
        kbert.WordPieceTokenizer.from_preset(written(tmp_path, values))


def test_bert_processing_names_the_special_tokens(tmp_path):
    tokens = ["<p>" if token == "[PAD]" else {"[CLS]": "<s>", "[SEP]": "</s>"}.get(token, token) for token in RICH]
    values = stated(tokens, pad_token="<p>", cls_token="<s>", sep_token="</s>")
    values["post_processor"] = {"type": "BertProcessing", "sep": ["</s>", 3], "cls": ["<s>", 2]}
    tokenizer = kbert.WordPieceTokenizer.from_preset(written(tmp_path, values, {"pad_token": {"content": "<p>"}}))
    assert tokenizer.special_tokens == ("<p>", "[UNK]", "<s>", "</s>", "[MASK]")
    with pytest.raises(ValueError, match=r"special token '\[PAD\]'"):
        (tmp_path / "tokenizer_config.json").unlink()
        kbert.WordPieceTokenizer.from_preset(tmp_path)


def test_where_two_files_differ_the_choice_is_said(tmp_path):
    folder = written(tmp_path, stated(), {"do_lower_case": False})
    with pytest.warns(UserWarning, match="differ in lowercase; {'lowercase': False} is taken"):
        assert not kbert.WordPieceTokenizer.from_preset(folder).lowercase
    written(tmp_path, stated(), {"do_lower_case": False, "tokenizer_class": "PreTrainedTokenizerFast"})
    with pytest.warns(UserWarning, match="differ in lowercase; {'lowercase': True} is taken"):
        assert kbert.WordPieceTokenizer.from_preset(folder).lowercase
    written(tmp_path, stated(), {})
    (folder / "vocab.txt").write_text("\n".join([*RICH[:5], *RICH[6:]]) + "\n")
    with pytest.warns(UserWarning, match="vocab.txt beside it differs from the id 5 on"):
        assert kbert.WordPieceTokenizer.from_preset(folder).vocabulary == RICH


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "its tokenizer is a BertJapaneseTokenizer"),
        ({"tokenizer_class": "BertTokenizer", "do_basic_tokenize": False}, "do_basic_tokenize false"),
        ({"truncation_side": "left"}, "truncation_side 'left'"),
    ],
)
def test_a_vocab_txt_of_another_tokenizer_is_refused(tmp_path, config, message):
    folder = written(tmp_path, "\n".join(RICH) + "\n", config, name="vocab.txt")
    with pytest.raises(ValueError, match=message):
        kbert.WordPieceTokenizer.from_preset(folder)


def test_a_class_that_cuts_words_by_rules_of_its_own_is_refused_beside_a_tokenizer_json(tmp_path):
    folder = written(tmp_path, stated(), {"tokenizer_class": "BertJapaneseTokenizer"})
    with pytest.raises(ValueError, match="its tokenizer is a BertJapaneseTokenizer"):
        kbert.WordPieceTokenizer.from_preset(folder)


def test_the_hub_gives_the_files_that_todays_folders_have():
    assert {"tokenizer.json", "added_tokens.json", "config_sentence_transformers.json"} <= set(FILES)
