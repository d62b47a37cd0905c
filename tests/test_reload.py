"""``start_partisan --reload`` in a project that is edited: what starts anew, and what ends how."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from partisan_async.management.start_partisan.options import RELOAD_GRACE_SECONDS
from partisan_async.management.start_partisan.reload import tie
from partisan_async.management.start_partisan.reload.look import Look
from partisan_async.management.start_partisan.reload.sight import Sight
from partisan_async.management.start_partisan.reload.watchman import Watchman
from partisan_async.models import Supervisor, Task
from tests.conftest import ended, marks, wait_until
from tests.home import Site, told
from tests.process import DEADLINE_SECONDS, ends_with_tests
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import Sleep, Write

pytestmark = pytest.mark.django_db(transaction=True)

VERSION = "from home.partisan_tasks import VERSION; answer = VERSION"

UP = "started: queue"


@pytest.fixture
def site(tmp_path):
    """A project whose tasks have a version."""
    site = Site(tmp_path)
    edit(site, 0)
    return site


def edit(site, version, name="home/partisan_tasks.py"):
    return site.write(name, f"VERSION = {version}\n")


@contextmanager
def reloading(site, *options, **env):
    with site.start("--reload", *options, **env) as parent:
        yield parent


def wait_for(parent, words, times):
    """Wait until it has said this so many times."""
    wait_until(lambda: parent.output.count(words) >= times or parent.process.poll() is not None)
    assert parent.output.count(words) == times, parent.output
    assert parent.process.poll() is None, parent.output


def runs_version(version):
    """Whether a task that is enqueued now runs this version."""
    return told(VERSION) == version


def child_of(parent):
    """The process that is the supervisor."""
    (child,) = [each for each in psutil.Process(parent.pid).children() if each.status() != "zombie"]
    return child


def starts_of(label):
    return marks().count(f"start {label}")


class TestAnEdit:
    def test_is_live_for_the_next_task(self, site):
        with reloading(site) as parent:
            assert runs_version(0)

            edit(site, 1)
            wait_until(lambda: runs_version(1))

            assert "a change in home/partisan_tasks.py: starting anew" in parent.output
            assert Supervisor.objects.count() == 1

    def test_is_live_in_all_queues(self, site):
        with reloading(site, "--all_queues") as parent:
            queues = Supervisor.objects.count()
            assert queues > 1
            wait_for(parent, UP, queues)
            assert runs_version(0)

            edit(site, 1)
            wait_until(lambda: runs_version(1))

            wait_for(parent, UP, 2 * queues)
            assert parent.output.count("stopped: queue") == queues

    def test_of_a_module_that_only_a_task_imports(self, site):
        """Workers are forked, so the supervisor has not imported it."""
        code = "from home.rates import VERSION; answer = VERSION"
        edit(site, 0, "home/rates.py")
        with reloading(site):
            assert told(code) == 0

            edit(site, 1, "home/rates.py")

            wait_until(lambda: told(code) == 1)

    def test_of_a_template(self, site):
        """Workers keep the templates that they have read, and Django's receivers know where."""
        code = "from django.template.loader import get_template as g; answer = g('a.txt').render()"
        site.write("home/templates/a.txt", "before")
        with reloading(site) as parent:
            assert told(code) == "before"

            site.write("home/templates/a.txt", "after!")

            wait_until(lambda: told(code) == "after!")
            assert "a change in home/templates/a.txt: starting anew" in parent.output

    def test_of_a_file_that_a_receiver_asks_to_watch(self, tmp_path):
        """As a project does that keeps rates in a file that is no code."""
        ready = """
            from pathlib import Path
            from django.utils.autoreload import autoreload_started

            def watch(sender, **_):
                sender.extra_files.add(Path("rates.json").resolve())

            autoreload_started.connect(watch, weak=False)
        """
        site = Site(tmp_path, ready=ready)
        site.write("rates.json", "1")
        with reloading(site) as parent:
            site.write("rates.json", "10")

            wait_for(parent, UP, 2)
            assert "a change in rates.json: starting anew" in parent.output

    def test_of_the_same_size_in_the_same_second(self, site):
        """Python takes what it has compiled for up to date then."""
        second = int(time.time()) - 1000
        os.utime(edit(site, 1), (second, second))
        with reloading(site, PYTHONDONTWRITEBYTECODE=""):
            assert runs_version(1)

            path = site.folder / "other.py"
            path.write_text("VERSION = 2\n")
            os.utime(path, (second + 0.5, second + 0.5))
            path.rename(site.folder / "home/partisan_tasks.py")

            wait_until(lambda: runs_version(2))

    def test_that_brings_an_older_file_back(self, site):
        """As a version control system may, or a copy that keeps times."""
        with reloading(site):
            assert runs_version(0)

            path = edit(site, 1, "kept.py")
            os.utime(path, (1, 1))
            path.rename(site.folder / "home/partisan_tasks.py")

            wait_until(lambda: runs_version(1))

    def test_of_what_only_the_child_has_come_to_know(self, site):
        """A folder that is on the path since the last edit."""
        edit(site, 1, "elsewhere/at_hand.py")
        elsewhere = str(site.folder.parent / "elsewhere")
        (site.folder / "elsewhere").rename(elsewhere)
        with reloading(site):
            site.write(
                "home/partisan_tasks.py",
                f"import sys; sys.path.append({elsewhere!r}); from at_hand import VERSION\n",
            )
            wait_until(lambda: runs_version(1))

            edit(site, 2, f"{elsewhere}/at_hand.py")

            wait_until(lambda: runs_version(2))

    def test_is_none_that_a_pattern_is_none(self, tmp_path):
        """A receiver of the project's may ask for anything."""
        look = Look(Sight([], [], {str(tmp_path): ["/all/*", "", "*.txt"]}))
        look.child_starts()
        (tmp_path / "new.txt").touch()

        assert look.changed() == [str(tmp_path / "new.txt")]

    def test_is_none_that_a_file_is_watched_from_now_on(self, tmp_path):
        """The child has imported it as it is, unless it was written meanwhile."""
        look = Look(Sight([], [], {}))
        assert look.changed() == []
        look.child_starts()

        written = str(tmp_path / "written.py")
        Path(written).touch()
        look.sight = Sight([os.__file__, written], [], {})

        assert look.changed() == [written]
        assert look.changed() == []

    @pytest.mark.timeout(600)
    def test_twenty_under_load_lose_no_task_and_run_none_twice(self, site):
        """Each task ends in time, so each is let end by the supervisor that began it."""
        labels = []
        with reloading(site, "--workers_count", "3") as parent:
            for version in range(1, 21):
                edit(site, version)
                deadline = time.monotonic() + DEADLINE_SECONDS
                while not runs_version(version):
                    assert time.monotonic() < deadline, parent.output
                    for seconds in (0.01, 0.2, 1.5):
                        labels.append(f"{version}: {len(labels)}")
                        Sleep(seconds, labels[-1]).delay()
            wait_until(lambda: ended(), seconds=2 * DEADLINE_SECONDS)
            assert parent.output.count("a change in home/partisan_tasks.py") >= 20

        assert not Task.objects.exclude(status="finished").exists()
        assert sorted(marks()) == sorted(f"{when} {each}" for each in labels
                                         for when in ("start", "end"))  # fmt: skip

    def test_cuts_off_what_does_not_end_in_time(self, site):
        """It is given back, as at any stop, and runs again with the code as it is now."""
        with (site.folder / "home_settings.py").open("a") as settings:
            settings.write("SHUTDOWN_GRACE_SECONDS = None\n")  # else it waits for the task
        with reloading(site) as parent:
            task = Sleep(3600, "long").delay()
            wait_until(lambda: starts_of("long") == 1)

            edit(site, 1)

            wait_until(lambda: starts_of("long") == 2)
            first, second = Mark.objects.order_by("at")
            assert (second.at - first.at).total_seconds() >= RELOAD_GRACE_SECONDS
            assert "given back" in parent.output
            assert "killing the supervisor" not in parent.output
        task.refresh_from_db()
        assert (task.status, task.tries) == ("in_process", 0)

    def test_does_not_wait_for_a_child_that_hangs(self, site):
        with reloading(site) as parent:
            child_of(parent).suspend()

            edit(site, 1)

            parent.wait_for("killing the supervisor: it was told to end 20 s ago")
            wait_for(parent, UP, 2)
            assert runs_version(1)


