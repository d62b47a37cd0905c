"""Drains typed calls beside untyped ones, in pairs: ``python -m tests.benchmarks.typed``."""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import closing
from dataclasses import replace

from tqdm import tqdm

from partisan_async.embedded import EmbeddedPostgres
from tests.benchmarks.bench import Bench
from tests.benchmarks.contender import ALL
from tests.benchmarks.drain import drain_once
from tests.benchmarks.no_worse import LEAST_PAIRS, SERVER
from tests.benchmarks.verdict import middle

JOBS = ("Noop", "TypedNoop")


def main(arguments: list[str]) -> int:
    """Print the jobs per second of both at the median, and the pairs' ratios."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.typed", description=__doc__)
    parser.add_argument("--pairs", type=int, default=LEAST_PAIRS, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=20_000, help="default: %(default)s")
    given = parser.parse_args(arguments)
    found: dict[str, list[float]] = {job: [] for job in JOBS}
    with EmbeddedPostgres(settings=SERVER) as server:
        for number in tqdm(range(given.pairs), unit="pair", disable=None):
            for job in JOBS if number % 2 else reversed(JOBS):
                found[job].append(_drain(server, job, given.jobs))
    untyped, typed = (found[job] for job in JOBS)
    ratios = [new / old for old, new in zip(untyped, typed, strict=True)]
    least, most = middle(ratios)
    print(
        f"{statistics.median(untyped):,.0f} untyped jobs/s, {statistics.median(typed):,.0f} typed;"
        f" typed / untyped {statistics.median(ratios):.3f} ({least:.3f} to {most:.3f})"
    )
    return 0


def _drain(server: EmbeddedPostgres, job: str, jobs: int) -> float:
    tuned = next(each for each in ALL if each.name == "ours, tuned")
    environment = {**tuned.environment, "JOB": job}
    with closing(Bench(server, replace(tuned, environment=environment))) as bench:
        return drain_once(bench, jobs)["jobs_per_second"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
