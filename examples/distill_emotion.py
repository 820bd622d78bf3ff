"""A fine-tuned MiniLM as the teacher of students of 3, 2 and 1 layers: what each is worth, and how fast.

    python examples/distill_emotion.py twitter_emotion.csv --tweets 6000

Seen on two cores, MiniLM (times with other processes at work; those of `benchmarks/DISTILLATION.md` are of quiet cores):

                                accuracy  parameters  int8 .tflite (text), MB  one text, ms
    teacher, 6 layers             0.9217  22715526.0                     24.6         12.25
    3 layers, fine-tuned alone    0.9000  17392134.0                     19.0          4.68
    student, 3 layers             0.9225  17392134.0                     19.0          5.82
    student, 2 layers             0.9225  15617670.0                     17.2          3.76
    student, 1 layers             0.8925  13843206.0                     15.4          1.18
    {'tokens': 8000, 'tokens_before': 30522, 'unknown': 0.0, 'unknown_before': 0.0}
    student.tflite: 9.3 MB
"""

import argparse
import pathlib

import keras
import pandas as pd

import kbert
from kbert.commands.distill import worth_of
from kbert.distillation import recipes

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", help="a csv with columns text and label_name")
parser.add_argument("--tweets", type=int, default=16000, help="how many to use")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--out", default="student.tflite", help="the file of the student of three layers")
options = parser.parse_args()

keras.utils.set_random_seed(0)
table = pd.read_csv(options.data).sample(frac=1, random_state=0)[: options.tweets]
texts, labels = table["text"].tolist(), table["label_name"].tolist()
held_out = len(texts) // 5
train, test = (texts[held_out:], labels[held_out:]), (texts[:held_out], labels[:held_out])

teacher = kbert.TextClassifier.from_preset("all-minilm-l6-v2", labels=sorted(set(labels)), max_length=64)
alone = teacher.make_student(num_hidden_layers=3)  # before any fine-tuning: the same student, without the teacher
for task in (teacher, alone):
    task.compile(learning_rate=2e-4)
    task.fit(*train, epochs=options.epochs, verbose=2)

tasks = {"teacher, 6 layers": teacher, "3 layers, fine-tuned alone": alone}
for layers in (3, 2, 1):
    keras.utils.set_random_seed(0)
    student = recipes.task.run(teacher, *train, num_hidden_layers=layers, epochs=options.epochs, learning_rate=2e-4, verbose=2)
    tasks[f"student, {layers} layers"] = student
worth = {name: worth_of(task, test) for name, task in tasks.items()}
print(pd.DataFrame(worth).T.to_string())

small = tasks["student, 3 layers"].trim_vocabulary(texts, size=8000)
print({name: round(value, 5) for name, value in small.trimmed.items()})
small.export(options.out, format="litert", inputs="text", quantize="int8", max_length=64, overwrite=True)
print(f"{options.out}: {pathlib.Path(options.out).stat().st_size / 1e6:.1f} MB")
