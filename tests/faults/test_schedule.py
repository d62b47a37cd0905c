"""The soak's schedule: a pure function of its seed and its length."""

from collections import Counter
from itertools import pairwise

import pytest

from tests.faults.injector import Injector
from tests.faults.schedule import KINDS, PLACES, Fault, draw

SEEDS = range(20)


def test_the_same_seed_draws_the_same_faults():
    """So that a bad verdict can be looked into."""
    assert draw(7, 8) == draw(7, 8)
    assert draw(7, 8) != draw(8, 8)


def test_a_longer_soak_begins_as_a_shorter_one():
    short = draw(7, 2)

    assert draw(7, 8)[: len(short)] == short


@pytest.mark.parametrize("seed", SEEDS)
def test_two_minutes_have_most_kinds_and_eight_have_all_of_them_twice(seed):
    two = {fault.kind for fault in draw(seed, 2)}
    eight = Counter(fault.kind for fault in draw(seed, 8))

    assert len(two) >= len(KINDS) - 2
    assert set(eight) == set(KINDS)
    assert min(eight.values()) >= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_of_three_supervisors_one_is_well_at_any_time(seed):
    """Or nothing would run, and a fault would find no victim."""
    lasting = [fault for fault in draw(seed, 8) if fault.lasts]

    for place in set(PLACES.values()):
        there = [fault for fault in lasting if PLACES[fault.kind] == place]
        assert all(first.at + first.lasts < second.at for first, second in pairwise(there))
    # What befalls the database or a log keeps no supervisor from going on when it is over.
    assert len(set(PLACES.values()) - {"database", "log"}) < 3


@pytest.mark.parametrize("seed", SEEDS)
def test_the_last_fault_is_over_before_the_load_ends(seed):
    assert all(fault.at > 0 and fault.at + fault.lasts < 120 for fault in draw(seed, 2))


def test_the_injector_knows_every_kind():
    """It finds the method by the fault's name."""

    class Nobody(Injector):
        def _candidates(self):
            return []

    class NoSite:
        url = "postgresql:///none?host=/nowhere"

        def execute(self, sql, *params):
            return [("nobodys",)] if sql == "SELECT current_database()" else []

        def restart(self, mode):
            pass

    injector = Nobody(NoSite(), count=0)

    told = {kind: injector.inject(Fault(0, kind, 0)) for kind in KINDS}

    assert told.pop("restart PostgreSQL") == "the server"
    of_the_database = [kind for kind, place in PLACES.items() if place == "database"]
    assert {told.pop(kind) for kind in of_the_database} == {"the database"}
    assert set(told.values()) == {"nobody: there is no candidate now"}