class TestCodeThatDoesNotImport:
    @pytest.mark.parametrize(
        ("name", "broken", "words"),
        [
            ("home/partisan_tasks.py", "VERSION = = 1\n", "SyntaxError: "),
            ("home/partisan_tasks.py", "import home.missing\n", "No module named 'home.missing'"),
            ("home/apps.py", "import nothing_of_that_name\n", "No module named 'nothing_of_that"),
            ("home/partisan_tasks.py", "print('bye')\nraise SystemExit(0)\n", "bye"),
        ],
        ids=["syntax", "import", "before the command is there", "exit"],
    )
    def test_is_shown_once_and_waited_for(self, site, name, broken, words):
        whole = (site.folder / name).read_text()
        with reloading(site) as parent:
            site.write(name, broken)
            parent.wait_for("waiting for a change in the code")
            task = Write("meanwhile").delay()

            assert parent.output.count(words) == 1
            assert Supervisor.objects.count() == 0

            site.write(name, whole + "# mended\n")

            wait_until(lambda: ended(task))
            assert parent.output.count(words) == 1
            assert parent.output.count(UP) == 2

    @pytest.mark.parametrize(
        ("setting", "words"),
        [
            ("WORKERS_COUNT = 'many'", "WORKERS_COUNT"),
            ("from django.core.exceptions import ImproperlyConfigured as e; raise e('odd')", "odd"),
        ],
        ids=["check", "settings"],
    )
    def test_nor_do_settings_that_are_wrong(self, site, setting, words):
        path = site.folder / "home_settings.py"
        whole = path.read_text()
        with reloading(site) as parent:
            path.write_text(f"{whole}\n{setting}\n")
            parent.wait_for("waiting for a change in the code")
            assert words in parent.output

            path.write_text(whole)

            wait_for(parent, UP, 2)

    def test_nor_do_settings_that_contradict_an_option(self, site):
        path = site.folder / "home_settings.py"
        whole = path.read_text()
        with reloading(site, "--all_queues", "--max_queue_size", "5") as parent:
            up = parent.output.count(UP)
            path.write_text(f"{whole}\nMIN_QUEUE_SIZE, MAX_QUEUE_SIZE = 8, 9\n")
            parent.wait_for("waiting for a change in the code")

            path.write_text(whole)

            wait_until(lambda: parent.output.count(UP) > up)

    def test_is_mended_by_a_file_that_appears(self, site):
        """Nobody has imported it ever, so nobody knows it."""
        with reloading(site) as parent:
            site.write("home/partisan_tasks.py", "from later.version import VERSION\n")
            parent.wait_for("waiting for a change in the code")

            site.write("later/__init__.py", "")
            edit(site, 7, "later/version.py")

            wait_until(lambda: parent.output.count(UP) == 2)
            assert runs_version(7)

    def test_ends_the_first_start_with_its_exit_code(self, site):
        """As without the option: manage.py itself would not get that far either."""
        site.write("home/partisan_tasks.py", "import home.missing\n")

        with site.start("--reload", wait=False) as parent:
            assert parent.wait() == 1
            assert parent.output.count("No module named 'home.missing'") == 1
            parent.wait_until_nothing_is_left()


