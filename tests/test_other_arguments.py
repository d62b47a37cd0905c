"""A task that failed for its arguments is given others, and runs again."""

import io
import json
import logging
import uuid

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections, transaction
from django.utils.html import escape

from partisan_async import registry, steering
from partisan_async.admin.scope import Scope
from partisan_async.admin.tasks import TaskAdmin
from partisan_async.models import Task
from partisan_async.processor import BaseTaskProcessor
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, marks, state, wait_until
from tests.site_rules import refusal
from tests.test_dashboard import client_of
from tests.test_reasons import another_session
from tests.test_translation import assert_wide, in_wide, wide_language  # noqa: F401
from tests.testapp import tasks as django_tasks
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import Follow, Pay, SendMail, Write, WriteUnique

SHAPE = '{"args": […], "kwargs": {…}}'


def partisan(*arguments):
    out = io.StringIO()
    call_command("partisan", *map(str, arguments), stdout=out, stderr=out)
    return out.getvalue()


def failed(processor=Write, *args, **columns):
    """The row of a call that has failed, twice."""
    task = processor(*args or ("wrong",)).delay()
    error = {"exception_class": "ValueError", "message": "no", "try": 2}
    Task.objects.filter(pk=task.pk).update(tries=2, errors=[error], **state("error"), **columns)
    task.refresh_from_db()
    return task


def call(*args, **kwargs):
    return {"args": list(args), "kwargs": kwargs}


@pytest.mark.django_db(transaction=True)
def test_it_runs_with_them():
    task = failed()
    with live_supervisor(WORKERS_COUNT=1):
        assert steering.retry([task.pk], arguments=call(text="right")) == [task.pk]
        wait_until(lambda: ended(task))
    task.refresh_from_db()
    assert (task.status, task.arguments, task.tries) == ("finished", call(text="right"), 1)
    assert [error["message"] for error in task.errors] == ["no"], "it stays to be seen"
    assert marks() == ["right"]


@pytest.mark.django_db(transaction=True)
def test_they_are_held_against_the_parameters_of_run():
    good, bad = "00000000-0000-0000-0000-000000000001", "7"
    task = failed(Pay, uuid.UUID(good))

    for wrong, told in (
        (call(bad), "the stored order is not what run\\(\\) takes, UUID"),
        (call(), "order is missing"),
        (call(good, cent=1), "there is no parameter cent"),
    ):
        with pytest.raises(TypeError, match=told):
            steering.retry([task.pk], arguments=wrong)
    assert Task.objects.get(pk=task.pk).status == "error"
    with live_supervisor(WORKERS_COUNT=1):
        steering.retry([task.pk], arguments=call(order=good))
        wait_until(lambda: ended(task))
    assert Task.objects.get(pk=task.pk).status == "finished"


@pytest.mark.django_db
def test_an_instance_that_is_gone_is_refused():
    mark = Mark.objects.create(text="here")
    task = failed(Follow, mark)

    with pytest.raises(ValueError, match=r"testapp\.Mark 0 was passed"):
        steering.retry([task.pk], arguments=call(0))


@pytest.mark.django_db
class TestRetried:
    def test_all_counts_are_at_zero(self):
        task = failed(Write, postpones=3, lost=1, suspect=True, unrecognised=2, interrupted=1)
        steering.retry([task.pk], arguments=call("right"))
        task.refresh_from_db()
        counts = (task.tries, task.postpones, task.lost, task.unrecognised, task.interrupted)
        assert (task.status, task.suspect, *counts) == ("new", False, 0, 0, 0, 0, 0)

    def test_what_is_beside_them_stays(self):
        """The moment of its tick, or the backend of one of Django's own tasks."""
        tick = "2026-01-01T00:00:00+00:00"
        task = failed(Write, arguments={**call("wrong"), "tick": tick})
        steering.retry([task.pk], arguments=call("right"))
        assert Task.objects.get(pk=task.pk).arguments == {**call("right"), "tick": tick}

    @pytest.mark.parametrize("spoilt", ["text", 7, [1], {"other": 1}])
    def test_what_somebody_spoilt_is_made_a_call_again(self, spoilt):
        task = failed(Write, arguments=spoilt)
        steering.retry([task.pk], arguments=json.dumps(call("right")))
        run_pending()
        assert marks() == ["right"]

    def test_of_a_processor_that_is_not_known_it_is_allowed(self):
        """It may be another service's; only its JSON can be checked."""
        task = failed(Write, processor_class="Elsewhere")
        with pytest.raises(ValueError, match="no JSON"):
            steering.retry([task.pk], arguments="{")
        steering.retry([task.pk], arguments=call("right"))
        task.refresh_from_db()
        assert (task.status, task.digest) == ("new", None)

    async def test_from_async_code(self, transactional_db):
        from asgiref.sync import sync_to_async

        task = await sync_to_async(failed)()
        assert await steering.aretry([task.pk], arguments=call("right")) == [task.pk]


