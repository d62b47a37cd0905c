"""Watchman, by Django's own reloader: where it runs, it tells of changes at once.

Django documents none of its reloader. If it is not as we know it, files are looked at twice a
second, as without watchman.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from partisan_async import logs
from partisan_async.management.start_partisan.reload.sight import Sight


class Watchman:
    """Watchman, if it runs here.

    :param call: called in a thread when something may have changed, and when watchman is gone.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self.runs = False
        """Whether it tells of changes."""
        self._call = call
        self._reloader: Any = None

    def start(self, sight: Sight) -> None:
        """Use it from now on, if it runs."""
        try:
            # Imported here: it may be gone.
            from django.utils import autoreload

            reloader: Any = autoreload.get_reloader()
            if isinstance(reloader, autoreload.StatReloader):
                return
            reloader.notify_file_changed = lambda _: self._call()
        except Exception as error:  # noqa: BLE001  whatever became of it
            _miss(error)
            return
        self._reloader, self.runs = reloader, True
        self.watch(sight)
        threading.Thread(target=self._listen, daemon=True).start()

    def watch(self, sight: Sight) -> None:
        """Have it watch this, instead of what it has watched so far."""
        if not self.runs:
            return
        globs = {Path(folder): set(patterns) for folder, patterns in sight.patterns.items()}
        for folder in map(Path, sight.folders):
            globs[folder] = {*globs.get(folder, ()), "**/*.py"}
        self._reloader.extra_files = set(map(Path, sight.files))
        self._reloader.directory_globs = globs
        with suppress(AttributeError):  # then it watches the rest when it is next asked to
            self._reloader.processed_request.set()

    def _listen(self) -> None:
        try:
            for _ in self._reloader.tick():
                pass
        except Exception as error:  # noqa: BLE001  also that watchman has ended
            _miss(error)
        self.runs = False
        with suppress(RuntimeError):  # the loop is closed
            self._call()


def _miss(error: BaseException) -> None:
    logs.reload.djangos_reloader_gone("files are looked at twice a second", error)
