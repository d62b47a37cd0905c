"""Each text of a page is marked for translation; commands and logs speak English everywhere.

Words: the *wide* language has each text as it is in English, in wide letters. What a page of it
still has in plain letters is of a row, or nobody marked it.
"""

import gettext
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import uuid
from contextlib import contextmanager
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone, translation
from django.utils.translation import trans_real

import partisan_async
from partisan_async import registry, signals, steering
from partisan_async.admin import task_list
from partisan_async.admin.steerings import STEERINGS
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.management.start_partisan.conditions import require_home
from partisan_async.models import (
    Home,
    LimitOverride,
    LimitPause,
    PausedProcessor,
    Schedule,
    Supervisor,
    Task,
)
from partisan_async.naming import name_of
from partisan_async.operate import reasons
from partisan_async.schedule import Cron
from partisan_async.testing import live_supervisor
from tests.conftest import state, wait_until
from tests.limited import limit, row
from tests.old_rows import before_the_constraints
from tests.process import ROOT, environment
from tests.site_rules import refusal
from tests.test_admin import LIST, SUPERVISORS, page_of
from tests.test_dashboard import client_of, supervise, tally
from tests.test_docs import blocks
from tests.test_reasons import another_session
from tests.testapp.partisan_tasks import Add, Sleep, Tick, Write, WriteUnique

DASHBOARD = "/admin/partisan_async/dashboard/"
LIMIT = f"{DASHBOARD}limit/"
SCHEDULES = "/admin/partisan_async/schedule/"

WIDE = {ord(letter): ord(letter) + 0xFEE0 for letter in map(chr, range(128)) if letter.isalpha()}
KEPT = re.compile(r"%\(\w+\)[a-z]|%[a-z%]|\{[^}]*\}|<[^>]+>|&\w+;")
"""What of a text is no word of it: places for names, and marks of HTML."""


def wide(text):
    """The text in wide letters."""
    words = KEPT.split(text)
    kept = [*KEPT.findall(text), ""]
    return "".join(word.translate(WIDE) + each for word, each in zip(words, kept, strict=True))


class WideTranslations(gettext.NullTranslations):
    """The wide language, as Django asks for one."""

    def to_language(self):
        return "xx"

    def gettext(self, message):
        return wide(message.rpartition("\x04")[2])  # before it there may be a context

    def ngettext(self, singular, plural, n):
        return self.gettext(singular if n == 1 else plural)


@pytest.fixture(autouse=True)
def wide_language(monkeypatch):
    """Have Django know it."""
    monkeypatch.setitem(trans_real._translations, "xx", WideTranslations())


class Texts(HTMLParser):
    """What a reader sees of a page, hears of it, or is told by its script."""

    # Without alt: Django's own, of icons, is in English everywhere.
    TOLD = ("aria-label", "data-label", "data-tip", "placeholder", "title",
            "data-live", "data-signed-out", "data-silent")  # fmt: skip

    def __init__(self, page):
        super().__init__()
        self.hidden, self.texts = 0, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.hidden += tag in ("script", "style")
        self.texts += [attrs[name] for name in self.TOLD if attrs.get(name)]
        if tag == "input" and attrs.get("type") == "submit":
            self.texts.append(attrs["value"])

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self.hidden:
            self.texts.append(data)


OF_ROWS = re.compile(
    r"""\b(
      manage\.py\ (partisan\ (retry|cancel|resume|doctor|adopt)|start_partisan)
      (\ (--?[\w-]+ | default | Write(Unique)? | [0-9]+))*
    | args | kwargs | last | x{3,} | every\ 0\.2\ s | UTC | C[DS]T | (left|locked)\ [0-9]+
    | Write(Unique)? | Fail | Pay | Tick | Gone | shop\.tasks\.pay | default | elsewhere | ticks
    | here(/7)? | admin | looker | elf | needle | sandbox | production | staging
    | ValueError | builtins\.ValueError | boom | the\ bank\ is\ closed | the\ site\ refuses\ it
    | shop/x\.py:4\ in\ run | idle\ in\ transaction | caller | pid
    | [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}
    )\b | \((new|scheduled|in_process|finished|error)\)
    | File\ "/shop/x\.py",\ line\ 4,\ in\ run | Traceback\ \(most\ recent\ call\ last\):""",
    re.VERBOSE,
)
"""What rows have in these tests, and commands that are to be copied."""


