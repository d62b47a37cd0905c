"""``manage.py partisan limit``: another number than the code's, and what it closes and opens."""

import io
import logging

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction

from partisan_async import registry, steering
from partisan_async.limits import Limit
from partisan_async.models import LimitOverride, Task
from partisan_async.task_processor import TaskProcessor
from partisan_async.testing import live_supervisor
from tests.conftest import ended, wait_until
from tests.limited import Limited, ids, limit, row
from tests.test_limited_runs import called
from tests.testapp.partisan_tasks import Wait, Write

pytestmark = pytest.mark.django_db(transaction=True)


class Printed(TaskProcessor):
    """The one printer: it has a limit, and no keys."""

    LIMIT = Limit(running=1, name="printer")

    def run(self): ...


class Turned(TaskProcessor):
    """Nothing but its method says that it has keys."""

    LIMIT = Limit(running=5, name="turns")

    def run(self, key): ...

    def limit_key(self, key):
        return key


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    for each in (Printed, Turned):
        monkeypatch.setitem(registry._processors, each.__name__, each)


def partisan(*words):
    out = io.StringIO()
    call_command("partisan", *map(str, words), stdout=out)
    return out.getvalue()


def overrides():
    rows = LimitOverride.objects.order_by("key")
    return {each.key: each.running for each in rows}


def refused(*words):
    with pytest.raises(CommandError) as error:
        partisan("limit", *words)
    return str(error.value)


class TestRows:
    def test_a_number_of_the_whole_and_of_a_key(self):
        limit("partner", running_per_key=2)

        assert partisan("limit", "partner", "--running", 30) == (
            "Limit 'partner' lets 30 run at once.\n"
        )
        assert partisan("limit", "partner", "--running", 0, "--key", "acme") == (
            "Key 'acme' of limit 'partner' is closed: none starts.\n"
        )

        assert overrides() == {None: 30, "acme": 0}

    def test_the_last_one_holds(self):
        limit("partner")
        partisan("limit", "partner", "--running", 30)
        before = LimitOverride.objects.get()

        assert "was so before: it lets 30" in partisan("limit", "partner", "--running", 30)
        assert LimitOverride.objects.get().set_at == before.set_at
        partisan("limit", "partner", "--running", 31)

        after = LimitOverride.objects.get()
        assert (after.pk, after.running) == (before.pk, 31)
        assert after.set_at > before.set_at

    def test_each_is_cleared_by_itself(self):
        limit("partner", in_order=True)
        partisan("limit", "partner", "--running", 30)
        partisan("limit", "partner", "--running", 3, "--key", "")

        assert partisan("limit", "partner", "--clear") == (
            "Limit 'partner' is as the code says again.\n"
        )
        assert overrides() == {"": 3}
        assert "was as the code says" in partisan("limit", "partner", "--clear")
        partisan("limit", "partner", "--clear", "--key", "")
        assert overrides() == {}

    def test_the_claim_goes_by_it(self):
        limit(running_per_key=1)
        waiting = [row() for _ in range(4)]
        claimer = Limited()
        partisan("limit", "x", "--running", 3, "--key", "k")
        partisan("limit", "x", "--running", 2)

        assert ids(claimer.claim_limited([("x", "k")])) == [each.pk for each in waiting[:2]]
        partisan("limit", "x", "--clear")
        assert ids(claimer.claim_limited([("x", "k")])) == [waiting[2].pk]
        claimer.connection.close()


