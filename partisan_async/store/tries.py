"""Has a settle write when a run began, and when the first of several tries did."""

STARTED_AT = "statement_timestamp() - make_interval(secs => d.ran_seconds)"

# Only where an outcome asks for it. An operator's retry, of whatever release, sets tries to 0, so
# that the next one is the first.
FIRST_TRIED_AT = f"""
    first_tried_at = CASE WHEN d.timed IS NOT TRUE OR (t.tries > 0 AND t.first_tried_at IS NOT NULL)
        THEN t.first_tried_at ELSE {STARTED_AT} END,"""
