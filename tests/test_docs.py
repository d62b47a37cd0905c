"""Holds README and docs to the code: blocks run, commands, links and names exist, tables agree.

A *block* is fenced. A Python block whose first line is ``# app/module.py`` is that file, or goes on
with it; ``# mysite/settings.py`` is a change of the settings; any other runs as it stands. In a
session, ``pycon``, a call above an error raises just that. The blocks of a page run in order, in a
project of the page's own.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import itertools
import json
import os
import pkgutil
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import tomllib
import unittest
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import django
import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.checks import ERROR, run_checks
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand
from django.db import connection
from django.db.utils import ConnectionHandler
from django.test import override_settings
from django.utils import timezone
from psycopg.conninfo import make_conninfo

import partisan_async
from partisan_async import exceptions, policy, registry, schedule, store, unique
from partisan_async.claim import Claim
from partisan_async.config import const
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig
from partisan_async.management.partisan import status
from partisan_async.management.start_partisan import options
from partisan_async.management.start_partisan.reload import child, folders, parent
from partisan_async.models import Schedule, Supervisor, Tally, Task
from partisan_async.naming import name_of
from partisan_async.operate import doctor, reasons
from partisan_async.policy import Failed
from partisan_async.processor import BaseTaskProcessor
from partisan_async.settings import SETTING_NAMES, QueueSettings
from partisan_async.supervisor import log_queue, losses, supervisor, ticker, unserved, wakeup
from partisan_async.supervisor.report import queue_depth
from partisan_async.supervisor.workers import forkserver
from partisan_async.testing import live_supervisor, run_pending
from partisan_async.text import retold
from partisan_async.worker import failure
from partisan_async.worker.loading import load
from tests.conftest import wait_until
from tests.process import DEADLINE_SECONDS, ends_with_tests

ROOT = Path(__file__).parents[1]
PACKAGE = Path(partisan_async.__file__).parent
PAGES = [
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("*.md")),
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")),
]
TUTORIAL = "docs/tutorial.md"
MIGRATION = "docs/howto/migrate-from-django-partisan.md"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    kind: str
    text: str

    @property
    def file(self) -> tuple[str, str] | None:
        """The app and the module that its first line names."""
        match = re.match(r"# (\w+)/(\w+)\.py\b", self.text)
        return match and (match[1], match[2])

    @property
    def source(self) -> str:
        """Its text, with the line numbers that it has on its page."""
        return "\n" * self.line + translated(self.text)


def translated(text: str) -> str:
    """Return Python for this version of Django, as the pages say how to write it."""
    return text if django.VERSION >= (6, 0) else text.replace("django.tasks", "django_tasks")


_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


_REFUSED = re.compile(r"^>>> (.+)\n(\w+): (.+)$", re.MULTILINE)


def read(page: str) -> str:
    return (ROOT / page).read_text()


def blocks(page: str, *kinds: str) -> list[Block]:
    text = read(page)
    return [
        Block(page, text.count("\n", 0, m.start()) + 1, m[2], re.sub(rf"(?m)^{m[1]}", "", m[3]))
        for m in _FENCE.finditer(text)
        if not kinds or m[2] in kinds
    ]


def prose(page: str) -> str:
    """Return the page without its fenced blocks."""
    return _FENCE.sub("", read(page))


def tables(page: str) -> dict[str, list[list[str]]]:
    """Return the rows of each table, by its first column's name; primed, where that is taken."""
    found: dict[str, list[list[str]]] = {}
    for match in re.finditer(r"^\|.*\n\|[ -|]*\n((?:\|.*\n?)+)", prose(page), re.MULTILINE):
        rows = [_cells(line) for line in match[0].strip().split("\n")]
        name = rows[0][0]
        while name in found:
            name += "'"
        found[name] = rows[2:]
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" |")]


def code(cell: str) -> str:
    """Return what is between the backticks of a cell."""
    match = re.fullmatch(r"`([^`]*)`", cell)
    assert match, f"{cell!r} is not one piece of code"
    return match[1]


# Python blocks


