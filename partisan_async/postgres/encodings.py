"""Replaces characters that a database's encoding lacks, as LATIN1 lacks "€"."""

from __future__ import annotations

import codecs

from django.db import connections


def of_database(alias: str) -> str:
    """Return the encoding of a database of Django's, as PostgreSQL names it."""
    connection = connections[alias]
    connection.ensure_connection()
    # The server sends it at the start of each session: reading it costs no statement.
    encoding: str | None = connection.connection.info.parameter_status("server_encoding")
    return encoding or "UTF8"


def within(text: str, encoding: str) -> str:
    """Return the text with "?" for each character that an encoding lacks.

    :param encoding: PostgreSQL's name of it.
    """
    codec = _codec(encoding)
    return text.encode(codec, "replace").decode(codec)


def _codec(encoding: str) -> str:
    """Return Python's name of an encoding of PostgreSQL; ``ascii`` if Python has none."""
    name = encoding.upper().replace("WIN", "CP").replace("KOI8", "KOI8-")
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "ascii"
