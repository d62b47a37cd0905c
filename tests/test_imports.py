"""Who imports whom goes in one direction, and a web process loads nothing of what runs tasks."""

import os
import subprocess
import sys

from tests.imports import circles, graph
from tests.process import ROOT


def test_no_modules_import_each_other():
    """Where they do, none can be read, tested or changed without the others.

    Imports within functions and for types alone count, too: they hide a circle, and open none.
    """
    assert circles(graph()) == []


def test_a_circle_is_found_wherever_it_closes():
    edges = {"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": {"e"}, "e": set(), "f": {"a"}}

    assert circles(edges) == [{"b", "c"}]


WEB = """
import sys
import django
django.setup()
from django.contrib import admin
admin.autodiscover()
assert "partisan_async.admin.tasks" in sys.modules
for name in sorted(sys.modules):
    if name.startswith(("partisan_async.supervisor", "partisan_async.worker", "multiprocessing.fork")):
        print(name)
"""


def test_a_web_process_with_the_admin_loads_nothing_that_runs_tasks():
    """It would pay for it in each of its processes, and break with it."""
    done = subprocess.run(
        [sys.executable, "-c", WEB],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
