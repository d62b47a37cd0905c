"""The unique index of twins: why it also has rows without a digest, and who needs that.

With ``digest IS NOT NULL`` in its condition no planner would take it for a way to all that waits.
The release before names it by less than that, and PostgreSQL would find no index for its inserts.
"""

import re

import pytest
from django.db import ProgrammingError, connection, transaction

from partisan_async import registry, store
from partisan_async.models import Task
from partisan_async.models.status import WAITING_SQL
from partisan_async.supervisor.ticker import tick_of
from tests.before import BEFORE, git
from tests.test_ticker import HOURLY
from tests.test_unique import unique
from tests.testapp.partisan_tasks import Sync, WriteUnique

__all__ = ["unique"]  # a fixture

pytestmark = pytest.mark.django_db

INSERT = """
INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority, execute_after)
VALUES ('default', 'Nothing', '{"args": [], "kwargs": {}}', 1, now())
"""


@pytest.fixture
def narrow(db):
    """Have the index without those rows, until the test's transaction is rolled back."""
    narrow = f"(digest) WHERE digest IS NOT NULL AND status IN {WAITING_SQL}"
    execute("DROP INDEX partisan_async_one_unclaimed")
    execute(f"CREATE UNIQUE INDEX partisan_async_one_unclaimed ON partisan_async_task {narrow}")


def execute(sql, params=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def test_the_release_before_needs_it_as_it_is(narrow):
    """If this fails, the release before needs it no more: a migration can build the narrow one."""
    sources = git("grep", "-h", "ON CONFLICT (digest) WHERE", BEFORE, "--", "partisan_async")
    targets = set(re.findall(r"ON CONFLICT \(digest\) WHERE (.*) DO NOTHING", sources.decode()))

    assert targets == {"status IN ('new', 'scheduled')"}
    with pytest.raises(ProgrammingError, match="no unique or exclusion"), transaction.atomic():
        execute(f"{INSERT} ON CONFLICT (digest) WHERE {targets.pop()} DO NOTHING")


@pytest.mark.parametrize("rule", [None, {}, {"on_twin": "sooner"}, {"within_seconds": 60}])
def test_no_statement_of_this_release_does(narrow, unique, rule):
    """So that the next release may run beside it with the narrow one."""
    processor = WriteUnique if rule is None else Sync
    if rule is not None:
        unique(**rule)

    for _ in range(2):
        processor("one").delay()
        processor.bulk_delay([processor(str(n)) for n in range(3)])

    assert Task.objects.count() == 4


def test_nor_does_a_tick(narrow):
    call = tick_of(registry.get("WriteUnique"), HOURLY)
    moment = "2026-01-01T00:00:00Z"
    execute(*store.tick(call, "WriteUnique", str(HOURLY), [moment], moment))
