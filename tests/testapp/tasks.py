"""Tasks by Django's own API."""

import functools
import os
import signal

from django.utils import timezone

from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig
from partisan_async.context import stopping, until_stopping
from partisan_async.exceptions import CancelTask, PostponeTask
from partisan_async.tasks_backend import options
from partisan_async.unique import Unique
from tests.conformance.api import task
from tests.testapp import mails  # noqa: F401  workers know its tasks by that
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import Told, has_told, tell


@task
def write(text):
    Mark.objects.create(text=text, pid=os.getpid())
    return os.getpid()


@task
async def awrite(text):
    await Mark.objects.acreate(text=text, pid=os.getpid())
    return os.getpid()


@task
def kill_worker():
    os.kill(os.getpid(), signal.SIGKILL)


@task(takes_context=True)
@options(
    retry_on_error=ErrorsHandleConfig(
        retry_on_errors=[TimeoutError], retries_count=3, retry_pause=0
    )
)
def fail_twice(context):
    Mark.objects.create(text=f"attempt {context.attempt}", pid=os.getpid())
    if context.attempt < 3:
        raise TimeoutError(f"attempt {context.attempt}")
    return context.attempt


@task(takes_context=True)
@options(postpone=PostponeConfig(max_postpones=1))
def postpone(context):
    raise PostponeTask(0)


@task
@options(timeout_seconds=0.1)
def overrun():
    while True:
        pass


@task
@options(atomic=True)
def write_and_fail(text):
    Mark.objects.create(text=text, pid=os.getpid())
    raise LookupError(text)


@task
@options(atomic=True)
def write_atomically(text):
    Mark.objects.create(text=text, pid=os.getpid())
    return text


@task(takes_context=True)
def compares_times(context):
    result = context.task_result
    seen = (result.enqueued_at, result.started_at, result.last_attempted_at)
    return all(abs(timezone.now() - moment).total_seconds() < 60 for moment in seen)


class Late(Exception):
    pass


def a_minute_each(error, task):
    return 60 * (task.tries + 1)


@task
@options(
    retry_on_error=[
        ErrorsHandleConfig(
            retry_on_errors=[Late], retries_count=2, retry_pause=a_minute_each, or_seconds=0
        ),
        ErrorsHandleConfig(
            retry_on_errors=[Exception], retry_pause=5, give_up_after_seconds=3600, jitter=1
        ),
    ]
)
def late():
    raise Late


@task
def cancel():
    raise CancelTask("nobody needs it")


@task
def put_off():
    raise PostponeTask(600, reason="not yet")


@task(takes_context=True, priority=5)
def told_with_context(context, task_id):
    return [context.task_result.id, task_id]


@task
@options(on_error=Told)
def fails_and_tells():
    raise LookupError


@task
@options(on_error=told_with_context)
def fails_and_tells_djangos():
    raise LookupError


@task
@options(unique=Unique(by=("account",), within_seconds=3600))
def unique_by_account(account, note=""):
    return account


@task(takes_context=True)
@options(unique=Unique(by=("account", "note"), while_running=True))
def unique_by_both(context, account, *, note=""):
    return account


def whose(customer):
    if customer == "empty":
        return ""
    return None if customer is None else "customer:" + customer


@task
@options(unique=Unique(by=("customer",)), subject=whose)
def of_customer(customer=None, note=""):
    return customer


def with_client(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        return function("a client", *args, **kwargs)

    return call


@task
@options(
    unique=Unique(by=("account", "reason")),
    subject=lambda account: account and f"customer:{account}",
)
@with_client
def of_account(client, account="all", reason=""):
    return [client, account, reason]


@task
@with_client
@options(unique=Unique(by=("account",)))
def unique_below(client, account, reason=""):
    return [client, account, reason]


@task
@options(unique=Unique())
def unique_as_written(account):
    return account


@task
@options(postpone=PostponeConfig(max_postpones=0))
def make_way(path):
    if has_told(path, "function makes way"):
        return "second"
    tell(path, "function goes on")
    while not stopping():
        pass
    tell(path, "function makes way")
    raise PostponeTask(0, reason="checkpoint")


@task
@options(postpone=PostponeConfig(max_postpones=0))
async def amake_way(path):
    if has_told(path, "function makes way"):
        return "second"
    tell(path, "function goes on")
    await until_stopping()
    tell(path, "function makes way")
    raise PostponeTask(0, reason="checkpoint")