def plain_words(*texts):
    """What is in plain letters, and not of a row."""
    known = set(map(name_of, (*registry.processors(), *registry.tasks())))
    left = (OF_ROWS.sub(" ", text) for text in texts if text.strip() not in known)
    return [text.strip() for text in left if re.search("[A-Za-z]", text)]


def assert_wide(page):
    assert page.status_code == 200
    assert plain_words(*Texts(page.content.decode()).texts) == []


@contextmanager
def in_wide():
    with translation.override("xx"):
        yield


def soon(**delta):
    return timezone.now() + timedelta(**delta)


def change(task, **columns):
    Task.objects.filter(pk=task.pk).update(**columns)
    task.refresh_from_db()
    return task


def beating():
    """A supervisor with a worker that has nothing to do."""
    return supervise(workers=[{"pid": 8, "running": 0, "tasks": []}])


def busy(*tasks):
    """A supervisor that runs these, each in a worker of its own."""
    told = [
        {"pid": 8 + n, "running": 1, "tasks": [{"id": t.pk, "processor": "Write", "seconds": 3}]}
        for n, t in enumerate(tasks)
    ]
    supervisor = supervise(workers=told)
    Task.objects.filter(pk__in=[task.pk for task in tasks]).update(
        status="in_process", claimed_by=supervisor.pk, claimed_at=timezone.now()
    )
    return supervisor


def held(supervisor=None, **columns):
    """A task that a supervisor has claimed; with none, one that is gone."""
    holder = uuid.uuid4() if supervisor is None else supervisor.pk
    columns = {"status": "in_process", "claimed_by": holder, "claimed_at": soon()} | columns
    return change(Write(1).delay(), **columns)


def an_error(**more):
    where = 'Traceback (most recent call last):\n  File "/shop/x.py", line 4, in run\n'
    return {
        "exception_class": "builtins.ValueError",
        "message": "boom",
        "traceback": where,
        "try": 1,
        "at": timezone.now().isoformat(),
    } | more


def ended_in_error(**columns):
    columns = {"status": "error", "tries": 2, "errors": [an_error()]} | columns
    return change(Write(1).delay(), **columns)


# Each makes a task that says something else of itself.


def nobody_serves():
    return Write(1).delay()


def all_are_silent():
    beating()
    Supervisor.objects.update(last_seen_at=soon(minutes=-5))
    return Write(1).delay()


def is_next():
    beating()
    return Write(1).delay()


def is_next_for_long():
    beating()
    long_ago = soon(minutes=-5)
    return change(Write(1).delay(), created_at=long_ago, execute_after=long_ago)


def no_worker_is_up():
    supervise(workers=[])
    return Write(1).delay()


def the_worker_is_busy():
    first, *others = (Write(n).delay() for n in range(3))
    busy(first)
    return others[-1]


def all_workers_are_busy():
    tasks = [Write(n).delay() for n in range(4)]
    busy(*tasks[:2])
    return tasks[-1]


def many_are_before_it():
    beating()
    Write.bulk_delay([Write(n) for n in range(reasons.COUNTED + 2)])
    return Write("last").delay()


def is_scheduled():
    return Write(1).delay(execute_after=soon(hours=5))


def its_queue_is_paused():
    steering.pause("default")
    return Write(1).delay()


def its_processor_is_paused():
    steering.pause(processor="Write")
    return Write(1).delay()


def its_processor_is_paused_in_its_queue():
    steering.pause("default", processor="Write")
    return Write(1).delay()


def its_pause_is_over():
    steering.pause(processor="Write")
    task = Write(1).delay()
    PausedProcessor.objects.update(resumed_at=soon())
    return task


def all_drain():
    supervise(draining=True)
    return Write(1).delay()


