"""Processors before and after their ``run()`` had parameters, and their retries an end in time."""

import datetime
import uuid
from contextlib import suppress

from partisan_async import registry
from partisan_async.config.processor_configs import ErrorsHandleConfig
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Every

AT = datetime.datetime(2026, 11, 28, 7, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))

try:
    from partisan_async.task_processor import TaskProcessor
except ImportError:

    @registry.register
    class Pay(BaseTaskProcessor):
        STORE_RESULT = True

        def run(self):
            return ["before", *self.args, self.kwargs]

    def calls(count):
        at = AT.isoformat()
        return [Pay(str(uuid.UUID(int=n)), note="é", amount=n / 4, at=at) for n in range(count)]
else:

    @registry.register
    class PayOrder(TaskProcessor):
        NAME = "Pay"  # as the class was called
        STORE_RESULT = True

        def run(self, order: uuid.UUID, *, note: str, amount: float, at: datetime.datetime):
            assert type(order) is uuid.UUID
            return ["now", str(order), {"amount": amount, "at": at.isoformat(), "note": note}]

    Pay = PayOrder

    def calls(count):
        return [Pay(uuid.UUID(int=n), note="é", amount=n / 4, at=AT) for n in range(count)]


AGAIN = {"retry_on_errors": [TimeoutError], "retry_pause": 0.2}

try:
    config = ErrorsHandleConfig(**AGAIN, give_up_after_seconds=2)
except TypeError:
    config = ErrorsHandleConfig(**AGAIN, retries_count=1000)


@registry.register
class Try(Pay.__base__):
    RETRY_ON_ERROR_CONFIG = config

    def run(self):
        raise TimeoutError


@registry.register
class Ring(BaseTaskProcessor):
    """Ticks; in this release by several schedules, of which the one before knows one."""

    QUEUE_NAME = "rings"
    STORE_RESULT = True
    SCHEDULE = Every(seconds=0.5, catch_up=True)

    def run(self):
        return self.kwargs.get("region", "all")


with suppress(TypeError):  # the release before has no such parameter
    Ring.SCHEDULES = {"eu": Every(seconds=0.5, catch_up=True, kwargs={"region": "eu"})}
