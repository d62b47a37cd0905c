"""Whether a task that failed is tried again, and when: by the config that fits its error.

The declarations are named in the words that stand in the code, so that who reads of a retry finds
what said so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from partisan_async.config.processor_configs import ErrorsHandleConfig
from partisan_async.policy.decisions import Failed, Retried
from partisan_async.policy.failure import Failure
from partisan_async.policy.outcomes import Fit

DECLARED = "RETRY_ON_ERROR_CONFIG"


def after_error(
    failure: Failure,
    fit: Fit | None,
    configs: Sequence[ErrorsHandleConfig],
    tries: int,
    trying_seconds: float | None,
) -> Retried | Failed:
    """Return what becomes of a task that failed.

    :param fit: the config of these that fits; ``None``: none does.
    :param tries: how many came before this one, whatever they ended with.
    :param trying_seconds: how long ago the first of them had begun when this one was claimed.
    """
    if fit is None or fit.place >= len(configs):
        return Failed(failure)
    config = configs[fit.place]
    name = DECLARED if len(configs) == 1 else f"{DECLARED}[{fit.place}]"
    count, limit = config.retries_count, config.give_up_after_seconds
    if count is not None and tries >= count:
        return Failed(failure, rule=f"{name}: retries_count={count}")
    asked = fit.asked_seconds is not None
    pause = _pause(config, fit, tries)
    if limit is not None and (trying_seconds or 0.0) + fit.ran_seconds + pause > limit:
        # The last pause is not cut short to fit: who asked for it would be asked too early.
        return Failed(failure, rule=f"{name}: give_up_after_seconds={limit:g}")
    rule = f"{name}: {config.pause_told(asked=asked)}"
    # Also where this one has no limit: another, which fits a later error, counts from this try.
    timed = any(each.give_up_after_seconds is not None for each in configs)
    return Retried(timedelta(seconds=pause), failure, rule, timed=timed)


def _pause(config: ErrorsHandleConfig, fit: Fit, tries: int) -> float:
    if fit.asked_seconds is not None:
        return config.capped(fit.asked_seconds)
    # A project's own subclass may know no draw.
    drawn = (fit.drawn,) if config.jitter else ()
    return config.pause_seconds(tries + 1, *drawn)
