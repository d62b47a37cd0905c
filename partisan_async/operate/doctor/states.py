"""Looks for missing constraints, and for rows whose state the constraints refuse."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import connections
from django.db.models import CheckConstraint

from partisan_async import store
from partisan_async.enqueue.run import fetch
from partisan_async.models import Task
from partisan_async.operate import migrations
from partisan_async.operate.doctor.look import Said, well, wrong

COUNTED = 1000
NAMED = 5

MIGRATION = "0011_states"

MEND = "manage.py partisan doctor --mend"


def constraints() -> Iterator[Said]:
    """Tell whether the constraints exist, and whether all rows keep them."""
    found = dict(fetch(*store.constraints()))
    checks = [each for each in Task._meta.constraints if isinstance(each, CheckConstraint)]  # noqa: SLF001
    missing = [each for each in checks if each.name not in found]
    if missing and MIGRATION in migrations.unapplied(store.database()):
        # Constraints that were added by hand would make the migration fail.
        yield _told(
            f"{len(missing)} come with the migration {MIGRATION}, and all rows would keep them"
        )
        return
    editor = connections[store.database()].schema_editor()
    for each in missing:
        made = each.create_sql(Task, editor)
        yield wrong(f"The constraint {each.name} is missing: {made} NOT VALID.")
    if missing:
        return
    kept = f"{len(checks)}, and all rows keep them"
    if all(found[each.name] for each in checks):
        yield well(kept)
        return
    yield _told(f"{kept}; {MEND} has the server note that")


def _told(if_none: str) -> Said:
    """Count the rows that a constraint refuses."""
    ids = [pk for (pk,) in fetch(*store.broken(-(2**63), COUNTED + 1))]
    if not ids:
        return well(if_none)
    count = f"over {COUNTED:,}" if len(ids) > COUNTED else f"{len(ids):,}"
    return wrong(
        f"{count} task(s) have a status that no release knows, or an end without a time, or a time"
        f" without an end, such as {', '.join(map(str, ids[:NAMED]))}: they are not run where the"
        f" constraints are, and the database refuses to change them. {MEND} sets them right."
    )
