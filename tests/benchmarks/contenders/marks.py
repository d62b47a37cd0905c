"""How a job tells when it began, in files that the benchmark names.

``time.monotonic()`` counts from one moment for all processes of a system, on Linux.
"""

import os
import time

_began = False


def begin() -> None:
    """Write down the first line of the first job of this process."""
    global _began
    if not _began:
        _began = True
        _append("FIRST_LINES", f"{time.monotonic()}\n")


def arrive(sent: float) -> None:
    """Write down how long this job's pick-up took.

    :param sent: ``time.monotonic()`` just before it was enqueued.
    """
    _append("PICK_UPS", f"{time.monotonic() - sent}\n")


def _append(variable: str, line: str) -> None:
    with open(os.environ[variable], "a") as file:
        file.write(line)
