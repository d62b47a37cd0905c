"""What a run finds in the database sessions of its worker, whatever ran before it."""

import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from textwrap import dedent
from weakref import ReferenceType

import psycopg
import pytest
from django.core.signals import request_finished, request_started
from django.db import OperationalError, connection, connections

from partisan_async import steering
from partisan_async.models import Task
from partisan_async.testing import live_supervisor
from partisan_async.worker import abandoned, attended, runs
from tests.conftest import ended, marks, wait_until
from tests.faults.pgbouncer import Pgbouncer
from tests.home import Site, told
from tests.process import environment, partisan
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import (
    AskElsewhere,
    CountQueries,
    Execute,
    ExecuteAsync,
    ExecuteDeaf,
    Nothing,
    ReportAsyncSession,
    ReportSession,
    Tell,
    TellAsync,
    Write,
)

pytestmark = pytest.mark.django_db(transaction=True)

NEW = {
    "search_path": '"$user", public',
    "statement_timeout": "0",
    "role": "none",
    "time zone": "UTC",
    "client": "500ms",
    "locks": 0,
    "prepared": 0,
    "channels": 0,
    "cursors": 0,
    "temporary": 0,
}


def run(*tasks):
    rows = [task.delay() for task in tasks]
    wait_until(lambda: ended(*rows))
    return [Task.objects.get(pk=row.pk) for row in rows]


def with_options(**options):
    """A supervisor of one worker, whose database has these OPTIONS."""
    env = {"DATABASE_OPTIONS": json.dumps(options)}
    return partisan("--async", DJANGO_SETTINGS_MODULE="tests.settings_options", **env)


def end_sessions():
    """End all sessions but this one, and the supervisors' own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND application_name NOT LIKE 'partisan_async%'"
        )


class TestBetweenTasks:
    @pytest.mark.parametrize(
        "leftover",
        [
            "SET search_path = pg_catalog",
            "SET statement_timeout = '1h'",
            "SET ROLE pg_read_all_data",
            "SET SESSION AUTHORIZATION pg_read_all_data",
            "SET TIME ZONE 'Asia/Tokyo'",
            "SET client_connection_check_interval = 0",
            "SELECT pg_advisory_lock(4711)",
            "PREPARE leftover AS SELECT 1",
            "LISTEN leftover",
            "DECLARE leftover CURSOR WITH HOLD FOR SELECT 1",
            "CREATE TEMP TABLE leftover (id integer)",
        ],
    )
    def test_a_session_is_as_new_and_stays_the_same(self, leftover):
        """Each of these is there for whoever uses the connection next."""
        with live_supervisor(WORKERS_COUNT=1):
            before, _, after = run(ReportSession(), Execute(leftover), ReportSession())

        assert {**before.result, "backend": 0} == {**NEW, "backend": 0}
        assert after.result == before.result

    def test_a_role_of_the_settings_is_taken_again(self):
        """Django takes it when it connects, and a task may give it up."""
        role = connection.settings_dict["USER"]
        with with_options(assume_role=role):
            before, _, after = run(ReportSession(), Execute("RESET ROLE"), ReportSession())

        assert before.result["role"] == role
        assert after.result == before.result

    def test_after_an_error_the_connection_is_another(self):
        """The error may have come from the session, such as one that may only read."""
        with live_supervisor(WORKERS_COUNT=1):
            before, _, after = run(ReportSession(), Execute("SELECT 1/0"), ReportSession())

        assert after.result["backend"] != before.result["backend"]

    def test_a_session_that_may_only_read_fails_one_task(self):
        """So began a session while the database was set so; the default is the session's."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT quote_ident(current_database())")
            (name,) = cursor.fetchone()
            alter = f"ALTER DATABASE {name} SET default_transaction_read_only = %s"
            with live_supervisor(WORKERS_COUNT=1):
                run(Nothing())  # the supervisor's own connections are up
                cursor.execute(alter % "on")
                try:
                    run(ReportSession())
                finally:
                    cursor.execute(alter % "off")
                results = run(Write(1), Write(2), Write(3))

        assert [task.status for task in results] == ["error", "finished", "finished"]

    @pytest.mark.parametrize("how", ["sync", "async"])
    def test_a_connection_goes_back_to_djangos_pool_as_new(self, how):
        """Whoever gets it next may be any task."""
        report = ReportSession if how == "sync" else ReportAsyncSession
        with with_options(pool={"min_size": 1, "max_size": 1}):
            before, _, after = run(report(), Execute("SET search_path = pg_catalog"), report())

        assert after.result == before.result

    def test_where_the_project_sets_up_sessions_they_are_made_anew(self):
        """What a receiver has set a renewal would undo."""
        with partisan("--async", DJANGO_SETTINGS_MODULE="tests.settings_receiver"):
            before, _, after = run(
                ReportSession(), Execute("SET statement_timeout = '1h'"), ReportSession()
            )

        assert before.result["statement_timeout"] == "17s"
        assert after.result == {**before.result, "backend": after.result["backend"]}
        assert after.result["backend"] != before.result["backend"]

    def test_prepared_statements_of_psycopgs_are_prepared_again(self):
        """It would go on to execute those that are gone."""
        with with_options(prepare_threshold=0, server_side_binding=True):
            tasks = run(*[Execute("SELECT %s", [number]) for number in range(4)])
        assert [task.status for task in tasks] == ["finished"] * 4

    def test_a_task_without_sql_costs_its_session_nothing(self):
        """A statement for each such task would double what it costs."""
        with live_supervisor(WORKERS_COUNT=1):
            (first,) = run(ReportSession())
            with connection.cursor() as cursor:
                ask = "SELECT query_start FROM pg_stat_activity WHERE pid = %s"
                cursor.execute(ask, [first.result["backend"]])
                before = cursor.fetchone()
                run(*[Nothing() for _ in range(5)])
                cursor.execute(ask, [first.result["backend"]])
                assert cursor.fetchone() == before

    def test_the_list_of_queries_begins_anew(self, settings):
        """With DEBUG it would grow until the worker ends."""
        with partisan("--async", DJANGO_SETTINGS_MODULE="tests.settings_options", DEBUG="1"):
            tasks = run(CountQueries(), CountQueries())

        assert [task.result for task in tasks] == [[0, 1], [0, 1]]


