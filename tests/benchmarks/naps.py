"""Naps: how close to the ideal async tasks come that only wait."""

from __future__ import annotations

from tests.benchmarks.bench import QUICK, Bench

NAP_SECONDS = 0.1
AT_ONCE = 2 * 100
"""WORKERS_COUNT times ASYNC_CONCURRENCY."""


def naps(bench: Bench, *, share: float) -> dict[str, float]:
    """Return how long 2,000 naps of 100 ms take, from the first one's first line, in seconds.

    And how many times as long that is as it would take if nothing else took any time.

    :param share: all of them are taken, unless it is a trial run's.
    """
    count = (10 if share > QUICK else 1) * AT_ONCE
    bench.call("fill_naps", count, NAP_SECONDS)
    bench.forget_times()
    with bench.workers():
        bench.wait_for_times("FIRST_LINES", 1)
        seconds = bench.wait_until_done() - min(bench.times("FIRST_LINES"))
    return {"seconds": seconds, "times_the_ideal": seconds / (count / AT_ONCE * NAP_SECONDS)}
