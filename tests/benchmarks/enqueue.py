"""Enqueue: how many jobs a second one process adds, one by one and many at once."""

from __future__ import annotations

from tests.benchmarks.bench import QUICK, Bench

COUNTS = {"enqueue_bulk": 20_000}
"""So many of each; 2,000 of the others."""


def enqueue(bench: Bench, *, share: float) -> dict[str, float]:
    """Return the jobs per second of each way that the contender has.

    :param share: all are enqueued, unless it is a trial run's: they take seconds.
    """
    rates = {}
    for verb in bench.contender.system.verbs:
        count = max(10, round(COUNTS.get(verb, 2_000) * (1 if share > QUICK else share)))
        rates[f"{verb}_per_second"] = count / bench.call(verb, count)
    return rates
