"""How an error is told in one line."""

import psycopg
import pytest
from django.db import Error, transaction

from partisan_async.text.one_line import explain
from tests.site_rules import constraint
from tests.testapp.partisan_tasks import Write

SECRET = "4711-4711"


@pytest.mark.django_db(transaction=True)
def test_what_postgresql_says_comes_without_the_row():
    """Its detail has the row that it refuses, and with that the arguments."""
    with constraint("status <> 'new'"), pytest.raises(Error) as caught, transaction.atomic():
        Write(SECRET).delay()

    told = 'new row for relation "partisan_async_task" violates check constraint'
    for error in (caught.value, caught.value.__cause__):
        assert SECRET in str(error)
        assert explain(error).startswith(told)
        assert SECRET not in explain(error)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            psycopg.OperationalError("connection is bad:\n  no such host"),
            "connection is bad: no such host",
        ),
        (Error("not so"), "not so"),
        (TimeoutError(), "no answer"),
    ],
)
def test_what_has_no_detail_is_told_whole(error, told):
    assert explain(error) == told
