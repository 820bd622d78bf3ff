"""Turns a classifier's folder from one layout into another, and shows that nothing changed.

    python examples/convert_checkpoint.py FROM TO --layout google --labels ham spam

FROM is anything that `from_preset` opens: a Hugging Face folder, Google's TF1 folder, a KerasHub preset folder,
`hf://owner/name`, or a built-in name. Google's and KerasHub's layouts do not hold the labels' names: give them when you read
those.

Seen with a folder that `save_to_preset` had written, to Google's layout:

    81 of 81 weights are the same to the bit; largest difference of the logits 0.0e+00
"""

import argparse

import numpy as np

import kbert

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("source")
parser.add_argument("target")
parser.add_argument("--layout", choices=["huggingface", "google", "keras_hub"], default="huggingface")
parser.add_argument("--labels", nargs="+", help="the names of the classes, where the source does not say")
options = parser.parse_args()

before = kbert.TextClassifier.from_preset(options.source, labels=options.labels)
before.save_to_preset(options.target, layout=options.layout)
after = kbert.TextClassifier.from_preset(options.target, labels=before.labels)

weights = [[variable.numpy() for variable in task.trainable_variables] for task in (before, after)]
same = sum(np.array_equal(a, b) for a, b in zip(*weights))
texts = ["Shares fell after the bank's warning.", "Élan vital: naïve café", ""]
difference = np.abs(before.predict(texts) - after.predict(texts)).max()  # not 0 where KerasHub's GELU is another
print(f"{same} of {len(weights[0])} weights are the same to the bit; largest difference of the logits {difference:.1e}")
