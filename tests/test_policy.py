"""The rules as a table: outcome and counters in, decision out."""

from datetime import timedelta
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partisan_async.config import const
from partisan_async.config.processor_configs import ErrorsHandleConfig
from partisan_async.policy import (
    MAX_LOST,
    MAX_UNRECOGNISED,
    CutOff,
    Deferred,
    Died,
    Failed,
    Failure,
    Finished,
    Interrupted,
    PostponeAsked,
    Postponed,
    Raised,
    Retried,
    Returned,
    Rules,
    Suspected,
    Unrecognised,
    decide,
)


class Counters(NamedTuple):
    tries: int = 0
    postpones: int = 0
    lost: int = 0
    unrecognised: int = 0
    interrupted: int = 0


BOOM = Failure("builtins.TimeoutError", "boom")
INCREMENTAL = ErrorsHandleConfig(
    retry_on_errors=[TimeoutError],
    retries_count=3,
    retry_pause=3,
    retry_pause_strategy=const.DELAY_STRATEGY_INCREMENTAL,
)
CONSTANT = ErrorsHandleConfig(retry_on_errors=[TimeoutError], retries_count=3, retry_pause=3)


def rules(errors=None, max_postpones=15):
    return Rules(errors, max_postpones, timedelta(seconds=5))


def seconds(number):
    return timedelta(seconds=number)


UNCOUNTED = Interrupted(seconds(60), BOOM, counted=False)


@pytest.mark.parametrize(
    ("outcome", "given_rules", "counters", "decision"),
    [
        (Returned(), rules(), Counters(), Finished()),
        (Raised(BOOM, False), rules(CONSTANT), Counters(), Failed(BOOM)),
        (Raised(BOOM, True), rules(None), Counters(), Failed(BOOM)),
        (Raised(BOOM, True), rules(CONSTANT), Counters(tries=0), Retried(seconds(3), BOOM)),
        (Raised(BOOM, True), rules(CONSTANT), Counters(tries=2), Retried(seconds(3), BOOM)),
        (Raised(BOOM, True), rules(CONSTANT), Counters(tries=3), Failed(BOOM)),
        (Raised(BOOM, True), rules(INCREMENTAL), Counters(tries=0), Retried(seconds(3), BOOM)),
        (Raised(BOOM, True), rules(INCREMENTAL), Counters(tries=1), Retried(seconds(6), BOOM)),
        (Raised(BOOM, True), rules(INCREMENTAL), Counters(tries=2), Retried(seconds(9), BOOM)),
        (Raised(BOOM, True), rules(INCREMENTAL), Counters(tries=3), Failed(BOOM)),
        (PostponeAsked(None), rules(), Counters(), Postponed(seconds(5))),
        (PostponeAsked(0), rules(), Counters(), Postponed(seconds(0))),
        (PostponeAsked(300), rules(), Counters(postpones=14), Postponed(seconds(300))),
        (PostponeAsked(1), rules(None, None), Counters(postpones=999), Postponed(seconds(1))),
        (Died("x", alone=False), rules(), Counters(lost=2), Suspected(None)),
        (Unrecognised(BOOM), rules(), Counters(unrecognised=14), Deferred(seconds(60), BOOM)),
        (CutOff(BOOM, True), rules(), Counters(), Interrupted(seconds(1), BOOM)),
        (CutOff(BOOM, True), rules(), Counters(interrupted=3), Interrupted(seconds(8), BOOM)),
        (CutOff(BOOM, True), rules(), Counters(interrupted=14), Interrupted(seconds(60), BOOM)),
        (CutOff(BOOM, True), rules(), Counters(interrupted=15), Failed(BOOM)),
        (CutOff(BOOM, True), rules(), Counters(interrupted=-9), Interrupted(seconds(1), BOOM)),
        (CutOff(BOOM, False), rules(), Counters(interrupted=5), Interrupted(seconds(32), BOOM)),
        (CutOff(BOOM, False), rules(), Counters(interrupted=6), UNCOUNTED),
        (CutOff(BOOM, False), rules(), Counters(interrupted=99), UNCOUNTED),
    ],
)  # fmt: skip
def test_an_outcome_has_one_decision(outcome, given_rules, counters, decision):
    assert decide(outcome, given_rules, counters) == decision


@pytest.mark.parametrize("limit", [0, 1, 15])
def test_one_postpone_above_the_limit_fails(limit):
    """max_postpones=5 means five postpones, and the sixth is the error."""
    decision = decide(PostponeAsked(None), rules(max_postpones=limit), Counters(postpones=limit))

    assert isinstance(decision, Failed)
    assert decision.failure.exception_class.endswith("MaxPostponesReached")
    assert f"({limit})" in decision.failure.message


def test_a_death_counts_where_the_task_was_alone():
    """In company nobody can tell who did it; alone, the third time is the last."""
    assert isinstance(decide(Died("x", alone=True), rules(), Counters(lost=0)), Suspected)
    assert isinstance(decide(Died("x", alone=True), rules(), Counters(lost=MAX_LOST - 1)), Failed)


def test_an_unknown_processor_ends_in_error_at_last():
    """A processor that was removed for good must not be deferred for ever."""
    decision = decide(Unrecognised(BOOM), rules(), Counters(unrecognised=MAX_UNRECOGNISED))

    assert decision == Failed(BOOM)


@given(
    st.builds(
        Counters,
        tries=st.integers(0, 9),
        postpones=st.integers(0, 99),
        lost=st.integers(0, 9),
        unrecognised=st.integers(0, 99),
        interrupted=st.integers(0, 99),
    ),
    st.one_of(
        st.just(Raised(BOOM, True)),
        st.just(Died("x", alone=True)),
        st.just(PostponeAsked(None)),
        st.just(Unrecognised(BOOM)),
        st.just(CutOff(BOOM, True)),
    ),
)
def test_every_loop_ends(counters, outcome):
    """Whatever the counters, only finitely many runs are left before the task ends."""
    left = 0
    while not isinstance(decision := decide(outcome, rules(INCREMENTAL), counters), Failed):
        counter = {Retried: "tries", Postponed: "postpones", Suspected: "lost"}
        counter |= {Interrupted: "interrupted"}
        name = counter.get(type(decision), "unrecognised")
        counters = counters._replace(**{name: getattr(counters, name) + 1})
        left += 1
        assert left <= MAX_UNRECOGNISED
