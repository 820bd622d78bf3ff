"""Reports: one HTML file with its pictures in it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kbert.scoring.classes import Confusion

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-bottom: 1px solid #ccc; padding: .3rem .8rem; text-align: left; }
img { max-width: 100%; }
"""


def page(title: str, *parts: str) -> str:
    """Returns a whole page.

    Args:
      title: the page's title and first heading.
      *parts: what follows, in HTML.
    """
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join((f"<h1>{html.escape(title)}</h1>", *parts))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def heading(text: str) -> str:
    """Returns a heading of the second level."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Returns a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def grid(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Returns a table.

    Args:
      head: the names of the columns.
      rows: the rows, whose cells become strings.
    """
    lines = ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
    names = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    return f"<table><tr>{names}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def picture(draw: Callable[[Any], None], what: str, size: tuple[float, float] = (5.5, 4.8)) -> str:
    """Returns an image that is in the page itself.

    Args:
      draw: a function that draws on matplotlib's axes, its argument.
      what: what the image shows, for those who cannot see it.
      size: width and height in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(figure.subplots())
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    content = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(what)}" src="data:image/png;base64,{content}">'


def confusion_picture(confusion: Confusion) -> str:
    """Returns the confusion matrix as a picture."""
    table, labels = confusion.counts, confusion.labels

    def draw(axes: Any) -> None:
        axes.imshow(table, cmap="Blues")
        axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel("answer")
        axes.set_ylabel("true class")
        for (i, j), count in np.ndenumerate(table):
            axes.text(j, i, count, ha="center", va="center", color="white" if count > table.max() / 2 else "black")

    return picture(draw, "confusion matrix", size=(max(5.5, 0.7 * len(labels)), max(4.8, 0.6 * len(labels))))


def points_picture(true: np.ndarray, answers: np.ndarray) -> str:
    """Returns a regression's answers beside the true numbers, both `[B]`, as a picture."""

    def draw(axes: Any) -> None:
        axes.scatter(true, answers, s=8)
        axes.set_xlabel("true")
        axes.set_ylabel("answer")

    return picture(draw, "answers beside the true numbers")


def learning_curves(history: Mapping[str, Sequence[float]]) -> list[str]:
    """Returns the loss and each metric by epoch as pictures.

    Args:
      history: the values of the epochs by name. Those of `val_<name>` are drawn in the picture of `<name>`.
    """
    pictures = []
    for name in history:
        if name.startswith("val_") and name[4:] in history:
            continue

        def draw(axes: Any, name: str = name) -> None:
            for key, label in ((name, name), (f"val_{name}", f"{name}, validation")):
                if key in history:
                    axes.plot(range(1, len(history[key]) + 1), history[key], marker="o", label=label)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend()

        pictures.append(picture(draw, f"{name} by epoch", size=(5, 3)))
    return pictures
