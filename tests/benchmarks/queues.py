"""What several queues in one process cost: ``python -m tests.benchmarks.queues``.

Five queues that rest: the memory of all processes, the connections, the statements. Ten queues with
a job a second each: how soon jobs are picked up, beside one such queue, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import closing
from dataclasses import replace

from tqdm import tqdm

from partisan_async.embedded import EmbeddedPostgres
from tests.benchmarks import tree
from tests.benchmarks.bench import Bench
from tests.benchmarks.contender import ALL
from tests.benchmarks.no_worse import SERVER
from tests.benchmarks.report import aligned

RESTING = (1, 5)
SERVED = (1, 10)


def main(arguments: list[str]) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.queues", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each; default: %(default)s")
    parser.add_argument("--seconds", type=int, default=30, help="of each; default: %(default)s")
    given = parser.parse_args(arguments)
    with EmbeddedPostgres(settings=SERVER) as server:
        rest = [[str(count), *_rest(server, count, given.seconds)] for count in RESTING]
        times: dict[int, list[float]] = {count: [] for count in SERVED}
        for _ in tqdm(range(given.rounds), unit="round", disable=None):
            for count in SERVED:
                times[count] += _pick_up(server, count, given.seconds)
    print(aligned(["queues at rest", "PSS MB", "connections", "statements/s"], rest))
    cuts = {
        count: statistics.quantiles(found, n=100, method="inclusive")
        for count, found in times.items()
    }
    rows = [
        [str(count), f"{cut[49] * 1000:.2f}", f"{cut[94] * 1000:.2f}"]
        for count, cut in cuts.items()
    ]
    one, ten = (cuts[count] for count in SERVED)
    rows.append(["ratio", f"{ten[49] / one[49]:.2f}", f"{ten[94] / one[94]:.2f}"])
    print()
    print(aligned(["queues, a job a second each", "p50 ms", "p95 ms"], rows))
    return 0


def _rest(server: EmbeddedPostgres, count: int, seconds: int) -> list[str]:
    with closing(_bench(server, count)) as bench:
        bench.log_statements()
        with bench.workers() as pids:
            bench.call("ping_each", count, 1)
            bench.wait_for_times("PICK_UPS", count)
            time.sleep(70)  # workers that have nothing to do are gone
            before = bench.statements()
            time.sleep(seconds)
            statements = (bench.statements() - before) / seconds
            with bench.connect() as connection:
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name LIKE 'partisan%'"
                ).fetchone()
            return [f"{tree.pss_megabytes(*pids):.0f}", str(row and row[0]), f"{statements:.2f}"]


def _pick_up(server: EmbeddedPostgres, count: int, seconds: int) -> list[float]:
    with closing(_bench(server, count)) as bench, bench.workers():
        bench.call("ping_each", count, 3)
        bench.wait_for_times("PICK_UPS", 3 * count)
        bench.forget_times()
        bench.call("ping_each", count, seconds)
        return bench.wait_for_times("PICK_UPS", seconds * count)


def _bench(server: EmbeddedPostgres, count: int) -> Bench:
    ours = next(each for each in ALL if each.name == "ours, default")
    names = (word for number in range(count) for word in ("--queue_name", f"q{number}"))
    options = " ".join(["--workers_count=0-2", *names])
    return Bench(server, replace(ours, environment={**ours.environment, "OPTIONS": options}))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
