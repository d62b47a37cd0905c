"""The processors of the tests: small, and each shows one thing."""

import asyncio
import contextlib
import ctypes
import dataclasses
import datetime
import decimal
import itertools
import math
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from asgiref.sync import sync_to_async
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from psycopg.errors import QueryCanceled

from partisan_async import context, registry, signals, steering
from partisan_async.config import const
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig
from partisan_async.enqueue.parameters import Stored, parameters_of
from partisan_async.exceptions import CancelTask, PostponeTask, TaskTimeout
from partisan_async.models import Task
from partisan_async.postgres.in_flight import Flight
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Every
from partisan_async.task_processor import TaskProcessor
from partisan_async.worker import arrangements
from tests.testapp.models import Mark


def worker_here():
    """The worker that this process is."""
    return arrangements._undoings[0].__self__


class Marking(BaseTaskProcessor):
    UNIQUE_FOR_PARAMS = False

    def mark(self, text):
        return Mark.objects.create(text=text, pid=os.getpid())


@registry.register
class Write(Marking):
    """Leaves a mark."""

    def run(self):
        self.mark(self.args[0] if self.args else self.kwargs.get("text", "written"))


@registry.register
class WriteUnique(Write):
    UNIQUE_FOR_PARAMS = True


@registry.register
class WriteElsewhere(Write):
    QUEUE_NAME = "elsewhere"


@registry.register
class Tick(Marking):
    """Ticks in a queue of its own, several times a second."""

    QUEUE_NAME = "ticks"
    UNIQUE_FOR_PARAMS = True
    SCHEDULE = Every(seconds=0.2)

    def run(self):
        self.mark(f"tick of {self.task_obj.tick}")


@registry.register
class SendMail(Write):
    """Its rows have another name than the class, and had others before."""

    NAME = "testapp.SendMail"
    ALSO_KNOWN_AS = ("Mail", "PostLetter")
    UNIQUE_FOR_PARAMS = True


@registry.register
class Chime(Tick):
    """Ticks, and had another name before."""

    NAME = "testapp.Chime"
    ALSO_KNOWN_AS = ("Ring",)
    QUEUE_NAME = "rings"


@registry.register
class WriteFirst(Write):
    PRIORITY = 1


@registry.register
class Nothing(Marking):
    def run(self):
        pass


def double(number):
    return 2 * number


@registry.register
class Tell(Marking):
    """Runs a piece of code in its worker, and keeps what that calls ``answer``."""

    STORE_RESULT = True

    def run(self):
        names = {}
        exec(self.args[0], names)
        return names["answer"]


@registry.register
class TellAsync(Tell):
    async def run(self):
        return super().run()


@registry.register
class Sleep(Marking):
    """Sleeps so many seconds, between two marks."""

    def run(self):
        self.mark(f"start {self.args[1]}")
        time.sleep(self.args[0])
        self.mark(f"end {self.args[1]}")


@registry.register
class AsyncSleep(Marking):
    """Sleeps so many seconds on the event loop, between two marks by the async ORM."""

    async def run(self):
        await Mark.objects.acreate(text=f"start {self.args[1]}", pid=os.getpid())
        await asyncio.sleep(self.args[0])
        await Mark.objects.acreate(text=f"end {self.args[1]}", pid=os.getpid())


@registry.register
class WaitElsewhere(Marking):
    """Waits until a file is there, between two marks, and may hold no connection meanwhile."""

    QUEUE_NAME = "waiting"

    async def run(self):
        path, releases = self.args[:2]
        await Mark.objects.acreate(text="waits", pid=os.getpid())
        if releases:
            await self.release_connections()
        while not os.path.exists(path):
            await asyncio.sleep(0.05)
        await Mark.objects.acreate(text="goes on", pid=os.getpid())


@registry.register
class Wait(Marking):
    """Waits until a file is there, between two marks."""

    def run(self):
        self.mark("waits")
        while not os.path.exists(self.args[0]):
            time.sleep(0.05)
        self.mark("goes on")


@registry.register
class AsyncWait(Wait):
    async def run(self):
        await Mark.objects.acreate(text="waits", pid=os.getpid())
        while not os.path.exists(self.args[0]):
            await asyncio.sleep(0.05)
        await Mark.objects.acreate(text="goes on", pid=os.getpid())


@registry.register
class DoNext(Marking):
    """Does the oldest mark of a customer, the third at the second try, and enqueues the next."""

    ATOMIC = True
    UNIQUE_FOR_PARAMS = True
    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TimeoutError], retries_count=3, retry_pause=0.1
    )

    def run(self):
        (customer,) = self.args
        to_do = Mark.objects.select_for_update().filter(text__startswith=f"to do {customer}")
        if not (oldest := to_do.order_by("pk").first()):
            return
        number = oldest.text[-1]
        if number == "2" and not self.task_obj.tries:
            raise TimeoutError("late")
        oldest.delete()
        self.mark(f"done {customer} {number}")
        DoNext(customer).delay()


@registry.register
class BlockTheLoop(Marking):
    """Does on the event loop what it should not, for so many seconds; a file shows since when."""

    async def run(self):
        seconds, path = self.args
        with open(path, "x"):
            time.sleep(seconds)


