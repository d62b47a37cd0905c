"""Counts the runs that a stop of their supervisor cut off, as a part of the settle.

No other outcome writes these columns, also not to reset them: a run that came to its end later has
a later ``last_attempted_at``. So it costs other settles nothing, and no older release that settles
beside can leave a wrong count.
"""

from __future__ import annotations

SET = """
    stops = CASE WHEN d.cut_off IS NOT TRUE THEN t.stops
        WHEN t.stops > 0 AND t.stopped_at >= t.last_attempted_at
        THEN LEAST(t.stops::bigint + 1, 2147483647) ELSE 1 END,
    stopped_at = CASE WHEN d.cut_off IS NOT TRUE THEN t.stopped_at
        ELSE statement_timestamp() END,"""
