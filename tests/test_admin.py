"""Tasks and supervisors in the admin: looked at, found, steered; never edited."""

import html
import re
import uuid
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from partisan_async import steering
from partisan_async.admin import task_list
from partisan_async.admin.steerings import STEERINGS
from partisan_async.admin.task_values import SHOWN_CHARACTERS
from partisan_async.admin.tasks import TaskAdmin
from partisan_async.models import PausedQueue, Schedule, Supervisor, Task
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, marks, state, wait_until
from tests.site_rules import refusal
from tests.test_dashboard import client_of, supervise, tally, text_of
from tests.test_docs import code, read, tables
from tests.testapp.partisan_tasks import Fail, Sleep, Write, WriteElsewhere, WriteFirst

pytestmark = pytest.mark.django_db

LIST = "/admin/partisan_async/task/"
SUPERVISORS = "/admin/partisan_async/supervisor/"


def page_of(task):
    return f"{LIST}{task.pk}/change/"


def listed(client, **asked):
    """The ids in the list, in its order."""
    page = client.get(LIST, asked)
    assert page.status_code == 200
    return [task.pk for task in page.context["cl"].result_list]


def do(client, action, *tasks, **more):
    """Choose an action for tasks, and say yes."""
    asked = client.post(LIST, {"action": action, "_selected_action": [t.pk for t in tasks], **more})
    if asked.status_code != 200:
        return client.get(asked.url)
    return client.post(LIST, dict(asked.context["fields"]) | more, follow=True)


def failed(*args):
    task = Fail("ValueError", *args).delay()
    run_pending(errors="keep")
    task.refresh_from_db()
    return task


class TestRefusals:
    """A trigger of the site's raises, or a right is missing: whoever asked is to be told."""

    @pytest.mark.parametrize(("action", "of"), [(each.name, each.statuses) for each in STEERINGS])
    def test_what_the_database_refuses_is_told(self, admin_client, action, of):
        bad, good = Write(1).delay(), Write(2).delay()
        Task.objects.update(**state(of[0]))
        on = "DELETE" if action == "delete" else "UPDATE"
        with refusal(f"OLD.id = {bad.pk}", on=on):
            alone = do(admin_client, action, bad)
            beside = do(admin_client, action, bad, good)

        assert alone.status_code == beside.status_code == 200
        assert "The database refuses it: the site refuses it" in text_of(alone)
        assert "0 of 1 tasks" not in text_of(alone)
        assert "1 of 2 tasks" in text_of(beside)
        assert "or the database refuses them" in text_of(beside)
        assert Task.objects.get(pk=bad.pk).status == of[0]

    def test_of_a_drain(self, admin_client):
        supervisor = supervise()
        data = {"action": "drain", "_selected_action": supervisor.pk, "confirmed": 1}
        with refusal("NEW.draining", table="partisan_async_supervisor"):
            page = admin_client.post(SUPERVISORS, data, follow=True)

        assert "The database refuses it: the site refuses it" in text_of(page)
        assert not Supervisor.objects.get().draining

    @pytest.mark.parametrize("action", ["switch_off", "run_once"])
    def test_of_a_schedule(self, admin_client, action):
        Schedule.objects.create(
            processor_class="Tick",
            queue_name="ticks",
            schedule="x",
            next_tick=timezone.now(),
            set_by=uuid.uuid4(),
        )
        table = "partisan_async_schedule" if action == "switch_off" else "partisan_async_task"
        on = "UPDATE" if action == "switch_off" else "INSERT"
        with refusal("true", table=table, on=on):
            url = "/admin/partisan_async/schedule/"
            page = admin_client.post(
                url, {"action": action, "_selected_action": "Tick"}, follow=True
            )

        assert "The database refuses it: the site refuses it" in text_of(page)