@registry.register
class Fail(Marking):
    """Raises the named builtin exception."""

    def run(self):
        import builtins

        raise getattr(builtins, self.args[0])(*self.args[1:])


@registry.register
class Told(TaskProcessor):
    """Leaves a mark about the end of another task; the tests make it an ``ON_ERROR``."""

    def run(self, task_id: int) -> None:
        Mark.objects.create(text=f"told of {task_id}")


@registry.register
class ToldWhy(TaskProcessor):
    """The same, elsewhere, by the row of the task."""

    QUEUE_NAME = "elsewhere"
    PRIORITY = 3
    NAME = "testapp.told_why"

    def run(self, task: Task) -> None:
        Mark.objects.create(text=f"told of {task.errors[-1]['message']}")


@registry.register
class AsyncFail(Marking):
    async def run(self):
        raise LookupError("nothing there")


@registry.register
class Retry(Marking):
    """Times out so many times, then succeeds; counts by its marks."""

    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TimeoutError],
        retries_count=3,
        retry_pause=0.05,
        retry_pause_strategy=const.DELAY_STRATEGY_INCREMENTAL,
    )

    def run(self):
        name, failures = self.args
        self.mark(f"try {name}")
        if Mark.objects.filter(text=f"try {name}").count() <= failures:
            raise TimeoutError(f"{name} timed out")


@registry.register
class SlowUniqueRetry(Retry):
    """Takes its time before it fails."""

    UNIQUE_FOR_PARAMS = True

    def run(self):
        try:
            super().run()
        except TimeoutError:
            time.sleep(0.5)
            raise


class Busy(Exception):
    """What a server says that has too much to do."""

    def __init__(self, answer):
        super().__init__("429")
        self.answer = answer


def as_asked(error, task):
    """How long the server asks to wait."""
    Mark.objects.create(text=f"asked of try {task.tries + 1} {task.args}", pid=os.getpid())
    match error.answer:
        case "raise":
            raise KeyError("Retry-After")
        case "exit":
            raise SystemExit
        case "odd":
            return Unshowable()
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(60)
    return error.answer


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no words")


def told_to_fail(how):
    """Raise what is named, such as ``["ConnectionError"]``, or be as busy as is said."""
    import builtins

    name, *answer = how
    if name == "Busy":
        raise Busy(*answer)
    raise getattr(builtins, name)(*answer)


class Called(Marking):
    RETRY_ON_ERROR_CONFIG = [
        ErrorsHandleConfig(
            retry_on_errors=[Busy], retries_count=3, retry_pause=as_asked, or_seconds=30
        ),
        ErrorsHandleConfig(
            retry_on_errors=[ConnectionError],
            retry_pause=10,
            retry_pause_strategy=const.DELAY_STRATEGY_EXPONENTIAL,
            max_pause=600,
            jitter=0.5,
            give_up_after_seconds=3600,
        ),
        ErrorsHandleConfig(retry_on_errors=[Exception], retries_count=1, retry_pause=0),
    ]


@registry.register
class Call(Called):
    """Fails as its arguments say: at its first try as the first one does, and so on."""

    def run(self):
        told_to_fail(self.args[min(self.task_obj.tries, len(self.args) - 1)])


@registry.register
class CallInTime(Call):
    TIMEOUT_SECONDS = 0.5


@registry.register
class AsyncCall(Called):
    async def run(self):
        told_to_fail(self.args[min(self.task_obj.tries, len(self.args) - 1)])


@registry.register
class AtomicCall(Called):
    """Writes, and fails the first time."""

    ATOMIC = True

    def run(self):
        self.mark(f"try {self.task_obj.tries + 1}")
        if not self.task_obj.tries:
            told_to_fail(self.args)


class CarelessCancel(CancelTask):
    def __init__(self):
        """Without its base's."""


class Cancelling(Marking):
    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[Exception], retries_count=3, retry_pause=0
    )
    STORE_RESULT = True

    def cancel(self):
        reason = self.args[0] if self.args else None
        match reason:
            case "careless":
                raise CarelessCancel
            case "odd":
                raise CancelTask("  a\x00b\ud800c\n")
        raise CancelTask(reason)


@registry.register
class CancelItself(Cancelling):
    def run(self):
        self.mark("begun")
        self.cancel()


@registry.register
class AsyncCancelItself(Cancelling):
    async def run(self):
        self.cancel()


@registry.register
class AtomicCancelItself(CancelItself):
    ATOMIC = True


@registry.register
class AtomicCancelOnCommit(Cancelling):
    """Asks for its end after it has been committed."""

    ATOMIC = True

    def run(self):
        self.mark("committed")
        transaction.on_commit(self.cancel)


@registry.register
class Reveal(TaskProcessor):
    """Tells its secret where rules and reasons are told."""

    UNIQUE_FOR_PARAMS = False
    SENSITIVE = ("password",)
    RETRY_ON_ERROR_CONFIG = Called.RETRY_ON_ERROR_CONFIG

    def run(self, *, how: str, password: str) -> None:
        if how == "cancel":
            raise CancelTask(f"{password} is wrong")
        raise Busy(password)


