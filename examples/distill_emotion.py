"""A fine-tuned MiniLM as the teacher of students of 3, 2 and 1 layers: what each is worth, and how fast.

    python examples/distill_emotion.py twitter_emotion.csv --tweets 6000

Seen on two cores, MiniLM (times with two other processes at work):

                                accuracy  parameters  int8 .tflite (text), MB  one text, ms
    teacher, 6 layers             0.9058  22715526.0                     25.7          5.23
    student, 3 layers             0.9083  17392134.0                     20.2          2.70
    student, 2 layers             0.9108  15617670.0                     18.3          1.06
    student, 1 layers             0.8808  13843206.0                     16.5          0.39
    3 layers, fine-tuned alone    0.9175  17392134.0                     20.2          2.08
    {'tokens': 8000, 'tokens_before': 30522, 'unknown': 0.0, 'unknown_before': 0.0}
    student.tflite: 10.6 MB
"""

import argparse
import pathlib

import keras
import pandas as pd

import kbert
from kbert.distillation import recipes
from kbert.finetune import worth_of

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
worth = {name: worth_of("classification", task, test, test[0][0]) for name, task in tasks.items()}
print(pd.DataFrame(worth).T.to_string())

small = tasks["student, 3 layers"].trim_vocabulary(texts, size=8000)
print({name: round(value, 5) for name, value in small.trimmed.items()})
small.export(options.out, format="litert", inputs="text", quantize="int8", max_length=64, overwrite=True)
print(f"{options.out}: {pathlib.Path(options.out).stat().st_size / 1e6:.1f} MB")