class Typed(BaseTaskProcessor):
    def __init__(self, order, *, urgent=False):
        super().__init__(order, urgent=urgent)

    def run(self):
        pass


@pytest.mark.django_db
class TestRefused:
    @pytest.mark.parametrize(
        ("given", "error", "words"),
        [
            ("{", ValueError, "The arguments are no JSON"),
            ("", ValueError, "The arguments are no JSON"),
            ("[1]", TypeError, "are of type list; write"),
            ("null", TypeError, "are of type NoneType"),
            ('{"args": []}', ValueError, "have no 'kwargs'; write"),
            ('{"kwargs": {}}', ValueError, "have no 'args'; write"),
            ('{"args": {}, "kwargs": {}}', TypeError, "args is of type dict, and has to be a list"),
            ('{"args": "ab", "kwargs": {}}', TypeError, "args is of type str"),
            ('{"args": [], "kwargs": []}', TypeError, "kwargs is of type list, and has to be a d"),
            ('{"args": [], "kwargs": {}, "tick": 1}', ValueError, "have 'tick' beside args and"),
            ('{"args": [], "kwargs": {"a": 1, "a": 2}}', ValueError, "have the key 'a' twice"),
            ('{"args": [NaN], "kwargs": {}}', ValueError, "have NaN, which JSON cannot hold"),
            ('{"args": ["\\u0000"], "kwargs": {}}', ValueError, r"args\[0\] contains a NUL"),
            ('{"args": [], "kwargs": {"\\u0000": 1}}', ValueError, "contains a NUL"),
            ('{"args": ["\\ud800"], "kwargs": {}}', ValueError, "lone surrogate"),
            ('{"args": [' + "[" * 9000 + "]" * 9000 + '], "kwargs": {}}', ValueError, "too deeply"),
            (call("x" * 2**20), ValueError, "MAX_ARGUMENTS_BYTES of queue 'default'"),
            (call(object()), TypeError, r"args\[0\] is of type object, which is not JSON"),
            (
                {"args": [], "kwargs": {5: 1}},
                TypeError,
                "kwargs has the key 5 of type int",
            ),
            (5, TypeError, "are of type int; write"),
        ],
    )
    def test_what_delay_would_refuse(self, given, error, words):
        task = failed()
        with pytest.raises(error, match=words):
            steering.retry([task.pk], arguments=given)
        task.refresh_from_db()
        assert (task.status, task.arguments) == ("error", call("wrong"))

    @pytest.mark.parametrize(
        ("task", "good", "wrong"),
        [
            (django_tasks.write, call("right"), call("a", "b")),
            (django_tasks.write, call(text="right"), call(txet="right")),
            (django_tasks.awrite, call("right"), call()),
            (django_tasks.fail_twice, call(), call(5)),
        ],
    )
    def test_what_the_function_of_one_of_djangos_tasks_does_not_take(self, task, good, wrong):
        """As ``enqueue()`` refuses it; the context is none of the caller's."""
        row = Task.objects.get(pk=task.enqueue(*good["args"], **good["kwargs"]).id)
        Task.objects.filter(pk=row.pk).update(**state("error"))

        with pytest.raises(TypeError, match=f"Task {task.module_path} takes .*cannot be called"):
            steering.retry([row.pk], arguments=wrong)

        assert Task.objects.get(pk=row.pk).status == "error"
        assert steering.retry([row.pk], arguments=good) == [row.pk]
        again = Task.objects.get(pk=row.pk).arguments
        assert again == row.arguments

    def test_what_its_own_init_does_not_take(self, monkeypatch):
        monkeypatch.setitem(registry._processors, "Typed", Typed)
        task = failed(Typed)
        with pytest.raises(TypeError, match=r"Typed is made by Typed\(order, \*, urgent=False\)"):
            steering.retry([task.pk], arguments=call(amount=5))
        assert steering.retry([task.pk], arguments=call(5, urgent=True)) == [task.pk]

    @pytest.mark.parametrize(
        ("status", "words"),
        [
            ("new", "is new, and only one that is in error can be given other arguments: cancel"),
            ("scheduled", "cancel it first"),
            ("in_process", "wait for its end, or cancel it first"),
            ("finished", "enqueue the call anew"),
        ],
    )
    def test_a_task_that_has_not_failed(self, status, words):
        task = Write("wrong").delay()
        Task.objects.filter(pk=task.pk).update(**state(status))
        with pytest.raises(ValueError, match=words):
            steering.retry([task.pk], arguments=call("right"))
        assert Task.objects.get(pk=task.pk).arguments == call("wrong")

    def test_one_that_is_not_there(self):
        with pytest.raises(ValueError, match="There is no task 0"):
            steering.retry([0], arguments=call())

    @pytest.mark.parametrize(
        "which", [{"ids": []}, {"ids": [1, 2]}, {"queue_name": "q"}, {"ids": [1], "processor": "P"}]
    )
    def test_more_than_one(self, which):
        with pytest.raises(TypeError, match="for one task; pass its id and nothing else"):
            steering.retry(which.pop("ids", None), **which, arguments=call())