class TestAsAroundRequests:
    """What Django resets at the end of each request is reset at the end of each run."""

    def test_django_resets_nothing_else(self):
        """Another release of it that does is noticed here."""
        import django.core.handlers.base  # noqa: F401  it connects one

        names = set()
        for each in (request_started, request_finished):
            for _, receiver, *_ in each.receivers:
                function = receiver() if isinstance(receiver, ReferenceType) else receiver
                if function is not None and function.__module__.startswith("django."):
                    names.add(function.__name__)

        assert names - {"close_staticfiles"} == {
            "reset_queries",  # test_the_list_of_queries_begins_anew
            "close_old_connections",  # TestOtherThreads, and all of TestBetweenTasks
            "close_caches",  # below
            "reset_urlconf",  # the run has a context of its own
        }

    @pytest.mark.parametrize("processor", [Tell, TellAsync])
    def test_caches_that_a_run_used_are_closed(self, tmp_path, processor):
        """Whether it fails or not; one that cannot be closed is told of, and changes nothing."""
        settings = """
            CACHES = {
                name: {"BACKEND": "home.caches.Cache", "LOCATION": name}
                for name in ("broken", "default", "unused")
            }
        """
        site = Site(tmp_path, settings=settings)
        site.write(
            "home/caches.py",
            """
            from django.core.cache.backends.dummy import DummyCache

            closed = []

            class Cache(DummyCache):
                def __init__(self, name, params):
                    super().__init__(name, params)
                    self.name = name

                def close(self, **_):
                    closed.append(self.name)
                    if self.name == "broken":
                        raise OSError("it is away")
            """,
        )
        use = """
            from django.core.cache import caches
            answer = [caches["broken"].get("a"), caches["default"].get("a")]
        """
        ask = "from home.caches import closed; answer = closed[:]"
        with site.start() as supervisor:
            told(use, processor)
            assert told(ask, processor) == ["broken", "default"]
            (failed,) = run(processor(dedent(use) + "raise ValueError"))
            assert failed.status == "error"
            assert told(ask, processor) == ["broken", "default"] * 2
            assert "it is away" in supervisor.output


class TestBackendsOfAProjects:
    def test_one_that_cannot_tell_how_to_connect_fails_that_task_alone(self, tmp_path):
        """As one that asks a service for a password; once that answers, all is as before."""
        settings = """
            DATABASES["default"]["ENGINE"] = "home.backend"
        """
        site = Site(tmp_path, settings=settings)
        site.write("home/backend/__init__.py", "")
        site.write(
            "home/backend/base.py",
            """
            import os
            from django.db.backends.postgresql import base

            class DatabaseWrapper(base.DatabaseWrapper):
                def get_connection_params(self):
                    if os.path.exists("away"):
                        raise RuntimeError("the service of passwords is away")
                    return super().get_connection_params()
            """,
        )
        away = tmp_path / "away"
        with site.start():
            (first,) = run(ReportSession())
            away.touch()
            end_sessions()
            failed = run(Write(1), AskElsewhere("asyncio"), Write(2))
            away.unlink()
            after = run(ReportSession(), AskElsewhere("asyncio"), ReportSession())

        for task in failed:
            assert (task.status, task.lost) == ("error", 0)
            assert "the service of passwords is away" in task.errors[0]["message"]
        assert [task.status for task in after] == ["finished"] * 3
        assert after[0].result == {**first.result, "backend": after[0].result["backend"]}
        # Made as new and kept: how the session is found out about is the server's affair.
        assert after[2].result == after[0].result


