"""A task's figures in the terminal, as rows of a file and as parts of a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from kbert.commands import report
from kbert.commands.label_cells import SEPARATOR
from kbert.scoring.figures import Figures

MOST_MISTAKES = 50  # in mistakes.csv
MISTAKES_SHOWN = 20  # in the report


def cells(rows: Iterable[Iterable[Any]]) -> list[tuple[str, ...]]:
    """Returns the rows of a table as strings; a float has three decimals."""
    return [tuple(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row) for row in rows]


def show(console: Console, figures: Figures) -> None:
    """Prints the scores, and the table by label if there is one."""
    scores = figures.scores.items()
    console.print(", ".join(f"{name.replace('_', ' ')} [bold]{value:.4f}[/bold]" for name, value in scores))
    if figures.rows:
        show_table(console, figures.head, cells(figures.rows))


def show_table(console: Console, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table whose first column stands left and whose others stand right."""
    table = Table()
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def mistake_rows(figures: Figures) -> list[dict[str, Any]]:
    """Returns the worst mistakes, `MOST_MISTAKES` at most, as dictionaries with `text`, `true`, `answer` and `score`."""
    rows = [
        {
            "text": mistake.text if isinstance(mistake.text, str) else " | ".join(mistake.text),
            "true": _joined(mistake.true),
            "answer": _joined(round(mistake.answer, 4) if isinstance(mistake.answer, float) else mistake.answer),
            "score": round(mistake.score, 4),
        }
        for mistake in figures.mistakes
    ]
    return sorted(rows, key=lambda row: -row["score"])[:MOST_MISTAKES]


def _joined(value: Any) -> Any:
    """Returns several labels as one string, and anything else as it is."""
    return SEPARATOR.join(value) if isinstance(value, list) else value


def scores_grid(figures: Figures) -> str:
    """Returns the scores as a table in HTML."""
    rows = [(name.replace("_", " "), f"{value:.4f}") for name, value in figures.scores.items()]
    return report.grid(("", "on held-out data"), rows)


def details(figures: Figures) -> list[str]:
    """Returns the table by label and the pictures as parts in HTML, as many as the figures have."""
    parts = [report.grid(figures.head, cells(figures.rows))] if figures.rows else []
    if figures.confusion is not None:
        parts.append(report.confusion_picture(figures.confusion))
    if figures.points is not None:
        parts.append(report.points_picture(*figures.points))
    return parts


def mistakes_grid(mistakes: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a heading and the first of the mistakes as a table, both in HTML; nothing if there is no mistake."""
    if not mistakes:
        return []
    rows = [list(mistake.values()) for mistake in mistakes[:MISTAKES_SHOWN]]
    return [report.heading("The most confident mistakes"), report.grid(tuple(mistakes[0]), rows)]
