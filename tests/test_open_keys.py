"""Which keys are open, pure of any database: what news opens, and what a claim's verdict closes."""

from datetime import timedelta

import pytest

from partisan_async.claim import Settlement
from partisan_async.policy import Failure, Finished, GivenBack, Retried
from partisan_async.store import Verdict
from partisan_async.supervisor import news, open_keys
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.open_keys import OpenKeys
from partisan_async.supervisor.sight import Sight
from tests.claims import claim

A, B = ("x", "a"), ("x", "b")

ONE_OF_A = claim(limit_name="x", limit_key="a")


def verdict(key=A, **changes):
    """By default of a key with room that has more rows."""
    usual = {
        "room": 1,
        "whole_room": 1,
        "slots": 1,
        "left": 1,
        "more": False,
        "stuck": False,
        "shared": False,
    }
    usual |= {"rated": False, "whole_rated": False, "seconds": None, "whole_seconds": None}
    return Verdict(*key, **usual | changes)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    for module in (open_keys, news):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def keys(clock):
    return OpenKeys()


def judged(keys, *verdicts, claims=()):
    keys.judge(verdicts, claims)
    return keys.take()[0]


class TestVerdicts:
    @pytest.mark.parametrize(
        ("changes", "is_open"),
        [
            ({}, True),
            ({"left": 0}, False),
            ({"left": 0, "more": True}, True),
            ({"room": 0}, False),
            ({"whole_room": 0}, False),
            ({"seconds": 5.0}, False),
            ({"stuck": True}, False),
        ],
    )
    def test_what_stays_open(self, keys, changes, is_open):
        assert judged(keys, verdict(**changes)) == ([A] if is_open else [])

    def test_a_full_one_is_opened_by_an_end(self, keys):
        judged(keys, verdict(room=0))

        keys.note_ended(A)

        assert keys.is_any_open
        assert keys.take() == ([A], [])

    def test_one_with_a_time_opens_by_itself(self, keys, clock):
        assert judged(keys, verdict(seconds=5.0)) == []
        assert keys.next_at() == clock.now + 5
        assert not keys.is_any_open

        clock.now += 5

        assert keys.is_any_open
        assert keys.take() == ([A], [])
        assert keys.next_at() is None

    def test_one_that_is_stuck_is_looked_at_again(self, keys, clock):
        judged(keys, verdict(stuck=True))
        clock.now += open_keys.STUCK_SECONDS

        assert keys.take() == ([A], [])

    def test_one_whose_rate_this_claim_has_used_up_is_looked_at_once_more(self, keys):
        taken = [claim(limit_name="x", limit_key="a")]

        assert judged(keys, verdict(room=0, rated=True), claims=taken) == [A]
        assert judged(keys, verdict(room=0, rated=True)) == []

    def test_one_that_is_full_by_another_queue_is_looked_at_again(self, keys, clock):
        assert judged(keys, verdict(room=0, shared=True)) == []

        clock.now = keys.next_at()

        assert keys.take()[0] == [A]

    def test_an_end_does_not_open_one_that_was_found_empty(self, keys):
        judged(keys, verdict(left=0), claims=[ONE_OF_A])

        keys.note_ended(A)

        assert not keys.is_any_open
        assert keys.news.take() == ({}, [])

    @pytest.mark.parametrize("news", ["rows", "walk", "another"])
    def test_but_where_there_was_news_since(self, keys, news):
        judged(keys, verdict(left=0), claims=[ONE_OF_A])
        match news:
            case "rows":
                keys.note_rows([7])
            case "walk":
                keys.note_some()
            case "another":
                judged(keys, verdict(B, whole_room=0))

        keys.note_ended(A)

        assert A in keys.take()[0]
        assert keys.news.take() == ({A: 1}, [])


class TestTurns:
    def test_what_had_its_turn_comes_last(self, keys):
        keys.note([A, B])
        keys.take()

        assert judged(keys, verdict(A), verdict(B), claims=[ONE_OF_A]) == [B, A]

    def test_also_behind_a_limit_that_is_full(self, keys):
        judged(keys, verdict(A, whole_room=0), verdict(B, whole_room=0), claims=[ONE_OF_A])

        keys.note_ended(A)

        assert keys.take()[0] == [B, A]


class TestWhole:
    def test_behind_a_limit_that_is_full_a_few_open_when_one_of_it_has_ended(self, keys):
        many = [verdict(("x", str(n)), whole_room=0) for n in range(20)]
        assert judged(keys, *many) == []

        keys.note_ended(("x", "99"))

        opened, _ = keys.take()
        assert len(opened) == open_keys.OPENED_AT_ONCE + 1
        assert judged(keys, verdict(("x", "0"), left=0)) != []  # room is left: some more

    def test_another_limit_is_not_opened(self, keys):
        judged(keys, verdict(("y", "a"), whole_room=0))

        keys.note_ended(A)

        assert keys.take() == ([A], [])

    def test_what_nothing_told_of_opens_a_few_of_them(self, keys):
        """As when an operator allows more, or the end of one was told to nobody."""
        judged(keys, *[verdict(("x", str(n)), whole_room=0) for n in range(20)])

        keys.note_some()

        assert len(keys.take()[0]) == open_keys.OPENED_AT_ONCE

    def test_its_rates_open_it_in_time(self, keys, clock):
        assert judged(keys, verdict(whole_room=0, whole_seconds=3.0)) == []
        clock.now += 3

        assert keys.take() == ([A], [])

    def test_more_than_are_kept_are_found_by_a_walk(self, keys):
        many = [verdict(("x", str(n)), whole_room=0) for n in range(open_keys.MOST)]
        judged(keys, *many)
        keys.note_step([("x", "new"), ("y", "new")])
        assert keys.take() == ([("y", "new")], [])

        for _ in range(open_keys.MOST):
            keys.note_ended(A)
            keys.take()

        assert keys.walks


