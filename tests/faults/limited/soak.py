"""The soak of tasks under limits: ``nox -s soak -- --limits --supervisors 4 --minutes 30``."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from tests.faults.injector import Injector
from tests.faults.limited import record
from tests.faults.limited.load import LimitedLoad
from tests.faults.limited.operator import Operator
from tests.faults.limited.verdict import LimitsVerdict, judge_limits
from tests.faults.load import Load
from tests.faults.pgbouncer import Pgbouncer
from tests.faults.soak import Soak

APPS = ["partisan_async", "tests.faults", "tests.faults.limited"]

WORKERS = 2
"""Of each supervisor."""


class LimitedSoak(Soak):
    """Half of its supervisors go through a pgbouncer, and an operator changes numbers."""

    wants_liveness = True

    limits: LimitsVerdict
    """What came of it."""

    def prepare(self, stack: ExitStack) -> Injector:
        self._site.execute(record.TRIGGER)
        self._operator = Operator(self._site, self._given.seed)
        pgbouncer = stack.enter_context(Pgbouncer(self._site.url, pool_size=12))
        return Injector(
            self._site,
            count=self._given.supervisors,
            pgbouncer=pgbouncer,
            INSTALLED_APPS=APPS,
            WORKERS_COUNT=WORKERS,
        )

    def load(self) -> AbstractContextManager[Load]:
        return self._site.loaded(LimitedLoad(**self.load_options))

    def act(self) -> None:
        self._operator.act()

    def end(self) -> None:
        self._operator.clear()

    def judge(self) -> bool:
        history = self._site.history(pooled=True)
        self._verdict = self._site.verdict(pooled=True)
        around = record.Circumstances(
            limits=record.declared(),
            overrides=self._operator.made,
            pauses=record.read_pauses(self._site.execute),
            befallen=self._injector.befallen,
            calm=self._injector.calm,
            workers=self._given.supervisors * WORKERS,
        )
        self.limits = judge_limits(history, around)
        return (
            self._verdict.ok
            and self.limits.ok
            and (self.limits.is_lively or not self.wants_liveness)
        )

    def report(self, good: bool) -> str:
        return f"{super().report(good)}\n{self.limits}"

    def keep_evidence(self) -> Path:
        folder = super().keep_evidence()
        tasks = [each.task for each in (*self.limits.violations, *self.limits.waits)]
        stories = [self._site.story(task) for task in dict.fromkeys(tasks)]
        (folder / "limits.txt").write_text("\n\n".join([str(self.limits), *stories[:50]]))
        return folder
