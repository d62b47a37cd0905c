"""Every value that PostgreSQL's types allow, as far as one may stand for its like.

By the type of the column, and so of columns that do not exist yet, too: a type that is missing here
fails ``test_odd_rows``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.apps import apps
from django.db import connection
from django.db.models import Model

DEEP = 3_000
DIGITS = 9_000

TIMES = (
    "infinity",
    "-infinity",
    "4714-11-24 00:00:00+00 BC",
    "0001-01-01 00:00:00+00 BC",
    "0001-01-01 00:00:00+00",
    "0002-01-01 00:00:00+00",
    "1970-01-01 00:00:00+00",
    "2038-01-19 03:14:08+00",
    "9998-12-31 23:59:59.999999+00",
    "9999-12-31 23:59:59.999999+00",
    "10000-01-01 00:00:00+00",
    "294276-12-31 23:59:59.999999+00",
)

TEXTS = (
    "",
    " ",
    "%s %(x)s {0} {{ y }} {% z %}",
    "<script>alert('evil')</script>\"'&\\",
    "\x01\x1b[31m\r\n\t\u202e\ufeff",
    "a.b",
    "../../..",
    "\U0001d11e" * 255,
)

JSON = (
    "null",
    "true",
    "0",
    "-1",
    "1e400",
    "9" * DIGITS,
    f"-0.{'9' * DIGITS}",
    '""',
    '"x"',
    '"\\u0001\\ud834\\udd1e\\u202e"',
    "[]",
    "[null]",
    "[1]",
    "[[]]",
    "[{}]",
    "{}",
    '{"": null}',
    '[{"pid": null, "running": null, "tasks": null}]',
    '[{"pid": "x", "running": "x", "tasks": {}}]',
    f'[{{"pid": {"9" * DIGITS}, "running": 1e300, "tasks": []}}]',
    '[{"pid": 1, "running": 1, "tasks": [null, 1, {}, {"id": 1e20, "processor": 1}]}]',
    '[{"pid": 1, "running": 1, "tasks": [{"id": -5, "processor": "X", "seconds": 1e400}]}]',
    '[{"pid": 1, "running": 1, "tasks": [{"id": 5, "processor": [], "seconds": "x"}]}]',
    f'{{"pid": {"9" * DIGITS}}}',
    '{"pid": -1}',
    '{"pid": [], "boot_id": {}, "pid_namespace": 1, "started": "x"}',
    '{"args": null, "kwargs": null}',
    '{"args": [], "kwargs": {}, "tick": "x"}',
    '{"args": [], "kwargs": {}, "tick": "0001-01-01T00:00:00+14:00"}',
    '{"args": [], "kwargs": {}, "tick": {}}',
    '[{"exception_class": null, "message": [], "traceback": {}, "try": "x", "at": 1}]',
    '[{"exception_class": 5, "message": 5, "at": "0001-01-01T00:00:00+14:00"}]',
    '[{"exception_class": "X", "message": "y", "at": "infinity"}]',
    "[" * 100 + "]" * 100,
    "[" * 900 + "]" * 900,
    "[" * DEEP + "]" * DEEP,
    '{"a":' * DEEP + "1" + "}" * DEEP,
    f'[{{"message": {"[" * 900 + "]" * 900}, "try": {"[" * 900 + "]" * 900}}}]',
    f'"{"x" * 1_000_000}"',
)

VALUES: dict[str, tuple[str, ...]] = {
    "timestamptz": TIMES,
    "int4": ("0", "1", "-1", "19", "20", "2147483647", "-2147483648"),
    "int2": ("0", "1", "-1", "32767", "-32768"),
    "int8": ("0", "-1", "9223372036854775807", "-9223372036854775808"),
    "float8": ("NaN", "Infinity", "-Infinity", "1e308", "-1e308", "5e-324", "-0", "-1"),
    "bool": ("true", "false"),
    "uuid": ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    "varchar": TEXTS,
    "text": (*TEXTS, "x" * 1_000_000),
    "jsonb": JSON,
    "bytea": ("", "\\x00", "\\x" + "ff" * 32, "\\x" + "00" * 100_000),
}


class Column(NamedTuple):
    """A column of a table of the package's."""

    model: type[Model]
    name: str
    kind: str

    @property
    def values(self) -> list[str | None]:
        """All that its type allows, as the server reads it."""
        return [None, *VALUES[self.kind]]

    def __str__(self) -> str:
        return f"{self.model.__name__}.{self.name}"


def columns_of(model: type[Model]) -> list[Column]:
    """Return the columns of a model's table, as the server has them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, udt_name FROM information_schema.columns WHERE table_name = %s"
            " AND table_schema = current_schema() ORDER BY ordinal_position",
            [model._meta.db_table],
        )
        return [Column(model, name, kind) for name, kind in cursor.fetchall()]


def models() -> list[type[Model]]:
    """Return the package's models that have a table of their own."""
    found: Any = apps.get_app_config("partisan_async").get_models()
    return [model for model in found if not model._meta.proxy]
