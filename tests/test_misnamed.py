"""Attributes that look like ours and are not."""

import subprocess
import sys

import pytest
from django.core.checks import run_checks

from partisan_async import registry
from partisan_async.checks.misnamed import OTHERS_WORDS, misnamed
from partisan_async.checks.processors import ATTRIBUTES
from tests.process import ROOT, environment
from tests.testapp.partisan_tasks import Nothing

ID = "partisan_async.W014"


def meant(name):
    processor = type("Odd", (Nothing,), {name: 5})
    return [(owner.__name__, own, ours) for owner, own, ours in misnamed(processor, ATTRIBUTES)]


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("UNIQUE_FOR_PARAM", "UNIQUE_FOR_PARAMS"),
        ("TIMEOUT_SECOND", "TIMEOUT_SECONDS"),
        ("TIMEOUT_SECS", "TIMEOUT_SECONDS"),
        ("STORE_RESULTS", "STORE_RESULT"),
        ("QUEUENAME", "QUEUE_NAME"),
        ("PRIORTY", "PRIORITY"),
        ("RETRY_ON_ERROR_CONF", "RETRY_ON_ERROR_CONFIG"),
        ("TIMEOUT", "TIMEOUT_SECONDS"),
        ("RETRIES", "RETRY_ON_ERROR_CONFIG"),
        ("MAX_RETRIES", "RETRY_ON_ERROR_CONFIG"),
        ("UNIQUE_BY", "UNIQUE"),
        ("QUEUEING_LOCK", "UNIQUE"),
    ],
)
def test_a_slip_and_anothers_word_are_told_with_ours(name, ours):
    """It has no effect, and nothing else would say so."""
    assert meant(name) == [("Odd", name, ours)]


@pytest.mark.parametrize(
    "name",
    [
        "API_URL",
        "HTTP_TIMEOUT_SECONDS",
        "DB_TIMEOUT_SECONDS",
        "TIMEOUT_SECONDS_OF_BANK",
        "PRIORITIES",
        "MAX_SECONDS",
        "FOLDER_NAME",
        "RESULT_URL",
        "CONFIG",
        "timeout",
        "_TIMEOUT",
        "QUEUE",
        *ATTRIBUTES,
    ],
)
def test_a_projects_own_is_none(name):
    """QUEUE has an error of its own."""
    assert meant(name) == []


def test_each_word_of_others_means_one_of_ours():
    assert set(OTHERS_WORDS.values()) <= set(ATTRIBUTES)
    assert not OTHERS_WORDS.keys() & set(ATTRIBUTES)


@pytest.fixture
def two_of_a_base():
    base = type("Base", (Nothing,), {"RETRIES": 3})
    for name in ("First", "Second"):
        registry.register(type(name, (base,), {}))
    yield
    for name in ("First", "Second"):
        del registry._processors[name]


def test_it_is_a_warning_where_it_stands(two_of_a_base):
    """Once, however many processors derive from that."""
    (warning,) = [each for each in run_checks(tags=["partisan_async"]) if each.id == ID]

    assert warning.msg == "Base sets RETRIES, which partisan_async does not read."
    assert "Did you mean RETRY_ON_ERROR_CONFIG?" in warning.hint
    assert "rename it, or add 'partisan_async.W014' to SILENCED_SYSTEM_CHECKS" in warning.hint
    assert not warning.is_serious()


ALONE = """
import django, sys
django.setup()
from django.db import connections
from partisan_async import checks, registry
assert not registry.processors()
if sys.argv[1] == "check_pools":
    connections.settings["default"].setdefault("OPTIONS", {})["pool"] = {"max_size": 1}
    print([each.id for each in checks.check_pools()])
else:
    checks.processors.misnamed = lambda processor, known: [(processor, "FOOS", "FOO")]
    print({each.id for each in checks.check_names()})
"""


@pytest.mark.parametrize(("check", "code"), [("check_names", "W014"), ("check_pools", "W016")])
def test_it_needs_no_other_check_before_it(check, code):
    """Checks are kept in a set: which one imports the processors is chance."""
    command = [sys.executable, "-c", ALONE, check]
    answer = subprocess.run(command, env=environment(), cwd=ROOT, text=True, capture_output=True)

    assert f"partisan_async.{code}" in answer.stdout, answer.stderr


def test_the_tests_own_processors_have_none():
    assert [each for each in run_checks(tags=["partisan_async"]) if each.id == ID] == []
