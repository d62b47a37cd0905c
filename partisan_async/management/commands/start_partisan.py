"""``manage.py start_partisan``: runs the tasks of some queues until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import uvloop
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
)
from django.db import connections

from partisan_async import logs, registry, steering
from partisan_async.management.start_partisan import streams
from partisan_async.management.start_partisan.conditions import (
    NOT_AT_HOME,
    require_database,
    require_home,
    warn_of_too_many_connections,
    warn_of_unknown_queues,
)
from partisan_async.management.start_partisan.options import (
    add_options,
    only_queue,
    queues_of,
    refuse_contradictions,
    settings_of,
)
from partisan_async.settings import QueueSettings
from partisan_async.steering import audit
from partisan_async.supervisor.heartbeat import NotAtHome
from partisan_async.supervisor.host import Host
from partisan_async.supervisor.log_queue import handlers_behind_a_queue
from partisan_async.worker import taking_on
from partisan_async.worker.arrangements import STOP_SIGNALS

if TYPE_CHECKING:
    from partisan_async.management.start_partisan.reload.tie import Tie


class Command(BaseCommand):
    help = "Run background tasks. Stop it with Ctrl-C or SIGTERM; twice: at once."
    requires_system_checks = ["partisan_async"]

    def add_arguments(self, parser: CommandParser) -> None:
        add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        streams.open_the_closed()
        taking_on.refuse_within_main()
        refuse_contradictions(options)
        tie = None
        if options["reload"]:
            # Imported here: whoever does not use it need not have it.
            from partisan_async.management.start_partisan.reload.parent import child_or_exit

            tie = child_or_exit(only_queue(options))
        with handlers_behind_a_queue():
            self._supervise(options, tie)

    def _supervise(self, options: dict[str, Any], tie: Tie | None) -> None:
        queues = {} if options["all_queues"] else _queues(options)
        name = only_queue(options)
        logs.fields.serve_here(name, None)
        logs.handlers.attach()
        if not os.environ.get("DJANGO_SETTINGS_MODULE"):
            raise CommandError(
                "Worker processes find the settings by DJANGO_SETTINGS_MODULE, which is not set;"
                " set it to your settings module rather than call settings.configure()."
            )
        registry.autodiscover()
        if tie is not None:
            tie.tell_loaded()
        health = _listen(options["health_host"], options["health_port"])
        require_database(paused=options["paused"])
        home = require_home()
        queues = queues or _queues(options)
        warn_of_unknown_queues(queues)
        warn_of_too_many_connections(queues, listen=options["listen"])
        if options["paused"]:
            with audit.acting(audit.user_of_the_system(), "command"):
                for each in queues:
                    steering.pause(each)
            connections.close_all()
        host = Host(
            queues,
            listen=options["listen"],
            print_logs=True,
            health=health,
            home=home,
            once=options["once"],
            retries=options["retries"],
            settings_of=partial(settings_of, options=options) if options["all_queues"] else None,
        )
        if name is not None:
            logs.fields.serve_here(name, str(host.supervisors[0].id))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(host, tie))
        if host.once is not None and (wrong := host.once.tell()):
            raise CommandError(wrong)


def _queues(options: dict[str, Any]) -> dict[str, QueueSettings]:
    return {name: settings_of(name, options) for name in queues_of(options)}


async def _run(host: Host, tie: Tie | None) -> None:
    if tie is None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, host.stop)
    elif not tie.obey(host.stop):
        return
    try:
        await host.run()
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