class Project:
    """A page's project: its apps are in a folder of their own, its settings are in force."""

    def __init__(self, page: str, folder: Path, stack: ExitStack) -> None:
        self.namespace: dict[str, object] = {"__name__": "page"}
        self._folder = folder
        self._stack = stack
        self._tested: set[str] = set()
        files = [block.file for block in blocks(page, "python") if block.file]
        self.apps = sorted({app for app, module in files if module != "settings"})
        for app in self.apps:
            (folder / app).mkdir()
            (folder / app / "__init__.py").touch()
        self._others = [app for app in settings.INSTALLED_APPS if app != "partisan_async"]
        self._override({"INSTALLED_APPS": [*self._others, "partisan_async"]})

    def run(self, block: Block) -> None:
        match block.file:
            case None:
                self._execute(block, self.namespace)
            case (_, "settings"):
                self._set(block)
            case (app, module):
                self._go_on(block, app, module)

    def is_refused(self, block: Block) -> None:
        """Make the calls of a session, each of which raises the error that is shown below it."""
        for call, error, told in _REFUSED.findall(block.text):
            with pytest.raises(getattr(exceptions, error, None) or getattr(builtins, error)) as it:
                eval(call, self.namespace)
            assert (type(it.value).__name__, str(it.value)) == (error, told)

    def _execute(self, block: Block, namespace: dict[str, object]) -> None:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        result = eval(compile(block.source, block.page, "exec", flags), namespace)
        if inspect.iscoroutine(result):
            async_to_sync(_await)(result)

    def _set(self, block: Block) -> None:
        apps = list(self._others)
        if "INSTALLED_APPS" not in block.text:
            apps.append("partisan_async")
        namespace: dict[str, object] = {"INSTALLED_APPS": apps}
        self._execute(block, namespace)
        changed = {name: value for name, value in namespace.items() if name.isupper()}
        if databases := changed.pop("DATABASES", None):
            connections = ConnectionHandler(databases)
            connections["default"].ensure_connection()
            connections["default"].close()
        if logging := changed.get("LOGGING"):
            script = f"import logging.config; logging.config.dictConfig({logging!r})"
            subprocess.run([sys.executable, "-c", script], check=True)
        self._override(changed)
        assert [str(each) for each in run_checks() if each.level >= ERROR] == []

    def _override(self, changed: dict[str, object]) -> None:
        apps = changed["INSTALLED_APPS"]
        changed["INSTALLED_APPS"] = [*apps, *(app for app in self.apps if app not in apps)]
        self._stack.enter_context(override_settings(**changed))
        # The workers of a live supervisor are processes of their own.
        for_workers = f"from tests.settings import *\nINSTALLED_APPS = {settings.INSTALLED_APPS}\n"
        (self._folder / "docs_settings.py").write_text(for_workers)

    def _go_on(self, block: Block, app: str, module: str) -> None:
        path = self._folder / app / f"{module}.py"
        with path.open("a") as file:
            file.write(translated(block.text))
        name = f"{app}.{module}"
        if name in sys.modules:
            # Not imported again: the classes that earlier blocks have must stay registered.
            exec(compile(block.source, path, "exec"), vars(sys.modules[name]))
        else:
            importlib.invalidate_caches()
            importlib.import_module(name)
        if module == "tests":
            self._test(vars(sys.modules[name]))

    def _test(self, namespace: dict[str, object]) -> None:
        for name, value in namespace.items():
            own = isinstance(value, type) and value.__module__ == namespace["__name__"]
            if own and issubclass(value, unittest.TestCase) and name not in self._tested:
                self._tested.add(name)
                result = unittest.TestResult()
                unittest.defaultTestLoader.loadTestsFromTestCase(value).run(result)
                assert result.testsRun > 0
                assert [text for _, text in result.errors + result.failures] == []


async def _await(coroutine: object) -> None:
    await coroutine


