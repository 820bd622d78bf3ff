"""kbert's accuracy beside transformers': the same data, settings and seeds, scored by the same code.

    python benchmarks/accuracy.py [--only emotion spam restaurant squad] [--seeds 0 1 2]

Needs the data of ../shared/data and `make peers`. A run takes minutes, so each is kept in `benchmarks/accuracy.jsonl` as it
ends, and what stands there is not run again. The table goes to `benchmarks/ACCURACY.md`.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
DATA = ROOT.parent / "shared" / "data"
KEPT, TABLE = HERE / "accuracy.jsonl", HERE / "ACCURACY.md"
SETTINGS = {
    "emotion": {"epochs": 3, "learning_rate": 1e-4, "batch_size": 32, "max_length": 128},
    "spam": {"epochs": 3, "learning_rate": 1e-4, "batch_size": 32, "max_length": 128},
    "restaurant": {"epochs": 3, "learning_rate": 2e-4, "batch_size": 32, "max_length": 64},
    "squad": {"epochs": 1, "learning_rate": 2e-4, "batch_size": 16, "max_length": 256, "stride": 64},
}
WHAT = {
    "emotion": "twitter_emotion, 80/20, 3 epochs: accuracy (macro-F1)",
    "spam": "sms_spam, 80/20, 3 epochs: F1 of spam",
    "restaurant": "mit_restaurant, 3 epochs: F1 of entities",
    "squad": "squad_train_4k, 1 epoch, on xquad.en: F1 (exact match)",
}


# The data, in the driver's process


def data_of(job, seed):
    """A dictionary of `train` and `test`, each with columns."""
    import numpy as np
    import pandas as pd

    import kbert

    def shares(texts, labels):
        order = np.random.default_rng(seed).permutation(len(texts))
        cut = round(0.8 * len(order))
        return {
            name: {"texts": [texts[n] for n in rows], "labels": [labels[n] for n in rows]}
            for name, rows in (("train", order[:cut]), ("test", order[cut:]))
        }

    if job == "emotion":
        table = pd.read_csv(DATA / "twitter_emotion.csv")
        return shares(table["text"].tolist(), table["label_name"].tolist())
    if job == "spam":
        table = pd.read_csv(DATA / "sms_spam.tsv", sep="\t", quoting=3)  # a quotation mark is a character
        return shares(table["message"].tolist(), table["label"].tolist())
    if job == "restaurant":
        parts = {name: kbert.read_bio(DATA / "mit_restaurant" / f"{name}.bio") for name in ("train", "test")}
        return {name: {"texts": words, "labels": tags} for name, (words, tags) in parts.items()}
    parts = {
        "train": kbert.read_squad(DATA / "squad_train_4k.json"),
        "test": kbert.read_squad(DATA / "xquad" / "xquad.en.json"),
    }
    return parts


def score(job, test, answers):
    """The main figure, and the one in brackets."""
    from kbert.scoring.entities import entity_scores
    from kbert.scoring.squad import squad_scores

    if job.startswith("squad"):
        scores = squad_scores(answers, test["answers"])
        return scores["f1"], scores["exact_match"]
    if job == "restaurant":
        return 100 * entity_scores(test["labels"], answers)["f1"], None
    from sklearn.metrics import f1_score

    if job == "spam":
        return 100 * f1_score(test["labels"], answers, pos_label="spam"), None
    right = sum(answer == label for answer, label in zip(answers, test["labels"]))
    return 100 * right / len(answers), 100 * f1_score(test["labels"], answers, average="macro")


# Training, in a process of the library's environment


def with_kbert(job, seed, folder, train, test, epochs, learning_rate, batch_size, max_length, stride=None):
    import keras

    import kbert

    keras.utils.set_random_seed(seed)
    if job.startswith("squad"):
        task = kbert.QuestionAnswerer.from_preset(folder, max_length=max_length, window_stride=stride)
        columns, targets = (train["question"], train["context"]), train["answers"]
    else:
        cls = kbert.TokenClassifier if job == "restaurant" else kbert.TextClassifier
        task = cls.from_preset(folder, labels=names_of(job, train["labels"]), max_length=max_length)
        columns, targets = train["texts"], train["labels"]
    task.compile(learning_rate=learning_rate)
    task.fit(columns, targets, epochs=epochs, batch_size=batch_size, verbose=0)
    if job.startswith("squad"):
        return [answer["text"] for answer in task.answer(test["question"], test["context"])]
    if job == "restaurant":
        return task.predict(test["texts"])
    return [answer["label"] for answer in task.classify(test["texts"])]


def names_of(job, labels):
    if job == "restaurant":
        return ["O", *sorted({tag for tags in labels for tag in tags} - {"O"})]
    return sorted(set(labels))


def with_transformers(job, seed, folder, train, test, epochs, learning_rate, batch_size, max_length, stride=None):
    """Trains by the same recipe as kbert's default, written with torch.

    The recipe is AdamW without decay on biases and norms, with warm-up, linear decay and clipping.
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.manual_seed(seed)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if job.startswith("squad"):
        model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder)
        examples = squad_windows(tokenizer, train, max_length, stride)
    elif job == "restaurant":
        names = names_of(job, train["labels"])
        model = transformers.AutoModelForTokenClassification.from_pretrained(folder, num_labels=len(names))
        examples = word_rows(tokenizer, train["texts"], max_length, train["labels"], names)
    else:
        names = names_of(job, train["labels"])
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(names))
        rows = tokenizer(train["texts"], truncation=True, max_length=max_length)
        examples = [
            {"input_ids": ids, "token_type_ids": [0] * len(ids), "labels": names.index(label)}
            for ids, label in zip(rows["input_ids"], train["labels"])
        ]

    def batch(rows):
        longest = max(len(row["input_ids"]) for row in rows)
        inputs = {}
        for key in rows[0]:
            if key.startswith("_"):
                continue
            values = [row[key] for row in rows]
            if isinstance(values[0], list):
                fill = -100 if key == "labels" else 0
                values = [value + [fill] * (longest - len(value)) for value in values]
            inputs[key] = torch.tensor(values)
        inputs["attention_mask"] = torch.tensor(
            [[1] * len(r["input_ids"]) + [0] * (longest - len(r["input_ids"])) for r in rows]
        )
        return inputs

    decayed = [p for n, p in model.named_parameters() if not n.endswith("bias") and "LayerNorm" not in n]
    others = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, eps=1e-6)
    steps = epochs * -(-len(examples) // batch_size)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, max(1, round(0.1 * steps)), steps)
    model.train()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(examples), generator=generator).tolist()
        # Similar lengths together, as kbert's batches: it is the accuracy that is compared.
        windows = [order[start : start + 20 * batch_size] for start in range(0, len(order), 20 * batch_size)]
        batches = []
        for window in windows:
            window.sort(key=lambda place: len(examples[place]["input_ids"]))
            batches += [window[start : start + batch_size] for start in range(0, len(window), batch_size)]
        for number in torch.randperm(len(batches), generator=generator).tolist():
            model(**batch([examples[place] for place in batches[number]])).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    model.eval()

    def outputs(rows):
        with torch.inference_mode():
            for start in range(0, len(rows), 32):
                yield rows[start : start + 32], model(**batch(rows[start : start + 32]))

    if job.startswith("squad"):
        return squad_answers(outputs(squad_windows(tokenizer, test, max_length, stride, answers=False)), test["context"])
    if job == "restaurant":
        rows, found = word_rows(tokenizer, test["texts"], max_length), []
        for some, output in outputs(rows):
            best = output.logits.argmax(-1).tolist()
            found += [[names[line[place]] for place in row["_first"]] for row, line in zip(some, best)]
        return found
    rows = tokenizer(test["texts"], truncation=True, max_length=max_length)["input_ids"]
    rows = [{"input_ids": ids, "token_type_ids": [0] * len(ids)} for ids in rows]
    return [names[n] for _, output in outputs(rows) for n in output.logits.argmax(-1).tolist()]


