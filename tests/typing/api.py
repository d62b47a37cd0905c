"""What mypy tells users of the public names; checked by ``nox -s types``, never run."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import partial
from typing import assert_type

from partisan_async import context, registry, schedules, steering
from partisan_async.config import const
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig
from partisan_async.exceptions import CancelTask, PostponeTask
from partisan_async.limits import Limit, Rate
from partisan_async.models import Schedule, Task
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Cron, Every
from partisan_async.testing import Ran, run_pending, stopping
from partisan_async.unique import Unique


@registry.register
class Sync(BaseTaskProcessor):
    PRIORITY = 5
    SCHEDULE = Every(seconds=90)
    SCHEDULES = {
        "eu": Cron("0 7 * * *", kwargs={"region": "eu"}),
        "us": Every(seconds=60, skip_while_running=True),
        "all": "0 7 * * *",
    }
    UNIQUE_FOR_PARAMS = False
    QUEUE_NAME = "mail"
    POSTPONE_CONFIG = PostponeConfig(max_postpones=5)
    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TimeoutError, ConnectionError],
        retries_count=3,
        retry_pause=0.5,
        retry_pause_strategy=const.DELAY_STRATEGY_INCREMENTAL,
    )

    def run(self) -> int:
        if self.task_obj is not None:
            raise PostponeTask(1.5)
        return 1


def pause_of(error: TimeoutError, task: Task) -> float | None:
    return None if task.tries else 5


@registry.register
class Once(BaseTaskProcessor):
    UNIQUE = Unique(by=("account", 0), while_running=True, within_seconds=3600, on_twin="sooner")

    LIMIT = Limit(
        running=20,
        running_per_key=2,
        rates=[Rate(10_000, per_seconds=3600)],
        rates_per_key=(Rate(100, per_seconds=0.5),),
        fair=True,
        name="partner",
    )

    def run(self) -> None: ...

    def task_subject(self) -> str | None:
        return None

    def limit_key(self) -> int:
        return 5


@registry.register
class Async(BaseTaskProcessor):
    SCHEDULE = "*/5 * * * *"
    RETRY_ON_ERROR_CONFIG = [
        ErrorsHandleConfig(
            retry_on_errors=[TimeoutError], retries_count=3, retry_pause=pause_of, or_seconds=1
        ),
        ErrorsHandleConfig(
            retry_on_errors=[OSError],
            retry_pause=1,
            retry_pause_strategy=const.DELAY_STRATEGY_EXPONENTIAL,
            max_pause=60,
            jitter=0.5,
            give_up_after_seconds=3600,
        ),
    ]

    async def run(self) -> None:
        raise CancelTask("void")


assert_type(Sync(1, a=2), Sync)
assert_type(Sync(1).delay(priority=3, execute_after=datetime.datetime.now(datetime.UTC)), Task)
assert_type(Sync(1).delay(queue_name="mail"), Task)
assert_type(Sync.bulk_delay([Sync(1), Sync(2)], queue_name="mail"), list[Task])
assert_type(BaseTaskProcessor.bulk_delay([Sync(1), Once(2), Async(3)]), list[Task])
assert_type(BaseTaskProcessor.bulk_delay(Sync(each) for each in range(3)), list[Task])
assert_type(Once(1).delay().limit_key, str | None)
assert_type(Limit(in_order=True).rates, Sequence[Rate])
assert_type(Rate(1, per_seconds=1).per_seconds, float)
assert_type(Sync(1).stopping, bool)
assert_type(context.stopping(), bool)
assert_type(run_pending(), list[Ran])
assert_type(run_pending(errors="keep"), list[Ran])


assert_type(schedules.create("acme", Sync(1), "0 7 * * *"), Schedule)
assert_type(schedules.create("acme", partial(print, "acme"), "0 7 * * *"), Schedule)
assert_type(schedules.delete("acme"), bool)
assert_type(steering.cancel([1], processor="Sync"), list[int])
assert_type(Sync(1).delay(subject="customer:42").subject, str | None)
assert_type(Sync.bulk_delay([Sync(1)], subject=None), list[Task])
assert_type(schedules.create("acme", Sync(1), "0 7 * * *", subject="customer:42"), Schedule)
assert_type(steering.erase("customer:42"), steering.Erased)
assert_type(steering.erase("customer:42").left, int)


with stopping():
    run_pending()


async def view() -> None:
    assert_type(await steering.aretry(older_than=datetime.timedelta(hours=1)), list[int])
    assert_type(await steering.apause(processor="Sync"), bool)
    assert_type(await schedules.acreate("acme", Async(1), Every(seconds=60)), Schedule)
    assert_type(await schedules.adelete("acme"), bool)
    assert_type(await Async(1).until_stopping(), None)
    assert_type(await context.until_stopping(), None)
    assert_type(await Async(1).adelay(queue_name="mail", subject="customer:42"), Task)
    assert_type(await BaseTaskProcessor.abulk_delay([Sync(1), Async(2)]), list[Task])
    assert_type(await steering.aerase("customer:42"), steering.Erased)
