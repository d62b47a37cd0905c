"""How many connections async tasks hold, and what tells of too few."""

import pytest
from django.core.checks import run_checks
from django.db import connection, connections, transaction

from partisan_async.models import Task
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, wait_until
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import WaitElsewhere

MANY = 64


def found(number):
    wanted = f"partisan_async.{number}"
    return [each for each in run_checks(tags=["partisan_async"]) if each.id == wanted]


def count():
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def fewest():
    """Return how many connections stay: this one, and a supervisor's but for the pruner's."""
    sql = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND (pid = pg_backend_pid() OR application_name LIKE 'partisan\\_async %'"
        " AND application_name NOT LIKE '% prune')"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
def test_many_tasks_that_wait_elsewhere_hold_few_connections(tmp_path):
    """One for each would be more than most servers have for one site."""
    go = tmp_path / "go"
    with live_supervisor("waiting", WORKERS_COUNT=1, ASYNC_CONCURRENCY=MANY):
        before = count()
        tasks = [WaitElsewhere(str(go), True, number).delay() for number in range(MANY)]
        wait_until(lambda: Mark.objects.count() == MANY)

        wait_until(lambda: count() <= before + 3)

        assert Task.objects.filter(status="in_process").count() == MANY
        go.touch()
        wait_until(lambda: ended(*tasks))
    assert Mark.objects.filter(text="goes on").count() == MANY


@pytest.mark.django_db(transaction=True)
def test_without_it_each_holds_one(tmp_path):
    """Else the other test proves nothing."""
    go = tmp_path / "go"
    with live_supervisor("waiting", WORKERS_COUNT=1, ASYNC_CONCURRENCY=12):
        before = fewest()
        tasks = [WaitElsewhere(str(go), False, number).delay() for number in range(12)]
        wait_until(lambda: Mark.objects.count() == 12)

        assert count() >= before + 12

        go.touch()
        wait_until(lambda: ended(*tasks))


@pytest.mark.django_db
def test_a_tests_own_transaction_stays(tmp_path):
    """With the connection it would be gone, and what the test wrote."""
    WaitElsewhere(str(tmp_path), True).delay()

    run_pending()

    assert Mark.objects.count() == 2
    assert transaction.get_connection().in_atomic_block


class TestPools:
    @pytest.fixture
    def pooled(self):
        """Give the default database a pool, for the checks alone."""
        options = connections.settings["default"]["OPTIONS"]

        def set_up(pool):
            options["pool"] = pool

        yield set_up
        options.pop("pool", None)

    @pytest.mark.parametrize(
        ("pool", "size"),
        [
            (True, 4),
            ({}, None),
            ({"max_size": 9}, 9),
            ({"min_size": 2}, 2),
            ({"max_size": 10}, None),
        ],
    )
    def test_one_that_is_too_small_is_told(self, pooled, settings, pool, size):
        """Who finds no connection waits for one, and fails by a time-out."""
        settings.PARTISAN_CONFIG = {"waiting": {"ASYNC_CONCURRENCY": 10}}
        settings.ASYNC_CONCURRENCY = 1
        pooled(pool)

        messages = [each.msg for each in found("W016")]

        expected = f"has a pool of {size} connections, and in queue 'waiting' up to 10 async tasks"
        assert [expected in message for message in messages] == ([] if size is None else [True])

    def test_without_a_pool_there_is_nothing_to_say(self):
        assert found("W016") == []


class ToSecond:
    def db_for_write(self, model, **hints):
        return "second" if model is Task else None


class TestADatabaseOfTheirOwn:
    def test_it_is_told(self, settings):
        """A task may run before what it is about is committed."""
        settings.DATABASE_ROUTERS = ["tests.test_many_connections.ToSecond"]

        (warning,) = found("W015")

        assert "delay() is not part of the transactions of 'default'" in warning.msg
        assert not warning.is_serious()

    def test_the_default_one_is_fine(self):
        assert found("W015") == []
