"""A processor's name on rows is not its class's alone: it may have one of its own, and old ones."""

import io
import uuid

import pytest
from django.core.management import call_command
from django.db import connection

from partisan_async import registry, signals, steering
from partisan_async.admin.scope import Scope
from partisan_async.checks.processors import check_processors
from partisan_async.claim import Attempt
from partisan_async.exceptions import ProcessorClassAlreadyRegistered, ProcessorClassNotFound
from partisan_async.models import PausedProcessor, Schedule, Tally, Task
from partisan_async.operate import overview, reasons
from partisan_async.policy import Finished
from partisan_async.processor import BaseTaskProcessor
from partisan_async.supervisor.report.counts import Counts
from partisan_async.testing import (
    assert_enqueued,
    assert_not_enqueued,
    live_supervisor,
    perform,
    run_pending,
)
from tests.claims import claim
from tests.conftest import ended, marks, state, wait_until
from tests.testapp.partisan_tasks import SendMail, Write


def made(name, base=BaseTaskProcessor, **body):
    return type(name, (base,), {"run": lambda self: None, **body})


@pytest.fixture
def alone(monkeypatch):
    """Have no processor be registered at first."""
    monkeypatch.setattr(registry, "_processors", {})


def old_row(name="Mail", args='["old"]', **columns):
    """A row that a release wrote in which the processor had this name."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO partisan_async_task
                (queue_name, processor_class, arguments, status, priority, execute_after)
            VALUES ('default', %s, %s, 'new', 10, now()) RETURNING id
            """,
            [name, f'{{"args": {args}, "kwargs": {{}}}}'],
        )
        ((pk,),) = cursor.fetchall()
    Task.objects.filter(pk=pk).update(**columns)
    return Task.objects.get(pk=pk)


def partisan(*arguments):
    out = io.StringIO()
    call_command("partisan", *map(str, arguments), stdout=out, stderr=out)
    return out.getvalue()


