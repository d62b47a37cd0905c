"""Any value that PostgreSQL's types allow, in any column: nobody ends for it, and nothing hides."""

import asyncio
import io
import json
import re
import socket
import uuid
from contextlib import nullcontext
from datetime import timedelta

import pytest
from django.contrib.admin.utils import quote
from django.core.management import CommandError, call_command
from django.db import Error, connection, transaction
from django.urls import reverse
from django.utils import timezone

from partisan_async import store
from partisan_async.enqueue.wake import wake
from partisan_async.models import (
    Home,
    Limit,
    LimitOverride,
    LimitPause,
    LimitStart,
    PausedProcessor,
    PausedQueue,
    Schedule,
    Supervisor,
    Tally,
    Task,
    UniqueWindow,
)
from partisan_async.schedule import Every
from partisan_async.settings import queue_settings
from partisan_async.supervisor.host import Host
from partisan_async.supervisor.host_process import identify_process
from partisan_async.testing import live_supervisor
from tests import test_ticker
from tests.conftest import marks, wait_until
from tests.odd_values import DIGITS, columns_of, models
from tests.old_rows import before_the_constraints
from tests.test_dashboard import text_of
from tests.test_ticker import late
from tests.testapp.partisan_tasks import Write, WriteUnique

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

only = test_ticker.only

ODD = "odd"
"""The queue of odd rows, until a supervisor is to meet them."""


def tasks():
    """A task in each status."""
    long_ago = timezone.now() - timedelta(hours=1)
    error = {"exception_class": "X", "message": "y", "traceback": "", "try": 1, "at": "2020-01-01"}
    common = {
        "queue_name": ODD,
        "processor_class": "WriteUnique",
        "arguments": {"args": ["odd"], "kwargs": {}},
        "priority": 5,
        "execute_after": long_ago,
        "created_at": long_ago,
    }
    ran = {"started_at": long_ago, "last_attempted_at": long_ago, "errors": [error]}
    for status in ("new", "scheduled", "in_process", "finished", "error"):
        more = {}
        if status == "in_process":
            more = {"claimed_by": uuid.uuid4(), "claimed_at": long_ago} | ran
        if status in ("finished", "error"):
            more = {"finished_at": long_ago} | ran
        yield Task(**common, status=status, **more)


def supervisors():
    """Supervisors of this host and of another, that live and that do not."""
    for hostname in (socket.gethostname(), "elsewhere"):
        for seen in (timezone.now(), timezone.now() - timedelta(hours=1)):
            yield Supervisor(
                id=uuid.uuid4(),
                hostname=hostname,
                process={"pid": 1},
                queue_name=ODD,
                last_seen_at=seen,
            )


def schedules():
    """One that the code knows, and one that it does not."""
    due = timezone.now() + timedelta(hours=1)
    for name in ("Tick", f"Gone{uuid.uuid4().hex}"):
        yield Schedule(
            processor_class=name,
            queue_name="ticks",
            schedule="every 0.2 s",
            next_tick=due,
            set_by=uuid.uuid4(),
        )


def pauses():
    yield PausedQueue(queue_name=f"paused {uuid.uuid4()}")


def processor_pauses():
    yield PausedProcessor(processor_class=uuid.uuid4().hex, queue_name=ODD)


def homes():
    """The one row of its table: which home it is, a setting says; the tests have none."""
    Home.objects.all().delete()
    yield Home(database="odd")


def windows():
    """One that is open, of a task that is gone."""
    until = timezone.now() + timedelta(hours=1)
    yield UniqueWindow(key=uuid.uuid4().bytes, until=until, task_id=1)


def limits():
    yield Limit(name=uuid.uuid4().hex, running=2, rates=[[2, 1.0]], set_by=uuid.uuid4())


def overrides():
    yield LimitOverride(name=uuid.uuid4().hex, key="odd", running=1)


def limit_pauses():
    yield LimitPause(name=uuid.uuid4().hex, key="odd", until=timezone.now())


def starts():
    yield LimitStart(
        name=uuid.uuid4().hex, of_key=True, key="odd", per_seconds=1.0, granule=1, count=1,
        until=timezone.now() + timedelta(hours=1),
    )  # fmt: skip


