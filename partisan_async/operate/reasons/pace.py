"""When a task under a limit starts, at the pace at which others of its key have ended lately."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.utils.translation import gettext

from partisan_async.enqueue.run import fetch
from partisan_async.models import ENDED, Task
from partisan_async.text.durations import in_words

LATELY = timedelta(hours=1)

LOOKED_AT = 1000
"""Maximum number of the queue's last ends, of each kind, that are looked at."""

LEAST = 3
"""Least number of ends of its key from which a pace is told."""

# From the first of these ends until now, so that a key of which nothing ends any more gets slower.
_PACE = f"""
SELECT count(*) - 1, extract(epoch FROM statement_timestamp() - min(ended.finished_at))::float8
FROM unnest(%(statuses)s::text[]) AS s (status) CROSS JOIN LATERAL (
    SELECT t.finished_at, t.limit_name, t.limit_key FROM partisan_async_task t
    WHERE t.status IN ('finished', 'error') AND t.status = s.status
        AND t.queue_name = %(queue_name)s
        AND t.finished_at BETWEEN statement_timestamp() - %(lately)s AND statement_timestamp()
    ORDER BY t.finished_at DESC LIMIT {LOOKED_AT}) AS ended
WHERE ended.limit_name = %(name)s AND ended.limit_key IS NOT DISTINCT FROM %(key)s
"""  # noqa: S608


def told_pace(task: Task, before: int) -> Iterator[str]:
    """Say how long it takes at this pace until it starts; nothing where too few have ended.

    :param before: number of tasks of its key that come before it.
    """
    params = {
        "statuses": list(ENDED),
        "queue_name": task.queue_name,
        "lately": LATELY,
        "name": task.limit_name,
        "key": task.limit_key,
    }
    ((ended, seconds),) = fetch(_PACE, params)
    if ended + 1 >= LEAST and seconds:
        time = in_words((before + 1) * seconds / ended)
        yield gettext("At the pace of the last ones it starts in about %(time)s.") % {"time": time}