@registry.register
class ComeBack(Marking):
    """Is told at its first run to come back so many seconds later, as by a 429 with Retry-After."""

    UNIQUE_FOR_PARAMS = False

    def run(self):
        name, seconds = self.args
        self.mark(f"run {name}")
        if Mark.objects.filter(text=f"run {name}").count() == 1 and seconds:
            raise PostponeTask(seconds, whole_key=True, reason="busy")


@registry.register
class Postpone(Marking):
    """Postpones itself so many times, then succeeds."""

    POSTPONE_CONFIG = PostponeConfig(max_postpones=5)

    def run(self):
        name, times, *seconds = self.args
        self.mark(f"run {name}")
        if Mark.objects.filter(text=f"run {name}").count() <= times:
            raise PostponeTask(*seconds)


@registry.register
class PostponeByDefault(Postpone):
    POSTPONE_CONFIG = None


@registry.register
class PostponeTooFar(Marking):
    """Changes how long it is to be postponed, after that was checked."""

    def run(self):
        postpone = PostponeTask(1)
        postpone.postpone_for_seconds = 1e13
        raise postpone


@registry.register
class PostponeThenFail(Marking):
    """Fails, postpones, fails, …: the postpones must not erase the count of tries."""

    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TimeoutError], retries_count=2, retry_pause=0
    )

    def run(self):
        self.mark("turn")
        if Mark.objects.filter(text="turn").count() % 2:
            raise TimeoutError
        raise PostponeTask(0)


@registry.register
class Die(Marking):
    """Takes its worker down: by a signal, by an exit code, or by SystemExit alone."""

    def run(self):
        self.mark("dying")
        match self.args[0]:
            case "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            case "SIGSEGV":
                ctypes.string_at(0)
            case "exit":
                os._exit(7)
            case "SystemExit":
                raise SystemExit(3)
            case "KeyboardInterrupt":
                raise KeyboardInterrupt
            case "StopIteration":
                raise StopIteration


if os.environ.get("DEAF_RECEIVER"):
    # For a supervisor: who hears of a loss does not come back from it.
    signals.task_lost.connect(lambda **_: threading.Event().wait(), weak=False)


@registry.register
class PutOff(Marking):
    """Postpones itself, each time in the next of these ways, at last in the last one."""

    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TimeoutError], retries_count=1, retry_pause=600
    )

    def run(self):
        row = self.task_obj
        way = self.args[min(row.tries + row.postpones, len(self.args) - 1)]
        match way:
            case "error":
                raise TimeoutError("late")
            case "plain":
                raise PostponeTask(600)
            case "reason":
                raise PostponeTask(600, reason="the bank is closed")
            case "odd":
                raise PostponeTask(600, reason="a\0b")
            case "blank":
                raise PostponeTask(600, reason=" ")
        try:
            raise ConnectionError("no answer")
        except ConnectionError as error:
            match way:
                case "cause":
                    raise PostponeTask(600) from error
                case "both":
                    raise PostponeTask(600, reason="the bank is closed") from error
                case "hidden":
                    raise PostponeTask(600) from None
            raise PostponeTask(600)  # noqa: B904  that is the case


@registry.register
class GiveUp(Marking):
    """Looks every hour, and gives up so many seconds after its first run."""

    def run(self):
        began = self.task_obj.started_at
        if began and (timezone.now() - began).total_seconds() > self.args[0]:
            raise TimeoutError("given up")
        raise PostponeTask(3600)


@registry.register
class RetryByHand(Marking):
    """Fails, until another task has mended what it lacks."""

    PRIORITY = 1

    def run(self):
        if not Mark.objects.filter(text="healed").exists():
            raise ValueError("not healed")


@registry.register
class Heal(Marking):
    """Does what an operator does: mends it, and has what failed run again."""

    def run(self):
        self.mark("healed")
        steering.retry(list(Task.objects.filter(status="error").values_list("pk", flat=True)))


@registry.register
class Print(Marking):
    """Prints more than a pipe holds."""

    TIMEOUT_SECONDS = 1

    def run(self):
        self.mark("printing")
        for _ in range(10_000):
            print("word " * 20)


@registry.register
class Misbehave(Marking):
    """Does to its worker what no task should."""

    def run(self):
        match self.args[0]:
            case "fork":
                if os.fork() == 0:
                    return
                self.mark("parent")
            case "thread":
                threading.Thread(target=time.sleep, args=(600,)).start()
            case "close everything":
                connection.close()
                os.closerange(3, 1000)
            case "hold the link":
                if os.fork() == 0:
                    time.sleep(2)
                    os._exit(0)
                os.kill(os.getpid(), signal.SIGKILL)
            case "signals":
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            case "terminate":
                command = subprocess.Popen(["sleep", "60"])
                command.terminate()
                if command.wait(10) != -signal.SIGTERM:
                    raise RuntimeError("it was deaf to SIGTERM")
            case "link":
                worker_here().link.socket.sendall(self.args[1].encode() + b"\n")
                time.sleep(60)
            case "last words":
                worker_here().link.socket.sendall(self.args[1].encode() + b"\n")
                os.kill(os.getpid(), signal.SIGKILL)
            case "feed":
                worker_here().feed.shutdown(socket.SHUT_RD)
            case "directory":
                os.chdir("/")
                os.environ.clear()


@registry.register
class DieAsync(Marking):
    """Takes its worker down from the event loop, after so many seconds."""

    async def run(self):
        await asyncio.sleep(self.args[0])
        os.kill(os.getpid(), signal.SIGKILL)


