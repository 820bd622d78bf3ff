"""Finds dishes, places and prices in restaurant queries (MIT Restaurant Corpus), with words and BIO tags from files.

    python examples/restaurant_ner.py train.bio test.bio --sentences 3000

Seen on two cores, MiniLM, one epoch:

    85/85 - 28s - 331ms/step - loss: 0.9394 - val_loss: 0.5010 - val_precision: 0.5322 - val_recall: 0.6244 - val_f1: 0.5746
    test: precision 0.558, recall 0.647, F1 0.599
      Amenity          F1 0.465 of 533
      Cuisine          F1 0.656 of 532
      Dish             F1 0.333 of 288
      Hours            F1 0.613 of 212
      Location         F1 0.766 of 812
      Price            F1 0.619 of 171
      Rating           F1 0.549 of 201
      Restaurant_Name  F1 0.558 of 402
    {'label': 'Price', 'text': 'cheap', 'start': 4, 'end': 9, 'score': 0.6348981857299805}
    {'label': 'Cuisine', 'text': 'thai', 'start': 10, 'end': 14, 'score': 0.8505251407623291}
    {'label': 'Location', 'text': 'near the harbour', 'start': 21, 'end': 37, 'score': 0.8375563025474548}
    {'label': 'Hours', 'text': 'opens before noon', 'start': 43, 'end': 60, 'score': 0.5682136416435242}
"""

import argparse

import kbert
from kbert.scoring.entities import entity_scores

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