def word_rows(tokenizer, sentences, max_length, tags=None, names=None):
    """Words with the label at each one's first piece."""
    rows = []
    for number, words in enumerate(sentences):
        read = tokenizer(words, is_split_into_words=True, truncation=True, max_length=max_length)
        of_piece = read.word_ids()
        first = [
            place for place, word in enumerate(of_piece) if word is not None and (place == 0 or of_piece[place - 1] != word)
        ]
        row = {"input_ids": read["input_ids"], "token_type_ids": [0] * len(of_piece), "_first": first}
        if tags is not None:
            row["labels"] = [names.index(tags[number][of_piece[n]]) if n in set(first) else -100 for n in range(len(of_piece))]
        rows.append(row)
    return rows


def squad_windows(tokenizer, data, max_length, stride, answers=True):
    """Questions with windows of their contexts, and where the first answer stands; [CLS] where it does not."""
    read = tokenizer(
        data["question"],
        data["context"],
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    rows = []
    for number, example in enumerate(read["overflow_to_sample_mapping"]):
        offsets, kinds = read["offset_mapping"][number], read.sequence_ids(number)
        row = {"input_ids": read["input_ids"][number], "token_type_ids": read["token_type_ids"][number]}
        row.update(_example=example, _offsets=offsets, _kinds=kinds)
        if answers:
            answer = data["answers"][example][0]
            begin, end = answer["start"], answer["start"] + len(answer["text"])
            inside = [n for n, kind in enumerate(kinds) if kind == 1]
            at = [n for n in inside if offsets[n][1] > begin and offsets[n][0] < end]
            whole = at and offsets[inside[0]][0] <= begin and offsets[inside[-1]][1] >= end
            row["start_positions"], row["end_positions"] = (at[0], at[-1]) if whole else (0, 0)
        rows.append(row)
    return rows


def squad_answers(outputs, contexts, most=20, longest=30):
    """The best span of each question: the 20 best starts and ends of a window, as in transformers' example."""
    best = [(-1e9, "")] * len(contexts)
    for rows, output in outputs:
        for row, start, end in zip(rows, output.start_logits, output.end_logits):
            start, end = start[: len(row["input_ids"])], end[: len(row["input_ids"])]
            firsts, lasts = ([int(n) for n in logits.topk(min(most, len(logits))).indices] for logits in (start, end))
            for first in firsts:
                for last in lasts:
                    if row["_kinds"][first] == row["_kinds"][last] == 1 and first <= last < first + longest:
                        value = float(start[first] + end[last])
                        if value > best[row["_example"]][0]:
                            text = contexts[row["_example"]][row["_offsets"][first][0] : row["_offsets"][last][1]]
                            best[row["_example"]] = value, text
    return [text for _, text in best]


# The driver


def run(library, job, seed, data):
    """Trains and answers in a process of the library's environment; answers and seconds."""
    from kbert.checkpoints.opened import find_folder

    python = ROOT / (".venv" if library == "kbert" else ".venv-peers") / "bin" / "python"
    with tempfile.TemporaryDirectory() as room:
        given, found = pathlib.Path(room) / "data.json", pathlib.Path(room) / "answers.json"
        given.write_text(json.dumps({"job": job, "seed": seed, "folder": str(find_folder("all-minilm-l6-v2")), **data}))
        started = time.perf_counter()
        subprocess.run(
            [python, __file__, "--worker", library, given, found],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TOKENIZERS_PARALLELISM": "true"},
        )
        return json.loads(found.read_text()), time.perf_counter() - started


def work(library, given, found):
    data = json.loads(pathlib.Path(given).read_text())
    train = with_kbert if library == "kbert" else with_transformers
    answers = train(data["job"], data["seed"], data["folder"], data["train"], data["test"], **SETTINGS[data["job"]])
    pathlib.Path(found).write_text(json.dumps(answers))


def write_table():
    """All kept runs as a table."""
    runs = [json.loads(line) for line in KEPT.read_text().splitlines()]
    lines = ["| job | library | by seed | mean |", "|---|---|---|---|"]
    for job, what in WHAT.items():
        for library in ("kbert", "transformers"):
            some = sorted((r for r in runs if (r["job"], r["library"]) == (job, library)), key=lambda r: r["seed"])
            if not some:
                continue
            shown = [f"{r['score']:.2f}" + (f" ({r['other']:.2f})" if r["other"] is not None else "") for r in some]
            lines.append(f"| {what} | {library} | {', '.join(shown)} | {statistics.mean(r['score'] for r in some):.2f} |")
    TABLE.write_text(
        "# kbert's accuracy beside transformers'\n\n`python benchmarks/accuracy.py` writes this file: all-MiniLM-L6-v2, "
        "the same data, settings and number of epochs, both scored by the same code. Each seed has a split of its own "
        "(emotion, spam) and its own initial head and order.\n\n" + "\n".join(lines) + "\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(*options.worker)
    if not DATA.is_dir():
        parser.error(f"the data is not here: {DATA}")
    kept = [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.is_file() else []
    done = {(r["job"], r["library"], r["seed"]) for r in kept}
    for seed in options.seeds:
        for job in options.only:
            for library in ("kbert", "transformers"):
                if (job, library, seed) in done:
                    continue
                data = data_of(job, seed)
                answers, seconds = run(library, job, seed, data)
                value, other = score(job, data["test"], answers)
                line = {"job": job, "library": library, "seed": seed, "score": value, "other": other, "seconds": round(seconds)}
                with KEPT.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, flush=True)
                write_table()


if __name__ == "__main__":
    sys.exit(main())
