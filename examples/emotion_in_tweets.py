"""Tells six emotions in tweets, from a csv with a column of texts and a column of labels.

    python examples/emotion_in_tweets.py twitter_emotion.csv --tweets 6000

Seen on two cores, MiniLM:

    Epoch 1/3
    135/135 - 92s - 680ms/step - accuracy: 0.5266 - loss: 1.3042 - macro_f1: 0.2659
        - val_accuracy: 0.7250 - val_loss: 0.7847 - val_macro_f1: 0.4904
    Epoch 2/3
    135/135 - 74s - 546ms/step - accuracy: 0.8197 - loss: 0.5955 - macro_f1: 0.7051
        - val_accuracy: 0.9000 - val_loss: 0.3572 - val_macro_f1: 0.8138
    Epoch 3/3
    135/135 - 90s - 670ms/step - accuracy: 0.9139 - loss: 0.3063 - macro_f1: 0.8391
        - val_accuracy: 0.9229 - val_loss: 0.3058 - val_macro_f1: 0.8807
    1200 held-out tweets: accuracy 0.9000, macro-F1 0.8459
                 mean  count
    label_name
    anger       0.874    190
    fear        0.931    145
    joy         0.919    409
    love        0.843    102
    sadness     0.946    315
    surprise    0.487     39
    joy      0.949  i could not be happier about it
    joy      0.427  i did not see that coming at all
    sadness  0.945  i just want to be left alone
"""

import argparse

import keras
import numpy as np
import pandas as pd

import kbert

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", help="a csv with columns text and label_name")
parser.add_argument("--tweets", type=int, default=16000, help="how many to use")
parser.add_argument("--epochs", type=int, default=3)
options = parser.parse_args()

keras.utils.set_random_seed(0)
table = pd.read_csv(options.data).sample(frac=1, random_state=0)[: options.tweets]
held_out = len(table) // 5
train, test = table[held_out:], table[:held_out]

task = kbert.TextClassifier.from_preset("all-minilm-l6-v2", labels=sorted(table["label_name"].unique()), max_length=128)
task.compile(learning_rate=1e-4)
stop = keras.callbacks.EarlyStopping(monitor="val_macro_f1", mode="max", patience=1, restore_best_weights=True)
task.fit(train["text"], train["label_name"], validation_split=0.1, epochs=options.epochs, callbacks=[stop], verbose=2)
scores = task.evaluate(test["text"], test["label_name"], return_dict=True, verbose=0)
print(f"{len(test)} held-out tweets: accuracy {scores['accuracy']:.4f}, macro-F1 {scores['macro_f1']:.4f}")

answers = task.classify(test["text"])
right = np.array([answer["label"] for answer in answers]) == test["label_name"].to_numpy()
print(test.assign(right=right).groupby("label_name")["right"].agg(["mean", "count"]).round(3).to_string())
for text in ("i could not be happier about it", "i did not see that coming at all", "i just want to be left alone"):
    (answer,) = task.classify([text])
    print(f"{answer['label']:8} {answer['score']:.3f}  {text}")
