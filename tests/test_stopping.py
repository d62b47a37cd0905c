"""A supervisor that was told to stop, and whose tasks take long: everybody is told so."""

import io
import json
import re
import signal
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.urls import reverse
from django.utils import timezone

from partisan_async import steering
from partisan_async.models import Supervisor
from partisan_async.operate import overview, reasons
from tests.conftest import marks, wait_until
from tests.process import partisan as supervisor
from tests.testapp.partisan_tasks import Sleep, Write

CLOCK = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
FAREWELL = rf"stopping since {CLOCK} \(\d+ \w+ ago\), runs 1 task, starts none"


def partisan(*arguments):
    out = io.StringIO()
    call_command("partisan", *map(str, arguments), stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.mark.django_db(transaction=True)
def test_after_sigterm_with_a_long_grace_all_say_that_it_starts_none(admin_client):
    """A deploy hangs, tasks pile up, and everything would look well."""
    env = {"DJANGO_SETTINGS_MODULE": "tests.settings_long_grace"}
    with supervisor("--async", "--workers_count", "1", **env) as running:
        long = Sleep(600, "long").delay()
        wait_until(lambda: "start long" in marks())
        before = timezone.now()
        running.signal(signal.SIGTERM)
        wait_until(lambda: Supervisor.objects.filter(stopping_since__isnull=False).exists())
        waiting = Write().delay()

        status = partisan("status")
        assert re.search(rf"^\S+/{running.pid} is {FAREWELL}\.$", status, re.MULTILINE)
        assert re.search(r"default +1, 1 stopping", status)
        (told,) = json.loads(partisan("status", "--json"))["supervisors"]
        assert told["stopping_since"] is not None
        assert re.search(FAREWELL, " ".join(reasons.why(waiting)))
        assert "about to end, and start nothing more" in reasons.why(waiting)[0]
        long.refresh_from_db()
        assert "what has not ended within SHUTDOWN_GRACE_SECONDS" in " ".join(reasons.why(long))
        out = io.StringIO()
        with pytest.raises(CommandError):
            call_command("partisan", "doctor", stdout=out)
        assert re.search(FAREWELL, out.getvalue())
        page = admin_client.get(reverse("admin:partisan_async_dashboard_changelist")).text
        assert re.search(FAREWELL, page)
        assert ">stopping</span>" in page

        (state,) = overview.supervisors()
        assert not state.starts
        assert abs(state.stopping_since - before) < timedelta(seconds=60)
        running.signal(signal.SIGTERM)
        assert running.wait() == 0


@pytest.mark.django_db(transaction=True)
def test_one_that_is_drained_says_since_when():
    with supervisor("--async", "--workers_count", "1") as running:
        Sleep(600, "long").delay()
        wait_until(lambda: "start long" in marks())
        steering.drain(Supervisor.objects.get().pk)
        wait_until(lambda: Supervisor.objects.filter(stopping_since__isnull=False).exists())

        (state,) = overview.supervisors()
        assert re.fullmatch(FAREWELL.replace("stopping", "draining"), state.farewell)
        running.signal(signal.SIGTERM)
        running.signal(signal.SIGTERM)
        running.wait()


@pytest.mark.django_db
def test_beats_that_follow_keep_the_first_moment(django_assert_num_queries):
    import uuid

    from tests.test_store import beat

    me = uuid.uuid4()
    beat(me)
    assert Supervisor.objects.get().stopping_since is None
    beat(me, stopping=True)
    first = Supervisor.objects.get().stopping_since
    beat(me, stopping=True)

    assert first is not None
    assert Supervisor.objects.get().stopping_since == first
