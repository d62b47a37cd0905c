"""How many connections to the database a process and its workers may open."""

from __future__ import annotations

from collections.abc import Collection

from partisan_async import registry
from partisan_async.declared import is_async
from partisan_async.settings import QueueSettings


def of_host(queues: Collection[QueueSettings], *, listens: bool = True) -> int:
    """Return how many a process itself may open: to claim of each queue; to settle, beat, listen
    and prune, of all queues together."""
    kept = {each for one in queues for each in (one.KEEP_FINISHED_SECONDS, one.KEEP_FAILED_SECONDS)}
    listeners = len({each.LISTEN_DSN for each in queues}) if listens else 0
    return len(queues) + 2 + listeners + (kept != {None})


def per_worker(queue_name: str, settings: QueueSettings) -> int:
    """Return how many each worker may open. The processors must have been imported before."""
    known = registry.processors()
    # One that none names gets calls by delay(queue_name=…), of any.
    processors = [each for each in known if queue_name == each.QUEUE_NAME] or known
    return 1 + settings.ASYNC_CONCURRENCY if any(map(is_async, processors)) else 1
