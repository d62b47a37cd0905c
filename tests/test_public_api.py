"""The ancestor's README, block by block, with only the import root renamed."""

import importlib
import inspect
import pkgutil
import sys
import types
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command

import partisan_async
from partisan_async import registry, steering
from partisan_async.models import ENDED, Task
from partisan_async.settings import queue_settings
from partisan_async.testing import run_pending
from tests.test_docs import code, tables

pytestmark = pytest.mark.django_db

GENERAL_USAGE = """
# partisan_tasks.py
from partisan_async.processor import BaseTaskProcessor
from partisan_async import registry


@registry.register
class MyProcessor(BaseTaskProcessor):
    PRIORITY = 5  # Optional, by default 10
    UNIQUE_FOR_PARAMS = True  # Optional, by default True

    def run(self):
        do_something(*self.args, **self.kwargs)
"""

PUT_TO_QUEUE = """
from partisan_tasks import MyProcessor


def do_something_and_postpone_task(*args, **kwargs):
    MyProcessor(args, kwargs).delay()
"""

POSTPONE = """
from partisan_async.exceptions import PostponeTask

def do_something():
    raise PostponeTask(300)  # 5 minutes
"""

POSTPONE_CONFIG = """
from partisan_async.config.processor_configs import PostponeConfig
from partisan_async.processor import BaseTaskProcessor
from partisan_async import registry
from partisan_async.exceptions import PostponeTask

@registry.register
class MyProcessor(BaseTaskProcessor):
    POSTPONE_CONFIG = PostponeConfig(
        max_postpones=5
    )
    def run(self):
        do_something(*self.args, **self.kwargs)

def do_something(*args, **kwargs):
    raise PostponeTask(300)  # 5 minutes
"""

ERRORS_CONFIG = """
from partisan_async.config.processor_configs import ErrorsHandleConfig
from partisan_async.config import const
from partisan_async.processor import BaseTaskProcessor
from partisan_async import registry

@registry.register
class MyProcessor(BaseTaskProcessor):
    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TimeoutError,], 
        retries_count=3, retry_pause=3,
        retry_pause_strategy=const.DELAY_STRATEGY_INCREMENTAL
    )
    def run(self):
        do_something(*self.args, **self.kwargs)

def do_something(*args, **kwargs):
    pass
"""  # noqa: W291

QUEUES = """
PARTISAN_CONFIG = {
    'default': {  # 'default' - is registered name for default queue, it will be exist anyway
        # ...
    },
    'another_queue': {
        # ...
    }
}
"""

QUEUE_NAME = """
from partisan_async.processor import BaseTaskProcessor
from partisan_async import registry


@registry.register
class MyProcessor(BaseTaskProcessor):
    QUEUE_NAME = 'another_queue'
    def run(self):
        do_something(*self.args, **self.kwargs)

def do_something(*args, **kwargs):
    pass
"""

SETTINGS = """
PARTISAN_CONFIG = {
    'default': {  # 'default' - is registered name for default queue, it will be exist anyway
        'MIN_QUEUE_SIZE':10,
        'MAX_QUEUE_SIZE':20,
        'CHECKS_BEFORE_CLEANUP':50,
        'WORKERS_COUNT':5,
        'SLEEP_DELAY_SECONDS':5,
        'TASKS_PER_WORKER_INSTANCE': 50,
        'DELETE_TASKS_ON_COMPLETE':False,
        'DEFAULT_POSTPONE_DELAY_SECONDS':5,
        'DEFAULT_POSTPONES_COUNT':None,
    }
}
"""


STEERING = (
    "cancel", "clear_limit", "delete", "drain", "erase", "pause", "prune", "resume", "retry",
    "run_now", "set_limit", "switch_off", "switch_on",
)  # fmt: skip


@pytest.fixture
def readme(monkeypatch):
    """Return a function that runs a block as the module ``partisan_tasks``, for this test alone."""
    monkeypatch.setattr(registry, "_processors", {})

    def run(block, **names):
        module = types.ModuleType("partisan_tasks")
        module.__dict__.update(names)
        monkeypatch.setitem(sys.modules, "partisan_tasks", module)
        exec(compile(block, "README", "exec"), module.__dict__)
        return module

    return run


def test_general_usage(readme):
    calls = []
    readme(GENERAL_USAGE, do_something=lambda *args, **kwargs: calls.append((args, kwargs)))
    view = {}
    exec(compile(PUT_TO_QUEUE, "README", "exec"), view)

    view["do_something_and_postpone_task"](1, "two", three=3)
    view["do_something_and_postpone_task"](1, "two", three=3)

    task = Task.objects.get()
    assert (task.processor_class, task.priority) == ("MyProcessor", 5)
    assert (task.args, task.kwargs) == ([[1, "two"], {"three": 3}], {})
    run_pending()
    assert calls == [(([1, "two"], {"three": 3}), {})]


