"""Which rights on the package's tables a role needs, and which of them it lacks.

A *role* is who is connected to the database. ``docs/howto/database-roles.md`` grants these rights.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from django.db import connections

Rights = Mapping[str, tuple[str, ...]]
"""Tables, and what may be done with each; of a table's sequence: ``USAGE ON SEQUENCE``."""

SUPERVISOR: Rights = {
    "django_migrations": ("SELECT",),
    "partisan_async_task": ("SELECT", "INSERT", "UPDATE", "DELETE", "USAGE ON SEQUENCE"),
    "partisan_async_supervisor": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "partisan_async_pausedqueue": ("SELECT",),
    "partisan_async_schedule": ("SELECT", "INSERT", "UPDATE"),
    "partisan_async_tally": ("SELECT", "INSERT", "UPDATE", "DELETE"),
}
"""Of who runs ``start_partisan``: all that it does, with ticks, pruning and tallies."""

ESSENTIAL: Rights = {
    "django_migrations": ("SELECT",),
    "partisan_async_task": ("SELECT", "UPDATE"),
    "partisan_async_supervisor": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "partisan_async_pausedqueue": ("SELECT",),
}
"""Of these, those without which it neither claims nor settles nor beats."""

OPERATOR: Rights = {
    "django_migrations": ("SELECT",),
    "partisan_async_task": ("SELECT", "INSERT", "UPDATE", "DELETE", "USAGE ON SEQUENCE"),
    "partisan_async_supervisor": ("SELECT", "UPDATE"),
    "partisan_async_pausedqueue": ("SELECT", "INSERT", "DELETE"),
    "partisan_async_schedule": ("SELECT", "UPDATE"),
    "partisan_async_tally": ("SELECT", "USAGE ON SEQUENCE"),
}
"""Of who uses the admin and ``manage.py partisan``."""

# A role that may not use the schema does not find the table: then it is looked for by name. What
# another schema has of that name is not ours where the search path leads to one.
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
            THEN pg_get_serial_sequence(format('%%I.%%I', s.nspname, c.relname), 'id') END AS seq
    FROM needed JOIN pg_class c USING (oid) JOIN pg_namespace s ON s.oid = c.relnamespace)
SELECT what, told, seq, format('%%I', nspname), has_schema_privilege(r.oid, schema, 'USAGE'),
    format('%%I', r.rolname)
FROM found, pg_roles r
WHERE r.rolname = %(role)s AND NOT (has_schema_privilege(r.oid, schema, 'USAGE') AND CASE
    WHEN what <> 'USAGE ON SEQUENCE' THEN has_table_privilege(r.oid, found.oid, what)
    ELSE seq IS NULL OR has_sequence_privilege(r.oid, seq::regclass, 'USAGE') END)
ORDER BY n
"""


def missing(alias: str, rights: Rights, role: str | None = None) -> list[str]:
    """Return the statements that grant a role what it lacks of these rights.

    Tables that are not there are passed over: migrations make them.

    :param role: ``None``: the one that is connected.
    """
    pairs = [(name, what) for name, whats in rights.items() for what in whats]
    names, whats = map(list, zip(*pairs, strict=True))
    rows = _fetch(alias, _MISSING, names=names, whats=whats, role=role or current_role(alias))
    return [*_of_schemas(rows), *_of_tables(rows)]


def current_role(alias: str) -> str:
    """Return whose rights the statements on a database have."""
    ((role,),) = _fetch(alias, "SELECT current_user::text")
    return str(role)


def _of_schemas(rows: list[Any]) -> list[str]:
    lacked = {(schema, role) for *_, schema, may_use, role in rows if not may_use}
    return [f"GRANT USAGE ON SCHEMA {schema} TO {role};" for schema, role in sorted(lacked)]


def _of_tables(rows: list[Any]) -> list[str]:
    granted = []
    for (told, role), of_table in groupby(rows, key=lambda row: (row[1], row[5])):
        whats: list[str] = []
        sequences: list[str] = []
        for what, _, sequence, *_ in of_table:
            (whats if sequence is None else sequences).append(sequence or what)
        if whats:
            granted.append(f"GRANT {', '.join(whats)} ON {told} TO {role};")
        granted += [f"GRANT USAGE ON SEQUENCE {name} TO {role};" for name in sequences]
    return granted


def _fetch(alias: str, sql: str, **params: Any) -> list[Any]:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params or None)
        return list(cursor.fetchall())
