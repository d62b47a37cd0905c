"""``start_partisan`` that does not lock limits before it counts: the suite must see the overruns.

``python -m tests.faults.limited.without_lock BEAT TTL …``, as ``tests.faults.supervise``.
"""

import sys

import django

from tests.faults import supervise

FOR_UPDATE = " FOR UPDATE"


def main(*arguments: str) -> None:
    django.setup()
    from partisan_async.store import limiting

    assert limiting._LOCK.count(FOR_UPDATE) == 1
    limiting._LOCK = limiting._LOCK.replace(FOR_UPDATE, "")
    supervise.main(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
