"""``SENSITIVE``: what it names is in no page, no error and no log line, and reaches ``run()``."""

import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.urls import reverse

from partisan_async import registry
from partisan_async.enqueue.sensitive import masked, secrets_of
from partisan_async.models import Task
from partisan_async.processor import BaseTaskProcessor
from partisan_async.testing import live_supervisor, run_pending
from partisan_async.text.masked import EVERYTHING, MASK
from tests.conftest import ended, state, wait_until
from tests.process import ROOT, environment
from tests.testapp.partisan_tasks import (
    AsyncLogin,
    Card,
    Credentials,
    Login,
    LoginAndForget,
    LoginByFields,
    LoginByGroup,
    LoginInVain,
    LoginUntyped,
    LookInVain,
    PostponeLogin,
)

SECRET = 'tr"oub\\adour'
CARD = Card("4242424242424242", 123456)
SECRETS = (SECRET, repr(SECRET)[1:-1], json.dumps(SECRET)[1:-1], CARD.number, str(CARD.code))


def holds_secrets(text):
    return [secret for secret in SECRETS if secret in text]


@pytest.mark.django_db
class TestErrors:
    @pytest.mark.parametrize("processor", [Login, AsyncLogin])
    def test_they_hold_no_secret(self, processor, caplog):
        """Nor do the lines of the log, whose handlers are given the whole chain."""
        processor("ann", SECRET, card=CARD).delay()

        with caplog.at_level(logging.INFO, "partisan_async"):
            (ran,) = run_pending(errors="keep")

        (error,) = ran.task.errors
        assert error["message"].startswith(f"ann cannot log in with {MASK} and Card(")
        assert not holds_secrets(json.dumps(error))
        assert error["traceback"].count(MASK) >= 4
        assert "failed" in caplog.text
        assert not holds_secrets(caplog.text)

    def test_by_name_too(self):
        Login("ann", card=CARD, password=SECRET).delay()

        (ran,) = run_pending(errors="keep")

        assert not holds_secrets(json.dumps(ran.task.errors))

    def test_an_untyped_call_hides_what_is_passed_by_that_name(self):
        LoginUntyped(password=SECRET).delay()

        (ran,) = run_pending(errors="keep")

        assert ran.task.errors[0]["message"] == f"no {MASK}"

    def test_a_postpone_hides_it(self):
        PostponeLogin("ann", SECRET).delay()

        (ran,) = run_pending()

        assert ran.decision.failure.message == f"ann has {MASK}"

    def test_what_a_run_does_to_its_arguments_changes_nothing(self):
        """Nor what its error is: the row's own arguments say what is hidden."""
        LoginAndForget({"number": CARD.number}).delay()

        (ran,) = run_pending(errors="keep")

        assert ran.task.errors[0]["message"] == f"no {MASK}"

    def test_what_fails_before_the_run_hides_it(self):
        task = LoginInVain(password=SECRET).delay()
        Task.objects.filter(pk=task.pk).update(
            arguments={"args": [], "kwargs": {"password": SECRET, "fails": True}}
        )

        (ran,) = run_pending(errors="keep")

        assert ran.task.errors[0]["message"] == f"no {MASK}"

    def test_a_text_of_several_lines_is_hidden_however_it_is_laid_out(self):
        """A traceback indents it; and a message is cut after it was masked."""
        lines = ["MIIEpAIBAAKCAQEA", "grün espferd zwölf", "lastlineofthekey"]
        LoginByGroup("\n".join(lines)).delay()

        (ran,) = run_pending(errors="keep")

        told = json.dumps(ran.task.errors, ensure_ascii=False)
        assert not [line for line in lines if line[:8] in told]

    def test_quotes_are_hidden_as_an_error_writes_them(self):
        """The message of a ``KeyError`` is the ``repr()`` of a text, and may be one of a repr."""
        for nested in (False, True):
            for secret in ("o'hara-pass", 'o"hara-pass', "o\\hara'pass", "both'and\"pass"):
                LookInVain(secret, nested=nested).delay()

        for ran in run_pending(errors="keep"):
            message = ran.task.errors[0]["message"]
            assert "hara" not in message, message
            assert "both" not in message, message
            assert MASK in message

    def test_nothing_else_is_hidden(self):
        """Names of fields and keys are in any text of the project."""
        LoginByFields({"username": "ann-of-gables"}, Credentials("ann-lee", SECRET)).delay()

        (ran,) = run_pending(errors="keep")

        told = f"no username of password {MASK} {MASK} {MASK} and the account"
        assert ran.task.errors[0]["message"] == told

    @pytest.mark.parametrize("processor", [Login, AsyncLogin])
    def test_a_row_that_cannot_be_read_hides_all_of_its_error(self, processor):
        """It is an error of that task alone, and the next one runs."""
        bad, good = processor("ann", SECRET).delay(), LoginUntyped(password=SECRET).delay()
        with connection.cursor() as cursor:  # more digits than Python makes a number of
            cursor.execute(
                "UPDATE partisan_async_task SET arguments = %s WHERE id = %s",
                ['{"args": ["a", 1e5000], "kwargs": {}}', bad.pk],
            )

        run_pending(errors="keep")

        rows = {
            row.pk: row for row in Task.objects.defer("arguments").filter(pk__in=(bad.pk, good.pk))
        }
        (error,) = rows[bad.pk].errors
        assert (error["exception_class"], error["message"]) == ("builtins.ValueError", MASK)
        assert error["traceback"] == MASK
        assert rows[good.pk].errors[0]["message"] == f"no {MASK}"

    def test_a_short_value_is_left(self):
        """It is in any text by chance, and a mask there would tell it."""
        Login("ann", "a").delay()

        (ran,) = run_pending(errors="keep")

        assert ran.task.errors[0]["message"] == "ann cannot log in with a and None"