@pytest.mark.skipif(
    not shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin"), reason="no pgbouncer"
)
class TestBehindAPooler:
    """What is made as new there may be somebody else's session: the connection is closed."""

    LEFTOVERS = (
        "SET statement_timeout = '1h'",
        "SET ROLE pg_read_all_data",
        "SELECT pg_advisory_lock(4711)",
        "CREATE TEMP TABLE leftover (id integer)",
    )

    def test_of_sessions_nothing_is_left_to_the_next_task(self):
        """With one session of the server's for all tasks: the pooler makes it as new."""
        url = environment()["DATABASE_URL"]
        with (
            Pgbouncer(url, pool_mode="session", pool_size=20) as pgbouncer,
            partisan("--async", "--workers_count", "1", DATABASE_URL=pgbouncer.url),
        ):
            (before,) = run(ReportSession())
            for leftover in self.LEFTOVERS:
                _, after = run(Execute(leftover), ReportSession())
                assert {**after.result, "backend": 0} == {**before.result, "backend": 0}

    def test_of_transactions_it_renews_nothing(self):
        """It would undo what another client has set, in whose session it happens to be."""
        url = environment()["DATABASE_URL"]
        with Pgbouncer(url, pool_size=1) as pgbouncer:
            with psycopg.connect(pgbouncer.url, autocommit=True) as another:
                another.execute("SET statement_timeout = '17min'")
            options = ("--workers_count", "1", "--sleep_delay_seconds", "0.2")
            with partisan(*options, DATABASE_URL=pgbouncer.url):
                reports = run(ReportSession(), Nothing(), ReportSession())

        assert [r.result["statement_timeout"] for r in reports if r.result] == ["17min"] * 2


class TestOtherThreads:
    @pytest.mark.parametrize("how", ["asyncio", "pool"])
    def test_a_connection_that_was_ended_is_opened_again(self, how):
        """Each later such task would fail, as long as the worker lives."""
        with live_supervisor(WORKERS_COUNT=1):
            run(AskElsewhere(how))
            end_sessions()
            tasks = run(AskElsewhere(how), AskElsewhere(how))

        assert [task.status for task in tasks] == ["finished"] * 2

    @pytest.mark.parametrize("how", ["asyncio", "pool"])
    def test_a_session_is_as_new(self, how):
        """As in the main thread."""
        with live_supervisor(WORKERS_COUNT=1):
            before, _, after = run(
                AskElsewhere(how), AskElsewhere(how, "SET search_path = 'x'"), AskElsewhere(how)
            )

        assert after.result == before.result

    def test_a_transaction_left_open_is_not_the_next_tasks(self):
        """asgiref has one thread for all of them."""
        with live_supervisor(WORKERS_COUNT=1):
            first, second = run(AskElsewhere("asyncio", "BEGIN"), AskElsewhere("asyncio"))

        assert second.result["backend"] != first.result["backend"]


class Elsewhere:
    """A thread that outlives runs, and its connection."""

    def __init__(self):
        self._thread = ThreadPoolExecutor(1)

    def ask(self, *statements):
        """Execute these there; return the session's process id."""
        return self._thread.submit(self._ask, statements).result()

    def _ask(self, statements):
        with connection.cursor() as cursor:
            for statement in (*statements, "SELECT pg_backend_pid()"):
                cursor.execute(statement)
            return cursor.fetchone()[0]

    def __enter__(self):
        self._thread.submit(lambda: attended.AttendedConnection(connections["default"])).result()
        return self

    def __exit__(self, *_):
        self._thread.submit(connections.close_all).result()
        self._thread.shutdown()


@contextmanager
def a_run():
    number = runs.begin()
    yield
    runs.end(number, failed=False)


def is_open(pid):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid])
        return cursor.fetchone() is not None


