"""Pick-up: from just before a job is enqueued, by another process, to the job's first line."""

from __future__ import annotations

import random
import statistics
import time

from tests.benchmarks.bench import Bench

APART_SECONDS = 0.05


COUNT = 200


def pick_up(bench: Bench, *, share: float) -> dict[str, float]:
    """Return the p50, p95 and p99 of so many jobs on an idle system, in milliseconds."""
    count = max(20, round(COUNT * share**0.5))  # a p99 wants many
    rng = random.Random(count)
    pauses = [APART_SECONDS * rng.uniform(0.8, 1.2) for _ in range(count)]
    bench.forget_times()
    with bench.workers():
        _warm_up(bench)
        bench.forget_times()
        bench.call("ping", ",".join(f"{pause:.4f}" for pause in pauses))
        times = bench.wait_for_times("PICK_UPS", count)
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {f"p{n}_milliseconds": cuts[n - 1] * 1000 for n in (50, 95, 99)}


def _warm_up(bench: Bench) -> None:
    bench.call("ping", ",".join(["0.05"] * 20))
    bench.wait_for_times("PICK_UPS", 20)
    time.sleep(1)
