"""Rows are to be seen in the plain admin, and not to be changed there."""

import uuid

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from partisan_async.models import Schedule, Task
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


class TestSchedules:
    @pytest.fixture
    def schedules(self):
        for name, text in (("Tick", "every 0.2 s"), ("Gone", "0 3 * * * Europe/Berlin")):
            Schedule.objects.create(
                processor_class=name, queue_name="ticks", schedule=text, set_by=uuid.uuid4()
            )

    @pytest.fixture
    def act(self, schedules, admin_client):
        def act(action, *names, client=admin_client):
            page = reverse("admin:partisan_async_schedule_changelist")
            data = {"action": action, "_selected_action": names}
            return client.post(page, data, follow=True).content.decode()

        return act

    def test_they_are_listed_in_words_and_those_that_the_code_lacks_as_such(
        self, schedules, admin_client, django_assert_max_num_queries
    ):
        with django_assert_max_num_queries(8):
            page = admin_client.get(reverse("admin:partisan_async_schedule_changelist"))

        content = page.content.decode()
        gone, tick = content.split("Tick</a>")
        assert "Every 0.2 seconds" in tick
        assert "0 3 * * * Europe/Berlin" in gone
        assert "icon-no" in gone.rpartition("Gone</a>")[2]
        assert "icon-no" not in tick

    def test_another_release_s_is_shown_as_it_is(self, schedules, admin_client):
        Schedule.objects.filter(pk="Tick").update(schedule="every 9 s")

        page = admin_client.get(reverse("admin:partisan_async_schedule_changelist"))

        assert b"every 9 s" in page.content

    def test_they_are_switched(self, act):
        assert "Switched off: Tick." in act("switch_off", "Tick")
        assert not Schedule.objects.get(pk="Tick").enabled
        assert Schedule.objects.get(pk="Gone").enabled
        assert "Switched off: nothing." in act("switch_off", "Tick")

        assert "Switched on: Tick." in act("switch_on", "Tick")
        assert Schedule.objects.get(pk="Tick").enabled

    def test_one_is_run_once(self, act):
        shown = act("run_once", "Tick", "Gone")

        task = Task.objects.get()
        assert (task.processor_class, task.queue_name, task.tick) == ("Tick", "ticks", None)
        assert f"Task {task.pk} of Tick is enqueued." in shown
        assert "Gone has no schedule in the code; nothing was enqueued." in shown
        assert f"Task {task.pk} of Tick waits already." in act("run_once", "Tick")

    @pytest.mark.parametrize("action", ["switch_off", "run_once"])
    def test_who_may_only_look_does_neither(self, act, action, client, django_user_model):
        viewer = django_user_model.objects.create_user("viewer", is_staff=True)
        viewer.user_permissions.add(Permission.objects.get(codename="view_schedule"))
        client.force_login(viewer)

        act(action, "Tick", client=client)

        assert Schedule.objects.get(pk="Tick").enabled
        assert not Task.objects.exists()

    def test_they_are_not_edited(self, schedules, admin_client):
        page = reverse("admin:partisan_async_schedule_change", args=["Tick"])

        assert admin_client.get(page).status_code == 200
        assert admin_client.post(page, {"schedule": "* * * * *"}).status_code == 403
