"""Answers questions from a text, trained on a file in SQuAD's format, judged as the official script judges.

    python examples/question_answering.py squad_train.json --test xquad.en.json --questions 2000

Seen on two cores, MiniLM, one epoch:

@@SEEN@@
"""

import argparse

import kbert
from kbert.training.answers import squad_scores

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("train")
parser.add_argument("--test", required=True)
parser.add_argument("--questions", type=int, default=2000, help="how many to train on")
parser.add_argument("--epochs", type=int, default=1)
options = parser.parse_args()

train, test = kbert.read_squad(options.train), kbert.read_squad(options.test)
train = {name: column[: options.questions] for name, column in train.items()}
task = kbert.QuestionAnswerer.from_preset("all-minilm-l6-v2", max_length=256, window_stride=64)
task.compile(learning_rate=2e-4)
task.fit((train["question"], train["context"]), train["answers"], epochs=options.epochs, batch_size=16, verbose=2)

fast = task.freeze()
found = fast.answer(test["question"], test["context"])
scores = squad_scores([answer["text"] for answer in found], test["answers"])
print(f"{len(found)} questions: exact match {scores['exact_match']:.1f} %, F1 {scores['f1']:.1f} %")
for question, answer in list(zip(test["question"], found))[:3]:
    print(f"{question}\n  {answer}")
