"""Without what psycopg does not document: all goes on, by the plain ways, and it is said once."""

import subprocess
import sys

import pytest

from partisan_async.models import Task
from tests.process import ROOT, environment

pytestmark = pytest.mark.django_db(transaction=True)

TAKEN_AWAY = {
    "generators": "sys.modules['psycopg.generators'] = None; del psycopg.generators",
    "send": "del like('generators').send",
    "fetch": "del like('generators').fetch",
    "fetch_many": "del like('generators').fetch_many",
    "execute": "del like('generators').execute",
    "other arguments": "like('generators').fetch = lambda: None",
    "transformer": "del like('adapt').Transformer",
    "error_from_result": "del like('errors').error_from_result",
}
"""What a release of psycopg may be without."""

WAITING = {
    "waiting": "sys.modules['psycopg.waiting'] = None; del psycopg.waiting",
    "wait_async": "del like('waiting').wait_async",
    "other arguments": "like('waiting').wait_async = lambda gen: None",
}

BEGIN = """
import logging, sys, types
import psycopg, psycopg.generators, psycopg.waiting, psycopg.adapt, psycopg.errors
def like(name):
    # psycopg itself goes on with its own module.
    other = types.ModuleType(f"psycopg.{name}")
    vars(other).update(vars(getattr(psycopg, name)))
    sys.modules[other.__name__] = other
    setattr(psycopg, name, other)
    return other
{taken}
import django
django.setup()
logging.basicConfig(format="%(event)s", level=logging.WARNING)
logging.getLogger("partisan_async").handlers[:] = []
"""

ENQUEUE = """
from django.db import connections, transaction
from tests.testapp.partisan_tasks import Write
from partisan_async.postgres import renewal
renewal.watch()
connection = connections["default"]
connection.close()
Write("alone").delay()
with transaction.atomic():
    Write("within").delay()
tasks = Write.bulk_delay([Write(str(n)) for n in range(1500)])
assert len({task.pk for task in tasks}) == 1500
connection.ensure_connection()
assert renewal.renew(connection) is False
"""

RUN = """
from partisan_async.testing import live_supervisor
from partisan_async.models import Task
from tests.testapp.partisan_tasks import Write
from tests.conftest import ended, wait_until
from django.db import connection
if __name__ == "__main__":
    task = Write("waits").delay()
    with live_supervisor(WORKERS_COUNT=1):
        wait_until(lambda: ended(task))
"""


def run(script, taken):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN.replace("{taken}", taken) + script],
        env=environment(),
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("taken", TAKEN_AWAY)
def test_without_what_the_fast_ways_are_made_of_tasks_are_enqueued_by_djangos_cursor(taken):
    said = run(ENQUEUE, TAKEN_AWAY[taken])

    assert said.count("works plainly") == 1, said
    assert Task.objects.count() == 1502


@pytest.mark.parametrize("taken", WAITING)
def test_without_what_waits_are_made_of_tasks_are_run(taken):
    said = run(RUN, WAITING[taken])

    assert said.count("waits plainly") == 1, said
    assert Task.objects.get().status == "finished"


ANSWER = """
from django.db import OperationalError
from tests.testapp.partisan_tasks import Write
from partisan_async.postgres import insides
for enqueue in (Write("one").delay, lambda: Write.bulk_delay([Write(str(n)) for n in range(1500)])):
    insides.fit = None
    try:
        enqueue()
    except OperationalError:
        enqueue()
    else:
        raise AssertionError(f"{enqueue} was answered as ever")
"""


def test_an_answer_of_another_kind_fails_once_and_then_the_plain_way_is_taken():
    """What was sent cannot be taken back: nobody knows what became of it."""
    taken = """
def odd(pgconn):
    raise TypeError("odd")
    yield
like('generators').fetch = psycopg.generators.fetch_many = odd
"""
    said = run(ANSWER, taken)

    assert said.count("works plainly") == 2, said
    assert Task.objects.count() in (1501, 1502)


def test_with_all_of_it_nothing_is_said():
    said = run(ENQUEUE.replace("is False", "is True"), "")

    assert said == ""
    assert Task.objects.count() == 1502
