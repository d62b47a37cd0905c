"""One run of an ``async def run()``, from the claim to the result."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from asgiref.sync import sync_to_async

from partisan_async.claim import Claim
from partisan_async.enqueue.parameters import parameters_of
from partisan_async.policy import RETURNED, Limited, Returned
from partisan_async.processor import BaseTaskProcessor
from partisan_async.worker.loading import (
    NOTHING,
    RunCall,
    processor_of,
    read_arguments,
    take_call,
    tell_start,
)
from partisan_async.worker.result import returned
from partisan_async.worker.under_limit import lacks_limit, limit_of
from partisan_async.worker.used_caches import close_caches

if TYPE_CHECKING:
    from partisan_async.enqueue.parameters.parameters import Parameters


class AsyncRun:
    """Call it once and await the run; it raises the error that ended the run.

    :param me: the supervisor that has the claim.
    :param most: maximum number of bytes of a result.
    """

    def __init__(self, claim: Claim, me: UUID, most: int) -> None:
        self.processor: BaseTaskProcessor | None = None
        """``None`` until it is made; it stays so if that fails, and nothing runs."""
        self.encoded = claim.arguments
        """The encoded arguments; ``None``: they are large, and not read yet."""
        self.outcome: Returned | Limited = RETURNED
        """The outcome, unless the run raised an error."""
        self._claim = claim
        self._me = me
        self._most = most

    async def __call__(self) -> None:
        try:
            await self._run()
        finally:
            close_caches(self._claim)

    async def _run(self) -> None:
        if self.encoded is None:
            self.encoded = await sync_to_async(read_arguments)(self._me, self._claim)
        processor = processor_of(self._claim, self.encoded)
        if lacks_limit(self._claim, type(processor)):
            under = await sync_to_async(limit_of)(self._claim, self.encoded)
            if under is not None:
                self.outcome = under
                return
        self.processor = processor
        if processor.ATOMIC:
            raise TypeError(
                "ATOMIC needs a plain `def run(self)`: Django has no transactions in async code."
            )
        if processor._is_heard():  # noqa: SLF001
            await sync_to_async(tell_start)(self._claim, processor)
        parameters = parameters_of(type(processor))
        call = NOTHING if parameters is None else await self._take_call(processor, parameters)
        if call is not None:
            result = await processor.run(*call[0], **call[1])
            self.outcome = returned(processor, result, self._most)

    async def _take_call(
        self, processor: BaseTaskProcessor, parameters: Parameters
    ) -> RunCall | None:
        if parameters.reads_rows:
            return await sync_to_async(take_call)(self._claim, processor, parameters)
        return take_call(self._claim, processor, parameters)
