"""The tasks that the suite enqueues."""

from asgiref.sync import sync_to_async

from tests.conformance.api import TaskContext, task

ran = []
"""What ran in this process, in its order."""


@task
def note(*args, **kwargs):
    ran.append((args, kwargs))


@task
async def anote(*args, **kwargs):
    ran.append((args, kwargs))


@task
def echo(*args, **kwargs):
    return {"args": args, "kwargs": kwargs}


@task
async def aecho(*args, **kwargs):
    return {"args": args, "kwargs": kwargs}


@task
def answer():
    return 42


@task
def return_object():
    return object()


@task
def fail():
    raise ValueError("This task failed")


@task
async def afail():
    raise ValueError("This task failed")


@task
def fail_complexly():
    raise ValueError(ValueError("This task failed"))


@task
def exit_process():
    raise SystemExit("This task exits")


@task(takes_context=True)
def look(context, *args):
    assert isinstance(context, TaskContext)
    result = context.task_result
    return [result.id, str(result.status), context.attempt, list(args)]


@task(takes_context=True)
async def alook(context):
    return [context.task_result.id, str(context.task_result.status), context.attempt]


@task
def enqueue_another(text):
    note.enqueue(text)


@task
async def aenqueue_another(text):
    await note.aenqueue(text)


@task
async def use_orm():
    from django.contrib.contenttypes.models import ContentType

    return await sync_to_async(ContentType.objects.count)()


def plain_function():
    """No task."""


renamed_task = task(plain_function)
