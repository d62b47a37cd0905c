"""What readers of a task's reasons can do about them, and which details they may see."""

from __future__ import annotations

from django.utils.translation import gettext

from partisan_async.operate import to_copy
from partisan_async.operate.overview import PauseState


class WaysOut:
    """The ways out of a reader at the command line, who may see and do everything."""

    def retry(self, pk: int) -> str:
        """Return how to run a failed task again."""
        command = f"manage.py partisan retry {pk}"
        return gettext("To run it again: %(command)s") % {"command": command}

    def cancel_and_retry(self, pk: int) -> str:
        """Return how to take a task from a supervisor that is gone."""
        return gettext("When that is mended: %(cancel)s, and to run it again, %(retry)s") % {
            "cancel": f"manage.py partisan cancel {pk}",
            "retry": f"manage.py partisan retry {pk}",
        }

    def resume(self, queue_name: str) -> str:
        """Return how to end a queue's pause."""
        return _to_resume(to_copy.resume(queue_name))

    def resume_processor(self, pause: PauseState) -> str:
        """Return how to end a processor's pause."""
        return _to_resume(pause.way_out)

    def start(self, queue_name: str) -> str:
        """Return how to start a supervisor."""
        return gettext("Start one: %(command)s") % {"command": to_copy.start(queue_name)}

    def look_further(self) -> str:
        """Return where to look next if no known reason explains the wait."""
        command = "manage.py partisan doctor"
        told = gettext("look at the log of the supervisors, and at %(command)s")
        return told % {"command": command}

    def error(self, exception_class: object, message: object, place: str = "") -> str:
        """Return the text of an error, which may quote arguments.

        :param place: the line that raised it; empty: unknown.
        """
        said = f"{exception_class}: {message}".removesuffix(": ")
        if not place:
            return said
        return gettext("%(error)s (at %(place)s)") % {"error": said, "place": place}

    def text(self, told: object) -> str:
        """Return the text of an error whose entry in the row has an unusual form."""
        return str(told)

    def key(self, key: str) -> str:
        """Return the key of a limit, which may say who somebody is."""
        return repr(key)

    def task(self, pk: int, processor_class: str) -> str:
        """Return the name of another task."""
        return f"{pk} {processor_class}"


def _to_resume(command: str) -> str:
    return gettext("To resume it: %(command)s") % {"command": command}


COMMANDS = WaysOut()
