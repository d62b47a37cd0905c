"""Tasks that wait for limits, where tasks are listed, chosen and asked for."""

import io
import re

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from partisan_async import steering
from partisan_async.django_tasks.results import STATUSES
from partisan_async.models import Task
from partisan_async.testing import assert_enqueued, assert_not_enqueued
from tests.limited import row
from tests.test_admin import LIST, do, listed, page_of
from tests.test_dashboard import client_of, supervise, text_of
from tests.testapp.partisan_tasks import Write

pytestmark = pytest.mark.django_db


def partisan(*words):
    out = io.StringIO()
    call_command("partisan", *map(str, words), stdout=out)
    return out.getvalue()


def written(text, **columns):
    """Insert a call of Write that waits for a limit."""
    call = {"args": [text], "kwargs": {}}
    return row(processor_class="Write", arguments=call, **columns)


class TestList:
    def test_they_are_listed_by_queue_limit_key_and_turn(self, admin_client):
        Write().delay()
        last = row("b", queue_name="z")
        second, first = row("a", priority=9), row("a", priority=1)
        of_key_b = row("b", priority=0)
        of_other_limit = row("a", "y")

        assert listed(admin_client, status="limited") == [
            each.pk for each in (first, second, of_key_b, of_other_limit, last)
        ]
        of_queue = admin_client.get(LIST, {"status": "limited", "queue": "z"}).context["cl"]
        assert ([each.pk for each in of_queue.result_list], of_queue.walked) == ([last.pk], False)
        assert listed(admin_client, status="limited", processor="Nothing")[0] == first.pk

    def test_it_goes_by_their_index(self, admin_client):
        """At a size where the planner has a choice."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
                " execute_after, status, finished_at, limit_name, limit_key, limit_rank)"
                " SELECT 'default', 'Write', '{}', 10, now(),"
                " CASE WHEN n > 190000 THEN 'limited' ELSE 'finished' END,"
                " CASE WHEN n <= 190000 THEN now() END, CASE WHEN n > 190000 THEN 'x' END,"
                " CASE WHEN n > 190000 THEN n::text END, CASE WHEN n > 190000 THEN 10 END"
                " FROM generate_series(1, 200000) n"
            )
            cursor.execute("ANALYZE partisan_async_task")
            for asked in ({}, {"queue": "default"}, {"processor": "Write"}):
                with CaptureQueriesContext(connection) as queries:
                    assert len(listed(admin_client, status="limited", **asked)) == 100
                found = [each["sql"] for each in queries if "'limited'" in each["sql"]]
                plans = []
                for sql in found:
                    if "status" in sql and sql.startswith("SELECT") and "RECURSIVE" not in sql:
                        cursor.execute(f"EXPLAIN {sql}")
                        plans.append("\n".join(line for (line,) in cursor.fetchall()))
                assert plans
                for plan in plans:
                    assert "partisan_async_limited" in plan, (asked, plan)
                    assert "Sort" not in plan, (asked, plan)

    def test_it_has_a_colour_and_a_word_of_its_own(self, admin_client):
        row()

        page = admin_client.get(LIST).content.decode()

        assert '<span class="partisan-status partisan-limited">Limited</span>' in page
        assert '<a href="?status=limited">' in page

    def test_above_the_list_they_are_counted_where_there_are_some(self, admin_client):
        Write().delay()
        assert "limited" not in text_of(admin_client.get(LIST)).partition("Filter")[0]
        row()

        told = text_of(admin_client.get(LIST))

        assert re.search(r"default 1 waiting, .*? 0 running; 1 limited", told)

    def test_a_queue_where_they_wait_for_a_supervisor_is_marked(self, admin_client):
        row()

        assert "no supervisor" in text_of(admin_client.get(LIST))

        supervise()
        assert "no supervisor" not in text_of(admin_client.get(LIST))


class TestPage:
    def test_it_has_the_limit_the_key_and_the_turn(self, admin_client):
        told = text_of(admin_client.get(page_of(row("ada", "partner", priority=7))))

        # Django 6.1 has the help before the value.
        assert re.search("Limit name: (the .* under )?partner ", told)
        assert re.search("Limit key: &#x27;ada&#x27; Limit rank: (its .* first )?7 ", told)

    def test_an_empty_key_is_not_none(self, admin_client):
        empty, none = (text_of(admin_client.get(page_of(row(key)))) for key in ("", None))

        assert "Limit key: &#x27;&#x27; Limit rank" in empty
        assert "Limit key: - Limit rank" in none

    def test_one_without_a_limit_says_nothing_of_limits(self, admin_client):
        assert "imit" not in text_of(admin_client.get(page_of(Write().delay())))

    def test_a_key_may_be_a_persons_name(self):
        """Who may not see arguments does not see it, neither in the row nor in the reasons."""
        task = row("ada@example.org")

        page = client_of("view_task").get(page_of(task)).content.decode()
        assert "ada@" not in page
        assert "Limit key: (its text is hidden from you)" in text_of_text(page)
        reader = client_of("view_task", "view_arguments", name="reader")
        assert "ada@example.org" in reader.get(page_of(task)).content.decode()

    def test_it_can_be_cancelled_and_not_be_run_now(self, admin_client):
        task = row()
        page = admin_client.get(page_of(task)).content.decode()
        assert re.findall(r'name="action" value="(\w+)"', page) == ["cancel"]

        do(admin_client, "run_now", task)
        assert Task.objects.get().status == "limited"
        do(admin_client, "cancel", task)

        assert Task.objects.get().status == "error"


def text_of_text(page):
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


class TestSteering:
    def test_cancel_ends_them(self):
        waiting, other = row(), row("other", queue_name="elsewhere")

        assert steering.cancel(queue_name="default") == [waiting.pk]
        assert steering.cancel([other.pk], statuses=["new"]) == []
        assert steering.cancel([other.pk], statuses=["limited"]) == [other.pk]

    def test_run_now_is_not_for_them(self):
        assert steering.run_now([row().pk]) == []

    def test_the_command_chooses_them_by_their_status(self):
        waiting, ready = row(), Write().delay()

        assert partisan("cancel", "--status", "limited", "--yes") == "cancel: 1 task.\n"

        statuses = dict(Task.objects.values_list("pk", "status"))
        assert statuses == {waiting.pk: "error", ready.pk: "new"}

    def test_adopting_a_copy_can_end_them_all(self):
        """What waits for a limit would run on the copy, too."""
        waiting = row()

        partisan("adopt", "--cancel", "--yes")

        waiting.refresh_from_db()
        assert waiting.status == "error"


def test_djangos_api_calls_them_ready():
    assert STATUSES.keys() == dict(Task.STATUS_CHOICES).keys()
    assert STATUSES["limited"].name == "READY"


class TestKit:
    def test_they_have_been_enqueued(self):
        task = written("x")

        assert assert_enqueued(Write, args=["x"]) == task
        with pytest.raises(AssertionError, match="A task waits"):
            assert_not_enqueued(Write)
