"""What every worker needs, imported once: in the forkserver, from where workers inherit it.

It opens no connection. Importing it changes how this process takes signals, so that only the
forkserver and the workers do. ``trouble`` says what went wrong, and is ``None`` if nothing did.
"""

import gc
import os
import signal

ENVIRONMENT_PATH = "PARTISAN_ASYNC_PYTHONPATH"
"""Where the supervisor keeps the PYTHONPATH that it replaced for the forkserver's start."""


def warm_up() -> None:
    """Set Django up and import the tasks."""
    import django
    from django.db import connections

    from partisan_async import registry

    django.setup()
    registry.autodiscover()
    # An app may have queried in its ready(). Neither a connection nor a pool may cross a fork.
    connections.close_all()
    for connection in connections.all():
        if connection.settings_dict["OPTIONS"].get("pool"):
            connection.close_pool()  # type: ignore[attr-defined]


# Signals reach the whole process group, and systemd sends them to every process of a service: only
# the supervisor heeds them, or the workers would be gone before it could let them finish.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)

if (_path := os.environ.pop(ENVIRONMENT_PATH, None)) is not None:
    # Only this process needed the supervisor's sys.path by environment; the commands that tasks may
    # start get what the supervisor was started with.
    if _path:
        os.environ["PYTHONPATH"] = _path
    else:
        os.environ.pop("PYTHONPATH", None)

trouble: str | None = None
try:
    warm_up()
except BaseException as error:  # noqa: BLE001  the forkserver would swallow it, or end of it
    trouble = f"{type(error).__name__}: {error}"
else:
    # What is here now stays for good: keep the collector off it, or its marks unshare every page.
    gc.collect()
    gc.freeze()
