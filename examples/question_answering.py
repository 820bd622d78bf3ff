"""Answers questions from a text, trained on a file in SQuAD's format, judged as the official script judges.

    python examples/question_answering.py squad_train.json --test xquad.en.json --questions 1500

Seen on two cores, MiniLM, one epoch:

    115/115 - 182s - 2s/step - end_logits_loss: 3.7055 - loss: 3.7509 - start_logits_loss: 3.7760
    1190 questions: exact match 18.7 %, F1 30.4 %
    How many points did the Panthers defense surrender?
      {'text': '308', 'start': 34, 'end': 37, 'score': 0.5000075018437851}
    How many career sacks did Jared Allen have?
      {'text': '6½ sacks. The Panthers line also featured veteran defensive end Jared Allen', 'start': 324, 'end': 399,
       'score': 0.21934649196540773}
    How many tackles did Luke Kuechly register?
      {'text': '88', 'start': 993, 'end': 995, 'score': 0.3191238996802906}
"""

import argparse

import kbert
from kbert.scoring.squad import squad_scores

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
