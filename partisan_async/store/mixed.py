"""Inserts calls of several processors by one statement; else as ``bulk`` does.

Calls of one *kind* are of one processor, and have its queue, its priority and its limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from partisan_async.claim import Call
from partisan_async.store.bulk import insert_of, with_more
from partisan_async.store.inserting import TO_TWINS, lock_of
from partisan_async.store.statement import Statement, array, array_of_texts, waiting

# As ``CALLS``. What the calls of a kind have in common is sent once, and of each call the number of
# its kind. The digests come as lines, too: some calls have none, which is an empty line.
_CALLS = """
kind AS MATERIALIZED (
    SELECT * FROM unnest(%(queue_names)s::text[], %(processor_classes)s::text[],
            %(priorities)s::int[]{{limits}})
        WITH ORDINALITY AS k (queue_name, processor_class, priority, {{limit}} kind)),
call AS MATERIALIZED (
    SELECT n, COALESCE(given, nextval(
            (SELECT pg_get_serial_sequence('partisan_async_task', 'id')::regclass))) AS id,
        arguments, {names} digest, kind
    FROM (SELECT *, decode(hex, 'hex') AS digest
          FROM unnest(%(ids)s::bigint[], string_to_array(%(arguments)s, chr(10)),
                string_to_array(%(digests)s, chr(10), ''), %(kinds)s::bigint[]{values})
            WITH ORDINALITY AS u (given, arguments, hex, kind, {names} n) ORDER BY n) AS u)
"""

# No lock is asked for NULL, which would leave the call out.
_TAKEN = f"WHERE digest IS NULL OR NOT %(takes)s OR pg_try_advisory_xact_lock({lock_of('digest')})"


def _insert(*, owned: bool, limited: bool) -> str:
    calls = with_more(_CALLS, owned=owned, limited=limited).format(
        limits=", %(limit_names)s::text[], %(limit_ranks)s::int[]" if limited else "",
        limit="limit_name, limit_rank," if limited else "",
    )
    return f"WITH {calls}," + insert_of(
        "call JOIN kind USING (kind)",
        where=_TAKEN,
        column="digest",
        target=TO_TWINS,
        owned=owned,
        limit="limit_name, limit_key, limit_rank," if limited else "",
        waits=waiting("kind") if limited else "",
        values="queue_name, processor_class, arguments::jsonb, priority",
    )


_INSERTS = {
    (owned, limited): _insert(owned=owned, limited=limited)
    for owned in (False, True)
    for limited in (False, True)
}


def insert_mixed(
    kinds: Sequence[Call],
    kind_of: Iterable[int],
    ids: str,
    encoded: Sequence[str],
    digests: Sequence[bytes] | None,
    subjects: Sequence[str | None] | None,
    limit_keys: Sequence[str | None] | None,
    *,
    takes: bool,
) -> Statement:
    """Insert calls of several processors; else as ``insert_bulk``.

    :param kinds: a call of each processor.
    :param kind_of: for each call the place of its processor among these.
    :param digests: a call that has none has an empty one.
    :param subjects: whose each is; ``None``: all are nobody's.
    :param limit_keys: the key of each under its limit, if any; ``None``: none has a limit.
    """
    params = {
        "queue_names": [each.queue_name for each in kinds],
        "processor_classes": [each.processor_class for each in kinds],
        "priorities": [each.priority for each in kinds],
        "kinds": array(kind + 1 for kind in kind_of),
        "ids": ids,
        "arguments": "\n".join(encoded),
        "digests": None if digests is None else "\n".join([each.hex() for each in digests]),
        "subjects": None if subjects is None else array_of_texts(subjects),
        "limit_keys": None if limit_keys is None else array_of_texts(limit_keys),
        "limit_names": [each.limit_name for each in kinds],
        "limit_ranks": [each.limit_rank for each in kinds],
        "traceparent": kinds[0].traceparent,
        "execute_after": kinds[0].execute_after,
        "takes": takes,
    }
    return Statement(_INSERTS[subjects is not None, limit_keys is not None], params)
