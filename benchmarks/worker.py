"""One library at work, in a process of its own: reads jobs from standard input as JSON, a line each, and answers with seconds.

    python benchmarks/worker.py kbert MODEL_FOLDER THREADS

A job: {"job": name, ...}. `load` readies it (and warms up), `run` does it once. Only one worker works at a time; the others
wait on their input. The libraries: kbert, transformers, onnxruntime, sentence_transformers, keras_hub.
"""

import json
import os
import sys
import time

PRETRAIN = {"vocab": 8000, "layers": 4, "width": 256, "heads": 4, "batch": 32, "length": 128, "masks": 19}


def pretrain_sizes():
    """The sizes of the encoder that is pretrained, by the names that kbert and transformers share."""
    return {
        "vocab_size": PRETRAIN["vocab"],
        "hidden_size": PRETRAIN["width"],
        "num_hidden_layers": PRETRAIN["layers"],
        "num_attention_heads": PRETRAIN["heads"],
        "intermediate_size": 4 * PRETRAIN["width"],
        "max_position_embeddings": PRETRAIN["length"],
    }


def pretraining_batch(seed=0):
    """Random ids of full length, their masks, and what the masks hide."""
    import numpy as np

    random, p = np.random.default_rng(seed), PRETRAIN
    ids = random.integers(5, p["vocab"], (p["batch"], p["length"]))
    positions = np.sort(np.argsort(random.random(ids.shape), 1)[:, : p["masks"]], 1)
    hidden = np.take_along_axis(ids, positions, 1)
    np.put_along_axis(ids, positions, 4, 1)
    return ids.astype("int32"), positions.astype("int32"), hidden.astype("int32")


def sorted_batches(texts, size):
    """Texts of similar length in batches, as someone who knows that it matters would do by hand."""
    order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
    return [[texts[place] for place in order[start : start + size]] for start in range(0, len(order), size)]


def in_batches(texts, size):
    return [texts[start : start + size] for start in range(0, len(texts), size)]


class Kbert:
    def __init__(self, folder, threads):
        import tensorflow as tf

        import kbert

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        self.tf, self.kbert, self.folder = tf, kbert, folder
        self.embedder = kbert.TextEmbedder.from_preset(folder, pooling="cls", normalize=False, max_length=512)
        self.frozen = self.embedder.freeze(threads)
        self.classifier = kbert.TextClassifier.from_preset(folder, labels=["a", "b"], max_length=512)
        self.frozen_classifier = self.classifier.freeze(threads)

    def vectors(self, texts, how):
        (self.frozen if how == "frozen" else self.embedder).embed(texts, verbose=0)

    def one(self, text, how):
        (self.frozen_classifier if how == "frozen" else self.classifier).classify([text], verbose=0)

    def encoder(self, batch, length, how):
        import numpy as np

        ids = np.random.default_rng(0).integers(1000, 30000, (batch, length)).astype("int32")
        if how == "frozen":
            if not hasattr(self, "whole"):
                # Every position's vector, as the peers give it.
                task = self.kbert.TokenClassifier(self.embedder.encoder, self.embedder.preprocessor, labels=["a", "b"])
                self.whole = task.freeze(self.frozen._threads)
            rows = [[place] for place in range(batch)]
            steps = [rows[start : start + 8] for start in range(0, batch, 8)] if batch % 8 == 0 else [[row] for row in rows]
            return lambda: [self.whole._run(step, ids, 0 * ids) for step in steps]
        if not hasattr(self, "forward"):
            encoder = self.embedder.encoder
            self.forward = self.tf.function(lambda inputs: encoder(inputs)["sequence_output"])
        self.embedder.encoder.real_tokens = False  # nothing is padded here
        inputs = {"token_ids": self.tf.constant(ids)}
        return lambda: self.forward(inputs).numpy()

    def finetune(self, texts, labels, epochs, max_length, seed=0):
        """Seconds to the first finished step and of the steps after it, and the tokens of those."""
        import keras

        keras.utils.set_random_seed(seed)
        task = self.kbert.TextClassifier.from_preset(self.folder, labels=sorted(set(labels)), max_length=max_length)

        class Clock(keras.callbacks.Callback):
            times = []

            def on_train_batch_end(self, batch, logs=None):
                self.times.append(time.perf_counter())

        clock = Clock()
        clock.times = []
        task.compile(learning_rate=1e-4)
        started = time.perf_counter()
        task.fit(texts, labels, epochs=epochs, batch_size=32, verbose=0, callbacks=[clock])
        tokens = int(sum(task.tokenizer(texts).row_lengths().numpy() + 2)) * epochs
        self.trained = task
        first = clock.times[0] - started
        share = (len(clock.times) - 1) / len(clock.times)
        return {"first": first, "steady": clock.times[-1] - clock.times[0], "tokens": tokens * share}

    def pretrain(self, steps, how):
        """Seconds of steps of both heads, after the first."""
        import numpy as np

        tf = self.tf
        config = self.kbert.BertConfig(**pretrain_sizes())
        task = self.kbert.Pretrainer(self.kbert.BertEncoder(config))
        ids, positions, hidden = pretraining_batch()
        inputs = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1, "mask_positions": positions}
        labels = {"mlm_logits": hidden, "nsp_logits": np.arange(len(ids), dtype="int32") % 2}
        data = tf.data.Dataset.from_tensors((inputs, labels)).repeat(steps + 2)
        times = []

        import keras

        clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: times.append(time.perf_counter()))
        task.fit(data.apply(tf.data.experimental.assert_cardinality(steps + 2)), verbose=0, callbacks=[clock])
        return times[-1] - times[1]

    def accuracy(self, texts, labels):
        return sum(a["label"] == label for a, label in zip(self.trained.classify(texts, verbose=0), labels)) / len(labels)