@contextmanager
def project(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Give a page a project, and leave no trace of it."""
    registered, modules = dict(registry._processors), set(sys.modules)
    in_admin = dict(admin.site._registry)
    registry._processors.clear()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "docs_settings")
    forkserver.stop()  # one that was set up for other settings
    try:
        # The pages are about sites without routers, also where these tests have one.
        with ExitStack() as stack, override_settings(DATABASE_ROUTERS=[]):
            yield Project(page, folder, stack)
    finally:
        forkserver.stop()
        registry._processors.clear()
        registry._processors.update(registered)
        admin.site._registry = in_admin
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                del sys.modules[name]


@contextmanager
def ancestors_table() -> Iterator[None]:
    """Leave what django-partisan's migrations and an interrupted supervisor left."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE django_partisan_task (id serial PRIMARY KEY, status varchar(20) NOT NULL,"
            " queue_name varchar(50) NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),"
            " updated_at timestamptz NOT NULL DEFAULT now(), processor_class varchar(128) NOT NULL,"
            " priority int NOT NULL, execute_after timestamptz NOT NULL DEFAULT now(),"
            " arguments jsonb NOT NULL, extra jsonb NOT NULL DEFAULT '{}')"
        )
        for status in ("new", "in_process", "finished", "error"):
            cursor.execute(
                "INSERT INTO django_partisan_task"
                " (status, queue_name, processor_class, priority, arguments)"
                " VALUES (%s, 'default', 'Old', 10, %s)",
                [status, json.dumps({"args": [status], "kwargs": {"n": 1}})],
            )

        @registry.register
        class Old(BaseTaskProcessor):
            def run(self):
                assert self.kwargs == {"n": 1}

        try:
            yield
            assert sorted(task.args[0] for task in Task.objects.all()) == ["in_process", "new"]
            cursor.execute("SELECT status FROM django_partisan_task ORDER BY 1")
            assert cursor.fetchall() == [("error",), ("finished",)]
        finally:
            cursor.execute("DROP TABLE django_partisan_task")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """What a reader copies works; and each processor that a page shows runs without an error."""
    with project(page, tmp_path, monkeypatch) as place, ExitStack() as around:
        if page == MIGRATION:
            around.enter_context(ancestors_table())
        for block in blocks(page, "python", "pycon"):
            if block.kind == "python":
                place.run(block)
            else:
                place.is_refused(block)
        enqueued = {task.processor_class for task in Task.objects.all()}
        Task.objects.filter(status="scheduled").update(execute_after=timezone.now())

        ran = run_pending()

        assert [each.task.errors for each in ran if isinstance(each.decision, Failed)] == []
        assert {each.task.processor_class for each in ran} == enqueued
        # The tutorial enqueues by commands: see its walk. Tests clean up after themselves.
        if page != TUTORIAL and not place._tested:
            own = enqueued.intersection(registry._processors)  # others are Django's
            told = told_of_an_error(ran[-1].task) if ran else set()
            assert set(map(name_of, registry.processors())) == own | told


def told_of_an_error(task):
    """Run each ``ON_ERROR`` that there is with a task that failed, and return their names."""
    told = {each.ON_ERROR for each in registry.processors() if each.ON_ERROR}
    task.errors = [{"message": "no money"}]
    task.save()
    for each in told:
        each(task).delay()
    run_pending()  # raises what they do
    return set(map(name_of, told))


@pytest.mark.django_db(transaction=True)
def test_delay_raises_what_the_reference_says(tmp_path, monkeypatch):
    """Each row of the table is a call that somebody will make."""
    page = "docs/reference/processor.md"
    with project(page, tmp_path, monkeypatch) as place:
        for block in blocks(page, "python"):
            place.run(block)
        resize = registry.get("Resize")
        endless: list[object] = []
        endless.append(endless)
        names = {
            "Resize": resize,
            "Untyped": registry.get("Untyped"),
            "Unregistered": type("Unregistered", (resize,), {}),
            "running": load(resize, {"args": ["cat.png"], "kwargs": {}}, Task()),
            "user": User(username="ada"),
            "endless": endless,
            "timezone": timezone,
            "datetime": datetime,
            "UTC": UTC,
        }
        listed = tables(page)
        for call, error, _ in [*listed["call"], *listed["untyped call"]]:
            expected = getattr(exceptions, code(error), None) or getattr(builtins, code(error))

            with pytest.raises(expected) as raised:
                eval(code(call), names)

            assert type(raised.value) is expected, call


# Commands


