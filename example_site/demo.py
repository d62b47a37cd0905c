"""The gallery at work, by one command. It needs a database, which another one gives it:

    python -m partisan_async.embedded python -m example_site.demo [--port 8000]
    python -m partisan_async.embedded python -m example_site.demo --once [--pictures FOLDER]

The first runs the site and a process for its queues until Ctrl-C; whoever edits the tasks meanwhile
sees it. The second runs without a site: it takes a folder of pictures in, waits until their tasks
ended, and exits 0, or 1 where one failed that should not have.
"""

import argparse
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from example_site.children import ChildEnded, Children
from partisan_async import dsn

HOST = "127.0.0.1"


class Stop:
    """Whether Ctrl-C or SIGTERM came. It is looked at between two steps, so that none ends half."""

    def __init__(self) -> None:
        self.signum = 0
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._note)

    def check(self) -> None:
        """Return if none came.

        :raises KeyboardInterrupt: one did.
        """
        if self.signum:
            raise KeyboardInterrupt

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:  # told twice: a step takes too long
            raise KeyboardInterrupt
        self.signum = signum


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    options = _options(arguments)
    stop = Stop()
    with tempfile.TemporaryDirectory(prefix="gallery-") as scratch:
        children = Children(Path(scratch))
        try:
            return _run(options, Path(scratch), children, stop)
        except KeyboardInterrupt:
            return 128 + stop.signum if options.once else 0
        except ChildEnded as ended:
            print(ended, file=sys.stderr)
            return 1
        finally:
            children.stop(after_ctrl_c=stop.signum == signal.SIGINT)


def _run(options: argparse.Namespace, scratch: Path, children: Children, stop: Stop) -> int:
    os.environ["DJANGO_SETTINGS_MODULE"] = "example_site.settings"
    if options.once:
        os.environ["EXAMPLE_MEDIA"] = str(scratch / "media")
    # Not above: the settings are read now, and a model can only be imported after setup().
    import django

    django.setup()
    from django.db import OperationalError

    from example_site.tour import Tour

    tour = Tour(children, stop.check)
    try:
        tour.prepare_database()
        tour.start_supervisors(*(() if options.once else ("--reload",)))
        if not options.once:
            tour.start_site(HOST, options.port)
        tour.take_in(options.files or tour.draw(scratch))
        return tour.wait_for_end() if options.once else tour.tell_until_stopped()
    except OperationalError as error:
        print(f"The database cannot be used: {str(error).strip()}", file=sys.stderr)
        return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    summary = "Run the example gallery: its site and its supervisors."
    parser = argparse.ArgumentParser("python -m example_site.demo", description=summary)
    parser.add_argument(
        "--once", action="store_true", help="no site: take the pictures in, wait, print a table"
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="take these in, instead of drawn ones"
    )
    parser.add_argument("--port", type=int, default=8000, help="of the site (default: %(default)s)")
    options = parser.parse_args(arguments)
    options.files = []
    if wrong := _wrong(options):
        parser.error(wrong)
    return options


def _wrong(options: argparse.Namespace) -> str | None:
    """Say what is wrong with the options, ``None`` if nothing; find the files."""
    if not os.environ.get("DATABASE_URL"):
        return (
            "DATABASE_URL is not set. For a database that is thrown away after, run `python -m"
            " partisan_async.embedded python -m example_site.demo`; or set it to a PostgreSQL"
            " database of yours, such as postgresql://user:password@localhost/gallery."
        )
    try:
        dsn.parse(os.environ["DATABASE_URL"])
    except ValueError:
        return f"DATABASE_URL {dsn.WRONG}."
    folder = options.pictures
    if folder is not None and not folder.is_dir():
        return f"There is no folder '{folder}'; give --pictures the path of one."
    if folder is not None:
        options.files = _files(folder)
        if not options.files:
            return f"There are no files in '{folder}'; subfolders are not looked into."
    if not options.once:
        return _wrong_port(options.port)
    return None


def _files(folder: Path) -> list[Path]:
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.is_file())


def _wrong_port(port: int) -> str | None:
    if not 0 < port < 2**16:
        return f"There is no port {port}; give --port a number from 1 to 65535."
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return (
                f"Port {port} of {HOST} cannot be used: {error.strerror}. Stop what uses it, or"
                " choose another port with --port."
            )
    return None


if __name__ == "__main__":
    sys.exit(main())
