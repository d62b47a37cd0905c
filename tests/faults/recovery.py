"""How long a recovery takes: seconds from a kill -9 to the next start, by the ledger's clock.

``python -m tests.faults.recovery --rounds 5``. Supervisors beat as they do by default; a start is
counted when the task itself writes it down, which in a new worker includes a new connection.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import signal
import socket
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from unittest import mock

import django

ELSEWHERE = ("-m", "tests.faults.recovery", "--on-another-host")
"""Runs a supervisor under a host name of its own: whose death nobody here can prove."""

CASES = ("of_a_worker", "by_a_fresh_start", "by_a_neighbour", "by_the_clock")

CLONE_NEWUTS = 0x04000000

LONG = 600


def main(arguments: list[str]) -> None:
    """Measure each case for so many rounds, and print what came of it."""
    if arguments[:1] == ["--on-another-host"]:
        _supervise_on_another_host(*arguments[1:])
        return
    parser = argparse.ArgumentParser(prog="python -m tests.faults.recovery", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each (default: %(default)s)")
    parser.add_argument("--case", choices=CASES, help="this one alone")
    given = parser.parse_args(arguments)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.faults.settings"
    os.environ["DATABASE_URL"] = "postgresql:///replaced_by_the_sites"
    django.setup()
    from partisan_async.store import BEAT_SECONDS, TTL_SECONDS
    from tests.faults.site import Site

    print(f"beat {BEAT_SECONDS:g} s, lease {TTL_SECONDS:g} s, {given.rounds} rounds; seconds")
    print(f"{'min':>9}{'median':>9}{'max':>9}")
    with Site() as site, site.in_use():
        recovery = _Recovery(site, BEAT_SECONDS, TTL_SECONDS)
        for case in [given.case] if given.case else CASES:
            _measure(getattr(recovery, case), given.rounds)


def _measure(case: Callable[[], float], rounds: int) -> None:
    times = [case() for _ in range(rounds)]
    figures = (min(times), statistics.median(times), max(times))
    print("".join(f"{figure:9.3f}" for figure in figures), f" {case.__doc__}", flush=True)


def _supervise_on_another_host(*arguments: str) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUTS):
        raise OSError(ctypes.get_errno(), "a host name of its own takes root's rights")
    socket.sethostname("elsewhere")
    from tests.faults.supervise import main as supervise

    supervise(*arguments)


class _Recovery:
    """One round of each case is one call; in the end the promise was kept, too."""

    def __init__(self, site, beat: float, ttl: float) -> None:
        self._site = site
        self._lease = {"beat": beat, "ttl": ttl}
        self._rng = random.Random(0)

    def of_a_worker(self) -> float:
        """a worker is killed: the next task starts in its slot"""
        from tests.faults.partisan_tasks import NapOnce, Noop

        self._site.start(WORKERS_COUNT=1, **self._lease)
        nap = NapOnce(LONG).delay()
        start = self._site.running(nap)
        for number in range(10):
            Noop(number).delay()
        killed = datetime.now(UTC)
        os.kill(start.pid, signal.SIGKILL)
        return self._seconds_until_the_next_start(killed)

    def by_a_fresh_start(self) -> float:
        """a supervisor is killed, and another is started at once on the same host"""
        return self._of_a_supervisor()

    def by_a_neighbour(self) -> float:
        """a supervisor is killed, and another one runs on the same host"""
        return self._of_a_supervisor(neighbour=True)

    def by_the_clock(self) -> float:
        """a supervisor is killed, and another one runs on another host"""
        from tests.faults.site import FaultyPartisan

        elsewhere = mock.patch.object(FaultyPartisan, "program", ELSEWHERE)
        return self._of_a_supervisor(neighbour=True, victims_host=elsewhere)

    def _of_a_supervisor(
        self, *, neighbour: bool = False, victims_host: AbstractContextManager[object] | None = None
    ) -> float:
        from tests.faults.partisan_tasks import NapOnce

        with victims_host or nullcontext():
            victim = self._site.start(**self._lease)
        nap = NapOnce(LONG).delay()
        self._site.running(nap)
        if neighbour:
            self._site.start(**self._lease)
            # Between two beats, wherever that is; and by the clock it judges after a whole lease.
            if victims_host is not None:
                time.sleep(self._lease["ttl"])
            time.sleep(self._rng.uniform(0, self._lease["beat"]))
        killed = datetime.now(UTC)
        victim.kill()
        if not neighbour:
            self._site.start(wait=False, **self._lease)
        return self._seconds_until_the_next_start(killed)

    def _seconds_until_the_next_start(self, killed: datetime) -> float:
        def start() -> datetime | None:
            starts = [event.at for event in self._site.events() if event.kind == "start"]
            return min((at for at in starts if at > killed), default=None)

        at = self._site.wait_until(start, "something starts")
        self._site.wait_until_ended()
        for supervisor in self._site.supervisors:
            if not supervisor.running:
                supervisor.wait_until_nothing_is_left()
        verdict = self._site.settle_down()
        assert verdict.duplicates.total() == 1, verdict
        self._site.end_supervisors()
        self._site.empty()
        return (at - killed).total_seconds()


if __name__ == "__main__":
    main(sys.argv[1:])