def all_stop():
    supervise(stopping_since=soon(seconds=-5))
    return Write(1).delay()


def its_class_is_unknown():
    return change(Write(1).delay(), processor_class="Gone")


def its_task_is_unknown():
    return change(Write(1).delay(), processor_class="shop.tasks.pay")


def much_befell_it():
    return change(
        Write(1).delay(),
        unrecognised=3,
        lost=1,
        interrupted=1,
        postpones=2,
        errors=[an_error(message="the bank is closed", postponed=True), an_error()],
    )


def it_is_suspect():
    return change(Write(1).delay(), suspect=True, lost=0, interrupted=2, postpones=1)


def it_postponed_itself_and_its_try_is_not_known():
    return change(Write(1).delay(), errors=[{"postponed": True, "message": "boom"}])


def its_supervisor_is_gone():
    return held()


def its_supervisor_is_gone_and_others_are_there():
    beating()
    return held()


def its_supervisor_is_gone_and_it_is_paused():
    steering.pause(processor="Write")
    return held()


def its_supervisor_is_silent():
    supervisor = supervise(last_seen_at=soon(minutes=-5))
    return held(supervisor)


def its_supervisor_is_silent_and_others_are_there():
    beating()
    return its_supervisor_is_silent()


def it_was_interrupted_too_often():
    return held(interrupted=20)


def it_runs():
    task = Write(1).delay()
    busy(task)
    task.refresh_from_db()
    return task


def it_runs_where_it_drains():
    task = it_runs()
    Supervisor.objects.update(draining=True)
    return task


def it_runs_where_it_stops():
    task = it_runs()
    Supervisor.objects.update(stopping_since=soon(seconds=-5))
    return task


def it_is_about_to_run():
    return held(beating())


def it_was_left():
    return held(beating(), claimed_at=soon(minutes=-5))


def it_failed():
    return ended_in_error(finished_at=soon(), last_attempted_at=soon(seconds=-3))


def it_failed_nobody_knows_when():
    with before_the_constraints():
        return ended_in_error(finished_at=None, result=["x" * 3])


def it_finished():
    return change(
        Write("x" * 30_000).delay(),
        status="finished",
        tries=2,
        finished_at=soon(),
        last_attempted_at=soon(seconds=-3),
        errors=[an_error()],
        result={"1": "2" * 30_000},
    )


def a_twin_waits():
    first = change(WriteUnique(1).delay(), status="error", errors=[], finished_at=soon())
    WriteUnique(1).delay()
    return first


def it_stands_for_others():
    return WriteUnique(1).delay()


STATES = [
    nobody_serves,
    all_are_silent,
    is_next,
    is_next_for_long,
    no_worker_is_up,
    the_worker_is_busy,
    all_workers_are_busy,
    many_are_before_it,
    is_scheduled,
    its_queue_is_paused,
    its_processor_is_paused,
    its_processor_is_paused_in_its_queue,
    its_pause_is_over,
    all_drain,
    all_stop,
    its_class_is_unknown,
    its_task_is_unknown,
    much_befell_it,
    it_is_suspect,
    it_postponed_itself_and_its_try_is_not_known,
    its_supervisor_is_gone,
    its_supervisor_is_gone_and_others_are_there,
    its_supervisor_is_gone_and_it_is_paused,
    its_supervisor_is_silent,
    its_supervisor_is_silent_and_others_are_there,
    it_was_interrupted_too_often,
    it_runs,
    it_runs_where_it_drains,
    it_runs_where_it_stops,
    it_is_about_to_run,
    it_was_left,
    it_failed,
    it_failed_nobody_knows_when,
    it_finished,
    a_twin_waits,
    it_stands_for_others,
]