class TestItsEnd:
    def test_ctrl_c_lets_tasks_end(self, site):
        """It comes to the parent and to the child, and is one."""
        with reloading(site) as parent:
            Sleep(2, "short").delay()
            wait_until(lambda: starts_of("short") == 1)

            os.killpg(parent.pid, signal.SIGINT)

            assert parent.wait() == 0
            assert marks() == ["start short", "end short"]
            assert "Traceback" not in parent.output
            assert Supervisor.objects.count() == 0
            parent.wait_until_nothing_is_left()

    def test_ctrl_c_twice_ends_it_at_once(self, site):
        # The first would let it run for an hour.
        site.write(
            "home/partisan_tasks.py",
            "from partisan_async.management.start_partisan import options\n"
            "options.RELOAD_GRACE_SECONDS = 3600.0\n",
        )
        with (site.folder / "home_settings.py").open("a") as settings:
            settings.write("SHUTDOWN_GRACE_SECONDS = None\n")
        with reloading(site, "--all_queues") as parent:
            task = Sleep(3600, "long").delay()
            wait_until(lambda: starts_of("long") == 1)

            os.killpg(parent.pid, signal.SIGINT)
            parent.wait_for("stopping: waiting for 1 running task")
            os.killpg(parent.pid, signal.SIGINT)

            assert parent.wait() == 0
            parent.wait_until_nothing_is_left()
        task.refresh_from_db()
        assert task.status == "new"

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_to_the_parent_alone_does(self, site, number):
        with reloading(site) as parent:
            parent.signal(number)

            assert parent.wait() == 0
            assert "stopped: queue 'default'" in parent.output
            parent.wait_until_nothing_is_left()

    def test_it_is_not_kept_by_code_that_imports_for_ever(self, site):
        with reloading(site) as parent:
            site.write(
                "home/partisan_tasks.py",
                'import time\nopen("importing", "w").close()\ntime.sleep(3600)\n',
            )
            wait_until((site.folder / "importing").exists)

            os.killpg(parent.pid, signal.SIGINT)

            assert parent.wait() == 0
            assert "Traceback" not in parent.output
            assert "killing the supervisor" not in parent.output, "it would wait for that"
            parent.wait_until_nothing_is_left()

    def test_it_is_not_kept_by_code_that_does_not_import(self, site):
        with reloading(site) as parent:
            site.write("home/partisan_tasks.py", "VERSION = = 1\n")
            parent.wait_for("waiting for a change in the code")

            os.killpg(parent.pid, signal.SIGINT)

            assert parent.wait() == 0
            parent.wait_until_nothing_is_left()

    def test_a_parent_that_is_killed_takes_all_with_it(self, site):
        """And the child lets its tasks end before."""
        with reloading(site) as parent:
            Sleep(1, "short").delay()
            wait_until(lambda: starts_of("short") == 1)

            parent.signal(signal.SIGKILL)

            parent.wait_until_nothing_is_left()
        assert marks() == ["start short", "end short"]
        assert Supervisor.objects.count() == 0

    def test_a_child_that_dies_is_not(self, site):
        with reloading(site) as parent:
            child_of(parent).kill()

            wait_for(parent, UP, 2)
            assert "starting anew in 2 s: the supervisor was killed by SIGKILL" in parent.output
            assert runs_version(0)

    def test_nor_is_one_that_dies_while_it_imports(self, site, tmp_path):
        """No code is at fault, as where the system was out of memory."""
        imports = tmp_path / "imports"
        with reloading(site) as parent:
            site.write(
                "home/partisan_tasks.py",
                "import pathlib, time\nVERSION = 1\n"
                f"if not pathlib.Path({str(imports)!r}).exists():\n"
                f"    pathlib.Path({str(imports)!r}).touch()\n    time.sleep(600)\n",
            )
            wait_until(imports.exists)

            child_of(parent).kill()

            wait_for(parent, UP, 2)
            assert runs_version(1)

    @pytest.mark.parametrize("how", ["drained", "signalled"])
    def test_a_child_that_somebody_tells_to_end_is(self, site, how):
        """It would be back after a drain, and never gone for whoever signals the wrong process."""
        with reloading(site) as parent:
            if how == "drained":
                call_command("partisan", "drain", str(Supervisor.objects.get().pk))
            else:
                child_of(parent).terminate()

            assert parent.wait() == 0
            assert "stopped: queue 'default'" in parent.output
            parent.wait_until_nothing_is_left()

    def test_what_no_change_can_mend_is_tried_again(self, site):
        """Here the port of its health; the same of a database that is away for a while."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with site.start("--reload", "--health-port", str(port), wait=False) as parent:
                assert parent.wait() == 1, "at the first start it is said, and that is it"
                assert "Choose another --health-port" in parent.output
        with reloading(site, "--health-port", str(port)) as parent:
            child_of(parent).kill()
            with taking(port):
                parent.wait_for("starting anew in 2 s: the supervisor exited with code 1")

            wait_for(parent, UP, 2)


@contextmanager
def taking(port):
    """Hold a port as soon as it is free."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        with suppress(OSError):
            taken = socket.create_server(("127.0.0.1", port))
            break
        assert time.monotonic() < deadline
    with taken:
        yield


