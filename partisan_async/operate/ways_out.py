"""What the reader of a task's reasons can do about them, and how much of them they may see."""

from __future__ import annotations

from partisan_async.operate import to_copy
from partisan_async.operate.overview import PauseState


class WaysOut:
    """Those of somebody at the command line, who may see and do all."""

    def retry(self, pk: int) -> str:
        """Return how to run a task again that ended in error."""
        return f"To run it again: manage.py partisan retry {pk}"

    def cancel_and_retry(self, pk: int) -> str:
        """Return how to take a task from a supervisor that is gone."""
        return (
            f"When that is mended: manage.py partisan cancel {pk}, and to run it again, manage.py"
            f" partisan retry {pk}"
        )

    def resume(self, queue_name: str) -> str:
        """Return how to end a queue's pause."""
        return f"To resume it: {to_copy.resume(queue_name)}"

    def resume_processor(self, pause: PauseState) -> str:
        """Return how to end a processor's pause."""
        return f"To resume it: {pause.way_out}"

    def start(self, queue_name: str) -> str:
        """Return how to start a supervisor."""
        return f"Start one: {to_copy.start(queue_name)}"

    def look_further(self) -> str:
        """Return where to look when nothing that is known explains it."""
        return "look at the log of the supervisors, and at manage.py partisan doctor"

    def error(self, exception_class: object, message: object, place: str = "") -> str:
        """Return what is told of an error: its text may quote arguments.

        :param place: the line that raised it; empty: it is not known.
        """
        said = f"{exception_class}: {message}".removesuffix(": ")
        return f"{said} (at {place})" if place else said

    def text(self, told: object) -> str:
        """Return what is told of an error that is not of the usual form."""
        return str(told)

    def task(self, pk: int, processor_class: str) -> str:
        """Return how another task is named."""
        return f"{pk} {processor_class}"


COMMANDS = WaysOut()