class TestList:
    def test_by_status_what_is_next_comes_first(self, admin_client):
        old, new = Write(1).delay(), Write(2).delay()
        first = WriteFirst().delay()
        later = Write(3).delay(execute_after=timezone.now() + timedelta(hours=2))
        soon = Write(4).delay(execute_after=timezone.now() + timedelta(hours=1))

        assert listed(admin_client) == [soon.pk, later.pk, first.pk, new.pk, old.pk]
        assert listed(admin_client, status="new") == [first.pk, old.pk, new.pk]
        assert listed(admin_client, status="scheduled") == [soon.pk, later.pk]
        assert listed(admin_client, status="error") == []

    def test_by_queue_and_processor(self, admin_client):
        here, there = Write().delay(), WriteElsewhere().delay()
        scheduled = WriteElsewhere().delay(execute_after=timezone.now() + timedelta(hours=1))

        assert listed(admin_client, queue="default") == [here.pk]
        assert listed(admin_client, queue="elsewhere") == [scheduled.pk, there.pk]
        assert listed(admin_client, queue="elsewhere", status="new") == [there.pk]
        assert listed(admin_client, processor="Write") == [here.pk]
        assert listed(admin_client, processor="Write", queue="elsewhere") == []

    def test_by_when_they_ended(self, admin_client):
        task, old = Write().delay(), Write().delay()
        run_pending()
        Task.objects.filter(pk=old.pk).update(finished_at=timezone.now() - timedelta(minutes=10))
        waits = Write().delay()

        assert listed(admin_client, ended="5m") == [task.pk]
        assert listed(admin_client, ended="1h") == [old.pk, task.pk]
        assert listed(admin_client, ended="1h", status="finished") == [old.pk, task.pk]
        assert listed(admin_client, ended="1h", status="new") == []
        assert listed(admin_client, ended="nonsense") == [waits.pk, old.pk, task.pk]

    def test_a_status_that_there_is_not_finds_nothing(self, admin_client):
        Write().delay()

        assert listed(admin_client, status="nonsense") == []

    def test_filters_offer_what_is_known_and_what_ran(self, admin_client):
        tally(processor_class="gone.from_here", queue_name="rare")
        supervise(queue_name="served")

        page = admin_client.get(LIST, {"processor": "Asked", "queue": "for"})

        choices = {
            spec.title: dict(spec.lookup_choices) for spec in page.context["cl"].filter_specs
        }
        assert {"Write", "gone.from_here", "Asked"} <= choices["processor"].keys()
        assert {"default", "rare", "served", "for"} <= choices["queue"].keys()

    def test_it_is_searched_by_id(self, admin_client):
        tasks = [Write(n).delay() for n in range(3)]

        assert listed(admin_client, q=f" {tasks[0].pk}, ".strip(" ,")) == [tasks[0].pk]
        assert listed(admin_client, q=f"{tasks[0].pk} {tasks[2].pk}") == [tasks[2].pk, tasks[0].pk]
        assert listed(admin_client, q="9" * 30) == []

    def test_it_is_searched_by_processor_and_small_arguments(self, admin_client):
        write, elsewhere = Write("order 4711").delay(), WriteElsewhere(text="x").delay()
        Write("4711 " + "".join(map(chr, range(1000, 4000)))).delay()

        assert listed(admin_client, q="elsew") == [elsewhere.pk]
        assert listed(admin_client, q="ORDER 4711") == [write.pk]
        assert listed(admin_client, q="%") == []

    def test_it_is_searched_by_supervisor(self, admin_client):
        task, holder = Write().delay(), uuid.uuid4()
        Write().delay()
        Task.objects.filter(pk=task.pk).update(status="in_process", claimed_by=holder)

        assert listed(admin_client, q=str(holder)) == [task.pk]

    def test_nothing_is_looked_for_further_than_so_many_rows(self, admin_client, monkeypatch):
        """Else a search for what is not there would read all there is."""
        monkeypatch.setattr(task_list, "WALKED", 3)
        old = WriteElsewhere().delay()
        for n in range(3):
            Write(n).delay()

        assert listed(admin_client, processor="WriteElsewhere") == []
        assert listed(admin_client, queue="elsewhere", status="new") == [old.pk]
        assert len(listed(admin_client, processor="Write")) == 3
        assert "tasks were looked through" in text_of(admin_client.get(LIST, {"q": "Write"}))

    def test_it_counts_no_further_than_it_lists(self, admin_client, monkeypatch):
        monkeypatch.setattr(task_list, "LISTED", 5)
        Write.bulk_delay([Write(n) for n in range(7)])

        page = admin_client.get(LIST)

        assert page.context["cl"].result_count == 5
        assert "5 tasks, and more than can be leafed through" in text_of(page)

    def test_nothing_can_be_asked_for_that_no_index_helps(self, admin_client):
        assert admin_client.get(LIST, {"tries__gt": 3}).status_code == 400
        assert admin_client.get(LIST, {"arguments__args__0": 3}).status_code == 400

    @pytest.mark.parametrize("name", ["q", "queue", "processor", "status", "ended"])
    def test_odd_characters_find_nothing_and_break_nothing(self, admin_client, name):
        for value in ("%s", "'; --", "é" * 300, "{0}"):
            assert admin_client.get(LIST, {name: value}).status_code == 200
        assert admin_client.get(LIST, {name: "\x00"}).status_code == 404

    @pytest.mark.parametrize("model", ["task", "supervisor", "schedule"])
    def test_what_no_key_can_be_is_found_nowhere(self, admin_client, model):
        """Neither NUL, nor a number of thousands of digits, in an address, a filter or a form."""
        pages = f"/admin/partisan_async/{model}/"
        for key in ("_00", "%00", "a_00b", "9" * 5000, "\N{ARABIC-INDIC DIGIT THREE}", "-", "x"):
            for view in ("change", "history", "delete"):
                page = admin_client.get(f"{pages}{key}/{view}/")
                assert page.status_code in (302, 403, 404), (key, view)
        for name in ("q", "id", "queue_name", "processor_class__exact", "hostname", "x\x00", "p"):
            assert admin_client.get(pages, {name: "\x00"}).status_code == 404, name
        for key in ("\x00", "9" * 5000, "x"):
            chosen = {"action": "drain", "_selected_action": key, "ids": key}
            assert admin_client.post(pages, chosen).status_code in (200, 302, 404), key

    @pytest.mark.parametrize("name", ["process__\x00", "workers__0__\x00"])
    def test_nor_is_a_key_within_json(self, admin_client, name):
        """It comes with the parameter's name, and goes into the statement."""
        assert admin_client.get("/admin/partisan_async/supervisor/", {name: 1}).status_code == 404

    def test_nor_is_a_queue_to_be_paused(self, admin_client):
        page = admin_client.post("/admin/partisan_async/dashboard/", {"pause": "\x00"})

        assert page.status_code == 302
        assert not PausedQueue.objects.exists()

    def test_a_confirmed_number_of_thousands_of_digits_is_nobodys(self, admin_client):
        task = Write().delay()
        confirmed = {"action": "cancel", "_selected_action": task.pk, "confirmed": "1"}

        page = admin_client.post(LIST, confirmed | {"ids": "9" * 5000 + f",{10**30},-,٣"})

        assert page.status_code == 302
        assert not ended(task)

    def test_a_search_that_takes_too_long_is_given_up(self, admin_client, monkeypatch):
        """What is small as it is stored may be large when it is searched."""
        Write.bulk_delay([Write("x" * 150_000, n) for n in range(300)])
        monkeypatch.setattr(task_list, "SEARCH_SECONDS", 0.001)
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            before = cursor.fetchall()

        page = admin_client.get(LIST, {"q": "needle"})

        assert page.status_code == 200
        assert "The search was given up after 1 ms, and nothing is shown" in text_of(page)
        assert listed(admin_client, q="needle") == []
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchall() == before

    def test_a_search_leaves_no_time_limit_behind(self, admin_client):
        """The rest of a request that is one transaction has as long as before."""
        task = Write("needle").delay()

        assert listed(admin_client, q="needle") == [task.pk]

        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchall() == [("0",)]

    def test_the_queues_are_on_top(self, admin_client):
        Write().delay()
        WriteElsewhere().delay()
        supervise()
        steering.pause("default")

        told = text_of(admin_client.get(LIST))

        assert re.search(r"default 1 waiting, the oldest for \S+ m?s ; 0 running paused", told)
        assert re.search(r"elsewhere 1 waiting, .*? 0 running no supervisor", told)

    def test_large_arguments_stay_in_the_database(self, admin_client):
        Write("".join(map(chr, range(1000, 20000)))).delay()

        page = admin_client.get(LIST)

        assert re.search(r"\d\d,\d\d\d bytes", text_of(page))
        assert len(page.content) < 100_000

    def test_what_failed_is_listed_with_its_error(self, admin_client):
        failed("Order 4711 has no address")

        assert "ValueError: Order 4711 has no address" in text_of(
            admin_client.get(LIST, {"status": "error"})
        )

    def test_a_page_is_a_handful_of_queries_however_many_rows(
        self, admin_client, django_assert_num_queries
    ):
        """Session, user, queues, processors, how many, and the rows."""
        for n in range(120):
            Write(n).delay()

        for asked in ({}, {"status": "new"}, {"p": 2}, {"q": "1 2 3"}):
            with django_assert_num_queries(6):
                admin_client.get(LIST, asked)
        with django_assert_num_queries(7):  # and a walk
            admin_client.get(LIST, {"processor": "Write"})
        failed()
        with django_assert_num_queries(7):  # and the queues of what has ended
            admin_client.get(LIST, {"status": "error"})

    def test_it_goes_by_indexes(self, admin_client, django_assert_max_num_queries):
        """At a size where the planner has a choice: no page reads the table."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
                " execute_after, status, finished_at) SELECT 'default', 'Write', '{}', 10, now(),"
                " CASE WHEN n % 20000 = 0 THEN 'error' WHEN n > 195000 THEN 'new'"
                " WHEN n > 190000 THEN 'scheduled' ELSE 'finished' END,"
                " CASE WHEN n % 20000 = 0 OR n <= 190000 THEN now() - n * interval '1 s' END"
                " FROM generate_series(1, 200000) n"
            )
            cursor.execute("ANALYZE partisan_async_task")
            for asked in (
                {},
                {"status": "error"},
                {"status": "finished"},
                {"status": "new", "queue": "default"},
                {"status": "scheduled"},
                {"ended": "1h"},
                {"q": "4711"},
            ):
                with django_assert_max_num_queries(7) as queries:
                    admin_client.get(LIST, asked)
                for query in queries:
                    if 'FROM "partisan_async_task"' in query["sql"]:
                        cursor.execute(f"EXPLAIN {query['sql']}")
                        plan = "\n".join(line for (line,) in cursor.fetchall())
                        assert "Seq Scan on partisan_async_task" not in plan, (asked, plan)


class TestPage:
    def test_a_failed_tasks_page_says_why_and_renders_nothing_of_it(self, admin_client):
        task = failed("<script>alert(1)</script>")

        page = admin_client.get(page_of(task))

        assert page.status_code == 200
        assert "Why it failed It has ended in error" in text_of(page)
        assert b"builtins.ValueError" in page.content
        assert b"<script>alert(1)" not in page.content

    def test_errors_come_newest_first_with_their_traceback_folded(self, admin_client):
        task = failed("first")
        steering.retry([task.pk])
        Task.objects.update(arguments={"args": ["KeyError", "second"], "kwargs": {}})
        run_pending(errors="keep")

        page = admin_client.get(page_of(task)).content.decode()

        told = page[page.index("Errors, the newest first") :]
        assert told.index("builtins.KeyError") < told.index("builtins.ValueError")
        assert told.count("<details><summary>Traceback</summary>") == 2
        assert told.count("Try 1") == 2
        assert "Traceback (most recent call last)" in told

    def test_arguments_and_result_are_readable(self, admin_client):
        task = Write("a & b", text=[1, {"x": None}]).delay()
        Task.objects.update(result={"ok": True}, status="finished", finished_at=timezone.now())

        page = admin_client.get(page_of(task)).content.decode()

        assert "&quot;args&quot;: [\n        &quot;a &amp; b&quot;" in page
        assert "&quot;ok&quot;: true" in page
        assert "Why it" not in page

    def test_ten_megabytes_are_shown_in_part_and_stay_in_the_database(self, admin_client, settings):
        settings.MAX_ARGUMENTS_BYTES = 2**25
        task = Write("x" * 10_000_000).delay()

        page = admin_client.get(page_of(task))

        assert len(page.content) < 100_000
        assert "The beginning of 10,000,0" in text_of(page)

    def test_a_waiting_one_says_why_it_waits(self, admin_client):
        told = text_of(admin_client.get(page_of(WriteElsewhere().delay())))

        assert "Why it does not run" in told
        assert "Nobody serves queue &#x27;elsewhere&#x27;" in told

    def test_it_has_the_buttons_that_can_be_pressed(self, admin_client):
        def buttons(task):
            page = admin_client.get(page_of(task)).content.decode()
            return re.findall(r'name="action" value="(\w+)"', page)

        error = failed()
        assert buttons(error) == ["retry", "delete"]
        assert buttons(Write().delay()) == ["cancel"]
        scheduled = Write(1).delay(execute_after=timezone.now() + timedelta(hours=1))
        assert buttons(scheduled) == ["run_now", "cancel"]

    def test_it_is_a_handful_of_queries(self, admin_client, django_assert_max_num_queries):
        supervise()
        for n in range(20):
            Write(n).delay()
        task = Write().delay()

        with django_assert_max_num_queries(12):
            admin_client.get(page_of(task))

    @pytest.mark.parametrize("pk", ["0", "x", "9" * 30, "1_0", "²"])
    def test_what_is_not_there_is_said_to_be_not_there(self, admin_client, pk):
        assert admin_client.get(f"{LIST}{pk}/change/", follow=True).redirect_chain

    def test_a_task_cannot_be_changed_or_added_by_hand(self, admin_client):
        task = Write("x").delay()

        changed = admin_client.post(page_of(task), {"status": "finished"})
        added = admin_client.get(reverse("admin:partisan_async_task_add"))
        deleted = admin_client.get(reverse("admin:partisan_async_task_delete", args=[task.pk]))

        assert (changed.status_code, added.status_code, deleted.status_code) == (403, 403, 403)
        assert Task.objects.get().status == "new"


class TestSteering:
    def test_it_asks_first(self, admin_client):
        task, other = failed("<b>"), Write().delay()

        page = admin_client.post(LIST, {"action": "retry", "_selected_action": [task.pk, other.pk]})

        told = text_of(page)
        assert "Retry: 1 task?" in told
        assert f"{task.pk} Fail" in told
        assert "1 of those you chose are in another state" in told
        task.refresh_from_db()
        assert task.status == "error"

    def test_retry(self, admin_client):
        task = failed()

        page = do(admin_client, "retry", task)

        assert "1 of 1 tasks run again." in text_of(page)
        task.refresh_from_db()
        assert task.status == "new"
        assert LogEntry.objects.get(object_id=task.pk).get_change_message() == "Retry"

    def test_run_now(self, admin_client):
        task = Write("now").delay(execute_after=timezone.now() + timedelta(hours=1))

        do(admin_client, "run_now", task)

        run_pending()
        assert marks() == ["now"]

    def test_cancel_what_waits(self, admin_client):
        task = Write().delay()

        do(admin_client, "cancel", task)

        task.refresh_from_db()
        assert task.errors[0]["exception_class"] == "partisan_async.exceptions.TaskCancelled"

    def test_delete_what_has_ended(self, admin_client):
        task, waits = failed(), Write().delay()

        page = do(admin_client, "delete", task, waits)

        assert "1 of 1 tasks are deleted." in text_of(page)
        assert Task.objects.get() == waits
        assert LogEntry.objects.get().is_deletion()

    def test_what_it_is_not_for_is_not_asked_about(self, admin_client):
        page = do(admin_client, "delete", Write().delay())

        assert "Nothing was done: delete is for tasks that are finished or error." in text_of(page)

    def test_what_ran_on_before_the_answer_is_left_alone(self, admin_client):
        task = failed()
        asked = admin_client.post(LIST, {"action": "delete", "_selected_action": task.pk})
        steering.retry([task.pk])

        page = admin_client.post(LIST, dict(asked.context["fields"]), follow=True)

        assert "0 of 1 tasks are deleted. The others had changed in between," in text_of(page)
        assert Task.objects.get().status == "new"

    def test_all_that_are_listed(self, admin_client):
        tasks = Write.bulk_delay([Write(n) for n in range(150)])

        page = do(admin_client, "cancel", tasks[0], select_across=1, index=0)

        assert "150 of 150 tasks are cancelled." in text_of(page)
        assert Task.objects.filter(status="error").count() == 150

    def test_from_a_tasks_page_it_goes_back_there(self, admin_client):
        task = failed()

        asked = admin_client.post(
            LIST, {"action": "retry", "_selected_action": task.pk, "from_page": 1}
        )
        done = admin_client.post(LIST, dict(asked.context["fields"]))

        assert f'href="{page_of(task)}"'.encode() in asked.content
        assert done.url == page_of(task)

    @pytest.mark.parametrize(
        ("permissions", "may"),
        [
            (["view_task"], []),
            (["view_task", "change_task"], ["retry", "run_now", "cancel"]),
            (["view_task", "delete_task"], ["delete"]),
        ],
    )
    def test_each_has_its_permission(self, permissions, may):
        client, task = client_of(*permissions), failed()

        page = client.get(LIST)
        form = page.context["action_form"]

        offered = [name for name, _ in form.fields["action"].choices if name] if form else []
        assert offered == may
        if "delete" not in may:
            client.post(LIST, {"action": "delete", "confirmed": 1, "ids": task.pk,
                               "_selected_action": task.pk})  # fmt: skip
            assert Task.objects.filter(pk=task.pk).exists()
        if "retry" not in may:
            client.post(LIST, {"action": "retry", "confirmed": 1, "ids": task.pk,
                               "_selected_action": task.pk})  # fmt: skip
            assert Task.objects.get(pk=task.pk).status == "error"

    def test_what_a_user_does_not_see_they_cannot_steer(self, admin_client, monkeypatch):
        """A site's own admin may show each group its tasks alone."""
        seen, hidden = failed(1), failed(2)
        every = TaskAdmin.get_queryset

        def all_but_one(self, request):
            return every(self, request).exclude(pk=hidden.pk)

        monkeypatch.setattr(TaskAdmin, "get_queryset", all_but_one)

        admin_client.post(LIST, {"action": "retry", "confirmed": 1, "_selected_action": seen.pk,
                                 "ids": f"{seen.pk},{hidden.pk}"})  # fmt: skip

        assert Task.objects.get(pk=seen.pk).status == "new"
        assert Task.objects.get(pk=hidden.pk).status == "error"
        assert LogEntry.objects.count() == 1

    def test_another_site_cannot_do_it(self, admin_user):
        client, task = Client(enforce_csrf_checks=True), failed()
        client.force_login(admin_user)

        answer = client.post(LIST, {"action": "delete", "confirmed": 1, "ids": task.pk,
                                    "_selected_action": task.pk})  # fmt: skip

        assert answer.status_code == 403
        assert Task.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_cancel_what_runs(self, admin_client):
        with live_supervisor(WORKERS_COUNT=1):
            task = Sleep(60, "long").delay()
            wait_until(lambda: "start long" in marks())

            do(admin_client, "cancel", task)

            after = Write("after").delay()
            wait_until(lambda: ended(after))
        assert "end long" not in marks()


