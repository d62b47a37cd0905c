"""A processor before and after its ``run()`` was given parameters."""

import uuid
from contextlib import suppress

from partisan_async import registry
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Every

try:
    from partisan_async.task_processor import TaskProcessor
except ImportError:

    @registry.register
    class Pay(BaseTaskProcessor):
        STORE_RESULT = True

        def run(self):
            return ["before", *self.args, self.kwargs]

    def calls(count):
        return [Pay(str(uuid.UUID(int=n)), note="é", amount=n / 4) for n in range(count)]
else:

    @registry.register
    class Pay(TaskProcessor):
        STORE_RESULT = True

        def run(self, order: uuid.UUID, *, note: str, amount: float):
            assert type(order) is uuid.UUID
            return ["now", str(order), {"amount": amount, "note": note}]

    def calls(count):
        return [Pay(uuid.UUID(int=n), note="é", amount=n / 4) for n in range(count)]


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
