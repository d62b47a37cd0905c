"""The SQL that reads queues, supervisors and failures; fast also among millions of rows."""

from __future__ import annotations

from partisan_async.exceptions import TaskCancelled
from partisan_async.models.readable import moment, seconds_since
from partisan_async.store import NEVER, is_parked
from partisan_async.store.statement import is_alive, queue_names

# Uses the partial index of each status, so that its cost hardly grows with the number of rows: it
# leaps over the indexes for names and first rows (a loose index scan), and takes ends from the
# tallies. What is counted by an order goes along its index: a scan of the table may look cheaper,
# and first read all that has ended. The limits of the leaps guard the database against rows with
# thousands of priorities or queues.
QUEUES = f"""
WITH RECURSIVE level AS (
    (SELECT queue_name, priority, id FROM partisan_async_task
     WHERE status = 'new' ORDER BY queue_name, priority, id LIMIT 1)
    UNION ALL
    SELECT next.* FROM level CROSS JOIN LATERAL (
        SELECT t.queue_name, t.priority, t.id FROM partisan_async_task t
        WHERE t.status = 'new' AND (t.queue_name, t.priority) > (level.queue_name, level.priority)
        ORDER BY t.queue_name, t.priority, t.id LIMIT 1) AS next),
first AS (
    SELECT t.queue_name, min(GREATEST(t.execute_after, t.created_at)) AS since
    FROM (SELECT id FROM level LIMIT 1000) AS l JOIN partisan_async_task t USING (id)
    GROUP BY t.queue_name),
waiting AS (
    SELECT first.*, counted.ready FROM first CROSS JOIN LATERAL (
        SELECT count(*) AS ready FROM (
            SELECT FROM partisan_async_task t
            WHERE t.status = 'new' AND t.queue_name = first.queue_name LIMIT %(at_most)s) AS c
        ) AS counted),
{queue_names("timetable", "status = 'scheduled'")},
later AS (
    SELECT l.queue_name, held_back.parked,
        LEAST(counted.scheduled + held_back.far, %(at_most)s) AS scheduled
    FROM (SELECT queue_name FROM timetable LIMIT 1000) AS l CROSS JOIN LATERAL (
        SELECT count(*) AS scheduled FROM (
            SELECT FROM partisan_async_task t
            WHERE t.status = 'scheduled' AND t.queue_name = l.queue_name
                AND t.execute_after < {NEVER}
            ORDER BY t.execute_after LIMIT %(at_most)s) AS c
        ) AS counted CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE c.is_parked) AS parked,
            count(*) FILTER (WHERE NOT c.is_parked) AS far
        FROM (
            SELECT {is_parked("t")} AS is_parked FROM partisan_async_task t
            WHERE t.status = 'scheduled' AND t.queue_name = l.queue_name
                AND t.execute_after >= {NEVER}
            ORDER BY t.execute_after LIMIT %(at_most)s) AS c
        ) AS held_back),
{queue_names("limits", "status = 'limited'")},
under_limits AS (
    SELECT l.queue_name, counted.limited
    FROM (SELECT queue_name FROM limits LIMIT 1000) AS l CROSS JOIN LATERAL (
        SELECT count(*) AS limited FROM (
            SELECT FROM partisan_async_task t
            WHERE t.status = 'limited' AND t.queue_name = l.queue_name
            ORDER BY t.limit_name LIMIT %(at_most)s) AS c
        ) AS counted),
held AS (
    SELECT queue_name, count(*) AS running
    FROM partisan_async_task WHERE status = 'in_process' GROUP BY queue_name),
last AS (
    SELECT date_trunc('minute', statement_timestamp()) - interval '1 minute' AS minute),
ended AS (
    SELECT queue_name, sum(t.finished)::bigint AS finished, sum(t.failed)::bigint AS failed,
        COALESCE(sum(t.finished + t.failed + t.cancelled)
            FILTER (WHERE t.minute >= last.minute), 0)::float8 * 60
            / extract(epoch FROM statement_timestamp() - last.minute)::float8 AS per_minute
    FROM last, (
        SELECT queue_name, minute, GREATEST(finished, 0)::bigint AS finished,
            GREATEST(failed, 0)::bigint AS failed, GREATEST(cancelled, 0)::bigint AS cancelled
        FROM partisan_async_tally
        WHERE minute BETWEEN statement_timestamp() - %(recent)s AND statement_timestamp()) AS t
    GROUP BY queue_name, last.minute),
alive AS (
    SELECT queue_name, count(*) AS supervisors FROM partisan_async_supervisor
    WHERE {is_alive()} GROUP BY queue_name),
paused AS (SELECT queue_name, true AS paused FROM partisan_async_pausedqueue)
SELECT queue_name, COALESCE(ready, 0), COALESCE(scheduled, 0), COALESCE(running, 0),
    {seconds_since("since")},
    COALESCE(finished, 0), COALESCE(failed, 0), COALESCE(per_minute, 0), COALESCE(supervisors, 0),
    COALESCE(paused, false), COALESCE(parked, 0), COALESCE(limited, 0)
FROM waiting FULL JOIN later USING (queue_name) FULL JOIN under_limits USING (queue_name)
    FULL JOIN held USING (queue_name) FULL JOIN ended USING (queue_name)
    FULL JOIN alive USING (queue_name) FULL JOIN paused USING (queue_name)
ORDER BY queue_name
"""  # noqa: S608

# The last failures of each queue, by the index of ended tasks, and of these the last. Leaves out
# times in the future: a row that was changed by hand would stay the last for ever. Tasks that
# cancelled themselves have not failed; among very many of them a failure may be missed.
FAILED = f"""
WITH RECURSIVE {queue_names("queue", "status IN ('finished', 'error')")},
last AS (
    SELECT t.* FROM (SELECT queue_name FROM queue LIMIT 1000) AS q CROSS JOIN LATERAL (
        SELECT t.id, t.finished_at FROM (
            SELECT id, finished_at, errors FROM partisan_async_task t
            WHERE t.status = 'error' AND t.queue_name = q.queue_name
                AND t.finished_at <= statement_timestamp()
            ORDER BY t.finished_at DESC LIMIT 20 * %(at_most)s) AS t
        WHERE (t.errors -> -1 @> '{{"cancelled": true, "by": "{TaskCancelled.ITSELF}"}}')
            IS NOT TRUE
        ORDER BY t.finished_at DESC LIMIT %(at_most)s) AS t
    ORDER BY t.finished_at DESC, t.id DESC LIMIT %(at_most)s)
SELECT t.id, t.queue_name, t.processor_class,
    COALESCE(left(t.errors->-1->>'exception_class', 255), ''), {moment("t.finished_at")}
FROM last JOIN partisan_async_task t USING (id)
ORDER BY t.finished_at DESC, t.id DESC
"""  # noqa: S608

SUPERVISORS = f"""
SELECT s.id::text, s.hostname || '/' || COALESCE(s.process->>'pid', '?'), s.queue_name,
    (SELECT count(*) FROM partisan_async_task t
     WHERE t.status = 'in_process' AND t.claimed_by = s.id),
    {seconds_since("s.started_at")},
    {is_alive("s")}, s.draining,
    {seconds_since("s.last_seen_at")}, s.workers::text, {moment("s.stopping_since")},
    s.process->>'memory_bytes'
FROM partisan_async_supervisor s ORDER BY s.queue_name, s.started_at
"""  # noqa: S608