def commands(page: str) -> list[list[str]]:
    """Return the words of each command in the page's blocks and in its prose."""
    lines = []
    for block in blocks(page, "bash", "console"):
        lines += block.text.replace("\\\n", " ").splitlines()
    starts = r"(?:python )?manage\.py |(?:\.venv/bin/)?nox |(?:\.venv/bin/)?python3? -m "
    lines += re.findall(rf"`((?:{starts})[^`\n]*)`", prose(page))
    found = []
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        for is_and, command in itertools.groupby(words, key="&&".__eq__):
            if not is_and:
                found.append(list(command))
    return found


@pytest.mark.parametrize(
    "command", [pytest.param(each, id=f"{page}: {' '.join(each)[:60]}")
                for page in PAGES for each in commands(page)]
)  # fmt: skip
def test_commands_exist(command):
    """A command that is mistyped in the docs costs every reader a search."""
    check_command(command)


def check_command(words: list[str]) -> None:
    program = Path(words[0]).name
    match program, words[1:]:
        case "manage.py" | "django-admin", [name, *options]:
            check_manage(name, options)
        case "python" | "python3", ["manage.py", name, *options]:
            check_manage(name, options)
        case "python" | "python3", ["-m", "venv", ".venv"]:
            pass
        case "python" | "python3", ["-m", "partisan_async.embedded", "COMMAND" | "bash", *_]:
            pass
        case "pip", ["install", *requirements]:
            check_requirements([each for each in requirements if each not in ("-q", "-e")])
        case "nox", ["-s", "tests" as session, "--", path, "-k", word]:
            assert session in sessions()
            assert re.search(rf"def test_\w*{word}", read(path))
        case "nox", ["-s", session, *_]:
            assert session in sessions()
        case "bash" | "cd" | "cp" | "echo" | "export" | "mkdir" | "source" | "touch", _:
            pass
        case _:
            pytest.fail(f"nobody knows how to check {words}")


def check_manage(name: str, options: list[str]) -> None:
    app = get_commands()[name]
    command = app if isinstance(app, BaseCommand) else load_command_class(app, name)
    # It prints and exits as on the command line, which fails the test.
    command.create_parser("manage.py", name).parse_args(options)


def check_requirements(requirements: list[str]) -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    for requirement in requirements:
        name, _, extras = requirement.rstrip("]").partition("[")
        assert name in (project["name"], ".", "nox")
        assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"])


def sessions() -> set[str]:
    """Return the names of the sessions in noxfile.py."""
    found = set()
    for node in ast.walk(ast.parse(read("noxfile.py"))):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if "session" in ast.unparse(decorator):
                    found.add(node.name)
                    found |= {
                        keyword.value.value
                        for keyword in getattr(decorator, "keywords", ())
                        if keyword.arg == "name"
                    }
    return found


def test_sessions_are_listed():
    """Who contributes finds each session, and no other."""
    listed = {code(name) for name, _ in tables("CONTRIBUTING.md")["session"]}

    assert listed == sessions()


# Tables


def test_settings_table_has_every_key_and_its_default():
    """A key that is not in the reference does not exist for its readers."""
    rows = {code(key): default for key, default, *_ in tables("docs/reference/settings.md")["key"]}

    defaults = {each: f"`{getattr(QueueSettings(), each)!r}`" for each in SETTING_NAMES}
    cores = "CPU cores; in a process with several queues `(0, CPU cores)`"
    assert rows == defaults | {"WORKERS_COUNT": cores}


def test_check_ids_are_listed():
    """Who meets an id looks it up."""
    listed = [code(name) for name, _ in tables("docs/reference/settings.md")["id"]]

    source = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    assert listed == sorted(set(re.findall(r'"(partisan_async\.[EW]\d{3})"', source)))


def test_options_are_listed():
    """All options of the command are there, and each overrides the setting that it says."""
    listed = {code(option): key for option, key, _ in tables("docs/howto/run.md")["option"]}

    command = load_command_class("partisan_async", "start_partisan")
    common = {each.dest for each in BaseCommand().create_parser("", "")._actions}
    own = command.create_parser("manage.py", "start_partisan")._actions
    options = [each.option_strings[0] for each in own if each.dest not in common]
    assert sorted(listed) == sorted(options)
    for option, key in listed.items():
        name = option.removeprefix("--").upper()
        assert key == (f"`{name}`" if name in SETTING_NAMES else "")


