"""The jobs of django-tasks-db."""

import marks
from django_tasks import task


@task()
def noop(number):
    marks.begin()


@task()
def arrive(sent):
    marks.arrive(sent)
