"""Which rights on the package's tables a role needs, and which of them it lacks.

A *role* is the database user of a connection. ``docs/howto/database-roles.md`` grants these rights.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from partisan_async.enqueue.run import fetch

Rights = Mapping[str, tuple[str, ...]]
"""Privileges by table. ``USAGE ON SEQUENCE`` is on the sequence of the table's ids."""

SUPERVISOR: Rights = {
    "django_migrations": ("SELECT",),
    "partisan_async_task": ("SELECT", "INSERT", "UPDATE", "DELETE", "USAGE ON SEQUENCE"),
    "partisan_async_supervisor": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "partisan_async_pausedqueue": ("SELECT",),
    "partisan_async_pausedprocessor": ("SELECT", "UPDATE", "DELETE"),
    "partisan_async_home": ("SELECT", "INSERT", "UPDATE"),
    "partisan_async_schedule": ("SELECT", "INSERT", "UPDATE"),
    "partisan_async_tally": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "partisan_async_uniquewindow": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "partisan_async_limit": ("SELECT", "INSERT", "UPDATE"),
    "partisan_async_limitoverride": ("SELECT",),
    "partisan_async_limitpause": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "partisan_async_limitstart": ("SELECT", "INSERT", "UPDATE", "DELETE"),
}
"""Of the role that runs ``start_partisan``, for all its work: also ticks, pruning and tallies."""

ESSENTIAL: Rights = {
    "django_migrations": ("SELECT",),
    "partisan_async_task": ("SELECT", "UPDATE"),
    "partisan_async_supervisor": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "partisan_async_pausedqueue": ("SELECT",),
    "partisan_async_pausedprocessor": ("SELECT",),
    "partisan_async_home": ("SELECT", "INSERT", "UPDATE"),
    "partisan_async_schedule": ("SELECT",),
    "partisan_async_limit": ("SELECT",),
}
"""The part of ``SUPERVISOR`` without which it cannot claim, settle or beat."""

PAUSING: Rights = {"partisan_async_pausedqueue": ("SELECT", "INSERT")}
"""What ``start_partisan --paused`` needs in addition."""

OPERATOR: Rights = {
    "django_migrations": ("SELECT",),
    "partisan_async_task": ("SELECT", "INSERT", "UPDATE", "DELETE", "USAGE ON SEQUENCE"),
    "partisan_async_supervisor": ("SELECT", "UPDATE"),
    "partisan_async_pausedqueue": ("SELECT", "INSERT", "DELETE"),
    "partisan_async_pausedprocessor": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "partisan_async_home": ("SELECT", "INSERT", "UPDATE"),
    "partisan_async_schedule": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "partisan_async_tally": ("SELECT", "USAGE ON SEQUENCE"),
    "partisan_async_uniquewindow": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "partisan_async_limit": ("SELECT", "DELETE"),
    "partisan_async_limitoverride": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "partisan_async_limitpause": ("SELECT",),
    "partisan_async_limitstart": ("SELECT",),
}
"""Of the role that uses the admin and ``manage.py partisan``."""

# to_regclass() finds no table in a schema that the role may not use: then look for it by name in
# such schemas. A table found by the search path comes first, so that another schema's table of the
# same name is not taken for ours.
_MISSING = """
WITH needed AS (
    SELECT n, name, what, COALESCE(to_regclass(quote_ident(name)), (
        SELECT c.oid FROM pg_class c
        WHERE c.relname = name AND c.relkind IN ('r', 'p')
            AND NOT has_schema_privilege(%(role)s, c.relnamespace, 'USAGE') LIMIT 1)) AS oid
    FROM unnest(%(names)s::text[], %(whats)s::text[]) WITH ORDINALITY AS u (name, what, n)),
found AS (
    SELECT n, what, format('%%I.%%I', s.nspname, c.relname) AS told, c.oid, s.oid AS schema,
        s.nspname,
        CASE WHEN what = 'USAGE ON SEQUENCE'
                AND has_schema_privilege(c.relnamespace, 'USAGE')
            THEN pg_get_serial_sequence(format('%%I.%%I', s.nspname, c.relname), 'id') END AS seq
    FROM needed JOIN pg_class c USING (oid) JOIN pg_namespace s ON s.oid = c.relnamespace)
SELECT what || ' ' || seq, what, told, format('%%I', nspname), format('%%I', r.rolname),
    has_schema_privilege(r.oid, schema, 'USAGE'),
    CASE WHEN what <> 'USAGE ON SEQUENCE' THEN has_table_privilege(r.oid, found.oid, what)
        ELSE seq IS NULL OR has_sequence_privilege(r.oid, seq::regclass, 'USAGE') END
FROM found, pg_roles r WHERE r.rolname = %(role)s
ORDER BY n
"""


def missing(alias: str, rights: Rights, role: str | None = None) -> list[str]:
    """Return the statements that grant a role those of these rights that it lacks.

    Tables that do not exist yet are skipped: migrations create them.

    :param role: ``None``: the role of the connection.
    """
    pairs = [(name, what) for name, whats in rights.items() for what in whats]
    names, whats = map(list, zip(*pairs, strict=True))
    params = {"names": names, "whats": whats, "role": role or current_role(alias)}
    rows = fetch(_MISSING, params, alias)
    schemas = {(schema, to) for *_, schema, to, may_use, _ in rows if not may_use}
    return [
        *(f"GRANT USAGE ON SCHEMA {schema} TO {to};" for schema, to in sorted(schemas)),
        *_of_tables([row for row in rows if not row[-1]]),
    ]


def current_role(alias: str) -> str:
    """Return the role with whose rights statements on a database run."""
    ((role,),) = fetch("SELECT current_user::text", alias=alias)
    return str(role)


def _of_tables(lacked: list[Any]) -> list[str]:
    granted = []
    for (table, role), of_table in groupby(lacked, key=lambda row: (row[2], row[4])):
        rights = [(told, what) for told, what, *_ in of_table]
        if whats := [what for _, what in rights if what != "USAGE ON SEQUENCE"]:
            granted.append(f"GRANT {', '.join(whats)} ON {table} TO {role};")
        granted += [f"GRANT {told} TO {role};" for told, what in rights if what not in whats]
    return granted
