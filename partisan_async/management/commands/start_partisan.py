"""``manage.py start_partisan``: runs the tasks of one queue until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import socket
from collections.abc import Callable
from typing import Any

import uvloop
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    no_translations,
)
from django.db import OperationalError, connections

from partisan_async import logs, registry, schema, steering, store
from partisan_async.enqueue.run import fetch
from partisan_async.operate import budget, home, rights
from partisan_async.postgres.blame import explain
from partisan_async.settings import (
    DEFAULT_QUEUE_NAME,
    QueueSettings,
    configured_queues,
    queue_settings,
)
from partisan_async.steering import audit
from partisan_async.supervisor.heartbeat import NotAtHome
from partisan_async.supervisor.log_queue import handlers_behind_a_queue
from partisan_async.supervisor.supervisor import Supervisor
from partisan_async.validation import check_count, check_queue_name, check_seconds
from partisan_async.worker import taking_on
from partisan_async.worker.arrangements import STOP_SIGNALS

NOT_AT_HOME = 3
"""The exit code where the database belongs to another place: to try again heals nothing."""


def _number(kind: type, check: Callable[[Any], str | None]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = text
        if wrong := check(value):
            raise argparse.ArgumentTypeError(f"{text!r} {wrong}")
        return value

    return parse


def _port(value: Any) -> str | None:
    wrong = not isinstance(value, int) or not 0 <= value <= 65535
    return "must be a port, 0 to 65535" if wrong else None


class Command(BaseCommand):
    help = "Run background tasks of one queue. Stop it with Ctrl-C or SIGTERM; twice: at once."
    requires_system_checks = ["partisan_async"]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--async",
            action="store_true",
            dest="listen",
            help="wake on NOTIFY as soon as a task is committed; without it, poll",
        )
        parser.add_argument(
            "--queue_name",
            "--queue-name",
            type=_number(str, check_queue_name),
            default=DEFAULT_QUEUE_NAME,
            help="the queue whose tasks to run (default: %(default)s)",
        )
        parser.add_argument(
            "--paused",
            action="store_true",
            help="pause the queue before anything of it is claimed",
        )
        at_least_0, at_least_1 = check_count(0), check_count(1)
        for option, kind, check, text in (
            (
                "--min_queue_size",
                int,
                at_least_0,
                "claim more when so many tasks or fewer wait here",
            ),
            ("--max_queue_size", int, at_least_1, "claim up to so many tasks"),
            (
                "--checks_before_cleanup",
                int,
                check_count(1),
                "renew the connection after so many claims",
            ),
            ("--workers_count", int, at_least_1, "how many worker processes to run"),
            ("--sleep_delay_seconds", float, check_seconds(0.01), "time between polls"),
        ):
            spellings = (option, f"--{option[2:].replace('_', '-')}")
            parser.add_argument(*spellings, type=_number(kind, check), help=text)
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

    def handle(self, *args: Any, **options: Any) -> None:
        with handlers_behind_a_queue():
            self._supervise(options)

    def _supervise(self, options: dict[str, Any]) -> None:
        taking_on.refuse_within_main()
        queue = options["queue_name"]
        settings = _settings(queue, options)
        logs.fields.serve_here(queue, None)
        logs.handlers.attach()
        health = _listen(options["health_host"], options["health_port"])
        if not os.environ.get("DJANGO_SETTINGS_MODULE"):
            raise CommandError(
                "Worker processes find the settings by DJANGO_SETTINGS_MODULE, which is not set;"
                " set it to your settings module rather than call settings.configure()."
            )
        registry.autodiscover()
        _require_database(paused=options["paused"])
        name = _require_home()
        _warn_of_unknown_queue(queue)
        _warn_of_too_many_connections(queue, settings, listen=options["listen"])
        if options["paused"]:
            with audit.acting(audit.user_of_the_system(), "command"):
                steering.pause(queue)
            connections.close_all()
        supervisor = Supervisor(
            queue, settings, listen=options["listen"], print_logs=True, health=health, home=name
        )
        logs.fields.serve_here(queue, str(supervisor.id))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(supervisor))


async def _run(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, supervisor.stop)
    try:
        await supervisor.run()
    except Exception as error:
        code = NOT_AT_HOME if isinstance(error, NotAtHome) else 1
        raise CommandError(f"The supervisor ended: {error}", returncode=code) from error


def _listen(host: str, port: int | None) -> socket.socket | None:
    if port is None:
        return None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise CommandError(
            f"Health cannot be told on port {port} of {host!r}: {error.strerror or error}. Choose"
            " another --health-port, or an address of this host as --health-host."
        ) from error
    address, chosen, *_ = listening.getsockname()
    address = f"[{address}]" if ":" in address else address
    logs.start.health(address, chosen)
    return listening


def _settings(queue: str, options: dict[str, Any]) -> QueueSettings:
    names = ("min_queue_size", "max_queue_size", "checks_before_cleanup", "workers_count",
             "sleep_delay_seconds")  # fmt: skip
    given = {name.upper(): options[name] for name in names if options.get(name) is not None}
    try:
        settings = dataclasses.replace(queue_settings(queue), **given)
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error
    if wrongs := settings.wrongs():
        raise CommandError(" ".join(wrongs), returncode=2)
    return settings


def _require_database(*, paused: bool = False) -> None:
    alias = store.database()
    try:
        _require_rights(alias, paused=paused)
        missing = schema.unapplied(alias)
    except OperationalError as error:
        raise CommandError(
            f"Database {alias!r} cannot be reached: {explain(error)} Are its settings right?"
        ) from error
    if missing:
        raise CommandError(
            f"{len(missing)} migration(s) of partisan_async are not applied to database {alias!r};"
            f" run `{schema.command(alias)}` first."
        )


def _require_rights(alias: str, *, paused: bool) -> None:
    role = rights.current_role(alias)
    essential = {**rights.ESSENTIAL, **rights.PAUSING} if paused else rights.ESSENTIAL
    if grants := rights.missing(alias, essential):
        what = "pause and run" if paused else "run"
        raise CommandError(
            f"The role {role!r} may not {what} tasks in database {alias!r}. As the tables' owner,"
            f" run: {' '.join(grants)}"
        )
    if grants := rights.missing(alias, rights.SUPERVISOR):
        logs.start.rights_missing(role, grants)


@no_translations  # not all of the command: receivers of signals run in it
def _require_home() -> str:
    place = home.here()
    kept = home.keep(place)
    if why := home.refusal(place, kept):
        raise CommandError(why, returncode=NOT_AT_HOME)
    if odd := home.warning(place, kept):
        logs.start.not_at_home(odd)
    return place.name


def _warn_of_unknown_queue(queue: str) -> None:
    used = {processor.QUEUE_NAME for processor in registry.processors()}
    for backend in (getattr(django_settings, "TASKS", None) or {}).values():
        used.update(backend.get("QUEUES", ()))
    if queue not in used and queue not in configured_queues():
        logs.start.unknown_queue(queue, used)


def _warn_of_too_many_connections(queue: str, settings: QueueSettings, *, listen: bool) -> None:
    per_worker = budget.per_worker(queue, settings)
    how = "1" if per_worker == 1 else "(1 + ASYNC_CONCURRENCY)"
    own = budget.of_supervisor(settings, listens=listen)
    wanted = settings.WORKERS_COUNT * per_worker + own
    ((allowed,),) = fetch("SELECT current_setting('max_connections')::int")
    connections.close_all()
    if wanted > allowed:
        logs.start.too_many_connections(wanted, how, own, allowed)