def test_subcommands_and_their_options_are_listed():
    """At night nobody reads the code."""
    found = tables("docs/reference/commands.md")
    parser = load_command_class("partisan_async", "partisan").create_parser("manage.py", "partisan")
    (commands,) = (each for each in parser._actions if isinstance(each.choices, dict))

    listed = {
        code(name).removeprefix("partisan "): [code(row[0]).split()[0] for row in rows]
        for name, rows in found.items()
        if name.startswith("`partisan ")
    }
    assert listed == {
        name: [
            each.option_strings[0] if each.option_strings else each.metavar
            for each in subparser._actions
            if each.dest != "help"
        ]
        for name, subparser in commands.choices.items()
    }


def test_looks_of_the_doctor_are_listed():
    """What it does not look at is to be looked at by other means."""
    listed = [row[0] for row in tables("docs/reference/commands.md")["look"]]

    assert listed == [look.__name__.replace("_", " ") for look in doctor.LOOKS]


def test_statuses_and_columns_are_listed():
    """The reference of the states is the models', no more and no less."""
    found = tables("docs/reference/states.md")

    assert {code(row[0]) for row in found["status"]} == {key for key, _ in Task.STATUS_CHOICES}
    models = (Task, Supervisor, Tally, Schedule)
    for name, model in zip(("column", "column'", "column''", "column'''"), models, strict=True):
        assert [code(row[0]) for row in found[name]] == [each.name for each in model._meta.fields]


def test_diagram_knows_the_statuses():
    """The diagram names no state that is not there, and leaves none out."""
    (diagram,) = blocks("docs/reference/states.md", "mermaid")

    drawn = set(re.findall(r"\w+|\[\*\]", re.sub(r":.*", "", diagram.text)))
    assert drawn - {"stateDiagram", "v2", "[*]"} == {key for key, _ in Task.STATUS_CHOICES}


@pytest.mark.django_db
def test_keys_of_an_error_are_listed():
    """Who reads errors from rows needs to know the keys."""
    task = registry.get("Fail")("ValueError", "no").delay()

    run_pending(errors="keep")

    task.refresh_from_db()
    listed = {code(key) for key, _ in tables("docs/reference/states.md")["key"]}
    assert listed == set(task.errors[0])


def test_processor_attributes_are_listed():
    """What a class may say, and what holds if it says nothing."""
    listed = {row[0]: row[1] for row in tables("docs/reference/processor.md")["attribute"]}

    own = [name for name in vars(BaseTaskProcessor) if name.isupper()]
    assert listed == {f"`{name}`": f"`{getattr(BaseTaskProcessor, name)!r}`" for name in own}


def test_parameters_are_listed():
    """delay() and the two configs take what the reference says."""
    delay, postpone, errors = (
        [code(row[0]) for row in rows]
        for name, rows in tables("docs/reference/processor.md").items()
        if name.startswith("parameter")
    )

    for method in (BaseTaskProcessor.delay, BaseTaskProcessor.adelay):
        signature = inspect.signature(method).parameters
        assert delay == [name for name in signature if name != "self"]
    assert postpone == [each.name for each in fields(PostponeConfig)]
    assert errors == [each.name for each in fields(ErrorsHandleConfig)]
    assert fields(PostponeConfig)[0].default is MISSING


def test_pauses_are_listed():
    """The table of the strategies has what a config with them gives."""
    rows = {name: pauses for name, *pauses in tables("docs/reference/processor.md")["strategy"]}

    def of(drawn=0.5, strategy=const.DELAY_STRATEGY_EXPONENTIAL, **more):
        plain = {"retry_on_errors": [OSError], "retries_count": 9, "retry_pause": 10}
        config = ErrorsHandleConfig(**plain, retry_pause_strategy=strategy, **more)
        return [f"{config.pause_seconds(retry, drawn):g}" for retry in range(1, 8)]

    jittered = [of(drawn, max_pause=100, jitter=0.5) for drawn in (0, 1)]
    assert rows == {
        "`CONSTANT`": of(strategy=const.DELAY_STRATEGY_CONSTANT),
        "`INCREMENTAL`": of(strategy=const.DELAY_STRATEGY_INCREMENTAL),
        "`EXPONENTIAL`": of(),
        "`EXPONENTIAL`, `max_pause=100`": of(max_pause=100),
        "the same, `jitter=0.5`": [
            f"{least} to {most}" for least, most in zip(*jittered, strict=True)
        ],
    }