class Careless(PostponeTask):
    def __init__(self):
        """Without its base's."""


@registry.register
class Confuse(Marking):
    """Ends in ways that are hard to tell of."""

    def run(self):
        match self.args[0]:
            case "decimal":
                if not self.task_obj.postpones:
                    raise PostponeTask(decimal.Decimal("0.1"))
            case "careless":
                raise Careless


@registry.register
class ConfuseAsync(Confuse):
    async def run(self):
        await Mark.objects.acount()
        match self.args[0]:
            case "late cancel":
                asyncio.current_task().cancel()
            case _:
                super().run()


class OddRetries(ErrorsHandleConfig):
    """One that no system check sees through."""

    def retries(self, error):
        return error.nothing


class OddPostpones(PostponeConfig):
    max_postpones = "3"

    def __init__(self): ...


@registry.register
class MisconfiguredRetry(Marking):
    RETRY_ON_ERROR_CONFIG = OddRetries(
        retry_on_errors=[TimeoutError], retries_count=3, retry_pause=1
    )

    def run(self):
        raise TimeoutError


@registry.register
class MisconfiguredPostpone(Marking):
    POSTPONE_CONFIG = OddPostpones()

    def run(self):
        raise PostponeTask(0)


@registry.register
class Generator(Marking):
    def run(self):
        yield self.mark("never")


@registry.register
class ForkAsync(Marking):
    """Forks on the event loop, and lets the child come back."""

    async def run(self):
        os.fork()
        await asyncio.sleep(0.3)


class Unprintable(Exception):
    def __init__(self, *parts):
        super().__init__(*parts)
        self.unpicklable = lambda: None

    def __str__(self):
        raise RuntimeError("no words")


@registry.register
class RaiseUnprintable(Marking):
    def run(self):
        raise Unprintable(1, 2)


@registry.register
class ReturnUnpicklable(Marking):
    def run(self):
        return lambda: None


@registry.register
class ForgottenCoroutine(Marking):
    """A run() that hides a coroutine nobody awaits."""

    def run(self):
        async def never():
            pass

        return never()


@registry.register
class OpenTransaction(Marking):
    """Leaves a transaction open behind it."""

    def run(self):
        match self.args[0]:
            case "atomic":
                from django.db import transaction

                transaction.atomic().__enter__()
            case "begin":
                connection.cursor().execute("BEGIN")
            case "autocommit":
                connection.set_autocommit(False)
        self.mark("left open")


@registry.register
class Enqueue(Marking):
    """Enqueues other tasks, as tasks do."""

    def run(self):
        for text in self.args:
            Write(text).delay()


@registry.register
class EnqueueItself(Marking):
    def run(self):
        type(self)().delay()


@registry.register
class Endless(Marking):
    """Takes longer than it may, in one way or another, and marks that its ``finally`` ran."""

    TIMEOUT_SECONDS = 1

    def run(self):
        try:
            self.go_on(self.args[0])
        finally:
            self.clean_up()

    def clean_up(self):
        # The limit strikes again each second, and a busy machine may take longer for a row.
        while True:
            try:
                return mark_once("cleaned up")
            except (TaskTimeout, OperationalError) as error:
                if not is_struck(error):
                    raise

    def go_on(self, how):
        match how:
            case "loop":
                while True:
                    pass
            case "sleep":
                time.sleep(60)
            case "query":
                Mark.objects.raw("SELECT pg_sleep(60), 1 AS id")[0]
            case "atomic":
                with transaction.atomic():
                    self.mark("rolled back")
                    Mark.objects.raw("SELECT pg_sleep(60), 1 AS id")[0]
            case "savepoint":
                with transaction.atomic():
                    self.mark("kept")
                    with contextlib.suppress(TaskTimeout), transaction.atomic():
                        self.mark("rolled back")
                        reach_the_limit()
                        Mark.objects.raw("SELECT pg_sleep(60), 1 AS id")[0]
            case "deaf":
                while True:
                    with contextlib.suppress(Exception):
                        time.sleep(60)
            case "C code":
                sum(itertools.repeat(0, 10**12))  # it holds on to the GIL, and heeds no signal
            case "postpone":
                if not self.task_obj.postpones:
                    with contextlib.suppress(TaskTimeout):
                        reach_the_limit()
                        time.sleep(60)
                    raise PostponeTask(0)


def reach_the_limit():
    """Have the worker's alarm ring now, once, and not while a busy machine does what is before."""
    signal.setitimer(signal.ITIMER_REAL, 0.1)


def mark_once(text):
    if not Mark.objects.filter(text=text).exists():
        Mark.objects.create(text=text, pid=os.getpid())


def is_struck(error):
    """Tell whether it is the time limit's doing, and no fault of the connection's."""
    if isinstance(error, OperationalError):
        return isinstance(error.__cause__, QueryCanceled)
    return isinstance(error, TaskTimeout | asyncio.CancelledError)


@registry.register
class EndlessAfterWriting(Endless):
    """Says when its limit is over, so that it has written before, however busy the machine is."""

    TIMEOUT_SECONDS = 600


@registry.register
class EndlessRetried(Endless):
    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TaskTimeout], retries_count=1, retry_pause=0
    )


