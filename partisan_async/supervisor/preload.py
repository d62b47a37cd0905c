"""What every worker needs, imported once: in the forkserver, from where workers inherit it.

It opens no connection. Importing it changes how this process takes signals, so that only the
forkserver and the workers do. ``trouble`` says what went wrong, and is ``None`` if nothing did.
"""

import gc
import os
import signal

from partisan_async.supervisor import PRELOADED_PATH, STOP_SIGNALS, ending


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
for _number in STOP_SIGNALS:
    # Not SIG_IGN: commands that tasks start would inherit it, and could not be terminated.
    signal.signal(_number, lambda *_: None)
    signal.siginterrupt(_number, False)
signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # the supervisor kept them off until here

if (_path := os.environ.pop(PRELOADED_PATH, None)) is not None:
    # Only this process needed the supervisor's sys.path by environment; the commands that tasks may
    # start get what the supervisor was started with.
    if _path:
        os.environ["PYTHONPATH"] = _path
    else:
        os.environ.pop("PYTHONPATH", None)

ending.remember()
trouble: str | None = None
try:
    warm_up()
except BaseException as error:  # noqa: BLE001  the forkserver would swallow it, or end of it
    trouble = f"{type(error).__name__}: {error}"
else:
    # What is here now stays for good: keep the collector off it, or its marks unshare every page.
    gc.collect()
    gc.freeze()
