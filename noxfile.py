"""Every check of the project, and the demo: ``nox -l`` lists them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "lint", "types", "imports"]

ROOT = Path(__file__).parent

TEST_PROCESSES = "4"
"""The tests mostly wait: for processes, and for the time that a fault takes."""

FAULT_PROCESSES = "3"
"""Fewer: each has a server and supervisors of its own."""

POSTGRES_15 = "/usr/lib/postgresql/15/bin"


def _newest_python() -> str:
    """Return the newest Python that can be found here."""
    running = f"3.{sys.version_info.minor}"
    newer = [f"3.{minor}" for minor in range(14, sys.version_info.minor, -1)]
    return next((version for version in newer if _runs(f"python{version}")), running)


def _runs(python: str) -> bool:
    # A version manager may have a command of this name that only says what it lacks.
    found = shutil.which(python)
    return bool(found) and subprocess.run([found, "-V"], capture_output=True).returncode == 0


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests on this Python; DATABASE_URL names another PostgreSQL than the embedded one."""
    session.install("-e", ".[dev,embedded]")
    session.run("python", "-m", "pytest", "-n", TEST_PROCESSES, *session.posargs)


@nox.session
@nox.parametrize(
    ("python", "django", "psycopg"),
    [
        ("3.11", "Django~=5.2.0", "psycopg~=3.2.0"),
        (_newest_python(), "Django>=6.0", "psycopg>=3.3"),
    ],
    ids=["oldest", "newest"],
)
def matrix(session: nox.Session, django: str, psycopg: str) -> None:
    """Run all tests on the oldest and on the newest Python, Django and psycopg."""
    session.install("-e", ".[dev,embedded]", django, psycopg)
    session.run("python", "-m", "pytest", "-n", TEST_PROCESSES, *session.posargs)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Run tests on the lowest version of each package that pyproject.toml allows."""
    session.install("uv")
    pinned = str(Path(session.create_tmp()) / "lowest.txt")
    # No wheel, no floor: who has that version has it as a wheel, too.
    rules = ("--resolution", "lowest-direct", "--all-extras", "--only-binary", ":all:")
    session.run("uv", "pip", "compile", "-q", *rules, "-o", pinned, str(ROOT / "pyproject.toml"))
    session.install("-e", ".", "-r", pinned)
    session.run("python", "-m", "pytest", "-n", TEST_PROCESSES, *session.posargs)


@nox.session
def postgres15(session: nox.Session) -> None:
    """Run what is about the database on PostgreSQL 15, of Debian the package postgresql-15."""
    session.install("-e", ".[dev,embedded]")
    names = ("store", "connection", "settler", "wakeup", "races", "bulk", "atomic", "cancelling",
             "pruner", "doctor", "migrations", "roles", "unique", "unique_races", "mixed_bulk",
             "erase")  # fmt: skip
    faults = ("afflictions", "atomic", "database", "rows")
    # One after the other: the processors of the faults would be known to the tests, too.
    for files in (
        [f"tests/test_{name}.py" for name in names],
        [f"tests/faults/test_{name}.py" for name in faults],
    ):
        session.run(
            *("python", "-m", "pytest", "-n", FAULT_PROCESSES, *files, *session.posargs),
            env={"PARTISAN_PG_BIN": POSTGRES_15},
            interrupt_timeout=20,
        )


@nox.session
def replica(session: nox.Session) -> None:
    """Run all tests on a site whose replica nobody of the package may ask; or those named."""
    session.install("-e", ".[dev,embedded]")
    settings = ("--ds", "tests.settings_replica")
    session.run("python", "-m", "pytest", "-n", TEST_PROCESSES, *settings, *session.posargs)


@nox.session(python=_newest_python())
def conformance(session: nox.Session) -> None:
    """Put the backend for Django's task API to its suite on Django 6.0; others are in "matrix"."""
    session.install("-e", ".[dev,embedded]", "Django~=6.0.0")
    session.run("python", "-m", "pytest", "tests/conformance", "tests/test_django_tasks.py")


@nox.session
def faults(session: nox.Session) -> None:
    """Inject real faults into running supervisors, one by one, and check the promise."""
    session.install("-e", ".[dev,embedded]")
    session.run(
        *("python", "-m", "pytest", "-n", FAULT_PROCESSES, "tests/faults"),
        *session.posargs,
        # After Ctrl-C the servers and the supervisors are ended; nox would not wait for that.
        interrupt_timeout=20,
    )


@nox.session
def browser(session: nox.Session) -> None:
    """Use the example site by a real browser, the Chromium that is installed on this machine."""
    session.install("-e", ".[dev,embedded]", "playwright>=1.49")
    session.run("python", "-m", "pytest", "tests/browser", *session.posargs, interrupt_timeout=20)


@nox.session
def soak(session: nox.Session) -> None:
    """Run under load and faults drawn from a seed; ``-- --minutes 8 --seed 1``, else 2 minutes."""
    session.install("-e", ".[dev,embedded]")
    session.run("python", "-m", "tests.faults.soak", *session.posargs, interrupt_timeout=20)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed, memory and idleness beside other task runners; ``-- --help`` says more."""
    session.install("-e", ".[embedded]", "psutil>=6", "tqdm>=4.66", "matplotlib>=3.9")
    session.run("python", "-m", "tests.benchmarks", *session.posargs, interrupt_timeout=20)


@nox.session
def no_worse(session: nox.Session) -> None:
    """Say whether this checkout is no worse than another: ``-- --base REV``."""
    session.install("-e", ".[embedded]", "psutil>=6", "tqdm>=4.66", "matplotlib>=3.9")
    session.run("python", "-m", "tests.benchmarks.no_worse", *session.posargs, interrupt_timeout=20)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the example site and its supervisors; ``-- --once`` runs it to its end and exits."""
    session.install("-e", ".[embedded,tasks]", "pillow>=11", "uvicorn>=0.30", silent=True)
    session.run(
        "python",
        *("-m", "partisan_async.embedded"),
        *("python", "-m", "example_site.demo"),
        *session.posargs,
        # After Ctrl-C it ends by itself, in order; nox would kill it within half a second.
        interrupt_timeout=20,
        terminate_timeout=10,
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install("ruff==0.17.6")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly, and the types that users see."""
    checkers = ("mypy==2.4.1", "django-stubs[compatible-mypy]>=6", "pyright[nodejs]==1.1.414")
    session.install("-e", ".[dev,embedded]", *checkers)
    session.run("mypy", env={"DATABASE_URL": "postgresql:///types"})
    session.run("pyright")


@nox.session
def imports(session: nox.Session) -> None:
    """Check that nothing imports what it must not."""
    session.install("-e", ".", "import-linter==2.16")
    session.run("lint-imports", env={"DJANGO_SETTINGS_MODULE": "tests.settings"})


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, and run the tests of a scratch project on it, away from the checkout."""
    session.install("build")
    dist = Path(session.create_tmp()).resolve()
    for old in dist.glob("*.whl"):
        old.unlink()
    session.run("python", "-m", "build", "--wheel", "--outdir", str(dist), str(ROOT), silent=True)
    (built,) = dist.glob("*.whl")
    session.install("--force-reinstall", f"{built}[embedded]")
    # -P: the package of the checkout must not be found before the installed one.
    script = str(ROOT / "tests" / "scratch_project.py")
    session.run("python", "-P", "-m", "partisan_async.embedded", "python", "-P", script)
