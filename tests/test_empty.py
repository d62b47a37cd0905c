"""A site's first minute: every page, command and figure of the operator's, with nothing there."""

import io
import json
import math
import re
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from partisan_async import steering
from partisan_async.models import PausedQueue, Schedule, Supervisor, Tally, Task
from partisan_async.operate import doctor, last_hour, overview
from partisan_async.steering.pruning import ended_queues
from partisan_async.testing import run_pending
from tests.process import partisan
from tests.test_health import get, port_of
from tests.test_metrics import scrape

MODELS = (Task, Supervisor, Schedule, Tally, PausedQueue)

DAY_SECONDS = 24 * 3600

PAGES = [
    reverse(f"admin:partisan_async_{name}_changelist")
    for name in ("task", "supervisor", "schedule", "dashboard")
]

COMMANDS = [
    ("status",),
    ("status", "--json"),
    ("doctor",),
    ("doctor", "--json"),
    ("why", "7"),
    ("retry", "7"),
    ("retry", "--queue", "default", "--yes"),
    ("run-now", "--queue", "default", "--yes"),
    ("cancel", "--queue", "default", "--yes"),
    ("prune", "--older-than", "1d", "--yes"),
    ("resume", "default"),
]


@pytest.fixture
def empty(db):
    """As after ``migrate``."""
    for model in MODELS:
        assert not model.objects.exists()


def prose(html):
    return re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("query", ["", "?status=error", "?q=7", "?q=nothing"])
def test_every_page_answers(empty, admin_client, page, query):
    answer = admin_client.get(page + query, follow=True)

    assert answer.status_code == 200
    told = prose(answer.content.decode())
    assert re.findall(r"\b(None|nan|inf)\b", told) == []


@pytest.mark.parametrize("name", ["task", "supervisor", "schedule"])
def test_a_page_of_what_is_not_there_leads_back(empty, admin_client, name):
    answer = admin_client.get(reverse(f"admin:partisan_async_{name}_change", args=["7"]))

    assert answer.status_code in (302, 404)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_answers(empty, words):
    """In words, and not by a traceback, where it is asked about what is not there."""
    told = io.StringIO()
    wrong = ""
    try:
        call_command("partisan", *words, stdout=told, stderr=told)
    except CommandError as error:
        wrong = str(error)

    text = told.getvalue() + wrong
    assert text.strip()
    if "--json" in words:
        json.loads(told.getvalue())
    else:
        assert re.findall(r"\b(None|nan|inf|null)\b", text) == []


def test_every_reading_answers(empty):
    """What pages and commands are made of says of nothing that it is nothing."""
    hour = last_hour.last_hour()

    assert len(hour.minutes) == 60
    assert (hour.processors, hour.slowest, hour.failing) == ([], [], [])
    assert overview.supervisors() == []
    assert overview.still_held([]) == set()
    for queue in overview.queues():
        assert (queue.ready, queue.running, queue.oldest, queue.per_minute) == (0, 0, None, 0)
    assert ended_queues() == []
    assert steering.prune(timedelta(0)) == steering.Pruned(0, {})
    assert run_pending() == []
    assert [each for each in doctor.examine() if each.well is None] == []


@pytest.mark.django_db(transaction=True)
def test_every_figure_of_a_scrape_is_finite_and_recent():
    """An age of ten years, made of a NULL, fires the documented alert for ever."""
    with partisan("--async", "--health-port", "0") as running:
        port = port_of(running)
        shown = scrape(port)
        ready = get(port, "/ready")

    assert ready[0] in (200, 503)
    assert shown["partisan_queue_oldest_seconds",] == 0
    for name, value in shown.items():
        assert math.isfinite(value), name
        if name[0].endswith("_seconds"):
            assert 0 <= value < DAY_SECONDS, name
