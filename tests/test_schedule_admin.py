"""Schedules made in the admin: the form, the times that it shows, who may, and what is put down."""

import logging
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission
from django.db import connection, transaction
from django.urls import reverse
from django.utils import timezone

from partisan_async import registry, schedules, steering
from partisan_async.admin import Scope, TaskAdmin, schedule_times
from partisan_async.models import Schedule, Task
from partisan_async.processor import BaseTaskProcessor
from partisan_async.schedule import Cron, Every
from partisan_async.steering.timetable import run_once
from partisan_async.task_processor import TaskProcessor
from partisan_async.unique import Unique
from tests import test_audit
from tests.conftest import DEADLINE_SECONDS, wait_until
from tests.testapp.partisan_tasks import Write

pytestmark = pytest.mark.django_db(transaction=True)

told = test_audit.told

LIST = "/admin/partisan_async/schedule/"
ADD = f"{LIST}add/"
BERLIN = "Europe/Berlin"
FILLED = {
    "name": "acme",
    "processor": "Write",
    "arguments": '{"args": ["acme"], "kwargs": {}}',
    "cron": "0 7 * * *",
    "time_zone": BERLIN,
    "seconds": "",
}


def page_of(name="acme"):
    return reverse("admin:partisan_async_schedule_change", args=[quote(f":{name}")])


def edit_of(name="acme"):
    return reverse("admin:partisan_async_schedule_edit", args=[quote(f":{name}")])


@pytest.fixture
def made():
    return schedules.create("acme", Write("acme"), Cron("0 7 * * *", time_zone=BERLIN))


@pytest.fixture
def someone(client, django_user_model):
    """Return a client whose user has these permissions."""

    def someone(*codenames):
        user = django_user_model.objects.create_user(uuid.uuid4().hex, is_staff=True)
        for codename in codenames:
            user.user_permissions.add(Permission.objects.get(codename=codename))
        client.force_login(user)
        return client

    return someone


def meanwhile(theirs, ours):
    """Do ours while theirs is done and not committed, which it is when ours waits for it.

    Return what ours returned.
    """
    done = threading.Event()

    def other():
        with transaction.atomic():
            theirs()
            done.set()
            wait_until(is_waited_for)
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    try:
        assert done.wait(DEADLINE_SECONDS)
        return ours()
    finally:
        thread.join()