class Transformers:
    def __init__(self, folder, threads):
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        torch.set_num_threads(threads)
        self.torch, self.transformers, self.folder = torch, transformers, folder
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()
        self.classifier = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).eval()

    def _inputs(self, texts):
        return self.tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")

    def vectors(self, texts, how):
        with self.torch.inference_mode():
            for batch in (sorted_batches if how == "sorted" else in_batches)(texts, 32):
                self.model(**self._inputs(batch)).last_hidden_state[:, 0].numpy()

    def one(self, text, how):
        with self.torch.inference_mode():
            self.classifier(**self._inputs([text])).logits.softmax(-1).numpy()

    def encoder(self, batch, length, how):
        ids = self.torch.randint(1000, 30000, (batch, length))
        mask = self.torch.ones_like(ids)

        def run():
            with self.torch.inference_mode():
                self.model(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()

        return run

    def finetune(self, texts, labels, epochs, max_length, seed=0):
        torch = self.torch
        torch.manual_seed(seed)
        names = sorted(set(labels))
        model = self.transformers.AutoModelForSequenceClassification.from_pretrained(self.folder, num_labels=len(names)).train()
        decayed = [p for n, p in model.named_parameters() if not n.endswith("bias") and "LayerNorm" not in n]
        others = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=1e-4, eps=1e-6
        )
        steps = epochs * -(-len(texts) // 32)
        schedule = self.transformers.get_linear_schedule_with_warmup(optimizer, max(1, round(0.1 * steps)), steps)
        started, times, tokens, generator = time.perf_counter(), [], 0, torch.Generator().manual_seed(seed)
        for _ in range(epochs):
            order = torch.randperm(len(texts), generator=generator).tolist()
            for places in in_batches(order, 32):
                batch = self.tokenizer(
                    [texts[p] for p in places], padding=True, truncation=True, max_length=max_length, return_tensors="pt"
                )
                loss = model(**batch, labels=torch.tensor([names.index(labels[p]) for p in places])).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                times.append(time.perf_counter())
                tokens += int(batch["attention_mask"].sum()) if len(times) > 1 else 0
        self.trained, self.names = model.eval(), names
        return {"first": times[0] - started, "steady": times[-1] - times[0], "tokens": tokens}

    def pretrain(self, steps, how):
        torch = self.torch
        config = self.transformers.BertConfig(**pretrain_sizes())
        model = self.transformers.BertForPreTraining(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        ids, positions, hidden = (torch.tensor(part).long() for part in pretraining_batch())
        labels = torch.full_like(ids, -100).scatter(1, positions, hidden)
        following, times = torch.arange(len(ids)) % 2, []
        for _ in range(steps + 2):
            model(input_ids=ids, labels=labels, next_sentence_label=following).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter())
        return times[-1] - times[1]

    def accuracy(self, texts, labels):
        right = 0
        with self.torch.inference_mode():
            for start in range(0, len(texts), 32):
                answers = self.trained(**self._inputs(texts[start : start + 32])).logits.argmax(-1).tolist()
                right += sum(self.names[a] == label for a, label in zip(answers, labels[start : start + 32]))
        return right / len(labels)


class OnnxRuntime(Transformers):
    def __init__(self, folder, threads):
        super().__init__(folder, threads)
        import tempfile

        import onnxruntime
        from onnxruntime.transformers import optimizer

        class Whole(self.torch.nn.Module):
            def __init__(self, model):
                super().__init__()
                self.model = model

            def forward(self, ids, mask, types):
                return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state

        model = self.transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
        names = ["input_ids", "attention_mask", "token_type_ids"]
        with tempfile.TemporaryDirectory() as room:
            self.torch.onnx.export(
                Whole(model),
                (self.torch.ones(2, 16, dtype=self.torch.long),) * 3,
                f"{room}/model.onnx",
                input_names=names,
                output_names=["vectors"],
                opset_version=17,
                dynamo=False,
                dynamic_axes={name: {0: "batch", 1: "length"} for name in (*names, "vectors")},
            )
            heads, width = model.config.num_attention_heads, model.config.hidden_size
            fused = optimizer.optimize_model(f"{room}/model.onnx", model_type="bert", num_heads=heads, hidden_size=width)
            fused.save_model_to_file(f"{room}/fused.onnx")
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            self.session = onnxruntime.InferenceSession(f"{room}/fused.onnx", options, providers=["CPUExecutionProvider"])

    def _answer(self, texts):
        inputs = self.tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="np")
        return self.session.run(None, {name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids")})[0]

    def vectors(self, texts, how):
        for batch in (sorted_batches if how == "sorted" else in_batches)(texts, 32):
            self._answer(batch)[:, 0]

    def one(self, text, how):
        self._answer([text])[:, 0]

    def encoder(self, batch, length, how):
        ids = self.torch.randint(1000, 30000, (batch, length)).numpy()
        inputs = {"input_ids": ids, "attention_mask": 0 * ids + 1, "token_type_ids": 0 * ids}
        return lambda: self.session.run(None, inputs)


class SentenceTransformers:
    def __init__(self, folder, threads):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.model = SentenceTransformer(folder, device="cpu")
        self.model.max_seq_length = 512

    def vectors(self, texts, how):
        self.model.encode(texts, batch_size=32, show_progress_bar=False)

    def one(self, text, how):
        self.model.encode([text], show_progress_bar=False)


class KerasHub:
    def __init__(self, folder, threads):
        import keras_hub
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        self.hub = keras_hub
        self.backbone = keras_hub.models.BertBackbone.from_preset(folder)
        with open(os.path.join(folder, "vocab.txt"), encoding="utf-8") as file:
            vocabulary = file.read().splitlines()
        self.tokenizer = keras_hub.models.BertTokenizer(vocabulary, lowercase=True)

    def _make(self, length, classes=2):
        preprocessor = self.hub.models.BertTextClassifierPreprocessor(self.tokenizer, sequence_length=length)
        return self.hub.models.BertTextClassifier(self.backbone, num_classes=classes, preprocessor=preprocessor)

    def vectors(self, texts, how):
        # Its own length is 512 whatever the texts; `how` is a length that a user who knows the texts would choose.
        length = int(how or 512)
        if not hasattr(self, f"model_{length}"):
            setattr(self, f"model_{length}", self._make(length))
        getattr(self, f"model_{length}").predict(texts, batch_size=32, verbose=0)

    def one(self, text, how):
        self.vectors([text], 64)

    def pretrain(self, steps, how):
        """Its masked LM; it has no next-sentence head."""
        import keras
        import tensorflow as tf

        p = PRETRAIN
        backbone = self.hub.models.BertBackbone(
            vocabulary_size=p["vocab"],
            num_layers=p["layers"],
            num_heads=p["heads"],
            hidden_dim=p["width"],
            intermediate_dim=4 * p["width"],
            max_sequence_length=128,
        )
        model = self.hub.models.BertMaskedLM(backbone, preprocessor=None)
        ids, positions, hidden = pretraining_batch()
        inputs = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1, "mask_positions": positions}
        data, times = tf.data.Dataset.from_tensors((inputs, hidden)).repeat(steps + 2), []
        clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: times.append(time.perf_counter()))
        model.compile(
            keras.optimizers.AdamW(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
        )
        model.fit(data, verbose=0, callbacks=[clock])
        return times[-1] - times[1]

    def finetune(self, texts, labels, epochs, max_length, seed=0):
        import keras

        keras.utils.set_random_seed(seed)
        names = sorted(set(labels))
        model = self._make(max_length, len(names))
        times = []
        clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: times.append(time.perf_counter()))
        started = time.perf_counter()
        model.fit(texts, [names.index(label) for label in labels], epochs=epochs, batch_size=32, verbose=0, callbacks=[clock])
        tokens = sum(len(ids) + 2 for ids in self.tokenizer(texts)) * epochs
        share = (len(times) - 1) / len(times)
        return {"first": times[0] - started, "steady": times[-1] - times[0], "tokens": tokens * share}


