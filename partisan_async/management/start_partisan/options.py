"""The options of ``start_partisan``, and how they override the queue's settings."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser

from partisan_async.operate import known
from partisan_async.settings import (
    DEFAULT_QUEUE_NAME,
    QueueSettings,
    on_a_shared_host,
    queue_settings,
)
from partisan_async.validation import check_count, check_queue_name, check_seconds, check_workers

WRONG_OPTION = 2
"""Exit code where an option has a value that cannot be, also beside the settings."""

RELOAD_GRACE_SECONDS = 5.0
"""Maximum grace time with ``--reload``: a developer waits for the end."""


def add_options(parser: CommandParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument(
        "--async",
        action="store_true",
        dest="listen",
        help="wake on NOTIFY as soon as a task is committed; without it, poll",
    )
    parser.add_argument(
        "--queue_name",
        "--queue-name",
        action="append",
        type=_number(str, check_queue_name),
        help=f"a queue whose tasks to run, more than once for several ({DEFAULT_QUEUE_NAME!r} if"
        " not given)",
    )
    parser.add_argument(
        "--all_queues",
        "--all-queues",
        action="store_true",
        help="run the tasks of all queues, also of those that come up later",
    )
    parser.add_argument(
        "--paused",
        action="store_true",
        help="pause the queues before anything of them is claimed",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="run what is due, and what that enqueues, then exit: 1 if a task failed",
    )
    parser.add_argument(
        "--retries",
        action="store_true",
        help="with --once, wait for the tasks that are to be tried again later, too",
    )
    parser.add_argument(
        "--reload",
        action="store_true",
        help="for development: start anew when the code changes; what runs has 5 s to end",
    )
    _add_numbers(parser)
    _add_health(parser)


def refuse_contradictions(options: dict[str, Any]) -> None:
    """Refuse options that do not go together.

    :raises CommandError: some do not.
    """
    names = _given(options)
    if options["all_queues"] and names:
        raise CommandError(
            "--all_queues is all of them: leave out --queue_name.", returncode=WRONG_OPTION
        )
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise CommandError(
            f"--queue_name {twice} is there twice; leave one out.", returncode=WRONG_OPTION
        )
    if options["retries"] and not options["once"]:
        raise CommandError(
            "--retries says what --once waits for: add --once.", returncode=WRONG_OPTION
        )
    if options["once"] and options["paused"]:
        raise CommandError(
            "--once runs what there is, and --paused starts nothing of it: leave one of them out.",
            returncode=WRONG_OPTION,
        )
    if options["reload"] and (wrong := _against_reload(options)):
        raise CommandError(wrong, returncode=WRONG_OPTION)


def queues_of(options: dict[str, Any]) -> list[str]:
    """Return the names of the queues to serve; for all of them the database is asked."""
    if options["all_queues"]:
        return sorted(known.queues())
    return _given(options) or [DEFAULT_QUEUE_NAME]


def only_queue(options: dict[str, Any]) -> str | None:
    """Return the name of the queue to serve; ``None``: there may be several."""
    if options["all_queues"]:
        return None
    name, *others = queues_of(options)
    return None if others else name


def settings_of(queue: str, options: dict[str, Any]) -> QueueSettings:
    """Return the queue's settings, overridden by the given options.

    :raises CommandError: a value is wrong.
    """
    names = ("min_queue_size", "max_queue_size", "checks_before_cleanup", "workers_count",
             "sleep_delay_seconds")  # fmt: skip
    given = {name.upper(): options[name] for name in names if options.get(name) is not None}
    try:
        own = queue_settings(queue)
        if only_queue(options) is None:
            own = on_a_shared_host(queue, own)
        if options["reload"]:
            grace = own.SHUTDOWN_GRACE_SECONDS
            grace = RELOAD_GRACE_SECONDS if grace is None else min(grace, RELOAD_GRACE_SECONDS)
            own = dataclasses.replace(own, SHUTDOWN_GRACE_SECONDS=grace)
        settings = dataclasses.replace(own, **given)
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error
    if wrongs := settings.wrongs():
        raise CommandError(" ".join(wrongs), returncode=WRONG_OPTION)
    return settings


def _against_reload(options: dict[str, Any]) -> str | None:
    if options["once"]:
        return (
            "--once exits when nothing is left to run, and --reload waits for changes of the code:"
            " leave one of them out."
        )
    if options["paused"]:
        return (
            "--paused beside --reload would pause the queue again at each change of the code: leave"
            " it out, and run `manage.py partisan pause` before."
        )
    if os.environ.get("NOTIFY_SOCKET"):
        return (
            "--reload is for development, and systemd (NOTIFY_SOCKET is set) watches over one"
            " process that stays: leave --reload out of the unit."
        )
    return None


def _given(options: dict[str, Any]) -> list[str]:
    given = options["queue_name"] or []
    return [given] if isinstance(given, str) else list(given)  # by call_command() it may be text


def _add_numbers(parser: CommandParser) -> None:
    at_least_0, at_least_1 = check_count(0), check_count(1)
    for option, kind, check, text in (
        (
            "--min_queue_size",
            int,
            at_least_0,
            "claim more when this many tasks or fewer wait in the supervisor",
        ),
        ("--max_queue_size", int, at_least_1, "claim tasks until this many wait"),
        (
            "--checks_before_cleanup",
            int,
            check_count(1),
            "renew the connection after this many claims",
        ),
        (
            "--workers_count",
            _workers,
            check_workers("0-4"),
            "how many worker processes to run, or from how many to how many, such as 0-4",
        ),
        ("--sleep_delay_seconds", float, check_seconds(0.01), "time between polls"),
    ):
        spellings = (option, f"--{option[2:].replace('_', '-')}")
        parser.add_argument(*spellings, type=_number(kind, check), help=text)


def _add_health(parser: CommandParser) -> None:
    parser.add_argument(
        "--health-port",
        type=_number(int, _port),
        metavar="PORT",
        help="answer /live, /ready and /metrics by HTTP there; 0: on a free port",
    )
    parser.add_argument(
        "--health-host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="the address to answer on (default: %(default)s); in a container 0.0.0.0",
    )


def _number(kind: Callable[[str], Any], check: Callable[[Any], str | None]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = text
        if wrong := check(value):
            raise argparse.ArgumentTypeError(f"{text!r} {wrong}")
        return value

    return parse


def _workers(text: str) -> int | tuple[int, int]:
    least, dash, most = text.partition("-")
    return (int(least), int(most)) if dash else int(text)


def _port(value: Any) -> str | None:
    wrong = not isinstance(value, int) or not 0 <= value <= 65535
    return "must be a port, 0 to 65535" if wrong else None
