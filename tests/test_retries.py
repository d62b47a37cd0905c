"""Retries: how long they wait and who says so, when they are given up, and what is told of them."""

import logging
import os
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from partisan_async import signals, steering, store
from partisan_async.claim import Attempt, Settlement
from partisan_async.config.drawing import drawn
from partisan_async.config.processor_configs import ErrorsHandleConfig
from partisan_async.exceptions import TaskTimeout, WorkerLost
from partisan_async.models import Task
from partisan_async.operate import reasons
from partisan_async.policy import Failed, Failure, Postponed, Retried, class_path
from partisan_async.supervisor.workers import time_limits
from partisan_async.tasks_backend import options
from partisan_async.testing import live_supervisor, perform, run_pending
from tests.claims import claim
from tests.conftest import ended, marks, wait_until
from tests.test_settings import errors_of
from tests.testapp import tasks
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import (
    AsyncCall,
    AtomicCall,
    Busy,
    Call,
    CallInTime,
    EndlessAsked,
    Nothing,
    Reveal,
    as_asked,
)

BUSY = "tests.testapp.partisan_tasks.Busy"
ASKED = "retry_pause=tests.testapp.partisan_tasks.as_asked"


@pytest.fixture
def sent():
    """The pauses that receivers of a retry are told, in this process."""
    pauses = []

    def hear(pause_seconds, **more):
        pauses.append(pause_seconds)

    signals.task_retried.connect(hear)
    yield pauses
    signals.task_retried.disconnect(hear)


def scheduled(task):
    task.refresh_from_db()
    return task.status == "scheduled"


def waits(task):
    """How long a task waits from the end of its last try on."""
    task.refresh_from_db()
    (at,) = Task.objects.filter(pk=task.pk).values_list("errors__-1__at", flat=True)
    return (task.execute_after - timezone.datetime.fromisoformat(at)).total_seconds()


def run_again(task):
    """Run the next try of a task, whenever it is due."""
    steering.run_now([task.pk])
    (ran,) = run_pending(errors="keep")
    task.refresh_from_db()
    return ran.decision


