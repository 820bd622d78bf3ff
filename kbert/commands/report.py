"""Reports: one HTML file with its pictures in it."""

import base64
import html
import io

import numpy as np

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { border-bottom: 1px solid #ccc; padding: .3rem .8rem; text-align: left; }
img { max-width: 100%; }
"""


def page(title, *parts):
    """A whole page of parts in HTML."""
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join((f"<h1>{html.escape(title)}</h1>", *parts))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def heading(text):
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text):
    return f"<p>{html.escape(text)}</p>"


def grid(head, rows):
    """A table."""
    lines = ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
    names = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    return f"<table><tr>{names}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def picture(draw, what, size=(5.5, 4.8)):
    """What `draw(axes)` draws, as an image in the page; `what` says what it shows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(figure.subplots())
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    content = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(what)}" src="data:image/png;base64,{content}">'


def confusion(answers, truth, labels):
    """Counts [true label, answer], and the share on the diagonal."""
    table = np.zeros((len(labels), len(labels)), int)
    for answer, true in zip(answers, truth):
        table[labels.index(true), labels.index(answer)] += 1
    return table, float(np.trace(table) / max(1, table.sum()))


def confusion_picture(table, labels):
    """The confusion matrix as a picture."""

    def draw(axes):
        axes.imshow(table, cmap="Blues")
        axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel("answer")
        axes.set_ylabel("true class")
        for (i, j), count in np.ndenumerate(table):
            axes.text(j, i, count, ha="center", va="center", color="white" if count > table.max() / 2 else "black")

    return picture(draw, "confusion matrix", size=(max(5.5, 0.7 * len(labels)), max(4.8, 0.6 * len(labels))))


def learning_curves(history):
    """The loss and the metrics of each epoch as pictures, those of the validation data beside those of training."""
    pictures = []
    for name in history:
        if name.startswith("val_") and name[4:] in history:
            continue

        def draw(axes, name=name):
            for key, label in ((name, name), (f"val_{name}", f"{name}, validation")):
                if key in history:
                    axes.plot(range(1, len(history[key]) + 1), history[key], marker="o", label=label)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend()

        pictures.append(picture(draw, f"{name} by epoch", size=(5, 3)))
    return pictures