class TestRegistered:
    def test_it_is_found_by_each_of_its_names_and_not_by_its_class(self):
        for name in ("testapp.SendMail", "Mail", "PostLetter"):
            assert registry.get(name) is SendMail
        with pytest.raises(ProcessorClassNotFound):
            registry.get("SendMail")

    def test_it_is_listed_once(self):
        assert registry.processors().count(SendMail) == 1

    def test_a_subclass_does_not_inherit_the_names(self, alone):
        """Else the two would clash, or the one take the other's rows."""
        base = registry.register(made("Base", NAME="base", ALSO_KNOWN_AS=("older",)))
        child = registry.register(made("Child", base))

        assert registry.get("Child") is child
        assert [registry.get(name) for name in ("base", "older")] == [base, base]

    @pytest.mark.parametrize(
        ("one", "other", "name"),
        [
            ({"NAME": "mail"}, {"NAME": "mail"}, "mail"),
            ({"NAME": "Two"}, {}, "Two"),
            ({"ALSO_KNOWN_AS": ("Two",)}, {}, "Two"),
            ({}, {"ALSO_KNOWN_AS": ("One",)}, "One"),
            ({"ALSO_KNOWN_AS": ("mail",)}, {"ALSO_KNOWN_AS": ["mail"]}, "mail"),
            ({"NAME": "mail"}, {"ALSO_KNOWN_AS": ("mail",)}, "mail"),
        ],
    )
    def test_two_processors_cannot_share_any_name(self, alone, one, other, name):
        first = registry.register(made("One", **one))
        known = dict(registry._processors)

        with pytest.raises(
            ProcessorClassAlreadyRegistered, match=f"{name!r} is registered"
        ) as told:
            registry.register(made("Two", **other))
        assert "give one a NAME of its own" in str(told.value)
        assert registry._processors == known, "nothing of the refused one is left"
        assert registry.processors() == [first]

    @pytest.mark.parametrize(
        ("body", "error", "words"),
        [
            ({"NAME": 5}, TypeError, r"Pay.NAME is 5 of type int; it must be text"),
            ({"NAME": b"x"}, TypeError, r"Pay.NAME is b'x' of type bytes"),
            ({"NAME": ""}, ValueError, r"Pay.NAME has 0 characters; it must be text of 1 to 255"),
            ({"NAME": "x" * 256}, ValueError, r"Pay.NAME has 256 characters"),
            ({"NAME": "a\x00b"}, ValueError, r"Pay.NAME is 'a\\x00b', which has characters that"),
            ({"NAME": "\ud800"}, ValueError, r"Pay.NAME is '\\ud800'"),
            ({"ALSO_KNOWN_AS": "Old"}, TypeError, r"takes several names; write \('Old',\)"),
            ({"ALSO_KNOWN_AS": {"Old"}}, TypeError, r"write a tuple of them"),
            ({"ALSO_KNOWN_AS": None}, TypeError, r"write a tuple of them"),
            ({"ALSO_KNOWN_AS": ("Old", "")}, ValueError, r"ALSO_KNOWN_AS\[1\] has 0 characters"),
            ({"ALSO_KNOWN_AS": (7,)}, TypeError, r"ALSO_KNOWN_AS\[0\] is 7 of type int"),
            ({"ALSO_KNOWN_AS": ("Pay",)}, ValueError, r"'Pay', which is its name now; leave it"),
            ({"NAME": "x", "ALSO_KNOWN_AS": ("x",)}, ValueError, r"'x', which is its name now"),
            ({"ALSO_KNOWN_AS": ("a", "a")}, ValueError, r"has 'a' twice; leave one out"),
        ],
    )
    def test_a_name_that_cannot_be_is_refused_where_it_is_written(self, alone, body, error, words):
        with pytest.raises(error, match=words):
            registry.register(made("Pay", **body))
        assert not registry._processors

    def test_the_longest_name_is_taken(self, alone):
        registry.register(made("Pay", NAME="x" * 255))

    def test_the_checks_tell_of_both_with_a_way_out(self, monkeypatch):
        """As ``manage.py check``, and a supervisor that does not start."""

        def clash():
            registry.register(made("Mail"))

        monkeypatch.setattr(registry, "autodiscover", clash)
        (error,) = [each for each in check_processors() if each.id == "partisan_async.E006"]
        assert "SendMail" in error.msg
        assert "NAME of its own" in error.hint

        def wrong():
            registry.register(made("Pay", NAME=""))

        monkeypatch.setattr(registry, "autodiscover", wrong)
        (error,) = [each for each in check_processors() if each.id == "partisan_async.E007"]
        assert "Pay.NAME has 0 characters" in error.msg
        assert __file__ in error.hint, "where it is written, and not where it is refused"


