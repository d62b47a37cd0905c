"""What /metrics shows, what it leaves out, and what it costs."""

import re
import socket
import sys
import time
from datetime import timedelta

import pytest
import yaml
from django.db import connection
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from partisan_async import registry, schedules, steering
from partisan_async.claim import Attempt, Claim
from partisan_async.models import Schedule, Task
from partisan_async.policy import Deferred, Failed, Failure, Finished, Interrupted
from partisan_async.schedule import Every
from partisan_async.settings import queue_settings
from partisan_async.store import Statement
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.host import Host
from partisan_async.supervisor.report import counts, metrics, queue_depth, under_limits
from partisan_async.supervisor.report.counts import Counts
from partisan_async.supervisor.report.under_limits import UnderLimits
from tests.conftest import ended, wait_until
from tests.limited import limit, row
from tests.process import partisan
from tests.test_dashboard import nodes
from tests.test_docs import blocks, code, tables
from tests.test_health import get, port_of
from tests.test_limited_counts import read

FAILURE = Failure("builtins.ValueError", "no")


def claim(processor="Nothing", waited=0.2):
    return Claim(1, 1, "default", processor, "", 10, 0, 0, 0, False, 0, 0, waited)


def scrape(port):
    """Return the samples: each by its name and its labels but the queue's."""
    status, text = get(port, "/metrics")
    assert status == 200
    return {
        (sample.name, *(v for k, v in sorted(sample.labels.items()) if k != "queue")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ran(seconds):
    return Attempt(seconds, "host/1")


class TestCounts:
    def test_a_run_is_counted_by_its_outcome_and_its_times(self):
        """The bounds are inclusive, as Prometheus has them."""
        counted = Counts(with_spreads=True)

        counted.count(claim(), Finished(), ran(counts.BOUNDS[1]))
        counted.count(claim(), Finished(), ran(1e6))

        figures = dict(counted.figures())["Nothing"]
        assert figures.outcomes[Finished] == 2
        assert figures.ran.counts == [0, 1, *[0] * (len(counts.BOUNDS) - 2), 1]
        assert figures.waited.total == pytest.approx(0.4)

    def test_rows_that_name_anything_make_one_series(self):
        """Whoever can write rows could else fill the memory of all who scrape."""
        counted = Counts(with_spreads=True)
        for number in range(1000):
            unknown = claim(f"Nobody{number}")
            counted.count(unknown, Deferred(timedelta(minutes=1), FAILURE), None)

        figures = dict(counted.figures())
        assert set(figures) == {counts.UNKNOWN}
        assert figures[counts.UNKNOWN].outcomes[Deferred] == 1000
        assert sum(figures[counts.UNKNOWN].ran.counts) == 0

    def test_what_the_tally_takes_stays_in_the_figures(self):
        """One count is read in two ways: the tables have each minute, and scrapers the sum."""
        counted = Counts(with_spreads=False)
        counted.count(claim(), Finished(), ran(1.0))
        counted.count(claim(), Failed(FAILURE), ran(3.0))

        first = counted.take()
        counted.count(claim(waited=0.1), Finished(), ran(2.0))
        second = counted.take()

        assert first == [("Nothing", 1, 1, 0, 0, 0, 0, 4.0, 0.4, 3.0, 0.2)]
        assert second == [("Nothing", 1, 0, 0, 0, 0, 0, 2.0, 0.1, 2.0, 0.1)]
        assert counted.take() == []
        outcomes = dict(counted.figures())["Nothing"].outcomes
        assert (outcomes[Finished], outcomes[Failed]) == (2, 1)

    @pytest.mark.parametrize(
        ("decision", "attempt"),
        [
            (Failed(FAILURE), None),
            (Deferred(timedelta(minutes=1), FAILURE), None),
            (Deferred(timedelta(minutes=1), FAILURE), ran(1.0)),
            (Interrupted(timedelta(0), FAILURE), ran(1.0)),
        ],
    )
    def test_what_is_no_run_is_in_the_figures_alone(self, decision, attempt):
        """The last hour shows what tasks did: these did nothing, or not to their end."""
        counted = Counts(with_spreads=False)

        counted.count(claim(), decision, attempt)

        assert counted.take() == []
        assert dict(counted.figures())["Nothing"].outcomes[type(decision)] == 1

    @pytest.mark.parametrize("with_spreads", [True, False])
    def test_to_count_a_task_takes_about_a_microsecond(self, with_spreads):
        """The supervisor has 25 of them for a task."""
        counted, one, decision = Counts(with_spreads=with_spreads), claim(), Finished()
        best = min(self._seconds(counted, one, decision) for _ in range(20))

        assert best < 3e-6

    def _seconds(self, counted, one, decision):
        began = time.thread_time()
        attempt = ran(0.01)
        for _ in range(1000):
            counted.count(one, decision, attempt)
        return (time.thread_time() - began) / 1000


@pytest.mark.django_db(transaction=True)
class TestShown:
    """On the event loop, which has more to do."""

    async def shown(self, *accepted):
        """What a supervisor shows one after the other, to who accepts this."""
        with socket.create_server(("127.0.0.1", 0)) as port:
            host = Host({"default": queue_settings()}, health=port)
            shown = host.metrics
            try:
                for accept in accepted:
                    host.supervisors[0].parts.counts.count(claim(), Finished(), ran(0.1))
                    yield await shown.show(accept)
            finally:
                await host.shared.close()

    @pytest.mark.parametrize(
        "accept",
        [
            "application/openmetrics-text; version=a.b.c",
            "application/openmetrics-text; version=9999999999.1; escaping=x",
            "application/openmetrics-text;;;,version",
            "text/plain; version=x.y",
            "\x00; version=1",
            ",",
        ],
    )
    async def test_whatever_the_client_accepts_it_has_an_answer(self, accept):
        """The library has none for some."""
        ((content_type, text),) = [each async for each in self.shown(accept)]

        assert ("openmetrics" in content_type) == ("openmetrics" in accept)
        assert text.endswith(b"# EOF\n") == ("openmetrics" in accept)
        assert b"partisan_tasks" in text

    async def test_they_are_made_once_a_second_however_many_ask(self, monkeypatch):
        """For a thousand processors it takes a third of a second."""
        monkeypatch.setattr(metrics, "MADE_EVERY_SECONDS", 600)
        odd = "application/openmetrics-text; version=%d"

        texts = [text async for _, text in self.shown("", "", odd % 1, odd % 2, "")]

        assert len(set(texts)) == 2

    async def test_and_then_anew(self, monkeypatch):
        monkeypatch.setattr(metrics, "MADE_EVERY_SECONDS", 0)

        texts = [text async for _, text in self.shown("", "")]

        assert len(set(texts)) == 2


@pytest.mark.django_db(transaction=True)
class TestScrape:
    def test_it_shows_what_became_of_tasks_and_how_the_supervisor_is(self):
        """Each series that the docs name, from real runs."""
        with partisan("--async", "--health-port", "0") as running:
            port = port_of(running)
            running.wait_for("is woken by NOTIFY")
            done = [registry.get("Nothing")(number).delay() for number in range(5)]
            failed = registry.get("Fail")("ValueError", "no").delay()
            killed = registry.get("Die")("SIGKILL").delay()
            wait_until(lambda: ended(*done, failed, killed), seconds=60)
            running.wait_for(f"failed {killed.pk}")

            shown = scrape(port)

            assert shown["partisan_tasks_total", "finished", "Nothing"] == 5
            assert shown["partisan_tasks_total", "failed", "Fail"] == 1
            assert shown["partisan_tasks_total", "failed", "Die"] == 1
            assert shown["partisan_run_seconds_count", "Nothing"] == 5
            assert shown["partisan_run_seconds_bucket", "+Inf", "Nothing"] == 5
            assert 0 <= shown["partisan_wait_seconds_sum", "Nothing"] < 60
            assert shown["partisan_worker_deaths_total",] >= 3
            assert shown["partisan_worker_kills_total",] == 0
            assert shown["partisan_workers",] == 2
            assert shown["partisan_lease_held",] == 1
            assert shown["partisan_notify_proven",] == 1
            assert shown["partisan_settle_retries_total",] == 0
            assert shown["partisan_fenced_total",] == 0
            wait_until(lambda: scrape(port)["partisan_workers_up",] == 2)
            assert get(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")[
                1
            ].endswith("# EOF\n")

    def test_the_docs_list_each_metric_with_its_type_and_labels(self):
        """Who writes an alert goes by the names, and what is nowhere is not found."""
        listed = {
            code(name): (kind, {"queue"} ^ set(re.findall(r"`(\w+)`", labels)))
            for name, kind, labels, _ in tables("docs/howto/metrics.md")["metric"]
        }
        schedules.create("acme", registry.get("Nothing")(2), Every(seconds=0.2))
        row()
        with partisan("--async", "--health-port", "0") as running:
            wait_until(lambda: ended(registry.get("Nothing")(1).delay()))
            wait_until(Schedule.objects.filter(last_success__isnull=False).exists)
            for asked in (
                ("partisan_schedule_success_seconds", ":acme"),
                ("partisan_limit_tasks", "x", "waiting"),
            ):
                wait_until(lambda asked=asked: asked in scrape(port_of(running)))
            wait_until(lambda: ("partisan_workers_memory_bytes",) in scrape(port_of(running)))

            _, text = get(port_of(running), "/metrics")

        shown = {}
        for family in text_string_to_metric_families(text):
            name = family.name + ("_total" if family.type == "counter" else "")
            shown[name] = (family.type, set(family.samples[0].labels) - {"le"})
        assert shown == listed
        (alerts,) = blocks("docs/howto/metrics.md", "yaml")
        rules = yaml.safe_load(alerts.text)["groups"][0]["rules"]
        asked = {name for rule in rules for name in re.findall(r"partisan_\w+", rule["expr"])}
        assert asked <= set(listed)

    def test_it_tells_the_depth_of_the_queue(self, monkeypatch):
        """Of the whole queue, whoever runs it; it is what one scales by."""
        with partisan("--async", "--health-port", "0", "--workers_count", "1") as running:
            port = port_of(running)
            sleep = registry.get("Sleep")(8, "x").delay()
            running.wait_for(f"claimed 1: {sleep.pk} ")
            registry.get("Sleep")(1, "y").delay()
            registry.get("Sleep")(1, "z").delay(execute_after=timezone.now() + timedelta(hours=1))
            time.sleep(queue_depth.FRESH_SECONDS)  # an answer that was kept is over

            shown = scrape(port)

            assert shown["partisan_queue_tasks", "ready"] == 1
            assert shown["partisan_queue_tasks", "scheduled"] == 1
            assert shown["partisan_queue_tasks", "running"] == 1
            assert shown["partisan_queue_tasks", "parked"] == 0
            assert shown["partisan_queue_tasks", "limited"] == 0
            assert (shown["partisan_queue_paused",], shown["partisan_paused_processors",]) == (0, 0)
            assert shown["partisan_queue_oldest_seconds",] > 1
            assert shown["partisan_workers_busy",] == 1

    def test_it_tells_which_schedules_are_overdue(self):
        """And for how long each has not succeeded, where it ever has."""
        for name in ("good", "bad"):
            schedules.create(name, registry.get("Nothing")(name), Every(seconds=3600))
        now = timezone.now()
        Schedule.objects.update(prior_tick=now - timedelta(hours=2), last_tick=now)
        Schedule.objects.filter(pk=":good").update(last_success=now - timedelta(minutes=90))
        with partisan("--async", "--health-port", "0", "--workers_count", "1") as running:
            port = port_of(running)
            wait_until(lambda: ("partisan_schedule_overdue", ":bad") in scrape(port))

            shown = scrape(port)

            assert shown["partisan_schedule_overdue", ":good"] == 0
            assert shown["partisan_schedule_overdue", ":bad"] == 1
            assert 5400 <= shown["partisan_schedule_success_seconds", ":good"] < 5500
            assert ("partisan_schedule_success_seconds", ":bad") not in shown

    def test_it_tells_of_limits_and_never_of_keys(self):
        """There may be many keys, and one may be a person's name."""
        limit(running_per_key=1)
        for key in ("ada", "bee", "bee", None):
            row(key, processor_class="Sleep", arguments={"args": [60, "x"], "kwargs": {}})
        row("ada", "other"), row("ada", queue_name="elsewhere")
        with partisan("--async", "--health-port", "0", "--workers_count", "2") as running:
            port = port_of(running)
            asked = {
                ("partisan_limit_tasks", "other", "waiting"): 1,
                ("partisan_limit_tasks", "other", "running"): 0,
                ("partisan_limit_tasks", "x", "waiting"): 2,
                ("partisan_limit_tasks", "x", "running"): 2,
            }

            wait_until(
                lambda: (
                    asked
                    == {
                        key: n
                        for key, n in scrape(port).items()
                        if key[0] == "partisan_limit_tasks"
                    }
                )
            )

            assert "ada" not in get(port, "/metrics")[1]

    def test_it_tells_what_is_paused(self):
        with partisan("--async", "--health-port", "0", "--workers_count", "1") as running:
            steering.pause(processor="Sleep")
            running.wait_for("paused: processor Sleep")
            registry.get("Sleep")(1, "y").delay()
            wait_until(lambda: Task.objects.filter(parked_from__isnull=False).exists())
            steering.pause("default")
            running.wait_for("paused: queue 'default'")

            shown = scrape(port_of(running))

            assert shown["partisan_queue_tasks", "parked"] == 1
            assert shown["partisan_queue_tasks", "scheduled"] == 0
            assert (shown["partisan_queue_paused",], shown["partisan_paused_processors",]) == (1, 1)

    @pytest.mark.django_db
    def test_in_an_empty_queue_nothing_has_been_due_for_any_time(self):
        """Else the alert on it fires for ever: GREATEST() ignores a NULL."""
        with connection.cursor() as cursor:
            cursor.execute(queue_depth._QUEUE, {"queue_name": "default"})

            assert cursor.fetchall() == [(0, 0, 0, 0, 0, None)]

    def test_scrapes_of_a_moment_share_one_statement(self):
        """However many monitors there are, the database is asked every few seconds."""
        with partisan("--async", "--health-port", "0") as running:
            port = port_of(running)
            for number in range(10):
                scrape(port)
                registry.get("Nothing")(number)

            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*), max(state_change - backend_start) < interval '3 s'"
                    " FROM pg_stat_activity WHERE application_name LIKE '% metrics'"
                    " AND datname = current_database()"
                )
                assert cursor.fetchone() == (1, True)

    def test_without_the_extra_it_says_how_to_get_it(self, tmp_path):
        """The other two answers need nothing."""
        # A finder that knows no such module stands before all others.
        (tmp_path / "sitecustomize.py").write_text(
            "import importlib.machinery, sys\n"
            "real = importlib.machinery.PathFinder.find_spec\n"
            "def find_spec(name, *rest):\n"
            "    return None if name == 'prometheus_client' else real(name, *rest)\n"
            "importlib.machinery.PathFinder.find_spec = find_spec\n"
        )
        path = f"{tmp_path}:{sys.path[0]}"
        with partisan("--async", "--health-port", "0", PYTHONPATH=path) as running:
            port = port_of(running)

            status, text = get(port, "/metrics")

            assert (status, text) == (
                501, "Metrics need prometheus_client: pip install 'partisan-async[metrics]'.\n"
            )  # fmt: skip
            assert get(port, "/live")[0] == 200


