"""What becomes of rows that wait while the signature of their ``run()`` changes."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from partisan_async import registry
from partisan_async.policy import Deferred, Finished
from partisan_async.processor import BaseTaskProcessor
from partisan_async.testing import run_pending

MOMENT = datetime.datetime(2026, 11, 28, 7, 30, tzinfo=datetime.UTC)
ID = uuid.UUID(int=7)


class Run:
    """What ``run()`` is in one release or another."""

    def order(self, order: int): ...
    def express(self, order: int, express: bool = False): ...
    def needs_express(self, order: int, express: bool): ...
    def renamed(self, number: int): ...
    def text(self, order: str): ...
    def number(self, order: float): ...
    def two(self, first: int, second: int): ...
    def exchanged(self, second: int, first: int): ...
    def moment(self, at: datetime.datetime): ...
    def key(self, key: uuid.UUID): ...
    def untyped(self): ...


def released(run: Callable[..., Any]) -> type[BaseTaskProcessor]:
    """Return the processor as a release with this ``run()`` has it, in place of the last one."""
    made = type("Changing", (BaseTaskProcessor,), {"run": run})
    registry._processors["Changing"] = made
    return made


@pytest.fixture(autouse=True)
def _unregistered():
    yield
    registry._processors.pop("Changing", None)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("written_by", "args", "kwargs", "read_by"),
    [
        (Run.order, [7], {}, Run.express),
        (Run.express, [7], {}, Run.order),
        (Run.order, [7], {}, Run.renamed),
        (Run.order, [7], {}, Run.number),
        (Run.two, [1, 2], {}, Run.exchanged),
        (Run.untyped, [7], {}, Run.order),
        (Run.order, [7], {}, Run.untyped),
        (Run.untyped, [MOMENT.isoformat()], {}, Run.moment),
        (Run.untyped, [str(ID)], {}, Run.key),
    ],
)
def test_a_row_that_fits_is_run(written_by, args, kwargs, read_by):
    """Whichever release wrote it."""
    released(written_by)(*args, **kwargs).delay()
    released(read_by)

    (ran,) = run_pending()

    assert ran.decision == Finished()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("written_by", "args", "kwargs", "read_by", "told"),
    [
        (Run.order, [7], {}, Run.needs_express, "express is missing"),
        (Run.needs_express, [7, True], {}, Run.order, "it takes 1 by position, and got 2"),
        (Run.express, [7], {"express": True}, Run.order, "there is no parameter express"),
        (Run.order, [], {"order": 7}, Run.renamed, "there is no parameter order"),
        (Run.order, [7], {}, Run.text, "the stored order is not what run() takes, str"),
        (Run.text, ["7"], {}, Run.order, "the stored order is not what run() takes, int"),
    ],
)
def test_one_that_does_not_is_put_off(written_by, args, kwargs, read_by, told):
    """Another supervisor may know better; and nothing is run by half."""
    released(written_by)(*args, **kwargs).delay()
    released(read_by)

    (ran,) = run_pending()

    assert isinstance(ran.decision, Deferred)
    assert ran.decision.pause == datetime.timedelta(seconds=60)
    assert told in ran.decision.failure.message


@pytest.mark.django_db
def test_parameters_that_change_places_exchange_their_values():
    """Nothing can be seen of it in a row: so the page warns."""
    got = {}

    def exchanged(self, second: int, first: int):
        got.update(first=first, second=second)

    released(Run.two)(1, 2).delay()
    released(exchanged)

    run_pending()

    assert got == {"first": 2, "second": 1}
