"""Is this checkout no worse than another? ``python -m tests.benchmarks.no_worse --base REV``.

What a task costs the server is counted: its statements, its messages on the wire, its buffers. How
fast a backlog is drained, how soon a task is picked up and how much memory the workers have is
measured in pairs: see ``verdict.py``. p95 and p99 are shown, and not judged.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict
from tqdm import tqdm

from partisan_async.embedded import EmbeddedPostgres
from tests.benchmarks import tree
from tests.benchmarks.__main__ import DURABLE
from tests.benchmarks.bench import Bench
from tests.benchmarks.contender import ALL, Contender
from tests.benchmarks.drain import drain_once
from tests.benchmarks.environments import ROOT
from tests.benchmarks.report import aligned
from tests.benchmarks.verdict import judge, order
from tests.relay import Relay

LEAST_PAIRS = 12

COUNTED = (20, 120)
"""What a task costs is the difference between so many tasks and so many, by their number."""

TOLERATED = 0.03
"""Beats and looks of the clock's, which come at any moment."""

APART = "0.05"

JUDGED = {"jobs/s": True, "jobs/s, tuned": True, "p50 ms": False, "PSS MB": False}
"""The figures that are measured in pairs: whether more of it is better."""

SHOWN = ("p95 ms", "p99 ms")

SERVER = DURABLE | {"log_line_prefix": "%a|", "autovacuum": "off"}