def test_postponing(readme):
    do_something = readme(POSTPONE).do_something
    readme(GENERAL_USAGE, do_something=do_something).MyProcessor().delay()

    run_pending()

    task = Task.objects.get()
    assert task.status == "scheduled"
    assert 299 < (task.execute_after - task.last_attempted_at).total_seconds() < 301


def test_postpone_config(readme, monkeypatch):
    module = readme(POSTPONE_CONFIG)
    module.MyProcessor().delay()

    for _ in range(6):
        run_pending(errors="keep")
        Task.objects.filter(status="scheduled").update(execute_after="2020-01-01T00:00Z")

    task = Task.objects.get()
    assert (task.status, task.postpones) == ("error", 5)
    assert task.errors[0]["exception_class"] == "partisan_async.exceptions.MaxPostponesReached"


def test_errors_handling(readme):
    module = readme(ERRORS_CONFIG)

    def time_out():
        raise TimeoutError

    module.do_something = time_out
    module.MyProcessor().delay()

    pauses = []
    for _ in range(4):
        run_pending(errors="keep")
        task = Task.objects.get()
        if task.status == "scheduled":
            pauses.append(round((task.execute_after - task.last_attempted_at).total_seconds()))
        Task.objects.filter(status="scheduled").update(execute_after="2020-01-01T00:00Z")

    assert pauses == [3, 6, 9]
    assert (task.status, task.tries) == ("error", 4)


def test_queues(readme, settings):
    settings.PARTISAN_CONFIG = readme(QUEUES).PARTISAN_CONFIG
    readme(QUEUE_NAME).MyProcessor().delay()

    assert Task.objects.get().queue_name == "another_queue"
    assert run_pending(queue_name="default") == []
    assert len(run_pending(queue_name="another_queue")) == 1
    call_command("check")


def test_settings(readme, settings):
    settings.PARTISAN_CONFIG = readme(SETTINGS).PARTISAN_CONFIG

    resolved = queue_settings("default")

    assert resolved.WORKERS_COUNT == 5
    assert resolved.DEFAULT_POSTPONES_COUNT is None
    call_command("check")


def test_the_flat_settings(settings):
    for name, value in {
        "MIN_QUEUE_SIZE": 3,
        "MAX_QUEUE_SIZE": 4,
        "CHECKS_BEFORE_CLEANUP": 5,
        "WORKERS_COUNT": 6,
        "SLEEP_DELAY_SECONDS": 7,
        "TASKS_PER_WORKER_INSTANCE": 8,
        "DELETE_TASKS_ON_COMPLETE": True,
    }.items():
        setattr(settings, name, value)
        assert getattr(queue_settings("any"), name) == value


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--queue_name another_queue",
        "--queue-name another_queue --workers-count 3 --min-queue-size 1 --max-queue-size 2",
        "--queue_name another_queue --checks-before-cleanup 9 --sleep-delay-seconds 1",
    ],
)
def test_the_command_lines(line, monkeypatch):
    from partisan_async.management.commands import start_partisan

    given = {}

    def stop_here(**_):
        raise CommandError("far enough")

    monkeypatch.setattr(start_partisan, "require_database", stop_here)
    monkeypatch.setattr(
        start_partisan, "settings_of", lambda name, options: given.update(queue=name) or None
    )
    with pytest.raises(CommandError, match="far enough"):
        call_command("start_partisan", *line.split())

    assert given["queue"] == (line.split()[1] if line else "default")


def test_what_steers_is_public_and_documented():
    """Views and scripts of a site's own are written by the reference."""
    twins = {f"a{name}" for name in STEERING}

    assert set(steering.__all__) == {*STEERING, *twins, "Erased", "Pruned", "locked"}
    listed = [code(row[0]) for row in tables("docs/reference/steering.md")["function"]]
    assert set(listed) == {*STEERING, "locked"}
    assert all(getattr(steering, name).__doc__ for name in steering.__all__)


@pytest.mark.parametrize("name", STEERING)
def test_each_has_a_twin_for_async_code(name):
    """As delay() has: whoever knows the one knows the other."""
    function, twin = getattr(steering, name), getattr(steering, f"a{name}")

    assert inspect.iscoroutinefunction(twin)
    assert twin.__name__ == f"a{name}"
    assert inspect.signature(twin) == inspect.signature(function)