@registry.register
class EndlessAsked(Endless):
    """Has a function for its pause, which nobody can ask."""

    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TaskTimeout],
        retries_count=1,
        retry_pause=as_asked,
        or_seconds=900,
        jitter=0.5,
    )


@registry.register
class EndlessAsync(Marking):
    """The same on the event loop."""

    TIMEOUT_SECONDS = 1

    async def run(self):
        try:
            await self.go_on(self.args[0])
        finally:
            await self.clean_up()

    async def clean_up(self):
        while True:
            try:
                return await sync_to_async(mark_once)("cleaned up")
            except (asyncio.CancelledError, OperationalError) as error:
                if not is_struck(error):
                    raise

    async def go_on(self, how):
        match how:
            case "sleep":
                await asyncio.sleep(60)
            case "query":
                await sync_to_async(lambda: Mark.objects.raw("SELECT pg_sleep(60), 1 AS id")[0])()
            case "thread":
                await sync_to_async(time.sleep)(1.5)
                await asyncio.sleep(60)
            case "deaf":
                while True:
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(60)
            case "block":
                time.sleep(60)


@registry.register
class OverrunInThreads(Marking):
    """Uses the ORM in the event loop's own threads, then takes longer than it may."""

    TIMEOUT_SECONDS = 0.5

    async def run(self):
        await asyncio.gather(*(asyncio.to_thread(Mark.objects.count) for _ in range(8)))
        await asyncio.sleep(60)


@registry.register
class QueryInThreads(Marking):
    """Takes as long in the same threads, and may."""

    async def run(self):
        query = "SELECT pg_sleep(1.5), 1 AS id"
        each = (asyncio.to_thread(lambda: Mark.objects.raw(query)[0]) for _ in range(4))
        await asyncio.gather(*each)


@registry.register
class SleepAsLongAsItLikes(Sleep):
    TIMEOUT_SECONDS = math.inf


@registry.register
class EndlessInFlight(Marking):
    """Takes longer than it may while the server works on what it was sent."""

    TIMEOUT_SECONDS = 1

    def run(self):
        with transaction.atomic():
            Mark.objects.count()
            with Flight(connection) as flight:
                flight.send(flight.message("SELECT pg_sleep(60)", {}))
                while True:
                    pass


@registry.register
class ConnectInVain(Marking):
    """Connects to a server that goes away during the first statements."""

    def run(self):
        usual = connection.init_connection_state

        def interrupted():
            connection.connection.close()
            connection.init_connection_state = usual
            usual()

        connection.close()
        connection.init_connection_state = interrupted
        with contextlib.suppress(*self.args and [OperationalError]):
            Mark.objects.count()


@registry.register
class LeaveAnAlarm(Marking):
    """Sets an alarm of its own, and ends before it goes off."""

    def run(self):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 2)


@registry.register
class WhoAmI(Marking):
    """Marks what the row tells it of this run."""

    def run(self):
        task = self.task_obj
        self.mark(f"{task.pk} {task.claim_seq} {task.tries} {task.created_at.year}")


@registry.register
class AskInThreads(Marking):
    """Uses the ORM in threads of its own choice, side by side."""

    async def run(self):
        counts = [asyncio.to_thread(Mark.objects.count) for _ in range(3)]
        counts.append(sync_to_async(Mark.objects.count, thread_sensitive=False)())
        await asyncio.gather(*counts)


@registry.register
class ReportConnection(Marking):
    """Marks the server process of its connection."""

    def run(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            self.mark(f"backend {cursor.fetchone()[0]}")


@registry.register
class Add(Marking):
    """Returns something."""

    STORE_RESULT = True

    def run(self):
        return sum(self.args)


@registry.register
class Keep(Marking):
    """Returns its text, which may be spelt by the numbers of its characters."""

    STORE_RESULT = True

    def run(self):
        return "".join(map(chr, self.kwargs["codes"])) if self.kwargs else self.args[0]


@registry.register
class Cry(Keep):
    """Raises its text."""

    def run(self):
        raise ValueError(super().run())


@registry.register
class CryOnce(Keep):
    """Raises its text the first time."""

    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TimeoutError], retries_count=3, retry_pause=0
    )

    def run(self):
        if not self.task_obj.tries:
            raise TimeoutError(super().run())


@registry.register
class PutOffOnce(Keep):
    """Postpones itself the first time, for its text."""

    def run(self):
        if not self.task_obj.postpones:
            raise PostponeTask(0, reason=super().run())


@registry.register
class AsyncAdd(Marking):
    STORE_RESULT = True

    async def run(self):
        return {"sum": sum(self.args)}


@registry.register
class ReturnObject(Marking):
    STORE_RESULT = True

    def run(self):
        return {"at": [object()]}


@registry.register
class FailWithResult(Fail):
    STORE_RESULT = True


@registry.register
class AtomicWrite(Write):
    """Leaves a mark, if it commits."""

    ATOMIC = True
    STORE_RESULT = True

    def run(self):
        super().run()
        return "written"


@registry.register
class MisconfiguredAtomic(AtomicWrite):
    POSTPONE_CONFIG = OddPostpones()


