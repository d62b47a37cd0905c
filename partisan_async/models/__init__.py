"""The tables: tasks, schedules, supervisors, pauses, tallies, limits, and the database's home."""

from partisan_async.models.home import Home
from partisan_async.models.limits import Limit, LimitOverride, LimitPause, LimitStart
from partisan_async.models.pauses import NEVER_BEGINS, NEVER_ENDS, PausedProcessor, PausedQueue
from partisan_async.models.schedule import Schedule
from partisan_async.models.status import ENDED, KNOWN, WAITING, Status
from partisan_async.models.supervisor import Dashboard, Supervisor
from partisan_async.models.tally import Tally
from partisan_async.models.task import Task
from partisan_async.models.window import UniqueWindow

__all__ = [
    "ENDED",
    "KNOWN",
    "NEVER_BEGINS",
    "NEVER_ENDS",
    "WAITING",
    "Dashboard",
    "Home",
    "Limit",
    "LimitOverride",
    "LimitPause",
    "LimitStart",
    "PausedProcessor",
    "PausedQueue",
    "Schedule",
    "Status",
    "Supervisor",
    "Tally",
    "Task",
    "UniqueWindow",
]
