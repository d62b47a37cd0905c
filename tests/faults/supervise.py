"""``start_partisan`` with a lease of its own: ``python -m tests.faults.supervise BEAT TTL …``.

BEAT and TTL are seconds; what follows are the command's options.
"""

import sys

from django.core.management import execute_from_command_line


def main(beat: str, ttl: str, *options: str) -> None:
    import django

    django.setup()
    from partisan_async.supervisor.host import Host

    Host.__init__.__kwdefaults__.update(beat_seconds=float(beat), ttl_seconds=float(ttl))
    execute_from_command_line(["manage.py", "start_partisan", *options])


if __name__ == "__main__":
    main(*sys.argv[1:])
