import re
from datetime import timedelta
from functools import partial
from types import FunctionType

import pytest

from partisan_async.config import const
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig, name_of
from partisan_async.exceptions import TEN_YEARS_SECONDS


def asked(error, task):
    return 1


GOOD = {"retry_on_errors": [TimeoutError], "retries_count": 3, "retry_pause": 3}


@pytest.mark.parametrize(
    "wrong",
    [
        {"retry_on_errors": []},
        {"retry_on_errors": TimeoutError},
        {"retry_on_errors": ["TimeoutError"]},
        {"retry_on_errors": [KeyboardInterrupt]},
        {"retry_on_errors": [TimeoutError()]},
        {"retries_count": 0},
        {"retries_count": -1},
        {"retries_count": 1.5},
        {"retries_count": True},
        {"retry_pause": -1},
        {"retry_pause": float("nan")},
        {"retry_pause": float("inf")},
        {"retry_pause": "3"},
        {"retry_pause": None},
        {"retries_count": None},
        {"retries_count": None, "give_up_after_seconds": 9, "retry_pause": 0},
        {"give_up_after_seconds": -1},
        {"give_up_after_seconds": "1 day"},
        {"give_up_after_seconds": True},
        {"max_pause": 2},
        {"max_pause": float("nan")},
        {"max_pause": "9"},
        {"jitter": 1.5},
        {"jitter": -0.1},
        {"jitter": True},
        {"jitter": float("nan")},
        {"jitter": None},
        {"or_seconds": 1},
        {"or_seconds": None, "retry_pause": asked},
        {"or_seconds": -1, "retry_pause": asked},
        {"max_pause": 5, "retry_pause": asked, "or_seconds": 6},
        {"retry_pause_strategy": "X"},
        {"retry_pause_strategy": None},
    ],
)
def test_a_wrong_config_is_refused_when_it_is_made(wrong):
    """At import of the tasks, not when the first error comes at night."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ErrorsHandleConfig(**GOOD | wrong)


@pytest.mark.parametrize("wrong", [-1, None, 1.5, True, "5"])
def test_a_wrong_limit_of_postpones_is_refused(wrong):
    with pytest.raises(ValueError, match="max_postpones"):
        PostponeConfig(max_postpones=wrong)


def test_the_pause_is_constant_by_default():
    assert [ErrorsHandleConfig(**GOOD).pause_seconds(n) for n in (1, 2, 3)] == [3, 3, 3]


def test_the_pause_grows_with_the_incremental_strategy():
    config = ErrorsHandleConfig(**GOOD, retry_pause_strategy=const.DELAY_STRATEGY_INCREMENTAL)

    assert [config.pause_seconds(n) for n in (1, 2, 3)] == [3, 6, 9]


PAUSES = [
    {"retry_pause_strategy": const.DELAY_STRATEGY_CONSTANT},
    {"retry_pause_strategy": const.DELAY_STRATEGY_INCREMENTAL},
    {"retry_pause_strategy": const.DELAY_STRATEGY_EXPONENTIAL},
    {"retry_pause_strategy": const.DELAY_STRATEGY_EXPONENTIAL, "max_pause": 100},
]
JITTERED = PAUSES[-1] | {"jitter": 0.5}


def test_the_table_in_the_docstring_has_the_pauses():
    """Who picks a strategy looks there."""
    ruled = ErrorsHandleConfig.__doc__.split("    =====")
    rows = [re.findall(r" (\d+)(?= |$)", line) for line in "".join(ruled).splitlines()]
    told = [[int(number) for number in row] for row in rows if len(row) == 7]

    configs = [ErrorsHandleConfig(**GOOD | {"retry_pause": 10} | each) for each in PAUSES]
    jittered = ErrorsHandleConfig(**GOOD | {"retry_pause": 10} | JITTERED)
    tries = range(1, 8)
    assert told == [
        *([config.pause_seconds(n) for n in tries] for config in configs),
        *([jittered.pause_seconds(n, drawn) for n in tries] for drawn in (0, 1)),
    ]


@pytest.mark.parametrize("strategy", const.DELAY_STRATEGIES)
@pytest.mark.parametrize("retry", [1, 7, 1000, 2**31])
def test_a_pause_can_be_stored_whatever_the_count(strategy, retry):
    """2 to the power of a thousand is no time, and a row may say any count."""
    longest = GOOD | {"retry_pause": 30, "jitter": 1, "retry_pause_strategy": strategy}
    config = ErrorsHandleConfig(**longest)

    assert 0 <= config.pause_seconds(retry, 0) <= TEN_YEARS_SECONDS
    assert config.pause_seconds(retry, 1) <= TEN_YEARS_SECONDS
    timedelta(seconds=config.pause_seconds(retry, 1))


def test_no_jitter_changes_no_pause():
    """Not by a rounding either: 0.1 stays 0.1."""
    config = ErrorsHandleConfig(**GOOD | {"retry_pause": 0.1})

    assert {config.pause_seconds(1, drawn) for drawn in (0, 0.3, 1)} == {0.1}


def test_a_number_that_was_asked_for_is_capped_and_no_more():
    """A server that says an hour is not to be asked sooner."""
    config = ErrorsHandleConfig(
        **GOOD
        | {"retry_pause": asked, "or_seconds": 30, "jitter": 1, "max_pause": 7200}
        | {"retry_pause_strategy": const.DELAY_STRATEGY_EXPONENTIAL}
    )

    assert [config.capped(number) for number in (0.5, 3600, 9999)] == [0.5, 3600, 7200]
    assert [config.pause_seconds(n) for n in (1, 2)] == [30, 60]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (asked, "tests.test_processor_configs.asked"),
        (partial(asked, 1), "functools.partial(<function asked"),
    ],
)
def test_a_function_is_told_by_its_name(function, name):
    assert name_of(function).startswith(name)


def test_a_name_can_be_stored_in_any_encoding():
    function = FunctionType(asked.__code__, {})
    function.__qualname__ = "prüfe_日"

    assert name_of(function).endswith(r"pr\xfcfe_\u65e5")


def test_subclasses_of_a_named_error_are_retried():
    class MyTimeout(TimeoutError):
        pass

    assert ErrorsHandleConfig(**GOOD).retries(MyTimeout())
    assert not ErrorsHandleConfig(**GOOD).retries(ValueError())