@registry.register
class AtomicCutOff(Marking):
    """Writes, and meets the end of its session; the first so many times."""

    ATOMIC = True

    def run(self):
        how, times = self.args
        self.mark(how)
        if self.task_obj.interrupted < times:
            self.end_session(how)
            if how == "swallowed, and another error":
                raise ValueError(how)
            if how == "swallowed, and postponed":
                raise PostponeTask(0)
            if how == "swallowed, and cancelled":
                raise CancelTask

    def end_session(self, how):
        with connection.cursor() as cursor:
            match how:
                case "idle for too long":
                    cursor.execute("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
                    time.sleep(0.3)
                    cursor.execute("SELECT 1")
                case "a statement that takes too long":
                    cursor.execute("SET LOCAL statement_timeout = '50ms'")
                    cursor.execute("SELECT pg_sleep(5)")
                case "closed by itself":
                    connection.close()
                case "ended":
                    cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
                case _:
                    with contextlib.suppress(OperationalError):
                        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@registry.register
class AtomicFail(Marking):
    ATOMIC = True

    def run(self):
        self.mark("rolled back")
        raise LookupError(self.args[0])


@registry.register
class AtomicFork(Marking):
    """Its child comes back from ``run()`` before it fails."""

    ATOMIC = True

    def run(self):
        self.mark("rolled back")
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            raise LookupError


@registry.register
class AtomicRetry(Retry):
    """Its marks are rolled back, so it counts by its row."""

    ATOMIC = True

    def run(self):
        self.mark(f"try {self.task_obj.tries}")
        if self.task_obj.tries < 2:
            raise TimeoutError


@registry.register
class AtomicLostClaim(Marking):
    """Loses its claim while it runs, as to a supervisor that took its own for dead."""

    ATOMIC = True

    def run(self):
        self.mark("too late")
        rows = type(self.task_obj).objects.using("second")  # in a transaction of its own
        rows.filter(pk=self.task_obj.pk).update(
            claim_seq=self.task_obj.claim_seq + 1, claimed_by=uuid.uuid4()
        )


@registry.register
class AtomicWait(Marking):
    """Says in a session of its own that it waits until a file is there, and leaves a mark then."""

    ATOMIC = True

    def run(self):
        Mark.objects.using("second").create(text="waits", pid=os.getpid())
        while not os.path.exists(self.args[0]):
            time.sleep(0.05)
        self.mark("goes on")


@registry.register
class SayWhoRuns(Marking):
    """Writes down what a log line would know of the task, also in a thread."""

    def run(self):
        current = context.current_task.get()
        self.mark(f"{current.id} {current.claim_seq} {current.processor_class}")


@registry.register
class AsyncSayWhoRuns(Marking):
    async def run(self):
        await sync_to_async(SayWhoRuns.run)(self)


@registry.register
class OnCommit(Marking):
    def run(self):
        with transaction.atomic():
            transaction.on_commit(lambda: self.mark("committed"))
            self.mark("inside")


@registry.register
class OnCommits(Marking):
    """Registers calls in all the places that there are."""

    def run(self):
        transaction.on_commit(lambda: self.mark("at once"))
        with transaction.atomic():
            transaction.on_commit(lambda: self.mark("first"))
            with contextlib.suppress(LookupError), transaction.atomic():
                transaction.on_commit(lambda: self.mark("rolled back"))
                raise LookupError
            with transaction.atomic():
                transaction.on_commit(lambda: self.mark("second"))
            self.mark("in the block")
        self.mark("after the block")


@registry.register
class FailOnCommit(Marking):
    """Its ``on_commit()`` raises, after what it wrote is committed."""

    def run(self):
        with transaction.atomic():
            self.mark("committed")
            transaction.on_commit(self.fail, **self.kwargs)
            transaction.on_commit(lambda: self.mark("the next"))

    def fail(self):
        raise LookupError("on_commit")


@registry.register
class AtomicFailOnCommit(FailOnCommit):
    ATOMIC = True
    STORE_RESULT = True


@registry.register
class AtomicPostpone(Marking):
    ATOMIC = True

    def run(self):
        self.mark(f"after {self.task_obj.postpones}")
        if self.task_obj.postpones < 1:
            raise PostponeTask(0)


@registry.register
class AtomicRollback(Marking):
    """Asks for a rollback, and says nothing of it."""

    ATOMIC = True
    STORE_RESULT = True

    def run(self):
        self.mark("rolled back")
        transaction.set_rollback(True)


@registry.register
class AtomicViolate(Marking):
    """What it writes is refused at the commit, by a deferred constraint."""

    ATOMIC = True
    STORE_RESULT = True

    def run(self):
        self.mark("refused")
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO deferred VALUES (1), (1)")


@registry.register
class Durable(Marking):
    def run(self):
        with transaction.atomic(durable=True):
            self.mark("durable")


@registry.register
class Listen(Marking):
    """Has its worker process write down, from now on, which signals it hears."""

    def run(self):
        for name in ("started", "finished", "failed"):
            getattr(signals, f"task_{name}").connect(self.listener(name), weak=False)

    def listener(self, name):
        def hear(sender, **kwargs):
            self.mark(f"{name} {sender.__name__}")

        return hear


@registry.register
class Execute(Marking):
    """Executes a statement."""

    def run(self):
        with connection.cursor() as cursor:
            cursor.execute(*self.args)


@registry.register
class ExecuteDeaf(Execute):
    """Its time limit is not heeded: it waits in libpq."""

    TIMEOUT_SECONDS = 1

    def run(self):
        connection.ensure_connection()
        connection.connection.pgconn.exec_(self.args[0].encode())


@registry.register
class ExecuteAsync(Marking):
    async def run(self):
        await sync_to_async(self.execute)()

    def execute(self):
        with connection.cursor() as cursor:
            cursor.execute(*self.args)


SESSION = """
SELECT json_build_object(
    'backend', pg_backend_pid(),
    'search_path', current_setting('search_path'),
    'statement_timeout', current_setting('statement_timeout'),
    'role', current_setting('role'),
    'time zone', current_setting('TimeZone'),
    'client', current_setting('client_connection_check_interval'),
    'locks', (SELECT count(*) FROM pg_locks
              WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
    'prepared', (SELECT count(*) FROM pg_prepared_statements),
    'channels', (SELECT count(*) FROM pg_listening_channels()),
    'cursors', (SELECT count(*) FROM pg_cursors WHERE is_holdable),
    'temporary', (SELECT count(*) FROM pg_class WHERE relpersistence = 't'
                  AND pg_table_is_visible(oid)))
"""


def report_session():
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
        return cursor.fetchone()[0]


@registry.register
class ReportSession(Marking):
    """Returns what its database session is like."""

    STORE_RESULT = True

    def run(self):
        return report_session()


@registry.register
class ReportAsyncSession(Marking):
    STORE_RESULT = True

    async def run(self):
        return await sync_to_async(report_session)()


_THREADS = ThreadPoolExecutor(1)


@registry.register
class AskElsewhere(Marking):
    """Uses the ORM in a thread that outlives it, from a plain ``run()``."""

    STORE_RESULT = True

    def run(self):
        match self.args:
            case ["asyncio", *more]:
                return asyncio.run(self.ask(*more))
            case ["pool", *more]:
                return _THREADS.submit(self.answer, *more).result()

    async def ask(self, *more):
        return await sync_to_async(self.answer)(*more)

    def answer(self, *statements):
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        return report_session()


@registry.register
class CountQueries(Marking):
    """Returns how many queries Django has a list of, with DEBUG."""

    STORE_RESULT = True

    def run(self):
        before = len(connection.queries)
        Mark.objects.count()
        return [before, len(connection.queries)]


@registry.register
class RunCommand(Marking):
    """Waits for a command of the system's, that fails if it is ended."""

    def run(self):
        self.mark(f"start {self.args[0]}")
        subprocess.run(self.args[0].split(), check=True)


@registry.register
class Pay(TaskProcessor):
    """Returns what it was given, as Python writes it."""

    STORE_RESULT = True

    def run(
        self, order: uuid.UUID, *, at: datetime.datetime | None = None, tags: set[str] = frozenset()
    ) -> str:
        return repr((order, at, sorted(tags)))


@registry.register
class AsyncPay(Pay):
    async def run(self, order: uuid.UUID, *, amount: decimal.Decimal = decimal.Decimal(0)) -> str:
        return repr((order, amount))


@registry.register
class NamedPay(Pay):
    NAME = "testapp.Named"
    ALSO_KNOWN_AS = ("Before",)


@registry.register
class ReadsAnother(TaskProcessor):
    """Reads a call of its own that does not fit."""

    def run(self, number: int = 0) -> None:
        parameters_of(type(self)).decode(Stored(["no number"], {}))


@registry.register
class Follow(TaskProcessor):
    """Leaves a mark beside one that it was given."""

    def run(self, mark: Mark) -> None:
        Mark.objects.create(text=f"{mark.text} followed", pid=mark.pk)


@registry.register
class FollowIfThere(Follow):
    ON_MISSING = "finish"


@registry.register
class AsyncFollow(TaskProcessor):
    async def run(self, marks: list[Mark]) -> None:
        await Mark.objects.acreate(text=" and ".join(mark.text for mark in marks))


@registry.register
class AtomicFollow(TaskProcessor):
    """Its mark is fetched in the run's own transaction."""

    ATOMIC = True

    def run(self, mark: Mark) -> None:
        Mark.objects.create(text=f"{mark.text} followed in {mark.fetched_in_atomic}")


@registry.register
class NothingTyped(TaskProcessor):
    UNIQUE_FOR_PARAMS = False

    def run(self, number: int) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class Card:
    number: str
    code: int


@registry.register
class Login(TaskProcessor):
    """Tells its secrets in its error, in that one's cause, and in its source line."""

    SENSITIVE = ("password", "card")

    def run(self, user: str, password: str, *, card: Card | None = None) -> None:
        try:
            raise ValueError(f"no {password!r}: {card}")
        except ValueError as error:
            raise RuntimeError(f"{user} cannot log in with {password} and {card}") from error


@registry.register
class AsyncLogin(Login):
    async def run(self, user: str, password: str, *, card: Card | None = None) -> None:
        super().run(user, password, card=card)


@registry.register
class PostponeLogin(Login):
    SENSITIVE = ("password",)

    def run(self, user: str, password: str) -> None:
        raise PostponeTask(5, reason=f"{user} has {password}")


@registry.register
class LoginUntyped(BaseTaskProcessor):
    SENSITIVE = ("password",)

    def run(self):
        raise RuntimeError(f"no {self.kwargs['password']}")


@registry.register
class LoginAndForget(TaskProcessor):
    """Changes what it was given before it fails, and is named by another name on rows."""

    NAME = "testapp.Login"
    SENSITIVE = ("card",)

    def run(self, card: dict[str, str]) -> None:
        number = card.pop("number")
        card.clear()
        self.args = None
        raise ValueError(f"no {number}")


@registry.register
class LoginInVain(BaseTaskProcessor):
    """Fails before it runs."""

    SENSITIVE = ("password",)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.kwargs.get("fails"):
            raise ValueError(f"no {self.kwargs['password']}")

    def run(self):
        pass


@registry.register
class LoginByGroup(TaskProcessor):
    SENSITIVE = ("key",)

    def run(self, key: str) -> None:
        raise ExceptionGroup("x" * 3_990 + key, [ValueError(key)])


@registry.register
class LookInVain(TaskProcessor):
    SENSITIVE = ("key",)

    def run(self, key: str, *, nested: bool) -> None:
        raise KeyError(f"no 'user' {key!r}" if nested else f'no "user" {key}')


@dataclasses.dataclass
class Credentials:
    username: str
    password: str


@registry.register
class LoginByFields(TaskProcessor):
    SENSITIVE = ("user", "credentials")

    def run(self, user: dict[str, str], credentials: Credentials) -> None:
        secrets = f"{user['username']} {credentials.username} {credentials.password}"
        raise ValueError(f"no username of password {secrets} and the account")


@registry.register
class Spread(TaskProcessor):
    def run(self, *n: int, **k: str) -> None: ...


@registry.register
class ByPlace(TaskProcessor):
    def run(self, size: int, /, **k: str) -> None: ...


@registry.register
class Flagged(TaskProcessor):
    def run(self, flag, *, off=False) -> None: ...


@dataclasses.dataclass
class Weight:
    grams: int

    def __post_init__(self):
        if self.grams < 0:
            raise KeyError("too light")


@registry.register
class Weigh(TaskProcessor):
    def run(self, weight: Weight) -> None:
        pass


@dataclasses.dataclass
class Looked:
    """Asks the database when it is made, in a worker first of a session that then ends."""

    number: int

    def __post_init__(self):
        if context.current_task.get() is None or Mark.objects.filter(text="looked").exists():
            return
        Mark.objects.create(text="looked")
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@registry.register
class Look(TaskProcessor):
    def run(self, looked: Looked) -> None:
        Mark.objects.create(text=f"run {looked.number}")


@registry.register
class Sync(Marking):
    """Takes its time between two marks, or fails; tests say in which way it is unique."""

    UNIQUE_FOR_PARAMS = True
    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TimeoutError], retries_count=1, retry_pause=3600
    )

    def run(self, account: str, note: str = "", *, seconds: float = 0, fails: bool = False) -> None:
        self.mark(f"start {account} {note}")
        time.sleep(seconds)
        if fails:
            raise TimeoutError(account)
        self.mark(f"end {account} {note}")


