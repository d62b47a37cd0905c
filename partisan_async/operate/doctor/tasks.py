"""Looks at supervisors, queues and tasks: supervisors that are missing, tasks that are stuck."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Now
from django.utils import timezone

from partisan_async import store
from partisan_async.models import ENDED, PausedQueue, Tally, Task
from partisan_async.operate import overview, to_copy
from partisan_async.operate.doctor.look import Said, ask, well, wrong
from partisan_async.operate.migrations import command, unapplied
from partisan_async.policy import MAX_INTERRUPTED, MAX_UNRECOGNISED
from partisan_async.text.durations import in_words
from partisan_async.text.moments import told

NAMED = 5

MANY_STOPS = 10
"""Number of stops in a row that cut a task off after which it is reported."""

DAY = timedelta(days=1)


def migrations() -> Iterator[Said]:
    """Tell whether all migrations are applied."""
    if missing := unapplied(store.database()):
        yield wrong(
            f"{len(missing)} migration(s) are not applied to database {store.database()!r}, such as"
            f" {missing[0]}: {command(store.database())}"
        )
    else:
        yield well("all applied")


def silent_supervisors() -> Iterator[Said]:
    """Report supervisors that were killed, or hang."""
    found = overview.supervisors()
    silent = [each for each in found if not each.alive]
    for each in silent:
        if each.silent < 0:
            yield wrong(
                f"The last sign of life of the supervisor {each.process} of queue"
                f" {each.queue_name!r} is {in_words(-each.silent)} ahead of the database's clock,"
                " which was wrong then: if it lives, it sets that right within seconds."
            )
            continue
        taken = f", and {each.running:,} task(s) wait to be taken over" if each.running else ""
        yield wrong(
            f"The supervisor {each.process} of queue {each.queue_name!r} has been silent for"
            f" {in_words(each.silent)}{taken}: if it is to run, look at its host and its log, and"
            f" start one: {to_copy.start(each.queue_name)}"
        )
    if not silent:
        yield well(f"{len(found):,}, all alive" if found else "none has ended without a word")


def unserved_queues() -> Iterator[Said]:
    """Report queues in which tasks wait and no supervisor starts them."""
    names = {each.name for each in overview.queues(1) if each.waits}
    statement = store.unserved(timedelta(seconds=store.TTL_SECONDS))
    nobody = {name for (name,) in ask(statement.sql, **statement.params)} & names
    alive = [each for each in overview.supervisors() if each.alive]
    ending = {each.queue_name: f"{each.process} is {each.farewell}" for each in alive}
    for each in alive:
        if each.starts:
            ending.pop(each.queue_name, None)
    bad = dict.fromkeys(nobody, "Nobody serves queue")
    bad |= dict.fromkeys(ending.keys() & names, "Only supervisors that end serve queue")
    for name, what in sorted(bad.items()):
        ends = f" ({ending[name]})" if name in ending else ""
        yield wrong(f"{what} {name!r}{ends}, and tasks wait in it: {to_copy.start(name)}")
    if not bad:
        yield well("none has tasks that wait for a supervisor")


def paused_queues() -> Iterator[Said]:
    """Report paused queues in which tasks wait."""
    waiting = {each.name for each in overview.queues(1) if each.waits or each.parked}
    paused = PausedQueue.objects.using(store.database()).filter(queue_name__in=waiting)
    for each in paused:
        yield wrong(
            f"Queue {each.queue_name!r} is paused, and tasks wait in it:"
            f" {to_copy.resume(each.queue_name)}"
        )
    if not paused:
        yield well("none has tasks that wait")


def paused_processors() -> Iterator[Said]:
    """Report paused processors."""
    found = overview.pauses(1)
    held = [each for each in found if not each.ending]
    for each in held:
        waits = ", and tasks of it wait" if each.parked else ""
        yield wrong(
            f"Processor {each.processor} has been paused in {each.where} since"
            f" {told(each.since, timezone.now())}{waits}: {each.way_out}"
        )
    if not held:
        yield well("none" if not found else "all are being resumed")


def lost_tasks() -> Iterator[Said]:
    """Report tasks that killed worker processes, or may have."""
    rows = _open_tasks().filter(Q(lost__gt=0) | Q(suspect=True))
    found = list(rows.order_by("pk").values_list("pk", "processor_class")[:NAMED])
    if found:
        yield wrong(
            "Tasks were in worker processes that died, and run alone until they succeed:"
            f" {_named(found)}; look at their errors, and at the system's log for its memory:"
            f" manage.py partisan why {found[0][0]}"
        )
    recent = Tally.objects.using(store.database()).filter(minute__gt=Now() - DAY, lost__gt=0)
    counts = list(recent.values_list("processor_class").annotate(Sum("lost")))
    if counts:
        runs = ", ".join(f"{name} {count:,}" for name, count in counts[:NAMED])
        yield wrong(
            f"Worker processes died in the last 24 hours, of runs of: {runs}; look at the system's"
            " log for its memory, and at what C code they call."
        )
    if not found and not counts:
        yield well("no worker process died in the last 24 hours")


def unrecognised_tasks() -> Iterator[Said]:
    """Report tasks whose processor a supervisor did not know."""
    rows = _open_tasks().filter(unrecognised__gt=0)
    found = list(rows.order_by("pk").values_list("pk", "processor_class")[:NAMED])
    if found:
        names = Counter(name for _, name in found)
        yield wrong(
            f"Supervisors do not know the processor or the arguments of {_named(found)}, and after"
            f" {MAX_UNRECOGNISED} attempts they end in error: deploy the code of"
            f" {', '.join(names)} to all supervisors, and start them anew."
        )
    else:
        yield well("none waits")


def abandoned_tasks() -> Iterator[Said]:
    """Report tasks that no supervisor takes over any more."""
    rows = _open_tasks().filter(status=Task.STATUS_IN_PROCESS, interrupted__gte=MAX_INTERRUPTED)
    found = list(rows.order_by("pk").values_list("pk", "processor_class")[:NAMED])
    if found:
        first = found[0][0]
        yield wrong(
            f"Cut short {MAX_INTERRUPTED} times: {_named(found)}. Its supervisor ended, or could"
            " not write its end, or its database session was lost; the logs of the supervisors say"
            " why, and none takes it over any more. When that is mended:"
            f" manage.py partisan cancel {first}, and to run it again, manage.py partisan"
            f" retry {first}"
        )
    else:
        yield well("none")


def interrupted_tasks() -> Iterator[Said]:
    """Report tasks that never come to their end, since each stop of a supervisor cuts them off."""
    rows = _open_tasks().filter(stops__gte=MANY_STOPS, stopped_at__gte=F("last_attempted_at"))
    found = list(rows.order_by("pk").values_list("pk", "processor_class")[:NAMED])
    if found:
        yield wrong(
            f"Stops of their supervisors have cut these off {MANY_STOPS} times in a row or more:"
            f" {_named(found)}. Let run() look at self.stopping, keep what it has done, and raise"
            " PostponeTask(0); or give it less to do; or raise SHUTDOWN_GRACE_SECONDS of its queue,"
            f" and the time that whatever starts the supervisors allows for their stop:"
            f" manage.py partisan why {found[0][0]}"
        )
    else:
        yield well(f"none was cut off by {MANY_STOPS} stops in a row")


def _open_tasks() -> QuerySet[Task]:
    return Task.objects.using(store.database()).exclude(status__in=ENDED)


def _named(found: list[tuple[int, str]]) -> str:
    more = " and maybe more" if len(found) == NAMED else ""
    return ", ".join(f"{pk} {name}" for pk, name in found) + more