@pytest.mark.django_db
class TestUnique:
    @pytest.mark.parametrize("processor", [WriteUnique, SendMail])
    def test_identical_calls_find_it(self, processor):
        """It stands for the call that it is now, and for none that it was."""
        task = failed(processor)
        steering.retry([task.pk], arguments=call("right"))
        assert processor("right").delay().pk == task.pk
        assert processor("wrong").delay().pk != task.pk

    def test_where_calls_are_not_unique_none_does(self):
        task = failed(Write)
        steering.retry([task.pk], arguments=call("right"))
        assert Write("right").delay().pk != task.pk
        assert Task.objects.get(pk=task.pk).digest is None

    def test_it_is_refused_where_one_waits(self):
        task, twin = failed(WriteUnique), WriteUnique("right").delay()
        with pytest.raises(ValueError, match=f"An identical call waits already: {twin.pk}."):
            steering.retry([task.pk], arguments=call("right"))
        task.refresh_from_db()
        assert (task.status, task.arguments) == ("error", call("wrong"))


@pytest.mark.django_db(transaction=True)
class TestBeside:
    """Another transaction is open, and nobody waits for it."""

    def test_a_locked_task_is_left(self):
        task = failed()
        with another_session() as other:
            other.execute("SELECT FROM partisan_async_task WHERE id = %s FOR UPDATE", [task.pk])
            with pytest.raises(ValueError, match="is locked by another transaction"):
                steering.retry([task.pk], arguments=call("right"))

    def test_the_same_call_is_being_enqueued(self):
        task, twin = failed(WriteUnique), failed(WriteUnique, "right")
        with another_session() as other:
            steering.retry([twin.pk], arguments=call("right"))
            digest = Task.objects.get(pk=twin.pk).digest
            Task.objects.filter(pk=twin.pk).delete()
            key = int.from_bytes(bytes(digest)[:8], "big", signed=True)
            other.execute("SELECT pg_advisory_xact_lock(%s)", [key])
            with pytest.raises(ValueError, match=f"the call that task {task.pk} would become"):
                steering.retry([task.pk], arguments=call("right"))
        steering.retry([task.pk], arguments=call("right"))

    def test_who_enqueues_it_meanwhile_does_not_wait(self):
        """Its digest is taken as by ``delay()``, until the caller's commit."""
        task = failed(WriteUnique)
        with transaction.atomic():
            steering.retry([task.pk], arguments=call("right"))
            digest = Task.objects.get(pk=task.pk).digest
            key = int.from_bytes(bytes(digest)[:8], "big", signed=True)
            with another_session() as other:
                (free,) = other.execute("SELECT pg_try_advisory_xact_lock(%s)", [key]).fetchone()
        assert not free


