"""Pairs of texts: does this first paragraph belong to this headline? Wrong pairs have a headline of the same section.

    python examples/sentence_pairs.py --pairs 4000

Seen on two cores, MiniLM:

    Epoch 1/2
    100/100 - 62s - 618ms/step - accuracy: 0.7994 - loss: 0.4067 - macro_f1: 0.7980
    Epoch 2/2
    100/100 - 79s - 786ms/step - accuracy: 0.9453 - loss: 0.1793 - macro_f1: 0.9453
    800 held-out pairs: accuracy 0.9500, macro-F1 0.9500
    same   0.985  Butler launches attack on Blair | Former civil service chief Lord Butler has criticised the way Tony Bla...
    other  0.977  Microsoft plans 'safer ID' system | Former civil service chief Lord Butler has criticised the way Tony Bla...
"""

import argparse

import keras
import numpy as np

import kbert
from kbert.commands.demo import read_news

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--pairs", type=int, default=4000, help="how many, half of them wrong")
parser.add_argument("--epochs", type=int, default=2)
options = parser.parse_args()

keras.utils.set_random_seed(0)
random = np.random.default_rng(0)
articles = []  # (headline, first paragraph, section)
for text, section in zip(*read_news()):
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1:
        articles.append((lines[0], lines[1], section))
articles = [articles[n] for n in random.permutation(len(articles))[: options.pairs // 2]]
held_out = len(articles) // 5


def pairs_of(articles):
    """Each article's own headline, and another one's of its section; an article is in one part only."""
    headlines, paragraphs, labels = [], [], []
    for headline, paragraph, section in articles:
        others = [other for other, _, where in articles if where == section and other != headline] or [articles[0][0]]
        headlines += [headline, others[random.integers(len(others))]]
        paragraphs += [paragraph, paragraph]
        labels += ["same", "other"]
    return (headlines, paragraphs), labels


test, train = pairs_of(articles[:held_out]), pairs_of(articles[held_out:])
task = kbert.TextClassifier.from_preset("all-minilm-l6-v2", labels=["other", "same"], max_length=96)
task.compile(learning_rate=1e-4)
task.fit(*train, epochs=options.epochs, verbose=2)
scores = task.evaluate(*test, return_dict=True, verbose=0)
print(f"{len(test[1])} held-out pairs: accuracy {scores['accuracy']:.4f}, macro-F1 {scores['macro_f1']:.4f}")
for headline in (articles[0][0], articles[1][0]):
    (answer,) = task.classify(([headline], [articles[0][1]]))
    print(f"{answer['label']:6} {answer['score']:.3f}  {headline} | {articles[0][1][:70]}...")