def main(arguments: list[str]) -> int:
    """Measure both, and print a table and a verdict; return 1 if this one is worse."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.no_worse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", required=True, metavar="REV", help="the other: a Git revision")
    parser.add_argument("--pairs", type=int, default=LEAST_PAIRS, help="default: %(default)s")
    parser.add_argument("--share", type=float, default=0.5, help="of the jobs (default: half)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    given = parser.parse_args(arguments)
    if given.pairs < 2 or not 0 < given.share <= 1:
        parser.error("--pairs must be 2 or more, and --share above 0 and at most 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with checked_out(given.base) as base, EmbeddedPostgres(settings=SERVER) as server:
        sides = {"old": base, "new": ROOT}
        costs = {side: _costs(server, checkout) for side, checkout in sides.items()}
        figures = _measure_pairs(server, sides, given.pairs, given.share)
    if given.json:
        given.json.write_text(json.dumps({"costs": costs, "figures": figures}, indent=1))
    rows, worse = _rows(costs, figures)
    print(aligned(["figure", "old", "new", "new / old", "as the old itself", ""], rows))
    if given.pairs < LEAST_PAIRS:
        print(f"\nOf {given.pairs} pairs this says little: {LEAST_PAIRS} are the least.")
    print(f"\nworse: {', '.join(worse)}" if worse else "\nno worse")
    return 1 if worse else 0


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Give a folder with that revision of this project in it."""
    with tempfile.TemporaryDirectory(prefix="partisan-base-") as folder:
        archive = subprocess.run(
            ["git", "archive", revision], cwd=ROOT, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def _measure_pairs(
    server: EmbeddedPostgres, sides: dict[str, Path], pairs: int, share: float
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Return all figures, by kind and role, in the order of their pairs."""
    figures: Any = defaultdict(lambda: defaultdict(list))
    for kind, _, role in tqdm(order(pairs), unit="run", disable=None):
        checkout = sides[role if kind == "pair" else "old"]
        figures[kind][role].append(_measure(server, checkout, share))
    return {kind: dict(roles) for kind, roles in figures.items()}


def _measure(server: EmbeddedPostgres, checkout: Path, share: float) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, suffix in (("ours, default", ""), ("ours, tuned", ", tuned")):
        with _bench(server, checkout, name) as bench:
            jobs = max(1, round(bench.contender.jobs * share))
            found[f"jobs/s{suffix}"] = drain_once(bench, jobs)["jobs_per_second"]
            if not suffix:
                found |= _pick_up(bench)
    return found


def _pick_up(bench: Bench) -> dict[str, float]:
    count = 100
    bench.forget_times()
    with bench.workers() as pids:
        _ping(bench, 20)
        bench.forget_times()
        _ping(bench, count, apart="0.04")
        times = bench.wait_for_times("PICK_UPS", count)
        memory = tree.pss_megabytes(*pids)
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"PSS MB": memory} | {f"p{n} ms": cuts[n - 1] * 1000 for n in (50, 95, 99)}


def _costs(server: EmbeddedPostgres, checkout: Path) -> dict[str, float]:
    """Return what one task costs from its ``delay()`` to its end, alone on an idle system."""
    few, many = ([_cost(server, checkout, count) for _ in range(2)] for count in COUNTED)
    between = COUNTED[1] - COUNTED[0]
    return {
        name: (min(each[name] for each in many) - min(each[name] for each in few)) / between
        for name in few[0]
    }


def _cost(server: EmbeddedPostgres, checkout: Path, count: int) -> dict[str, float]:
    with _bench(server, checkout, "ours, default") as bench:
        parameters = conninfo_to_dict(bench.url)
        relay = CountingRelay((str(parameters["host"]), int(parameters["port"])))
        direct, bench.url = bench.url, _relayed(bench.url, relay)
        bench.log_statements()
        before = _statements(server), _buffers(bench)
        with bench.workers():
            _ping(bench, count)
            bench.wait_until_done()
        bench.url = direct
        relay.close()
        return {
            "statements": _statements(server) - before[0],
            "messages": relay.messages,
            "buffers": _buffers(bench) - before[1],
        }


def _relayed(url: str, relay: Relay) -> str:
    name = conninfo_to_dict(url)["dbname"]
    return f"postgresql://postgres@127.0.0.1:{relay.port}/{name}"


class CountingRelay(Relay):
    """Counts what clients send: a statement's messages go together."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.messages = 0
        self._counting = threading.Lock()
        super().__init__(target)

    def _mark(self, link: Any, data: bytes) -> None:
        with self._counting:
            self.messages += 1
        super()._mark(link, data)


def _ping(bench: Bench, count: int, apart: str = APART) -> None:
    bench.call("ping", ",".join([apart] * count))
    bench.wait_for_times("PICK_UPS", count)


def _statements(server: EmbeddedPostgres) -> int:
    log = (server._home / "log").read_bytes()
    return len(re.findall(rb"\|LOG:  (?:statement|execute \S+): ", log))


def _buffers(bench: Bench) -> int:
    with bench.connect() as connection:
        found = connection.execute(
            "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    return int(found[0]) if found else 0


@contextmanager
def _bench(server: EmbeddedPostgres, checkout: Path, name: str) -> Iterator[Bench]:
    contender: Contender = next(each for each in ALL if each.name == name)
    bench = Bench(server, contender, checkout)
    try:
        yield bench
    finally:
        bench.close()


def _rows(
    costs: dict[str, dict[str, float]], figures: dict[str, dict[str, list[dict[str, float]]]]
) -> tuple[list[list[str]], list[str]]:
    """Return the table's rows, and what is worse."""
    rows, worse = [], []
    for name, old in costs["old"].items():
        new = costs["new"][name]
        is_worse = new > old * (1 + TOLERATED)
        rows.append([f"{name} per task", f"{old:.2f}", f"{new:.2f}", f"{new / old:.3f}", ""])
        rows[-1].append("worse" if is_worse else "")
        worse += [name] * is_worse
    for name in (*JUDGED, *SHOWN):
        pairs, controls = (_ratios(figures[kind], name) for kind in ("pair", "control"))
        verdict = judge(pairs, controls, more_is_better=JUDGED.get(name, False))
        old, new = (
            statistics.median(each[name] for each in figures["pair"][role])
            for role in ("old", "new")
        )
        told = "worse" if verdict.is_worse else ""
        rows.append([name, f"{old:,.2f}", f"{new:,.2f}", f"{verdict.ratio:.3f}"])
        rows[-1] += [f"{verdict.least:.3f} to {verdict.most:.3f}", told if name in JUDGED else "-"]
        worse += [name] * (verdict.is_worse and name in JUDGED)
    return rows, worse


def _ratios(roles: dict[str, list[dict[str, float]]], name: str) -> list[float]:
    return [new[name] / old[name] for old, new in zip(roles["old"], roles["new"], strict=True)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
