"""Has a settle write that a task goes back to wait for its limit."""

from partisan_async.models.status import Status

# In order, one that has begun keeps its place until its next time: nothing overtakes it.
STATUS = f"""
    CASE WHEN t.limit_name IS NULL OR d.status NOT IN ('{Status.NEW}', '{Status.SCHEDULED}')
        THEN d.status
    WHEN d.status = '{Status.NEW}' OR t.limit_key IS NOT NULL AND EXISTS (
        SELECT 1 FROM partisan_async_limit l WHERE l.name = t.limit_name AND l.in_order)
        THEN '{Status.LIMITED}'
    ELSE d.status END"""  # noqa: S608
