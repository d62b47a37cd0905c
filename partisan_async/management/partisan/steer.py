"""``manage.py partisan retry``, ``run-now``, ``cancel`` and ``prune``: tasks, one or many."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings as django_settings
from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet
from django.utils.translation import override

from partisan_async import steering, store
from partisan_async.enqueue.corrected import SHAPE
from partisan_async.management.partisan import chosen, names
from partisan_async.management.partisan.held import count_held, tell_held
from partisan_async.management.partisan.other_arguments import retry_with
from partisan_async.management.partisan.screen import Progress, number
from partisan_async.management.partisan.subject import add_subject
from partisan_async.models import ENDED, Task
from partisan_async.operate.overview import PauseState
from partisan_async.steering import audit
from partisan_async.steering.pruning import prune_in_batches
from partisan_async.steering.tasks import ACTIONS
from partisan_async.steering.which import SINCE, Which, in_batches
from partisan_async.text.one_line import explain
from partisan_async.text.printable import plain
from partisan_async.validation import check_queue_name

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

ABOUT = {
    "retry": "run tasks again that ended in error",
    "run-now": "run scheduled tasks at once",
    "cancel": "end tasks that wait or run",
}


def add_to(commands: Any) -> None:
    """Add the subcommands."""
    for name, about in ABOUT.items():
        action = commands.add_parser(name, help=about)
        action.add_argument("ids", nargs="*", type=task_id, metavar="ID")
        _add_filters(action)
        action.add_argument("--processor", type=name_of, help="those of this processor")
        ended = "ended" if SINCE[name] == "finished_at" else "were enqueued"
        action.add_argument(
            "--older-than",
            type=_age,
            metavar="AGE",
            help=f"those that {ended} so long ago, such as 12h or 7d",
        )
        statuses = ACTIONS[name][1]
        if len(statuses) > 1:
            _add_status(action, statuses)
        if name == "retry":
            action.add_argument(
                "--arguments",
                metavar="JSON",
                help=f"run one task, named by its ID, with these in place of its own: {SHAPE}",
            )
        if name == "cancel":
            action.add_argument("--all", action="store_true", help="all that wait or run")
            action.add_argument(
                "--reason", default="", metavar="TEXT", help="why; kept on the rows, and shown"
            )
        action.set_defaults(run=run, action=name)
    prune = commands.add_parser("prune", help="delete the rows of tasks that have ended")
    prune.add_argument(
        "--older-than", required=True, type=_age, metavar="AGE", help="such as 12h or 7d"
    )
    _add_status(prune, ENDED)
    _add_filters(prune)
    prune.set_defaults(run=run_prune)


def run(command: BaseCommand, options: dict[str, Any]) -> None:
    """Apply the action to the named tasks, or to all that match."""
    name, ids, statuses = options["action"], options["ids"], options.get("status")
    do, _ = ACTIONS[name]
    if name == "cancel":
        # Pass the statuses on: a task that was scheduled when it was chosen may run by now.
        by = audit.user_of_the_system()
        cancel = partial(steering.cancel, statuses=statuses, by=by, reason=options["reason"])
        do = partial(_in_the_sites_language, cancel)
    age, subject = options["older_than"], options["subject"]
    which = Which(options["queue"], options["processor"], age, statuses, subject)
    if (arguments := options.get("arguments")) is not None:
        retry_with(command, ids, arguments, which)
        return
    given = which != Which()
    if options.get("all") and (ids or given):
        raise CommandError("--all is all of them: leave out the numbers and the other options.")
    if not (ids or given or options.get("all")):
        others = ", --status, --all" if name == "cancel" else ""
        raise CommandError(
            f"Say which: manage.py partisan {name} ID …, or one of --queue, --subject, --processor,"
            f" --older-than{others}."
        )
    tasks = which.among(name)
    held: Counter[PauseState] = Counter()
    if ids:
        batches = count_held(name, in_batches(do, tasks.filter(pk__in=ids)), held)
        done = [pk for batch in batches for pk in batch]
        if given and not done:
            _refuse_unknown(name, which)
        command.stdout.write(f"{name}: {number(len(done))}.")
        tell_held(command, held)
        _complain(name, ids, done, filtered=given)
        return
    total = tasks.count()
    progress = Progress(command.stderr, total, name)
    if total:
        told = chosen.tasks(total, name, which)
        confirm(f"{name}: {told if given else f'{told} that wait or run, in all queues'}", options)
    batches = count_held(name, in_batches(do, tasks), held)
    count = add_up(progress, map(len, batches))
    if not count:
        _refuse_unknown(name, which)
    command.stdout.write(f"{name}: {number(count)}.")
    tell_held(command, held)


def _in_the_sites_language(
    cancel: Callable[[Sequence[int]], list[int]], ids: Sequence[int]
) -> list[int]:
    """Cancel tasks in the site's language: receivers of the signal may write to people."""
    with override(django_settings.LANGUAGE_CODE):
        return cancel(ids)


