"""What the doctor says of limits: older releases beside them, and what is left of them."""

import uuid

import pytest
from django.utils import timezone

from partisan_async import registry, steering
from partisan_async.models import Limit, LimitOverride, Supervisor, Task
from partisan_async.operate.doctor import limits
from partisan_async.testing import live_supervisor
from tests.conftest import wait_until
from tests.limited import limit, row
from tests.test_dashboard import supervise
from tests.test_limit_command import Printed, partisan

pytestmark = pytest.mark.django_db(transaction=True)


def of(look):
    return [(said.well, said.text) for said in look()]


class TestOlderReleases:
    def test_without_limits_any_may_run(self):
        supervise()

        assert of(limits.older_releases) == [(True, "there are no limits")]

    @pytest.mark.parametrize("how", ["waits", "is written"])
    def test_one_beside_a_limit(self, how):
        row() if how == "waits" else limit()
        supervise()
        supervise(hostname="new", process={"pid": 8, "limits": True})
        silent = supervise(hostname="silent")
        Supervisor.objects.filter(pk=silent.pk).update(
            last_seen_at=timezone.now() - timezone.timedelta(hours=1)
        )

        ((well, said),) = of(limits.older_releases)

        assert not well
        assert said.startswith(
            "Supervisors of a release that knows nothing of limits run: here/7 of queue 'default'."
        )

    def test_this_release_says_that_it_knows_of_them(self):
        limit()
        with live_supervisor(WORKERS_COUNT=1):
            wait_until(Supervisor.objects.exists)
            assert of(limits.older_releases) == [(True, "every supervisor knows of limits")]


class TestUnused:
    def test_one_of_the_code_of_a_task_or_of_a_live_supervisor_is_not(self, monkeypatch):
        monkeypatch.setitem(registry._processors, "Printed", Printed)
        limit("printer"), limit("waits"), limit("runs"), limit("later")
        limit("lives", set_by=supervise().pk)
        row(name="waits"), row(name="later", status="scheduled")
        held = {"claimed_by": uuid.uuid4(), "claimed_at": timezone.now()}
        row(name="runs", status="in_process", **held)

        assert of(limits.unused_limits) == [(True, "5, all in use")]
        for name in ("printer", "runs", "later", "lives"):
            assert "forgotten" not in partisan("limits", "--dissolve", "--yes", name)
        assert Limit.objects.count() == 5

    def test_one_that_nothing_has_is_forgotten(self):
        limit("it's gone")
        row(name="it's gone", status="finished", finished_at=timezone.now())

        ((well, said),) = of(limits.unused_limits)

        assert not well
        assert said == (
            """No code has the limit "it's gone", and no task starts under it any more: manage.py"""
            """ partisan limits --dissolve 'it'"'"'s gone' forgets it."""
        )
        assert "is forgotten" in partisan("limits", "--dissolve", "it's gone")
        assert of(limits.unused_limits) == [(True, "0, all in use")]

    def test_one_whose_last_tasks_are_dissolved_is_too(self):
        limit("gone"), row(name="gone")

        assert partisan("limits", "--dissolve", "--yes", "gone") == (
            "dissolve: 1 task.\nLimit 'gone' is in no code any more, and is forgotten.\n"
        )
        assert Task.objects.get().status == "new"

    def test_a_number_of_a_limit_that_nobody_knows(self):
        limit("x"), row()
        steering.set_limit("x", 1)
        steering.set_limit("gone", 1, key="ada@example.org")

        ((well, said),) = of(limits.unused_limits)

        assert not well
        assert "under the limit 'gone', which no code and no task has" in said
        assert "manage.py partisan limit --clear gone" in said
        assert "ada@" not in said
        partisan("limit", "--clear", "gone", "--key", "ada@example.org")
        assert LimitOverride.objects.count() == 1
        assert of(limits.unused_limits) == [(True, "1, all in use")]