@pytest.mark.django_db
class TestCalls:
    def test_rows_carry_the_name(self):
        assert SendMail("new").delay().processor_class == "testapp.SendMail"
        (row,) = SendMail.bulk_delay([SendMail("many")])
        assert row.processor_class == "testapp.SendMail"

    def test_rows_of_all_names_are_run_by_it(self):
        old, older, new = old_row(), old_row("PostLetter", '["older"]'), SendMail("new").delay()

        ran = run_pending()

        assert [each.task.pk for each in ran] == [old.pk, older.pk, new.pk]
        assert marks() == ["old", "older", "new"]

    def test_a_call_is_identical_to_one_of_the_release_before(self, alone):
        """Else a new name would have everything run twice that waits."""
        before = registry.register(made("Mail"))
        row = before("same").delay()
        (many,) = before.bulk_delay([before("many")])
        registry._processors.clear()
        now = registry.register(made("NewMail", NAME="orders.Mail", ALSO_KNOWN_AS=("Mail",)))

        again, much = now("same").delay(), now.bulk_delay([now("many")])[0]

        assert (again.pk, again.is_twin) == (row.pk, True)
        assert (much.pk, much.is_twin) == (many.pk, True)
        assert now("other").delay().pk not in (row.pk, many.pk)

    def test_a_second_new_name_keeps_that(self, alone):
        first = registry.register(made("A"))
        row = first(1).delay()
        for names in (("A",), ("A", "B")):
            registry._processors.clear()
            now = registry.register(made(f"{len(names)}", ALSO_KNOWN_AS=names))
            assert now(1).delay().pk == row.pk
            assert now.bulk_delay([now(1)])[0].pk == row.pk

    def test_a_subclass_has_rows_of_its_own(self, alone):
        base = registry.register(made("Base", NAME="base", ALSO_KNOWN_AS=("older",)))
        child = registry.register(made("Child", base))

        assert child().delay().processor_class == "Child"
        assert child().delay().pk != base().delay().pk

    def test_why_knows_the_identical_call_of_another_name(self):
        waits = SendMail("same").delay()
        old = old_row("PostLetter", '["same"]')

        assert f"An identical call waits: {waits.pk}." in " ".join(reasons.why(old))

    def test_the_kit_takes_the_class_and_knows_old_rows(self):
        assert_not_enqueued(SendMail)
        old = old_row()
        assert assert_enqueued(SendMail, args=["old"]).pk == old.pk
        with pytest.raises(AssertionError, match=r"that is testapp\.SendMail, args="):
            assert_enqueued(SendMail, args=["new"])
        assert perform(SendMail, ["here"]).task.processor_class == "testapp.SendMail"

    def test_signals_of_old_rows_are_sent_by_the_class(self):
        heard = []

        def hear(sender, task, **values):
            heard.append((sender, task.processor_class))

        signals.task_finished.connect(hear)
        try:
            old_row()
            run_pending()
        finally:
            signals.task_finished.disconnect(hear)
        assert heard == [(SendMail, "Mail")]

    def test_a_name_that_was_given_up_tells_the_way_out(self):
        old = old_row("gone.Mail")
        assert "name it in ALSO_KNOWN_AS" in " ".join(reasons.why(old))
        assert "name it in ALSO_KNOWN_AS" in str(ProcessorClassNotFound("gone.Mail"))


