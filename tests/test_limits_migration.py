"""Migration 0019: what limits need, on a table in use; and its way back, which dissolves them."""

import threading

import pytest
from django.core.management import call_command
from django.db import ProgrammingError, connection, connections

from partisan_async.operate.doctor import indexes
from tests.conftest import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE, AFTER = "0018", "0019"

INDEXES = {f"partisan_async_{name}" for name in ("limited", "occupied", "one_unclaimed")}
"""Those that it builds on the table of tasks."""

SMALL = {"partisan_async_limit_pause", "partisan_async_start_until"}

WAS = "partisan_async_one_waiting"
"""The one that it removes."""

INSERT = """
INSERT INTO partisan_async_task
    (queue_name, processor_class, arguments, priority, execute_after, status, digest)
SELECT 'default', 'Nothing', '{"args": [], "kwargs": {}}', 1, now(), %s, %s::bytea
FROM generate_series(1, %s)
"""

WAITS = """
SELECT query FROM pg_stat_activity WHERE query LIKE '%% INDEX CONCURRENTLY %%'
    AND pg_blocking_pids(pid) = ARRAY[%s]
"""


def execute(sql, *params):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


def insert(status, digest=None, count=1):
    execute(INSERT, status, digest, count)


def migrate(*target):
    call_command("migrate", "partisan_async", *target, verbosity=0)


def built():
    """Return the indexes of the table of tasks that it has to do with, those that are valid."""
    rows = execute(
        "SELECT relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE relname = ANY (%s) AND indisvalid AND indisready",
        [*INDEXES, WAS],
    )
    return {name for (name,) in rows}


@pytest.fixture
def before():
    migrate(BEFORE)
    yield
    migrate()


@pytest.fixture
def after():
    """For the tests that go back: forth again in the end, whatever has happened."""
    yield
    migrate(BEFORE)
    migrate()


class Migration(threading.Thread):
    """A migration in a thread, which waits before the end of each index for what is open."""

    def __init__(self, target):
        super().__init__()
        self.error = None
        self._target_name = target

    def run(self):
        try:
            migrate(self._target_name)
        except Exception as error:
            self.error = error
        finally:
            connections.close_all()

    def waits_for(self, reader):
        """Return the index whose building or removal waits for a transaction."""
        found = []

        def looked():
            found[:] = execute(WAITS, reader.pid)
            return found or not self.is_alive()

        wait_until(looked)
        assert found, self.error
        ((query,),) = found
        return next(name for name in {*INDEXES, *SMALL, WAS} if f'"{name}"' in query)

    def end(self):
        self.join(60)
        assert not self.is_alive()
        assert self.error is None


class Reader:
    """A transaction that reads; one on tasks is in the way of new columns, too."""

    def __init__(self, table):
        self._connection = connection.copy()
        with self._connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            cursor.execute(f"SELECT count(*) FROM {table}")
            cursor.execute("SELECT pg_backend_pid()")
            (self.pid,) = cursor.fetchone()

    def close(self):
        self._connection.close()


def through(migration, last, do, first="partisan_async_task"):
    """Let it go on from index to index, and do something while it waits for each, up to the last.

    :return: the names of the indexes that it waited for.
    """
    seen = set()
    reader = Reader(first)
    migration.start()
    try:
        while last not in seen:
            index = migration.waits_for(reader)
            if index not in seen:
                do(index)
            seen.add(index)
            # It waits for the younger one next; also for the same index, whose removal waits twice.
            reader, done = Reader("partisan_async_task"), reader
            done.close()
    finally:
        reader.close()
        migration.end()
    return seen


def writes(_):
    """As enqueues, claims and settles do."""
    execute("SET lock_timeout = '2s'")
    insert("new")
    execute("UPDATE partisan_async_task SET priority = priority + 1")
    execute("RESET lock_timeout")


def test_while_each_index_is_built_others_write(before):
    insert("new", count=10)

    seen = through(Migration(AFTER), WAS, writes, first="auth_user")

    assert seen == {*INDEXES, *SMALL, WAS}
    assert built() == INDEXES
    assert execute("SELECT count(*) FROM partisan_async_task") == [(16,)]


def test_while_each_index_is_removed_others_write(after):
    insert("limited", count=10)

    seen = through(Migration(BEFORE), "partisan_async_limited", writes)

    assert seen == {*INDEXES, WAS}
    assert built() == {WAS}
    assert execute("SELECT status, count(*) FROM partisan_async_task GROUP BY 1") == [("new", 14)]


