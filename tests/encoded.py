"""A database that is as old as some are, and so has an encoding that lacks characters."""

from __future__ import annotations

import subprocess
import sys

from psycopg.conninfo import make_conninfo

from tests.process import environment
from tests.site_rules import execute


class database:
    """A database of this encoding beside the test's, with the package's tables."""

    def __init__(self, encoding):
        self._encoding = encoding

    def __enter__(self):
        execute("DROP DATABASE IF EXISTS odd")
        execute(
            f"CREATE DATABASE odd ENCODING '{self._encoding}' TEMPLATE template0"
            " LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        url = make_conninfo(environment()["DATABASE_URL"], dbname="odd")
        command = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
        subprocess.run(command, env=environment(DATABASE_URL=url), check=True)
        return url

    def __exit__(self, *_):
        execute("DROP DATABASE odd WITH (FORCE)")