class TestDocs:
    def test_its_page_tells_of_each_action_and_of_each_filter(self):
        told = tables("docs/howto/watch.md")

        actions = [
            (label, {code(word) for word in statuses.split(", ")}, permission)
            for label, statuses, permission, _ in told["action"]
        ]
        permissions = {"forget": "delete"}
        assert actions == [
            (each.label, set(each.statuses), permissions.get(each.permission, each.permission))
            for each in STEERINGS
        ]
        filters = [title for title, _ in told["filter"]]
        assert filters == [each.title for each in TaskAdmin.list_filter]

    def test_and_of_how_much_it_looks_at(self):
        text = read("docs/howto/watch.md")

        for count in (task_list.LISTED, task_list.WALKED, SHOWN_CHARACTERS):
            assert f"{count:,}" in text


class TestSupervisors:
    @pytest.mark.django_db(transaction=True)
    def test_they_are_listed_with_what_they_run(self, admin_client):
        with live_supervisor(WORKERS_COUNT=1) as supervisor:
            task = Sleep(3, "long").delay()

            def told():
                return text_of(admin_client.get(SUPERVISORS))

            wait_until(lambda: f"Sleep #{task.pk}" in told())

            assert re.search(r"alive Sleep #\d+ \d+ ms ago \S+ m?s", told())
            page = text_of(admin_client.get(f"{SUPERVISORS}{supervisor.id}/change/"))
            assert f"Sleep #{task.pk}" in page

    def test_draining_one_is_asked_about_and_put_down(self, admin_client):
        supervisor = supervise()

        asked = admin_client.post(
            SUPERVISORS, {"action": "drain", "_selected_action": supervisor.pk, "back": "dashboard"}
        )
        assert "Drain here/7?" in text_of(asked)
        assert not Supervisor.objects.get().draining

        done = admin_client.post(SUPERVISORS, dict(asked.context["fields"]))
        assert Supervisor.objects.get().draining
        assert done.url == reverse("admin:partisan_async_dashboard_changelist")
        assert LogEntry.objects.get().get_change_message() == "Drain"

    def test_of_several_each_ends_by_itself(self, admin_client):
        chosen = [supervise().pk, supervise().pk]
        data = {"action": "drain", "_selected_action": chosen, "confirmed": 1}

        told = text_of(admin_client.post(SUPERVISORS, data, follow=True))

        assert "2 supervisors drained: each ends when all that it runs has ended." in told

    def test_who_may_only_look_cannot_drain(self):
        supervisor = supervise()
        client = client_of("view_supervisor")

        client.post(
            SUPERVISORS,
            {"action": "drain", "_selected_action": supervisor.pk, "confirmed": 1},
        )

        assert not Supervisor.objects.get().draining
        page = client.get(f"{SUPERVISORS}{supervisor.pk}/change/").content
        assert b'value="drain"' not in page

    def test_one_that_is_gone_is_said_to_be_gone(self, admin_client):
        answer = admin_client.get(f"{SUPERVISORS}{uuid.uuid4()}/change/", follow=True)

        assert answer.redirect_chain

    def test_the_list_is_a_handful_of_queries(self, admin_client, django_assert_num_queries):
        for _ in range(10):
            supervise()

        with django_assert_num_queries(5):
            admin_client.get(SUPERVISORS)


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


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("call", "told"),
    [
        (Write(order=7, to="ada"), '"to": "ada", "order": 7'),
        (Write(1, "two"), '1, "two"'),
        (Write(), ""),
        (Write([1], a={}), '[[1]], "kwargs": {"a": {}}'),
        (Write(a="x" * 150), f'"a": "{"x" * 70}'),
        (Write("x" * 150), f'["{"x" * 89}'),
    ],
)
def test_the_list_tells_of_a_call_what_is_its_own(admin_client, call, told):
    """The column is narrow, and all calls begin in the same way."""
    call.delay()

    page = admin_client.get(reverse("admin:partisan_async_task_changelist"))

    cell = re.search(r'<td class="field-call">(.*?)</td>', page.content.decode())[1]
    assert html.unescape(cell).strip("-") == told