@pytest.mark.django_db
class TestTasksPage:
    @pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
    def test_what_it_says_of_itself(self, admin_client, state):
        """Whoever reads it: an operator, a colleague who sees all, one who sees little."""
        task = state()
        looker = client_of("view_task", name="looker")

        with in_wide():
            said = reasons.why(task)
            pages = [client.get(page_of(task)) for client in (admin_client, looker)]

        assert said
        assert plain_words(*said) == []
        for page in pages:
            assert_wide(page)

    @pytest.mark.django_db(transaction=True)
    def test_that_it_is_locked(self, admin_client):
        beating()
        task = Write(1).delay()

        with another_session() as session, in_wide():
            session.execute("SELECT 1 FROM partisan_async_task FOR UPDATE")
            page = admin_client.get(page_of(task))

        assert wide("locked") in page.text
        assert_wide(page)

    @pytest.mark.parametrize(
        ("here", "kept"),
        [
            ("", {"name": "production"}),
            ("staging", {"name": "production"}),
            ("staging", {"name": "", "server": "1"}),
            ("staging", {"name": "", "server": ""}),
        ],
    )
    def test_that_its_database_is_a_copy(self, admin_client, settings, here, kept):
        settings.PARTISAN_HOME = here or None
        Home.objects.create(id=1, **{"server": "1", "database": "sandbox"} | kept)
        task = Write(1).delay()

        with in_wide():
            page = admin_client.get(page_of(task))

        assert wide("another place") in page.text
        name = connection.settings_dict["NAME"]
        assert plain_words(*(t.replace(name, "") for t in Texts(page.text).texts)) == []

    def test_in_english_an_unknown_processor_is_told_of_as_the_error_does(self):
        """The sentence stands in two places: exceptions know no Django."""
        for make in (its_class_is_unknown, its_task_is_unknown):
            task = make()
            error = str(ProcessorClassNotFound(task.processor_class))

            assert any(sentence.startswith(error) for sentence in reasons.why(task))


@pytest.mark.django_db
class TestLists:
    @pytest.mark.parametrize(
        "asked",
        ["", "?status=new", "?status=scheduled", "?status=in_process", "?status=finished",
         "?status=error", "?queue=elsewhere", "?processor=Write", "?ended=5m", "?q=needle"],
    )  # fmt: skip
    def test_tasks(self, admin_client, asked):
        for make in (is_scheduled, its_pause_is_over, it_runs, it_failed, it_finished):
            make()
        steering.pause("default")

        with in_wide():
            assert_wide(admin_client.get(LIST + asked))
            assert_wide(client_of("view_task", name="looker").get(LIST + asked))

    def test_a_search_that_is_given_up(self, admin_client, monkeypatch):
        Write.bulk_delay([Write("x" * 150_000, n) for n in range(300)])
        monkeypatch.setattr(task_list, "SEARCH_SECONDS", 0.001)

        with in_wide():
            page = admin_client.get(LIST, {"q": "needle"})

        assert wide("given up") in page.text
        assert_wide(page)

    def test_more_than_is_leafed_through(self, admin_client, monkeypatch):
        monkeypatch.setattr(task_list, "LISTED", 2)
        for n in range(4):
            Write(n).delay()

        with in_wide():
            assert_wide(admin_client.get(LIST))

    def test_supervisors(self, admin_client):
        supervisor, *_ = supervise(), supervise(draining=True), supervise(workers="?")
        supervise(stopping_since=soon(), workers=[{"pid": 9, "running": 1_000, "tasks": []}])
        supervise(last_seen_at=soon(minutes=-9), workers=[])

        with in_wide():
            assert_wide(admin_client.get(SUPERVISORS))
            for supervisor in Supervisor.objects.all():
                assert_wide(admin_client.get(f"{SUPERVISORS}{supervisor.pk}/change/"))

    @pytest.mark.parametrize("schedule", ["every 0.2 s", "*/5 * * * * UTC"])
    def test_schedules(self, admin_client, monkeypatch, schedule):
        """A cron expression is explained in English alone; elsewhere it stands for itself."""
        if "*" in schedule:
            monkeypatch.setattr(Tick, "SCHEDULE", Cron("*/5 * * * *", time_zone="UTC"))
        a_schedule(schedule=schedule)

        with in_wide():
            page = admin_client.get(SCHEDULES)
            row = admin_client.get(f"{SCHEDULES}Tick/change/")

        for each in (page, row):
            assert_wide(each)
        told = admin_client.get(SCHEDULES).text
        assert ("Every 0.2 seconds" if "every" in schedule else "Every fifth minute") in told

    def test_schedules_that_are_made_and_changed(self, admin_client):
        filled = {"name": "needle", "processor": "Write", "cron": "0 7 * * *", "time_zone": "UTC"}
        chosen = {"action": "delete_made", "_selected_action": ":needle"}
        with in_wide():
            asked = [
                admin_client.get(f"{SCHEDULES}add/"),
                admin_client.post(f"{SCHEDULES}add/", filled | {"preview": "1"}),
                admin_client.post(f"{SCHEDULES}add/", {"processor": "Write", "arguments": "{}"}),
                admin_client.post(f"{SCHEDULES}add/", filled | {"seconds": "5"}),
                admin_client.post(f"{SCHEDULES}add/", filled, follow=True),
                admin_client.post(f"{SCHEDULES}add/", filled),
                admin_client.get(f"{SCHEDULES}_3Aneedle/edit/"),
                admin_client.get(f"{SCHEDULES}_3Aneedle/change/"),
                admin_client.post(SCHEDULES, chosen),
            ]
            history = admin_client.get(f"{SCHEDULES}_3Aneedle/history/")
            asked.append(admin_client.post(SCHEDULES, chosen | {"confirmed": 1}, follow=True))
            asked.append(admin_client.post(SCHEDULES, chosen, follow=True))

        for page in (*asked[:2], *asked[3:], history):
            assert_wide(page)
        assert not Schedule.objects.exists()

    def test_the_index(self, admin_client):
        steering.pause("default")
        steering.pause(processor="Write")
        with in_wide():
            assert_wide(admin_client.get("/admin/"))
            admin_client.post(DASHBOARD, {"pause": "default", "resume_processor": "Write"})
            index = admin_client.get("/admin/partisan_async/")

        assert_wide(index)


