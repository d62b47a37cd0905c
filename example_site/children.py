"""The processes that the demo starts, and that end before it does."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

CHECKOUT = Path(__file__).resolve().parents[1]
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 10.0
"""From when a child is told to end until it is killed."""

STOPPING = "Stopping what was started; that takes some seconds."

CTRL_C_SECONDS = 3.0
"""Ctrl-C goes to the whole group, so to the children too; so long they may take to end by it."""


class ChildEnded(Exception):  # noqa: N818  it is news, whatever the cause
    """A child ended that was to run on."""


class Children:
    """Processes of our own group, each with a log file in a folder.

    :param logs: the folder.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Start Python with these arguments; what it prints goes to its log file."""
        command = [sys.executable, *arguments]
        with self._log(name).open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def check(self) -> None:
        """Return if all of them run.

        :raises ChildEnded: one does not; the message holds the end of its log.
        """
        for name, process in self._processes.items():
            code = process.poll()
            if code is not None:
                how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
                raise ChildEnded(f"The {name} ended unexpectedly, {how}. {self._end_of_log(name)}")

    def stop(self, *, after_ctrl_c: bool) -> None:
        """End all of them: by a signal, and those that do not obey by force.

        :param after_ctrl_c: they have most likely been told. A supervisor that is told twice does
            not wait for its tasks, so it is left some time.
        """
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._hurry)
        if self._processes:
            print(STOPPING, flush=True)
        if not (after_ctrl_c and self._all_ended(CTRL_C_SECONDS)):
            self._send(signal.SIGTERM)
            if not self._all_ended(PATIENCE_SECONDS):
                self._send(signal.SIGKILL)
        for process in self._processes.values():
            process.wait()

    def _hurry(self, signum: int, frame: FrameType | None) -> None:
        self._send(signal.SIGTERM)

    def _send(self, signum: signal.Signals) -> None:
        for process in self._processes.values():
            process.send_signal(signum)  # which does nothing to one that has ended

    def _all_ended(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        for process in self._processes.values():
            while process.poll() is None:
                if time.monotonic() > deadline:
                    return False
                time.sleep(POLL_SECONDS)
        return True

    def _end_of_log(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").splitlines()[-12:]
        return "\n  ".join(["The end of its log:", *lines]) if lines else "Its log is empty."

    def _log(self, name: str) -> Path:
        return self.logs / f"{name.replace(' ', '-')}.log"
