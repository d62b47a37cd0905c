"""What came of a run: a table for people, JSON for programs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

Rounds = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]
"""Figures of each round, by measure, contender and what was measured."""


def table(rounds: Rounds) -> str:
    """Return a Markdown table for each measure: medians, and from the least to the most."""
    parts = []
    for measure, contenders in rounds.items():
        columns = list(dict.fromkeys(name for each in contenders.values() for name in each))
        rows = [
            [contender, *(_cell(figures.get(name, ())) for name in columns)]
            for contender, figures in contenders.items()
        ]
        parts.append(aligned([measure, *(name.replace("_", " ") for name in columns)], rows))
    return "\n\n".join(parts)


def median(rounds: Rounds, measure: str, contender: str, name: str) -> float | None:
    """Return the median of the rounds, ``None`` if it was not measured."""
    figures = rounds.get(measure, {}).get(contender, {}).get(name)
    return statistics.median(figures) if figures else None


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are as wide as they must be."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in (head, rule, *rows)
    )


def _cell(figures: Sequence[float]) -> str:
    if not figures:
        return "-"
    least, middle, most = (
        _number(each) for each in (min(figures), statistics.median(figures), max(figures))
    )
    return middle if len(figures) == 1 else f"{middle} ({least} to {most})"


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
