"""Reads libpq connection strings.

Errors show no part of the string: it may hold a password, and in a mistyped string any part may
belong to that password.
"""

from __future__ import annotations

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

WRONG = (
    "must be a libpq connection string, such as 'host=db.internal port=5432', or a URI, such as"
    " 'postgresql://db.internal:5432'; in a URI the special characters of a password are written"
    " as codes, such as %40 for @, %2F for / and %25 for %"
)


def parse(dsn: str) -> dict[str, str]:
    """Return the parameters in a connection string or URI.

    :raises ValueError: the string is neither.
    """
    # Not raised in the except block: its context would be libpq's error, which shows the string.
    if (params := _parsed(dsn)) is None:
        raise ValueError(f"A connection string {WRONG}.")
    return params


def _parsed(dsn: str) -> dict[str, str] | None:
    try:
        params = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
        for host in params.get("host", "").split(","):
            if not host.startswith("/"):
                host.encode("idna")  # as it will be when it is looked up
    except (ProgrammingError, UnicodeError):
        return None
    return None if "\0" in dsn or _is_mistaken(dsn, params) else params


def _is_mistaken(dsn: str, params: dict[str, str]) -> bool:
    """Tell whether libpq took a part of a password for something that errors name."""
    numbers = [*params.get("port", "").split(","), params.get("connect_timeout", "")]
    if not all(number.isdecimal() for number in numbers if number):
        return True
    return "://" in dsn and "@" in params.get("host", "") + params.get("dbname", "")
