"""Pauses queues and processors, and resumes them."""

from __future__ import annotations

from collections.abc import Sequence

from partisan_async.store.statement import Statement


def pause(queue_name: str) -> Statement:
    """Stop starting tasks of a queue. Rows: its name, if it was not paused before."""
    sql = """
    INSERT INTO partisan_async_pausedqueue (queue_name) VALUES (%(queue_name)s)
    ON CONFLICT DO NOTHING RETURNING queue_name
    """
    return Statement(sql, {"queue_name": queue_name})


def resume(queue_name: str) -> Statement:
    """End a queue's pause. Rows: its name, if it was paused."""
    sql = """
    DELETE FROM partisan_async_pausedqueue WHERE queue_name = %(queue_name)s RETURNING queue_name
    """
    return Statement(sql, {"queue_name": queue_name})


def pause_processor(names: Sequence[str], queue_name: str) -> Statement:
    """Stop starting tasks of a processor. Rows: those of its names that were not paused before.

    :param queue_name: empty: in every queue.
    """
    sql = """
    INSERT INTO partisan_async_pausedprocessor AS p (processor_class, queue_name)
    SELECT name, %(queue_name)s FROM unnest(%(names)s::text[]) AS n (name) ORDER BY name
    ON CONFLICT (processor_class, queue_name) DO UPDATE
    SET resumed_at = NULL, paused_at = statement_timestamp() WHERE p.resumed_at IS NOT NULL
    RETURNING processor_class
    """
    return Statement(sql, {"names": list(names), "queue_name": queue_name})


def resume_processor(names: Sequence[str], queue_name: str | None) -> Statement:
    """End a processor's pause. Rows: the processor's name, for each pause that this ends.

    :param queue_name: ``None``: wherever the processor is paused.
    """
    sql = """
    UPDATE partisan_async_pausedprocessor SET resumed_at = statement_timestamp()
    WHERE processor_class = ANY(%(names)s) AND resumed_at IS NULL
        AND queue_name = COALESCE(%(queue_name)s::text, queue_name)
    RETURNING processor_class
    """
    return Statement(sql, {"names": list(names), "queue_name": queue_name})
