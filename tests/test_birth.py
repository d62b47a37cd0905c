"""How workers come to be: set up as the command was that started them, forked or each afresh."""

import ctypes
import json
import os
import shutil
import signal
import socket
import sys
import threading
from contextlib import suppress
from functools import partial
from textwrap import dedent

import psutil
import pytest
from django.core import checks
from django.core.management import execute_from_command_line

from partisan_async.models import Task
from partisan_async.supervisor.workers import forkserver
from partisan_async.worker import origin
from tests.conftest import ended, marks, wait_until
from tests.home import Site, told
from tests.process import partisan
from tests.testapp.partisan_tasks import Sleep, Tell, Write

pytestmark = pytest.mark.django_db(transaction=True)

BOTH = pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "cold"])
"""A cold worker is set up by itself, and is to find the same."""


def kept(name):
    """What the settings keep of this at their import."""
    return f"from django.conf import settings; answer = settings.{name}"


class TestAsTheCommandWas:
    @BOTH
    def test_settings_see_its_arguments(self, tmp_path, preload):
        """As where they ask whether this is a worker, by the command's name."""
        settings = f"""
            IS_WORKER = "start_partisan" in sys.argv
            ARGV = list(sys.argv)
            PRELOAD = {preload}
        """
        with Site(tmp_path, settings=settings).start("--workers_count", "1") as supervisor:
            assert told(kept("IS_WORKER")) is True
            assert told(kept("ARGV")) == supervisor.process.args[1:]
            assert told("import sys; answer = sys.argv") == supervisor.process.args[1:]

    @BOTH
    def test_nothing_is_imported_from_the_current_folder(self, tmp_path, preload):
        """It may be /tmp, where anybody can put a json.py."""
        site = Site(tmp_path / "site", settings=f"PRELOAD = {preload}")
        trap = "import os; os.close(os.open(__file__ + '.was_here', os.O_CREAT))"
        names = ("json", "partisan_async/__init__", "home_settings", "multiprocessing/__init__")
        elsewhere = tmp_path / "elsewhere"
        for name in (*names, "home/__init__", "socket", "struct", "decimal", "sitecustomize"):
            (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
            (elsewhere / f"{name}.py").write_text(trap)

        with site.start(cwd=elsewhere):
            path, folder = told("import sys, os; answer = [sys.path, os.getcwd()]")

        assert not list(elsewhere.rglob("*.was_here"))
        assert "" not in path
        assert str(elsewhere) not in path
        assert path[0] == str(site.folder)
        assert folder == str(elsewhere)

    def test_a_task_finds_the_environment_that_the_command_has(self, tmp_path):
        """The path by which a worker is found is in no variable that commands would inherit."""
        with Site(tmp_path).start(PYTHONPATH=f"/nowhere:{os.getcwd()}") as supervisor:
            theirs = told("import os; answer = dict(os.environ)")
            given = psutil.Process(supervisor.pid).environ()

        assert theirs == given

    def test_a_main_script_is_run_up_to_its_call_of_django(self, tmp_path):
        """What it patches is patched in workers; what it does at its end is done once."""
        manage = """
            import builtins, os, sys

            def main():
                os.environ.setdefault("DJANGO_SETTINGS_MODULE", "home_settings")
                from django.core.management import execute_from_command_line
                open("running", "w").close()
                try:
                    execute_from_command_line(sys.argv)
                finally:
                    os.remove("running")

            if __name__ == "__main__":
                builtins.patched = "yes"
                main()
        """
        site = Site(tmp_path, manage=manage)
        with site.start("--workers_count", "1") as supervisor:
            assert told("answer = patched") == "yes"
            assert told("import sys; answer = sys.modules['__main__'].__name__") == "__main__"
            pid = told("import os; answer = os.getpid()")
            os.kill(pid, signal.SIGKILL)
            assert told("answer = patched") == "yes"
            assert (tmp_path / "running").exists()
            assert "could not be run again" not in supervisor.output
            supervisor.signal(signal.SIGTERM)
            assert supervisor.wait() == 0
            assert "Traceback" not in supervisor.output
        assert not (tmp_path / "running").exists()

    @BOTH
    def test_django_configurations_own_manage_py_works(self, tmp_path, preload):
        """Its importer makes settings of a class, and only manage.py installs it."""
        manage = """
            import os, sys

            if __name__ == "__main__":
                os.environ.setdefault("DJANGO_SETTINGS_MODULE", "configured")
                os.environ.setdefault("DJANGO_CONFIGURATION", "Dev")
                from configurations.management import execute_from_command_line
                execute_from_command_line(sys.argv)
        """
        site = Site(tmp_path, manage=manage)
        site.write(
            "configured.py",
            f"""
            import home_settings
            from configurations import Configuration

            class Dev(Configuration):
                locals().update(
                    {{name: value for name, value in vars(home_settings).items() if name.isupper()}}
                )
                PRELOAD = {preload}
                WHICH = "dev"

            class Staging(Dev):
                WHICH = "staging"
            """,
        )
        environment = {"DJANGO_SETTINGS_MODULE": "configured"}
        with site.start(**environment) as supervisor:
            assert told(kept("WHICH")) == "dev"
            assert "workers" not in supervisor.output.replace("1 worker", "")
        with site.start("--configuration", "Staging", **environment):
            assert told(kept("WHICH")) == "staging"

    def test_a_script_without_a_guard_works(self, tmp_path):
        """It calls Django whenever it is imported: in workers that call makes them workers."""
        manage = """
            import os, sys
            from django.core.management import execute_from_command_line
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "home_settings")
            execute_from_command_line(sys.argv)
        """
        with Site(tmp_path, manage=manage).start() as supervisor:
            assert told("answer = 1") == 1
            assert supervisor.output.count("started: queue") == 1
            assert len(supervisor.family()) == 3

    def test_one_that_starts_a_supervisor_otherwise_is_told_what_to_add(self, tmp_path):
        """The workers' processes would each start a supervisor, with workers of its own."""
        manage = """
            import os, sys, django
            from django.core.management import call_command
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "home_settings")
            django.setup()
            call_command("start_partisan")
        """
        with Site(tmp_path, manage=manage).start(wait=False) as supervisor:
            assert supervisor.wait(60) == 1
            supervisor.wait_until_nothing_is_left()
            assert '    if __name__ == "__main__":\n        exec' in supervisor.output
            assert "'manage.py' starts a supervisor whenever it is imported" in supervisor.output
            assert "started: queue" not in supervisor.output

    def test_with_the_guard_it_works_and_its_processors_are_known(self, tmp_path):
        """Its top is run in workers as multiprocessing runs it in a child."""
        manage = """
            import os, sys, django
            from django.core.management import call_command
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "home_settings")
            django.setup()

            TOP = [__name__, *sys.argv[1:]]
            if __name__ == "__main__":
                TOP = "guarded"
                call_command("start_partisan")
        """
        site = Site(tmp_path, manage=manage)
        with site.start(program=("manage.py", "some", "--thing")):
            top = told("import __main__; answer = __main__.TOP")

        assert top == ["__mp_main__", "some", "--thing"]

    def test_a_child_of_a_task_that_imports_such_a_script_is_told_too(self, tmp_path):
        """A pool that spawns runs the main script in each child."""
        manage = """
            import os, sys
            from django.core.management import execute_from_command_line
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "home_settings")
            execute_from_command_line(sys.argv)
        """
        code = """
            import math, multiprocessing
            child = multiprocessing.get_context("spawn").Process(target=math.sqrt, args=(4,))
            child.start()
            child.join(60)
            answer = child.exitcode
        """
        with Site(tmp_path, manage=manage).start() as supervisor:
            assert told(code) == 1
            assert "starts a supervisor whenever it is imported" in supervisor.output
            assert supervisor.output.count("started: queue") == 1

    @pytest.mark.parametrize("how", ["raise RuntimeError('is running')", "sys.exit('is running')"])
    def test_a_script_that_cannot_run_twice_is_said(self, tmp_path, how):
        """As one that lets only one of it run: the workers lack what it sets up."""
        manage = f"""
            import builtins, os, sys

            if __name__ == "__main__":
                if os.path.exists("lock"):
                    {how}
                open("lock", "w").close()
                builtins.patched = "yes"
                os.environ.setdefault("DJANGO_SETTINGS_MODULE", "home_settings")
                from django.core.management import execute_from_command_line
                execute_from_command_line(sys.argv)
        """
        with Site(tmp_path, manage=manage).start() as supervisor:
            answer = told("import builtins; answer = hasattr(builtins, 'patched')")
            output = supervisor.output

        assert answer is False
        assert output.count("the main script could not be run again for workers") == 1
        assert f": is running): they lack what {tmp_path}/manage.py sets up" in output

    def test_what_it_does_to_its_arguments_is_done_once(self, tmp_path):
        """Run again, it is to find them as they were."""
        manage = """
            import os, sys

            FIRST = list(sys.argv)

            if __name__ == "__main__":
                sys.argv.insert(1, sys.argv.pop(1).removeprefix("my_"))
                sys.argv += ["--workers_count", "1"]
                os.environ["DJANGO_SETTINGS_MODULE"] = "home_settings"
                from django.core.management import execute_from_command_line
                execute_from_command_line(sys.argv)
        """
        site = Site(tmp_path, manage=manage)
        with site.start(program=("manage.py", "my_start_partisan")) as supervisor:
            first, argv = told("import sys, __main__; answer = [__main__.FIRST, sys.argv]")
            assert "could not be run again" not in supervisor.output

        assert first == ["manage.py", "my_start_partisan"]
        assert argv == ["manage.py", "start_partisan", "--workers_count", "1"]

    def test_an_option_outdoes_what_the_script_says(self, tmp_path):
        """--settings comes after the line in manage.py, there and here."""
        manage = """
            import os, sys

            if __name__ == "__main__":
                os.environ["DJANGO_SETTINGS_MODULE"] = "no_such_settings"
                from django.core.management import execute_from_command_line
                execute_from_command_line(sys.argv)
        """
        with Site(tmp_path, manage=manage).start("--settings", "home_settings"):
            code = "import os; answer = os.environ['DJANGO_SETTINGS_MODULE']"
            assert told(code) == "home_settings"

    @pytest.mark.parametrize(
        "program",
        [
            ("-m", "django", "start_partisan"),
            ("-m", "home", "start_partisan"),
            (os.path.join(os.path.dirname(sys.executable), "django-admin"), "start_partisan"),
            ("console-script", "start_partisan"),
            (
                "-c",
                "import django.core.management as m; m.execute_from_command_line()",
                "start_partisan",
            ),
        ],
        ids=["django", "package", "django-admin", "console script", "-c"],
    )
    def test_however_it_is_started(self, tmp_path, program):
        site = Site(tmp_path)
        site.write(
            "home/__main__.py",
            """
            import builtins, sys
            from django.core.management import execute_from_command_line

            def main():
                builtins.patched = "yes"
                execute_from_command_line(sys.argv)

            if __name__ == "__main__":
                main()
            """,
        )
        site.write("console-script", "import sys; from home.__main__ import main; sys.exit(main())")
        with site.start(program=program, PYTHONPATH=f"{tmp_path}:{os.getcwd()}") as supervisor:
            answer = told("import builtins; answer = getattr(builtins, 'patched', 'no')")
            assert "could not" not in supervisor.output
            assert "cold" not in supervisor.output

        assert answer == ("yes" if {"home", "console-script"} & set(program) else "no")

    def test_a_test_runner_is_never_run_again(self, monkeypatch):
        """It would run the tests, in the forkserver; a test may call a command as a site does."""
        found = []

        def look(**_):
            found.append(origin.of_this_process())
            return []

        monkeypatch.setattr(checks.registry.registry, "registered_checks", {look})
        look.tags = ()

        execute_from_command_line(["manage.py", "check"])

        assert [each.is_command for each in found] == [False]


TERM_HANDLER = """
    import signal, sys
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
"""


class TestSignals:
    @BOTH
    def test_a_handler_of_the_projects_does_not_end_a_running_task(self, tmp_path, preload):
        """What is arranged for workers is arranged after the project's code."""
        site = Site(tmp_path, ready=TERM_HANDLER, settings=f"PRELOAD = {preload}")
        with site.start() as supervisor:
            task = Sleep(1, "it").delay()
            wait_until(lambda: marks() == ["start it"])

            os.killpg(supervisor.pid, signal.SIGTERM)

            assert supervisor.wait() == 0
            supervisor.wait_until_nothing_is_left()
        task.refresh_from_db()
        assert (task.status, task.tries) == ("finished", 1)

    @BOTH
    def test_nor_does_a_signal_while_the_project_is_imported(self, tmp_path, preload):
        """A group's signal while it starts stops the supervisor, and workers wait to be ended."""
        ready = """
            import os, time
            from pathlib import Path
            if os.path.exists("started") and not os.path.exists("signalled"):
                Path("again").touch()
                while not os.path.exists("signalled"):
                    time.sleep(0.01)
                time.sleep(0.2)
                Path("survived").touch()
            Path("started").touch()
        """
        site = Site(
            tmp_path, ready=dedent(TERM_HANDLER) + dedent(ready), settings=f"PRELOAD = {preload}"
        )
        with site.start(wait=False) as supervisor:
            wait_until((tmp_path / "again").exists)
            for each in supervisor.family():
                if each.pid != supervisor.pid:
                    each.send_signal(signal.SIGTERM)
            (tmp_path / "signalled").touch()
            supervisor.wait_for("started: queue")

            assert (tmp_path / "survived").exists()
            assert "Trying again" not in supervisor.output
            assert told("answer = 1") == 1

    def test_the_projects_handler_is_there_in_what_a_task_forks(self, tmp_path):
        """As in a shell: there it is inherited, too."""
        code = """
            import os, signal
            if not (pid := os.fork()):
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(1)
            answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        """
        ready = "import os, signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(7))"
        with Site(tmp_path, ready=ready).start():
            assert told(code) == 7


class TestBeforeTheFork:
    def test_a_thread_that_is_dead_in_workers_is_said_once_by_name(self, tmp_path):
        """Who waits for it waits for ever."""
        ready = """
            import threading, time
            threading.Thread(target=time.sleep, args=(600,), name="pulse", daemon=True).start()
        """
        with Site(tmp_path, ready=ready).start("--workers_count", "2") as supervisor:
            for _ in range(3):
                os.kill(told("import os; answer = os.getpid()"), signal.SIGKILL)
            told("answer = 1")
            output = supervisor.output

        assert output.count("these threads do not run") == 1
        assert "'pulse'" in output
        assert "worker_started" in output
        assert "PRELOAD = False" in output

    def test_one_that_starts_itself_again_is_not(self, tmp_path):
        """Some libraries see to it, as OpenTelemetry's does."""
        ready = """
            import os, threading, time
            def start():
                threading.Thread(target=time.sleep, args=(6,), name="pulse", daemon=True).start()
            start()
            os.register_at_fork(after_in_child=start)
        """
        with Site(tmp_path, ready=ready).start() as supervisor:
            code = "import threading; answer = [each.name for each in threading.enumerate()]"
            assert "pulse" in told(code)
            assert "do not run" not in supervisor.output

    def test_a_connection_that_workers_share_is_said_once(self, tmp_path):
        """Two that write to one connection garble what it carries."""
        ready = """
            import socket
            global kept
            listening = socket.create_server(("127.0.0.1", 0))
            there = socket.create_connection(listening.getsockname())
            kept = [listening, there, socket.socketpair(), socket.socket(type=socket.SOCK_DGRAM)]
        """
        with Site(tmp_path, ready=ready).start("--workers_count", "2") as supervisor:
            told("answer = 1")
            output = supervisor.output

        (line,) = [line for line in output.splitlines() if "all workers share" in line]
        assert line.count("a connection to 127.0.0.1:") == 1
        assert line.count("a listening socket on 127.0.0.1:") == 1

    def test_connections_to_caches_are_closed(self, tmp_path):
        """As Django does at the end of each request."""
        settings = """
            CACHES = {"default": {"BACKEND": "home.caches.Cache"}}
        """
        site = Site(
            tmp_path,
            ready="from django.core.cache import cache; cache.open()",
            settings=settings,
        )
        site.write(
            "home/caches.py",
            """
            import socket
            from django.core.cache.backends.dummy import DummyCache

            class Cache(DummyCache):
                def open(self):
                    self.listening = socket.create_server(("127.0.0.1", 0))
                    self.connection = socket.create_connection(self.listening.getsockname())

                def close(self):
                    self.connection.close()
                    self.listening.close()
            """,
        )
        with site.start() as supervisor:
            told("answer = 1")
            assert "all workers share" not in supervisor.output

    def test_an_async_query_in_ready_leaves_no_dead_thread(self, tmp_path):
        """Later ones would be sent to it, and be waited for without end."""
        ready = """
            import asyncio
            from tests.testapp.models import Mark
            asyncio.run(Mark.objects.acount())
        """
        code = """
            import asyncio
            from tests.testapp.models import Mark
            answer = asyncio.run(Mark.objects.acount())
        """
        with Site(tmp_path, ready=ready).start() as supervisor:
            assert told(code) == 0
            assert "all workers share" not in supervisor.output
            assert "do not run" not in supervisor.output

    def test_what_was_printed_and_logged_before_is_written_once(self, tmp_path):
        """Each worker has a copy of the buffer, and writes it at its end."""
        ready = """
            import logging, logging.handlers
            print("printed in ready()")
            target = logging.FileHandler("log")
            handler = logging.handlers.MemoryHandler(1000, target=target)
            logging.getLogger("home").addHandler(handler)
            logging.getLogger("home").setLevel("INFO")
            logging.getLogger("home").info("logged in ready()")
        """
        site = Site(tmp_path, ready=ready)
        with site.start("--workers_count", "3", PYTHONUNBUFFERED="") as supervisor:
            wait_until(lambda: len(supervisor.workers()) == 3)
            supervisor.signal(signal.SIGTERM)
            assert supervisor.wait() == 0
            supervisor.wait_until_nothing_is_left()

            assert supervisor.output.count("printed in ready()") == 2  # here and in the forkserver
        assert (tmp_path / "log").read_text().count("logged in ready()") == 2  # the same

    def test_what_libraries_do_after_a_fork_is_done(self, tmp_path):
        """Some ask multiprocessing to be called, and some the system."""
        ready = """
            import multiprocessing.util, os
            global kept, called
            called = []
            kept = type("Kept", (), {})()
            multiprocessing.util.register_after_fork(kept, lambda _: called.append("one"))
            os.register_at_fork(after_in_child=lambda: called.append("other"))
        """
        with Site(tmp_path, ready=ready).start():
            assert sorted(told("import home.apps; answer = home.apps.called")) == ["one", "other"]

    def test_no_two_workers_draw_the_same_numbers(self, tmp_path):
        """Python sees to its own; numpy's are seeded here."""
        ready = "import numpy, random; random.random(); numpy.random.rand()"
        site = Site(tmp_path, ready=ready)
        code = """
            import os, random, time, numpy.random
            time.sleep(0.5)
            answer = [os.getpid(), float(numpy.random.rand()), random.random()]
        """
        with site.start("--workers_count", "2"):
            tasks = [Tell(dedent(code)).delay() for _ in range(2)]
            wait_until(lambda: ended(*tasks))
        for task in tasks:
            task.refresh_from_db()

        for first, second in zip(*(task.result for task in tasks), strict=True):
            assert first != second


class TestPreloadFalse:
    """A queue's setting: each worker is an interpreter of its own, and inherits nothing."""

    def site(self, folder, **options):
        ready = """
            import threading, time
            global made_in
            made_in = __import__("os").getpid()
            threading.Thread(target=time.sleep, args=(600,), name="pulse", daemon=True).start()
        """
        return Site(folder, ready=ready, settings="PRELOAD = False", **options)

    def test_what_ready_makes_is_the_workers_own(self, tmp_path):
        code = """
            import os, threading, home.apps
            names = [each.name for each in threading.enumerate()]
            answer = [home.apps.made_in == os.getpid(), "pulse" in names]
        """
        with self.site(tmp_path).start("--workers_count", "2") as supervisor:
            assert told(code) == [True, True]
            assert "do not run" not in supervisor.output
            assert "cold" not in supervisor.output
            assert len(supervisor.workers()) == 2
            assert len(supervisor.family()) == 3
            assert {each.ppid() for each in supervisor.workers()} == {supervisor.pid}

    def test_running_tasks_outlive_a_signal_to_the_group(self, tmp_path):
        with self.site(tmp_path).start() as supervisor:
            task = Sleep(1, "it").delay()
            wait_until(lambda: marks() == ["start it"])

            os.killpg(supervisor.pid, signal.SIGTERM)

            assert supervisor.wait() == 0
            supervisor.wait_until_nothing_is_left()
        assert ended(task)

    def test_what_its_tasks_start_can_be_terminated(self, tmp_path):
        """Signals are kept off while it starts; who inherits that is deaf."""
        code = """
            import multiprocessing, signal, subprocess, time
            command = subprocess.Popen(["sleep", "60"])
            command.terminate()
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()
            child.join(60)
            answer = [command.wait(60), child.exitcode]
            child.kill()
        """
        with self.site(tmp_path).start():
            assert told(code) == [-signal.SIGTERM] * 2

    def test_workers_end_with_their_supervisor(self, tmp_path):
        with self.site(tmp_path).start() as supervisor:
            Sleep(60, "it").delay()
            wait_until(lambda: marks() == ["start it"])

            supervisor.signal(signal.SIGKILL)
            supervisor.wait()

            supervisor.wait_until_nothing_is_left()

    def test_one_that_is_killed_is_replaced_and_its_task_runs_again(self, tmp_path):
        with self.site(tmp_path).start() as supervisor:
            task = Sleep(1, "it").delay()
            wait_until(lambda: marks() == ["start it"])
            supervisor.workers()[0].kill()
            wait_until(lambda: ended(task))
            assert "was killed by SIGKILL" in supervisor.output

        task.refresh_from_db()
        assert (task.status, task.lost) == ("finished", 1)

    def test_one_that_is_spent_is_replaced(self, tmp_path):
        settings = "\nTASKS_PER_WORKER_INSTANCE = 1"
        site = self.site(tmp_path)
        with (tmp_path / "home_settings.py").open("a") as file:
            file.write(settings)
        with site.start():
            pids = {told("import os; answer = os.getpid()") for _ in range(3)}

        assert len(pids) == 3

    def test_one_whose_project_cannot_be_imported_says_why(self, tmp_path):
        ready = """
            import os
            if os.path.exists("started"):
                raise RuntimeError("not twice")
            open("started", "w").close()
        """
        site = Site(tmp_path, ready=ready, settings="PRELOAD = False")
        with site.start(wait=False) as supervisor:
            assert supervisor.wait() == 1
            assert "A worker process could not start: RuntimeError: not twice" in supervisor.output


class TestCold:
    def test_workers_start_cold_where_the_forkserver_cannot_import(self, tmp_path):
        """As where something can be opened once only: better slow than not at all."""
        ready = """
            import os
            number = len(os.listdir("starts"))
            open(f"starts/{os.getpid()}", "w").close()
            if number == 1:
                raise RuntimeError("not now")
        """
        (tmp_path / "starts").mkdir()
        with Site(tmp_path, ready=ready).start() as supervisor:
            assert told("answer = 1") == 1
            line = "workers start cold, and share no memory: RuntimeError: not now"
            assert supervisor.output.count(line) == 1


class TestReceiversOfWorkerStarted:
    """They are the project's code, in the worker, before it is one."""

    @BOTH
    def test_a_signal_handler_that_one_sets_ends_no_task(self, tmp_path, preload):
        """What is arranged for workers is arranged after them."""
        ready = """
            import signal, sys
            from partisan_async.signals import worker_started

            def handle_signals(**_):
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, lambda *_: sys.exit("by a signal"))
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

            worker_started.connect(handle_signals, weak=False)
        """
        site = Site(tmp_path, ready=ready, settings=f"PRELOAD = {preload}")
        with site.start() as supervisor:
            blocked = told("import signal; answer = list(signal.pthread_sigmask(0, []))")
            task = Sleep(1, "it").delay()
            wait_until(lambda: marks() == ["start it"])
            os.killpg(supervisor.pid, signal.SIGTERM)
            assert supervisor.wait() == 0

        task.refresh_from_db()
        assert (blocked, task.status, task.claim_seq) == ([], "finished", 1)

    BLOCKS = """
        import os, time
        from partisan_async.signals import worker_started
        from partisan_async.supervisor.workers import launch

        launch.HELLO_SECONDS = 15

        def block(**_):
            with open("pids", "a") as file:
                print(os.getpid(), file=file)
            while os.path.exists("blocks"):
                time.sleep(0.05)

        worker_started.connect(block, weak=False)
    """

    @BOTH
    def test_one_that_blocks_gets_no_task_and_is_replaced(self, tmp_path, preload):
        """A worker that keeps a task for ever is worse than one that never was."""
        site = Site(tmp_path, ready=self.BLOCKS, settings=f"PRELOAD = {preload}")
        blocks = tmp_path / "blocks"
        with site.start() as supervisor:
            first = told("import os; answer = os.getpid()")
            blocks.touch()
            os.kill(first, signal.SIGKILL)
            wait_until(lambda: len((tmp_path / "pids").read_text().split()) > 1)
            task = Write("after").delay()
            supervisor.wait_for("A worker process did not report within 15 s of its start. Trying")
            assert not ended(task)
            stuck = int((tmp_path / "pids").read_text().split()[1])
            wait_until(lambda: not psutil.pid_exists(stuck))
            blocks.unlink()
            wait_until(lambda: ended(task))

        task.refresh_from_db()
        assert (task.status, task.lost, marks()) == ("finished", 0, ["after"])

    def test_one_that_blocks_from_the_start_is_an_error_in_words(self, tmp_path):
        (tmp_path / "blocks").touch()
        with Site(tmp_path, ready=self.BLOCKS).start(wait=False) as supervisor:
            assert supervisor.wait() == 1
            assert "A worker process did not report within 15 s of its start" in supervisor.output
            supervisor.wait_until_nothing_is_left()


class TestImportsThatBlock:
    """The project's code may wait for something that does not come: nobody is to wait for it."""

    BLOCKS = """
        import os, sys, time
        from partisan_async.supervisor.workers import forkserver
        forkserver.START_SECONDS = {seconds}
        command = " ".join(sys.orig_argv)
        if os.path.exists("blocks") and any("birth." + kind in command for kind in {which}):
            with open("stuck", "a") as file:
                print(command, file=file)
            while True:
                time.sleep(0.1)
    """

    def test_in_the_forkserver_workers_start_cold(self, tmp_path):
        (tmp_path / "blocks").touch()
        ready = self.BLOCKS.format(seconds=1, which=["forkserver"])
        with Site(tmp_path, ready=ready).start() as supervisor:
            assert told("answer = 1") == 1
            line = "share no memory: it ended, or did not report in time"
            assert supervisor.output.count(line) == 1
            (worker,) = supervisor.workers()
            assert "birth.cold" in " ".join(worker.cmdline())
            assert len(supervisor.family()) == 2

    @pytest.mark.parametrize("which", [["forkserver"], ["forkserver", "cold"]], ids=str)
    def test_ctrl_c_ends_a_supervisor_that_waits_for_it(self, tmp_path, which):
        """And not after the minute that it may take to import a project."""
        (tmp_path / "blocks").touch()
        ready = self.BLOCKS.format(seconds=600, which=which)
        with Site(tmp_path, ready=ready).start(wait=False) as supervisor:
            wait_until((tmp_path / "stuck").exists)
            supervisor.wait_for("listening")
            supervisor.signal(signal.SIGINT)
            assert supervisor.wait() == 0
            supervisor.wait_until_nothing_is_left()

    def test_so_it_does_where_a_later_one_is_stuck(self, tmp_path):
        """The first one died, and a worker is to be replaced."""
        ready = self.BLOCKS.format(seconds=600, which=["forkserver"])
        with Site(tmp_path, ready=ready).start() as supervisor:
            (tmp_path / "blocks").touch()
            supervisor.forkserver().kill()
            os.kill(told("import os; answer = os.getpid()"), signal.SIGKILL)
            wait_until((tmp_path / "stuck").exists)
            supervisor.signal(signal.SIGINT)
            assert supervisor.wait() == 0
            supervisor.wait_until_nothing_is_left()

    def test_what_it_prints_may_be_more_than_a_pipe_holds(self, tmp_path):
        """Somebody reads it; it is the command's own output."""
        ready = "print('x' * 300_000)"
        with Site(tmp_path, ready=ready).start(piped=True) as supervisor:
            assert told("answer = 1") == 1
            assert supervisor.output.count("x" * 300_000) == 2  # here and in the forkserver


class TestWhatCannotBeStarted:
    @BOTH
    @pytest.mark.parametrize("how", ["os._exit(1)", "raise RuntimeError('not now')"])
    def test_a_successor_is_tried_until_it_starts(self, tmp_path, how, preload):
        """Ending would cost the tasks of the other workers, and help nothing."""
        ready = f"""
            import os
            if os.path.exists("broken"):
                with open("broken", "a") as file:
                    print(file=file)
                {how}
        """
        site = Site(tmp_path, ready=ready, settings=f"PRELOAD = {preload}")
        broken = tmp_path / "broken"
        with site.start("--workers_count", "2") as supervisor:
            long = Sleep(600, "long").delay()
            wait_until(lambda: marks() == ["start long"])
            broken.touch()
            if preload:
                supervisor.forkserver().kill()
            idle = told("import os; answer = os.getpid()")
            os.kill(idle, signal.SIGKILL)
            after = Write("after").delay()
            wait_until(lambda: supervisor.output.count("Trying again.") >= 6, seconds=60)
            broken.unlink()
            wait_until(lambda: ended(after))

            long.refresh_from_db()
            assert (long.status, long.claim_seq) == ("in_process", 1)


class TestForkserver:
    def test_its_death_costs_nobody(self):
        """Workers outlive it; the next one has another."""
        with partisan("--async", "--workers_count", "2") as supervisor:
            workers = {each.pid for each in supervisor.workers()}
            tasks = [Sleep(2, number).delay() for number in range(2)]
            wait_until(lambda: len(marks()) == 2)

            supervisor.forkserver().kill()
            wait_until(lambda: ended(*tasks))

            assert {each.pid for each in supervisor.workers()} == workers
            os.kill(min(workers), signal.SIGKILL)
            wait_until(lambda: len({each.pid for each in supervisor.workers()} - workers) == 1)
            Write("after").delay()
            wait_until(ended)
            supervisor.signal(signal.SIGTERM)
            assert supervisor.wait() == 0
            supervisor.wait_until_nothing_is_left()
        for task in Task.objects.all():
            assert (task.status, task.claim_seq, task.lost) == ("finished", 1, 0)

    @pytest.mark.skipif(sys.platform != "linux", reason="who inherits orphans is Linux's")
    def test_a_worker_that_nobody_buries_is_replaced_too(self):
        """In a container the first process may leave orphans as zombies, and they look alive."""
        inherit_orphans = partial(ctypes.CDLL(None).prctl, 36)  # PR_SET_CHILD_SUBREAPER
        inherit_orphans(1)
        try:
            with partisan("--async", "--workers_count", "1") as supervisor:
                supervisor.forkserver().kill()
                (worker,) = supervisor.workers()
                wait_until(lambda: worker.ppid() == os.getpid())
                worker.kill()
                Write("after").delay()
                wait_until(ended)

                assert worker.status() == "zombie"
            os.waitpid(worker.pid, 0)
        finally:
            inherit_orphans(0)

    def test_it_has_nothing_in_the_temporary_folder(self, tmp_path):
        """What is there somebody sweeps, and no worker could be started any more."""
        (tmp_path / "tmp").mkdir()
        with partisan(
            "--async", "--workers_count", "1", TMPDIR=str(tmp_path / "tmp")
        ) as supervisor:
            Write("first").delay()
            wait_until(ended)
            assert os.listdir(tmp_path / "tmp") == []
            shutil.rmtree(tmp_path / "tmp")
            (worker,) = supervisor.workers()
            worker.kill()
            Write("second").delay()
            wait_until(ended)

            assert supervisor.process.poll() is None
        assert marks() == ["first", "second"]

    def test_one_that_is_stuck_when_a_worker_dies_is_replaced(self):
        """It is who tells of a death, and who is asked for the next one."""
        with partisan("--async", "--workers_count", "1") as supervisor:
            stuck = supervisor.forkserver()
            stuck.suspend()
            (worker,) = supervisor.workers()
            worker.kill()
            Write("after").delay()
            wait_until(ended, seconds=60)

            assert supervisor.forkserver().pid != stuck.pid

    def test_one_that_does_not_answer_is_not_ended_while_another_is_asking_it(self, monkeypatch):
        """Its socket's number would be another's, and the request be written there."""
        from partisan_async.testing import live_supervisor

        with live_supervisor(WORKERS_COUNT=1):
            monkeypatch.setattr(forkserver, "ANSWER_SECONDS", 0.1)
            server = forkserver._server
            silent, status = socket.socketpair()

            def wait():
                with suppress(OSError):
                    server.answer(status)

            waiting = threading.Thread(target=wait)
            with silent:
                with forkserver._lock:  # as whoever asks
                    waiting.start()
                    wait_until(lambda: status.fileno() < 0)
                    waiting.join(forkserver.END_SECONDS + 1)
                    assert waiting.is_alive()
                    assert server.lives
                waiting.join()
                assert not server.lives

    def test_one_that_does_not_answer_is_replaced(self, tmp_path):
        """A supervisor that waited for it would have no workers, and no end."""
        site = Site(tmp_path, settings="TASKS_PER_WORKER_INSTANCE = 2")
        with site.start() as supervisor:
            told("answer = 1")
            supervisor.forkserver().suspend()
            told("answer = 2")  # its last one: a successor is asked for
            assert told("answer = 3") == 3

            assert "the forkserver ended, or did not answer. Trying again." in supervisor.output

    def test_a_fork_of_the_supervisors_process_has_a_forkserver_of_its_own(self):
        """As a test that runs beside others: two that ask one server would mix up the answers."""
        from partisan_async.testing import live_supervisor

        with live_supervisor(WORKERS_COUNT=1):
            server = forkserver._server
            read, write = os.pipe()
            if not (pid := os.fork()):
                os.write(write, json.dumps(forkserver._server is None).encode())
                os._exit(0)
            os.waitpid(pid, 0)
            assert json.loads(os.read(read, 100)) is True
            os.close(read), os.close(write)

            assert server is forkserver._server
            assert server.lives
            os.kill(told("import os; answer = os.getpid()"), signal.SIGKILL)
            assert told("answer = 1") == 1
