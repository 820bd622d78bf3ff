"""Finds dishes, places and prices in restaurant queries (MIT Restaurant Corpus), with words and BIO tags from files.

    python examples/restaurant_ner.py train.bio test.bio --sentences 3000

Seen on two cores, MiniLM, one epoch:

@@SEEN@@
"""

import argparse

import kbert
from kbert.training.entities import entity_scores

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("train")
parser.add_argument("test")
parser.add_argument("--sentences", type=int, default=3000, help="how many to train on")
parser.add_argument("--epochs", type=int, default=1)
options = parser.parse_args()

words, tags = kbert.read_bio(options.train)
words, tags = words[: options.sentences], tags[: options.sentences]
labels = ["O", *sorted({tag for row in tags for tag in row} - {"O"})]

task = kbert.TokenClassifier.from_preset("all-minilm-l6-v2", labels=labels, max_length=64)
task.compile(learning_rate=2e-4)
task.fit(words, tags, validation_split=0.1, epochs=options.epochs, verbose=2)

words, tags = kbert.read_bio(options.test)
scores = entity_scores(tags, task.predict(words))
print(f"test: precision {scores['precision']:.3f}, recall {scores['recall']:.3f}, F1 {scores['f1']:.3f}")
for kind, of_kind in scores["by_type"].items():
    print(f"  {kind:16} F1 {of_kind['f1']:.3f} of {of_kind['support']}")
for entity in task.classify("any cheap thai place near the harbour that opens before noon")[0]:
    print(entity)
