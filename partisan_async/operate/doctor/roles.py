"""Looks at roles: whether the operator's and the supervisors' have the rights that they need."""

from __future__ import annotations

from collections.abc import Iterator

from partisan_async import store
from partisan_async.operate import rights as needed
from partisan_async.operate.doctor.look import Said, ask, well, wrong


def rights() -> Iterator[Said]:
    """Tell which GRANTs are missing: for the role that asks, and for those of supervisors."""
    alias = store.database()
    asks = needed.current_role(alias)
    lacked = False
    for role, of, what in (
        (asks, needed.OPERATOR, "look at all, nor steer all"),
        *((role, needed.SUPERVISOR, "do all of its work as a supervisor") for role in _serving()),
    ):
        if grants := needed.missing(alias, of, role):
            lacked = True
            yield wrong(f"The role {role!r} cannot {what}: {' '.join(grants)}")
    if not lacked:
        yield well(f"the role {asks!r} has those of an operator, and supervisors have theirs")


def _serving() -> list[str]:
    """Return the roles that supervisors are connected as, without those that may use SET ROLE.

    A member of another role may have switched to it, and other sessions cannot see that.
    """
    rows = ask("""
        SELECT DISTINCT usename::text FROM pg_stat_activity a
        WHERE datname = current_database() AND application_name LIKE 'partisan\\_async %'
            AND application_name <> 'partisan_async doctor' AND NOT EXISTS (
                SELECT FROM pg_auth_members m WHERE m.member = a.usesysid)
        ORDER BY 1
    """)
    return [name for (name,) in rows]