def tallies():
    minute = timezone.now().replace(second=0, microsecond=0)
    for ago in range(2):
        yield Tally(
            minute=minute - timedelta(minutes=ago),
            queue_name=ODD,
            processor_class=uuid.uuid4().hex,
            finished=1,
        )


ROWS = {
    Task: tasks, Supervisor: supervisors, Schedule: schedules, PausedQueue: pauses, Tally: tallies,
    PausedProcessor: processor_pauses, Home: homes, UniqueWindow: windows,
    Limit: limits, LimitOverride: overrides, LimitPause: limit_pauses, LimitStart: starts,
}  # fmt: skip
"""By model, what its odd rows are but for the odd value."""


def as_before(column):
    """Rows with any state are there from before the table refused them."""
    is_checked = column.model is Task and column.name in ("status", "finished_at")
    return before_the_constraints() if is_checked else nullcontext()


def write(column, value):
    """Put a value into one column of new rows; return the keys of those that the table takes."""
    key, table = column.model._meta.pk.attname, column.model._meta.db_table
    taken = []
    for row in ROWS[column.model]():
        try:
            with as_before(column), transaction.atomic(), connection.cursor() as cursor:
                row.save(force_insert=True)
                cursor.execute(
                    f'UPDATE {table} SET "{column.name}" = %s::{column.kind}'
                    f' WHERE "{key}" = %s RETURNING "{key}"',
                    [value, row.pk],
                )
                taken += [pk for (pk,) in cursor.fetchall()]
        except Error:
            continue
    return taken


def show(client, url, **asked):
    page = client.get(url, asked)
    assert page.status_code == 200, f"{url}: {page.status_code}"
    return page.content.decode()


def listing(model):
    return reverse(f"admin:partisan_async_{model._meta.model_name}_changelist")


def run(*words):
    """What an operator's command says; what it finds wrong ends it too, and a traceback does not
    come in these."""
    out = io.StringIO()
    try:
        call_command("partisan", *words, stdout=out, stderr=out)
    except CommandError as error:
        out.write(str(error))
    return out.getvalue()


def look(client, column, keys, neighbour):
    """Look at every page and at what every command says."""
    pages = f"admin:partisan_async_{column.model._meta.model_name}"
    for model in (Task, Supervisor, Schedule):
        show(client, listing(model))
    for status in ("new", "error"):
        page = client.get(listing(Task), {"status": status})
        page.render()
        assert status == "error" or neighbour.pk in {
            row.pk for row in page.context["cl"].result_list
        }
    show(client, listing(Task), q="odd")
    show(client, reverse("admin:partisan_async_dashboard_changelist"))
    assert ODD in show(client, reverse("admin:partisan_async_dashboard_live"))
    for key in keys if column.model in (Task, Supervisor, Schedule) else ():
        if key != "":
            show(client, reverse(f"{pages}_change", args=[quote(key)]))
    assert ODD in run("status")
    told = json.loads(run("status", "--json"), parse_constant=pytest.fail)
    assert ODD in {queue["name"] for queue in told["queues"]}
    found = json.loads(run("doctor", "--json").splitlines()[0])
    assert not [finding for finding in found if finding["well"] is None]
    assert "There are" not in run("drain", "nosuch")
    for model in models():
        list(model.objects.all())


def explain(keys):
    for key in keys:
        if key >= 0:
            assert re.match(f"{key} ", run("why", str(key)))


def metrics():
    """What a supervisor's health port shows of the odd queue."""

    async def ask():
        with socket.create_server(("127.0.0.1", 0)) as port:
            host = Host({ODD: queue_settings(ODD)}, health=port)
            try:
                return await host.metrics.show("")
            finally:
                await host.shared.close()

    return asyncio.run(ask())[1].decode()


