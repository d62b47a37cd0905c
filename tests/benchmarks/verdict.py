"""Whether one of two is worse, though the same measured twice is never quite the same.

A *pair* is the figure of the new divided by that of the old, measured one right after the other. A
*control* is the same of the old beside itself. Worse is what the controls do not explain: the
median of the pairs is outside of the middle nine tenths of the controls, on the bad side.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MIDDLE = 0.9


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of the pairs of one figure.

    :param ratio: the median of the pairs.
    :param least: below is what the controls do not explain.
    :param most: above, likewise.
    """

    ratio: float
    least: float
    most: float
    is_worse: bool


def judge(pairs: Sequence[float], controls: Sequence[float], *, more_is_better: bool) -> Verdict:
    """Return whether the new is worse.

    :param pairs: at least two.
    :param controls: as many.
    """
    ratio = statistics.median(pairs)
    least, most = middle(controls)
    is_worse = ratio < least if more_is_better else ratio > most
    return Verdict(ratio, least, most, is_worse)


def middle(figures: Sequence[float], share: float = MIDDLE) -> tuple[float, float]:
    """Return between what and what this share of the figures lies, an equal part on each side."""
    ordered = sorted(figures)
    return _at(ordered, (1 - share) / 2), _at(ordered, (1 + share) / 2)


def _at(ordered: Sequence[float], place: float) -> float:
    index = place * (len(ordered) - 1)
    below = int(index)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (index - below)


def order(pairs: int) -> list[tuple[str, str, str]]:
    """Return what is measured, in order: of each run its kind, number and role.

    ABBA, for pairs and controls alike, so that who comes second is not always the same one.
    """
    turns = []
    for number in range(pairs):
        roles = ("old", "new") if number % 2 == 0 else ("new", "old")
        turns += [(kind, str(number), role) for kind in ("pair", "control") for role in roles]
    return turns
