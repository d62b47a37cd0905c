"""Every log line of the package: one function for each, named for what happened.

A module has the lines about one subject. A line about a task begins with what happened, the task's
id and its processor. For programs the record says the same: each record has an ``event``; one about
a task has ``task_id``, ``claim_seq``, ``processor_class``, ``queue_name`` and ``seconds``; one
about several tasks has ``task_ids``; one about an error has ``exception``, the dotted name of its
class.
"""

from partisan_async.logs import callbacks as callbacks
from partisan_async.logs import database as database
from partisan_async.logs import fields as fields
from partisan_async.logs import handlers as handlers
from partisan_async.logs import operators as operators
from partisan_async.logs import outcomes as outcomes
from partisan_async.logs import queues as queues
from partisan_async.logs import reload as reload
from partisan_async.logs import schedules as schedules
from partisan_async.logs import sessions as sessions
from partisan_async.logs import start as start
from partisan_async.logs import supervisor as supervisor
from partisan_async.logs import tasks as tasks
from partisan_async.logs import workers as workers