@pytest.mark.django_db
def test_columns_of_task_obj_are_listed():
    """The others cost a query each, so it matters which they are."""
    text = prose("docs/reference/processor.md")
    (listed,) = re.findall(r"asked for:\n\n(.*?)\n\n", text, re.DOTALL)

    loaded = {each.attname for each in Task._meta.fields if each.attname in Claim._fields}

    assert set(re.findall(r"`(\w+)`", listed)) == loaded | {"status"}


def test_log_lines_are_listed():
    """Each line that the package logs is explained, by the words that it begins with."""
    listed = " ".join(code(row[0]) for row in tables("docs/howto/run.md")["line"])

    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="logger"), attr=level),
                    args=[ast.Constant(value=str(line)), *_],
                ) if level in ("info", "warning", "error", "critical", "exception"):
                    words = re.split(r"%\S+", line)[0].strip()
                    assert words in listed, f"{path.name}:{node.lineno}"


FACTS = [
    ("docs/howto/metrics.md", f"at most every {queue_depth.FRESH_SECONDS:g} seconds"),
    ("docs/howto/metrics.md", f"counted up to {queue_depth.COUNTED:,} each"),
    ("docs/howto/metrics.md", f"a heartbeat for {store.TTL_SECONDS:g} seconds"),
    ("docs/howto/run.md", f"Runs have {options.RELOAD_GRACE_SECONDS:g} seconds to end"),
    ("docs/howto/run.md", f"looks into {folders.MOST:,} folders"),
    ("docs/howto/run.md", f"starts anew after {parent.AGAIN_SECONDS:g} seconds"),
    ("docs/howto/run.md", f"told to end {child.END_SECONDS:g} s ago"),
    ("docs/howto/run.md", f"probe every {wakeup.PROBE_EVERY_SECONDS} seconds"),
    ("docs/howto/run.md", f"silent for {store.TTL_SECONDS:g} seconds"),
    ("docs/howto/run.md", f"within {store.BEAT_SECONDS:g} seconds"),
    ("docs/howto/run.md", f"plus {supervisor.CLOSING_SECONDS:g} seconds"),
    ("docs/howto/run.md", f"every {unserved.LOOK_EVERY_SECONDS:g} seconds, said once"),
    ("docs/howto/deploy.md", f"by {policy.UNRECOGNISED_PAUSE.seconds} seconds"),
    ("docs/howto/deploy.md", f"up to {policy.MAX_UNRECOGNISED} times"),
    ("docs/explanation/the-way-of-a-task.md", f"beats every {store.BEAT_SECONDS:g} seconds"),
    ("docs/explanation/the-way-of-a-task.md", f"younger than {store.TTL_SECONDS:g} seconds"),
    ("docs/howto/periodic.md", f"otherwise after {store.TTL_SECONDS:g} seconds"),
    ("docs/howto/periodic.md", f"another {ticker.LOOK_EVERY_SECONDS:g} seconds"),
    ("docs/howto/periodic.md", f"minimum is {schedule.SHORTEST_SECONDS:g}"),
    ("docs/howto/operate.md", f"after {store.TTL_SECONDS:g} seconds without"),
    ("docs/howto/operate.md", f"next heartbeat, within {store.BEAT_SECONDS:g} seconds"),
    ("docs/howto/operate.md", f"only up to {status.COUNTED:,}"),
    ("docs/howto/operate.md", f"counted up to {reasons.COUNTED:,}"),
    ("docs/howto/signals-and-logs.md", f"one queue of {log_queue.MOST_LINES:,} lines"),
    ("docs/howto/signals-and-logs.md", f"up to {losses.MOST_UNTOLD:,} of them"),
    ("docs/reference/states.md", f"after {store.TTL_SECONDS:g} seconds without one"),
    ("docs/reference/states.md", f"the first {retold.MESSAGE_LENGTH:,} characters"),
    ("docs/reference/states.md", f"the last {failure.TRACEBACK_LENGTH:,} characters"),
    ("docs/reference/states.md", f"the last {store.KEPT_PER_ROW} are kept"),
    ("docs/reference/states.md", f"up to {policy.MAX_UNRECOGNISED} times"),
]


