"""Looks at the ids of new rows: whether some are left, and whether the next ones are free."""

from __future__ import annotations

from collections.abc import Iterator

from partisan_async.operate.doctor.look import Said, ask, well, wrong

USED_UP = 0.9


def numbers() -> Iterator[Said]:
    """Tell whether there are ids left for new tasks."""
    ((last, most),) = ask("""
        SELECT CASE WHEN has_sequence_privilege(s.seqrelid, 'USAGE, SELECT')
            THEN COALESCE(pg_sequence_last_value(s.seqrelid), 0) END, s.seqmax
        FROM pg_sequence s
        WHERE s.seqrelid = pg_get_serial_sequence('partisan_async_task', 'id')::regclass
    """)
    if last is None:
        yield wrong("The sequence of partisan_async_task cannot be read: see the rights.")
    elif last > USED_UP * most:
        yield wrong(
            f"The tasks' numbers come to their end, {last:,} of {most:,}: as soon as the table has"
            " no low numbers any more, start again: ALTER SEQUENCE partisan_async_task_id_seq"
            " RESTART."
        )
    else:
        yield well(f"the last is {last:,}")


def sequences() -> Iterator[Said]:
    """Tell whether the next ids of tasks and of tallies are free."""
    behind = []
    for name in ("partisan_async_task", "partisan_async_tally"):
        ((sequence, last, most),) = ask(f"""
            SELECT s.name, CASE WHEN has_sequence_privilege(s.name, 'USAGE, SELECT')
                THEN COALESCE(pg_sequence_last_value(s.name::regclass), 0) END,
                COALESCE((SELECT max(id) FROM {name}), 0)
            FROM pg_get_serial_sequence('{name}', 'id') AS s (name)
        """)  # noqa: S608
        if last is None:
            behind.append(name)
            yield wrong(f"The sequence of {name} cannot be read: see the rights.")
        elif last < most:
            behind.append(name)
            mend = f"SELECT setval('{sequence}', (SELECT max(id) FROM {name}))"  # noqa: S608
            yield wrong(
                f"The sequence of {name} is at {last:,}, and its rows come to {most:,}, as after a"
                f" logical replication, so that inserts meet numbers that are taken: {mend}"
            )
    if not behind:
        yield well("none is behind its table")
