"""Rows that cannot be taken are gone around; what is no row's is raised."""

import asyncio
from datetime import timedelta

import psycopg
import pytest

from partisan_async.store import Statement
from partisan_async.supervisor.around import Around
from partisan_async.supervisor.connection import Connection

pytestmark = pytest.mark.django_db(transaction=True)

NOBODYS = Statement("SELECT 1 / 0", {})
NO_ROWS = Statement("SELECT 1 WHERE false", {})
TWO_ROWS = Statement("VALUES (7), (8)", {})


def take(statement, rows):
    """Take rows on a real connection; return what was taken, and who took them."""

    async def taken():
        connection = Connection("default", "test", timedelta(seconds=10))
        around = Around("take", connection)
        try:
            return await around.take(lambda among: statement, lambda among: rows), around
        finally:
            await connection.close()

    return asyncio.run(taken())


def test_an_error_where_there_are_no_rows_is_raised():
    """Nothing is to be gone around: whoever asked would ask at once again, and hear nothing."""
    with pytest.raises(psycopg.errors.DivisionByZero):
        take(NOBODYS, NO_ROWS)


def test_an_error_of_each_row_passes_over_each(caplog):
    taken, around = take(NOBODYS, TWO_ROWS)

    assert (taken, around.went_around) == ([], True)
    assert [caplog.text.count(f"passed over {pk}:") for pk in (7, 8)] == [1, 1]
