"""Limits on the dashboard, and the page of one: what they tell, and what is set there."""

import html
import json
import logging
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from partisan_async import registry
from partisan_async.admin.scope import Scope
from partisan_async.admin.tasks import TaskAdmin
from partisan_async.models import LimitOverride, LimitPause
from tests.limited import limit, row
from tests.test_dashboard import LIVE, PAGE, client_of, supervise, text_of
from tests.test_limit_command import Printed, Turned
from tests.test_limits_command import running
from tests.testapp.partisan_tasks import Write

pytestmark = pytest.mark.django_db

SEES = ("view_task", "view_supervisor")


def way_to(name):
    return f"{reverse('admin:partisan_async_dashboard_limit')}?name={name}"


def overrides():
    return dict(LimitOverride.objects.values_list("key", "running"))


def told(page):
    return html.unescape(text_of(page))


class TestDashboard:
    def test_a_line_for_each(self, admin_client):
        limit("partner", running=20, running_per_key=2)
        LimitOverride.objects.create(name="partner", running=1)
        running("acme", "partner")
        row("acme", "partner"), row("bee", "partner")

        page = admin_client.get(reverse(LIVE))

        assert (
            "Limits Limit Running Waiting Keys Next start Allows partner changed 1 of 1 2 2 when"
            " one ends 20 at once, 2 of a key; changed: 1 at once"
        ) in told(page)
        assert f'href="{way_to("partner")}"' in page.content.decode()

    def test_a_closed_one_is_marked(self, admin_client):
        limit("partner")
        row("a", "partner")
        LimitOverride.objects.create(name="partner", running=0)

        page = admin_client.get(reverse(LIVE)).content.decode()

        assert re.search(r'<tr data-key="partner" class="partisan-held">', page)

    def test_one_of_the_code_is_there_while_nothing_waits(self, admin_client, monkeypatch):
        limit("printer", running=1)
        assert "Limits" not in told(admin_client.get(reverse(LIVE)))
        monkeypatch.setitem(registry._processors, "Printed", Printed)

        assert "printer 0 of 1 0 0 - 1 at once" in told(admin_client.get(reverse(LIVE)))

    def test_without_limits_nothing_is_asked(self, admin_client):
        supervise()
        Write().delay()

        with CaptureQueriesContext(connection) as queries:
            page = admin_client.get(reverse(LIVE))

        assert "Limits" not in told(page)
        assert not [each for each in queries if "partisan_async_limit" in each["sql"]]

    def test_with_limits_it_is_one_statement_more(self, admin_client):
        supervise()
        with CaptureQueriesContext(connection) as before:
            admin_client.get(reverse(LIVE))
        limit(running_per_key=1)
        for n in range(30):
            row(str(n))

        with CaptureQueriesContext(connection) as queries:
            admin_client.get(reverse(LIVE))

        assert len(queries) == len(before) + 1

    def test_who_sees_a_part_sees_none(self, admin_client, monkeypatch):
        """A limit may be of queues and processors that they do not see."""
        limit("partner")
        row("a", "partner")
        monkeypatch.setattr(TaskAdmin, "get_scope", lambda *_: Scope(queues={"default"}))

        assert "partner" not in told(admin_client.get(reverse(PAGE)))
        assert admin_client.get(way_to("partner")).status_code == 403


class TestPage:
    def test_its_keys_the_fullest_first(self, admin_client):
        limit("partner", running_per_key=2)
        running("acme", "partner", 2)
        row("acme", "partner"), row("bee", "partner"), row("bee", "partner")
        until = timezone.now() + timedelta(minutes=5)
        LimitPause.objects.create(name="partner", key="bee", until=until)

        page = told(admin_client.get(way_to("partner")))

        assert re.search(r'"bee" 0 of 2 2 paused until \S+ \S+ \(in [45] minutes\)', page)
        assert '"acme" 2 of 2 1 when one ends' in page
        assert page.index('"bee"') < page.index('"acme"')

    def test_of_many_keys_fifty_are_shown(self, admin_client):
        limit("partner", running_per_key=2)
        for n in range(60):
            row(str(n), "partner")

        page = admin_client.get(way_to("partner"))

        assert page.content.decode().count('name="key"') == 50
        assert "and 10 more" in told(page)

    def test_one_that_is_not_there(self, admin_client):
        assert admin_client.get(way_to("partner")).status_code == 404
        assert admin_client.post(way_to("partner"), {"running": "1"}).status_code == 404

    def test_one_without_keys_has_none(self, admin_client):
        limit("printer", running=1)

        assert "The fullest keys" not in told(admin_client.get(way_to("printer")))

    def test_keys_are_for_those_who_may_see_arguments(self):
        limit("partner", running_per_key=2)
        row("ada@example.org", "partner")

        page = client_of(*SEES).get(way_to("partner"))

        assert "Keys are hidden from you, as arguments are." in told(page)
        assert "ada@" not in page.content.decode()
        reader = client_of(*SEES, "view_arguments", name="reader")
        assert "ada@example.org" in told(reader.get(way_to("partner")))