@pytest.mark.django_db(transaction=True)
class TestCommand:
    def test_it_is_run_and_told_without_the_arguments(self, caplog):
        caplog.set_level(logging.INFO, "partisan_async")
        task = failed()
        told = partisan("retry", task.pk, "--arguments", json.dumps(call("right")))
        assert told == "retry: 1 task, with other arguments.\n"
        assert Task.objects.get(pk=task.pk).arguments == call("right")
        (line,) = [each for each in caplog.records if getattr(each, "event", "") == "steered"]
        assert line.getMessage().startswith(f"steered: retry {task.pk} with other arguments, by ")
        assert "(command)" in line.getMessage()
        assert line.task_ids == [task.pk]
        assert "right" not in str(vars(line))

    def test_it_tells_of_a_pause(self):
        task = failed()
        steering.pause(processor="Write")
        told = partisan("retry", task.pk, "--arguments", json.dumps(call("right")))
        assert "1 of them waits for the end of a pause" in told

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            ((), "are for one task: pass its ID"),
            (("1", "2"), "are for one task"),
            (("1", "--queue", "default"), "are for one task"),
            (("0",), "There is no task 0"),
        ],
    )
    def test_what_is_wrong_is_said(self, words, told):
        with pytest.raises(CommandError, match=told):
            partisan("retry", *words, "--arguments", json.dumps(call()))

    def test_of_wrong_arguments_too(self):
        task = failed()
        with pytest.raises(CommandError, match="The arguments are no JSON"):
            partisan("retry", task.pk, "--arguments", "{args: [5]}")


MAY = ("view_task", "view_arguments", "change_arguments")


def page_of(task):
    return f"/admin/partisan_async/task/{task.pk}/arguments/"


