"""What is promised about speed, as ratios between figures of one run, and what came of it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NamedTuple

from tests.benchmarks.report import Rounds, median

Figure = Callable[[Rounds], float | None]


class Promise(NamedTuple):
    """A figure, how it is to compare, and with what: at least, if that is said, and at best."""

    name: str
    figure: Figure
    compare: Callable[[float, float], bool]
    required: float | None
    stretch: float


def promises(rounds: Rounds) -> list[list[str]]:
    """Return a row for each promise that this run can tell of."""
    rows = []
    for name, figure, compare, required, stretch in PROMISES:
        got = figure(rounds)
        if got is not None:
            sign = ">=" if compare is operator.ge else "<="
            verdict = "met" if required is None or compare(got, required) else "MISSED"
            verdict = "stretch" if compare(got, stretch) else verdict
            limits = ["" if limit is None else f"{sign} {limit:g}" for limit in (required, stretch)]
            rows.append([name, *limits, f"{got:.2f}", verdict])
    return rows


def _one(measure: str, contender: str, figure: str) -> Figure:
    return lambda rounds: median(rounds, measure, contender, figure)


def _ratio(above: Figure, *below: Figure) -> Figure:
    """Compare with the largest of the others."""

    def ratio(rounds: Rounds) -> float | None:
        numerator = above(rounds)
        others = [value for value in (figure(rounds) for figure in below) if value]
        return numerator / max(others) if numerator and others else None

    return ratio


def _least(*figures: Figure) -> Figure:
    def least(rounds: Rounds) -> float | None:
        return min(
            (value for value in (figure(rounds) for figure in figures) if value), default=None
        )

    return least


def _further_worker(rounds: Rounds) -> float | None:
    two = median(rounds, "rest", "ours, default", "pss_megabytes")
    six = median(rounds, "rest", "ours, 6 workers", "pss_megabytes")
    return (six - two) / 4 if two and six else None


def _drain(contender: str) -> Figure:
    return _one("drain", contender, "jobs_per_second")


def _pick_up(contender: str, quantile: str) -> Figure:
    return _one("pickup", contender, f"{quantile}_milliseconds")


def _enqueue(contender: str, verb: str) -> Figure:
    return _one("enqueue", contender, f"{verb}_per_second")


_PROCRASTINATE = ("procrastinate, default", "procrastinate, 2 processes")
_PGQUEUER = ("pgqueuer, default", "pgqueuer, 2 processes", "pgqueuer, best")
_OURS = "ours, default"

PROMISES = (
    Promise(
        "drain, tuned / pgqueuer's best",
        _ratio(_drain("ours, tuned"), _drain("pgqueuer, best")),
        operator.ge,
        1,
        1,
    ),
    Promise(
        "drain, tuned / floor",
        _ratio(_drain("ours, tuned"), _drain("floor")),
        operator.ge,
        0.4,
        0.8,
    ),
    Promise(
        "drain, rows kept / tuned",
        _ratio(_drain("ours, tuned, rows kept"), _drain("ours, tuned")),
        operator.ge,
        0.8,
        1,
    ),
    Promise(
        "drain, default / procrastinate's best",
        _ratio(_drain(_OURS), *map(_drain, _PROCRASTINATE)),
        operator.ge,
        6,
        10,
    ),
    Promise(
        "drain, default / pgqueuer's default",
        _ratio(_drain(_OURS), _drain("pgqueuer, default")),
        operator.ge,
        1,
        1,
    ),
    Promise(
        "drain, default / pgqueuer's with two processes",
        _ratio(_drain(_OURS), _drain("pgqueuer, 2 processes")),
        operator.ge,
        None,
        1,
    ),
    Promise(
        "2,000 naps of 100 ms / the ideal",
        _one("naps", "ours, async", "times_the_ideal"),
        operator.le,
        1.5,
        1.15,
    ),
    Promise(
        "pick-up, p50 / procrastinate's",
        _ratio(_pick_up(_OURS, "p50"), _least(*(_pick_up(name, "p50") for name in _PROCRASTINATE))),
        operator.le,
        0.85,
        0.7,
    ),
    Promise(
        "pick-up, p99 / procrastinate's",
        _ratio(_pick_up(_OURS, "p99"), _least(*(_pick_up(name, "p99") for name in _PROCRASTINATE))),
        operator.le,
        1,
        1,
    ),
    Promise(
        "delay() / procrastinate's defer()",
        _ratio(_enqueue(_OURS, "enqueue"), *(_enqueue(name, "enqueue") for name in _PROCRASTINATE)),
        operator.ge,
        1,
        1,
    ),
    Promise(
        "delay() / a bare create()",
        _ratio(_enqueue(_OURS, "enqueue"), _enqueue(_OURS, "enqueue_orm")),
        operator.ge,
        None,
        0.8,
    ),
    Promise(
        "bulk_delay() / pgqueuer's",
        _ratio(
            _enqueue(_OURS, "enqueue_bulk"), *(_enqueue(name, "enqueue_bulk") for name in _PGQUEUER)
        ),
        operator.ge,
        1,
        1,
    ),
    Promise(
        "bulk_delay() / COPY",
        _ratio(_enqueue(_OURS, "enqueue_bulk"), _enqueue("floor", "enqueue_bulk")),
        operator.ge,
        None,
        0.5,
    ),
    Promise("idle 30 s, statements", _one("rest", _OURS, "statements"), operator.le, 12, 8),
    Promise("idle 30 s, CPU seconds", _one("rest", _OURS, "cpu_seconds"), operator.le, 0.1, 0.05),
    Promise("memory, MB PSS", _one("rest", _OURS, "pss_megabytes"), operator.le, 115, 90),
    Promise("each further worker, MB PSS", _further_worker, operator.le, 10, 7),
    Promise(
        "claim, 3M waiting / 1k",
        _ratio(
            _one("growth", _OURS, "3m_waiting_milliseconds"),
            _one("growth", _OURS, "1k_waiting_milliseconds"),
        ),
        operator.le,
        1.5,
        1.1,
    ),
)