LIBRARIES = {
    "kbert": Kbert, "transformers": Transformers, "onnxruntime": OnnxRuntime,
    "sentence_transformers": SentenceTransformers, "keras_hub": KerasHub,
}  # fmt: skip


def seconds(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main():
    library, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print
    worker, encoders = LIBRARIES[library](folder, threads), {}
    print(json.dumps({"ready": library}), file=answers, flush=True)
    for line in sys.stdin:
        answer = do(json.loads(line), worker, encoders)
        print(json.dumps(answer), file=answers, flush=True)


def do(job, worker, encoders):
    """One job to its answer."""
    kind = job.pop("job")
    if kind == "one":
        return [seconds(lambda text=text: worker.one(text, job["how"])) for text in job["texts"]]
    if kind == "encoder":
        key = job["batch"], job["length"], job["how"]
        if key not in encoders:
            encoders[key] = worker.encoder(*key)
            encoders[key]()
        once = seconds(encoders[key])  # the caches are another library's until then
        return [seconds(encoders[key]) for _ in range(max(1, min(30, int(0.5 / once))))]
    work = getattr(worker, kind)
    if kind == "pretrain":
        return work(**job)
    return work(**job) if kind in ("finetune", "accuracy") else seconds(lambda: work(**job))


if __name__ == "__main__":
    main()
