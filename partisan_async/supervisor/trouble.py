"""Handles the errors that keep one part of a supervisor from its work: what is logged, and how long
the part waits."""

from __future__ import annotations

from partisan_async import logs
from partisan_async.postgres.blame import Blame, is_nobodys, way_out, whose
from partisan_async.supervisor.backoff import Backoff
from partisan_async.text.one_line import explain

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


class Trouble:
    """The consecutive failures of one part; the first success ends them.

    :param what: the part's work, as log lines name it.
    :param role: the role that needs the rights.
    """

    def __init__(self, what: str, role: str) -> None:
        self._what = what
        self._role = role
        self._backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        self._said: str | None = None

    def meet(self, error: BaseException) -> float:
        """Say what is wrong; return in how many seconds to try again.

        An error that a restart does not heal is said once, with the way out. The supervisor does
        not stop for it: the outcomes of the runs that it would end could not be written either.
        """
        told = explain(error)
        if not is_nobodys(error) and whose(error) is not Blame.ROW:
            logs.database.trying_again(self._what, error)
        elif told != self._said:
            self._said = told
            logs.database.hindered(self._what, error, way_out(error, self._role))
        return self._backoff.next()

    def end(self) -> None:
        """Forget the failures: the part works again."""
        self._backoff.reset()
        if self._said is not None:
            self._said = None
            logs.database.unhindered(self._what)
