"""Looks for rows whose state the table refuses by now."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import connections
from django.db.models import CheckConstraint

from partisan_async import store
from partisan_async.enqueue.run import fetch
from partisan_async.models import Task
from partisan_async.operate.doctor.look import Said, ask, well, wrong

COUNTED = 1000
NAMED = 5

MEND = "manage.py partisan doctor --mend"


def constraints() -> Iterator[Said]:
    """Tell whether the constraints are there, and whether all rows keep them."""
    found = constraints_there()
    checks = [each for each in Task._meta.constraints if isinstance(each, CheckConstraint)]  # noqa: SLF001
    missing = [each for each in checks if each.name not in found]
    editor = connections[store.database()].schema_editor()
    for each in missing:
        made = each.create_sql(Task, editor)
        yield wrong(f"The constraint {each.name} is missing: {made} NOT VALID.")
    if missing:
        return
    if all(found[each.name] for each in checks):
        yield well(f"{len(checks)}, and all rows keep them")
        return
    ids = [pk for (pk,) in fetch(*store.broken(-(2**63), COUNTED + 1))]
    if not ids:
        yield well(f"{len(checks)}, and all rows keep them; {MEND} has the server note that")
        return
    count = f"over {COUNTED:,}" if len(ids) > COUNTED else f"{len(ids):,}"
    yield wrong(
        f"{count} task(s) have a status that no release knows, or an end without a time, or a time"
        f" without an end, such as {', '.join(map(str, ids[:NAMED]))}: they are not run, and the"
        f" database refuses to change them. {MEND} sets them right."
    )


def constraints_there() -> dict[str, bool]:
    """Return the names of the check constraints of the tasks, and whether each is valid."""
    return dict(
        ask("""
        SELECT conname, convalidated FROM pg_constraint
        WHERE conrelid = 'partisan_async_task'::regclass AND contype = 'c'
        """)
    )
