"""``manage.py partisan retry ID --arguments JSON``: one task, with other arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from django.core.management.base import BaseCommand, CommandError

from partisan_async import steering
from partisan_async.management.partisan.held import count_held, tell_held
from partisan_async.management.partisan.screen import number
from partisan_async.operate.overview import PauseState
from partisan_async.steering.which import Which
from partisan_async.text.printable import plain


def retry_with(command: BaseCommand, ids: Sequence[int], text: str, which: Which) -> None:
    """Retry one task with the arguments in a text.

    :raises CommandError: not exactly one task is named, or the arguments are refused.
    """
    if len(ids) != 1 or which != Which():
        raise CommandError(
            "--arguments are for one task: pass its ID, and no other option that chooses tasks."
        )
    try:
        done = steering.retry(ids, arguments=text)
    except (TypeError, ValueError) as error:
        raise CommandError(plain(str(error))) from None
    command.stdout.write(f"retry: {number(len(done))}, with other arguments.")
    held: Counter[PauseState] = Counter()
    list(count_held("retry", [done], held))
    tell_held(command, held)
