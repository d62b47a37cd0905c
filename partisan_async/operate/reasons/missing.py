"""Why there is no task with a given id."""

from __future__ import annotations

from collections.abc import Iterator

from partisan_async import settings
from partisan_async.enqueue.run import fetch
from partisan_async.text.durations import in_words


def why_missing(pk: int) -> list[str]:
    """Return sentences that say why there is no task with this id."""
    ((last,),) = fetch(
        """
        SELECT CASE WHEN has_sequence_privilege(s.name, 'USAGE, SELECT')
            THEN pg_sequence_last_value(s.name::regclass)
            ELSE (SELECT max(id) FROM partisan_async_task) END
        FROM pg_get_serial_sequence('partisan_async_task', 'id') AS s (name)
        """
    )
    if last is None or pk > last:
        known = "no task has had one" if last is None else f"the last one is {last}"
        return [f"No task has had the number {pk} yet: {known}."]
    return [
        f"There is no task {pk} any more: it finished and its row was deleted, or was pruned.",
        "Or it was of a subject that somebody erased.",
        "Or there never was one: what enqueued it was rolled back, or is not committed yet.",
        "Or its number was meant for a call that was ignored, since an identical one waited.",
        *_deletions(),
    ]


def _deletions() -> Iterator[str]:
    for name in settings.configured_queues():
        queue = settings.queue_settings(name)
        if queue.DELETE_TASKS_ON_COMPLETE:
            yield f"Rows of queue {name!r} are deleted when they finish: DELETE_TASKS_ON_COMPLETE."
        elif (kept := queue.KEEP_FINISHED_SECONDS) is not None:
            yield (
                f"Rows of queue {name!r} are deleted {in_words(kept)} after they finished:"
                " KEEP_FINISHED_SECONDS."
            )
        if (kept := queue.KEEP_FAILED_SECONDS) is not None:
            yield (
                f"Rows of queue {name!r} are deleted {in_words(kept)} after they failed:"
                " KEEP_FAILED_SECONDS."
            )
