"""Behind a replica that lags, the package reads from where it writes."""

import pytest

from partisan_async import processor, steering
from partisan_async.models import Task
from partisan_async.testing import run_pending
from tests.replica import ReplicaAsked, Router
from tests.testapp.partisan_tasks import GiveUp, Write

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _replica(settings):
    settings.DATABASE_ROUTERS = ["tests.replica.Router"]


class Elsewhere(Router):
    """Sends the reads of everybody's code to an alias that there is not."""

    def db_for_read(self, model, **hints):
        super().db_for_read(model, **hints)
        return "nowhere" if model is Task else None


def test_the_router_would_tell():
    """Else it proves nothing."""
    code = compile("Task.objects.count()", processor.__file__, "exec")

    with pytest.raises(ReplicaAsked, match=r"Task by .*processor\.py:1"):
        exec(code, {"Task": Task})


def test_columns_that_were_not_claimed_come_from_the_rows_own_database(settings):
    """A run reads them when it asks for them: a replica may not have the row yet."""
    GiveUp(3600).delay()
    settings.DATABASE_ROUTERS = ["tests.test_replica.Elsewhere"]

    (ran,) = run_pending()

    assert ran.task.postpones == 1


def test_a_row_is_refreshed_from_where_it_is_from(settings):
    """It was written there a moment ago."""
    task = Write().delay()
    steering.cancel([task.pk])
    settings.DATABASE_ROUTERS = ["tests.test_replica.Elsewhere"]

    task.refresh_from_db()

    assert task.status == "error"
