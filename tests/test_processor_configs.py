import pytest

from partisan_async.config import const
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig

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


def test_subclasses_of_a_named_error_are_retried():
    class MyTimeout(TimeoutError):
        pass

    assert ErrorsHandleConfig(**GOOD).retries(MyTimeout())
    assert not ErrorsHandleConfig(**GOOD).retries(ValueError())