class TestAbandoned:
    @pytest.mark.parametrize(
        ("statement", "words"),
        [("BEGIN", "its transaction is rolled back"), ("SELECT pg_advisory_lock(1)", "hung up")],
    )
    def test_what_an_ended_run_left_open_is_hung_up_after_a_minute(self, statement, words, caplog):
        """It would keep its locks as long as the thread lives; and the thread may use it again."""
        with Elsewhere() as elsewhere:
            with a_run():
                pid = elsewhere.ask(statement)
            abandoned.look(1000.0)
            abandoned.look(1000.0 + abandoned.SECONDS - 1)
            assert is_open(pid)

            abandoned.look(1000.0 + abandoned.SECONDS)
            wait_until(lambda: not is_open(pid))

            assert words in caplog.text
            if statement != "BEGIN":  # a transaction's loss must be told
                assert is_open(elsewhere.ask())

    def test_its_thread_is_told_of_the_transaction_that_it_lost(self):
        """Once: what comes after that has a new connection."""
        with Elsewhere() as elsewhere:
            with a_run():
                pid = elsewhere.ask("BEGIN")
            abandoned.look(1000.0)
            abandoned.look(1000.0 + abandoned.SECONDS)
            wait_until(lambda: not is_open(pid))

            with pytest.raises(OperationalError):
                elsewhere.ask()
            with a_run():
                assert is_open(elsewhere.ask())

    def test_what_its_thread_goes_on_to_use_stays(self):
        """It counts from its last use."""
        with Elsewhere() as elsewhere:
            with a_run():
                pid = elsewhere.ask()
            for seconds in range(0, 300, 50):
                abandoned.look(1000.0 + seconds)
                assert elsewhere.ask() == pid

    def test_what_a_run_uses_stays_however_long_it_takes(self):
        """It may wait for something else meanwhile."""
        with Elsewhere() as elsewhere, a_run():
            pid = elsewhere.ask("BEGIN")
            for seconds in range(0, 300, 50):
                abandoned.look(1000.0 + seconds)

            assert elsewhere.ask() == pid

    def test_what_was_opened_outside_of_runs_stays(self):
        """A thread of the project's own: it is no run's, though runs go on beside it."""
        with Elsewhere() as elsewhere:
            pid = elsewhere.ask("BEGIN")
            for seconds in range(0, 300, 50):
                with a_run():
                    abandoned.look(1000.0 + seconds)
                abandoned.look(1025.0 + seconds)

            assert elsewhere.ask() == pid


class TestStatementsOfTheDead:
    """A statement that goes on after its worker's end would commit beside its rerun."""

    @pytest.mark.parametrize("how", ["sync", "asyncio", "pool", "async"])
    def test_it_ends_with_its_worker(self, how):
        """Also in threads and async runs, and in a session that was made as new."""
        statement = (
            "INSERT INTO testapp_mark (text, pid) SELECT 'here', 0 FROM pg_sleep("
            "CASE WHEN EXISTS (SELECT FROM testapp_mark WHERE text = 'dies') THEN 0 ELSE 600 END)"
        )
        kinds = {"sync": Execute, "async": ExecuteAsync}
        prepare = kinds[how]("SELECT 1") if how in kinds else AskElsewhere(how)
        task = kinds[how](statement) if how in kinds else AskElsewhere(how, statement)
        with with_options() as supervisor:
            run(prepare)
            row = task.delay()
            wait_until(sleeping)
            first = sleeping()
            (worker,) = supervisor.workers()
            Mark.objects.create(text="dies", pid=worker.pid)
            worker.kill()
            wait_until(lambda: not set(sleeping()) & set(first))
            wait_until(lambda: ended(row))

        assert marks() == ["dies", "here"]

    @pytest.mark.parametrize("how", ["cancel", "the grace time's end", "a second signal"])
    def test_it_ends_where_its_worker_is_killed_by(self, how):
        """It was in the midst of what somebody wants to end, or to run elsewhere."""
        statement = "INSERT INTO testapp_mark (text, pid) SELECT 'here', 0 FROM pg_sleep(600)"
        settings = "tests.settings_short_grace" if how.startswith("the grace") else "tests.settings"
        with partisan("--async", DJANGO_SETTINGS_MODULE=settings) as supervisor:
            row = Execute(statement).delay()
            wait_until(sleeping)
            match how:
                case "cancel":
                    steering.cancel([row.pk])
                case "the grace time's end":
                    supervisor.signal(signal.SIGTERM)
                case _:
                    supervisor.signal(signal.SIGTERM)
                    supervisor.wait_for("stopping:")
                    supervisor.signal(signal.SIGTERM)
            wait_until(lambda: not sleeping())
            if how != "cancel":
                assert supervisor.wait() == 0

        row.refresh_from_db()
        assert (row.status, marks()) == ("error" if how == "cancel" else "new", [])

    def test_it_ends_where_a_task_heeds_no_time_limit(self):
        """The supervisor kills its worker."""
        statement = "INSERT INTO testapp_mark (text, pid) SELECT 'here', 0 FROM pg_sleep(600)"
        with live_supervisor(WORKERS_COUNT=1):
            row = ExecuteDeaf(statement).delay()
            wait_until(sleeping)
            first = sleeping()
            wait_until(lambda: not set(sleeping()) & set(first))
            wait_until(lambda: ended(row))

        assert marks() == []


def sleeping():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND state = 'active' AND query LIKE 'INSERT INTO testapp_mark%%pg_sleep%%'"
        )
        return [pid for (pid,) in cursor.fetchall()]
