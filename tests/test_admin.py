"""Rows are to be seen in the plain admin, and not to be changed there."""

import pytest
from django.urls import reverse

from partisan_async.models import Task
from partisan_async.testing import live_supervisor, run_pending
from tests.testapp.partisan_tasks import Fail, Write

pytestmark = pytest.mark.django_db


def test_the_list_shows_tasks_by_what_became_of_them(admin_client):
    Fail("ValueError", "<script>").delay()
    run_pending()
    Write("waits").delay()

    page = admin_client.get(reverse("admin:partisan_async_task_changelist"), {"status": "error"})

    assert page.status_code == 200
    assert b"Fail" in page.content
    assert [task.processor_class for task in page.context["cl"].result_list] == ["Fail"]


def test_a_failed_tasks_page_says_why_and_renders_nothing_of_it(admin_client):
    task = Fail("ValueError", "<script>alert(1)</script>").delay()
    run_pending()

    page = admin_client.get(reverse("admin:partisan_async_task_change", args=[task.pk]))

    assert page.status_code == 200
    assert b"builtins.ValueError" in page.content
    assert b"<script>alert(1)" not in page.content


def test_a_task_cannot_be_changed_or_added_by_hand(admin_client):
    task = Write("x").delay()

    changed = admin_client.post(
        reverse("admin:partisan_async_task_change", args=[task.pk]), {"status": "finished"}
    )
    added = admin_client.get(reverse("admin:partisan_async_task_add"))
    deleted = admin_client.get(reverse("admin:partisan_async_task_delete", args=[task.pk]))

    assert (changed.status_code, added.status_code, deleted.status_code) == (403, 403, 403)
    assert Task.objects.get().status == "new"


@pytest.mark.django_db(transaction=True)
def test_supervisors_are_listed(admin_client):
    with live_supervisor() as supervisor:
        page = admin_client.get(reverse("admin:partisan_async_supervisor_changelist"))

        assert str(supervisor.id).encode() in page.content
