"""The published ways of making BERT smaller, as data: which losses, in which order.

>>> print(tinybert.source)
Jiao et al. 2020, TinyBERT: Distilling BERT for Natural Language Understanding, sections 3.1 and 3.2
>>> [stage.name for stage in tinybert.stages]
['general', 'layers', 'answers']
"""

import dataclasses
import pathlib

import keras
import numpy as np

from kbert.distillation.distiller import Distiller
from kbert.text.texts import text_list


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training of a recipe."""

    name: str
    losses: dict  # the arguments of `Distiller`
    labels: bool = True  # whether it has a use for labels
    by_layer: bool = False  # once for each of the student's layers, from the first to the last
    on_plain_texts: bool = False  # left out where no texts are given for it


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Stages of distillation, to be run one after the other.

    >>> student = kbert.distillation.recipes.tinybert.run(teacher, texts, labels, num_hidden_layers=3)  # doctest: +SKIP
    """

    name: str
    source: str
    stages: tuple
    copied: str = "uniform"  # which of the teacher's layers the student begins with

    def make_student(self, teacher, num_hidden_layers):
        """A student with as many layers, which begins with some of the teacher's."""
        count = teacher.encoder.config.num_hidden_layers
        if self.copied != "every other" or not isinstance(num_hidden_layers, int) or not 1 <= num_hidden_layers <= count:
            layers = "uniform"
        else:
            layers = [place * count // num_hidden_layers for place in range(num_hidden_layers)]
        return teacher.make_student(num_hidden_layers=num_hidden_layers, layers=layers)

    def run(
        self,
        teacher,
        x,
        y=None,
        *,
        student=None,
        num_hidden_layers=None,
        epochs=3,
        learning_rate=5e-5,
        stage_data=None,
        cache=None,
        **kwargs,
    ):
        """Trains a student by all stages.

        Args:
          teacher: a trained task.
          x, y: texts and, where there are, labels, as of `Distiller.fit`.
          student: a task to train; by default `make_student(teacher, num_hidden_layers)`.
          epochs: of each stage, a number or a dictionary by the stage's name.
          learning_rate: the peak of each stage.
          stage_data: other texts for some stages, e.g. `{"general": plain_texts}` for TinyBERT's first one, which is left out without them: a
            dictionary from a stage's name to texts.
          cache: a folder for what the teacher says in each stage, as of `Distiller.fit`.
          **kwargs: the other arguments of `Distiller.fit`.

        Returns:
          The student.
        """
        if student is None:
            if num_hidden_layers is None:
                raise ValueError("give a student, or num_hidden_layers of one to make")
            student = self.make_student(teacher, num_hidden_layers)
        unknown = sorted(
            {*(stage_data or {}), *(epochs if isinstance(epochs, dict) else ())} - {stage.name for stage in self.stages}
        )
        if unknown:
            raise ValueError(
                f"the recipe {self.name} has no stage {unknown[0]!r}; its stages are {[stage.name for stage in self.stages]}"
            )
        for stage in self.stages:
            if stage.on_plain_texts and stage.name not in (stage_data or {}):
                continue
            times = epochs.get(stage.name, 1) if isinstance(epochs, dict) else epochs
            texts, labels = (
                (stage_data[stage.name], None) if stage.name in (stage_data or {}) else (x, y if stage.labels else None)
            )
            layers = range(student.encoder.config.num_hidden_layers) if stage.by_layer else [None]
            for layer in layers:
                only = {} if layer is None else {"layers": [layer]}
                distiller = Distiller(teacher, student, **stage.losses, **only)
                distiller.compile(learning_rate=learning_rate)
                kept = (
                    None if cache is None else pathlib.Path(cache) / "-".join([stage.name, *map(str, only.get("layers", []))])
                )
                distiller.fit(texts, labels, epochs=times, cache=kept, **kwargs)
        return student


task = Recipe(
    "task",
    "Hinton et al. 2015, Distilling the Knowledge in a Neural Network, section 2",
    (Stage("answers", {"soft": 1.0, "hard": 0.5, "temperature": 2.0}),),
)

distilbert = Recipe(
    "distilbert",
    "Sanh et al. 2019, DistilBERT, section 3, and its training code's weights",
    (Stage("answers", {"soft": 5.0, "hard": 2.0, "hidden": 1.0, "hidden_loss": "cosine", "temperature": 2.0}),),
    copied="every other",
)

TINYBERT_LAYERS = {"soft": 0.0, "hard": 0.0, "hidden": 1.0, "embedding": 1.0, "attention": 1.0, "attention_loss": "scores"}
tinybert = Recipe(
    "tinybert",
    "Jiao et al. 2020, TinyBERT: Distilling BERT for Natural Language Understanding, sections 3.1 and 3.2",
    (
        Stage("general", TINYBERT_LAYERS, labels=False, on_plain_texts=True),
        Stage("layers", TINYBERT_LAYERS, labels=False),
        Stage("answers", {"soft": 1.0, "hard": 0.0, "temperature": 1.0}),
    ),
)

mobilebert = Recipe(
    "mobilebert",
    "Sun et al. 2020, MobileBERT, sections 3.3 and 3.4: knowledge is transferred layer by layer, then the answers",
    (
        Stage(
            "layers",
            {"soft": 0.0, "hard": 0.0, "hidden": 1.0, "attention": 1.0, "attention_loss": "kl"},
            labels=False,
            by_layer=True,
        ),
        Stage("answers", {"soft": 1.0, "hard": 1.0, "temperature": 1.0}),
    ),
)

recipes = {recipe.name: recipe for recipe in (task, distilbert, tinybert, mobilebert)}


def augment(texts, masked_lm, copies=3, share=0.4, top_k=15):
    """More texts like the given ones: words replaced by what a masked LM would put there (Jiao et al. 2020, section 3.2 and algorithm 1).

    >>> more = augment(texts, kbert.MaskedLM.from_preset("bert-base-uncased"))  # doctest: +SKIP

    Args:
      texts: a list of texts.
      masked_lm: a `MaskedLM`.
      copies: of each text.
      share: the chance of a word of one piece to be replaced.
      top_k: among how many of the likeliest words the new one is drawn.

    Returns:
      A list of `copies` texts for each text, in the order of the texts, without their labels.
    """
    tokenizer = masked_lm.tokenizer
    random = np.random.default_rng(keras.random.SeedGenerator().state.numpy()[0])
    ids = tokenizer(text_list(texts))
    starts_word = np.array([not token.startswith("##") for token in tokenizer.vocabulary])
    special = {tokenizer.token_to_id(token) for token in tokenizer.special_tokens}
    answers = []
    for pieces in ids:
        pieces = pieces.numpy()[: masked_lm.preprocessor.max_length - 2]
        whole = [
            place for place, piece in enumerate(pieces)
            if starts_word[piece] and piece not in special and (place + 1 == len(pieces) or starts_word[pieces[place + 1]])
        ]  # fmt: skip
        row = np.concatenate([[tokenizer.cls_token_id], pieces, [tokenizer.sep_token_id]]).astype(np.int32)
        hidden = [np.where(np.arange(len(row)) == place + 1, tokenizer.mask_token_id, row).astype(np.int32) for place in whole]
        likely = {}
        for place, logs in zip(whole, masked_lm._log_probabilities(hidden, [np.array([place + 1]) for place in whole])):
            order = [
                token for token in np.argsort(-logs[0])[: top_k + len(special)] if starts_word[token] and token not in special
            ]
            likely[place] = order[:top_k]
        for _ in range(copies):
            copy = pieces.copy()
            for place in whole:
                if likely[place] and random.random() < share:
                    copy[place] = random.choice(likely[place])
            answers.append(copy)
    return (
        [text.decode("utf-8") for text in tokenizer.detokenize([copy.tolist() for copy in answers]).numpy()] if answers else []
    )
