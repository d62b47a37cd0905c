"""Processors before and after their ``run()`` had parameters, and their retries an end in time."""

import uuid

from partisan_async import registry
from partisan_async.config.processor_configs import ErrorsHandleConfig

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
