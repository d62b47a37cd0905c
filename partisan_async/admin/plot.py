"""Computes where the bars and lines of a plot stand. The page decides what they look like.

Coordinates are in a picture of ``WIDTH`` by ``HEIGHT``, which the page stretches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from partisan_async.operate.last_hour import Counts, Minute

WIDTH, HEIGHT = 720, 160

SHORTEST = 0.001
"""Seconds; shorter times are drawn at this height."""


@dataclass(frozen=True)
class Piece:
    """A part of a bar."""

    kind: str
    y: int
    height: int


@dataclass(frozen=True)
class Column:
    """One minute of a plot, with its bar."""

    minute: Minute
    x: int
    width: int
    pieces: list[Piece]


@dataclass(frozen=True)
class Line:
    """A line in pieces, interrupted at minutes in which nothing ran."""

    kind: str
    pieces: list[str]


@dataclass(frozen=True)
class Tick:
    """A horizontal line, and the value that it stands for."""

    y: int
    value: float


@dataclass(frozen=True)
class Plot:
    """A plot of minutes.

    :param ticks: from top to bottom, at equal distances.
    """

    ticks: list[Tick]
    columns: list[Column]
    lines: list[Line]


def throughput(minutes: Sequence[Minute]) -> Plot:
    """Return a bar for each minute: runs that finished, that failed, and that will run again."""
    kinds: list[tuple[str, Callable[[Counts], int]]] = [
        ("finished", lambda counts: counts.finished),
        ("failed", lambda counts: counts.failed),
        ("again", lambda counts: counts.retried + counts.postponed + counts.lost),
    ]
    top = _round_up(max((minute.counts.runs for minute in minutes), default=0))
    columns = _columns(minutes)
    for column in columns:
        y = HEIGHT
        for kind, count in kinds:
            number = count(column.minute.counts)
            # Even a count of one stays visible.
            height = max(2, round(number / top * HEIGHT)) if number else 0
            y -= height
            column.pieces.append(Piece(kind, y, height))
    return Plot(_ticks([top, top / 2, 0]), columns, [])


def latency(minutes: Sequence[Minute]) -> Plot:
    """Return lines of the mean time that tasks waited and ran, by minute.

    The scale is logarithmic, so that milliseconds and minutes are visible in one plot.
    """
    kinds: list[tuple[str, Callable[[Counts], float]]] = [
        ("wait", lambda counts: counts.mean_wait),
        ("run", lambda counts: counts.mean_run),
    ]
    longest = max((seconds(minute.counts) for minute in minutes for _, seconds in kinds), default=0)
    decades = max(3, math.ceil(math.log10(max(longest, SHORTEST) / SHORTEST) - 1e-9))
    columns = _columns(minutes)
    lines = []
    for kind, seconds in kinds:
        pieces: list[list[str]] = [[]]
        for column in columns:
            if column.minute.counts.runs:
                told = max(seconds(column.minute.counts), SHORTEST) / SHORTEST
                y = HEIGHT - round(math.log10(told) / decades * HEIGHT)
                pieces[-1].append(f"{column.x + column.width // 2},{y}")
            elif pieces[-1]:
                pieces.append([])
        lines.append(Line(kind, [" ".join(_seen(piece)) for piece in pieces if piece]))
    ticks = _ticks([SHORTEST * 10**power for power in range(decades, -1, -1)])
    return Plot(ticks, columns, lines)


def _ticks(values: Sequence[float]) -> list[Tick]:
    distance = HEIGHT / (len(values) - 1)
    return [Tick(round(n * distance), value) for n, value in enumerate(values)]


def _seen(points: list[str]) -> list[str]:
    """Turn a single point into a short dash: browsers draw no line of length zero."""
    if len(points) > 1:
        return points
    x, _, y = points[0].partition(",")
    return [f"{int(x) - 3},{y}", f"{int(x) + 3},{y}"]


def _columns(minutes: Sequence[Minute]) -> list[Column]:
    width = WIDTH // max(1, len(minutes))
    return [Column(minute, n * width, width, []) for n, minute in enumerate(minutes)]


def _round_up(value: float) -> float:
    """Return the next number above of the form 1, 2 or 4 times a power of ten; 1 for 0."""
    if value <= 0:
        return 1
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 4, 10) if power * step >= value * 0.999)