def meet(supervisor):
    """Have a supervisor meet all that is there, and run the next task."""
    with before_the_constraints(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE partisan_async_task SET queue_name = %s WHERE queue_name = %s"
            " AND processor_class <> 'Write'",
            [supervisor.queue_name, ODD],
        )
        cursor.execute(
            "UPDATE partisan_async_supervisor SET queue_name = %s WHERE queue_name = %s",
            [supervisor.queue_name, ODD],
        )
    seen = Supervisor.objects.filter(pk=supervisor.id)
    for _ in range(2):
        before = seen.values_list("last_seen_at", flat=True).get()
        wake(supervisor.queue_name, store.STEERED, "default")
        wait_until(lambda before=before: seen.filter(last_seen_at__gt=before).exists())
    text = uuid.uuid4().hex
    task = Write(text).delay(priority=-(2**31))
    Task.objects.filter(pk=task.pk).update(queue_name=supervisor.queue_name)
    wake(supervisor.queue_name, "new", "default")
    wait_until(lambda: text in marks())


def steer():
    """Do to all rows what an operator may."""
    for action in ("run-now", "cancel", "retry"):
        for queue in (ODD, "default"):
            assert action in run(action, "--queue", queue, "--yes")
    assert "deleted" in run("prune", "--older-than", "0s", "--yes")


def clear(supervisor):
    Task.objects.all().delete()
    Supervisor.objects.exclude(pk=supervisor.id).delete()
    for model in (Schedule, PausedQueue, PausedProcessor, Home, Tally, UniqueWindow):
        model.objects.all().delete()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        pytest.param(model, field.column, id=f"{model.__name__}.{field.column}")
        for model in ROWS
        for field in model._meta.concrete_fields
    ],
)
def test_it_takes_no_supervisor_down_and_hides_no_other_row(
    model, name, admin_client, record_property
):
    """Rows are written by hand, by other releases, and by what restores a backup."""
    (column,) = (each for each in columns_of(model) if each.name == name)
    queue = "ticks" if model is Schedule else "default"
    with live_supervisor(queue, beat_seconds=0.1, ttl_seconds=5, WORKERS_COUNT=1) as supervisor:
        taken = [write(column, value) for value in column.values]
        neighbour = next(tasks())
        neighbour.processor_class = "Write"
        neighbour.save()
        # Of each value another kind of row, on pages that all take the same ways.
        looked_at = [keys[n % len(keys)] for n, keys in enumerate(taken) if keys]
        look(admin_client, column, looked_at, neighbour)
        if model is Task:
            explain([keys[(n + 2) % len(keys)] for n, keys in enumerate(taken) if keys])
        assert "partisan_queue_tasks" in metrics()
        meet(supervisor)
        steer()
        clear(supervisor)
        assert "supervisors" in run("doctor")

    written = sum(map(len, taken))
    record_property("rows", written)
    assert written


class TestSchedules:
    """A ticker that stumbles over one schedule ticks none of its queue."""

    def test_the_others_tick_whatever_a_row_says(self, only):
        only(Odd=Every(seconds=3e8, catch_up=True), Sound=Every(seconds=60))
        host = test_ticker.Host()
        host.turn()
        tried = 0

        for column in columns_of(Schedule):
            for value in column.values:
                Schedule.objects.all().delete()
                Task.objects.all().delete()
                host.beat()  # all of them take longer than its lease
                host.turn()
                if not self.put("Odd", column, value):
                    continue
                tried += 1
                due = late("Sound")
                host.turn()
                assert Task.objects.filter(processor_class="Sound", execute_after=due), (
                    f"not ticked with {column} = {value!r}"
                )

        assert tried > 3 * len(columns_of(Schedule))

    @pytest.mark.parametrize("moment", ["infinity", "-infinity", "4713-01-01 BC", "20000-01-01"])
    def test_a_tick_beyond_all_clocks_is_left_alone(self, only, moment):
        """Somebody set it by hand, and means it: it comes when it comes."""
        only(Odd=Every(seconds=60))
        host = test_ticker.Host()
        host.turn()
        (column,) = [each for each in columns_of(Schedule) if each.name == "next_tick"]
        self.put("Odd", column, moment)

        host.turn()

        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT next_tick = %s::timestamptz FROM partisan_async_schedule", [moment]
            )
            assert cursor.fetchall() == [(True,)]
        assert not Task.objects.exists()

    def put(self, name, column, value):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    f'UPDATE partisan_async_schedule SET "{column.name}" = %s::{column.kind}'
                    " WHERE processor_class = %s",
                    [value, name],
                )
        except Error:
            return False
        return True