def test_the_health_port_is_the_same_after_a_change(site):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with reloading(site, "--health-port", str(port)) as parent:
        edit(site, 1)
        wait_for(parent, UP, 2)

        with urllib.request.urlopen(f"http://127.0.0.1:{port}/live") as answer:
            assert answer.status == 200


def test_what_tasks_start_knows_nothing_of_it(site):
    """A command of theirs with --reload would take itself for a child."""
    with reloading(site):
        assert told(f"import os; answer = os.environ.get({tie.VARIABLE!r}, 'none')") == "none"


@pytest.mark.parametrize("part", ["StatReloader", "autoreload_started"])
def test_without_what_django_does_not_document_code_is_watched(tmp_path, part):
    """It is said once in each process, and templates are not watched."""
    settings = f"from django.utils import autoreload; del autoreload.{part}"
    site = Site(tmp_path, settings=f"import django.template.autoreload\n{settings}")
    edit(site, 0)
    with reloading(site) as parent:
        assert "django.utils.autoreload is not as partisan_async knows it" in parent.output

        edit(site, 1)

        wait_until(lambda: runs_version(1))


@pytest.fixture
def watchman(tmp_path_factory, monkeypatch):
    """A server of watchman's, for one test alone."""
    if shutil.which("watchman") is None or find_spec("pywatchman") is None:
        pytest.skip("needs watchman, and pywatchman")
    folder = tmp_path_factory.mktemp("watchman")
    place = [f"--{name}={folder / name}" for name in ("sockname", "pidfile", "logfile")]
    server = subprocess.Popen(
        ["watchman", "--foreground", "--no-save-state", *place], preexec_fn=ends_with_tests()
    )
    try:
        wait_until((folder / "sockname").exists)
        monkeypatch.setenv("WATCHMAN_SOCK", str(folder / "sockname"))
        yield server
    finally:
        server.kill()
        server.wait()


