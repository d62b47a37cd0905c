"""A processor before and after its ``run()`` was given parameters."""

import datetime
import uuid

from partisan_async import registry

AT = datetime.datetime(2026, 11, 28, 7, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))

try:
    from partisan_async.task_processor import TaskProcessor
except ImportError:
    from partisan_async.processor import BaseTaskProcessor

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