@pytest.mark.parametrize("name", ["cancel", "delete", "retry", "run_now"])
def test_steering_takes_ids_or_what_tasks_match(name):
    """In an empty call all would be meant, and seldom is."""
    function = getattr(steering, name)
    statuses = {"cancel": "new", "delete": "finished", "retry": "error", "run_now": "scheduled"}
    rows = [
        Task.objects.create(
            queue_name=queue,
            processor_class=processor,
            status=statuses[name],
            priority=1,
            arguments={},
            execute_after="2030-01-01T00:00Z",
            created_at="2020-01-01T00:00Z",
            finished_at="2020-01-01T00:00Z" if statuses[name] in ENDED else None,
        )
        for queue, processor in (("a", "X"), ("a", "Y"), ("b", "X"), ("b", "Y"), ("c", "X"))
    ]
    pks = [row.pk for row in rows]

    assert function(queue_name="a", processor="Y") == [pks[1]]
    assert function(pks[:3], processor="X") == [pks[0], pks[2]]
    assert function(older_than=timedelta(days=36500)) == []
    assert function(iter([pks[4]])) == [pks[4]]
    assert function(older_than=timedelta(0)) == [pks[3]]
    with pytest.raises(TypeError, match="say which tasks"):
        function()


def test_a_status_that_an_action_is_not_for_is_refused():
    """It would be done to nothing, and look done."""
    for function in (steering.cancel, steering.delete):
        with pytest.raises(ValueError, match="no task in status 'scheduledd'"):
            function(statuses=["scheduledd"])
    with pytest.raises(ValueError, match="prune: no task in status 'new'"):
        steering.prune(timedelta(0), statuses=["new"])


def test_what_names_nothing_matches_nothing():
    """A filter that came out empty must not be as if there were none: then all would go."""
    waiting, gone = (
        Task.objects.create(
            queue_name="a",
            processor_class="X",
            status=status,
            priority=1,
            arguments={},
            execute_after="2020-01-01T00:00Z",
            finished_at="2020-01-01T00:00Z" if status in ENDED else None,
        )
        for status in ("new", "error")
    )
    for steer in (steering.cancel, steering.delete):
        for nothing in ([], ()):
            assert steer(statuses=nothing) == []
            assert steer(queue_name="a", statuses=nothing) == []
            assert steer([waiting.pk, gone.pk], statuses=nothing) == []
    for steer in (steering.cancel, steering.delete, steering.retry, steering.run_now):
        assert steer([]) == []
        assert steer([], queue_name="a") == []
        assert steer(queue_name="") == []
    assert steering.prune(timedelta(0), statuses=()).deleted == 0
    assert steering.prune(timedelta(0), queue_name="").deleted == 0
    for subject in (42, "a\x00", "x" * 256):
        for steer in (steering.cancel, steering.delete, steering.retry, steering.run_now):
            with pytest.raises((TypeError, ValueError), match="subject"):
                steer(subject=subject)
        with pytest.raises((TypeError, ValueError), match="subject"):
            steering.prune(timedelta(0), subject=subject)

    assert set(Task.objects.values_list("status", flat=True)) == {"new", "error"}


def test_prune_says_what_it_did():
    task = Task.objects.create(
        queue_name="a",
        processor_class="X",
        status="finished",
        priority=1,
        arguments={},
        execute_after="2020-01-01T00:00Z",
        finished_at="2020-01-01T00:00Z",
    )

    assert steering.prune(timedelta(days=1), queue_name="b") == steering.Pruned(0, {})
    assert steering.prune(timedelta(days=1)) == steering.Pruned(1, {})
    assert not Task.objects.filter(pk=task.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_a_twin_steers():
    """In a thread of asgiref's, with a connection of its own."""
    task = Task.objects.create(
        queue_name="a",
        processor_class="X",
        priority=1,
        arguments={},
        execute_after="2030-01-01T00:00Z",
    )

    assert async_to_sync(steering.acancel)([task.pk]) == [task.pk]
    assert async_to_sync(steering.apause)("a")
    assert async_to_sync(steering.aresume)("a")


def test_what_a_module_names_as_its_own_is_there():
    """``import *`` raises where a name of ``__all__`` is not."""
    modules = [
        importlib.import_module(each.name)
        for each in pkgutil.walk_packages(partisan_async.__path__, "partisan_async.")
        if ".migrations." not in each.name and not each.name.endswith(".__main__")
    ]
    named = [module for module in modules if hasattr(module, "__all__")]

    gone = {f"{m.__name__}.{name}" for m in named for name in m.__all__ if not hasattr(m, name)}

    assert "partisan_async.store" in {module.__name__ for module in named}
    assert not gone