def a_schedule(**columns):
    columns = {
        "processor_class": "Tick",
        "queue_name": "ticks",
        "schedule": "every 0.2 s",
        "next_tick": soon(minutes=5),
        "last_tick": soon(minutes=-5),
        "set_by": uuid.uuid4(),
    } | columns
    return Schedule.objects.create(**columns)


@pytest.mark.django_db
class TestDashboard:
    @pytest.mark.parametrize("page", [DASHBOARD, f"{DASHBOARD}live/"])
    @pytest.mark.parametrize("full", [True, False])
    def test_whoever_reads_it(self, admin_client, page, full):
        if full:
            tally(finished=3, failed=1, retried=1, postponed=1, lost=1, cancelled=1, run_seconds=70)
            for make in (is_scheduled, its_queue_is_paused, all_drain, all_stop, all_are_silent):
                make()
            supervise()
            steering.pause("elsewhere", processor="Write")
            steering.pause(processor="Fail")
            its_pause_is_over()
        looker = client_of("view_task", "view_supervisor", name="looker")

        with in_wide():
            for client in (admin_client, looker):
                assert_wide(client.get(page))

    def test_what_pausing_says(self, admin_client):
        Write(1).delay()
        with in_wide():
            for what in (
                {"pause": "default"},
                {"resume": "default"},
                {"pause_processor": "Write"},
                {"resume_processor": "Write"},
            ):
                assert_wide(admin_client.post(DASHBOARD, what, follow=True))
            steering.pause("default", processor="Write")
            page = admin_client.post(
                f"{DASHBOARD}?queue=default", {"resume_processor": "Write"}, follow=True
            )

        assert wide("resumed") in page.text
        assert_wide(page)