def is_waited_for():
    """Tell whether another session waits for this one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return cursor.fetchone()[0] > 0


class TestForm:
    def test_it_makes_one(self, admin_client, told):
        page = admin_client.post(ADD, FILLED, follow=True)

        row = Schedule.objects.get()
        assert "The schedule :acme is kept." in page.text
        assert page.redirect_chain == [(page_of(), 302)]
        assert (row.pk, row.schedule) == (":acme", f"0 7 * * * {BERLIN}")
        assert row.arguments == '{"args":["acme"],"kwargs":{}}'
        assert [each[:3] for each in told()] == [("create-schedule", "admin", "admin")]
        entry = LogEntry.objects.get()
        assert (entry.object_id, entry.change_message, entry.is_addition()) == (
            ":acme",
            "Add",
            True,
        )

    def test_it_shows_the_next_five_times_and_writes_nothing_yet(self, admin_client):
        page = admin_client.post(ADD, FILLED | {"preview": "1"})

        zone = Cron("0 7 * * *", time_zone=BERLIN).zone
        listed = page.text.split('class="partisan-times"')[1].split("</ol>")[0]
        assert listed.count("<li>") == 5
        tomorrow = timezone.now().astimezone(zone) + timedelta(days=2)
        assert f"{tomorrow:%Y-%m-%d} 07:00:00 {tomorrow.tzname()}" in listed
        assert not Schedule.objects.exists()

    @pytest.mark.parametrize(
        ("begin", "expected"),
        [
            (
                datetime(2026, 3, 27, 12, tzinfo=UTC),
                [
                    "2026-03-28 02:30:00 CET (+0100)",
                    "2026-03-29 03:00:00 CEST (+0200)",
                    "2026-03-30 02:30:00 CEST (+0200)",
                ],
            ),
            (
                datetime(2026, 10, 24, 12, tzinfo=UTC),
                [
                    "2026-10-25 02:30:00 CEST (+0200)",
                    "2026-10-26 02:30:00 CET (+0100)",
                    "2026-10-27 02:30:00 CET (+0100)",
                ],
            ),
        ],
    )
    def test_the_times_are_those_of_its_zone_also_where_clocks_are_changed(
        self, monkeypatch, begin, expected
    ):
        monkeypatch.setattr(schedule_times.timezone, "now", lambda: begin)

        found = schedule_times.next_times(Cron("30 2 * * *", time_zone=BERLIN))

        assert found[:3] == expected
        assert len(found) == schedule_times.SHOWN_TICKS

    def test_of_an_interval_they_are_those_that_come(self, settings):
        settings.TIME_ZONE = "UTC"
        tick = (timezone.now() + timedelta(minutes=30)).replace(microsecond=0)

        ahead = schedule_times.next_times(Every(seconds=3600), tick)
        past = schedule_times.next_times(Every(seconds=3600), tick - timedelta(hours=5))

        assert ahead == past
        assert ahead[0] == f"{tick:%Y-%m-%d %H:%M:%S} UTC (+0000)"

    def test_it_changes_one(self, admin_client, made, told):
        page = admin_client.get(edit_of())
        assert 'value="0 7 * * *"' in page.text
        assert "&quot;acme&quot;" in page.text
        assert page.text.count("<li>20") == 5

        changed = {"arguments": "", "cron": "", "seconds": "90", "skip_while_running": "on"}
        admin_client.post(edit_of(), changed)

        row = Schedule.objects.get()
        assert (row.schedule, row.arguments) == ("every 90 s", made.arguments)
        assert row.rule == {"every": 90, "catch_up": False, "skip_while_running": True}
        assert row.set_by != made.set_by
        assert [each[0] for each in told()] == ["change-schedule"]
        assert LogEntry.objects.get().change_message == "Change"

    def test_a_function_of_djangos_can_be_chosen_and_whose_it_is_be_said(self, admin_client):
        name = "tests.testapp.tasks.write"
        assert f'<option value="{name}">' in admin_client.get(ADD).text
        add = {"processor": name, "subject": "customer:42"}
        misfit = admin_client.post(ADD, FILLED | add | {"arguments": ""})
        assert "missing a required argument" in misfit.text

        admin_client.post(ADD, FILLED | add | {"arguments": '{"args": ["a"], "kwargs": {}}'})

        row = Schedule.objects.get()
        assert (row.processor, row.subject) == (name, "customer:42")
        assert run_once(row).subject == "customer:42"

    def test_one_in_a_module_that_a_tasks_py_imports_can_be_chosen(self, admin_client):
        name = "tests.testapp.mails.send"
        assert f'<option value="{name}">' in admin_client.get(ADD).text

        admin_client.post(ADD, FILLED | {"processor": name})

        assert Schedule.objects.get().processor == name

    def test_whose_it_is_stays_until_somebody_says_another_one(self, admin_client, made):
        def post(subject):
            admin_client.post(edit_of(), {"cron": "0 8 * * *", "subject": subject})
            return Schedule.objects.get().subject

        assert post("ada") == "ada"
        assert 'value="ada"' in admin_client.get(edit_of()).text
        assert post("ada") == "ada"
        assert post("bob") == "bob"
        assert post("") is None

    def test_whose_somebody_said_it_is_stays_where_the_arguments_do(
        self, admin_client, monkeypatch
    ):
        """Else a new time would give it to another one; with other arguments it is asked anew."""

        class FormOwned(BaseTaskProcessor):
            def run(self):
                pass

            def task_subject(self):
                return f"customer:{self.args[0]}"

        monkeypatch.setitem(registry._processors, "FormOwned", FormOwned)
        schedules.create("acme", FormOwned(42), "0 7 * * *", subject="household:7")

        def post(**changed):
            filled = {"cron": "0 8 * * *", "subject": Schedule.objects.get().subject} | changed
            admin_client.post(edit_of(), filled)
            return Schedule.objects.get().subject

        assert post() == "household:7"
        assert post(arguments='{"args": [42], "kwargs": {}}') == "household:7"
        assert post(arguments='{"args": [43], "kwargs": {}}') == "customer:43"
        assert post(arguments='{"args": [44], "kwargs": {}}', subject="") == "customer:44"
        assert Schedule.objects.get().schedule.startswith("0 8")

    def test_one_that_somebody_else_makes_meanwhile_is_not_replaced(self, admin_client):
        def theirs():
            schedules.create("acme", Write("theirs"), "0 6 * * *")

        page = meanwhile(theirs, lambda: admin_client.post(ADD, FILLED))

        assert "There is a schedule of this name already." in page.text
        assert Schedule.objects.get().schedule.startswith("0 6")
        assert not LogEntry.objects.exists()

    def test_one_that_somebody_else_deletes_meanwhile_is_not_made_again(self, admin_client, made):
        def changed():
            return admin_client.post(edit_of(), {"arguments": "", "cron": "0 8 * * *"})

        page = meanwhile(lambda: schedules.delete("acme"), changed)

        assert "Somebody has deleted it meanwhile; nothing is written." in page.text
        assert not Schedule.objects.exists()
        assert not LogEntry.objects.exists()

    def test_its_page_shows_call_and_times(self, admin_client, made):
        page = admin_client.get(page_of())

        assert page.text.count("<li>20") == 5
        assert "&quot;acme&quot;" in page.text
        assert edit_of() in page.text
        assert "delete_made" in page.text
        assert "Every" not in page.text

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"name": ""}, "This field is required."),
            ({"name": " x"}, "without blanks around it"),
            ({"name": "x" * 255}, "at most 254 characters"),
            ({"name": "there"}, "There is a schedule of this name already."),
            ({"processor": "Gone"}, "Select a valid choice."),
            ({"processor": ""}, "This field is required."),
            ({"arguments": "{"}, "The arguments are no JSON"),
            ({"arguments": '{"args": []}'}, "have no &#x27;kwargs&#x27;"),
            ({"arguments": '{"args": ["' + "x" * 2**16 + '"], "kwargs": {}}'}, "may be 65,536"),
            ({"processor": "FormTyped"}, "no parameter acme|it takes 0 by position"),
            ({"processor": "FormBy"}, "is by &#x27;day&#x27;, and this call does not pass it"),
            ({"cron": "61 * * * *"}, "Bad minute"),
            ({"cron": ""}, "Write a cron expression, or a number of seconds."),
            ({"seconds": "5"}, "Write a cron expression, or a number of seconds."),
            ({"cron": "", "seconds": "0"}, "must be a number of seconds"),
            ({"cron": "", "seconds": "nan"}, "Enter a number."),
            ({"time_zone": "Europe/Berln"}, "is not known here"),
            ({"catch_up": "on", "skip_while_running": "on"}, "leave one of the two out"),
        ],
    )
    def test_what_cannot_be_is_said_and_nothing_written(
        self, admin_client, monkeypatch, wrong, said
    ):
        import re

        class FormTyped(TaskProcessor):
            def run(self, *, day: int = 0) -> None:
                pass

        monkeypatch.setattr(registry, "_processors", dict(registry._processors))

        class FormBy(BaseTaskProcessor):
            UNIQUE = Unique(by=("day",))

            def run(self):
                pass

        registry.register(FormTyped)
        registry.register(FormBy)
        schedules.create("there", Write(), "0 7 * * *")

        page = admin_client.post(ADD, FILLED | wrong)

        assert page.status_code == 200
        assert re.search(said, page.text), page.text
        assert Schedule.objects.count() == 1

    def test_what_is_hidden_is_not_shown_and_stays(self, admin_client, monkeypatch):
        monkeypatch.setattr(Write, "SENSITIVE", ("text",))
        made = schedules.create("acme", Write(text="s3cret-value"), "0 7 * * *")

        pages = [admin_client.get(page_of()).text, admin_client.get(edit_of()).text]
        admin_client.post(edit_of(), {"arguments": "", "cron": "0 8 * * *"})

        assert not [page for page in pages if "s3cret" in page]
        assert "\n  &quot;kwargs&quot;: {\n    &quot;text&quot;" in pages[0]
        assert Schedule.objects.get().arguments == made.arguments
        assert Schedule.objects.get().schedule.startswith("0 8 * * *")

    def test_one_of_the_code_is_changed_there(self, admin_client):
        Schedule.objects.create(
            processor_class="Tick", queue_name="ticks", schedule="every 0.2 s", set_by=uuid.uuid4()
        )
        edit = reverse("admin:partisan_async_schedule_edit", args=["Tick"])

        assert admin_client.get(edit).status_code == 404
        assert edit not in admin_client.get(f"{LIST}Tick/change/").text
        page = admin_client.post(
            LIST, {"action": "delete_made", "_selected_action": "Tick"}, follow=True
        )
        assert "what is in the code is deleted there" in page.text
        assert Schedule.objects.exists()

    @pytest.mark.parametrize("name", ["a/b", "_3A", "é?x=1&y#z", "x/edit", "100%", '"<b>'])
    def test_names_of_any_kind_have_their_pages(self, admin_client, name):
        page = admin_client.post(ADD, FILLED | {"name": name}, follow=True)
        assert [code for _, code in page.redirect_chain] == [302]
        assert "is kept." in page.text

        changed = {"arguments": "", "cron": "0 8 * * *", "time_zone": BERLIN}
        page = admin_client.post(edit_of(name), changed, follow=True)

        assert "is kept." in page.text
        assert Schedule.objects.get().schedule == f"0 8 * * * {BERLIN}"


class TestDeleted:
    def test_it_asks_first(self, admin_client, made, told):
        chosen = {"action": "delete_made", "_selected_action": ":acme"}
        asked = admin_client.post(LIST, chosen)
        assert "Delete 1 schedule?" in asked.text
        assert Schedule.objects.exists()

        page = admin_client.post(LIST, chosen | {"confirmed": "1"}, follow=True)

        assert "Deleted: :acme." in page.text
        assert not Schedule.objects.exists()
        assert [each[0] for each in told()] == ["delete-schedule"]
        assert LogEntry.objects.get().is_deletion()


class TestSteered:
    def test_they_are_switched_and_run_as_those_of_the_code(self, admin_client, made):
        def act(action):
            data = {"action": action, "_selected_action": ":acme"}
            return admin_client.post(LIST, data, follow=True).text

        assert "Switched off: :acme." in act("switch_off")
        assert "Switched on: :acme." in act("switch_on")
        assert "Task" in act("run_once")
        task = Task.objects.get()
        assert (task.processor_class, task.args, task.tick) == ("Write", ["acme"], None)
        assert "schedule" not in task.arguments

    def test_run_once_of_one_whose_call_is_refused_says_so(self, admin_client, made, monkeypatch):
        monkeypatch.setattr(Write, "UNIQUE", Unique(by=("nothing",)))

        page = admin_client.post(
            LIST, {"action": "run_once", "_selected_action": ":acme"}, follow=True
        )

        assert "Write.UNIQUE is by &#x27;nothing&#x27;" in page.text
        assert not Task.objects.exists()

    def test_run_once_of_one_whose_processor_is_gone_enqueues_nothing(self, admin_client, made):
        Schedule.objects.update(processor="Gone")

        page = admin_client.post(
            LIST, {"action": "run_once", "_selected_action": ":acme"}, follow=True
        )

        assert ":acme cannot tick here: this code lacks its processor" in page.text
        assert "icon-no" in page.text

    def test_one_whose_rule_cannot_be_read_cannot_tick_here(self, admin_client, made):
        assert "icon-no" not in admin_client.get(LIST).text
        Schedule.objects.update(rule={"lunar": 1})

        page = admin_client.post(
            LIST, {"action": "run_once", "_selected_action": ":acme"}, follow=True
        )

        assert "or cannot read when it ticks; nothing was enqueued." in page.text
        assert "icon-no" in page.text
        assert not Task.objects.exists()


class TestWhoMay:
    ALL = ("view_schedule", "add_schedule", "change_schedule", "delete_schedule", "view_arguments")

    def status(self, client):
        chosen = {"action": "delete_made", "_selected_action": ":acme", "confirmed": "1"}
        codes = [client.post(ADD, FILLED | {"name": "new"}).status_code]
        codes.append(client.post(edit_of(), {"arguments": "", "cron": "0 8 * * *"}).status_code)
        client.post(LIST, chosen)
        return [*codes, Schedule.objects.filter(pk=":acme").exists()]

    def test_who_has_all_permissions_does_all(self, made, someone):
        assert self.status(someone(*self.ALL)) == [302, 302, False]

    @pytest.mark.parametrize(
        ("lacks", "expected"),
        [
            ("add_schedule", [403, 302, False]),
            ("change_schedule", [302, 403, False]),
            ("delete_schedule", [302, 302, True]),
            ("view_arguments", [403, 403, False]),
        ],
    )
    def test_each_is_for_one_thing(self, made, someone, lacks, expected):
        client = someone(*(each for each in self.ALL if each != lacks))

        assert self.status(client) == expected

    def test_who_may_not_see_arguments_does_not(self, made, someone):
        page = someone("view_schedule", "change_schedule").get(page_of())

        assert page.status_code == 200
        assert "&quot;acme&quot;" not in page.text
        assert edit_of() not in page.text

    def test_who_is_not_logged_in_does_nothing(self, made, client):
        assert self.status(client) == [302, 302, True]
        assert not Schedule.objects.filter(pk=":new").exists()
        assert Schedule.objects.get().schedule.startswith("0 7")

    def test_a_scope_hides_those_of_other_processors(self, admin_client, made, monkeypatch):
        schedules.create("other", Write("x"), "0 7 * * *")
        Schedule.objects.filter(pk=":other").update(processor="Fail")
        scope = Scope(processors={"Write"})
        monkeypatch.setattr(TaskAdmin, "get_scope", lambda self, request: scope)

        page = admin_client.get(LIST)
        form = admin_client.get(ADD)

        assert ":acme" in page.text
        assert ":other" not in page.text
        assert admin_client.get(edit_of("other")).status_code == 404
        assert '<option value="Write">' in form.text
        assert '<option value="Fail">' not in form.text


def test_steering_tells_who_it_was(caplog):
    """From code, as for all that is steered."""
    caplog.set_level(logging.INFO, "partisan_async")
    schedules.create("acme", Write(), "0 7 * * *")
    schedules.create("acme", Write(1), "0 7 * * *")
    schedules.delete("acme")
    steering.switch_off([":acme"])

    found = [each.action for each in caplog.records if getattr(each, "event", "") == "steered"]
    assert found == ["create-schedule", "change-schedule", "delete-schedule"]
