"""What is in a row is data: never imported, run or rendered, whoever wrote it."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.db.models import JSONField, Value
from django.urls import reverse

import partisan_async
from partisan_async.models import Task
from tests.faults.partisan_tasks import Noop, Outcry, Verify, fingerprint
from tests.faults.site import UNHURRIED
from tests.old_rows import before_the_constraints
from tests.process import ROOT, environment

PACKAGE = Path(partisan_async.__file__).parent

DANGEROUS_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "yaml"}
DANGEROUS_NAMES = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "import_module",
    "import_string",
    "mark_safe",
    "SafeString",
    "format_map",
}


def delay_as(site, name, *, met=15):
    """Enqueue a call in the name of another processor, which so many supervisors did not know."""
    ((pk,),) = site.execute(
        "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
        " execute_after, unrecognised) VALUES ('default', %s, %s, 1, now(), %s) RETURNING id",
        name,
        '{"args": ["touch /tmp/never"], "kwargs": {}}',
        met,
    )
    return Task(pk=pk)


def exempt(site, tasks):
    """Take tasks out of the record: the checker cannot know of what was done by hand."""
    for table, column in (("partisan_async_task", "id"), ("faults_change", "task_id")):
        site.execute(f"DELETE FROM {table} WHERE {column} = ANY(%s)", [task.pk for task in tasks])


def is_plain(output):
    """Tell whether it is lines of printable characters, and nothing else."""
    return all(char == "\n" or char.isprintable() for char in output)


class TestTheCode:
    """The package has nothing by which a row could be run: what could do it is not there at all."""

    def files(self):
        return sorted(PACKAGE.rglob("*.py"))

    def test_it_unpickles_and_evaluates_nothing(self):
        found = []
        for path in self.files():
            for node in ast.walk(ast.parse(path.read_text())):
                names = set()
                match node:
                    case ast.Import():
                        names = {alias.name.partition(".")[0] for alias in node.names}
                    case ast.ImportFrom():
                        names = {str(node.module).partition(".")[0]}
                        names |= {alias.name for alias in node.names}
                    case ast.Name():
                        names = {node.id}
                    case ast.Attribute() if ast.unparse(node) != "re.compile":
                        names = {node.attr}
                if wrong := names & (DANGEROUS_MODULES | DANGEROUS_NAMES):
                    found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {sorted(wrong)}")

        # What psycopg does not document is looked for by names that are constants. An error's
        # frames are made by a constant that runs by another name. Workers are set up as the
        # command was: the main script is run, as Python ran it. The migrations' package has a name
        # that settings may change.
        users = (
            ["operate/migrations.py"] * 2
            + ["postgres/insides.py"] * 2
            + ["text/retold.py"] * 2
            + ["worker/taking_on.py"] * 2
        )
        assert [each.partition(":")[0] for each in found] == users

    def test_it_imports_by_name_what_apps_declare_and_nothing_else(self):
        """``autodiscover_modules`` takes the names of installed apps."""
        users = [path.name for path in self.files() if "autodiscover_modules(" in path.read_text()]

        assert users == ["registry.py"]

    def test_markup_is_made_by_templates_that_escape_what_they_are_given(self):
        for path in self.files():
            assert "format_html" not in path.read_text(), path
        templates = [path for path in PACKAGE.rglob("*") if path.suffix in (".html", ".txt")]
        assert templates
        for path in templates:
            found = re.search(r"\|\s*(safe|safeseq)\b|autoescape|mark_safe", path.read_text())
            assert not found, path

    def test_scripts_make_no_markup_of_text(self):
        ways = r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\("
        for path in PACKAGE.rglob("*.js"):
            assert not re.search(ways, path.read_text()), path


class TestProcessorNames:
    NAMES = (
        "os.system",
        "django.core.management.call_command",
        "tests.faults.forbidden.Evil",
        "tests.faults.forbidden",
        "tests.faults.forbidden:Evil",
        "Evil",
        "__import__('tests.faults.forbidden')",
        "partisan_tasks.Noop",
        "tests.faults.partisan_tasks.Noop",
        "BaseTaskProcessor",
        "Recorded",
        "__class__",
        "../../forbidden",
        "",
        "noop",
        " Noop",
        "{0.__class__}",
        "%(os)s",
        "Noop\nERROR failed 1 Noop: forged",
    )

    @pytest.fixture
    def mark(self, tmp_path, monkeypatch):
        mark = tmp_path / "imported"
        monkeypatch.setenv("FAULTS_MARK", str(mark))
        return mark

    def test_the_mark_is_left_by_an_import(self, mark, transactional_db):
        """Else the other test would prove nothing."""
        env = environment(DJANGO_SETTINGS_MODULE="tests.faults.settings")
        code = "import django; django.setup(); import tests.faults.forbidden"
        subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, check=True)

        assert mark.exists()
        assert importlib.util.find_spec("tests.faults.forbidden")

    def test_that_are_not_registered_are_never_imported(self, site, mark):
        """They wait for a supervisor that knows them, and end in error after the 15th that does
        not.
        """
        supervisor = site.start()
        last = {name: delay_as(site, name) for name in self.NAMES}
        first = {name: delay_as(site, name, met=0) for name in self.NAMES}
        with site.load(rate=30):
            site.wait_until_ended(*last.values(), Noop().delay())
            for task in first.values():
                site.wait_until(
                    lambda task=task: Task.objects.get(pk=task.pk).status == "scheduled"
                )
        for name, task in last.items():
            task.refresh_from_db()
            (error,) = task.errors
            assert error["exception_class"].endswith(".ProcessorClassNotFound")
            assert f"Processor class {name!r} is not registered" in error["message"]
        assert not site.events(*last.values(), *first.values())
        exempt(site, [*last.values(), *first.values()])

        site.settle_down()

        assert not mark.exists()
        assert is_plain(supervisor.output)
        assert "\nERROR failed 1 Noop: forged" not in supervisor.output


class TestPayloads:
    PAYLOADS = (
        {"__reduce__": ["os.system", ["touch /tmp/never"]]},
        {"py/object": "os.system", "py/reduce": [{"py/function": "os.system"}, ["ls"]]},
        {"__class__": "Task", "_state": None, "pk": 1},
        "!!python/object/apply:os.system ['ls']",
        "cos\nsystem\n(S'ls'\ntR.",
        "'; DROP TABLE partisan_async_task; --",
        "%s %(id)s %% $1 ? :name",
        "{0.__class__.__init__.__globals__} {self} {}",
        "{{ 7191*7 }} {% debug %} ${7191*7} #{7191*7} `id`",
        "$(id) ; id | id && id",
        "<script>alert(1)</script>",
        '{"args": [], "kwargs": {}}',
        '\\u0000 \\" \\\\ \' " \\',
        "__import__('os').system('ls')",
    )

    def test_arrive_as_what_they_are_and_are_in_no_log(self, site):
        supervisor = site.start()

        with site.load(rate=20):
            for payload in self.PAYLOADS:
                Verify(payload, fingerprint(payload)).delay()

        site.settle_down()
        assert Task.objects.filter(processor_class="Verify", status="finished").count() == len(
            self.PAYLOADS
        )
        for trace in ("50337", "uid=", "alert(1)", "DROP TABLE", "os.system", "Traceback"):
            assert trace not in supervisor.output

    def test_in_an_error_they_are_told_as_they_are(self, site):
        """On the row and in the log; also what PostgreSQL or ``%`` might take for a placeholder."""
        supervisor = site.start()
        messages = [payload for payload in self.PAYLOADS if isinstance(payload, str)]
        tasks = {message: Outcry("say", message).delay() for message in messages}

        site.settle_down()

        for message, task in tasks.items():
            task.refresh_from_db()
            assert [error["message"] for error in task.errors] == [message]
            told = message.replace("\n", "\\n")
            assert f"failed {task.pk} Outcry: builtins.ValueError: {told}\n" in supervisor.output
        assert "50337" not in supervisor.output
        assert Task.objects.count() == len(messages)


class TestLogs:
    CONTROL = "first\nERROR forged\r\x1b[31mred\x1b]0;title\x07 \x08\x7f \x9b1m \u2028 \u202e \x85"

    def test_a_message_makes_one_line_and_commands_no_terminal(self, site):
        supervisor = site.start()

        task = Outcry("say", self.CONTROL).delay()

        site.settle_down()
        lines = [line for line in supervisor.output.split("\n") if f"failed {task.pk} " in line]
        assert len(lines) == 1
        assert r"first\nERROR forged\r\x1b[31mred" in lines[0]
        assert is_plain(supervisor.output)

    def test_neither_does_the_name_of_an_errors_class(self, site):
        """Clients of other services make classes by the names that those send."""
        supervisor = site.start()

        task = Outcry("oddly named", r"E\nERROR forged \x1b[31m").delay()

        site.settle_down()
        lines = [line for line in supervisor.output.split("\n") if f"failed {task.pk} " in line]
        assert len(lines) == 1
        assert is_plain(supervisor.output)


@pytest.mark.django_db
class TestAdmin:
    EVIL = "<script>alert('evil')</script>"

    def test_no_column_is_rendered_as_markup(self, admin_client):
        """On the page of a task, in the list and in its filters."""
        task = Task.objects.create(
            queue_name=self.EVIL,
            processor_class=self.EVIL,
            arguments={"args": [self.EVIL], "kwargs": {self.EVIL: self.EVIL}},
            status="error",
            priority=1,
            execute_after="2026-01-01T00:00:00Z",
            finished_at="2026-01-01T00:00:00Z",
            worker_ids=[self.EVIL],
            result=self.EVIL,
            errors=[{"exception_class": self.EVIL, "message": self.EVIL, "traceback": self.EVIL}],
        )

        for page in (
            admin_client.get(reverse("admin:partisan_async_task_change", args=[task.pk])),
            admin_client.get(reverse("admin:partisan_async_task_changelist")),
        ):
            assert page.status_code == 200
            assert b"<script>alert" not in page.content
            assert b"&lt;script&gt;alert" in page.content

    @pytest.mark.parametrize(
        "columns",
        [
            {"arguments": Value(None, JSONField())},
            {"arguments": []},
            {"errors": {"x": 1}, "worker_ids": "x", "result": 7},
            {"processor_class": "", "queue_name": "", "status": "nonsense"},
        ],
    )
    def test_a_row_broken_by_hand_can_be_looked_at(self, admin_client, columns):
        row = {"arguments": {}, "queue_name": "q", "processor_class": "P", "priority": 1}
        with before_the_constraints():
            task = Task.objects.create(**row | columns | {"execute_after": "2026-01-01T00:00:00Z"})

        page = admin_client.get(reverse("admin:partisan_async_task_change", args=[task.pk]))

        assert page.status_code == 200


class TestQueueNames:
    NAMES = (
        """a"b'c""",
        """x'); DROP TABLE partisan_async_task; SELECT ('""",
        '"; LISTEN "partisan_async.other"; --',
        "back\\slash\\",
        "%s {0} $1 %(q)s",
        "ж" * 100,
        "two\nlines \x1b[31m",
    )

    @pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
    def test_are_data_in_listen_and_notify_and_in_every_statement(self, site, monkeypatch, name):
        """Woken by NOTIFY alone: so each channel is the queue's own, on both sides."""
        monkeypatch.setattr(Noop, "QUEUE_NAME", name)
        supervisor = site.start(f"--queue_name={name}", WORKERS_COUNT=1, **UNHURRIED)
        supervisor.wait_for("is woken by NOTIFY", seconds=60)

        for number in range(2):
            site.wait_until_ended(Noop(number).delay())

        site.settle_down()
        assert {task.queue_name for task in Task.objects.all()} == {name}
        assert is_plain(supervisor.output)
        assert f"started: queue {name!r}" in supervisor.output
