"""How people are told of times: everywhere the same."""

import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from partisan_async.models import Schedule, Task
from partisan_async.operate import reasons
from partisan_async.templatetags.partisan_async import moment
from partisan_async.testing import run_pending
from partisan_async.text import moments
from tests.testapp.partisan_tasks import Fail, Write

NOON = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)

TOLD = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \((?:in )?\d+ \w+(?: ago)?\)"


@pytest.mark.parametrize(
    ("delta", "far"),
    [
        (timedelta(hours=-3), "in 3 hours"),
        (timedelta(minutes=5), "5 minutes ago"),
        (timedelta(0), "0 seconds ago"),
    ],
)
def test_local_with_seconds_and_how_long_from_now(delta, far):
    """Who reads UTC at night reckons, and is wrong by the hour of the summer time."""
    with timezone.override("Europe/Berlin"):
        assert moments.told(NOON, NOON + delta) == f"2026-03-01 13:00:05 ({far})"


def test_a_naive_one_is_local_already(settings):
    settings.USE_TZ = False
    naive = datetime(2026, 3, 1, 12, 0, 5)

    assert moments.told(naive, naive) == "2026-03-01 12:00:05 (0 seconds ago)"


def test_what_is_no_moment_stays_what_it_is():
    """An error's time is text from a row, and may be anything."""
    assert moment("some day") == "some day"


@pytest.mark.django_db
class TestEverywhere:
    @pytest.fixture(autouse=True)
    def abroad(self):
        with timezone.override("Asia/Kathmandu"):
            yield

    def test_why(self):
        due = timezone.now() + timedelta(hours=3, minutes=1)
        task = Write().delay(execute_after=due)

        (said, *_) = reasons.why(task)

        local = timezone.localtime(due)
        assert said == f"It is scheduled until {local:%Y-%m-%d %H:%M:%S} (in 3 hours)."

    def test_the_page_of_a_task(self, admin_client):
        task = Fail("ValueError").delay()
        run_pending(errors="keep")
        page = admin_client.get(reverse("admin:partisan_async_task_change", args=[task.pk])).text

        labels = ("created at", "execute after", "started at", "last attempted at", "finished at")
        for label in labels:
            pattern = rf"{label}:?</label>.*?{TOLD}"
            assert re.search(pattern, page, re.DOTALL | re.IGNORECASE), label
        assert re.search(rf"Try 1, {TOLD}", page)
        assert not re.search(r"[ap]\.m\.", page)

    def test_the_list_and_the_page_of_schedules(self, admin_client):
        row = Schedule.objects.create(
            processor_class="Tick", queue_name="ticks", schedule="x", next_tick=NOON,
            set_by="00000000-0000-0000-0000-00000000000a",
        )  # fmt: skip
        for view in (
            reverse("admin:partisan_async_schedule_changelist"),
            reverse("admin:partisan_async_schedule_change", args=[row.pk]),
        ):
            page = admin_client.get(view).text
            assert re.search(TOLD, page)
            assert "2026-03-01 17:45:05" in page

    def test_doctor(self):
        from partisan_async import steering
        from partisan_async.operate.doctor import tasks

        steering.pause(processor="Write")

        ((_, said),) = tasks.paused_processors()
        assert re.search(f"since {TOLD}: ", said)

    def test_the_command(self):
        task = Write().delay()
        Task.objects.update(status="finished", finished_at=timezone.now())
        out = io.StringIO()
        call_command("partisan", "why", str(task.pk), stdout=out)

        assert re.search(f"It has finished at {TOLD}", out.getvalue())
