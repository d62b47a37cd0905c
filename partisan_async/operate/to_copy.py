"""Commands that people copy into a shell, with names of queues and processors.

Names are quoted for the shell: they come from rows, so whoever can enqueue chooses them.
"""

from __future__ import annotations

from shlex import quote


def start(queue_name: str) -> str:
    """Return how to start a supervisor of a queue."""
    return f"manage.py start_partisan --async {_option('--queue_name', queue_name)}"


def resume(queue_name: str) -> str:
    """Return how to end a queue's pause."""
    is_like_an_option = queue_name.startswith("-")
    which = _option("--queue-name", queue_name) if is_like_an_option else quote(queue_name)
    return f"manage.py partisan resume {which}"


def resume_processor(processor: str, queue_name: str) -> str:
    """Return how to end a processor's pause.

    :param queue_name: empty: wherever it is paused.
    """
    of = f" {_option('--queue-name', queue_name)}" if queue_name else ""
    return f"manage.py partisan resume {_option('--processor', processor)}{of}"


def dissolve(limit: str) -> str:
    """Return how to have what waits for a limit run without it, and to forget that."""
    return f"manage.py partisan limits --dissolve {_positional(limit)}"


def clear_limit(limit: str) -> str:
    """Return how to have the code's number of a limit hold again."""
    return f"manage.py partisan limit --clear {_positional(limit)}"


def _positional(name: str) -> str:
    return f"-- {quote(name)}" if name.startswith("-") else quote(name)


def _option(option: str, name: str) -> str:
    # With "=" if the name would otherwise be parsed as an option.
    between = "=" if name.startswith("-") else " "
    return f"{option}{between}{quote(name)}"