@pytest.mark.django_db
class TestLimits:
    def test_whoever_reads_of_them(self, admin_client):
        limit("1", running=2, running_per_key=2, rates=[[1, 600]], rates_per_key=[[1, 0.5]])
        LimitOverride.objects.create(name="1", running=1)
        LimitOverride.objects.create(name="1", key="1", running=0)
        LimitPause.objects.create(name="1", key="2", until=timezone.now() + timedelta(days=1))
        for name, numbers in {"2": {}, "3": {"in_order": True}, "4": {"ranked": False}}.items():
            limit(name, **numbers)
        for name in "012345":
            for key in "123":
                row(key, name)
        looker = client_of("view_task", "view_supervisor", name="looker")

        with in_wide():
            for client in (admin_client, looker):
                for page in (f"{DASHBOARD}live/", *(f"{LIMIT}?name={name}" for name in "012345")):
                    assert_wide(client.get(page))

    def test_what_setting_says(self, admin_client):
        limit("1", running=2)
        with in_wide():
            for what in ({"running": "5"}, {"clear": "1"}, {"running": "x"}, {"other_key": "1"}):
                assert_wide(admin_client.post(f"{LIMIT}?name=1", what, follow=True))


@pytest.mark.django_db
class TestQuestions:
    @pytest.mark.parametrize("steering", STEERINGS, ids=lambda each: each.key)
    @pytest.mark.parametrize("count", [1, 25])
    def test_before_and_after_tasks_are_steered(self, admin_client, steering, count):
        tasks = [Write(n).delay() for n in range(count + 1)]
        able = [task.pk for task in tasks[1:]]
        Task.objects.filter(pk__in=able).update(errors=[], **state(steering.statuses[0]))
        Task.objects.filter(pk=tasks[0].pk).update(
            **state("finished" if steering.key != "delete" else "new")
        )
        chosen = {"action": steering.name, "_selected_action": [task.pk for task in tasks]}
        none = {"action": steering.name, "_selected_action": [tasks[0].pk]}

        with in_wide():
            refused = admin_client.post(LIST, none, follow=True)
            asked = admin_client.post(LIST, chosen)
            Task.objects.filter(pk=able[0]).update(
                **state("finished" if steering.key != "delete" else "new")
            )
            done = admin_client.post(LIST, dict(asked.context["fields"]), follow=True)

        for page in (refused, asked, done):
            assert_wide(page)

    def test_more_than_at_once(self, admin_client, monkeypatch):
        monkeypatch.setattr("partisan_async.admin.task_question.LISTED", 2)
        tasks = [Write(n).delay() for n in range(4)]

        with in_wide():
            page = admin_client.post(
                LIST, {"action": "cancel", "_selected_action": [task.pk for task in tasks]}
            )

        assert wide("at once") in page.text
        assert_wide(page)

    @pytest.mark.parametrize("may_see", [True, False])
    def test_what_the_database_refuses(self, admin_client, may_see):
        task = Write(1).delay()
        client = admin_client if may_see else client_of("view_task", "cancel_task", name="looker")
        sent = {"action": "cancel", "_selected_action": task.pk, "ids": task.pk, "confirmed": 1}

        with refusal("true"), in_wide():
            page = client.post(LIST, sent, follow=True)

        assert wide("refuses") in page.text
        assert_wide(page)

    @pytest.mark.parametrize("count", [1, 2])
    def test_drains(self, admin_client, count):
        supervisors = [supervise() for _ in range(count)]
        chosen = {"action": "drain", "_selected_action": [each.pk for each in supervisors]}

        with in_wide():
            asked = admin_client.post(SUPERVISORS, chosen)
            done = admin_client.post(SUPERVISORS, chosen | {"confirmed": 1}, follow=True)
            history = admin_client.get(f"{SUPERVISORS}{supervisors[0].pk}/history/")

        for page in (asked, done, history):
            assert_wide(page)

    @pytest.mark.parametrize("action", ["switch_on", "switch_off", "run_once"])
    def test_schedules_are_switched_and_run(self, admin_client, action):
        a_schedule(enabled=action != "switch_on")
        a_schedule(processor_class="Gone")
        for name in ("Tick", "Gone", "Tick"):
            with in_wide():
                page = admin_client.post(
                    SCHEDULES, {"action": action, "_selected_action": name}, follow=True
                )
                history = admin_client.get(f"{SCHEDULES}{name}/history/")
            for each in (page, history):
                assert_wide(each)

    def test_a_history_is_kept_in_english_and_read_in_the_readers_language(self, admin_client):
        task = it_failed()
        sent = {"action": "retry", "_selected_action": task.pk, "ids": task.pk, "confirmed": 1}

        with in_wide():
            admin_client.post(LIST, sent)
            there = admin_client.get(f"{LIST}{task.pk}/history/")
        here = admin_client.get(f"{LIST}{task.pk}/history/")

        assert f"<td>{wide('Retry')}</td>" in there.text
        assert "<td>Retry</td>" in here.text
        assert_wide(there)


