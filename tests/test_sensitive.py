"""``SENSITIVE``: what it names is in no page, no error and no log line, and reaches ``run()``."""

import json
import logging

import pytest
from django.core.checks import run_checks
from django.urls import reverse

from partisan_async import registry
from partisan_async.enqueue.sensitive import MASK, masked
from partisan_async.processor import BaseTaskProcessor
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, wait_until
from tests.testapp.partisan_tasks import (
    AsyncLogin,
    Card,
    Login,
    LoginUntyped,
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
        """Whoever may search could guess it letter by letter."""
        Login("ann", SECRET).delay()
        address = reverse("admin:partisan_async_task_changelist")

        assert "0 tasks" in admin_client.get(address, {"q": "adour"}).text
        assert MASK in admin_client.get(address, {"q": "login"}).text


class TestMask:
    @pytest.mark.parametrize(
        "text", ['{"args": ["ann", "tr', "[]", "5", '{"args": 5, "kwargs": {}}', '"x"', "null"]
    )
    def test_what_is_cut_or_no_call_is_hidden_whole(self, text):
        assert masked("Login", text) == MASK

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
