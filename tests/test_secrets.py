"""Passwords reach no log, no terminal and no row, whatever fails where they are used.

With a server of its own, which asks for them.
"""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from partisan_async.embedded import EmbeddedPostgres
from tests.process import ends_with_tests, environment, partisan

PASSWORD = "hunter2/s3same%"
WRONG = "0pen@s3same"
PIECES = ("hunter2", "s3same", "0pen")

MISTYPED = [
    f"postgresql://keeper:{PASSWORD}@db.internal/shop",
    f"postgresql://keeper:{WRONG}@db.internal/shop",
    "postgresql://keeper:7/s3same@db.internal/shop",
    f"host=db.internal password=it's {PASSWORD}",
    PASSWORD,
]
"""As people write them: what should be coded is not, and libpq takes it for something else."""

ENQUEUE = "from tests.testapp.partisan_tasks import Sleep; Sleep(6, 'outcome').delay()"


@contextmanager
def guarded_server():
    with EmbeddedPostgres() as server:
        with psycopg.connect(server.url, autocommit=True) as root:
            role = sql.SQL("CREATE ROLE keeper LOGIN PASSWORD {}").format(sql.Literal(PASSWORD))
            root.execute(role)
            root.execute("CREATE DATABASE shop OWNER keeper")
            (path,) = root.execute("SHOW hba_file").fetchone()
            Path(path).write_text("local all keeper scram-sha-256\nlocal all all trust\n")
            root.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture(scope="module")
def server():
    with guarded_server() as server:
        yield server


def keeper(server, password=PASSWORD, **changes):
    params = {"user": "keeper", "password": password, "dbname": "shop"} | changes
    return make_conninfo(server.url, **params)


def manage(*command, **env):
    return subprocess.run(
        [sys.executable, "-m", "django", *command],
        env=environment(**env),
        capture_output=True,
        text=True,
        preexec_fn=ends_with_tests(),
    )


def assert_silent(text):
    """Tell where, should it be there after all."""
    found = [line for line in text.splitlines() if any(piece in line for piece in PIECES)]
    assert found == []


def test_the_server_asks_for_it(server):
    """Else the tests here prove nothing."""
    psycopg.connect(keeper(server)).close()

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(keeper(server, WRONG))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"password": WRONG}, "password authentication failed"),
        ({"host": "nowhere.invalid"}, "failed to resolve host"),
        ({"host": "127.0.0.1", "port": "1"}, "Connection refused"),
        ({"dbname": "nowhere"}, 'database "nowhere" does not exist'),
    ],
)
def test_a_database_that_cannot_be_reached_is_told_of_without(server, wrong, words):
    """Also in the traceback that Django prints on demand."""
    ended = manage("start_partisan", "--traceback", DATABASE_URL=keeper(server, **wrong))

    assert ended.returncode == 1
    assert words in ended.stderr
    assert_silent(ended.stdout + ended.stderr)


@pytest.mark.parametrize("url", MISTYPED)
@pytest.mark.parametrize("command", ["check", "start_partisan"])
def test_a_mistyped_database_url_is_told_of_without(command, url):
    ended = manage(command, DATABASE_URL=url)

    assert ended.returncode != 0
    assert "must be a libpq connection string" in ended.stderr
    assert_silent(ended.stdout + ended.stderr)


@pytest.mark.parametrize("url", MISTYPED)
@pytest.mark.parametrize("command", ["check", "start_partisan"])
def test_a_mistyped_listen_dsn_is_told_of_without(command, url):
    settings = "tests.settings_listen_dsn"
    ended = manage(command, "--traceback", DJANGO_SETTINGS_MODULE=settings, LISTEN_DSN=url)

    assert ended.returncode != 0
    assert "LISTEN_DSN=*** must be a libpq connection string" in ended.stderr
    assert_silent(ended.stdout + ended.stderr)


def test_a_supervisor_runs_and_fails_without():
    """Its listener is refused, its server goes away, and in the end it cannot write an outcome."""
    with guarded_server() as server:
        env = {
            "DATABASE_URL": keeper(server),
            "DJANGO_SETTINGS_MODULE": "tests.settings_listen_dsn",
            "LISTEN_DSN": f"password={WRONG}",
        }
        assert manage("migrate", **env).returncode == 0
        with partisan("--async", "--workers_count", "1", **env) as running:
            running.wait_for("NOTIFY cannot be relied on (connection failed")
            assert manage("shell", "-c", ENQUEUE, **env).returncode == 0
            running.wait_for("claimed 1: 1 Sleep")
            server.stop()
            running.wait_for("beat failed, trying again")
            running.process.terminate()
            code = running.wait(60)
            output = running.output

    assert code == 1
    assert "password authentication failed" in output
    assert "1 outcome(s) could not be written" in output
    assert_silent(output)