class TestWatchman:
    def test_tells_of_a_change(self, site, watchman):
        """Also of a file that is new, beneath what it was first asked to watch."""
        called = threading.Event()
        watching = Watchman(called.set)
        watching.start(Sight([str(edit(site, 0))], [], {}))
        assert watching.runs
        watching.watch(Sight([], [str(site.folder)], {}))

        def tells():
            edit(site, time.monotonic_ns(), "new/module.py")
            return called.wait(0.1)

        wait_until(tells)
        watchman.kill()
        wait_until(lambda: not watching.runs)

    def test_is_not_missed_when_it_ends(self, site, watchman):
        with reloading(site) as parent:
            edit(site, 1)
            wait_until(lambda: runs_version(1))

            watchman.kill()
            parent.wait_for("files are looked at twice a second")
            edit(site, 2)

            wait_until(lambda: runs_version(2))


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        ({"once": True}, {}, "--once exits when nothing is left to run"),
        ({"paused": True}, {}, "run `manage.py partisan pause` before"),
        ({}, {"NOTIFY_SOCKET": "/run/systemd/notify"}, "leave --reload out of the unit"),
    ],
    ids=["once", "paused", "systemd"],
)
def test_what_does_not_go_with_it_is_refused(options, environment, words, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(CommandError, match=words) as refused:
        call_command("start_partisan", reload=True, **options)

    assert refused.value.returncode == 2
