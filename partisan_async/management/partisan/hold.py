"""``manage.py partisan pause`` and ``resume``: whole queues, or single processors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError

from partisan_async import registry, steering, store
from partisan_async.management.partisan import names
from partisan_async.management.partisan.held import pauses_that_hold
from partisan_async.management.partisan.steer import (
    add_queue,
    add_yes,
    confirm,
    name_of,
)
from partisan_async.models import PausedQueue
from partisan_async.operate import known, to_copy
from partisan_async.steering.pauses import bring_back
from partisan_async.text.printable import plain


class Target(NamedTuple):
    """What is paused or resumed: a queue, or a processor in one.

    :param queue: with a processor, ``None``: pause it in all queues, or resume it wherever it is
        paused; empty: the one pause that is for all queues.
    """

    queue: str | None
    processor: str | None = None


def add_to(commands: Any) -> None:
    """Add the subcommands."""
    queues = "all queues that are known"
    for name, about, everything, run in (
        ("pause", "start nothing of queues or processors; what runs goes on", queues, run_pause),
        (
            "resume",
            "end the pause of queues or processors",
            f"{queues}, and all processors that are paused",
            run_resume,
        ),
    ):
        parser = commands.add_parser(name, help=about)
        parser.add_argument("queues", nargs="*", type=name_of, metavar="QUEUE")
        add_queue(parser, "the same as QUEUE", action="append", default=[])
        parser.add_argument(
            "--processor",
            action="append",
            default=[],
            type=name_of,
            help="this one alone, in these queues or, without any, in all; may be given again",
        )
        parser.add_argument("--all", action="store_true", help=everything)
        add_yes(parser)
        parser.set_defaults(run=run)


def run_pause(command: BaseCommand, options: dict[str, Any]) -> None:
    """Pause the named queues and processors."""
    targets = _targets(options, _all_queues)
    _each(command, targets, steering.pause, "is paused", "was already paused")


def run_resume(command: BaseCommand, options: dict[str, Any]) -> None:
    """Resume the named queues and processors, and say which are still paused."""
    targets = _targets(options, lambda: [*_all_queues(), *_paused_processors()])
    _each(command, targets, steering.resume, "is resumed", "was not paused")
    bring_back()
    for each in PausedQueue.objects.using(store.database()).order_by("queue_name"):
        name = each.queue_name
        command.stderr.write(plain(f"Queue {name!r} is still paused: {to_copy.resume(name)}"))
    for pause in pauses_that_hold():
        told = f"Processor {pause.processor} is still paused in {pause.where}: {pause.way_out}"
        command.stderr.write(plain(told))


def _targets(options: dict[str, Any], everything: Callable[[], list[Target]]) -> list[Target]:
    queues, processors = [*options["queues"], *options["queue"]], options["processor"]
    if options["all"]:
        if queues or processors:
            raise CommandError("--all is all queues: leave out QUEUE and --processor.")
        return everything()
    if not queues and not processors:
        raise CommandError("Say which: QUEUE, --processor PROCESSOR, or --all.")
    _ask_for_unknown(queues, processors, options)
    return [Target(queue, name) for name in processors or [None] for queue in queues or [None]]


def _all_queues() -> list[Target]:
    return [Target(name) for name in sorted(known.queues())]


def _paused_processors() -> list[Target]:
    # Each of a processor's names may have its own pause; one resume ends all of them.
    pauses = pauses_that_hold()
    held = [Target(each.queue_name, registry.names(each.processor)[0]) for each in pauses]
    return list(dict.fromkeys(held))


def _each(
    command: BaseCommand,
    targets: list[Target],
    steer: Callable[..., bool],
    done: str,
    as_before: str,
) -> None:
    for queue, processor in targets:
        news = steer(queue, processor=processor)
        what = f"Queue {queue!r}" if processor is None else f"Processor {processor}"
        where = f" in queue {queue!r}" if queue and processor else ""
        command.stdout.write(plain(f"{what} {done if news else as_before}{where}."))


def _ask_for_unknown(queues: list[str], processors: list[str], options: dict[str, Any]) -> None:
    """Ask about names that nobody knows: they may be misspelt."""
    for told in names.unknown(queues, processors):
        confirm(plain(f"{told}. Go on"), options)
