"""``manage.py partisan pause`` and ``resume``: whole queues, or single processors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from partisan_async import overview, registry, settings, steering, store
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.logs import plain
from partisan_async.management.partisan.steer import add_queue, add_yes, confirm, name_of
from partisan_async.models import Schedule, Tally

NAMED = 10
"""So many known names are told."""


def add_to(commands: Any) -> None:
    """Add the subcommands."""
    for name, about, run in (
        ("pause", "start nothing of queues or processors; what runs goes on", run_pause),
        ("resume", "end the pause of queues or processors", run_resume),
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
        parser.add_argument("--all", action="store_true", help="all queues that are known")
        add_yes(parser)
        parser.set_defaults(run=run)


def run_pause(command: BaseCommand, options: dict[str, Any]) -> None:
    """Pause them."""
    _each(command, options, steering.pause, "is paused", "was already paused")


def run_resume(command: BaseCommand, options: dict[str, Any]) -> None:
    """End their pauses."""
    _each(command, options, steering.resume, "is resumed", "was not paused")
    for each in overview.pauses(1):
        if each.processor in options["processor"] and not each.ending:
            command.stderr.write(
                f"Processor {each.processor} is still paused in {each.where}: {each.way_out}"
            )


def _each(
    command: BaseCommand,
    options: dict[str, Any],
    steer: Callable[..., bool],
    done: str,
    as_before: str,
) -> None:
    queues, processors = [*options["queues"], *options["queue"]], options["processor"]
    if options["all"]:
        if queues or processors:
            raise CommandError("--all is all queues: leave out QUEUE and --processor.")
        queues = sorted(_queues())
    elif not queues and not processors:
        raise CommandError("Say which: QUEUE, --processor PROCESSOR, or --all.")
    else:
        _ask_for_unknown(queues, processors, options)
    for processor in processors or [None]:
        for queue in queues or [None]:
            news = steer(queue, processor=processor)
            what = f"Queue {queue!r}" if processor is None else f"Processor {processor}"
            where = f" in queue {queue!r}" if queue and processor else ""
            command.stdout.write(plain(f"{what} {done if news else as_before}{where}."))


def _ask_for_unknown(queues: list[str], processors: list[str], options: dict[str, Any]) -> None:
    """Ask whether names are meant that look like misspelt ones."""
    for told in unknown(queues, processors):
        confirm(plain(f"{told}. Go on"), options)


def unknown(queues: list[str], processors: list[str]) -> Iterator[str]:
    """Yield which of the names nobody knows, and which are similar."""
    for what, names, known in (
        ("a queue", queues, _queues()),
        ("a processor", processors, _processors()),
    ):
        for name in names:
            if name not in known and not (names is processors and _is_djangos(name)):
                yield f"Nobody knows {what} {name!r}; {_others(name, known)}"


def _others(name: str, known: set[str]) -> str:
    if similar := get_close_matches(name, known, NAMED):
        return f"similar are {', '.join(map(repr, similar))}"
    first = sorted(known)[:NAMED]
    more = f" and {len(known) - NAMED:,} more" if len(known) > NAMED else ""
    return f"known are {', '.join(map(repr, first)) or 'none'}{more}"


def _queues() -> set[str]:
    registry.autodiscover()
    names = {each.name for each in overview.queues(1)} | set(settings.configured_queues())
    return names | {processor.QUEUE_NAME for processor in registry.processors()}


def _processors() -> set[str]:
    """Return those that this code knows, or that ran or were paused lately."""
    registry.autodiscover()
    names = {processor.__name__ for processor in registry.processors()}
    names |= {each.processor for each in overview.pauses(1)}
    for model in (Tally, Schedule):
        rows = model._default_manager.using(store.database())  # noqa: SLF001
        names |= set(rows.values_list("processor_class", flat=True).distinct())
    return names


def _is_djangos(name: str) -> bool:
    with suppress(ProcessorClassNotFound):
        return bool(registry.get(name))
    return False
