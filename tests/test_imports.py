"""Who imports whom goes in one direction, and a web process loads nothing of what runs tasks."""

import ast
import os
import subprocess
import sys

from tests.imports import PACKAGE, circles, graph, name_of
from tests.process import ROOT


def test_no_modules_import_each_other():
    """Where they do, none can be read, tested or changed without the others.

    Imports within functions and for types alone count, too: they hide a circle, and open none.
    """
    assert circles(graph()) == []


def test_a_circle_is_found_wherever_it_closes():
    edges = {"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": {"e"}, "e": set(), "f": {"a"}}

    assert circles(edges) == [{"b", "c"}]


WEB = r"""
import sys
import django
django.setup()
from django.contrib import admin
admin.autodiscover()
assert "partisan_async.admin.tasks" in sys.modules
ours = ("partisan_async.supervisor", "partisan_async.worker", "multiprocessing.forkserver")
print(*(name for name in sorted(sys.modules) if name.startswith(ours)), sep="\n", end="")
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


PLAIN = r"""
import sys
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "partisan_async"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "none"}},
)
django.setup()
from django.core.management import call_command
from partisan_async import registry
from partisan_async.management.commands import start_partisan
from partisan_async.worker import main
call_command("check", "partisan_async")
registry.autodiscover()
assert registry.tasks() == []
spared = ("django.contrib.admin", "django.tasks", "django_tasks", "msgspec", "prometheus_client")
print(*(name for name in sorted(sys.modules) if name in spared), sep="\n", end="")
"""


def test_a_project_loads_nothing_of_what_it_does_not_use():
    """Each of its processes would pay for it: the tasks' backport alone takes two megabytes."""
    done = subprocess.run(
        [sys.executable, "-c", PLAIN], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, []), done.stderr


DOCUMENTED = {"psycopg", "conninfo", "errors", "pq", "rows", "sql", "types"}


def test_what_psycopg_does_not_document_is_known_in_one_room():
    """Its next release may be without it: then that room alone has to be mended."""
    found = [
        f"{name_of(path)} imports {node.module}"
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "postgres"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "psycopg"
        for part in [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        if part.count(".") and part.split(".")[1][:1].islower()
        if part.split(".")[1] not in DOCUMENTED
    ]

    assert found == []


def test_the_store_executes_nothing():
    """Whoever has a connection, of whatever kind, takes its statements."""
    found = [
        f"{name_of(path)}: {ast.unparse(node)}"
        for path in (PACKAGE / "store").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for each in node.names
        if (node.module, each.name) in {("django.db", "connections"), ("django.db", "connection")}
        or (node.module or "").startswith("partisan_async.enqueue")
    ]

    assert found == []


OF_BOTH_PROCESSES = {
    "arrangements": "which signals stop a process",
    "birth": "the program that workers are born by, which the parent starts",
    "ending": "how long a worker takes to end in order",
    "handle": "what a signal reaches a worker by",
    "messages": "what the parent and that program say to each other",
    "origin": "how the command was started, for the worker to take on",
    "row": "a claim's row, for the signals of an end that no worker has seen",
    "setup": "what a worker is handed when it starts",
    "wire": "what travels by feed and link",
}
"""The modules of the worker's that the supervisor knows, too, and what for."""


def test_the_parent_knows_of_the_child_what_they_say_to_each_other_alone():
    """It runs no task, and imports nothing of the project's for one."""
    worker = "partisan_async.worker."
    known = {
        name.removeprefix(worker)
        for module, imported in graph().items()
        if module.startswith("partisan_async.supervisor.")
        for name in imported
        if name.startswith(worker)
    }

    assert known == set(OF_BOTH_PROCESSES)


def test_nothing_is_imported_to_be_imported_again():
    """It would have two addresses. What the docs name is handed out by the face of its folder."""
    found = [
        f"{name_of(path)}: {each.name}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for each in node.names
        if each.asname == each.name
    ]

    assert found == []
