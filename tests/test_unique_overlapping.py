"""Two callers, a thousand calls each, in transactions that are open at the same time.

The callers take turns, and each stays in its transaction while the other calls: whoever waited for
the other's transaction would wait until its ``lock_timeout``, and the call would raise.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, transaction
from django.utils import timezone

from partisan_async.enqueue import taking
from partisan_async.models import Task
from tests.test_taking import Begun
from tests.test_unique import call, elsewhere, rows, unique
from tests.test_unique_races import _no_waits
from tests.testapp.partisan_tasks import Sync

__all__ = ["_no_waits", "elsewhere", "unique"]  # fixtures

pytestmark = pytest.mark.django_db(transaction=True)

ACCOUNTS = 12
ROUNDS = 50
CALLS = 20
"""Of each caller in each round."""


@dataclass
class Open:
    """What a caller has done in its open transaction.

    :param due: the times of the twins that it has inserted or changed, by their accounts.
    :param shared: the accounts whose twins it has found, and keeps from being changed.
    :param beside: its rows that are nobody's twins, by their accounts.
    """

    due: dict = field(default_factory=dict)
    shared: set = field(default_factory=set)
    beside: Counter = field(default_factory=Counter)


class Promised:
    """The rows that there have to be, by what the page on unique calls says.

    :param due: of the committed twins, by their accounts.
    """

    def __init__(self, on_twin):
        self.on_twin = on_twin
        self.due = {}
        self.rows = Counter()
        self.begin()

    def begin(self):
        self.open = [Open(), Open()]

    def call(self, who, account, due):
        """Take a call into account; return whether a twin stands for it."""
        mine, other = self.open[who], self.open[1 - who]
        if account in other.due:
            mine.beside[account] += 1
            return False
        before = mine.due.get(account, self.due.get(account))
        if before is None:
            mine.due[account] = due
            return False
        if account in mine.due or self.changes(before, due):
            if account in other.shared:
                mine.beside[account] += 1
                return False
            mine.due[account] = self.after(before, due)
        else:
            mine.shared.add(account)
        return True

    def changes(self, before, due):
        return self.on_twin == "replace" or (self.on_twin == "sooner" and due < before)

    def after(self, before, due):
        return {"ignore": before, "replace": due, "sooner": min(before, due)}[self.on_twin]

    def end(self, who, *, commits):
        mine, self.open[who] = self.open[who], Open()
        if commits:
            self.rows += mine.beside + Counter(mine.due.keys() - self.due.keys())
            self.due |= mine.due

    def forget(self, account):
        """The twin has ended."""
        self.due.pop(account, None)


@pytest.mark.parametrize("while_running", [False, True])
@pytest.mark.parametrize("on_twin", ["ignore", "replace", "sooner"])
def test_there_are_exactly_the_promised_rows(
    unique, elsewhere, monkeypatch, on_twin, while_running
):
    unique(on_twin=on_twin, while_running=while_running)
    monkeypatch.setattr(taking, "PAUSES_SECONDS", (0,))  # who is in the way stays there
    rng, promised = random.Random(on_twin), Promised(on_twin)
    soonest = timezone.now() + timedelta(hours=1)

    def make(account, note, due):
        return Sync(account, note).delay(execute_after=due).is_twin

    def here(step):
        return step()

    def there(step):
        elsewhere.do(step)
        return elsewhere.results.pop()

    callers = (here, there)
    there(lambda: connection.cursor().execute("SET lock_timeout = '5s'"))
    for turn in range(ROUNDS):
        commits = [rng.random() < 0.8 for _ in callers]
        promised.begin()
        with transaction.atomic(), Begun(elsewhere):
            for number in range(2 * CALLS):
                who = number % 2
                account = str(rng.randrange(ACCOUNTS))
                due = soonest + timedelta(seconds=rng.randrange(10**6))
                expected = promised.call(who, account, due)

                is_twin = callers[who](partial(make, account, f"{turn} {number}", due))

                assert is_twin == expected, (turn, number, account)
            for who, each in enumerate(callers):
                if not commits[who]:
                    each(lambda: transaction.set_rollback(True))
        for who in (1, 0):
            promised.end(who, commits=commits[who])
        for account in map(str, rng.sample(range(ACCOUNTS), 3)):
            finish(account)
            promised.forget(account)

    assert Counter(call(task)[0] for task in rows()) == promised.rows
    assert sorted((call(task)[0], task.execute_after) for task in twins()) == sorted(
        promised.due.items()
    )


def twins():
    """The rows that stand for calls to come."""
    return Task.objects.filter(finished_at=None).exclude(digest=None, unique_key=None)


def finish(account):
    now = timezone.now()
    ended = twins().filter(arguments__args__0=account).update(status="finished", finished_at=now)
    assert ended <= 1
