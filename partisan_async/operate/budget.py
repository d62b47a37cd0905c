"""How many connections to the database a supervisor and its workers may open."""

from __future__ import annotations

from partisan_async import registry
from partisan_async.declared import is_async
from partisan_async.settings import QueueSettings


def of_supervisor(settings: QueueSettings, *, listens: bool = True) -> int:
    """Return how many a supervisor itself may open: to claim, settle, beat, listen and prune."""
    prunes = {settings.KEEP_FINISHED_SECONDS, settings.KEEP_FAILED_SECONDS} != {None}
    return 3 + listens + prunes


def per_worker(queue_name: str, settings: QueueSettings) -> int:
    """Return how many each worker may open. The processors must have been imported before."""
    known = registry.processors()
    # One that none names gets calls by delay(queue_name=…), of any.
    processors = [each for each in known if queue_name == each.QUEUE_NAME] or known
    return 1 + settings.ASYNC_CONCURRENCY if any(map(is_async, processors)) else 1
