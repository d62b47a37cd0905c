"""Limits how long a statement waits for a row or a digest that another transaction has locked."""

from __future__ import annotations

LOCK_PATIENCE_MILLISECONDS = 100
"""Time that a settle waits for each row or digest that another transaction has locked."""

# An open transaction may lock a row, or a digest, if it has inserted the twin. A batch must not
# wait for its end. The setting is local to this statement's transaction: a transaction pooler does
# not keep settings of a session.
PATIENCE = """
WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', %(patience)s, true))
"""