class TestRefused:
    def test_a_name_that_nobody_knows(self):
        limit("partner")
        row(name="waits")
        row(name="partners", queue_name="elsewhere")

        assert refused("partne", "--running", 1) == (
            "Nobody knows a limit 'partne'; similar are 'partner', 'partners', 'printer'."
        )
        assert refused("?", "--running", 1) == (
            "Nobody knows a limit '?'; known are 'partner', 'partners', 'printer', 'turns',"
            " 'waits'."
        )
        assert refused("?", "--clear") == refused("?", "--running", 1)
        assert overrides() == {}

    def test_one_of_the_code_that_no_supervisor_has_written_is_known(self):
        partisan("limit", "printer", "--running", 2)

        assert overrides() == {None: 2}

    def test_what_is_left_of_a_limit_that_is_gone_can_be_cleared(self):
        LimitOverride.objects.create(name="gone", key="k", running=1)

        partisan("limit", "gone", "--clear", "--key", "k")

        assert overrides() == {}

    @pytest.mark.parametrize("number", [-1, "x", 2**31, "1.5", "9" * 5000])
    def test_what_is_no_number(self, number):
        limit("partner")

        assert "is no number of tasks: pass a whole number" in refused(
            "partner", "--running", number
        )

    def test_a_key_of_a_limit_without_keys(self):
        limit("printer", running=1)
        row(None, "printer")

        assert refused("printer", "--running", 1, "--key", "k") == (
            "Limit 'printer' has no keys: no processor that has it has a limit_key(). Leave out"
            " --key."
        )

    @pytest.mark.parametrize(
        ("name", "numbers"),
        [
            ("turns", {}),
            ("a", {"running_per_key": 1}),
            ("b", {"rates_per_key": [[1, 1]]}),
            ("c", {"in_order": True}),
        ],
    )
    def test_one_with_keys_whoever_says_so(self, name, numbers):
        limit(name, **numbers)

        partisan("limit", name, "--running", 1, "--key", "k")

        assert overrides() == {"k": 1}

    def test_one_of_which_a_task_has_a_key(self):
        """Of another site's code, which this one does not know."""
        limit("other")
        row("k", "other")

        partisan("limit", "other", "--running", 1, "--key", "k")

        assert overrides() == {"k": 1}

    def test_what_can_be_no_key(self):
        limit("partner", in_order=True)

        assert "256 characters" in refused("partner", "--running", 1, "--key", "x" * 256)

    def test_neither_of_both(self):
        assert "one of the arguments --running --clear is required" in refused("partner")


class TestWoken:
    """Nothing else would open what was found closed or full."""

    def test_what_was_closed_starts_when_it_is_opened(self):
        limit(running_per_key=1)
        partisan("limit", "x", "--running", 0)
        with live_supervisor(WORKERS_COUNT=2):
            closed = [called(Write, n, key=str(n)) for n in range(20)]
            other = Write("other").delay()
            wait_until(lambda: ended(other))
            assert Task.objects.filter(status="limited").count() == 20

            partisan("limit", "x", "--clear")

            wait_until(lambda: ended(*closed))

    def test_a_key_that_was_full_has_room(self, tmp_path):
        go = tmp_path / "go"
        limit(running_per_key=1)
        with live_supervisor(WORKERS_COUNT=3):
            first, second = (called(Wait, str(go), n) for n in range(2))
            wait_until(lambda: Task.objects.filter(status="in_process").exists())

            partisan("limit", "x", "--running", 2, "--key", "k")

            wait_until(lambda: Task.objects.filter(status="in_process").count() == 2)
            go.touch()
            wait_until(lambda: ended(first, second))


class TestCode:
    def test_what_is_refused(self):
        with pytest.raises(ValueError, match="running=-1 must be a whole number, 0 or more"):
            steering.set_limit("x", -1)
        with pytest.raises(ValueError, match="running=True"):
            steering.set_limit("x", True)
        with pytest.raises(ValueError, match="2,147,483,647 at most"):
            steering.set_limit("x", 2**31)
        with pytest.raises(TypeError, match="The key is of type float"):
            steering.set_limit("x", 1, key=1.5)

    def test_it_tells_what_has_changed(self):
        assert steering.set_limit("x", 1, key=5)
        assert not steering.set_limit("x", 1, key="5")
        assert async_to_sync(steering.aclear_limit)("x", key="5")
        assert not steering.clear_limit("x", key="5")
        assert async_to_sync(steering.aset_limit)("x", 2)
        assert overrides() == {None: 2}

    def test_it_is_put_down_without_the_key(self, caplog):
        """A key may be a person's name."""
        caplog.set_level(logging.INFO, "partisan_async")
        limit("partner", running_per_key=1)

        partisan("limit", "partner", "--running", 1_000)
        partisan("limit", "partner", "--running", 0, "--key", "ada@example.org")
        of_key = LimitOverride.objects.get(key__isnull=False).pk
        partisan("limit", "partner", "--clear")
        partisan("limit", "partner", "--clear")

        told = [each for each in caplog.records if getattr(each, "event", "") == "steered"]
        lines = [each.getMessage().partition(", by ")[0] for each in told]
        assert lines == [
            "steered: set-limit 'partner' to 1,000",
            f"steered: set-limit a key of 'partner' (override {of_key}) to 0",
            "steered: clear-limit 'partner'",
        ]
        assert [(each.limit, each.way) for each in told] == [("partner", "command")] * 3
        assert "ada@" not in str([vars(each) for each in told])

    def test_what_is_rolled_back_wakes_nobody_and_holds_for_nobody(self):
        with pytest.raises(RuntimeError), transaction.atomic():
            steering.set_limit("x", 1)
            raise RuntimeError

        assert overrides() == {}
