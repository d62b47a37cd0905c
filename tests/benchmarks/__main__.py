"""Measures partisan_async beside its peers: ``nox -s bench [-- NAMES]``.

NAMES are measures (drain, enqueue, pickup, rest, naps, growth) and words of contenders' names;
without any, all are run. All rounds are interleaved, on one server with ``fsync`` on, each
contender on a database of its own; rest and growth have one round.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from tqdm import tqdm

from partisan_async.embedded import EmbeddedPostgres
from tests.benchmarks.bench import Bench, ContenderFailedError
from tests.benchmarks.contender import ALL, Contender
from tests.benchmarks.drain import drain
from tests.benchmarks.enqueue import enqueue
from tests.benchmarks.environments import EnvironmentMissingError, python_of, versions
from tests.benchmarks.growth import growth
from tests.benchmarks.naps import naps
from tests.benchmarks.pickup import pick_up
from tests.benchmarks.plot import plot
from tests.benchmarks.promises import promises
from tests.benchmarks.report import aligned, table
from tests.benchmarks.rest import rest

MEASURES: dict[str, Callable[..., dict[str, float]]] = {
    "drain": drain,
    "enqueue": enqueue,
    "pickup": pick_up,
    "rest": rest,
    "naps": naps,
    "growth": growth,
}

ONCE = ("rest", "growth")
"""Measured in the first round alone: they take minutes, and differ little from one to the next."""

DURABLE = {"fsync": "on", "full_page_writes": "on", "max_connections": "200"}


def main(arguments: list[str]) -> int:
    """Measure what is asked for; return 1 if a contender failed."""
    parser = argparse.ArgumentParser(
        prog="nox -s bench --",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3, help="of each (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="draw drain and pick-up, as PNG")
    parser.add_argument("--share", type=float, default=1.0, help="of the jobs (default: all)")
    parser.add_argument("--quick", action="store_true", help="--rounds 1 --share 0.05: a trial run")
    given = parser.parse_intermixed_args(arguments)
    if given.quick:
        given.rounds, given.share = 1, 0.05
    if given.rounds < 1 or not 0 < given.share <= 1:
        parser.error("--rounds must be 1 or more, and --share above 0 and at most 1")
    measures = [name for name in given.names if name in MEASURES] or list(MEASURES)
    words = [name for name in given.names if name not in MEASURES]
    contenders = [each for each in ALL if not words or any(word in each.name for word in words)]
    for word in words:
        if not any(word in each.name for each in ALL):
            names = "; ".join(sorted({each.name for each in ALL}))
            parser.error(f"{word!r} is in no name; measures: {', '.join(MEASURES)}. Names: {names}")
    # What contenders began ends with this, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rounds: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    failed: dict[str, str] = {}
    with EmbeddedPostgres(settings=DURABLE) as server:
        system = _describe(server, contenders, failed)
        turns = [
            (measure, contender)
            for number in range(given.rounds)
            for measure in measures
            if number == 0 or measure not in ONCE
            for contender in contenders
            if contender.name not in failed and measure in contender.measures
        ]
        for measure, contender in (progress := tqdm(turns, unit="run", disable=None)):
            progress.set_description(f"{measure}: {contender.name}")
            if contender.name in failed:
                continue
            try:
                figures = _measure(server, measure, contender, share=given.share)
            except (ContenderFailedError, psycopg.Error) as error:
                failed[contender.name] = str(error)
                continue
            for name, figure in figures.items():
                rounds[measure][contender.name][name].append(figure)
    print(f"\n{table(rounds)}\n\n{', '.join(f'{k} {v}' for k, v in system.items())}")
    if kept := promises(rounds):
        print(f"\n{aligned(['promise', 'at least', 'stretch', 'got', ''], kept)}")
    for name, why in failed.items():
        print(f"\nfailed: {name}: {why}", file=sys.stderr)
    if given.json:
        given.json.write_text(json.dumps({"system": system, "rounds": rounds}, indent=1))
    if given.plot:
        plot(rounds, given.plot)
    return 1 if failed else 0


def _measure(
    server: EmbeddedPostgres, measure: str, contender: Contender, *, share: float
) -> dict[str, float]:
    bench = Bench(server, contender)
    try:
        return MEASURES[measure](bench, share=share)
    finally:
        bench.close()


def _describe(
    server: EmbeddedPostgres, contenders: list[Contender], failed: dict[str, str]
) -> dict[str, str]:
    with psycopg.connect(server.url) as connection:
        postgres = connection.execute("SHOW server_version").fetchone()
    described = {"PostgreSQL": postgres[0] if postgres else "", "Python": platform.python_version()}
    for contender in contenders:
        try:
            python_of(contender.system)
            described |= versions(contender.system)
        except EnvironmentMissingError as error:
            failed[contender.name] = str(error)
    return described


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
