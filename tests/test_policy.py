"""The rules as a table: outcome and counters in, decision out."""

from datetime import timedelta
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partisan_async.config import const
from partisan_async.config.processor_configs import ErrorsHandleConfig
from partisan_async.exceptions import TaskTimeout
from partisan_async.policy import (
    MAX_LOST,
    MAX_UNRECOGNISED,
    CancelAsked,
    Cancelled,
    CutOff,
    Deferred,
    Died,
    Failed,
    Failure,
    Finished,
    Fit,
    Interrupted,
    Overran,
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
    trying_seconds: float | None = None
    limit_name: str | None = None


BOOM = Failure("builtins.TimeoutError", "boom")
INCREMENTAL = ErrorsHandleConfig(
    retry_on_errors=[TimeoutError],
    retries_count=3,
    retry_pause=3,
    retry_pause_strategy=const.DELAY_STRATEGY_INCREMENTAL,
)
CONSTANT = ErrorsHandleConfig(retry_on_errors=[TimeoutError], retries_count=3, retry_pause=3)
DOUBLED = ErrorsHandleConfig(
    retry_on_errors=[OSError],
    retries_count=9,
    retry_pause=10,
    retry_pause_strategy=const.DELAY_STRATEGY_EXPONENTIAL,
    max_pause=60,
    jitter=0.5,
)
ASKED = ErrorsHandleConfig(
    retry_on_errors=[LookupError], retries_count=5, retry_pause=lambda error, task: 7, or_seconds=2
)
FOR_AN_HOUR = ErrorsHandleConfig(
    retry_on_errors=[TimeoutError, TaskTimeout], retry_pause=600, give_up_after_seconds=3600
)
FITS = Fit(0)


def rules(*errors, max_postpones=15):
    return Rules(errors, max_postpones, timedelta(seconds=5))


def seconds(number):
    return timedelta(seconds=number)


def timed(number):
    return Retried(seconds(number), BOOM, timed=True)


ENDLESS = rules(max_postpones=None)
UNCOUNTED = Interrupted(seconds(60), BOOM, counted=False)


@pytest.mark.parametrize(
    ("outcome", "given_rules", "counters", "decision"),
    [
        (Returned(), rules(), Counters(), Finished()),
        (Raised(BOOM), rules(CONSTANT), Counters(), Failed(BOOM)),
        (Raised(BOOM, FITS), rules(), Counters(), Failed(BOOM)),
        (Raised(BOOM, Fit(1)), rules(CONSTANT), Counters(), Failed(BOOM)),
        (Raised(BOOM, Fit(1)), rules(CONSTANT, DOUBLED), Counters(), Retried(seconds(10), BOOM)),
        (Raised(BOOM, FITS), rules(DOUBLED), Counters(tries=2), Retried(seconds(40), BOOM)),
        (Raised(BOOM, FITS), rules(DOUBLED), Counters(tries=8), Retried(seconds(60), BOOM)),
        (Raised(BOOM, Fit(0, drawn=0)), rules(DOUBLED), Counters(), Retried(seconds(5), BOOM)),
        (Raised(BOOM, Fit(0, drawn=1)), rules(DOUBLED), Counters(), Retried(seconds(15), BOOM)),
        (Raised(BOOM, FITS), rules(ASKED), Counters(), Retried(seconds(2), BOOM)),
        (Raised(BOOM, Fit(0, asked_seconds=99)), rules(ASKED), Counters(tries=4),
            Retried(seconds(99), BOOM)),
        (Raised(BOOM, Fit(0, asked_seconds=99)), rules(ASKED), Counters(tries=5), Failed(BOOM)),
        (Raised(BOOM, FITS), rules(FOR_AN_HOUR), Counters(), timed(600)),
        (Raised(BOOM, FITS), rules(CONSTANT, FOR_AN_HOUR), Counters(), timed(3)),
        (Raised(BOOM, FITS), rules(FOR_AN_HOUR), Counters(tries=99, trying_seconds=3000),
            timed(600)),
        (Raised(BOOM, FITS), rules(FOR_AN_HOUR), Counters(tries=1, trying_seconds=3001),
            Failed(BOOM)),
        (Raised(BOOM, Fit(0, 3001)), rules(FOR_AN_HOUR), Counters(), Failed(BOOM)),
        (CancelAsked(BOOM, "void"), rules(CONSTANT), Counters(), Cancelled(BOOM, "void")),
        (Raised(BOOM, FITS), rules(CONSTANT), Counters(tries=0), Retried(seconds(3), BOOM)),
        (Raised(BOOM, FITS), rules(CONSTANT), Counters(tries=2), Retried(seconds(3), BOOM)),
        (Raised(BOOM, FITS), rules(CONSTANT), Counters(tries=3), Failed(BOOM)),
        (Raised(BOOM, FITS), rules(INCREMENTAL), Counters(tries=0), Retried(seconds(3), BOOM)),
        (Raised(BOOM, FITS), rules(INCREMENTAL), Counters(tries=1), Retried(seconds(6), BOOM)),
        (Raised(BOOM, FITS), rules(INCREMENTAL), Counters(tries=2), Retried(seconds(9), BOOM)),
        (Raised(BOOM, FITS), rules(INCREMENTAL), Counters(tries=3), Failed(BOOM)),
        (PostponeAsked(None), rules(), Counters(), Postponed(seconds(5))),
        (PostponeAsked(0), rules(), Counters(), Postponed(seconds(0))),
        (PostponeAsked(300), rules(), Counters(postpones=14), Postponed(seconds(300))),
        (PostponeAsked(1), ENDLESS, Counters(postpones=999), Postponed(seconds(1))),
        (PostponeAsked(1, whole_key=True), rules(), Counters(), Postponed(seconds(1))),
        (PostponeAsked(1, whole_key=True), rules(), Counters(postpones=99, limit_name="x"),
         Postponed(seconds(1), counted=False, whole_key=True)),
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


def test_all_tries_count_whatever_they_ended_with():
    """Else a task that fails in two ways by turns would be tried twice as often."""
    other = ErrorsHandleConfig(retry_on_errors=[ValueError], retries_count=1, retry_pause=0)
    given_rules = rules(CONSTANT, other)

    assert decide(Raised(BOOM, Fit(1)), given_rules, Counters(tries=1)) == Failed(BOOM)
    assert isinstance(decide(Raised(BOOM, Fit(0)), given_rules, Counters(tries=1)), Retried)


def test_a_projects_own_config_may_say_the_pause():
    """By overriding it as it was before there was jitter."""

    class Own(ErrorsHandleConfig):
        def pause_seconds(self, retry):
            return 7 * retry

    own = Own(retry_on_errors=[TimeoutError], retries_count=3, retry_pause=0)

    decision = decide(Raised(BOOM, FITS), rules(own), Counters(tries=1))
    assert decision == Retried(seconds(14), BOOM)


def test_a_killed_time_limit_takes_the_first_config_that_fits():
    """No worker is left to say which that is, nor to ask a function."""
    function = ErrorsHandleConfig(
        retry_on_errors=[Exception],
        retries_count=3,
        retry_pause=lambda error, task: 99,
        or_seconds=8,
        retry_pause_strategy=const.DELAY_STRATEGY_EXPONENTIAL,
        jitter=1,
    )
    killed = Overran(30, ran_seconds=35, drawn=0.75)

    decision = decide(killed, rules(CONSTANT, function), Counters(tries=1))

    assert isinstance(decision, Retried)
    assert decision.pause == seconds(24)  # 8 × 2, and half of the way from there to 32
    assert decision.failure.exception_class.endswith("TaskTimeout")
    limited = decide(killed, rules(FOR_AN_HOUR), Counters(tries=1, trying_seconds=2966))
    assert isinstance(limited, Failed)


@pytest.mark.parametrize(
    ("outcome", "given_rules", "tries", "rule"),
    [
        (Raised(BOOM), rules(CONSTANT), 0, ""),
        (Raised(BOOM, FITS), rules(CONSTANT), 0, "RETRY_ON_ERROR_CONFIG: retry_pause=3"),
        (Raised(BOOM, FITS), rules(CONSTANT), 3, "RETRY_ON_ERROR_CONFIG: retries_count=3"),
        (Raised(BOOM, FITS), rules(INCREMENTAL), 0,
            "RETRY_ON_ERROR_CONFIG: retry_pause=3, incremental"),
        (Raised(BOOM, Fit(1)), rules(CONSTANT, DOUBLED), 0,
            "RETRY_ON_ERROR_CONFIG[1]: retry_pause=10, exponential, max_pause=60, jitter=0.5"),
        (Raised(BOOM, FITS), rules(ASKED), 0, "RETRY_ON_ERROR_CONFIG: or_seconds=2"),
        (Raised(BOOM, Fit(0, asked_seconds=1)), rules(ASKED), 0,
            "RETRY_ON_ERROR_CONFIG: retry_pause=tests.test_policy.<lambda>"),
        (Raised(BOOM, Fit(0, 9999)), rules(FOR_AN_HOUR), 1,
            "RETRY_ON_ERROR_CONFIG: give_up_after_seconds=3600"),
    ],
)  # fmt: skip
def test_a_decision_names_what_said_so(outcome, given_rules, tries, rule):
    """In the words that stand in the code: who reads it looks for them there."""
    assert getattr(decide(outcome, given_rules, Counters(tries=tries)), "rule", None) == rule


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
        st.just(Raised(BOOM, FITS)),
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
