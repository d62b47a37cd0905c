"""delay(queue_name=…): a call goes to another queue than its class's, and is run there."""

import enum
import logging
from datetime import timedelta

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone
from psycopg import sql

from partisan_async import store
from partisan_async.exceptions import ArgumentsTooLarge
from partisan_async.models import Task
from partisan_async.operate import budget
from partisan_async.operate.doctor import tasks as looks
from partisan_async.operate.doctor.look import ask
from partisan_async.processor import BaseTaskProcessor
from partisan_async.settings import queue_settings
from partisan_async.supervisor import unserved
from partisan_async.testing import (
    assert_enqueued,
    assert_not_enqueued,
    live_supervisor,
    run_pending,
)
from tests.conftest import ended, marks, wait_until
from tests.test_enqueue import ears
from tests.test_unique import unique
from tests.testapp.partisan_tasks import Retry, Sync, Write, WriteElsewhere, WriteUnique

__all__ = ["ears", "unique"]  # fixtures

WRONG = ["", 5, b"mail", "q" * 256, "a\x00b", "\udc80", "ж\ud800"]


def delay(call, **how):
    return call.delay(**how)


def bulk_delay(call, **how):
    (task,) = type(call).bulk_delay([call], **how)
    return task


def bulk_delay_beside_another(call, **how):
    task, _ = BaseTaskProcessor.bulk_delay([call, Write("beside")], **how)
    return task


WAYS = [delay, bulk_delay, bulk_delay_beside_another]


class Queue(str, enum.Enum):  # noqa: UP042  its members are told by other names than their values
    MAIL = "mail"


@pytest.mark.django_db
class TestRow:
    @pytest.mark.parametrize("way", WAYS)
    def test_it_is_of_that_queue(self, way):
        task = way(Write("a"), queue_name="mail")

        assert task.queue_name == Task.objects.get(pk=task.pk).queue_name == "mail"

    @pytest.mark.parametrize("way", WAYS)
    def test_without_one_it_is_of_the_classes(self, way):
        assert way(WriteElsewhere("a"), queue_name=None).queue_name == "elsewhere"

    @pytest.mark.django_db(transaction=True)
    async def test_from_async_code_too(self):
        one = await Write(1).adelay(queue_name="mail")
        (two,) = await Write.abulk_delay([Write(2)], queue_name="mail")

        assert (one.queue_name, two.queue_name) == ("mail", "mail")

    def test_it_stays_there_through_retries(self):
        task = Retry("a", 1).delay(queue_name="mail")

        run_pending(queue_name="mail")
        task.refresh_from_db()

        assert task.tries >= 1  # its pause of 0.05 s may be over meanwhile
        assert task.queue_name == "mail"

    def test_the_testing_kit_finds_and_runs_it_there(self):
        Write("here").delay()
        Write("there").delay(queue_name="mail")

        assert assert_enqueued(Write, queue="mail").args == ["there"]
        assert_not_enqueued(Write, args=["here"], queue="mail")
        run_pending(queue_name="mail")

        assert marks() == ["there"]


@pytest.mark.django_db
class TestAtTheDoor:
    @pytest.mark.parametrize("name", WRONG, ids=ascii)
    @pytest.mark.parametrize("way", WAYS)
    def test_a_name_that_cannot_be_is_refused(self, way, name):
        with pytest.raises(ValueError, match=r"queue_name=.* must be a name") as refused:
            way(Write("a"), queue_name=name)

        assert repr(name) in str(refused.value)
        assert not Task.objects.exists()

    def test_of_many_calls_it_says_which_one(self):
        with pytest.raises(ValueError, match=r"^Call 0: queue_name='' must be"):
            Write.bulk_delay([Write(1)], queue_name="")

    @pytest.mark.parametrize("name", ["a\x00b", "\udc80"], ids=ascii)
    def test_what_cannot_be_stored_is_said_to_be_that(self, name):
        with pytest.raises(ValueError, match="that PostgreSQL can store"):
            Write(1).delay(queue_name=name)

    @pytest.mark.parametrize("way", WAYS)
    def test_the_limit_of_that_queue_holds(self, way, settings):
        settings.PARTISAN_CONFIG = {"large": {"MAX_ARGUMENTS_BYTES": 2**22}, "default": {}}

        task = way(Write("x" * 2**20), queue_name="large")

        assert task.queue_name == "large"
        with pytest.raises(ArgumentsTooLarge, match="of queue 'default' is"):
            way(Write("x" * 2**20))

    @pytest.mark.parametrize("way", WAYS)
    def test_also_where_it_takes_less_than_the_classes(self, way, settings):
        settings.PARTISAN_CONFIG = {"small": {"MAX_ARGUMENTS_BYTES": 2000}, "default": {}}

        with pytest.raises(ArgumentsTooLarge, match="of queue 'small' is 2,000"):
            way(Write("x" * 2000), queue_name="small")
        assert way(Write("x" * 2000)).queue_name == "default"