class TestSet:
    def test_a_number_of_the_whole(self, admin_client, caplog):
        caplog.set_level(logging.INFO, "partisan_async")
        limit("partner", running=20)
        row("a", "partner")

        page = admin_client.post(way_to("partner"), {"running": "5"}, follow=True)

        assert overrides() == {None: 5}
        assert "At once may run: 5." in told(page)
        assert "0 of 5" in told(page)
        entry = LogEntry.objects.get()
        assert (entry.user.username, entry.get_change_message()) == ("admin", "Set")

        page = admin_client.post(way_to("partner"), {"running": "", "clear": "1"}, follow=True)

        assert overrides() == {}
        assert "It is as the code says." in told(page)
        assert LogEntry.objects.count() == 2

    def test_it_is_put_down_who_did_it(
        self, admin_client, caplog, django_capture_on_commit_callbacks
    ):
        caplog.set_level(logging.INFO, "partisan_async")
        limit("partner", running=20)

        with django_capture_on_commit_callbacks(execute=True):
            admin_client.post(way_to("partner"), {"running": "5"})

        (line,) = [each.getMessage() for each in caplog.records if "steered" in each.getMessage()]
        assert line == "steered: set-limit 'partner' to 5, by admin (admin)"

    @pytest.mark.parametrize("key", ["acme", "", "two\nlines", '"quoted" <b>', "5", "ключ"])
    def test_of_a_key_that_is_there(self, admin_client, key):
        """As a browser sends what the page has."""
        limit("partner", running_per_key=2)
        row(key, "partner")
        page = admin_client.get(way_to("partner")).content.decode()
        (sent,) = re.findall(r'name="key" value="([^"]*)"', page)

        admin_client.post(way_to("partner"), {"key": html.unescape(sent), "running": "0"})

        assert overrides() == {key: 0}
        admin_client.post(way_to("partner"), {"key": json.dumps(key), "clear": "1"})
        assert overrides() == {}

    def test_of_another_key(self, admin_client):
        limit("partner", running_per_key=2)

        admin_client.post(way_to("partner"), {"other_key": "new", "running": "7"})

        assert overrides() == {"new": 7}

    @pytest.mark.parametrize(
        ("sent", "said"),
        [
            ({"running": "-1"}, "Write a whole number, 0 or more."),
            ({"running": ""}, "Write a whole number, 0 or more."),
            ({"running": "9" * 20}, "Write a whole number, 0 or more."),
            ({"running": "9" * 10}, "2,147,483,647 at most"),
            ({"running": "1", "other_key": "x" * 256}, "256 characters"),
            ({"running": "1", "other_key": "a\0b"}, "The key"),
        ],
    )
    def test_what_cannot_be_is_refused(self, admin_client, sent, said):
        limit("partner", running_per_key=2)

        assert said in told(admin_client.post(way_to("partner"), sent, follow=True))
        assert overrides() == {}

    def test_a_key_of_a_limit_without_keys(self, admin_client):
        limit("printer", running=2)

        page = admin_client.post(way_to("printer"), {"running": "1", "other_key": "x"}, follow=True)

        assert "This limit has no keys." in told(page)
        assert overrides() == {}

    @pytest.mark.parametrize("key", ["no JSON", "null", "5"])
    def test_what_no_form_sends(self, admin_client, key):
        limit("partner", running_per_key=2)

        sent = {"running": "1", "key": key}
        assert admin_client.post(way_to("partner"), sent).status_code == 400

    def test_who_may_only_look_cannot(self):
        limit("partner", running_per_key=2)
        row("a", "partner")
        reader = client_of(*SEES, "view_arguments")

        assert "<button>Set" not in reader.get(way_to("partner")).content.decode()
        assert reader.post(way_to("partner"), {"running": "1"}).status_code == 403
        assert client_of("change_task", name="x").get(way_to("partner")).status_code == 403
        changer = client_of(*SEES, "change_task", name="changer")
        assert changer.post(way_to("partner"), {"running": "1"}).status_code == 302
        assert overrides() == {None: 1}


def test_one_whose_processor_alone_says_that_it_has_keys(admin_client, monkeypatch):
    monkeypatch.setitem(registry._processors, "Turned", Turned)
    limit("turns", running=5)

    assert "Another key" in told(admin_client.get(way_to("turns")))
