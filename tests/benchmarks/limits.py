"""What limits cost that never bite: ``python -m tests.benchmarks.limits``.

The drain of a backlog without a limit, and with one: of one key, of twenty, and of a key for each
job; and how soon a job is picked up. In turns, tuned as in ``contender``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from tqdm import tqdm

from partisan_async.embedded import EmbeddedPostgres
from tests.benchmarks.bench import Bench
from tests.benchmarks.contender import ALL
from tests.benchmarks.drain import drain_once
from tests.benchmarks.no_worse import SERVER
from tests.benchmarks.report import aligned

NONE = 0
DISTINCT = 10**9

CASES = {"no limit": NONE, "one key": 1, "twenty keys": 20, "all keys distinct": DISTINCT}
"""By what is said of each: how many keys."""

PINGS = 100


def main(arguments: list[str]) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.limits", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each; default: %(default)s")
    parser.add_argument("--jobs", type=int, default=30_000, help="of each; default: %(default)s")
    given = parser.parse_args(arguments)
    drains: dict[str, list[float]] = {case: [] for case in CASES}
    pick_ups: dict[str, list[float]] = {case: [] for case in ("no limit", "one key")}
    with EmbeddedPostgres(settings=SERVER) as server:
        for _ in tqdm(range(given.rounds), unit="round", disable=None):
            for case, found in drains.items():
                with _bench(server, case) as bench:
                    found.append(drain_once(bench, given.jobs)["jobs_per_second"])
            for case, found in pick_ups.items():
                with _bench(server, case) as bench:
                    found += _pick_up(bench)
    print(aligned(["drain", "jobs/s", "ratio"], _rows(drains, statistics.median, inverse=False)))
    print()
    print(aligned(["pick-up", "p50 ms", "ratio"], _rows(pick_ups, _milliseconds, inverse=False)))
    return 0


def _milliseconds(found: list[float]) -> float:
    return statistics.median(found) * 1000


def _rows(figures: dict[str, list[float]], of, *, inverse: bool) -> list[list[str]]:
    found = {case: of(each) for case, each in figures.items()}
    plain = found["no limit"]
    return [[case, f"{each:.2f}", f"{each / plain:.2f}"] for case, each in found.items()]


def _pick_up(bench: Bench) -> list[float]:
    with bench.workers():
        bench.call("ping", "0.5")
        bench.wait_for_times("PICK_UPS", 1)
        bench.forget_times()
        bench.call("ping", ",".join(["0.05"] * PINGS))
        return bench.wait_for_times("PICK_UPS", PINGS)


@contextmanager
def _bench(server: EmbeddedPostgres, case: str) -> Iterator[Bench]:
    ours = next(each for each in ALL if each.name == "ours, tuned")
    limited = {"LIMITED_KEYS": str(CASES[case])}
    with closing(Bench(server, replace(ours, environment=ours.environment | limited))) as bench:
        yield bench


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