@pytest.mark.django_db(transaction=True)
def test_in_a_worker_too():
    with live_supervisor():
        task = Login("ann", SECRET, card=CARD).delay()
        wait_until(lambda: ended(task))

    task.refresh_from_db()
    assert not holds_secrets(json.dumps(task.errors))
    assert task.args == ["ann", SECRET]


@pytest.mark.django_db
class TestPages:
    @pytest.mark.parametrize(
        "call", [Login("ann", SECRET, card=CARD), LoginUntyped(password=SECRET)]
    )
    def test_they_show_a_mask(self, admin_client, call):
        task = call.delay()

        pages = [
            admin_client.get(reverse("admin:partisan_async_task_changelist")),
            admin_client.get(reverse("admin:partisan_async_task_change", args=[task.pk])),
        ]

        for page in pages:
            assert MASK in page.text
            assert "adour" not in page.text
            assert "4242" not in page.text

    def test_none_is_shown_where_others_are_given(self, admin_client):
        """A mask that is sent back would be what the task runs with."""
        Login("ann", SECRET).delay()
        (ran,) = run_pending(errors="keep")

        page = admin_client.get(
            reverse("admin:partisan_async_task_arguments", args=[ran.task.pk])
        ).text

        assert "write all of them anew" in page
        assert "ann" not in page.split("<form")[-1]
        assert "adour" not in page

    def test_a_search_does_not_find_it(self, admin_client):
        """Whoever may search could guess it letter by letter; by each name on rows."""
        Login("ann", SECRET).delay()
        LoginAndForget({"number": SECRET}).delay()
        address = reverse("admin:partisan_async_task_changelist")

        assert "0 tasks" in admin_client.get(address, {"q": "adour"}).text
        assert MASK in admin_client.get(address, {"q": "login"}).text


IN_A_FRESH_PROCESS = """
import os, sys
import django
django.setup()
from django.contrib.auth import get_user_model
from django.test import Client
from django.test.utils import setup_test_environment
setup_test_environment()
for address in sys.argv[1:]:
    if pid := os.fork():  # what one page imports, another would have
        assert os.waitpid(pid, 0)[1] == 0
        continue
    client = Client()
    client.force_login(get_user_model().objects.get(username="root"))
    assert "tests.testapp.partisan_tasks" not in sys.modules
    page = client.get(address)
    assert page.status_code == 200, page
    print(page.text, "END OF PAGE", flush=True)
    os._exit(0)
"""


