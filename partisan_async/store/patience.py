"""How long a statement waits for a row, or a digest, that another transaction has locked."""

from __future__ import annotations

LOCK_PATIENCE_MILLISECONDS = 100
"""Time that a settle waits for a row, or a digest, that another transaction has locked."""

# A row may be locked by somebody's open transaction, and so may a digest: by a caller that has
# inserted the twin and not committed. A batch must not wait for that. The setting lasts to the end
# of this statement's transaction: a session's own would not get through a transaction pooler.
PATIENCE = """
WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', %(patience)s, true))
"""