@pytest.mark.django_db(transaction=True)
class TestInAWorker:
    @pytest.mark.parametrize("processor", [Call, AsyncCall])
    def test_the_pause_is_what_the_function_says(self, processor):
        """It is asked where the error was raised, and its number is what is written."""
        with live_supervisor(WORKERS_COUNT=1):
            task = processor(["Busy", 120]).delay()
            wait_until(lambda: scheduled(task))

        assert waits(task) == pytest.approx(120, abs=0.001)
        (asked,) = Mark.objects.all()
        assert asked.text == "asked of try 1 [['Busy', 120]]"
        assert asked.pid != os.getpid()

    @pytest.mark.parametrize("processor", [Call, AsyncCall])
    def test_one_that_has_no_answer_costs_no_try(self, processor, caplog):
        """The row tells both errors, and the task takes the plain pause."""
        with caplog.at_level(logging.WARNING), live_supervisor(WORKERS_COUNT=1):
            task = processor(["Busy", "raise"]).delay()
            wait_until(lambda: scheduled(task))

        (error,) = task.errors
        assert (error["exception_class"], waits(task)) == (BUSY, pytest.approx(30, abs=0.001))
        assert error["message"] == f"429 ({ASKED} raised builtins.KeyError: 'Retry-After')"
        assert error["traceback"].index("KeyError") < error["traceback"].index("Busy: 429")
        assert error["traceback"].count("Busy: 429") == 1
        (line,) = (each for each in caplog.records if each.event == "retried")
        assert ASKED in line.getMessage()

    def test_a_killed_time_limit_takes_the_plain_pause(self, monkeypatch):
        """No worker is left that could be asked, or that could draw."""
        monkeypatch.setattr(time_limits, "GRACE_SECONDS", 0.3)
        with live_supervisor(WORKERS_COUNT=1):
            task = EndlessAsked("C code").delay()
            wait_until(lambda: scheduled(task))

        assert 450 <= waits(task) <= 1350
        assert waits(task) != pytest.approx(900, abs=1e-6)
        assert task.errors[0]["rule"] == "RETRY_ON_ERROR_CONFIG: or_seconds=900, jitter=0.5"
        assert "cleaned up" not in marks()

    def test_one_that_takes_its_worker_down_does_so_three_times_at_most(self):
        """As run() itself."""
        with live_supervisor(WORKERS_COUNT=1):
            task = Call(["Busy", "die"]).delay()
            wait_until(ended)

        task.refresh_from_db()
        assert (task.status, task.lost) == ("error", 3)
        assert task.errors[-1]["exception_class"] == class_path(WorkerLost(""))

    def test_one_that_hangs_is_ended_by_the_time_limit(self, monkeypatch):
        """The time-out is the error then, which the last of its configs tries once more."""
        monkeypatch.setattr(time_limits, "GRACE_SECONDS", 0.3)
        with live_supervisor(WORKERS_COUNT=1):
            task = CallInTime(["Busy", "hang"]).delay()
            wait_until(ended)

        task.refresh_from_db()
        assert (task.status, task.tries, task.lost) == ("error", 2, 0)
        assert {each["exception_class"] for each in task.errors} == {class_path(TaskTimeout(1))}

    def test_it_is_given_up_by_the_databases_clock(self):
        """The row says since when; each claim is told how long that is."""
        with live_supervisor(WORKERS_COUNT=1):
            task = Call(["ConnectionError"]).delay()
            wait_until(lambda: scheduled(task))
            began = task.first_tried_at
            Task.objects.update(first_tried_at=began - timedelta(hours=1))
            steering.run_now([task.pk])
            wait_until(ended)

        task.refresh_from_db()
        assert (task.status, task.tries) == ("error", 2)
        assert task.errors[-1]["rule"] == "RETRY_ON_ERROR_CONFIG[1]: give_up_after_seconds=3600"

    def test_an_atomic_run_has_no_second_effect(self):
        """What the first try wrote is gone before anybody is asked, and the second is the last."""
        with live_supervisor(WORKERS_COUNT=1):
            task = AtomicCall("Busy", 0).delay()
            wait_until(ended)

        task.refresh_from_db()
        assert (task.status, task.tries) == ("finished", 2)
        assert marks() == ["asked of try 1 ['Busy', 0]", "try 2"]