@pytest.mark.django_db(transaction=True)
class TestInAWebProcessThatKnowsNoProcessor:
    """As each is at first: Django imports no ``partisan_tasks``."""

    @pytest.fixture
    def pages(self, django_user_model):
        django_user_model.objects.create_superuser("root")

        def pages(*tasks, q, **env):
            task = tasks[0]
            Task.objects.filter(pk=task.pk).update(**state("error"))
            listed = reverse("admin:partisan_async_task_changelist")
            addresses = [
                listed,
                reverse("admin:partisan_async_task_change", args=[task.pk]),
                reverse("admin:partisan_async_task_arguments", args=[task.pk]),
                f"{listed}?q={q}",
            ]
            command = [sys.executable, "-c", IN_A_FRESH_PROCESS, *addresses]
            done = subprocess.run(
                command, env=environment(**env), cwd=ROOT, check=True, stdout=subprocess.PIPE
            )
            return done.stdout.decode().split("END OF PAGE")[:4]

        return pages

    def test_pages_show_a_mask(self, pages):
        found = pages(Login("ann", SECRET, card=CARD).delay(), q="adour")

        assert not [page for page in found if "4242" in page or "oub" in page]
        assert MASK in found[0]
        assert MASK in found[1]
        assert "write all of them anew" in found[2]
        assert "0 tasks" in found[3]

    def test_what_cannot_be_told_is_hidden(self, pages, tmp_path):
        """A module cannot be imported: its processors may have hidden anything."""
        app = tmp_path / "broken"
        app.mkdir()
        (app / "__init__.py").touch()
        (app / "partisan_tasks.py").write_text("raise RuntimeError('broken')")
        (tmp_path / "broken_settings.py").write_text(
            "from tests.settings import *\nINSTALLED_APPS = ['broken', *INSTALLED_APPS]\n"
        )
        env = {
            "PYTHONPATH": f"{ROOT}:{tmp_path}",
            "DJANGO_SETTINGS_MODULE": "broken_settings",
        }

        found = pages(Login("ann", SECRET, card=CARD).delay(), q="adour", **env)

        assert not [page for page in found if "4242" in page or "oub" in page]
        assert MASK in found[0]
        assert "write all of them anew" in found[2]
        assert "0 tasks" in found[3]


class TestMask:
    @pytest.mark.parametrize(
        "text", ['{"args": ["ann", "tr', "[]", "5", '{"args": 5, "kwargs": {}}', '"x"', "null"]
    )
    def test_what_is_cut_or_no_call_is_hidden_whole(self, text):
        assert masked("Login", text) == MASK

    def test_what_no_parameter_takes_is_hidden(self):
        """It may be one of before, that has another name now."""
        text = '{"args": ["ann", "x", "y"], "kwargs": {"pwd": "z"}, "note": "n", "tick": "t"}'

        assert json.loads(masked("Login", text)) == {
            "args": ["ann", MASK, MASK],
            "kwargs": {"pwd": MASK},
            "note": MASK,
            "tick": "t",
        }

    def test_annotations_that_cannot_be_resolved_hide_all(self):
        """A page is to be shown whatever a processor declares."""

        class Unresolved(BaseTaskProcessor):
            SENSITIVE = ("password",)

            def run(self, password: "Missing"): ...  # noqa: F821

        registry.register(Unresolved)
        try:
            assert masked("Unresolved", '{"args": ["x"], "kwargs": {}}') == MASK
            assert secrets_of("Unresolved", '{"args": ["x" ], "kwargs": {"a": "abcdefg"}}') == [
                "abcdefg"
            ]
        finally:
            del registry._processors["Unresolved"]

    def test_no_depth_makes_it_raise(self):
        """Else the error of the run would be lost, and its next try with it."""

        def told(depth: int) -> Any:
            nested = "[" * depth + '"deep-secret"' + "]" * depth
            return secrets_of("LoginByGroup", f'{{"args": [{nested}], "kwargs": {{}}}}')

        with ThreadPoolExecutor(1) as thread:  # its stack is empty, as a worker's almost is
            found = list(thread.map(told, range(900, 1100)))

        assert found[0] == ["deep-secret"]
        assert all(each is EVERYTHING or each == ["deep-secret"] for each in found)

    @pytest.mark.parametrize("name", ["Write", "Gone", "no.such.task"])
    def test_others_are_shown_as_they_are(self, name):
        assert masked(name, '{"args": ["x') == '{"args": ["x'


def test_a_name_that_is_no_parameter_is_an_error():
    class Mistyped(BaseTaskProcessor):
        SENSITIVE = ("pasword",)

        def run(self, password: str): ...

    class NoNames(BaseTaskProcessor):
        SENSITIVE = "password"

        def run(self): ...

    for each in (Mistyped, NoNames):
        registry.register(each)
    try:
        found = {e.obj: e for e in run_checks() if e.obj in (Mistyped, NoNames)}
    finally:
        for each in (Mistyped, NoNames):
            del registry._processors[each.__name__]

    assert found[Mistyped].id == "partisan_async.E017"
    assert "'pasword'" in found[Mistyped].msg
    assert found[NoNames].id == "partisan_async.E004"
