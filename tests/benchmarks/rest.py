"""Rest: what workers cost that have nothing to do: CPU, statements, memory."""

from __future__ import annotations

import time

from tests.benchmarks import tree
from tests.benchmarks.bench import QUICK, Bench

SECONDS = 30.0


def rest(bench: Bench, *, share: float) -> dict[str, float]:
    """Return what 30 seconds of idleness cost, after every worker has run a job.

    :param share: all of them are measured, unless it is a trial run's: a few statements in a part
        of them say nothing about the whole.
    """
    seconds = SECONDS if share > QUICK else 2.0
    bench.log_statements()
    bench.call("fill", min(200, bench.contender.jobs))
    bench.forget_times()
    with bench.workers() as pids:
        bench.wait_until_done()
        time.sleep(2)
        before, began = tree.cpu_seconds(*pids), bench.statements()
        time.sleep(seconds)
        return {
            "cpu_seconds": (tree.cpu_seconds(*pids) - before) * SECONDS / seconds,
            "statements": (bench.statements() - began) * SECONDS / seconds,
            "pss_megabytes": tree.pss_megabytes(*pids),
        }
