"""A project of somebody's own on the installed package: the README's way, from startproject on.

``nox -s wheel`` runs it with the built wheel, in a folder of its own, under
``python -m partisan_async.embedded``. It exits 0 if every task ended as its policies ask for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TASKS = """
import asyncio
import time

from partisan_async import registry
from partisan_async.config import const
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig
from partisan_async.exceptions import PostponeTask
from partisan_async.processor import BaseTaskProcessor


@registry.register
class Finish(BaseTaskProcessor):
    def run(self):
        pass


@registry.register
class FinishAsync(BaseTaskProcessor):
    QUEUE_NAME = "side"

    async def run(self):
        await asyncio.sleep(0.01)


@registry.register
class PostponeTwice(BaseTaskProcessor):
    def run(self):
        if self.task_obj.postpones < 2:
            raise PostponeTask(0.2)


@registry.register
class PostponeTooOften(BaseTaskProcessor):
    QUEUE_NAME = "side"
    POSTPONE_CONFIG = PostponeConfig(max_postpones=3)

    async def run(self):
        raise PostponeTask(0.1)


@registry.register
class RetryTwice(BaseTaskProcessor):
    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TimeoutError], retries_count=3, retry_pause=0.1,
        retry_pause_strategy=const.DELAY_STRATEGY_INCREMENTAL,
    )

    def run(self):
        if self.task_obj.tries < 2:
            raise TimeoutError("not yet")


@registry.register
class RetryInVain(RetryTwice):
    def run(self):
        raise TimeoutError("never")


@registry.register
class Fail(BaseTaskProcessor):
    QUEUE_NAME = "side"

    def run(self):
        raise ValueError("on purpose")


@registry.register
class Once(BaseTaskProcessor):
    UNIQUE_FOR_PARAMS = True

    def run(self):
        pass
"""

SETTINGS = """

import os
from partisan_async.embedded import django_database

DATABASES = {"default": django_database(os.environ["DATABASE_URL"])}
INSTALLED_APPS += ["partisan_async", "shop"]
PARTISAN_CONFIG = {"default": {"WORKERS_COUNT": 2}, "side": {"WORKERS_COUNT": 1}}
"""

EXPECTED = {
    ("Finish", "default", "finished", 1, 0): 300,
    ("FinishAsync", "side", "finished", 1, 0): 200,
    ("PostponeTwice", "default", "finished", 1, 2): 100,
    ("PostponeTooOften", "side", "error", 1, 3): 50,
    ("RetryTwice", "default", "finished", 3, 0): 100,
    ("RetryInVain", "default", "error", 4, 0): 50,
    ("Fail", "side", "error", 1, 0): 100,
    ("Once", "default", "finished", 1, 0): 100,
}
"""Processor, queue, state, tries and postpones of each of the 1,000 rows."""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        manage("startproject", "mysite", ".", command=[sys.executable, "-m", "django"])
        manage("startapp", "shop")
        with Path("mysite/settings.py").open("a") as settings:
            settings.write(SETTINGS)
        Path("shop/partisan_tasks.py").write_text(TASKS)
        manage("check")
        manage("migrate", "--verbosity", "0")
        start = [sys.executable, "-P", "manage.py", "start_partisan", "--async", "--queue_name"]
        with Path("log").open("w") as log:
            supervisors = [
                subprocess.Popen([*start, queue], stderr=log, env=os.environ | {"PYTHONPATH": "."})
                for queue in ("default", "side")
            ]
        code = 1
        try:
            code = enqueue_and_compare()
            return code
        finally:
            for supervisor in supervisors:
                supervisor.send_signal(signal.SIGINT)
            for supervisor in supervisors:
                try:
                    supervisor.wait(60)
                finally:
                    supervisor.kill()
            if code:
                print(Path("log").read_text())


def manage(*arguments: str, command: list[str] | None = None) -> None:
    subprocess.run([*(command or [sys.executable, "manage.py"]), *arguments], check=True)


def enqueue_and_compare() -> int:
    sys.path.insert(0, ".")
    os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
    import django

    django.setup()

    import shop.partisan_tasks as tasks
    from django.db import transaction
    from django.db.models import Count

    import partisan_async
    from partisan_async.models import Task

    began = time.monotonic()
    print("the package:", partisan_async.__file__)
    for (name, *_), number in EXPECTED.items():
        for n in range(number):
            with transaction.atomic():
                getattr(tasks, name)(n).delay()
                if name == "Once":
                    getattr(tasks, name)(n).delay()  # ignored: the first one still waits
    deadline = time.monotonic() + 90
    while Task.objects.exclude(status__in=("finished", "error")).exists():
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    names = ("processor_class", "queue_name", "status", "tries", "postpones")
    counts = Task.objects.values_list(*names).annotate(number=Count("id")).order_by(*names)
    found = {tuple(row[:5]): row[5] for row in counts}
    for row, number in sorted(found.items()):
        print(f"{number:5}", *row)
    passed = found == EXPECTED
    print(f"{'as expected' if passed else 'NOT as expected'}, in {time.monotonic() - began:.1f} s")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
