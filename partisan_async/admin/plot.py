"""Where the bars and the lines of a plot stand; what they look like is the page's.

Coordinates are those of a picture ``WIDTH`` wide and ``HEIGHT`` high, stretched to its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from partisan_async.operate.last_hour import Counts, Minute

WIDTH, HEIGHT = 720, 160

SHORTEST = 0.001
"""Seconds; what took less is drawn as if it had taken so long."""


@dataclass(frozen=True)
class Piece:
    """A part of a bar."""

    kind: str
    y: int
    height: int


@dataclass(frozen=True)
class Column:
    """What is drawn of a minute, and told of it."""

    minute: Minute
    x: int
    width: int
    pieces: list[Piece]


@dataclass(frozen=True)
class Line:
    """A line, in pieces between the minutes of which nothing is to be told."""

    kind: str
    pieces: list[str]


@dataclass(frozen=True)
class Tick:
    """A line across, and what it stands for."""

    y: int
    value: float


@dataclass(frozen=True)
class Plot:
    """A plot of minutes.

    :param ticks: from the top to the bottom, at equal distances.
    """

    ticks: list[Tick]
    columns: list[Column]
    lines: list[Line]


def throughput(minutes: Sequence[Minute]) -> Plot:
    """Return bars of what ended in each minute, well, badly, and not yet."""
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
            # What there is can be seen, however little it is.
            height = max(2, round(number / top * HEIGHT)) if number else 0
            y -= height
            column.pieces.append(Piece(kind, y, height))
    return Plot(_ticks([top, top / 2, 0]), columns, [])


def latency(minutes: Sequence[Minute]) -> Plot:
    """Return lines of how long tasks waited and ran, in the mean of each minute.

    Each line across is ten times the next: what takes milliseconds and what takes minutes is seen.
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
    """Make a dash of one point: a line from it to itself is not drawn."""
    if len(points) > 1:
        return points
    x, _, y = points[0].partition(",")
    return [f"{int(x) - 3},{y}", f"{int(x) + 3},{y}"]


def _columns(minutes: Sequence[Minute]) -> list[Column]:
    width = WIDTH // max(1, len(minutes))
    return [Column(minute, n * width, width, []) for n, minute in enumerate(minutes)]


def _round_up(value: float) -> float:
    """Return 1, 2, 4 or 10 times a power of ten, the next above; 1 for nothing."""
    if value <= 0:
        return 1
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 4, 10) if power * step >= value * 0.999)