def test_forth_and_back_rows_stay_what_they_are(before):
    """Beneath more of them than are made ready at once."""
    insert("new", b"one")
    insert("finished", count=0)
    insert("scheduled", count=5)
    migrate()
    insert("limited", count=2500)
    insert("limited", b"two")
    execute(
        "UPDATE partisan_async_task SET limit_name = 'x', limit_rank = 0 WHERE status = 'limited'"
    )
    execute(  # the retry of a head, say, which would not be due
        "UPDATE partisan_async_task SET execute_after = now() + interval '1 hour'"
        " WHERE digest = 'two'"
    )

    migrate(BEFORE)

    assert execute("SELECT status, count(*) FROM partisan_async_task GROUP BY 1 ORDER BY 1") == [
        ("new", 2501),
        ("scheduled", 6),
    ]
    kept = execute("SELECT digest FROM partisan_async_task WHERE digest IS NOT NULL ORDER BY id")
    assert [bytes(each) for (each,) in kept] == [b"one", b"two"]
    migrate()
    assert execute(
        "SELECT DISTINCT limit_name, limit_key, limit_rank FROM partisan_async_task"
    ) == [(None, None, None)]


def test_what_comes_while_it_goes_back_is_made_ready_too(after):
    """A web process of this release goes on enqueuing, beside one of the release before.

    The one has the task wait for its limit; the other's index knows no such twin.
    """

    def enqueue(index):
        if index == "partisan_async_occupied":
            insert("limited", b"twin")
            insert("new", b"twin")
            insert("limited", b"other")

    through(Migration(BEFORE), "partisan_async_limited", enqueue)

    rows = execute("SELECT status, digest FROM partisan_async_task ORDER BY id")
    assert [(status, digest and bytes(digest)) for status, digest in rows] == [
        ("new", None),
        ("new", b"twin"),
        ("new", None),
    ]
    assert built() == {WAS}


@pytest.mark.parametrize("index", sorted({*INDEXES, *SMALL}))
def test_one_that_was_cut_off_begins_anew(before, index):
    """What is in the way of the index has the same name."""
    insert("new", b"one")
    execute(f"CREATE TABLE {index} ()")
    with pytest.raises(ProgrammingError, match=index):
        migrate()
    writes(None)
    insert("scheduled", b"two")
    execute(f"DROP TABLE {index}")

    migrate()

    assert built() == INDEXES
    assert [found.well for found in indexes.indexes()] == [True]
    assert execute("SELECT count(*) FROM partisan_async_task") == [(3,)]


def test_a_way_back_that_was_cut_off_begins_anew(after):
    insert("limited", b"one")
    execute(f"CREATE TABLE {WAS} ()")
    with pytest.raises(ProgrammingError, match=WAS):
        migrate(BEFORE)
    assert built() == INDEXES
    assert execute("SELECT status FROM partisan_async_task") == [("new",)]
    insert("limited", b"two")
    execute(f"DROP TABLE {WAS}")

    migrate(BEFORE)

    assert built() == {WAS}
    rows = execute("SELECT status, digest FROM partisan_async_task ORDER BY id")
    assert [(status, bytes(digest)) for status, digest in rows] == [
        ("new", b"one"),
        ("new", b"two"),
    ]


TARGETS = {
    "the release before": "WHERE status IN ('new', 'scheduled')",
    "before that": "",
    "this one": "WHERE digest IS NOT NULL AND status IN ('new', 'scheduled', 'limited')",
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("stage", ["both", "one"])
def test_twins_of_each_release_are_told_by_the_index(before, target, stage):
    """Also while both are there, between the building of one and the removal of the other."""
    if stage == "both":
        execute("CREATE UNIQUE INDEX kept_back ON partisan_async_task (digest)"
                " WHERE status IN ('new', 'scheduled')")  # fmt: skip
    migrate()
    sql = f"{INSERT} ON CONFLICT {'(digest) ' if target else ''}{target} DO NOTHING"
    for status in ("new", "scheduled", "limited"):
        insert(status, status.encode())

    for status in ("new", "scheduled", "limited"):
        execute(sql, "new", status.encode(), 1)
    execute(sql, "new", b"another", 1)

    assert execute("SELECT count(*) FROM partisan_async_task") == [(4,)]
    if stage == "both":
        execute("DROP INDEX kept_back")
