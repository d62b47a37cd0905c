"""Looks at limits: what may overrun them, and what is left of those that are gone."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from partisan_async import store
from partisan_async.models import Limit, LimitOverride
from partisan_async.operate import limit_names, overview, to_copy
from partisan_async.operate.doctor.look import Said, ask, well, wrong

NAMED = 5

_OLD = """
SELECT s.hostname || '/' || COALESCE(s.process->>'pid', '?'), s.queue_name
FROM partisan_async_supervisor s
WHERE s.id = ANY(%(ids)s::uuid[]) AND NOT COALESCE(s.process, '{}') ? 'limits'
ORDER BY 1, 2
"""

# Also what has started, and what is scheduled: it waits for the limit again, or in time.
_USED = """
SELECT name FROM unnest(%(names)s::text[]) AS n (name) WHERE EXISTS (
    SELECT 1 FROM partisan_async_task t
    WHERE t.status = ANY(%(statuses)s) AND t.limit_name = n.name)
"""


def older_releases() -> Iterator[Said]:
    """Report supervisors that know nothing of limits, beside tasks that start under some."""
    known = limit_names.all_names()
    alive = [each.id for each in overview.supervisors() if each.alive] if known else []
    old = ask(_OLD, ids=alive) if alive else []
    if old:
        named = ", ".join(f"{process} of queue {queue!r}" for process, queue in old[:NAMED])
        yield wrong(
            f"Supervisors of a release that knows nothing of limits run: {named}. They start what"
            " they make ready, so that limits may be overrun while they run: stop them, and start"
            " them anew with this release."
        )
    elif known:
        yield well("every supervisor knows of limits")
    else:
        yield well("there are no limits")


def unused_limits() -> Iterator[Said]:
    """Report limits, and numbers of operators, that nothing has any more."""
    alias = store.database()
    code = limit_names.of_code()
    rows = dict(Limit.objects.using(alias).values_list("name", "set_by"))
    alive = {UUID(each.id) for each in overview.supervisors() if each.alive}
    left = [name for name, by in rows.items() if name not in code and by not in alive]
    used = (
        {name for (name,) in ask(_USED, names=left, statuses=list(store.UNENDED))}
        if left
        else set()
    )
    unused = sorted(set(left) - used)
    for name in unused[:NAMED]:
        yield wrong(
            f"No code has the limit {name!r}, and no task starts under it any more:"
            f" {to_copy.dissolve(name)} forgets it."
        )
    overridden = set(LimitOverride.objects.using(alias).values_list("name", flat=True))
    strays = sorted(overridden - {*rows, *limit_names.all_names()}) if overridden else []
    for name in strays[:NAMED]:
        yield wrong(
            f"An operator allows a number under the limit {name!r}, which no code and no task has:"
            f" {to_copy.clear_limit(name)}, with --key for each key that has one."
        )
    if not unused and not strays:
        yield well(f"{len(rows):,}, all in use")
