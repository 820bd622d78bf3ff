"""The published ways of making BERT smaller, as data: which losses, in which order.

>>> print(tinybert.source)
Jiao et al. 2020, TinyBERT: Distilling BERT for Natural Language Understanding, sections 3.1 and 3.2
>>> [stage.name for stage in tinybert.stages]
['general', 'layers', 'answers']
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from kbert.distillation.augmentation import augment
from kbert.distillation.distiller import Distiller
from kbert.tasks.task import Task

__all__ = ["Recipe", "Stage", "augment", "distilbert", "mobilebert", "recipes", "task", "tinybert"]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training of a recipe."""

    name: str
    losses: dict[str, Any]  # the arguments of `Distiller`
    labels: bool = True  # whether the training uses labels
    by_layer: bool = False  # whether there is a training for each of the student's layers, from the first to the last
    on_plain_texts: bool = False  # whether the stage is skipped if no texts are given for it by name


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Stages of distillation, which are run one after the other.

    >>> student = kbert.distillation.recipes.tinybert.run(teacher, texts, labels, num_hidden_layers=3)  # doctest: +SKIP
    """

    name: str
    source: str  # the paper
    stages: tuple[Stage, ...]
    copied: str = "uniform"  # which of the teacher's layers the student begins with: "uniform" or "every other"

    def make_student(self, teacher: Task, num_hidden_layers: int) -> Task:
        """Returns a student that begins with some of the teacher's layers.

        Args:
          teacher: a trained task.
          num_hidden_layers: how many layers the student has.
        """
        count = teacher.encoder.config.num_hidden_layers
        layers: str | list[int] = "uniform"
        if self.copied == "every other" and isinstance(num_hidden_layers, int) and 1 <= num_hidden_layers <= count:
            layers = [place * count // num_hidden_layers for place in range(num_hidden_layers)]
        return teacher.make_student(num_hidden_layers=num_hidden_layers, layers=layers)

    def run(
        self,
        teacher: Task,
        x: Any,
        y: Any = None,
        *,
        student: Task | None = None,
        num_hidden_layers: int | None = None,
        epochs: int | dict[str, int] = 3,
        learning_rate: float = 5e-5,
        stage_data: dict[str, Any] | None = None,
        cache: str | pathlib.Path | None = None,
        **kwargs: Any,
    ) -> Task:
        """Trains a student by all stages.

        Args:
          teacher: a trained task.
          x: texts, as the student's own `fit` takes them.
          y: a label for each text, or None for texts without labels.
          student: the task to train; by default `make_student(teacher, num_hidden_layers)`.
          num_hidden_layers: how many layers a student has that is made here.
          epochs: epochs of each stage, a number or a dictionary by the stage's name. A stage that the dictionary lacks has one.
          learning_rate: the peak of each stage's learning rate.
          stage_data: texts of their own for some stages, a dictionary by the stage's name. TinyBERT's first stage is skipped
            without them: `{"general": plain_texts}`.
          cache: a folder for the teacher's outputs and layers. Each stage has a folder in it; see `Distiller.fit`.
          **kwargs: the other arguments of `Distiller.fit`.

        Returns:
          The student.

        Raises:
          ValueError: there is neither a student nor a number of layers, or no stage of a name that is given.
        """
        if student is None:
            if num_hidden_layers is None:
                raise ValueError("give a student, or num_hidden_layers of one to make")
            student = self.make_student(teacher, num_hidden_layers)
        stage_data = stage_data or {}
        self._check_names({*stage_data, *(epochs if isinstance(epochs, dict) else ())})
        for stage in self.stages:
            has_texts = stage.name in stage_data
            if stage.on_plain_texts and not has_texts:
                continue
            texts, labels = (stage_data[stage.name], None) if has_texts else (x, y if stage.labels else None)
            limits: list[dict[str, Any]] = (
                [{"layers": [n]} for n in range(student.encoder.config.num_hidden_layers)] if stage.by_layer else [{}]
            )
            for limit in limits:
                distiller = Distiller(teacher, student, **stage.losses, **limit)
                distiller.compile(learning_rate=learning_rate)
                distiller.fit(
                    texts,
                    labels,
                    epochs=epochs.get(stage.name, 1) if isinstance(epochs, dict) else epochs,
                    cache=cache_folder(cache, stage, limit.get("layers", [])),
                    **kwargs,
                )
        return student

    def _check_names(self, names: set[str]) -> None:
        """Raises ValueError if there is no stage of one of the names."""
        stages = [stage.name for stage in self.stages]
        unknown = sorted(names - set(stages))
        if unknown:
            raise ValueError(f"the recipe {self.name} has no stage {unknown[0]!r}; its stages are {stages}")


def cache_folder(cache: str | pathlib.Path | None, stage: Stage, layers: list[int]) -> pathlib.Path | None:
    """Returns the folder in `cache` of one training, such as `layers-0`; None if there is no cache.

    Args:
      cache: the folder of all stages, or None.
      stage: the training's stage.
      layers: the student's layers to which the training is limited; empty for all.
    """
    return None if cache is None else pathlib.Path(cache) / "-".join([stage.name, *map(str, layers)])


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
