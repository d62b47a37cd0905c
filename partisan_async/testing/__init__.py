"""For tests of code that enqueues tasks: run the tasks in the test, or by a real supervisor."""

from partisan_async.testing.bench import Ran
from partisan_async.testing.enqueued import (
    aassert_enqueued,
    aassert_not_enqueued,
    assert_enqueued,
    assert_not_enqueued,
)
from partisan_async.testing.live import await_until_ended, live_supervisor, wait_until_ended
from partisan_async.testing.pending import aperform, arun_pending, perform, run_pending
from partisan_async.testing.stopping import stopping

__all__ = [
    "Ran",
    "aassert_enqueued",
    "aassert_not_enqueued",
    "aperform",
    "arun_pending",
    "assert_enqueued",
    "assert_not_enqueued",
    "await_until_ended",
    "live_supervisor",
    "perform",
    "run_pending",
    "stopping",
    "wait_until_ended",
]
