"""A database whose encoding lacks characters takes what people write, and answers what they ask."""

import json
import subprocess
import sys

import pytest

from partisan_async.postgres import encodings
from tests.encoded import database
from tests.process import environment


@pytest.mark.parametrize(
    ("encoding", "held"),
    [
        ("UTF8", "café €"),
        ("LATIN1", "café ?"),
        ("LATIN9", "café €"),
        ("WIN1252", "café €"),
        ("KOI8R", "caf? ?"),
        ("SQL_ASCII", "caf? ?"),
        ("MULE_INTERNAL", "caf? ?"),
    ],
)
def test_what_an_encoding_lacks_is_a_question_mark(encoding, held):
    """Where Python has none of the name, ASCII is in each of them."""
    assert encodings.within("café €", encoding) == held


@pytest.mark.django_db
def test_the_server_says_which_it_has_and_is_asked_by_no_statement(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert encodings.of_database("default") == "UTF8"


SCRIPT = """
import json
from io import StringIO
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from partisan_async import registry, steering
registry.autodiscover()
from partisan_async.models import Task
from tests.testapp.partisan_tasks import Write

ROWS, REASON = "/admin/partisan_async/", "caf\\u00e9 \\u20ac"
client = Client()
client.force_login(User.objects.create_superuser("root"))


def post(where, **fields):
    return client.post(ROWS + where, fields).status_code


def get(where, **asked):
    return client.get(ROWS + where, asked).status_code


by_code, by_command, by_page = (Write(number).delay().pk for number in range(3))
steering.cancel([by_code], by=REASON, reason=REASON)
call_command("partisan", "cancel", str(by_command), "--reason", REASON, stdout=StringIO())
post("task/", action="cancel", _selected_action=by_page, ids=by_page, confirmed=1, reason=REASON)
codes = [
    *(get("task/", **{name: REASON}) for name in ("q", "queue", "processor", REASON)),
    *(get("schedule/", **{name: REASON}) for name in ("q", "queue_name")),
    get("supervisor/", queue_name=REASON),
    *(get(f"{model}/{REASON}/change/") for model in ("task", "schedule", "supervisor")),
    post("schedule/", action="switch_off", _selected_action=REASON),
    post("dashboard/", pause=REASON),
]
errors = [errors[-1] for errors in Task.objects.order_by("id").values_list("errors", flat=True)]
print(json.dumps([errors, codes]))
"""


@pytest.mark.django_db(transaction=True)
def test_reasons_are_kept_as_far_as_it_goes_and_what_it_cannot_hold_is_nowhere():
    """Who cancels at night must not be refused for a character; nor is any page an error."""
    with database("LATIN1") as url:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=environment(DATABASE_URL=url),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    errors, codes = json.loads(done.stdout)

    assert [error["reason"] for error in errors] == ["café ?"] * 3
    assert errors[0]["by"] == "café ?"
    assert errors[0]["message"] == "Cancelled by café ?: café ?"
    assert codes[:7] == [404] * 7
    assert set(codes[7:]) <= {302, 404}, codes
