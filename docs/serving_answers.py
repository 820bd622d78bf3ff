"""Writes the answers that docs/serving.md shows: trains a small task of each kind on a few texts, serves it, and asks it.

    python docs/serving_answers.py

Each line of the page that begins with `curl` is a request. The lines behind it are replaced by the server's answer, with line
breaks so that it fits the page. The tasks are trained for a minute on the texts below and know nothing else.
"""

import http.client
import json
import pathlib
import re
import shlex
import tempfile

import keras

import kbert
from kbert.export.server import Server

PAGE = pathlib.Path(__file__).with_name("serving.md")
WIDTH = 120

SPAM = {
    "You have won a free prize": "spam", "Free prize, call now": "spam", "You have won, call to claim": "spam",
    "See you at six": "ham", "See you at home": "ham", "I am at home now": "ham",
}  # fmt: skip
PAIRS = {
    ("A man eats.", "Somebody eats."): "entailment", ("A man eats.", "Nobody eats."): "contradiction",
    ("A cat sat.", "Somebody sat."): "entailment", ("A cat sat.", "Nobody sat."): "contradiction",
    ("A man eats.", "It is six."): "neutral", ("A cat sat.", "It is six."): "neutral",
}  # fmt: skip
STARS = {"A good day": 4.5, "See you at six": 3.0, "A bad film": 1.0}
TOPICS = {"The film in Paris": ["film", "travel"], "A good film": ["film"], "A day in Paris": ["travel"], "See you": []}
TAGS = {
    "Ada Lovelace met Babbage in London .": "B-PER I-PER O B-PER O B-LOC O",
    "Nobody here .": "O O O",
    "Babbage sat in Paris .": "B-PER O O B-LOC O",
}
MASKED = ["Paris is the capital of France.", "London is the capital of England."]
QUESTIONS = [
    ("Where is the tower?", "The tower stands in Paris.", "Paris"),
    ("Where is the cat?", "The cat sat in London.", "London"),
]
LIKE = [("A cat sat.", "The cat sat here."), ("A good film.", "The film is good."), ("See you at six.", "At six at home.")]


def tasks():
    """Returns the tasks that the page asks, by the names of their models."""
    texts = [*SPAM, *STARS, *TOPICS, *TAGS, *MASKED]
    texts += [text for pair in [*PAIRS, *LIKE] for text in pair] + [text for row in QUESTIONS for text in row]
    words = sorted(set(re.findall(r"\w+|[^\w\s]", " ".join(texts).lower())))
    tokenizer = kbert.WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])

    def trained(kind, x, y, sizes=None, **options):
        keras.utils.set_random_seed(1)
        sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, **(sizes or {})}
        config = kbert.BertConfig(vocab_size=tokenizer.vocabulary_size, num_hidden_layers=2, initializer_range=0.2, **sizes)
        task = kind(kbert.BertEncoder(config), kbert.TextPreprocessor(tokenizer, max_length=32), **options)
        task.compile(learning_rate=3e-3)
        task.fit(x, y, epochs=60, batch_size=3, verbose=0)
        return task

    def columns(rows):
        return tuple(map(list, zip(*rows)))

    classifier = kbert.TextClassifier
    answers = [{"text": text, "start": context.index(text)} for _, context, text in QUESTIONS]
    return {
        "spam": trained(classifier, list(SPAM), list(SPAM.values()), labels=["ham", "spam"]),
        "nli": trained(classifier, columns(PAIRS), list(PAIRS.values()), labels=["entailment", "neutral", "contradiction"]),
        "stars": trained(classifier, list(STARS), list(STARS.values()), problem_type="regression"),
        "topics": trained(
            classifier, list(TOPICS), list(TOPICS.values()), labels=["film", "travel"], problem_type="multi_label"
        ),
        "ner": trained(
            kbert.TokenClassifier,
            [text.split() for text in TAGS],
            [tags.split() for tags in TAGS.values()],
            labels=["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
        ),
        "words": trained(kbert.MaskedLM, MASKED * 8, None),
        "qa": trained(kbert.QuestionAnswerer, columns(QUESTIONS)[:2], answers),
        "vectors": trained(kbert.TextEmbedder, columns(LIKE), None, sizes={"hidden_size": 4}),
    }


def requests_of(page):
    """Returns the requests of a page: the place and the end of each answer, the path of the request's URL, and its body."""
    found = []
    for match in re.finditer(r"^curl (?:.*\\\n)*.*$", page, re.MULTILINE):
        words = shlex.split(match[0].replace("\\\n", " "))
        body = words[words.index("-d") + 1] if "-d" in words else None
        end = re.compile(r"\n(?=```|\n|curl )").search(page, match.end()).start()
        found.append((match.end(), end, "/" + words[-1].split("/", 3)[3], body))
    return found


def laid_out(value, indent=0):
    """Returns a value as JSON in lines that fit the page: a row begins a line, and shorter values share one."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if indent + len(text) <= WIDTH or not isinstance(value, (dict, list)):
        return text
    ends = "{}" if isinstance(value, dict) else "[]"
    items = (
        [(f"{json.dumps(key)}: ", item) for key, item in sorted(value.items())] if ends == "{}" else [("", v) for v in value]
    )
    lines = [""]
    for number, (key, item) in enumerate(items, 1):
        text = key + laid_out(item, indent + 1 + len(key)) + ("," if number < len(items) else ends[1])
        if lines[-1] and (isinstance(item, dict) or "\n" in text or indent + len(lines[-1]) + len(text) + 2 > WIDTH):
            lines.append("")
        lines[-1] += f" {text}" if lines[-1] else text
    return ends[0] + f"\n{' ' * (indent + 1)}".join(lines)


def with_answers(page, port):
    """Returns a page with the answers of the server at a port behind its requests."""
    for place, end, path, body in reversed(requests_of(page)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST" if body else "GET", path, body and body.encode())
        answer = laid_out(json.load(connection.getresponse()))
        page = f"{page[:place]}\n{answer}{page[end:]}"
    return page


def main():
    with tempfile.TemporaryDirectory() as room:
        folders = {}
        for name, task in tasks().items():
            folders[name] = pathlib.Path(room) / name
            task.export(folders[name] / "1", verify=False)
        with Server(folders, rest_port=0, grpc_port=0) as server:
            PAGE.write_text(with_answers(PAGE.read_text(encoding="utf-8"), server.rest_port), encoding="utf-8")


if __name__ == "__main__":
    main()