class TestSupervisors:
    """Each looks at the rows of the others with every beat."""

    def test_one_that_cannot_be_read_is_said_once_and_hides_no_other(self, caplog):
        odd, gone = (uuid.uuid4() for _ in range(2))
        process = identify_process() | {"pid": 2**22 + 1}
        with live_supervisor(beat_seconds=0.1, WORKERS_COUNT=1) as supervisor:
            for pk, told in ((odd, '{"pid": %s}' % ("9" * DIGITS)), (gone, json.dumps(process))):
                with connection.cursor() as cursor:
                    cursor.execute(
                        "INSERT INTO partisan_async_supervisor (id, hostname, process, queue_name)"
                        " VALUES (%s, %s, %s::jsonb, 'default')",
                        [pk, socket.gethostname(), told],
                    )
            wait_until(lambda: not Supervisor.objects.filter(pk=gone).exists())
            meet(supervisor)

        told = [each for each in caplog.records if str(odd) in each.getMessage()]
        assert [each.event for each in told] == ["odd row"]
        assert Supervisor.objects.filter(pk=odd).exists()


class TestShown:
    """ "?" is said, where it would else be a guess or nothing."""

    def test_a_time_that_nobody_can_tell(self, admin_client):
        task = Write().delay()
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE partisan_async_task SET created_at = 'infinity', "
                "execute_after = '-infinity', started_at = '4713-01-01 BC'"
            )

        page = text_of(admin_client.get(f"{listing(Task)}{task.pk}/change/"))

        assert "Created at: ?" in page
        assert "Execute after: ?" in page
        assert "Started at: ?" in page
        assert "Finished at: -" in page
        assert "?" in text_of(admin_client.get(listing(Task)))
        assert run("status").count("?") == 1

    def test_a_time_is_read_as_the_last_that_python_knows(self):
        """What reckons with it goes on: a filter, a template, a report."""
        Write().delay()
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE partisan_async_task SET execute_after = 'infinity',"
                " created_at = '-infinity'"
            )

        task = Task.objects.get()

        assert (task.execute_after - task.created_at).days > 3_600_000
        assert task.started_at is None
        assert Task.objects.filter(execute_after__gt=timezone.now()).count() == 1

    def test_a_supervisors_workers(self, admin_client):
        """Another release may tell of them in another way."""
        Supervisor.objects.create(
            id=uuid.uuid4(), hostname="odd", process=[1], queue_name=ODD,
            workers=[{"pid": "x"}, {"pid": 5, "running": 1, "tasks": [{"id": 3, "processor": "P",
            "seconds": None}]}],
        )  # fmt: skip

        page = text_of(admin_client.get(reverse("admin:partisan_async_dashboard_live")))

        assert "odd/? alive" in page
        assert "? cannot be read 5 P #3 ?" in page

    def test_arguments_that_are_no_call_any_more(self):
        task = Write().delay()
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE partisan_async_task SET arguments = ('[' || repeat('9', 9000)"
                " || ']')::jsonb"
            )

        found = Task.objects.get(pk=task.pk)

        assert str(found.arguments) == "?"
        with pytest.raises(ValueError, match=f"arguments of task {task.pk} are no call any more"):
            list(found.args)


def test_an_identical_call_finds_its_odd_twin():
    """Who enqueues is not to hear of what somebody did to a row."""
    task = WriteUnique(1).delay()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE partisan_async_task SET created_at = 'infinity'")

    twin = WriteUnique(1).delay()
    (bulk,) = WriteUnique.bulk_delay([WriteUnique(1)])

    assert twin.is_twin
    assert twin.pk == bulk.pk == task.pk


def test_every_column_has_values():
    """One that is added is tried as the others are, or this fails."""
    assert set(ROWS) == set(models())
    columns = [column for model in models() for column in columns_of(model)]
    assert len(columns) == sum(len(model._meta.concrete_fields) for model in models())
    for column in columns:
        assert len(column.values) > 2, column
