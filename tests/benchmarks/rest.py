"""Rest: what workers cost that have nothing to do: CPU, statements, memory."""

from __future__ import annotations

import time

from tests.benchmarks import tree
from tests.benchmarks.bench import Bench

SECONDS = 30.0


def rest(bench: Bench, *, quick: bool) -> dict[str, float]:
    """Return what so many seconds of idleness cost, after every worker has run a job."""
    seconds = 2 if quick else SECONDS
    bench.log_statements()
    bench.call("fill", 200)
    bench.forget_times()
    with bench.workers() as pids:
        bench.wait_until_done()
        time.sleep(2)
        before, began = tree.cpu_seconds(*pids), bench.statements()
        time.sleep(seconds)
        return {
            "cpu_seconds": tree.cpu_seconds(*pids) - before,
            "statements": bench.statements() - began,
            "pss_megabytes": tree.pss_megabytes(*pids),
        }