@pytest.mark.django_db(transaction=True)
class TestRun:
    def test_supervisors_of_that_queue_run_it(self):
        mine, theirs = Write("here").delay(), Write("there").delay(queue_name="mail")

        with live_supervisor("mail", WORKERS_COUNT=1):
            wait_until(lambda: ended(theirs))

        assert marks() == ["there"]
        assert not ended(mine)

    @pytest.mark.parametrize("name", ['a"b', "100%s", "two\nlines", "ж" * 255, " "])
    def test_whatever_its_name_is(self, name):
        task = Write("there").delay(queue_name=name)

        with live_supervisor(name, WORKERS_COUNT=1, listen=False, SLEEP_DELAY_SECONDS=0.05):
            wait_until(lambda: ended(task))

        assert marks() == ["there"]

    @pytest.mark.parametrize("name", ["mail", Queue.MAIL])
    @pytest.mark.parametrize("way", WAYS)
    def test_they_are_woken(self, way, name):
        """Whatever a project writes its queues' names as."""
        params = connection.get_connection_params()
        params.pop("cursor_factory"), params.pop("context")
        with psycopg.connect(**params, autocommit=True) as listener:
            listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(store.channel("mail"))))

            way(Write(1), queue_name=name)

            assert len(list(listener.notifies(timeout=10, stop_after=1))) == 1


@pytest.mark.django_db(transaction=True)
class TestTwin:
    """Queues do not count where calls are compared."""

    @pytest.mark.parametrize("way", WAYS)
    def test_it_is_found_in_another_queue_and_stays_there(self, way):
        twin = WriteUnique(1).delay(queue_name="elsewhere")

        again = way(WriteUnique(1))

        assert (again.pk, again.is_twin, again.queue_name) == (twin.pk, True, "elsewhere")
        assert Task.objects.filter(processor_class="WriteUnique").count() == 1

    @pytest.mark.parametrize("rule", [None, {"while_running": True}, {"on_twin": "sooner"}])
    @pytest.mark.parametrize("way", [delay, bulk_delay])
    def test_its_supervisors_are_woken_and_no_others(self, ears, unique, way, rule):
        if rule is not None:
            unique(**rule)
        Sync("ada").delay(queue_name="elsewhere")
        ears()

        with transaction.atomic():
            way(Sync("ada"))

        assert ears() == ["elsewhere"]

    def test_so_they_are_outside_of_a_transaction(self, ears):
        """The insert that was in vain has told the queue that was meant, which is harmless."""
        WriteUnique(1).delay(queue_name="elsewhere")
        ears()

        WriteUnique(1).delay()

        assert set(ears()) == {"default", "elsewhere"}

    def test_of_many_each_wakes_where_its_row_is(self, ears):
        WriteUnique(1).delay(queue_name="elsewhere")
        ears()

        WriteUnique.bulk_delay([WriteUnique(1), WriteUnique(2)])

        assert sorted(ears()) == ["default", "elsewhere"]

    @pytest.mark.parametrize("way", WAYS)
    def test_a_wake_that_was_lost_is_made_good(self, way):
        """As if whoever enqueued it had died between the commit and the NOTIFY."""
        with live_supervisor(
            "elsewhere", WORKERS_COUNT=1, beat_seconds=60, ttl_seconds=300, SLEEP_DELAY_SECONDS=600
        ) as supervisor:
            wait_until(supervisor.parts.wakeup.proven.is_set)
            task = WriteUnique("a").delay()
            Task.objects.filter(pk=task.pk).update(queue_name="elsewhere")

            way(WriteUnique("a"))
            wait_until(lambda: ended(task))

    def test_one_that_is_replaced_comes_to_the_queue_of_the_call(self, ears, unique):
        unique(on_twin="replace")
        twin = Sync("ada", "first").delay(queue_name="elsewhere")
        ears()

        again = Sync("ada", "second").delay(queue_name="default")

        assert (again.pk, again.queue_name) == (twin.pk, "default")
        assert ears() == ["default"]


@pytest.mark.django_db(transaction=True)
class TestUnserved:
    """No processor names the queue, and no setting does."""

    def test_a_supervisor_tells_of_it_once(self, monkeypatch, caplog):
        monkeypatch.setattr(unserved, "LOOK_EVERY_SECONDS", 0.01)
        looked = []
        look = unserved.Unserved._look

        async def counted(self):
            await look(self)
            looked.append(self)

        monkeypatch.setattr(unserved.Unserved, "_look", counted)
        Write("a").delay(queue_name="nobody")
        Write("b").delay(queue_name="two\nlines")
        with caplog.at_level(logging.WARNING), live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: len(looked) >= 3)

        told = [line for line in caplog.messages if line.startswith("no supervisor serves")]
        names = [line.split("'")[1] for line in told]
        assert (names.count("nobody"), names.count(r"two\nlines")) == (1, 1)
        assert not any("\n" in line for line in told)

    def test_doctor_tells_of_it(self):
        Write("a").delay(queue_name="nobody")

        (said,) = [said for is_well, said in looks.unserved_queues() if not is_well]

        assert said.startswith("Nobody serves queue 'nobody', and tasks wait in it: ")

    def test_not_of_one_in_which_nothing_is_due(self):
        later = timezone.now() + timedelta(hours=1)
        Write("a").delay(queue_name="nobody", execute_after=later)
        statement = store.unserved(timedelta(seconds=store.TTL_SECONDS))

        assert ask(statement.sql, **statement.params) == []
        Task.objects.update(execute_after=timezone.now())
        assert ask(statement.sql, **statement.params) == [("nobody",)]


@pytest.mark.parametrize(("queue", "connections"), [("nobody", 11), ("elsewhere", 1)])
def test_a_queue_that_no_processor_names_may_get_async_tasks(queue, connections):
    """So each worker may open as many connections as such tasks run in it."""
    assert budget.per_worker(queue, queue_settings(queue)) == connections