@pytest.mark.django_db
class TestPause:
    @pytest.mark.parametrize(
        ("answer", "pause", "told"),
        [
            (7, 7, ""),
            (0.5, 0.5, ""),
            (None, 30, ""),
            ("120", 30, f" ({ASKED} returned '120', and not a number of seconds up to ten years)"),
            (-1, 30, f" ({ASKED} returned -1, and not a number of seconds up to ten years)"),
            (True, 30, f" ({ASKED} returned True, and not a number of seconds up to ten years)"),
            (1e12, 30, (f" ({ASKED} returned 1000000000000.0, and not a number of seconds up to ten"
             " years)")),
            ("odd", 30, (f" ({ASKED} returned a Unshowable, and not a number of seconds up to ten"
             " years)")),
            ("exit", 30, f" ({ASKED} raised builtins.SystemExit: )"),
        ],
    )  # fmt: skip
    def test_only_a_number_is_an_answer(self, answer, pause, told):
        """A header is a text; a mistake there must not be one of the row's moment."""
        task = Call(["Busy", answer]).delay()
        run_pending()

        assert waits(task) == pytest.approx(pause, abs=0.001)
        assert task.errors[0]["message"] == f"429{told}"

    def test_an_answer_that_is_a_secret_is_masked(self):
        task = Reveal(how="retry", password="hunter2hunter2").delay()
        run_pending()

        task.refresh_from_db()
        assert f"{ASKED} returned '******', and not" in task.errors[0]["message"]
        assert "hunter2" not in str(task.errors)

    def test_nobody_is_asked_for_a_retry_that_will_not_be(self):
        task = Call(["Busy", 0]).delay()
        run_pending(errors="keep")

        task.refresh_from_db()
        assert (task.status, task.tries) == ("error", 4)
        assert len(marks()) == 3

    def test_the_first_config_that_fits_holds(self):
        """ConnectionError is an OSError, and so an Exception, too."""
        task = Call(["ConnectionError"], ["LookupError"], ["ValueError"]).delay()
        run_pending()
        task.refresh_from_db()
        assert task.errors[0]["rule"].startswith("RETRY_ON_ERROR_CONFIG[1]: retry_pause=10, expon")

        decision = run_again(task)

        assert isinstance(decision, Failed)  # the try before counts, whatever it ended with
        assert task.errors[1]["rule"] == "RETRY_ON_ERROR_CONFIG[2]: retries_count=1"

    def test_receivers_are_told_what_is_written(self, sent):
        """The worker tells and the supervisor writes: what is drawn is drawn once for both."""
        task = Call(["ConnectionError"]).delay()
        run_pending()
        for _ in range(4):
            run_again(task)

        written = [error["pause_seconds"] for error in task.errors]
        assert sent == written
        assert waits(task) == pytest.approx(written[-1], abs=0.001)
        for number, pause in enumerate(written):
            assert 5 * 2**number <= pause <= 15 * 2**number

    def test_tasks_that_failed_together_do_not_come_again_together(self):
        pauses = {perform(Call, [["ConnectionError"]]).decision.pause for _ in range(20)}

        assert len(pauses) == 20
        assert all(timedelta(seconds=5) <= pause <= timedelta(seconds=15) for pause in pauses)

    def test_a_seed_of_the_tasks_own_changes_nothing(self):
        """Else all workers that run it would draw alike."""
        draws = []
        for _ in range(2):
            random.seed(7)
            draws.append(drawn())

        assert draws[0] != draws[1]
        assert random.random() == random.Random(7).random()

    def test_djangos_own_functions_have_all_of_it(self):
        """By ``@options``."""
        result = tasks.late.enqueue()
        row = Task.objects.get(pk=result.id)
        run_pending()
        assert waits(row) == pytest.approx(60, abs=0.001)

        run_again(row)

        assert waits(row) == pytest.approx(120, abs=0.001)
        result.refresh()
        assert [error.exception_class for error in result.errors] == [tasks.Late] * 2


@pytest.mark.django_db
class TestGivingUp:
    def test_no_retry_is_due_later_than_the_limit(self):
        """The pauses are 10, 20, 40 … and the last would end after an hour."""
        task = Call(["ConnectionError"]).delay()
        began = timezone.now()
        run_pending(until=began + timedelta(days=1), errors="keep")

        task.refresh_from_db()
        assert task.status == "error"
        assert task.errors[-1]["rule"] == "RETRY_ON_ERROR_CONFIG[1]: give_up_after_seconds=3600"
        assert 8 <= task.tries <= 15
        assert task.last_attempted_at - task.first_tried_at <= timedelta(hours=1)
        assert task.execute_after - task.first_tried_at <= timedelta(hours=1)

    def test_the_row_keeps_its_first_try(self):
        task = Call(["ConnectionError"]).delay()
        run_pending()
        task.refresh_from_db()
        first = task.first_tried_at
        assert first == task.started_at

        run_again(task)

        assert task.tries == 2
        assert task.first_tried_at == first < task.last_attempted_at

    def test_it_counts_from_the_first_try_whatever_that_failed_with(self):
        """Where the config that holds for that error has no limit."""
        task = Call(["LookupError"], ["ConnectionError"]).delay()
        (ran, again) = run_pending(errors="keep")
        assert "[2]" in ran.decision.rule
        task.refresh_from_db()
        assert task.first_tried_at == task.started_at < task.last_attempted_at
        Task.objects.update(first_tried_at=timezone.now() - timedelta(hours=1))

        assert isinstance(again.decision, Retried)
        assert isinstance(run_again(task), Failed)

    def test_an_operators_retry_begins_anew(self):
        """All counts are at zero then, and so is this one, also where an older release did it."""
        task = Call(["ConnectionError"]).delay()
        run_pending()
        Task.objects.update(first_tried_at=timezone.now() - timedelta(days=2))
        assert isinstance(run_again(task), Failed)
        assert steering.retry([task.pk]) == [task.pk]

        (ran,) = run_pending(errors="keep")

        assert isinstance(ran.decision, Retried)
        assert timezone.now() - ran.task.first_tried_at < timedelta(minutes=5)

    def test_tries_of_an_older_release_do_not_count(self):
        """It did not keep when they began."""
        task = Call(["ConnectionError"]).delay()
        run_pending()
        Task.objects.update(first_tried_at=None, tries=7)

        run_again(task)

        assert task.status == "scheduled"
        assert task.first_tried_at == task.last_attempted_at

    def test_a_time_that_a_hand_wrote_ends_no_claim(self):
        """Infinity less a moment is an error, which would keep all others from being claimed."""
        for far in ("infinity", "-infinity"):
            task = Call(["ConnectionError"]).delay()
            run_pending()
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE partisan_async_task SET first_tried_at = %s WHERE id = %s",
                    [far, task.pk],
                )
            steering.run_now([task.pk])
            me = "11111111-1111-1111-1111-111111111111"
            with connection.cursor() as cursor:
                cursor.execute(*store.claim_only(me, task.pk))
                (claimed,) = store.claims(cursor.fetchall())
            assert claimed.trying_seconds == (0 if far == "infinity" else 4000 * 86_400)