@pytest.mark.django_db(transaction=True)
def test_the_depth_reads_no_more_than_it_counts():
    """With a million rows behind, a scrape costs what it costs with ten thousand."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
            " execute_after, status, worker_ids, errors)"
            " SELECT 'default', 'Nothing', '{}', n % 3, now() - n * interval '1 s', 'new', '[]',"
            " '[]' FROM generate_series(1, 40000) AS n"
        )
        cursor.execute("ANALYZE partisan_async_task")
        statement = Statement(queue_depth._QUEUE, {"queue_name": "default"})
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.sql}", statement.params)
        ((plan,),) = cursor.fetchall()
        cursor.execute(*statement)
        ((ready, *others, oldest),) = cursor.fetchall()

    read = sum(
        node["Actual Rows"] * node["Actual Loops"]
        for node in nodes(plan[0]["Plan"])
        if "Scan" in node["Node Type"] and "Relation Name" in node
    )
    assert read <= queue_depth.COUNTED + 10
    assert (ready, *others) == (queue_depth.COUNTED, 0, 0, 0, 0)
    assert oldest >= 0
    assert Task.objects.count() == 40000


async def test_where_there_is_no_limit_nothing_is_asked():
    """Neither does a connection open."""
    agenda = Agenda()
    limits = UnderLimits("default", None, agenda)

    assert await limits.ask() == []
    agenda.has_limits = True
    with pytest.raises(AttributeError):
        await limits.ask()


@pytest.mark.django_db
def test_what_waits_for_a_limit_is_counted_by_its_index():
    """At a size where the planner has a choice."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO partisan_async_task (queue_name, processor_class, arguments, priority,"
            " execute_after, status, finished_at, limit_name, limit_key, limit_rank)"
            " SELECT 'default', 'Write', '{}', 10, now(),"
            " CASE WHEN n > 20000 THEN 'limited' ELSE 'finished' END,"
            " CASE WHEN n <= 20000 THEN now() END, CASE WHEN n > 20000 THEN (n % 7)::text END,"
            " CASE WHEN n > 20000 THEN n::text END, 10 FROM generate_series(1, 50000) n"
        )
        cursor.execute("ANALYZE partisan_async_task")
    sql = under_limits._LIMITS.replace(str(queue_depth.COUNTED), "100")

    scans = read(sql, {"queue_name": "default", "names": ["gone"]})

    assert not [each for each in scans if "Seq" in each[0]]
    assert sum(rows for *_, rows, _ in scans) <= 7 * 100 + 2 * 7 + 10