@pytest.mark.django_db
class TestSteered:
    @pytest.mark.parametrize("name", ["testapp.SendMail", "Mail"])
    def test_all_its_rows_are_cancelled_and_retried_by_any_name(self, name):
        rows = [old_row(), old_row("PostLetter"), SendMail("new").delay(), Write("other").delay()]

        assert steering.cancel(processor=name) == [row.pk for row in rows[:3]]
        assert steering.retry(processor=name) == [row.pk for row in rows[:3]]
        assert "3" in partisan("cancel", "--processor", name, "--yes")

    @pytest.mark.parametrize("name", ["testapp.SendMail", "Mail"])
    def test_a_pause_by_any_name_is_one_of_all(self, name):
        assert steering.pause(processor=name)
        assert not steering.pause(processor="PostLetter"), "no news"

        for row in (old_row(), SendMail("new").delay()):
            assert "paused" in " ".join(reasons.why(row))
        assert steering.resume(processor="PostLetter")
        assert not [each for each in overview.pauses() if not each.ending]

    def test_a_command_resumes_it_once(self):
        partisan("pause", "--processor", "Mail")
        told = partisan("resume", "--all", "--yes")
        assert "Processor testapp.SendMail is resumed" in told
        assert "was not paused" not in "".join(
            line for line in told.splitlines() if "Processor" in line
        )

    def test_an_old_name_is_known(self):
        """Else it is asked whether it is a slip, and here nobody answers."""
        assert "is paused" in partisan("pause", "--processor", "PostLetter")

    def test_a_retry_tells_of_the_pause_by_another_name(self):
        """A pause of a release before, which knew one name alone."""
        PausedProcessor.objects.create(processor_class="Mail", queue_name="")
        row = SendMail("new").delay()
        assert "Its processor was paused" in " ".join(reasons.why(row))
        Task.objects.filter(pk=row.pk).update(**state("error"))

        assert "1 of them waits for the end of a pause" in partisan("retry", row.pk)

    def test_counts_are_of_one_processor(self):
        counts = Counts(with_spreads=True)
        for name in ("Mail", "testapp.SendMail", "PostLetter", "nobody"):
            counts.count(claim(processor_class=name), Finished(None), Attempt(0.1, "w"))

        assert [name for name, _ in counts.figures()] == ["testapp.SendMail", "(unknown)"]
        assert [row[:2] for row in counts.take()] == [("testapp.SendMail", 3.0), ("(unknown)", 1.0)]

    def test_the_admin_filters_and_scopes_by_any_name(self, admin_client):
        old, new, other = old_row(), SendMail("new").delay(), Write("other").delay()
        for name in ("testapp.SendMail", "Mail"):
            page = admin_client.get("/admin/partisan_async/task/", {"processor": name})
            assert {row.pk for row in page.context["cl"].result_list} == {old.pk, new.pk}
            seen = Task.objects.filter(Scope(processors=[name]).condition)
            assert set(seen) == {old, new}
            scope = Scope(processors=[name])
            assert scope.has_processor("PostLetter")
            assert not scope.has_processor("Write")
            assert scope.known(["Mail", "Write"]) == {"testapp.SendMail"}
        assert other not in Task.objects.filter(Scope(processors=["Mail"]).condition)

    def test_the_dashboard_shows_a_pause_and_ends_it(self, admin_client):
        admin_client.post("/admin/partisan_async/dashboard/", {"pause_processor": "Mail"})
        names = {each.processor for each in overview.pauses()}
        assert names == {"testapp.SendMail", "Mail", "PostLetter"}
        admin_client.post(
            "/admin/partisan_async/dashboard/", {"resume_processor": "testapp.SendMail"}
        )
        assert all(each.ending for each in overview.pauses())


@pytest.mark.django_db(transaction=True)
class TestLive:
    def test_rows_of_all_names_run(self):
        rows = [old_row(), SendMail("new").delay()]
        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: ended(*rows))
        assert {row.status for row in Task.objects.all()} == {"finished"}
        assert sorted(marks()) == ["new", "old"]
        assert set(Tally.objects.values_list("processor_class", flat=True)) == {"testapp.SendMail"}

    @pytest.mark.parametrize("name", ["Mail", "testapp.SendMail"])
    def test_a_pause_of_one_name_holds_all(self, name):
        """Written as a release before wrote it, which knew of no other name."""
        PausedProcessor.objects.create(processor_class=name, queue_name="")
        held = [old_row(), SendMail("new").delay()]
        with live_supervisor(WORKERS_COUNT=1):
            other = Write("other").delay()
            wait_until(lambda: ended(other))
            assert not Task.objects.filter(pk__in=[row.pk for row in held], claim_seq__gt=0)
            steering.resume(processor="PostLetter")
            wait_until(lambda: ended(*held))
        assert sorted(marks()) == ["new", "old", "other"]

    def test_a_schedule_stays_what_it_was(self):
        """A new name would begin it anew, beside the old code's, and switched on."""
        row = Schedule.objects.create(
            processor_class="Ring",
            queue_name="rings",
            schedule="every 0.2 s",
            enabled=False,
            set_by=uuid.uuid4(),
        )
        with live_supervisor("rings"):
            marker = SendMail("marker")
            marker.QUEUE_NAME = "rings"
            served = marker.delay()
            wait_until(lambda: ended(served))
            assert not Task.objects.filter(processor_class__in=["Ring", "testapp.Chime"]).exists()
            assert steering.switch_on(["testapp.Chime"]) == ["Ring"]
            wait_until(lambda: Task.objects.filter(processor_class="testapp.Chime").exists())
        assert [each.pk for each in Schedule.objects.all()] == [row.pk]
        assert steering.switch_off(["Ring"]) == ["Ring"]