class TestUnused:
    """A project that uses none of it makes the statements that it made."""

    def test_its_settles_do_not_know_the_column(self):
        failure = Failure("a.B", "boom")
        plain = [Retried(timedelta(1), failure, "rule"), Failed(failure), Postponed(timedelta(1))]
        settlements = [
            Settlement(claim(id=n), each, Attempt(1, "w")) for n, each in enumerate(plain)
        ]
        timed = replace(plain[0], timed=True)

        without = store.settle("me", settlements)
        mixed = store.settle("me", [*settlements, Settlement(claim(), timed, Attempt(1, "w"))])

        assert "first_tried_at" not in without.sql
        assert "first_tried_at" in mixed.sql
        assert mixed.params["timed"] == [False, False, False, True]

    @pytest.mark.django_db
    def test_no_row_has_it(self, monkeypatch):
        monkeypatch.setattr(Call, "RETRY_ON_ERROR_CONFIG", Call.RETRY_ON_ERROR_CONFIG[-1:])
        perform(Call, [["LookupError"]])
        task = Call(["LookupError"]).delay()
        run_pending(errors="keep")

        task.refresh_from_db()
        assert (task.status, task.tries, task.first_tried_at) == ("error", 2, None)


@pytest.mark.django_db
class TestTold:
    def test_why_says_which_rule_it_waits_by(self):
        task = Call(["Busy", 7200]).delay()
        run_pending()
        task.refresh_from_db()

        assert (
            "Its next try, number 2, is due 2 hours after the last, by RETRY_ON_ERROR_CONFIG[0]:"
            f" {ASKED}."
        ) in reasons.why(task)

    def test_it_does_not_where_the_task_waits_for_something_else(self):
        """A postpone keeps no error, so the last one is still that of the retry before."""
        task = Call(["Busy", 7200]).delay()
        run_pending()
        steering.run_now([task.pk])
        task.refresh_from_db()

        assert not any("Its next try" in said for said in reasons.why(task))

    def test_why_says_which_rule_gave_it_up(self):
        task = Call(["LookupError"]).delay()
        run_pending(errors="keep")
        task.refresh_from_db()

        assert "It was given up: RETRY_ON_ERROR_CONFIG[2]: retries_count=1." in reasons.why(task)

    def test_what_a_hand_wrote_on_the_row_is_passed_over(self):
        task = Call(["Busy", 7200]).delay()
        run_pending()
        for odd in (
            {"rule": 5, "pause_seconds": 1, "at": "2026-01-01T00:00:00+00:00"},
            {"rule": "x", "pause_seconds": "1", "at": "2026-01-01T00:00:00+00:00"},
            {"rule": "x", "pause_seconds": 1e14, "at": "2026-01-01T00:00:00+00:00"},
            {"rule": "x", "pause_seconds": 1, "at": "never"},
            {"rule": "x", "pause_seconds": 1},
            "text",
        ):
            Task.objects.update(errors=[odd])
            task.refresh_from_db()

            assert not any("Its next try" in said for said in reasons.why(task))

    def test_the_admins_page_says_it(self, admin_client):
        task = Call(["Busy", 7200]).delay()
        run_pending()

        page = admin_client.get(reverse("admin:partisan_async_task_change", args=[task.pk]))

        assert "Its next try, number 2, is due 2 hours after the last" in page.content.decode()

    def test_the_command_says_it(self, capsys):
        task = Call(["Busy", 7200]).delay()
        run_pending()

        call_command("partisan", "why", str(task.pk))

        told = " ".join(capsys.readouterr().out.split())
        assert "Its next try, number 2, is due 2 hours after the last" in told


