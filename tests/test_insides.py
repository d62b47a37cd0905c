"""Insides of Python and asgiref that workers use: they do their work without one of them, too."""

import atexit
import logging
import signal
import weakref

import pytest

from partisan_async.worker import insides
from tests.conftest import ended, marks, wait_until
from tests.home import Site, told
from tests.testapp.partisan_tasks import AsyncSleep, EndlessAsync, TellAsync

pytestmark = pytest.mark.django_db(transaction=True)

READY = """
import atexit, logging, logging.handlers, multiprocessing.util, types, weakref

from partisan_async.worker import insides

# Closed and written at the end alone.
handler = logging.handlers.MemoryHandler(
    1000, flushLevel=logging.CRITICAL, target=logging.FileHandler("log")
)
logging.getLogger("shop").addHandler(handler)


class Without:
    def __init__(self, whole, name):
        self.__dict__.update(whole=whole, name=name)

    def __getattr__(self, name):
        if name == self.name:
            raise AttributeError(name)
        return getattr(self.whole, name)


def of_asgiref(name):
    insides.SyncToAsync = Without(insides.SyncToAsync, name)


def of_finalize(name):
    insides.weakref = types.SimpleNamespace(finalize=Without(weakref.finalize, name))


"""

GONE = [
    pytest.param('of_asgiref("thread_sensitive_context")', "end no query", id="context"),
    pytest.param('of_asgiref("context_to_thread_executor")', "has a thread", id="threads"),
    pytest.param('of_asgiref("single_thread_executor")', "as it was when", id="single thread"),
    pytest.param(
        'insides.logging = Without(logging, "_handlerList")', "root logger's", id="handlers"
    ),
    pytest.param(
        "del multiprocessing.util._run_after_forkers", "for after a fork", id="multiprocessing"
    ),
    pytest.param('of_finalize("_registry")', "functions of atexit are not called", id="finalizers"),
    pytest.param("del atexit._run_exitfuncs", "functions of atexit are not called", id="atexit"),
    pytest.param('of_finalize("_exitfunc")', "made at its import stays", id="forkserver's end"),
]


@pytest.mark.parametrize(("take_away", "words"), GONE)
def test_without_one_of_them_tasks_run_and_workers_end_in_order(tmp_path, take_away, words):
    """An upgrade of Python or asgiref may take it away, and nobody promised it."""
    site = Site(tmp_path, ready=READY + take_away)
    with site.start() as supervisor:
        told("import logging; logging.getLogger('shop').warning('kept'); answer = 1")
        assert told("answer = 2", TellAsync) == 2
        queries = AsyncSleep(0, "it").delay()
        wait_until(lambda: ended(queries))
        overrun = EndlessAsync("sleep").delay()
        wait_until(lambda: ended(overrun))
        supervisor.signal(signal.SIGTERM)
        assert supervisor.wait() == 0
        supervisor.wait_until_nothing_is_left()
        output = supervisor.output

    overrun.refresh_from_db()
    assert "start it" in marks()
    assert "end it" in marks()
    assert overrun.errors[0]["exception_class"].endswith("TaskTimeout")
    assert words in output  # each process says it once
    assert "this worker process raised" not in output
    assert "kept" in (tmp_path / "log").read_text()


def test_with_all_of_them_nothing_is_said(tmp_path):
    """Else the lines above would tell nothing."""
    with Site(tmp_path, ready=READY).start() as supervisor:
        assert told("answer = 2", TellAsync) == 2
        supervisor.signal(signal.SIGTERM)
        assert supervisor.wait() == 0
        supervisor.wait_until_nothing_is_left()

        assert "that workers know" not in supervisor.output


def test_one_that_is_gone_is_said_once_and_for_programs(monkeypatch, caplog):
    """Each task would say it."""
    monkeypatch.setattr(insides, "SyncToAsync", object)
    monkeypatch.setattr(insides, "_missed", set())

    assert [insides.context_of_run() for _ in range(2)] == [None, None]
    assert [insides.has_thread(object()) for _ in range(2)] == [True, True]

    assert [record.event for record in caplog.records] == ["inside gone"] * 2


def test_exit_functions_are_not_called_where_they_may_clear_away_what_is_others(monkeypatch):
    """Finalizers that were made before the fork are among them."""
    called = []
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: called.append("exit"))
    monkeypatch.setattr(logging, "shutdown", lambda: called.append("shutdown"))

    insides.run_exit_functions()
    monkeypatch.delattr(weakref.finalize, "_registry")
    insides.run_exit_functions()

    assert called == ["exit", "shutdown"]
