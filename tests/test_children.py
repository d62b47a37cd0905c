"""Children that tasks make: they are as they would be in a shell, and no workers."""

import signal
import subprocess
import sys
import textwrap

import pytest

from partisan_async.testing import live_supervisor
from tests.home import told
from tests.testapp.partisan_tasks import Tell, TellAsync

pytestmark = pytest.mark.django_db(transaction=True)

FORK = """
    import os, signal, json
    read, write = os.pipe()
    if not (pid := os.fork()):
        try:
            {child}
            os.write(write, json.dumps(found).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as told:
        answer = json.loads(told.read())
    os.waitpid(pid, 0)
"""


@pytest.fixture(scope="module")
def worker(django_db_setup, django_db_blocker):
    """One worker, that all tests here ask."""
    with django_db_blocker.unblock(), live_supervisor(WORKERS_COUNT=1) as supervisor:
        yield supervisor


def in_a_shell(code):
    """What the same code answers in an interpreter without us."""
    code = textwrap.dedent(code) + "\nprint(repr(answer))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return eval(done.stdout)


TERMINATED = """
    import multiprocessing, time
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
    child.start()
    child.terminate()
    child.join(60)
    answer = child.exitcode
    child.kill()
"""


@pytest.mark.parametrize("processor", [Tell, TellAsync])
def test_sigterm_ends_a_process_of_a_task(worker, processor):
    """It inherits the worker's deafness otherwise, and ``terminate()`` does nothing."""
    assert told(TERMINATED, processor) == -signal.SIGTERM


def test_a_pool_that_is_given_up_leaves_its_block(worker):
    """It terminates its processes there, and waits for them."""
    answer = told("""
        import multiprocessing, time
        try:
            with multiprocessing.get_context("fork").Pool(1) as pool:
                pool.apply_async(time.sleep, (60,)).get(timeout=0.2)
        except multiprocessing.TimeoutError:
            answer = "left"
    """)

    assert answer == "left"


DISPOSITIONS = """
    found = [
        [signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
         for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGALRM,
                        signal.SIGCHLD)],
        sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        signal.set_wakeup_fd(-1),
        signal.getitimer(signal.ITIMER_REAL),
    ]
"""


@pytest.mark.parametrize("processor", [Tell, TellAsync])
def test_a_fork_takes_signals_as_any_process_does(worker, processor):
    """Handlers, mask, wakeup and alarm are a worker's own affair."""
    child = textwrap.indent(textwrap.dedent(DISPOSITIONS), " " * 12).strip()
    forks = FORK.format(child=child)
    found = told(forks, processor)

    assert found == in_a_shell(forks)  # which ignores SIGHUP where the tests do, under nohup


def test_a_fork_under_a_time_limit_has_no_alarm_of_the_worker(worker):
    """An alarm of its own ends it, as elsewhere, and raises nothing of ours in it."""
    with live_supervisor(WORKERS_COUNT=1, DEFAULT_TIMEOUT_SECONDS=30):
        child = "found = signal.getsignal(signal.SIGALRM) == signal.SIG_DFL"
        answers = [told(FORK.format(child=child)) for _ in range(1)]

    assert answers == [True]


def test_a_handler_that_a_task_sets_is_its_childs_too(worker):
    """Only what the worker arranged for itself is undone."""
    child = "found = signal.getsignal(signal.SIGTERM) == signal.SIG_IGN"
    code = textwrap.dedent(FORK.format(child=child))
    answer = told(f"""
import signal
before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
{code}
signal.signal(signal.SIGTERM, before)
""")

    assert answer is True


def test_a_fork_has_none_of_the_workers_sockets(worker):
    """With the link in it the worker's death would not be seen, and it could write there."""
    child = "found = [link for link in own if link in open_files()]"
    code = textwrap.dedent(FORK.format(child=child))
    answer = told(f"""
import contextlib, os
from tests.testapp.partisan_tasks import worker_here

def open_files():
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/self/fd/{{number}}")

pair = (worker_here().feed, worker_here().link.socket)
own = [os.readlink(f"/proc/self/fd/{{each.fileno()}}") for each in pair]
assert set(own) <= set(open_files())
{code}
""")

    assert answer == []


def test_a_fork_that_closes_what_it_has_hurts_nobody(worker):
    """The numbers that the link and the feed had may be another file's there."""
    code = """
        import os
        if not (pid := os.fork()):
            os.closerange(3, 1000)
            for _ in range(100):
                os.open("/dev/null", os.O_RDWR)
            answer = None
        else:
            os.waitpid(pid, 0)
            answer = "parent"
    """

    assert told(code) == "parent"


def test_django_makes_connections_in_a_fork_as_ever(worker):
    """What the worker patched is as it was."""
    child = "from django.db import connections; found = 'create_connection' in vars(connections)"

    assert told(FORK.format(child=child)) is False


def test_a_command_takes_signals_as_any_process_does(worker):
    answer = told("""
        import subprocess
        command = subprocess.Popen(["sleep", "60"])
        command.terminate()
        answer = command.wait(60)
    """)

    assert answer == -signal.SIGTERM


@pytest.mark.parametrize(
    "expression",
    [
        "multiprocessing.get_start_method()",
        "multiprocessing.current_process().daemon",
        "multiprocessing.current_process().name",
        "multiprocessing.parent_process()",
        "multiprocessing.active_children()",
    ],
)
def test_multiprocessing_finds_a_worker_as_it_finds_any_process(worker, expression):
    """Another default start method hangs pools; a daemon may have no children at all."""
    code = f"import multiprocessing; answer = {expression}"

    assert told(code) == in_a_shell(code)


def test_two_workers_have_not_the_same_key_for_multiprocessing(worker):
    """Whoever runs one task could answer for another."""
    code = """
        import multiprocessing, os
        answer = [os.getpid(), multiprocessing.current_process().authkey.hex()]
    """
    keys = dict([told(code)])
    with live_supervisor(WORKERS_COUNT=1):
        for _ in range(20):
            keys.update([told(code)])

    assert len(set(keys.values())) == len(keys) == 2


@pytest.mark.parametrize(
    "pool",
    [
        "multiprocessing.Pool(2)",
        "multiprocessing.get_context('fork').Pool(2)",
        "concurrent.futures.ProcessPoolExecutor(2)",
    ],
)
def test_a_pool_runs_functions_of_the_tasks_module(worker, pool):
    """Where the children import it without Django they die, and are replaced for ever."""
    answer = told(f"""
        import concurrent.futures, multiprocessing
        from tests.testapp.partisan_tasks import double
        with {pool} as pool:
            answer = list(pool.map(double, [1, 2, 3]))
    """)

    assert answer == [2, 4, 6]


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_pool_of_another_method_has_nothing_of_ours(worker, method):
    """A task's forkserver is its own: from ours it would have a worker's handlers."""
    answer = told(f"""
        import multiprocessing, signal
        with multiprocessing.get_context({method!r}).Pool(1) as pool:
            answer = pool.map(signal.getsignal, [signal.SIGTERM, signal.SIGHUP])
            answer += pool.map(eval, ["'partisan_async' in __import__('sys').modules"])
    """)

    assert answer == [signal.SIG_DFL, signal.SIG_DFL, False]