@registry.register
class SyncUntyped(Marking):
    def run(self):
        pass


def tell(path, words):
    """Write a line to a file: also what a run writes that is rolled back can be read there."""
    with open(path, "a") as file:
        file.write(f"{words}\n")


def has_told(path, words):
    with contextlib.suppress(FileNotFoundError):
        return f"{words}\n" in pathlib.Path(path).read_text()
    return False


@registry.register
class MakeWay(Marking):
    """Goes on until its supervisor stops, then makes way; in its second run it ends.

    It tells its steps in a file, under a name, and leaves a mark in each run.
    """

    POSTPONE_CONFIG = PostponeConfig(max_postpones=0)
    REASON = "checkpoint"

    def run(self):
        path, name = self.args
        is_second = has_told(path, f"{name} makes way")
        self.mark("second" if is_second else "first")
        if is_second:
            return
        tell(path, f"{name} goes on{' and stops' if self.stopping else ''}")
        while not self.stopping:
            pass
        tell(path, f"{name} makes way")
        raise PostponeTask(0, reason=self.REASON)


@registry.register
class AtomicMakeWay(MakeWay):
    ATOMIC = True


@registry.register
class AsyncMakeWay(MakeWay):
    async def run(self):
        path, name = self.args
        if has_told(path, f"{name} makes way"):
            return
        tell(path, f"{name} goes on")
        await self.until_stopping()
        assert self.stopping
        tell(path, f"{name} makes way")
        raise PostponeTask(0, reason=self.REASON)


@registry.register
class WaitByItself(MakeWay):
    """A plain one with an event loop of its own."""

    def run(self):
        path, name = self.args
        if has_told(path, f"{name} makes way"):
            return
        tell(path, f"{name} goes on")
        asyncio.run(self.until_stopping())
        tell(path, f"{name} makes way")
        raise PostponeTask(0)


@registry.register
class MakeWayLate(MakeWay):
    """Postpones itself by some time although its supervisor stops: that is counted."""

    POSTPONE_CONFIG = None

    def run(self):
        path, name = self.args
        tell(path, f"{name} goes on")
        while not self.stopping:
            pass
        raise PostponeTask(3600)
