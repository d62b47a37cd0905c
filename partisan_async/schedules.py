"""Schedules made at run time, such as one for each customer: made, changed and deleted.

Each function has a twin for async code, with an ``a`` before its name. None checks permissions.
"""

from partisan_async.steering.timetable import create, delete
from partisan_async.steering.twins import twin

__all__ = ["acreate", "adelete", "create", "delete"]

acreate = twin(create)
adelete = twin(delete)