@pytest.mark.parametrize(("page", "fact"), FACTS)
def test_numbers_are_the_code_s(page, fact):
    """A number that was changed in the code is to be changed here too."""
    assert fact in " ".join(prose(page).split())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("listen", "expected"), [(True, 3), (False, 2)])
def test_supervisor_has_the_connections_that_the_docs_count(listen, expected, monkeypatch):
    """Who sizes max_connections goes by the formula."""
    monkeypatch.setattr(unique, "_has_windows", False)  # to prune their windows takes another one
    ours = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name LIKE 'partisan_async %' AND datname = current_database()"
    )

    def count():
        with connection.cursor() as cursor:
            cursor.execute(ours)
            return cursor.fetchone()[0]

    with live_supervisor(listen=listen, WORKERS_COUNT=1):
        wait_until(lambda: count() >= expected)

        assert count() == expected
    assert "(1 + ASYNC_CONCURRENCY) + 4\n" in prose("docs/howto/run.md")


# Names and links


@pytest.mark.parametrize("page", PAGES)
def test_names_exist(page):
    """Full dotted names can be imported, and paths can be opened."""
    text = prose(page)
    for name in re.findall(r"`(partisan_async(?:\.\w+)+)(?=[`(])", text):
        is_check = re.fullmatch(r"partisan_async\.[EW]\d{3}", name)
        if not is_check and name != "partisan_async.worker":  # a logger
            pkgutil.resolve_name(name)
    for path in re.findall(r"`((?:partisan_async|tests)/[\w/]*(?:\.py)?)`", text):
        assert (ROOT / path).exists(), path


def test_way_of_a_task_passes_every_file_of_the_running_side():
    """A file that nobody explains is one that nobody dares to change."""
    text = prose("docs/explanation/the-way-of-a-task.md")

    for path in (PACKAGE / "supervisor").glob("[a-z]*.py"):
        assert f"partisan_async/supervisor/{path.name}" in text


def test_a_task_that_goes_well_is_told_in_twenty_files():
    """Each once, and short enough to be read at one go."""
    files = re.findall(
        r"^\| \d+ \| `([\w/.]+)` \|", prose("docs/explanation/the-way-of-a-task.md"), re.MULTILINE
    )

    assert len(files) == len(set(files)) == 20
    for name in files:
        assert len((ROOT / name).read_text().splitlines()) <= 200, name


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
    """Internal links lead to a file, and to a heading in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if not anchor:
            continue
        headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", file.read_text()), re.MULTILINE)
        slugs = {
            re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings
        }
        assert anchor in slugs, target


def test_index_lists_every_page():
    """A page that is not in the index is not found."""
    listed = []
    for block in blocks("docs/index.md", "{toctree}"):
        listed += [line for line in block.text.splitlines() if line and not line.startswith(":")]

    pages = [page.removeprefix("docs/").removesuffix(".md") for page in PAGES if "docs/" in page]
    assert sorted(listed) == sorted(set(pages) - {"index"})


# Walks: a page's commands and files, in a real project, with a real supervisor


class Walk:
    """A project folder, its database, and everything that its commands and supervisors print."""

    def __init__(self, folder: Path, database: str, unbuffered: str) -> None:
        self._folder = folder
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("DJANGO_")},
            "DATABASE_URL": database,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": unbuffered,
        }
        self._printed: list[str] = []
        self._since = 0
        self._supervisor: subprocess.Popen[str] | None = None

    def run(self, line: str, stdin: str = "", *, fails: bool = False) -> None:
        """Run a line of a bash block; a supervisor goes on beside it, in place of the last one."""
        self._since = len(self._printed)
        line = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", line)
        line = re.sub(r"^django-admin ", f"{shlex.quote(sys.executable)} -m django ", line)
        if "start_partisan" in line:
            self.stop()
            self._supervisor = self._start(f"exec {line}")
            threading.Thread(target=self._listen, args=[self._supervisor], daemon=True).start()
            up = "started: queue 'default', 0 to N workers, database 'default', woken by NOTIFY"
            self.expect(up)
            return
        process = self._start(line)
        try:
            output, _ = process.communicate(stdin, timeout=120)
        finally:
            process.kill()
        assert (process.returncode != 0) == fails, output
        self._printed += map(_bare, output.splitlines())

    def write(self, block: Block) -> None:
        """Add a block to the file that it names."""
        app, module = block.file
        with (self._folder / app / f"{module}.py").open("a") as file:
            file.write(f"\n\n{block.text}")

    def expect(self, text: str) -> None:
        """Wait until all of these lines were printed since the last command began."""
        expected = [_bare(line) for line in text.splitlines()]
        deadline = time.monotonic() + 120
        while missing := [each for each in expected if each not in self._printed[self._since :]]:
            if time.monotonic() > deadline:
                printed = "\n".join(self._printed[self._since :])
                pytest.fail(f"not printed: {missing}; what was:\n{printed}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Press Ctrl-C."""
        if self._supervisor is not None:
            process, self._supervisor = self._supervisor, None
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(DEADLINE_SECONDS) == 0
            finally:
                process.kill()  # its workers end with it

    def _start(self, line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", line],
            cwd=self._folder,
            env=self._environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=ends_with_tests(),
        )

    def _listen(self, process: subprocess.Popen[str]) -> None:
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                self._printed.append(_bare(line))


