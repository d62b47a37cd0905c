"""Inserts a call that starts under a limit, and tells supervisors its id, in one message.

Only the answer to a message says which id the server drew. So the insert *notes* the id, in a
setting of the session, where what follows the commit finds it. A message is for one session, also
behind a pooler of transactions: a pooler looks for another one when the answer is complete.
"""

from __future__ import annotations

from partisan_async.claim import Call
from partisan_async.store.inserting import insert
from partisan_async.store.notifying import LIMITED, channel
from partisan_async.store.statement import Statement

_NOTE = "partisan_async.enqueued"

# It is taken out again: nothing may be told of twice, nor be left in a session of others'. As for
# what is in a hurry, see ``notify``.
_TELL = f"""
SET LOCAL synchronous_commit = off;
WITH noted AS MATERIALIZED (SELECT NULLIF(current_setting('{_NOTE}', true), '') AS id)
SELECT pg_notify(%(channel)s, '{LIMITED}:' || id), set_config('{_NOTE}', '', false)
FROM noted WHERE id IS NOT NULL
"""  # noqa: S608


def insert_and_tell(call: Call, key: int | None) -> tuple[Statement, str]:
    """Return the statement of ``insert``, and SQL that tells of its row after the commit.

    They have their parameters in common. Without a row nothing is told. A row of the answer has one
    value more.
    """
    sql, params = insert(call, key)
    noting = f"{sql}, set_config('{_NOTE}', id::text, false)"
    return Statement(noting, params | {"channel": channel(call.queue_name)}), _TELL
