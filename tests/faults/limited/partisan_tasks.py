"""Processors with limits, of all kinds: each does what its first argument says.

Who wants them has this app among its INSTALLED_APPS: other supervisors know of no limit.
"""

from __future__ import annotations

import asyncio
import time

from partisan_async import registry
from partisan_async.config.processor_configs import ErrorsHandleConfig
from partisan_async.exceptions import PostponeTask
from partisan_async.limits import Limit, Rate
from tests.faults.ledger import Run
from tests.faults.partisan_tasks import die
from tests.faults.recorded import Recorded

RETRIES = ErrorsHandleConfig(retry_on_errors=[TimeoutError], retries_count=5, retry_pause=0.2)


class Limited(Recorded):
    """Called with what it is to do, its key, and how long it takes."""

    ENDS = "either"
    RETRY_ON_ERROR_CONFIG = RETRIES

    def limit_key(self):
        return self.args[1]

    def work(self):
        time.sleep(self.args[2])
        self.act(self.args[0])

    def act(self, how):
        task = self.task_obj
        match how:
            case "stumble" if task.tries < 2:
                raise TimeoutError("not yet")
            case "postpone" if not task.postpones:
                raise PostponeTask(0.3)
            case "pause" if task.claim_seq == 1:
                raise PostponeTask(1, whole_key=True)
            case "break":
                raise ValueError("broken")
            case "die" if not task.lost:
                die("SIGKILL")


class AsyncLimited(Limited):
    """The same on the event loop."""

    async def run(self):
        with Run(self.task_obj):
            await asyncio.sleep(self.args[2])
            self.act(self.args[0])


PARTNER = Limit(
    running=6,
    running_per_key=2,
    rates=[Rate(40, per_seconds=1)],
    rates_per_key=[Rate(6, per_seconds=2), Rate(40, per_seconds=30)],
    name="partner",
)


@registry.register
class AskPartner(Limited):
    """All parts that hold together, in one limit."""

    LIMIT = PARTNER


@registry.register
class AskPartnerToo(AsyncLimited):
    """Shares it."""

    LIMIT = PARTNER


@registry.register
class Event(Limited):
    """Of each key one after the other, and of all keys a few."""

    LIMIT = Limit(in_order=True, running=5)


@registry.register
class PacedEvent(Limited):
    """In order, and not too fast."""

    LIMIT = Limit(in_order=True, rates_per_key=[Rate(3, per_seconds=1)], name="paced")


@registry.register
class InTurn(Limited):
    """In turns, and nothing else."""

    LIMIT = Limit(fair=True)


@registry.register
class OnPrinter(Limited):
    """So few at once that each end makes way for another key."""

    LIMIT = Limit(running=2, running_per_key=1)


@registry.register
class OnGpu(AsyncLimited):
    """Two at once, without keys."""

    LIMIT = Limit(running=2)

    def limit_key(self):
        return None


@registry.register
class Message(Limited):
    """So many in a while, without keys."""

    LIMIT = Limit(rates=[Rate(8, per_seconds=1), Rate(120, per_seconds=20)])

    def limit_key(self):
        return None
