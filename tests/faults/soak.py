"""The soak: supervisors under a mixed load and under faults drawn from a seed, and the verdict.

``python -m tests.faults.soak --minutes 8 --seed 1``. It exits with 0 if the promise was kept.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django

from tests.faults.schedule import Fault, draw

if TYPE_CHECKING:  # they want Django to be set up
    from tests.faults.checker import Verdict
    from tests.faults.injector import Injector
    from tests.faults.load import Load
    from tests.faults.site import Site

PROGRESS_SECONDS = 10
BURSTS = 0.005
"""One about every ten seconds."""

CALM_SECONDS = 25.0
"""After each round of faults on tasks under limits: how long these wait is told there."""

END_SECONDS = 180
"""After the load and the faults, all tasks have ended by then, and all supervisors."""


def main(arguments: list[str] | None = None) -> int:
    """Run a soak; return the exit code."""
    given = _parse(arguments)
    calm = CALM_SECONDS if given.limits else 0.0
    schedule = draw(given.seed, given.minutes, calm=calm)
    say(f"seed {given.seed}: {len(schedule)} faults in {given.minutes:g} minutes")
    for fault in schedule:
        say(f"  {fault}")
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.faults.settings"
    os.environ["DATABASE_URL"] = "postgresql:///replaced_by_the_sites"
    django.setup()
    from tests.faults.site import Site

    with Site() as site, site.in_use(), ExitStack() as stack:
        kind = Soak
        if given.limits:
            from tests.faults.limited.soak import LimitedSoak as kind
        soak = kind(site, given, stack)
        good = soak.run(schedule)
        say(soak.report(good))
        if not good:
            say(f"logs and stories: {soak.keep_evidence()}")
    say(
        f"again: python -m tests.faults.soak --minutes {given.minutes:g} --seed {given.seed}"
        f" --supervisors {given.supervisors} --rate {given.rate:g}"
        f"{' --limits' if given.limits else ''}"
    )
    return 0 if good else 1


def say(text: str) -> None:
    print(text, flush=True)


class Soak:
    """One soak on a fresh site."""

    def __init__(self, site: Site, given: argparse.Namespace, stack: ExitStack) -> None:
        self._site = site
        self._given = given
        self._injector = self.prepare(stack)
        self._verdict: Verdict | None = None
        self._began = self._told = time.monotonic()

    def prepare(self, stack: ExitStack) -> Injector:
        """Return who has the supervisors."""
        from tests.faults.injector import Injector

        return Injector(self._site, count=self._given.supervisors)

    def load(self) -> AbstractContextManager[Load]:
        """Return what is enqueued meanwhile."""
        from tests.faults.load import ENDINGS, LONG, MIX, POISON

        mix = [*MIX, *LONG, *POISON, *ENDINGS]
        return self._site.load(mix=mix, **self.load_options)

    @property
    def load_options(self) -> dict[str, Any]:
        """How much is enqueued."""
        return {"rate": self._given.rate, "seed": self._given.seed, "bursts": BURSTS}

    def act(self) -> None:
        """Do what is to be done now and then."""

    def end(self) -> None:
        """Undo what ``act`` has done."""

    def judge(self) -> bool:
        """Return whether the promise was kept."""
        self._verdict = self._site.verdict()
        return self._verdict.ok

    def run(self, schedule: Iterable[Fault]) -> bool:
        """Return whether the promise was kept, and everything ended in order."""
        self._injector.start()
        self._began = self._told = time.monotonic()
        try:
            with self.load() as load:
                for fault in schedule:
                    self._go_on_until(fault.at, load)
                    say(f"{self._now():7.1f} s  {fault.kind}: {self._injector.inject(fault)}")
                self._go_on_until(60 * self._given.minutes, load)
        except Exception:
            self._injector.complaints.append(f"it broke off: {traceback.format_exc()}")
        say(f"{self._now():7.1f} s  no more load, no more faults")
        self._injector.heal()
        self.end()
        ended = self._wait_for_the_end()
        self._injector.finish(seconds=END_SECONDS)
        return self.judge() and ended and not self._injector.complaints

    def report(self, good: bool) -> str:
        """Return what was done, and what came of it."""
        done = self._injector.done
        lines = [
            "",
            "GOOD" if good else "BAD",
            str(self._verdict),
            *(f"  {complaint}" for complaint in self._injector.complaints),
            f"faults: {done.total()}",
            *(f"  {count} x {kind}" for kind, count in sorted(done.items())),
            f"seed: {self._given.seed}",
        ]
        return "\n".join(lines)

    def keep_evidence(self) -> Path:
        """Copy the logs to a folder that stays, with the stories of the tasks in question."""
        folder = Path(tempfile.mkdtemp(prefix="partisan-soak-"))
        shutil.copytree(self._site.logs, folder, dirs_exist_ok=True)
        tasks = dict.fromkeys(violation.task for violation in self._verdict.violations)
        stories = [self._site.story(task) for task in list(tasks)[:50]]
        (folder / "stories.txt").write_text("\n\n".join([str(self._verdict), *stories]))
        return folder

    def _go_on_until(self, seconds: float, load: Load) -> None:
        while self._now() < seconds:
            if load.error:
                raise load.error
            self._injector.watch()
            self.act()
            self._tell()
            time.sleep(0.05)

    def _wait_for_the_end(self) -> bool:
        deadline = time.monotonic() + END_SECONDS
        while self._site.unfinished():
            self._injector.watch()
            self._tell()
            if time.monotonic() > deadline:
                say(f"NOT ALL ENDED within {END_SECONDS} s; {self._site.describe_unfinished()}")
                return False
            time.sleep(0.1)
        return True

    def _tell(self) -> None:
        if time.monotonic() - self._told < PROGRESS_SECONDS:
            return
        self._told = time.monotonic()
        rows = self._site.execute(
            "SELECT status, count(*) FROM partisan_async_task GROUP BY status ORDER BY status"
        )
        counts = ", ".join(f"{count} {status}" for status, count in rows)
        say(f"{self._now():7.1f} s  {counts}; {self._injector.done.total()} faults")

    def _now(self) -> float:
        return time.monotonic() - self._began


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the faults and the load (default: a new one)")
    parser.add_argument("--supervisors", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=50, help="tasks/s (default: %(default)s)")
    parser.add_argument("--limits", action="store_true", help="tasks under limits")
    given = parser.parse_args(arguments)
    if given.seed is None:
        given.seed = random.randrange(1_000_000)
    return given


if __name__ == "__main__":
    sys.exit(main())