class TestWalk:
    def test_it_goes_on_behind_the_last_key_of_a_full_step(self, keys):
        keys.note_some()
        assert keys.walks
        assert keys.walked is None

        keys.note_step([("x", str(n)) for n in range(open_keys.WALKED_AT_ONCE)])
        assert not keys.walks  # what is open comes first
        while keys.take()[0]:
            pass
        assert keys.walks
        assert keys.walked == ("x", str(open_keys.WALKED_AT_ONCE - 1))

        keys.note_step([])
        assert not keys.is_any_open

    def test_what_waits_for_its_time_is_left_alone(self, keys):
        judged(keys, verdict(seconds=9.0))

        keys.note_step([A, B])

        assert keys.take() == ([B], [])

    def test_times_by_a_clock_that_was_wrong_are_forgotten(self, keys):
        judged(keys, verdict(seconds=3600.0), verdict(("y", "b"), whole_room=0, whole_seconds=3600))

        keys.forget_times()
        keys.note_step([A])

        assert keys.take() == ([("y", "b"), A], [])
        assert keys.next_at() is None

    @pytest.mark.parametrize(("trusts_clock", "is_known"), [(True, True), (False, False)])
    def test_they_are_while_the_clock_is_not_trusted(self, clock, trusts_clock, is_known):
        agenda = Agenda()
        agenda.has_limits = True
        judged(agenda.keys, verdict(seconds=3600.0))

        seen = Sight(ready=False, due_seconds=None, orphans=False)
        agenda.on_sight(seen, trusts_clock=trusts_clock)

        assert (agenda.keys.next_at() is not None) == is_known

    def test_times_that_are_too_many_are_found_again_by_a_walk(self, keys, clock):
        many = [verdict(("x", str(n)), seconds=1.0 + n) for n in range(open_keys.MOST + 50)]
        judged(keys, *many)
        clock.now += open_keys.MOST + 1

        assert keys.is_any_open
        keys.take()
        keys.note_step([])
        clock.now += 1
        while keys.take()[0]:
            pass
        assert keys.walks or not keys.is_any_open


class TestRows:
    def test_rows_are_looked_up_with_the_next_claim(self, keys):
        keys.note_rows([7, 8])

        assert keys.take() == ([], [7, 8])
        assert not keys.is_any_open

    def test_too_many_are_found_by_a_walk(self, keys):
        keys.note_rows(range(open_keys.MOST + 1))

        assert keys.take() == ([], [])
        assert keys.walks

    def test_what_failed_is_looked_at_again(self, keys):
        keys.note([A])
        keys.note_rows([7])
        asked = keys.take()

        keys.put_back(*asked)

        assert keys.take() == asked


class TestFreed:
    def test_others_are_told_once_in_a_while_of_what_is_not_made_use_of_here(self, keys, clock):
        for _ in range(3):
            keys.note_ended(A)
        assert keys.news.take() == ({A: 3}, [])
        keys.note_ended(A)
        assert keys.news.take() == ({}, [])

        clock.now += news.TELL_EVERY_SECONDS

        assert keys.news.take() == ({A: 1}, [])

    def test_others_are_told_of_a_slot_of_the_limit_where_its_key_has_no_more(self, keys):
        """The next worker here may be long in coming: ready tasks come first."""
        keys.note_ended(A)

        judged(keys, verdict(A, left=0), verdict(B))

        assert keys.news.take() == ({A: 1}, [])

    @pytest.mark.parametrize("news", ["rows", "walk"])
    def test_also_where_others_were_not_looked_at_yet(self, keys, news):
        keys.note_ended(A)
        keys.take()
        keys.note_rows([7]) if news == "rows" else keys.note_some()

        keys.judge([verdict(A, left=0)], [])

        assert keys.news.take() == ({A: 1}, [])

    @pytest.mark.parametrize(
        "changes", [{"left": 0}, {"room": 0}, {"whole_room": 0}, {"slots": 2}, {"slots": None}]
    )
    def test_not_of_what_a_claim_here_has_taken(self, keys, changes):
        keys.note_ended(A)

        judged(keys, verdict(**changes))

        assert keys.news.take() == ({}, [])


class TestUntold:
    """What has come to wait by what was done here: no NOTIFY has told anybody of it."""

    def test_others_are_told_of_what_was_not_claimed_here(self, keys, clock):
        keys.note_own_rows([7, 8])
        assert keys.take() == ([], [7, 8])
        keys.judge([verdict()], [ONE_OF_A._replace(id=7)])

        assert keys.news.take() == ({}, [8])
        clock.now += news.TELL_EVERY_SECONDS
        assert keys.news.take() == ({}, [])

    def test_it_is_time_to_tell_though_there_is_no_room(self, keys, clock):
        keys.note_own_rows([7])

        assert keys.next_at(has_room=False) <= clock.now

    @pytest.mark.parametrize(
        ("decision", "is_told"),
        [
            (GivenBack(), True),
            (Retried(timedelta(0), Failure.of(ValueError())), True),
            (Finished(), False),
        ],
    )
    def test_one_that_waits_again_is_told_of(self, clock, decision, is_told):
        agenda = Agenda()
        agenda.on_settled([Settlement(ONE_OF_A, decision, None)])

        assert agenda.keys.news.take()[1] == ([ONE_OF_A.id] if is_told else [])
