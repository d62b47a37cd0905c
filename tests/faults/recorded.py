"""The bases of all processors here: they keep the ledger, and declare how their tasks must end."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

from partisan_async import registry
from partisan_async.declared import is_async
from partisan_async.processor import BaseTaskProcessor
from tests.faults.history import Kind
from tests.faults.ledger import Run


class Recorded(BaseTaskProcessor):
    """A processor whose runs are in the ledger; write ``work()`` instead of ``run()``."""

    UNIQUE_FOR_PARAMS = False

    ENDS: ClassVar[str] = "finished"
    """The status that its tasks must come to: ``finished``, ``error``, or ``either``."""

    POISON: ClassVar[bool] = False
    """Whether it kills its worker every time."""

    def run(self) -> Any:
        with Run(self.task_obj):
            return self.work()

    @abc.abstractmethod
    def work(self) -> Any:
        """Do what the task is about."""


class AsyncRecorded(Recorded):
    """The same, on the event loop: ``async def work()``."""

    async def run(self) -> Any:
        # Written without a pause for others: nothing comes between "started" and the ledger.
        with Run(self.task_obj):
            return await self.work()

    @abc.abstractmethod
    async def work(self) -> Any:
        """Do what the task is about."""


def kinds() -> dict[str, Kind]:
    """Return what the checker must know of each registered processor, by name."""
    return {
        processor.__name__: Kind(
            *(processor.ENDS, processor.POISON, is_async(processor), processor.STORE_RESULT),
            on_error=processor.ON_ERROR and processor.ON_ERROR.__name__,
        )
        for processor in registry.processors()
        if issubclass(processor, Recorded)
    }
