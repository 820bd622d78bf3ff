"""The reference: the `tokenizers` package's BERT pipeline, with its own vocabulary options."""

import json
from itertools import chain

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors


def reference(tokenizer, special_tokens=False):
    """The reference with the settings of one of our tokenizers.

    Args:
      tokenizer: a `WordPieceTokenizer`.
      special_tokens: recognise special tokens that are typed in the text.
    """
    model = models.WordPiece(
        {token: number for number, token in enumerate(tokenizer.vocabulary)},
        unk_token=tokenizer.unk_token,
        max_input_chars_per_word=100,
    )
    theirs = Tokenizer(model)
    theirs.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=tokenizer.tokenize_chinese_chars,
        strip_accents=tokenizer.strip_accents,
        lowercase=tokenizer.lowercase,
    )
    theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    theirs.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    if special_tokens:
        theirs.add_special_tokens([AddedToken(token, special=True) for token in tokenizer.special_tokens])
    return theirs


def with_packing(theirs, tokenizer):
    """Adds `[CLS] a [SEP] b [SEP]`."""
    cls, sep = tokenizer.cls_token, tokenizer.sep_token
    theirs.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, tokenizer.cls_token_id), (sep, tokenizer.sep_token_id)],
    )
    return theirs


def differing(tokenizer, theirs, texts, chunk=100_000):
    """The texts whose ids differ from the reference's."""
    wrong = []
    for start in range(0, len(texts), chunk):
        part = texts[start : start + chunk]
        ours = tokenizer(part)
        ids = [encoding.ids for encoding in theirs.encode_batch_fast(part, add_special_tokens=False)]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        if not np.array_equal(ours.row_lengths(), lengths) or not np.array_equal(ours.values, list(chain.from_iterable(ids))):
            wrong += [text for text, row, other in zip(part, ours.to_list(), ids) if row != other]
    return wrong


def differing_offsets(tokenizer, theirs, texts):
    """The texts whose ids or offsets, in characters or in bytes, differ from the reference's."""
    ids, starts, ends = (part.to_list() for part in tokenizer.tokenize_with_offsets(texts))
    _, first_bytes, last_bytes = (part.to_list() for part in tokenizer.tokenize_with_offsets(texts, unit="bytes"))
    wrong = []
    for number, encoding in enumerate(theirs.encode_batch(texts, add_special_tokens=False)):
        text = texts[number]
        places = [0]
        for character in text:
            places.append(places[-1] + len(character.encode("utf-8")))
        in_bytes = [(places[a], places[b]) for a, b in encoding.offsets]
        if (
            encoding.ids != ids[number]
            or encoding.offsets != list(zip(starts[number], ends[number]))
            or in_bytes != list(zip(first_bytes[number], last_bytes[number]))
        ):
            wrong.append(text)
    return wrong


def read_texts(name, shared_data):
    """The texts of one real data set, by the name of its file in ../shared/data, or "bbc"."""
    if name == "bbc":
        from kbert.commands.demo import read_news

        return read_news()[0]
    path = shared_data / name
    if name.endswith(".csv"):
        import pandas as pd

        return pd.read_csv(path)["text"].tolist()
    if name.endswith(".json"):
        paragraphs = [paragraph for article in json.loads(path.read_text())["data"] for paragraph in article["paragraphs"]]
        questions = [question["question"] for paragraph in paragraphs for question in paragraph["qas"]]
        return [paragraph["context"] for paragraph in paragraphs] + questions
    lines = path.read_text(encoding="utf-8").split("\n")
    if name.endswith(".bio"):
        sentences = "\n".join(line.split("\t")[-1] if line else "" for line in lines).split("\n\n")
        return [sentence.replace("\n", " ") for sentence in sentences]
    return lines


REAL_TEXTS = [
    "bbc", "twitter_emotion.csv", "sms_spam.tsv", "mit_restaurant/train.bio", "mit_restaurant/test.bio", "wikitext2_valid.txt",
    *(f"xquad/xquad.{language}.json" for language in ("en", "ar", "zh", "hi", "th", "ru", "el")),
]  # fmt: skip