WRONG = [
    (
        [
            ErrorsHandleConfig(retry_on_errors=[OSError], retries_count=1, retry_pause=0),
            ErrorsHandleConfig(
                retry_on_errors=[ConnectionError, TimeoutError], retries_count=1, retry_pause=0
            ),
        ],
        "partisan_async.E018",
        (
            "Nothing.RETRY_ON_ERROR_CONFIG[1] never comes to hold: those before it take all of"
            " ConnectionError, TimeoutError."
        ),
    ),
    (
        ErrorsHandleConfig(
            retry_on_errors=[OSError],
            retries_count=1,
            retry_pause=lambda error: error.pause,
            or_seconds=1,
        ),
        "partisan_async.E019",
        (
            "Nothing.RETRY_ON_ERROR_CONFIG has the function"
            " retry_pause=tests.test_retries.<lambda>, which cannot be asked: too many positional"
            " arguments."
        ),
    ),
    (
        ErrorsHandleConfig(
            retry_on_errors=[OSError], retry_pause=60, give_up_after_seconds=30, jitter=0.25
        ),
        "partisan_async.E020",
        (
            "Nothing.RETRY_ON_ERROR_CONFIG has a first pause of 60 s, which is longer than"
            " give_up_after_seconds=30, so that nothing is tried again."
        ),
    ),
]


class TestWrong:
    @pytest.mark.parametrize(("configs", "check", "told"), WRONG)
    def test_what_cannot_do_what_is_meant_is_a_check_error(self, monkeypatch, configs, check, told):
        monkeypatch.setattr(Nothing, "RETRY_ON_ERROR_CONFIG", configs)

        found = errors_of()

        assert set(found) == {check}
        assert found[check].msg == told
        assert found[check].hint

    def test_a_function_that_is_async_cannot_be_asked(self, monkeypatch):
        async def pause_of(error, task):
            return 1

        config = ErrorsHandleConfig(
            retry_on_errors=[Busy], retries_count=1, retry_pause=pause_of, or_seconds=1
        )
        monkeypatch.setattr(Nothing, "RETRY_ON_ERROR_CONFIG", config)

        assert "which is async" in errors_of()["partisan_async.E019"].msg

    @pytest.mark.parametrize("value", [[], [OSError], {"retry_on_errors": [OSError]}])
    def test_what_is_no_config_is_told_by_one_check(self, monkeypatch, value):
        monkeypatch.setattr(Nothing, "RETRY_ON_ERROR_CONFIG", value)

        assert set(errors_of()) == {"partisan_async.E004"}

    @pytest.mark.parametrize(("configs", "check", "told"), WRONG)
    def test_options_refuse_it(self, configs, check, told):
        """A function of Django's is checked where it is decorated."""
        what = told.partition(" ")[2].removesuffix(".").replace("[", r"\[")

        with pytest.raises(TypeError, match=what.partition(":")[0]):
            options(retry_on_error=configs)

    def test_what_is_right_is_taken(self):
        config = ErrorsHandleConfig(
            retry_on_errors=[Busy], retries_count=1, retry_pause=as_asked, or_seconds=0
        )
        several = [config, ErrorsHandleConfig(
            retry_on_errors=[Exception], retry_pause=5, give_up_after_seconds=5
        )]  # fmt: skip

        options(retry_on_error=several)
        options(retry_on_error=tuple(several))