def _bare(line: str) -> str:
    """Return a line without what differs from one machine and run to the next."""
    line = re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR)\s+", "", line)
    line = re.sub(r"in \d+ ms", "in N ms", line)
    line = re.sub(r"\d+ workers?", "N workers", line)
    line = re.sub(r"(database 'default') \(.*\)", r"\1", line)
    # On a busy machine the proof takes longer than the start waits for it.
    line = re.sub(r"by polling every \S+ s until NOTIFY is proven to work", "by NOTIFY", line)
    line = re.sub(r'File ".*/(\w+/\w+\.py)", line \d+', r'File "\1", line N', line)
    return line.rstrip()


@pytest.fixture
def walk(tmp_path, request):
    """A reader's folder, and what is typed there; a parameter is its PYTHONUNBUFFERED."""
    name = f"partisan_docs_{os.getpid()}"
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        walk = Walk(tmp_path, make_conninfo(url, dbname=name), getattr(request, "param", ""))
        try:
            yield walk
        finally:
            walk.stop()
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("walk", ["1"], indirect=True, ids=["unbuffered"])
def test_tutorial_is_what_one_sees(walk):
    """Who types what the tutorial says sees what the tutorial shows.

    Unbuffered, as the first walk is not: workers print whole lines, and at once, either way.
    """
    elsewhere = ("mkdir ", "cd ", "python3 -m venv ", "source ", "pip ", "export ", "echo ")

    shown = blocks(TUTORIAL)
    for block, following in itertools.zip_longest(shown, shown[1:]):
        match block.kind:
            case "python":
                walk.write(block)
            case "bash":
                fails = following is not None and following.text.startswith("TypeError: ")
                for line in block.text.splitlines():
                    if not line.startswith(elsewhere) and "partisan_async.embedded" not in line:
                        walk.run(line, fails=fails)
            case "text" if not block.text.startswith("postgresql://"):
                if "stopping:" in block.text:
                    walk.stop()
                walk.expect(block.text)


def test_readme_example_can_be_copied(walk):
    """The first thing that anybody tries works as it stands, in a fresh project."""
    first, second, change, *_ = blocks("README.md", "python")
    (tutorial_settings,) = (each for each in blocks(TUTORIAL, "python") if each.file[0] == "mysite")
    walk.run("django-admin startproject mysite .")
    walk.run("python manage.py startapp shop")
    walk.write(change)
    # The database, and the reader's own app.
    adapted = tutorial_settings.text.replace('"partisan_async", ', "")
    walk.write(Block(TUTORIAL, 0, "python", adapted))
    walk.write(first)
    walk.run("python manage.py migrate")
    walk.run("python manage.py start_partisan --async --all_queues --reload")

    walk.run("python manage.py shell --no-imports", second.text)

    walk.expect("claimed 1: 1 Welcome\nWelcome, ada!\ndone 1 Welcome in N ms")
