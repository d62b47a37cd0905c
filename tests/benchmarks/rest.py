"""Rest: what workers cost that have nothing to do: CPU, statements, memory."""

from __future__ import annotations

import time

from tests.benchmarks import tree
from tests.benchmarks.bench import Bench

SECONDS = 30.0


def rest(bench: Bench, *, share: float) -> dict[str, float]:
    """Return what 30 seconds of idleness cost, after every worker has run a job.

    :param share: of them it is measured.
    """
    seconds = max(2.0, SECONDS * share)
    bench.log_statements()
    bench.call("fill", 200)
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
