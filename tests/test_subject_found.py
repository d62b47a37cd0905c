"""What is of one subject is found and steered by it: from code, by commands, in the admin."""

import io
import json
from datetime import timedelta

import pytest
from django.contrib.admin.utils import quote
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from partisan_async import schedules, steering
from partisan_async.models import Schedule, Task
from partisan_async.steering.tasks import ACTIONS
from tests.conftest import state
from tests.test_admin import LIST, listed, page_of
from tests.test_dashboard import client_of, text_of
from tests.test_ticker import HOURLY
from tests.testapp.partisan_tasks import Nothing, Write, WriteElsewhere

pytestmark = pytest.mark.django_db

ADA, BOB = "customer:ada", "customer:bob"


def page_of_schedule(row):
    return reverse("admin:partisan_async_schedule_change", args=[quote(row.pk)])


def partisan(*words):
    out = io.StringIO()
    call_command("partisan", *map(str, words), stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.fixture
def tasks():
    """One of each subject, one of nobody's, and one of Ada's in another queue."""
    return [
        Write(1).delay(subject=ADA),
        Write(2).delay(subject=BOB),
        Write(3).delay(),
        WriteElsewhere(4).delay(subject=ADA),
    ]


class TestSteering:
    @pytest.mark.parametrize("action", list(ACTIONS))
    def test_each_action_takes_it_alone_and_beside_others(self, tasks, action):
        function, statuses = ACTIONS[action]
        ours, _, _, elsewhere = (task.pk for task in tasks)
        Task.objects.update(**state(statuses[0]))

        assert function(subject="customer:ad") == []
        assert function(subject="") == []
        assert function(subject=ADA, queue_name="elsewhere") == [elsewhere]
        assert function([task.pk for task in tasks], subject=ADA) == [ours]

    def test_prune(self, tasks):
        Task.objects.update(status="finished", finished_at=timezone.now() - timedelta(hours=2))

        assert steering.prune(timedelta(hours=1), subject=ADA, queue_name="default").deleted == 1
        assert steering.prune(timedelta(hours=3), subject=ADA).deleted == 0
        assert steering.prune(timedelta(hours=1), statuses=["error"], subject=ADA).deleted == 0
        assert steering.prune(timedelta(hours=1), subject="").deleted == 0
        assert steering.prune(timedelta(hours=1), subject=ADA).deleted == 1
        assert list(Task.objects.values_list("subject", flat=True)) == [BOB, None]

    def test_pruning_a_thousand_of_it_at_a_time(self):
        Nothing.bulk_delay([Nothing(n) for n in range(2500)], subject=ADA)
        Nothing.bulk_delay([Nothing(n) for n in range(10)], subject=BOB)
        Task.objects.update(status="finished", finished_at=timezone.now() - timedelta(hours=2))

        assert steering.prune(timedelta(hours=1), subject=ADA).deleted == 2500
        assert Task.objects.count() == 10


class TestCommands:
    @pytest.mark.parametrize("name", ["retry", "run-now", "cancel"])
    def test_each_takes_it_and_names_it(self, tasks, monkeypatch, name):
        Task.objects.update(**state(ACTIONS[name][1][0]))
        asked = []
        monkeypatch.setattr("builtins.input", lambda what: asked.append(what) or "y")

        assert partisan(name, "--subject", ADA) == f"{name}: 2 tasks.\n"

        assert asked == [f"{name}: 2 tasks of subject 'customer:ada'? [y/N] "]

    def test_prune(self, tasks, monkeypatch):
        Task.objects.update(status="finished", finished_at=timezone.now() - timedelta(hours=2))
        asked = []
        monkeypatch.setattr("builtins.input", lambda what: asked.append(what) or "y")

        said = partisan("prune", "--subject", ADA, "--older-than", "1h")

        assert said == "2 tasks deleted.\n"
        assert asked == [
            "Delete 2 tasks of subject 'customer:ada' that ended over 1 hour ago? [y/N] "
        ]

    def test_without_any_filter_it_is_among_those_that_are_named(self):
        with pytest.raises(CommandError, match="one of --queue, --subject, --processor, --older"):
            partisan("retry")

    def test_one_that_cannot_be_is_refused(self):
        with pytest.raises(CommandError, match="argument --subject: subject has 0 characters"):
            partisan("cancel", "--subject=", "--yes")


class TestStatus:
    def test_it_shows_what_there_is(self, tasks):
        Task.objects.filter(pk=tasks[0].pk).update(status="finished", finished_at=timezone.now())
        schedules.create("acme", Write(), HOURLY, subject=ADA)

        lines = partisan("status", "--subject", ADA).splitlines()

        assert lines[0] == "2 tasks of subject 'customer:ada': 1 finished, 1 new"
        assert [line.split()[:4] for line in lines[2:5]] == [
            ["the", "newest", "status", "queue"],
            [str(tasks[3].pk), "WriteElsewhere", "new", "elsewhere"],
            [str(tasks[0].pk), "Write", "finished", "default"],
        ]
        assert lines[-1] == "schedules: :acme"
        assert partisan("status", "--subject", "nobody") == "0 tasks of subject 'nobody'\n"

    def test_for_programs(self, tasks):
        schedules.create("acme", Write(), HOURLY, subject=ADA)

        told = json.loads(partisan("status", "--subject", ADA, "--json"))

        assert told["statuses"] == {"new": 2}
        assert told["schedules"] == [":acme"]
        assert [task["id"] for task in told["tasks"]] == [tasks[3].pk, tasks[0].pk]
        assert set(told["tasks"][0]) == {"id", "processor", "queue", "status", "age"}

    def test_it_is_shown_once(self):
        with pytest.raises(CommandError, match="leave out --watch"):
            partisan("status", "--subject", ADA, "--watch")

    def test_nothing_in_it_controls_the_terminal(self):
        Nothing().delay(subject="\x1b[2J")
        assert "\x1b" not in partisan("status", "--subject", "\x1b[2J")


class TestAdmin:
    def test_the_search_finds_by_it(self, admin_client, tasks):
        assert listed(admin_client, q=ADA) == [tasks[3].pk, tasks[0].pk]
        assert listed(admin_client, q=ADA, queue="elsewhere") == [tasks[3].pk]
        assert listed(admin_client, q=ADA, status="finished") == []
        assert listed(admin_client, q="customer:ad") == []
        assert "or a whole subject;" in text_of(admin_client.get(LIST))

    def test_also_where_it_looks_like_something_else(self, admin_client):
        number = Write(1).delay()
        uuid = "0b6a2c52-5c5b-4d6f-9d0e-1f5c3f1f6a11"
        of_number = Write(2).delay(subject=str(number.pk))
        of_uuid, of_words = Write(3).delay(subject=uuid), Write(4).delay(subject="Write me")

        assert listed(admin_client, q=str(number.pk)) == [of_number.pk, number.pk]
        assert listed(admin_client, q=uuid) == [of_uuid.pk]
        assert listed(admin_client, q="Write me") == [of_words.pk]

    def test_by_its_index(self, admin_client):
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
                " execute_after, subject) SELECT 'default', 'Write', '{}', 10, now(),"
                " CASE WHEN n % 2 = 0 THEN 'customer:' || n % 2000 END"
                " FROM generate_series(1, 50000) n"
            )
            cursor.execute("ANALYZE partisan_async_task")
            plans = []

            def explain(execute, sql, params, *rest):
                if 'FROM "partisan_async_task"' in sql:
                    with connection.cursor() as other:
                        other.cursor.execute(f"EXPLAIN {sql}", params)
                        plans.append("\n".join(row[0] for row in other.cursor.fetchall()))
                return execute(sql, params, *rest)

            with connection.execute_wrapper(explain):
                for text in ("customer:4", "4711"):
                    admin_client.get(LIST, {"q": text})

        assert len(plans) == 5
        for plan in plans:
            assert "partisan_async_subject" in plan, plan
            assert "Seq Scan" not in plan, plan

    def test_the_pages_show_it(self, admin_client, tasks):
        made = schedules.create("acme", Write(), HOURLY, subject="of <Ada>")

        assert "Subject: customer:ada" in text_of(admin_client.get(page_of(tasks[0])))
        assert "Subject: -" in text_of(admin_client.get(page_of(tasks[2])))
        page = admin_client.get(page_of_schedule(made))
        assert "Subject: of &lt;Ada&gt;" in text_of(page)

    def test_who_may_see_no_arguments_may_not_see_or_guess_it(self, tasks):
        """It may say who somebody is, as they do."""
        made = schedules.create("acme", Write(), HOURLY, subject=ADA)
        client = client_of("view_task", "view_schedule")

        for page in (
            client.get(page_of(tasks[0])),
            client.get(page_of_schedule(made)),
        ):
            assert page.status_code == 200
            assert ADA not in page.content.decode()
            assert "Subject: (its text is hidden from you)" in text_of(page)
        assert listed(client, q=ADA) == []
        assert "subject" not in text_of(client.get(LIST))

    def test_made_by_the_form_it_is_what_the_processor_says(self, admin_client, monkeypatch):
        monkeypatch.setattr(Write, "task_subject", lambda self: self.args[0], raising=False)
        form = {"name": "acme", "processor": "Write", "cron": "0 7 * * *", "time_zone": "UTC"}
        url = "/admin/partisan_async/schedule/add/"

        admin_client.post(url, form | {"arguments": json.dumps({"args": [ADA], "kwargs": {}})})
        refused = admin_client.post(url, form | {"name": "other", "arguments": ""})

        assert Schedule.objects.get().subject == ADA
        assert "Write.task_subject() raised IndexError" in text_of(refused)
