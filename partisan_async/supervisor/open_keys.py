"""The *open keys*: those under limits of which something may start now. A hint, never a promise.

A key is open from some news until a claim has looked at it. What the claim found says whether it
stays open, opens again at some time, or is closed until there is news: full, or empty. Of a limit
that is full as a whole, the keys that wait *behind* it are opened a few at a time.

A *walk* finds the keys of rows that no news told of. It goes on, step by step, while there is room.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import itemgetter

from partisan_async.claim import Claim
from partisan_async.store import KEYS_AT_ONCE, WALKED_AT_ONCE, Key, Verdict
from partisan_async.supervisor.news import News

MOST = 1000
"""Maximum number of keys in memory; more are forgotten, and found by a walk."""

OPENED_AT_ONCE = 8
"""Number of keys that are opened when a limit that was full as a whole has room."""

STUCK_SECONDS = 0.5
"""Pause before the next look at a key whose next row is locked, or is not to be taken.

Or that is full by tasks of another queue: where nothing waits, nobody is told of their ends.
"""

IDS_AT_ONCE = 100
"""Maximum number of rows whose keys one claim finds out."""


class OpenKeys:
    """The open keys of one supervisor's queue."""

    def __init__(self) -> None:
        self._open: dict[Key, None] = {}
        self._ids: dict[int, None] = {}
        self._emptied: set[Key] = set()
        """Those of which tasks run here, and nothing waited behind them: an end changes nothing."""
        self.news = News()
        """What others are to be told of."""
        self._later: dict[Key, float] = {}
        self._behind: dict[str, dict[Key, None]] = {}
        self._whole_later: dict[str, float] = {}
        self._crowded: set[str] = set()
        """Limits behind which more wait than are in memory."""
        self._walks = False
        self._walked: Key | None = None
        self._walk_at: float | None = None

    @property
    def is_any_open(self) -> bool:
        """Whether a claim, or a step of a walk, may find something now."""
        return bool(self._open or self._ids or self._walks) or self._is_any_due()

    @property
    def walks(self) -> bool:
        """Whether a step of a walk is to come, before what is open is all."""
        return self._walks and len(self._open) < KEYS_AT_ONCE

    @property
    def walked(self) -> Key | None:
        """The last key of the step before; ``None``: the walk begins."""
        return self._walked

    def next_at(self, *, has_room: bool = True) -> float | None:
        """When there is something to do by itself, by the monotonic clock.

        :param has_room: whether to look at keys that open then; else others may be told of some.
        """
        ats = [] if self.news.tell_at is None else [self.news.tell_at]
        if has_room:
            ats += [*self._later.values(), *self._whole_later.values()]
            ats += [] if self._walk_at is None else [self._walk_at]
        return min(ats, default=None)

    def note(self, keys: Iterable[Key]) -> None:
        """Open keys: something of them has ended, or waits."""
        for key in keys:
            self._later.pop(key, None)
            self._emptied.discard(key)
            self._open_behind(key[0])
            self._open.pop(key, None)
            self._open[key] = None  # its next turn is behind those of the others
        self._forget_too_many()

    def note_ended(self, key: Key) -> None:
        """Open a key of which a task has ended, and keep in mind that others may want it."""
        if key in self._emptied and key[0] not in self._behind:
            self._emptied.remove(key)
        else:
            self.note([key])
            self.news.freed[key] += 1

    def note_own_rows(self, ids: Iterable[int]) -> None:
        """Open the keys of rows that came to wait by what was done here: nobody else knows it."""
        own = list(ids)
        self.news.note_rows(own)
        self.note_rows(own)

    def note_rows(self, ids: Iterable[int]) -> None:
        """Open the keys of these rows, whatever they are."""
        self._ids.update(dict.fromkeys(ids))
        self._emptied.clear()  # they may be of any key
        if len(self._ids) > MOST:
            self._ids.clear()
            self.note_some()

    def note_some(self) -> None:
        """Walk: there may be rows that nothing tells of, and room that nothing told of."""
        self._walks, self._walked = True, None
        self._emptied.clear()
        # The walk leaves out what is behind: a few of it show whether its limit is still full.
        for name in list(self._behind):
            self._open_behind(name)

    def forget_times(self) -> None:
        """Look anew at what opens by itself: that may be earlier by now, or was told by a clock
        that was wrong."""
        self._later.clear()
        self._whole_later.clear()
        self._walk_at = None
        self.note_some()

    def note_step(self, found: Sequence[Key]) -> None:
        """Open what a step of the walk has found, if nothing else is known of it."""
        for key in found:
            is_behind = key[0] in self._crowded or key in self._behind.get(key[0], ())
            if key not in self._later and not is_behind:
                self._open[key] = None
        self._walked = found[-1] if found else None
        self._walks = len(found) == WALKED_AT_ONCE

    def take(self) -> tuple[list[Key], list[int]]:
        """Return the keys, and the rows, that the next claim looks at; news opens them again."""
        now = time.monotonic()
        if self._walk_at is not None and self._walk_at <= now:
            self._walk_at = None
            self.note_some()
        for key in [key for key, at in self._later.items() if at <= now]:
            del self._later[key]
            self._open[key] = None
        for name in [name for name, at in self._whole_later.items() if at <= now]:
            self._open_behind(name)
        keys, ids = list(self._open)[:KEYS_AT_ONCE], list(self._ids)[:IDS_AT_ONCE]
        for key in keys:
            del self._open[key]
        for pk in ids:
            del self._ids[pk]
        return keys, ids

    def put_back(self, keys: Iterable[Key], ids: Iterable[int]) -> None:
        """Open again what a claim was to look at, which failed."""
        self._open.update(dict.fromkeys(keys))
        self._ids.update(dict.fromkeys(ids))

    def judge(self, verdicts: Sequence[Verdict], claims: Sequence[Claim]) -> None:
        """Take in what a claim found out; the keys that had their turns come behind the others."""
        took = Counter((claim.limit_name, claim.limit_key) for claim in claims)
        names = {claim.limit_name for claim in claims}
        self.news.forget_rows(claim.id for claim in claims)
        for each in sorted(verdicts, key=lambda verdict: took[verdict.whose] > 0):
            is_waiting = each.left > 0 or each.more
            if not is_waiting:
                if took[each.whose]:
                    self._emptied.add(each.whose)
                continue
            if each.whole_room <= 0:
                self._put_behind(each, again=each.whole_rated and each.name in names)
            elif each.seconds is not None:
                self._later[each.whose] = time.monotonic() + each.seconds
            elif each.room <= 0:
                if each.rated and took[each.whose]:
                    # Its rate was counted before these: when the next may start is seen anew.
                    self._open[each.whose] = None
                elif each.shared:
                    self._later[each.whose] = time.monotonic() + STUCK_SECONDS
            elif each.stuck:
                self._later[each.whose] = time.monotonic() + STUCK_SECONDS
            else:
                self._open[each.whose] = None
        for each in verdicts:
            if self.news.freed[each.whose] and not self._is_left_to_others(each):
                del self.news.freed[each.whose]
        for each in verdicts:
            if each.whole_room > 0:
                self._open_behind(each.name)
        self._forget_too_many()

    def _is_left_to_others(self, verdict: Verdict) -> bool:
        """Tell whether others may wait for what has ended of a key, and is not made use of here.

        What has ended has freed a slot of its limit as a whole, too.
        """
        slots = verdict.slots
        if verdict.whole_room <= 0 or slots is None or slots > self.news.freed[verdict.whose]:
            return False
        if (verdict.left > 0 or verdict.more) and verdict.room > 0:
            return True
        is_unknown = bool(self._ids or self._walks)
        of_limit = (key[0] == verdict.name for key in self._open if key != verdict.whose)
        return is_unknown or verdict.name in self._behind or any(of_limit)

    def _put_behind(self, verdict: Verdict, *, again: bool) -> None:
        behind = self._behind.setdefault(verdict.name, {})
        if len(behind) < MOST // 10:
            behind[verdict.whose] = None
        else:
            self._crowded.add(verdict.name)
        if again:
            self._whole_later[verdict.name] = time.monotonic()
        elif verdict.whole_seconds is not None:
            self._whole_later[verdict.name] = time.monotonic() + verdict.whole_seconds
        elif verdict.shared:
            self._whole_later[verdict.name] = time.monotonic() + STUCK_SECONDS

    def _open_behind(self, name: str) -> None:
        behind = self._behind.get(name)
        if behind is None:
            return
        self._whole_later.pop(name, None)
        for key in list(behind)[:OPENED_AT_ONCE]:
            del behind[key]
            self._open[key] = None
        if not behind:
            del self._behind[name]
            if name in self._crowded:
                self._crowded.remove(name)
                self.note_some()

    def _is_any_due(self) -> bool:
        at = self.next_at()
        return at is not None and at <= time.monotonic()

    def _forget_too_many(self) -> None:
        if len(self._later) > MOST:
            soonest = sorted(self._later.items(), key=itemgetter(1))
            self._later = dict(soonest[:MOST])
            at = soonest[MOST][1]
            self._walk_at = at if self._walk_at is None else min(at, self._walk_at)
        if len(self._open) > 2 * MOST:
            for key in list(self._open)[MOST:]:
                del self._open[key]
            self.note_some()
