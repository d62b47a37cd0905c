"""A processor before and after its ``run()`` was given parameters."""

import uuid

from partisan_async import registry

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