def _refuse_unknown(name: str, which: Which) -> None:
    """If nothing matches, fail for a name that nobody knows: it may be misspelt."""
    given = ([each] if each else [] for each in (which.queue_name, which.processor))
    for told in names.unknown(*given):
        raise CommandError(plain(f"{name}: {number(0)}. {told}."))


def run_prune(command: BaseCommand, options: dict[str, Any]) -> None:
    """Delete the rows of ended tasks that match."""
    age, subject = options["older_than"], options["subject"]
    which = Which(options["queue"], None, age, options["status"], subject)
    total = which.among("delete").count()
    if total:
        confirm(f"Delete {chosen.tasks(total, 'delete', which)}", options)
    else:
        _refuse_unknown("prune", which)
    progress = Progress(command.stderr, total, "deleted")
    kept: dict[int, Exception] = {}

    def counts() -> Iterator[int]:
        for pruned in prune_in_batches(
            options["older_than"],
            statuses=which.statuses_for("delete"),
            queue_name=which.queue_name,
            subject=which.subject,
        ):
            kept.update(pruned.kept)
            yield pruned.deleted

    command.stdout.write(f"{number(add_up(progress, counts()))} deleted.")
    if kept:
        first = min(kept)
        raise CommandError(
            f"The database keeps {number(len(kept))}, such as {first}: {explain(kept[first])}"
        )


def task_id(text: str) -> int:
    """Return a task's id from an argument."""
    if not text.isdecimal() or not 0 <= int(text[:20]) < 2**63:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no task's number: pass one such as 4711, as the log and the admin's list"
            " have it"
        )
    return int(text)


def _complain(name: str, ids: Sequence[int], done: Sequence[int], *, filtered: bool) -> None:
    _, statuses = ACTIONS[name]
    if missed := sorted(set(ids) - set(done)):
        found = dict(_tasks().filter(pk__in=missed).values_list("pk", "status"))
        if locked := [] if filtered else steering.locked(name, missed):
            raise CommandError(
                f"Not changed, as another transaction has locked them: {_listed(locked)}. Try again"
                " later."
            )
        if refused := [pk for pk in missed if found.get(pk) in statuses and not filtered]:
            raise CommandError(
                f"The database refuses it for {_listed(refused)}. To see why, pass one of them"
                f" alone, such as {refused[0]}."
            )
        told = ", ".join(
            f"{pk} is {chosen.statuses([found.get(pk, 'not there')])}" for pk in missed
        )
        others = ", and match what else was asked for" if filtered else ""
        right = chosen.statuses(statuses)
        raise CommandError(f"Only tasks that are {right}{others}: {told}.")


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))


def add_up(progress: Progress, counts: Iterable[int]) -> int:
    """Run batch after batch until the end or Ctrl-C; what a batch has done stays done."""
    total = 0
    try:
        for count in counts:
            total += count
            progress.advance(count)
    except KeyboardInterrupt:
        raise CommandError(f"Interrupted after {number(total)}.") from None
    finally:
        progress.end()
    return total


def confirm(what: str, options: dict[str, Any]) -> None:
    """Ask, unless ``--yes`` is given.

    :raises CommandError: the answer was no, or there is no terminal to ask on.
    """
    if options["yes"]:
        return
    try:
        answer = input(f"{what}? [y/N] ")
    except KeyboardInterrupt:
        raise CommandError("Nothing was done.") from None
    except EOFError:
        raise CommandError("Nothing was done: nobody is there to ask. Pass --yes.") from None
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was done.")


def _add_status(parser: argparse.ArgumentParser, statuses: Sequence[str]) -> None:
    about = "those alone; more than one may be given"
    parser.add_argument("--status", action="append", choices=statuses, help=about)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    add_queue(parser, "those of this queue")
    add_subject(parser, "those of this subject")
    add_yes(parser)


def add_queue(parser: argparse.ArgumentParser, about: str, **how: Any) -> None:
    """Add an option for a queue's name, in each of its spellings."""
    spellings = ("--queue", "--queue-name", "--queue_name")
    parser.add_argument(*spellings, dest="queue", type=name_of, metavar="QUEUE", help=about, **how)


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--yes``."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def name_of(text: str) -> str:
    """Return the name of a queue or processor from an argument."""
    wrong = check_queue_name(text)
    if wrong or not text.isprintable():  # half a surrogate pair, for one, cannot be stored
        raise argparse.ArgumentTypeError(f"{text!r} {wrong or 'cannot be a name'}")
    return text


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    age = timedelta(**{UNITS[found[2]]: int(found[1])}) if found else timedelta.max
    if age > MOST:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no age; give one such as 90s, 30m, 12h or 7d"
        )
    return age


MOST = timedelta(days=100 * 366)


def _tasks() -> QuerySet[Task]:
    return Task.objects.using(store.database())
