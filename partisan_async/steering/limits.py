"""Overrides what a limit allows, and makes what waits for limits ready without them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from partisan_async import store
from partisan_async.enqueue.limits import checked
from partisan_async.enqueue.run import fetch
from partisan_async.enqueue.wake import wake, wake_limited
from partisan_async.models import Task
from partisan_async.steering import audit
from partisan_async.validation import MOST, check_count


def set_limit(name: str, running: int, *, key: str | None = None) -> bool:
    """Let so many tasks run at once under a limit, whatever the code says; what runs goes on.

    :param name: as ``LIMIT`` has it, or that of its processor.
    :param running: 0: none.
    :param key: of this key, in place of ``running_per_key``; ``None``: of all together.
    :return: whether that is another number than before.
    :raises ValueError, TypeError: the number is negative, or nothing can have this key.
    """
    wrong = check_count(0)(running)
    if wrong or running > MOST:
        raise ValueError(f"running={running!r} {wrong or f'must be {MOST:,} at most'}.")
    key = checked(key, "The key")
    changed = fetch(*store.override(name, key, running))
    about = {"limit": name, "running": running}
    return _tell("set-limit", changed, name, key, f" to {running:,}", **about)


def clear_limit(name: str, *, key: str | None = None) -> bool:
    """Have the code's number hold again; the other parameters are those of ``set_limit``.

    :return: whether there was another one.
    """
    key = checked(key, "The key")
    changed = fetch(*store.clear_override(name, key))
    return _tell("clear-limit", changed, name, key, "", limit=name)


def dissolve_in_batches(name: str | None = None) -> Iterator[int]:
    """Make ready what waits for a limit, as if it had none; yield how many, a thousand at a time.

    Rows that others have locked are left out. A supervisor whose code has the limit makes tasks
    wait for it again: so this ends after as many as waited when it began.

    :param name: ``None``: all limits.
    """
    of, left = "all limits" if name is None else repr(name), waiting(name)
    for (queue_name,) in fetch(*store.limited_queues()):
        while left > 0 and (count := len(fetch(*store.dissolve(queue_name, name)))):
            wake(queue_name, store.STEERED, store.database())
            told = f"{count:,} of {of} in queue {queue_name!r}"
            audit.put_down("dissolve", [told], queue_name=queue_name, limit=name, count=count)
            left -= count
            yield count


def forget_limit(name: str) -> bool:
    """Delete what a limit allowed that no live supervisor has and no task; return whether it did.

    This code must not have it, either: a supervisor of this code has written it once for all.
    """
    forgotten = fetch(*store.forget_limit(name, timedelta(seconds=store.TTL_SECONDS)))
    audit.put_down("forget-limit", [repr(each) for (each,) in forgotten], limit=name)
    return bool(forgotten)


def waiting(name: str | None = None) -> int:
    """Return how many tasks wait for a limit; ``None``: for any."""
    rows = Task.objects.using(store.database()).filter(status=Task.STATUS_LIMITED)
    return (rows if name is None else rows.filter(limit_name=name)).count()


def _tell(
    action: str, changed: list[Any], name: str, key: str | None, to: str, **about: Any
) -> bool:
    # What was full or closed is looked at again, where something waits for it.
    for queue_name, pk in fetch(*store.first_limited(name, key)) if changed else ():
        wake_limited(queue_name, [pk], store.database())
    for (pk,) in changed:
        # Not the key, which may be a person's name.
        of = repr(name) if key is None else f"a key of {name!r} (override {pk})"
        audit.put_down(action, [f"{of}{to}"], override_id=pk, **about)
    return bool(changed)
