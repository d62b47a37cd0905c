"""Hears each turn of the pictures' tasks: notes whose they are, and tells the open pages."""

from typing import Any

from django.db import transaction
from django.dispatch import receiver

from example_site.gallery import bell, partisan_tasks
from example_site.gallery.models import Step
from partisan_async.models import Task
from partisan_async.signals import (
    task_enqueued,
    task_failed,
    task_finished,
    task_lost,
    task_postponed,
    task_retried,
    task_started,
)


@receiver(task_enqueued)
def note(sender: type, task: Task, **kwargs: Any) -> None:
    """Note whose task it is, in the transaction that enqueues it."""
    if _is_of_a_picture(sender):
        name = " ".join([task.processor_class, *task.kwargs.values()])
        Step.objects.create(picture_id=task.args[0], name=name, task_id=task.pk)


@receiver(
    [
        task_enqueued,
        task_started,
        task_finished,
        task_failed,
        task_retried,
        task_postponed,
        task_lost,
    ]
)
def tell(sender: type, **kwargs: Any) -> None:
    """Have the open pages look, in whichever process they are served."""
    if _is_of_a_picture(sender):
        transaction.on_commit(bell.ring, robust=True)


def _is_of_a_picture(processor: type) -> bool:
    return processor.__module__ == partisan_tasks.__name__
