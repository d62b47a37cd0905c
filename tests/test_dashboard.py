"""The dashboard in the admin: what it tells, who may see it, and what it costs."""

import re
import uuid
from datetime import timedelta
from itertools import pairwise

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from partisan_async import steering
from partisan_async.admin import plot
from partisan_async.models import PausedQueue, Supervisor, Tally, Task
from partisan_async.operate import last_hour, overview
from partisan_async.templatetags.partisan_async import number, short, span
from tests.testapp.partisan_tasks import Write, WriteElsewhere

pytestmark = pytest.mark.django_db

PAGE, LIVE = "admin:partisan_async_dashboard_changelist", "admin:partisan_async_dashboard_live"
EVIL = "<script>alert('evil')</script>\"'&\x1b[31m"


def tally(*, minutes_ago=0, queue_name="default", processor_class="Write", **counts):
    """What supervisors added up of a minute."""
    minute = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    return Tally.objects.create(
        minute=minute, queue_name=queue_name, processor_class=processor_class, **counts
    )


def supervise(**columns):
    columns = {
        "id": uuid.uuid4(),
        "hostname": "here",
        "process": {"pid": 7},
        "queue_name": "default",
        "workers": [
            {
                "pid": 71,
                "running": 12,
                "tasks": [{"id": 4711, "processor": "Pay", "seconds": 12.5}],
            },
            {"pid": 72, "running": 0, "tasks": []},
        ],
    } | columns
    return Supervisor.objects.create(**columns)


def client_of(*permissions, name="operator"):
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def nodes(plan):
    """The nodes of a query's plan."""
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