@pytest.fixture
def wide_everywhere(settings, monkeypatch):
    """The wide language is the site's: of every thread that chose no other."""
    settings.LANGUAGE_CODE = "xx"
    monkeypatch.setitem(trans_real._translations, "xx", WideTranslations())


def said_by(*command):
    out = io.StringIO()
    try:
        call_command("partisan", *map(str, command), stdout=out, stderr=out)
    except CommandError as error:
        out.write(str(error))
    return out.getvalue()


@pytest.mark.django_db
@pytest.mark.usefixtures("wide_everywhere")
class TestCommands:
    """What scripts read, and people paste into a search, is the same everywhere."""

    @pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
    def test_why(self, state):
        said = said_by("why", state().pk)

        assert not has_wide(said)

    @pytest.mark.parametrize("command", ["status", "doctor", "resume --all --yes"])
    def test_others(self, command):
        for make in (all_drain, all_are_silent, its_queue_is_paused, its_processor_is_paused):
            make()
        all_stop()
        Home.objects.create(id=1, name="production", server="1", database="sandbox")

        said = said_by(*command.split())

        assert len(said) > 100
        assert not has_wide(said)

    def test_a_drain(self):
        all_are_silent()

        said = said_by("drain", Supervisor.objects.get().pk)

        assert "it has been silent for 5 minutes" in said

    def test_receivers_have_the_sites_language_all_the_same(self):
        """They may write to people."""
        spoken = []

        def hear(**about):
            spoken.append(translation.get_language())

        signals.task_cancelled.connect(hear)
        try:
            said_by("cancel", Write(1).delay().pk)
        finally:
            signals.task_cancelled.disconnect(hear)

        assert spoken == ["xx"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("wide_everywhere")
class TestLogs:
    def test_a_wait_that_is_over_says_so_in_english(self):
        """It is the code's, and goes to its log."""
        with pytest.raises(TimeoutError, match="it is 'New'"):
            Add(1).delay().wait(timeout_seconds=0.01)

    def test_a_supervisor_that_may_not_start_here_says_so_in_english(self, settings):
        """Its exit is read by who deploys it."""
        settings.PARTISAN_HOME = "staging"
        Home.objects.create(id=1, name="production", server="1", database="sandbox")

        with pytest.raises(CommandError) as raised:
            require_home()

        assert "belongs to 'production', and PARTISAN_HOME is 'staging' here" in str(raised.value)

    def test_a_supervisor_tells_its_service_manager_in_english(self):
        with live_supervisor(beat_seconds=0.2, WORKERS_COUNT=1) as supervisor:
            task = Sleep(60, "told").delay()
            wait_until(lambda: Task.objects.filter(pk=task.pk, status="in_process").exists())
            supervisor.stop()
            wait_until(lambda: supervisor.parts.status.hindrance())
            told = supervisor.parts.status.hindrance()
            steering.cancel([task.pk])

        assert told.startswith("stopping since ")
        assert told.endswith("starts none")


def has_wide(text):
    return any(ord(letter) in WIDE.values() for letter in text)


# A project's translation


def write_catalogue(folder, messages):
    """Compile a translation of these, as ``msgfmt`` does."""
    header = "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=n != 1;\n"
    pairs = sorted(
        (key.encode(), value.encode()) for key, value in ({"": header} | messages).items()
    )
    count, start = len(pairs), 28
    texts, tables = b"", ([], [])
    for column in (0, 1):
        for pair in pairs:
            tables[column].extend([len(pair[column]), start + 16 * count + len(texts)])
            texts += pair[column] + b"\0"
    numbers = (0x950412DE, 0, count, start, start + 8 * count, 0, 0, *tables[0], *tables[1])
    path = folder / "de" / "LC_MESSAGES" / "django.mo"
    path.parent.mkdir(parents=True)
    path.write_bytes(struct.pack(f"<{len(numbers)}I", *numbers) + texts)


def texts_of_models():
    """All that models have for people."""
    with translation.override(None):
        for model in apps.get_app_config("partisan_async").get_models():
            yield str(model._meta.verbose_name)
            yield str(model._meta.verbose_name_plural)
            for field in model._meta.concrete_fields:
                yield from (str(field.verbose_name), str(field.help_text))
                yield from (str(label) for _, label in field.choices or ())


@pytest.fixture
def german(tmp_path):
    """The environment of a German site, whose project translates all that models have."""
    write_catalogue(tmp_path, {text: wide(text) for text in texts_of_models() if text})
    return environment(DJANGO_SETTINGS_MODULE="tests.settings_german", LOCALE=str(tmp_path))


def run(env, *words):
    command = [sys.executable, "-m", "django", *words]
    return subprocess.run(command, env=env, cwd=ROOT, text=True, capture_output=True)


@pytest.mark.django_db(transaction=True)
class TestProject:
    def test_no_language_makes_a_migration(self, german):
        """Texts are translated where they are shown, and not where they are defined."""
        shown = run(german, "shell", "--no-imports", "-c", SHOW)
        made = run(german, "makemigrations", "--check", "--dry-run")

        assert shown.stdout.split() == [wide("tasks"), wide("Scheduled"), wide("priority")]
        assert (made.returncode, made.stdout) == (0, "No changes detected\n"), made.stderr

    def test_commands_speak_english(self, german):
        task = is_scheduled()

        said = run(german, "partisan", "why", str(task.pk)).stdout

        assert said.startswith(f"{task.pk} Write, Scheduled\n")

    def test_a_catalogue_of_the_projects_holds_for_pages(self, admin_client, settings, tmp_path):
        write_catalogue(tmp_path, {"Why it does not run": "Warum sie nicht läuft"})
        settings.LOCALE_PATHS = [str(tmp_path)]

        with translation.override("de"):
            page = admin_client.get(page_of(is_scheduled()))

        assert "Warum sie nicht läuft</h2>" in page.text

    @pytest.mark.skipif(shutil.which("xgettext") is None, reason="Debian's gettext is not there")
    def test_the_docs_way_to_one_works(self, admin_client, settings, tmp_path):
        """And with a project's own texts beside it, twice: after an upgrade."""
        (commands,) = blocks("docs/howto/watch.md", "bash")
        package = Path(partisan_async.__file__).parent
        script = re.sub(r"\S+/site-packages/partisan_async", str(package), commands.text)
        env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        env.pop("DJANGO_SETTINGS_MODULE", None)
        ran = subprocess.run(
            ["bash", "-ec", script], cwd=tmp_path, env=env, text=True, capture_output=True
        )
        assert (ran.returncode, ran.stderr) == (0, "")

        catalogue = tmp_path / "copied/locale/de/LC_MESSAGES/django.po"
        wanted = 'msgid "Why it does not run"\nmsgstr "'
        text = catalogue.read_text()
        assert wanted in text
        catalogue.write_text(text.replace(wanted, wanted + "Warum sie nicht läuft"))
        again = ["django-admin", "makemessages", "--locale", "de"]
        for command in (again, ["django-admin", "compilemessages"]):
            subprocess.run(command, cwd=tmp_path / "copied", env=env, check=True)
        settings.LOCALE_PATHS = [str(tmp_path / "copied/locale")]

        with translation.override("de"):
            page = admin_client.get(page_of(is_scheduled()))

        assert "Warum sie nicht läuft</h2>" in page.text


SHOW = """
from partisan_async.models import Task
print(Task._meta.verbose_name_plural, Task(status="scheduled").get_status_display(),
    Task._meta.get_field("priority").verbose_name)
"""
