"""A picture of a run: how fast backlogs are drained, and how soon a lone job starts."""

from __future__ import annotations

import statistics
from pathlib import Path

from tests.benchmarks.report import Rounds

OURS, OTHERS = "#1b6ca8", "#b8b8b8"


def plot(rounds: Rounds, path: Path) -> None:
    """Draw what the run measured, as a PNG of 1300 by 650."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 6.5), dpi=100)
    drained = _sorted(rounds, "drain", "jobs_per_second", reverse=False)
    for position, (name, values) in enumerate(drained):
        middle = statistics.median(values)
        spread = [[middle - min(values)], [max(values) - middle]]
        left.barh(position, middle, xerr=spread, color=_colour(name), ecolor="#555555", capsize=2)
        left.text(max(values) * 1.15, position, f"{middle:,.0f}", va="center", fontsize=8)
    left.set_yticks(range(len(drained)), [name for name, _ in drained], fontsize=8)
    left.set(xscale="log", title="Drain: tasks per second (more is better)")
    left.margins(x=0.15)
    soon = _sorted(rounds, "pickup", "p50_milliseconds", reverse=True)
    for position, (name, values) in enumerate(soon):
        middle = statistics.median(values)
        late = statistics.median(rounds["pickup"][name]["p99_milliseconds"])
        right.barh(position, middle, color=_colour(name))
        right.plot(late, position, "|", color="#555555", markersize=14)
        right.text(
            max(middle, late) * 1.15,
            position,
            f"{middle:.1f} / {late:.1f}",
            va="center",
            fontsize=8,
        )
    right.set_yticks(range(len(soon)), [name for name, _ in soon], fontsize=8)
    right.set(xscale="log", title="Pick-up: ms, p50 and, as a mark, p99 (less is better)")
    right.margins(x=0.15)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)


def _sorted(
    rounds: Rounds, measure: str, name: str, *, reverse: bool
) -> list[tuple[str, list[float]]]:
    found = [
        (contender, list(figures[name]))
        for contender, figures in rounds.get(measure, {}).items()
        if figures.get(name)
    ]
    return sorted(found, key=lambda each: statistics.median(each[1]), reverse=reverse)


def _colour(name: str) -> str:
    return OURS if name.startswith("ours") else OTHERS