def text_of(page):
    """What a reader reads."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.content.decode()))


class TestQueues:
    def test_what_waits_and_since_when(self, admin_client):
        Write(1).delay()
        Write(2).delay(priority=3)
        Write(3).delay(execute_after=timezone.now() + timedelta(hours=1))
        WriteElsewhere().delay()
        long_ago = timezone.now() - timedelta(minutes=5)
        Task.objects.filter(priority=10, status="new").update(
            created_at=long_ago, execute_after=long_ago
        )
        supervise()

        default, elsewhere = overview.queues()

        assert (default.name, default.ready, default.scheduled) == ("default", 2, 1)
        assert default.oldest == pytest.approx(300, abs=30)
        assert (default.supervisors, elsewhere.supervisors) == (1, 0)
        told = text_of(admin_client.get(reverse(LIVE)))
        assert "default 2 5 m 1 0 0 0 1 Pause" in told
        assert "elsewhere 1 5 m 0 0 0 0 none Pause" in told

    def test_the_oldest_may_be_of_any_priority(self):
        Write(1).delay(priority=1)
        old = Write(2).delay(priority=2)
        Write(3).delay(priority=3)
        Task.objects.filter(pk=old.pk).update(
            created_at=timezone.now() - timedelta(hours=1),
            execute_after=timezone.now() - timedelta(hours=1),
        )

        (queue,) = overview.queues()

        assert queue.oldest == pytest.approx(3600, abs=30)

    def test_it_counts_no_further_than_it_is_told(self):
        Write.bulk_delay([Write(n) for n in range(5)])

        (queue,) = overview.queues(at_most=3)

        assert queue.ready == 3
        assert number(queue.ready, 3) == "3+"

    def test_ends_are_those_that_supervisors_added_up(self):
        tally(finished=2, failed=1)
        tally(minutes_ago=1, finished=3)
        tally(minutes_ago=50, finished=10, failed=4)
        tally(minutes_ago=61, finished=1000, failed=1000)

        (queue,) = overview.queues()

        assert (queue.finished, queue.failed) == (15, 5)
        assert 3 <= queue.per_minute <= 6  # six of one to two minutes

    def test_a_paused_one_says_so_and_can_be_resumed(self, admin_client):
        steering.pause("default")

        page = admin_client.get(reverse(LIVE))

        assert "default paused 0" in text_of(page)
        assert b'name="resume" value="default"' in page.content


class TestSupervisors:
    def test_what_each_worker_runs_and_for_how_long(self, admin_client):
        supervisor = supervise()
        Supervisor.objects.update(last_seen_at=timezone.now() - timedelta(seconds=4))

        page = admin_client.get(reverse(LIVE))

        assert "here/7 alive Drain queue default · holds 0 · up" in text_of(page)
        assert re.search(r"seen [45]\.\d s ago", text_of(page))
        assert "71 Pay #4711 1" in text_of(page)
        assert "and 11 more" in text_of(page)
        assert "72 idle" in text_of(page)
        assert f'name="_selected_action" value="{supervisor.pk}"'.encode() in page.content

    def test_since_its_last_sign_of_life_they_have_run_on(self):
        supervise()
        Supervisor.objects.update(last_seen_at=timezone.now() - timedelta(seconds=10))

        (supervisor,) = overview.supervisors()

        (run,) = supervisor.workers[0].tasks
        assert run.seconds == pytest.approx(22.5, abs=2)

    def test_one_that_is_silent_or_drains_says_so_and_is_not_drained(self, admin_client):
        supervise(draining=True)
        supervise(last_seen_at=timezone.now() - timedelta(minutes=5), hostname="gone")

        page = admin_client.get(reverse(LIVE))

        assert "here/7 draining queue default" in text_of(page)
        assert "gone/7 silent queue default" in text_of(page)
        assert b'name="_selected_action"' not in page.content

    def test_none(self, admin_client):
        told = text_of(admin_client.get(reverse(LIVE)))

        assert "No supervisor runs. Start one: manage.py start_partisan --async" in told


class TestLastHour:
    def test_every_minute_is_told_also_where_nothing_ran(self):
        first = tally(minutes_ago=50, finished=1)
        then = tally(minutes_ago=3, finished=2, retried=1, run_seconds=6, longest_run_seconds=5)
        tally(minutes_ago=3, queue_name="mail", failed=1, run_seconds=2, wait_seconds=4)

        hour = last_hour.last_hour()

        told = {minute.at: minute.counts for minute in hour.minutes}
        assert len(hour.minutes) == len(told) == 60
        assert {at: counts.runs for at, counts in told.items() if counts.runs} == {
            first.minute: 1,
            then.minute: 4,
        }
        counts = told[then.minute]
        assert (counts.finished, counts.failed, counts.retried) == (2, 1, 1)
        assert (counts.mean_run, counts.longest_run, counts.mean_wait) == (2, 5, 1)
        assert hour.minutes[0].counts.mean_run == 0

    def test_the_slowest_and_those_that_fail(self, admin_client):
        tally(processor_class="Quick", finished=10, run_seconds=1)
        tally(processor_class="Slow", finished=1, run_seconds=9)
        tally(processor_class="Broken", failed=2, run_seconds=1)
        tally(processor_class="Shaky", finished=5, retried=3, lost=1, run_seconds=1)
        tally(processor_class="Old", minutes_ago=90, failed=100, run_seconds=1000)

        hour = last_hour.last_hour()

        assert [each.name for each in hour.slowest] == ["Slow", "Broken", "Shaky", "Quick"]
        assert [each.name for each in hour.failing] == ["Broken", "Shaky"]
        assert "Slow 9.0 s" in text_of(admin_client.get(reverse(LIVE)))

    def test_there_is_room_for_a_few(self):
        for n in range(20):
            tally(processor_class=f"P{n}", failed=n + 1, run_seconds=n)

        hour = last_hour.last_hour()

        assert [each.name for each in hour.failing] == [f"P{n}" for n in range(19, 11, -1)]
        assert len(hour.slowest) == 8


class TestPlot:
    def minutes(self, *counts):
        zeros = dict.fromkeys(
            ("finished", "failed", "retried", "postponed", "lost", "cancelled"), 0
        ) | dict.fromkeys(("mean_run", "longest_run", "mean_wait", "longest_wait"), 0.0)
        return [
            last_hour.Minute(timezone.now(), last_hour.Counts(**zeros | each)) for each in counts
        ]

    def test_bars_stand_on_each_other_and_up_to_the_top(self):
        drawn = plot.throughput(self.minutes({"finished": 75, "failed": 25}, {}))

        assert [tick.value for tick in drawn.ticks] == [100, 50, 0]
        full, empty = drawn.columns
        pieces = [(each.kind, each.y, each.height) for each in full.pieces if each.height]
        assert pieces == [("finished", 40, 120), ("failed", 0, 40)]
        assert not any(each.height for each in empty.pieces)
        assert (full.x, empty.x, full.width) == (0, 360, 360)

    def test_one_failure_among_thousands_can_be_seen(self):
        drawn = plot.throughput(self.minutes({"finished": 9_999, "failed": 1}))

        (failed,) = [each for each in drawn.columns[0].pieces if each.kind == "failed"]
        assert failed.height >= 2

    def test_a_line_breaks_where_nothing_ran(self):
        ran = {"finished": 1, "mean_run": 1.0, "mean_wait": 0.1}
        drawn = plot.latency(self.minutes(ran, ran, {}, ran))

        waited, ran_for = drawn.lines
        assert ran_for.pieces == ["90,0 270,0", "627,0 633,0"]
        assert waited.pieces == ["90,53 270,53", "627,53 633,53"]

    @pytest.mark.parametrize(
        ("count", "top"), [(0, 1), (3, 4), (10, 10), (15, 20), (999, 1000), (12_345, 20_000)]
    )
    def test_the_top_is_a_round_number(self, count, top):
        drawn = plot.throughput(self.minutes({"finished": count}))

        assert drawn.ticks[0].value == top

    @pytest.mark.parametrize(
        ("seconds", "top"), [(0, 1), (0.003, 1), (1, 1), (1.1, 10), (100, 100), (4000, 10_000)]
    )
    def test_latency_goes_by_powers_of_ten(self, seconds, top):
        """What takes milliseconds stays to be seen beside what takes minutes."""
        drawn = plot.latency(self.minutes({"finished": 1, "mean_run": seconds}))

        values = [tick.value for tick in drawn.ticks]
        assert (values[0], values[-1]) == (pytest.approx(top), pytest.approx(0.001))
        assert all(a == pytest.approx(10 * b) for a, b in pairwise(values))

    def test_numbers_in_it_are_numbers_in_every_language(self, admin_client, settings):
        """A comma for a point would tear a coordinate in two."""
        settings.LANGUAGE_CODE = "de"
        settings.USE_THOUSAND_SEPARATOR = True
        tally(finished=3)

        page = admin_client.get(reverse(LIVE)).content.decode()

        coordinates = re.findall(r' (?:x|y|x1|x2|y1|y2|width|height|viewBox)="([^"]*)"', page)
        assert len(coordinates) > 200
        assert all(re.fullmatch(r"[\d ]+", each) for each in coordinates)


class TestWhoMay:
    def test_who_is_not_signed_in_is_sent_to_do_so(self, client):
        for name in (PAGE, LIVE):
            assert client.get(reverse(name)).status_code == 302

    @pytest.mark.parametrize("permissions", [(), ("view_task",), ("view_supervisor",)])
    def test_who_may_not_see_both_sees_nothing(self, permissions):
        client = client_of(*permissions)

        assert [client.get(reverse(name)).status_code for name in (PAGE, LIVE)] == [403, 403]
        assert client.post(reverse(PAGE), {"pause": "default"}).status_code == 403

    @pytest.mark.parametrize("what", ["task", "supervisor"])
    def test_who_may_not_see_both_is_shown_no_way_there(self, what):
        button = reverse(PAGE)
        both = client_of("view_task", "view_supervisor")
        one = client_of(f"view_{what}", name="one")
        where = f"/admin/partisan_async/{what}/"

        assert f'href="{button}">Dashboard' in both.get(where).text
        assert f'href="{button}">Dashboard' not in one.get(where).text

    def test_who_may_only_look_has_no_buttons_and_can_do_nothing(self):
        Write().delay()
        supervise()
        client = client_of("view_task", "view_supervisor")

        page = client.get(reverse(PAGE))
        answer = client.post(reverse(PAGE), {"pause": "default"})

        assert page.status_code == 200
        assert b'form="partisan-' not in page.content
        assert answer.status_code == 403
        assert not PausedQueue.objects.exists()

    def test_who_may_change_tasks_may_pause(self):
        client = client_of("change_task", "view_supervisor")

        answer = client.post(reverse(PAGE), {"pause": "default"}, follow=True)

        assert "Queue default is paused" in text_of(answer)
        assert PausedQueue.objects.get().queue_name == "default"
        assert b'form="partisan-drain"' not in answer.content
        assert LogEntry.objects.get().get_change_message() == "Pause"

    def test_it_is_resumed(self, admin_client):
        steering.pause("default")

        answer = admin_client.post(reverse(PAGE), {"resume": "default"}, follow=True)

        assert "Queue default is resumed." in text_of(answer)
        assert not PausedQueue.objects.exists()

    def test_another_site_cannot_do_it(self, admin_user):
        client = Client(enforce_csrf_checks=True)
        client.force_login(admin_user)

        assert client.post(reverse(PAGE), {"pause": "default"}).status_code == 403
        assert not PausedQueue.objects.exists()

    @pytest.mark.parametrize("name", ["", "x" * 256, "nul\x00"])
    def test_what_is_no_name_is_no_queue(self, admin_client, name):
        assert admin_client.post(reverse(PAGE), {"pause": name}).status_code == 302
        assert not PausedQueue.objects.exists()

    def test_a_look_changes_nothing(self, admin_client):
        admin_client.get(reverse(PAGE), {"pause": "default"})

        assert admin_client.put(reverse(PAGE)).status_code == 405
        assert not PausedQueue.objects.exists()

    def test_it_is_in_the_index_of_who_may_see_it(self, admin_client):
        link = f'href="{reverse(PAGE)}"'.encode()

        assert link in admin_client.get(reverse("admin:index")).content
        assert link in admin_client.get(reverse("admin:partisan_async_task_changelist")).content
        assert link not in client_of("view_task").get(reverse("admin:index")).content

    def test_it_brings_no_permissions_of_its_own(self):
        assert not Permission.objects.filter(codename__contains="dashboard").exists()


class TestHostile:
    def test_no_name_is_markup(self, admin_client):
        Task.objects.create(
            queue_name=EVIL,
            processor_class=EVIL,
            arguments={},
            priority=1,
            execute_after=timezone.now(),
        )
        tally(queue_name=EVIL, processor_class=EVIL, failed=1, run_seconds=1)
        supervise(
            hostname=EVIL,
            queue_name=EVIL,
            process={"pid": EVIL},
            workers=[
                {"pid": 1, "running": 1, "tasks": [{"id": 1, "processor": EVIL, "seconds": 1}]}
            ],
        )
        steering.pause(EVIL)

        for name in (PAGE, LIVE):
            page = admin_client.get(reverse(name)).content
            assert b"<script>alert" not in page
            assert page.count(b"&lt;script&gt;alert") >= 8

    def test_a_queue_of_any_name_is_paused_by_the_button(self, admin_client):
        for name in (EVIL, "a b&c=d?e#f/ж", "{{ x }}"):
            admin_client.post(reverse(PAGE), {"pause": name})

        names = set(PausedQueue.objects.values_list("queue_name", flat=True))
        assert names == {EVIL, "a b&c=d?e#f/ж", "{{ x }}"}

    def test_long_names_are_cut(self, admin_client):
        tally(processor_class="P" * 255, failed=1)

        page = text_of(admin_client.get(reverse(LIVE)))

        assert "P" * 59 + "…" in page
        assert "P" * 60 not in page

    def test_thousands_of_priorities_do_not_stop_it(self, admin_client):
        """Whoever enqueues chooses them."""
        Write.bulk_delay([Write(n) for n in range(3)])
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
                " execute_after) SELECT 'q' || n % 50, 'Write', '{}', n, now()"
                " FROM generate_series(1, 5000) n"
            )

        page = admin_client.get(reverse(LIVE))

        assert page.status_code == 200


class TestCost:
    def test_a_look_is_six_queries_however_much_there_is(
        self, admin_client, django_assert_num_queries
    ):
        """Two of them say who looks; each other is one look at a table or two, by an index."""
        for _ in range(3):
            supervise()
        for n in range(10):
            tally(processor_class=f"P{n}", queue_name=f"q{n}", finished=1)
            Write(n).delay()

        with django_assert_num_queries(2 + 4):
            admin_client.get(reverse(LIVE))

    def test_it_goes_by_indexes(self):
        """At a size where the planner has a choice; nothing reads the table of tasks."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
                " execute_after, status, finished_at, claimed_by) SELECT 'default', 'Write', '{}',"
                " 10, now(), CASE WHEN n > 48000 THEN 'new' WHEN n > 47000 THEN 'scheduled' WHEN"
                " n > 46990 THEN 'in_process' ELSE 'finished' END,"
                " CASE WHEN n <= 46990 THEN now() END,"
                " CASE WHEN n > 46990 AND n <= 47000 THEN gen_random_uuid() END"
                " FROM generate_series(1, 50000) n"
            )
            cursor.execute("ANALYZE partisan_async_task")
            params = {
                "ttl": timedelta(seconds=30),
                "recent": timedelta(hours=1),
                "at_most": 100_000,
            }
            for sql in (overview.QUEUES, overview.SUPERVISORS):
                cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
                ((found,),) = cursor.fetchone()
                read = {
                    node["Node Type"]
                    for node in nodes(found["Plan"])
                    if node.get("Relation Name") == "partisan_async_task"
                }
                assert read
                assert not {each for each in read if "Seq" in each}


class TestWords:
    @pytest.mark.parametrize(
        ("seconds", "told"),
        [
            (None, "-"), (-1, "0 ms"), (0.0123, "12 ms"), (1.25, "1.2 s"), (59, "59 s"),
            (119, "119 s"), (120, "2 m"), (7200, "2 h"), (200_000, "2 d"),
        ],
    )  # fmt: skip
    def test_spans(self, seconds, told):
        assert span(seconds) == told

    @pytest.mark.parametrize(
        ("count", "told"), [(0, "0"), (0.25, "0.2"), (3, "3"), (12.5, "12"), (1234567, "1,234,567")]
    )
    def test_numbers(self, count, told):
        assert number(count) == told

    def test_short(self):
        assert short("abc", 3) == "abc"
        assert short("abcd", 3) == "ab…"
        assert short(None) == "None"
