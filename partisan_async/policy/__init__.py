"""Decides what becomes of a run: its outcome, rules and counters in, one decision out.

*Outcome*: what happened in the worker. *Decision*: what is written on the row. Nothing here reads a
clock, a row or a setting, so each rule can be read and tested as a table.
"""

from partisan_async.policy.deciding import (
    LONGEST_CUT_OFF_PAUSE_SECONDS,
    MAX_CUT_OFF,
    MAX_INTERRUPTED,
    MAX_LOST,
    MAX_UNRECOGNISED,
    UNRECOGNISED_PAUSE,
    Counters,
    Rules,
    decide,
)
from partisan_async.policy.decisions import (
    Cancelled,
    Decision,
    Deferred,
    Failed,
    Finished,
    GivenBack,
    Interrupted,
    Postponed,
    PutUnder,
    Retried,
    Suspected,
)
from partisan_async.policy.failure import (
    Chain,
    Failure,
    class_path,
)
from partisan_async.policy.outcomes import (
    RETURNED,
    CancelAsked,
    CutOff,
    Died,
    Fit,
    Limited,
    Outcome,
    Overran,
    PostponeAsked,
    Raised,
    Returned,
    Unrecognised,
)

__all__ = [
    "LONGEST_CUT_OFF_PAUSE_SECONDS",
    "MAX_CUT_OFF",
    "MAX_INTERRUPTED",
    "MAX_LOST",
    "MAX_UNRECOGNISED",
    "RETURNED",
    "UNRECOGNISED_PAUSE",
    "CancelAsked",
    "Cancelled",
    "Chain",
    "Counters",
    "CutOff",
    "Decision",
    "Deferred",
    "Died",
    "Failed",
    "Failure",
    "Finished",
    "Fit",
    "GivenBack",
    "Interrupted",
    "Limited",
    "Outcome",
    "Overran",
    "PostponeAsked",
    "Postponed",
    "PutUnder",
    "Raised",
    "Retried",
    "Returned",
    "Rules",
    "Suspected",
    "Unrecognised",
    "class_path",
    "decide",
]
