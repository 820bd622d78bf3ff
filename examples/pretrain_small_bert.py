"""BERT from nothing: a vocabulary, an encoder of 4 layers x 256 and its pretraining on BBC News, then 20-shot topics.

    python examples/pretrain_small_bert.py --articles 1000 --epochs 8 --picture pretrain_small_bert.png

Seen on two cores with other processes at work, some three minutes an epoch:

    1000 documents, 506,265 pieces; unigram entropy 6.866 nats
    held-out MLM loss by epoch: 6.948 6.721 6.618 6.520 6.476 6.452 6.436 6.432
    20 examples a topic, pretrained weights: accuracy 0.284, 0.310, 0.376
    20 examples a topic, random     weights: accuracy 0.240, 0.166, 0.242

And the longer run, with all articles, 12 epochs and `--more wikitext2_valid.txt`, an hour of CPU time
(pretrain_small_bert_long.png; what is held out, the last documents, is WikiText there, and easier):

    3287 documents, 1,371,781 pieces; unigram entropy 6.849 nats
    held-out MLM loss by epoch: 6.289 6.037 5.946 5.917 5.909 5.888 5.876 5.857 5.836 5.819 5.810 5.800
    20 examples a topic, pretrained weights: accuracy 0.376, 0.354, 0.434
    20 examples a topic, random     weights: accuracy 0.324, 0.388, 0.292
"""

import argparse

import keras
import numpy as np

import kbert
from kbert.commands.demo import read_news

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--articles", type=int, default=2225, help="how many to use")
parser.add_argument("--more", help="a text file of more documents, with blank lines between them")
parser.add_argument("--picture", help="a file for the learning curve")
options = parser.parse_args()

keras.utils.set_random_seed(0)
texts, topics = read_news()
order = np.random.default_rng(0).permutation(len(texts))[: options.articles]
texts, topics = [texts[n] for n in order], [topics[n] for n in order]
documents = [[line for line in text.split("\n") if line.strip()] for text in texts]
if options.more:
    from kbert.pretraining.sentence_pairs import read_documents

    documents += list(read_documents([options.more]))

tokenizer = kbert.WordPieceTokenizer.learn(
    [line for lines in documents for line in lines], vocabulary_size=8000, progress=False
)
sizes = {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}
config = kbert.BertConfig(vocab_size=tokenizer.vocabulary_size, max_position_embeddings=128, **sizes)
task = kbert.Pretrainer(kbert.BertEncoder(config), kbert.TextPreprocessor(tokenizer, max_length=128))
task.compile(learning_rate=1e-3)

counts = np.bincount(tokenizer([line for lines in documents for line in lines]).values)
shares = counts[counts > 0] / counts.sum()
print(f"{len(documents)} documents, {counts.sum():,} pieces; unigram entropy {-(shares * np.log(shares)).sum():.3f} nats")
history = task.fit(documents, validation_split=0.05, epochs=options.epochs, verbose=2).history
print("held-out MLM loss by epoch:", *(f"{loss:.3f}" for loss in history["val_mlm_logits_loss"]))

if options.picture:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    for name in ("mlm_logits_loss", "val_mlm_logits_loss"):
        axes.plot(range(1, options.epochs + 1), history[name], "o-", label=name)
    axes.set_xlabel("epoch")
    axes.legend()
    figure.savefig(options.picture)

task.save_to_preset("small_bert")
labels = sorted(set(topics))
shots = [n for label in labels for n in [n for n, topic in enumerate(topics) if topic == label][:20]]
rest = [n for n in range(len(texts)) if n not in set(shots)][:500]
for name in ("pretrained", "random"):
    accuracies = []
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        encoder = kbert.BertEncoder.from_preset("small_bert") if name == "pretrained" else kbert.BertEncoder(config)
        classifier = kbert.TextClassifier(encoder, kbert.TextPreprocessor(tokenizer, max_length=128), labels=labels)
        classifier.compile(learning_rate=3e-4)
        classifier.fit([texts[n] for n in shots], [topics[n] for n in shots], epochs=10, batch_size=16, verbose=0)
        scores = classifier.evaluate([texts[n] for n in rest], [topics[n] for n in rest], return_dict=True, verbose=0)
        accuracies.append(scores["accuracy"])
    print(f"20 examples a topic, {name:10} weights: accuracy " + ", ".join(f"{accuracy:.3f}" for accuracy in accuracies))