@pytest.mark.django_db
class TestPage:
    def test_from_the_tasks_page_it_leads_back_there(
        self, caplog, django_capture_on_commit_callbacks
    ):
        caplog.set_level(logging.INFO, "partisan_async")
        task, client = failed(SendMail), client_of(*MAY)
        change = f"/admin/partisan_async/task/{task.pk}/change/"
        assert f'href="{page_of(task)}"' in client.get(change).content.decode()

        asked = client.get(page_of(task))
        told = asked.context["form"].initial["text"]
        assert json.loads(told) == call("wrong")
        with django_capture_on_commit_callbacks(execute=True):
            done = client.post(page_of(task), {"text": told.replace("wrong", "right")}, follow=True)

        assert done.redirect_chain == [(change, 302)]
        assert f"Task {task.pk} runs again, with other arguments." in done.content.decode()
        assert page_of(task) not in done.content.decode(), "it has not failed now"
        task.refresh_from_db()
        assert (task.status, task.arguments) == ("new", call("right"))
        assert "with other arguments, by operator (admin)" in caplog.text
        assert "right" not in caplog.text
        (entry,) = LogEntry.objects.all()
        assert "Retry with other arguments" in entry.change_message

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('  {"args": [<oh>', "The arguments are no JSON"),
            ('{"args": []}', "The arguments have no &#x27;kwargs&#x27;; write"),
            ("", "The arguments are no JSON"),
            ("\x00", "Null characters are not allowed"),
        ],
    )
    def test_what_is_wrong_stands_beside_it_and_nothing_is_lost(self, text, words):
        task = failed()
        page = client_of(*MAY).post(page_of(task), {"text": text})
        assert words in page.content.decode()
        assert escape(text) in page.content.decode()
        task.refresh_from_db()
        assert (task.status, task.arguments) == ("error", call("wrong"))

    def test_of_a_database_that_refuses_it_nothing_is_lost(self):
        task = failed()
        with refusal(f"NEW.id = {task.pk}"):
            page = client_of(*MAY).post(page_of(task), {"text": json.dumps(call("right"))})
        assert "The database refuses it" in page.content.decode()
        assert escape(json.dumps(call("right"))) in page.content.decode()
        assert not LogEntry.objects.exists()

    def test_a_twin_that_waits_is_told(self):
        task, twin = failed(WriteUnique), WriteUnique("right").delay()
        page = client_of(*MAY).post(page_of(task), {"text": json.dumps(call("right"))})
        assert f"An identical call waits already: {twin.pk}." in page.content.decode()

    def test_one_that_runs_again_already_is_led_back(self):
        task = Write("wrong").delay()
        page = client_of(*MAY).get(page_of(task), follow=True)
        assert "Only a task that is in error can be given other" in page.content.decode()
        client = client_of(*MAY, name="other")
        page = client.post(page_of(task), {"text": json.dumps(call("right"))})
        assert "cancel it first" in page.content.decode()

    @pytest.mark.parametrize(
        ("permissions", "status"),
        [
            (MAY, 200),
            (("change_task",), 200),
            (("view_task", "view_arguments", "retry_task"), 403),
            (("view_task", "change_arguments"), 403),
            (("view_arguments", "change_arguments"), 403),
            ((), 403),
        ],
    )
    def test_who_may(self, permissions, status):
        task, client = failed(), client_of(*permissions)
        assert client.get(page_of(task)).status_code == status
        posted = client.post(page_of(task), {"text": json.dumps(call("right"))})
        assert posted.status_code == (302 if status == 200 else 403)
        assert (Task.objects.get(pk=task.pk).status == "new") == (status == 200)
        if "view_task" in permissions:
            other = failed()
            seen = client.get(f"/admin/partisan_async/task/{other.pk}/change/").content.decode()
            assert (page_of(other) in seen) == (status == 200)

    def test_what_somebody_does_not_see_is_not_there(self, monkeypatch):
        def get_scope(admin, request):
            return Scope(queues=["elsewhere"])

        monkeypatch.setattr(TaskAdmin, "get_scope", get_scope)
        task, client = failed(), client_of(*MAY)
        assert client.get(page_of(task)).status_code == 404
        assert client.post(page_of(task), {"text": json.dumps(call())}).status_code == 404
        assert Task.objects.get(pk=task.pk).status == "error"

    @pytest.mark.parametrize("word", ["0", "x", "99999999999999999999"])
    def test_of_no_task_there_is_none(self, admin_client, word):
        assert admin_client.get(f"/admin/partisan_async/task/{word}/arguments/").status_code == 404

    def test_of_a_row_with_a_number_below_zero_too(self, admin_client):
        task = failed()
        Task.objects.filter(pk=task.pk).update(id=-5)
        page = admin_client.get("/admin/partisan_async/task/-5/change/")
        assert "/task/-5/arguments/" in page.content.decode()
        assert admin_client.get("/admin/partisan_async/task/-5/arguments/").status_code == 200

    def test_large_ones_are_written_anew(self, admin_client):
        """Half of them would be taken for all."""
        task = failed(Write, "x" * 100_001)
        page = admin_client.get(page_of(task))
        assert page.context["form"].initial["text"] == ""
        assert "with 100,029 characters: write all of them anew" in page.content.decode()

    def test_all_its_texts_are_marked(self, admin_client):
        with in_wide():
            task = failed(Write, "x" * 100_001)
            assert_wide(admin_client.get(page_of(task)))
            Task.objects.filter(pk=task.pk).update(arguments=call(), errors=[])
            assert_wide(admin_client.get(f"/admin/partisan_async/task/{task.pk}/change/"))
            done = admin_client.post(page_of(task), {"text": json.dumps(call())}, follow=True)
            assert_wide(done)
            assert_wide(admin_client.get(page_of(task), follow=True))

    def test_numbers_stay_what_they_are(self):
        """A browser's or Python's floats would make others of them."""
        digits = "12345678901234567890.123456789012345678901"
        task = failed()
        with connections["default"].cursor() as cursor:
            cursor.execute(
                "UPDATE partisan_async_task SET arguments = %s WHERE id = %s",
                [f'{{"args": [{digits}], "kwargs": {{}}}}', task.pk],
            )
        assert digits in client_of(*MAY).get(page_of(task)).content.decode()
