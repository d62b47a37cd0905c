"""``manage.py start_partisan``: runs the tasks of one queue until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import uvloop
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
)
from django.db import connections

from partisan_async import logs, registry, steering
from partisan_async.management.start_partisan.conditions import (
    NOT_AT_HOME,
    require_database,
    require_home,
    warn_of_too_many_connections,
    warn_of_unknown_queue,
)
from partisan_async.management.start_partisan.options import (
    add_options,
    refuse_contradictions,
    settings_of,
)
from partisan_async.steering import audit
from partisan_async.supervisor.heartbeat import NotAtHome
from partisan_async.supervisor.log_queue import handlers_behind_a_queue
from partisan_async.supervisor.supervisor import Supervisor
from partisan_async.worker import taking_on
from partisan_async.worker.arrangements import STOP_SIGNALS


class Command(BaseCommand):
    help = "Run background tasks of one queue. Stop it with Ctrl-C or SIGTERM; twice: at once."
    requires_system_checks = ["partisan_async"]

    def add_arguments(self, parser: CommandParser) -> None:
        add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        with handlers_behind_a_queue():
            self._supervise(options)

    def _supervise(self, options: dict[str, Any]) -> None:
        taking_on.refuse_within_main()
        refuse_contradictions(options)
        queue = options["queue_name"]
        settings = settings_of(queue, options)
        logs.fields.serve_here(queue, None)
        logs.handlers.attach()
        health = _listen(options["health_host"], options["health_port"])
        if not os.environ.get("DJANGO_SETTINGS_MODULE"):
            raise CommandError(
                "Worker processes find the settings by DJANGO_SETTINGS_MODULE, which is not set;"
                " set it to your settings module rather than call settings.configure()."
            )
        registry.autodiscover()
        require_database(paused=options["paused"])
        name = require_home()
        warn_of_unknown_queue(queue)
        warn_of_too_many_connections(queue, settings, listen=options["listen"])
        if options["paused"]:
            with audit.acting(audit.user_of_the_system(), "command"):
                steering.pause(queue)
            connections.close_all()
        supervisor = Supervisor(
            *(queue, settings),
            listen=options["listen"],
            print_logs=True,
            health=health,
            home=name,
            once=options["once"],
            retries=options["retries"],
        )
        logs.fields.serve_here(queue, str(supervisor.id))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(supervisor))
        if (once := supervisor.parts.once) is not None and (wrong := once.tell()):
            raise CommandError(wrong)


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
