"""Runs a command with a database of its own: ``python -m partisan_async.embedded``."""

# The user names the program that runs here.
# ruff: noqa: S603

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType

from partisan_async.embedded.owner import end_with_owner
from partisan_async.embedded.server import EmbeddedPostgres

OWN_URL = "PARTISAN_EMBEDDED_URL"
"""Set for a command that has a database of its own, to the value of ``DATABASE_URL``."""

_USAGE = "Give the command to run: python -m partisan_async.embedded COMMAND [ARGUMENT...]\n"


def main(command: Sequence[str]) -> int:
    """Run a command with a database of its own, and return its exit code.

    The code is 128 + n if signal n ended the command. The terminal sends Ctrl-C to the command
    itself, as to the whole process group; SIGTERM is forwarded. The command ends first, then the
    server.

    :param command: the program and its arguments.
    """
    if not command or command[0].startswith("-"):
        sys.stderr.write(_USAGE)
        return 2
    if shutil.which(command[0]) is None:
        sys.stderr.write(f"{command[0]!r} is not a command that can be run; is it on the PATH?\n")
        return 127
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        # The command gets the signal, too, unless it has not started yet.
        if process is None:
            early.append(signum)

    def forward(signum: int, frame: FrameType | None) -> None:
        if process is None:
            sys.exit(128 + signum)
        process.send_signal(signum)

    signal.signal(signal.SIGTERM, forward)
    environment = dict(os.environ)
    try:
        with ExitStack() as stack:
            if not environment.get("DATABASE_URL"):
                url = stack.enter_context(EmbeddedPostgres()).url
                environment |= {"DATABASE_URL": url, OWN_URL: url}
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                # A handler, not SIG_IGN, which the command would inherit.
                signal.signal(signal.SIGINT, note)
            hook = end_with_owner(signal.SIGTERM)
            process = subprocess.Popen(command, env=environment, preexec_fn=hook)
            for signum in early:
                process.send_signal(signum)
            code = process.wait()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return code if code >= 0 else 128 - code
