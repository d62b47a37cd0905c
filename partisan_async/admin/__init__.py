"""Tasks, supervisors, schedules and the dashboard, in Django's admin.

Users look at rows and steer them. No form edits a row: only the package writes rows.
"""

from partisan_async.admin.dashboard import DashboardAdmin
from partisan_async.admin.schedules import ScheduleAdmin
from partisan_async.admin.scope import Scope
from partisan_async.admin.supervisors import SupervisorAdmin
from partisan_async.admin.tasks import TaskAdmin

__all__ = ["DashboardAdmin", "ScheduleAdmin", "Scope", "SupervisorAdmin", "TaskAdmin"]
