"""A small site of somebody's own, in a folder, with a ``manage.py`` and an app that one writes."""

from __future__ import annotations

import textwrap
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ended, wait_until
from tests.process import Partisan
from tests.testapp.partisan_tasks import Tell

MANAGE = """
    import os, sys

    if __name__ == "__main__":
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "home_settings")
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)
"""


class Site:
    """Write it, then start it; what runs there ends with the block.

    :param ready: the body of the app's ``ready()``.
    :param settings: goes at the end of the settings.
    """

    def __init__(
        self, folder: Path, *, manage: str = MANAGE, ready: str = "pass", settings: str = ""
    ) -> None:
        self.folder = folder
        self.write("manage.py", manage)
        self.write("home/__init__.py", "")
        body = textwrap.indent(textwrap.dedent(ready).strip(), " " * 8)
        self.write(
            "home/apps.py",
            "from django.apps import AppConfig\n\n\nclass HomeConfig(AppConfig):\n"
            f'    name = "home"\n\n    def ready(self):\n{body}\n',
        )
        self.write(
            "home_settings.py",
            "import sys\nfrom tests.settings import *\n"
            'INSTALLED_APPS = [*INSTALLED_APPS, "home"]\nWORKERS_COUNT = 1\n'
            + textwrap.dedent(settings),
        )

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    @contextmanager
    def start(self, *options: str, program=None, cwd: Path | None = None, wait=True, **env: str):
        """Run ``manage.py start_partisan`` there, until the end of the block."""
        env = {"DJANGO_SETTINGS_MODULE": "home_settings"} | env
        program = program or (str(self.folder / "manage.py"), "start_partisan", "--async")
        running = Partisan(*options, program=program, cwd=cwd or self.folder, **env)
        try:
            if wait:
                running.wait_for("started: queue")
            yield running
        finally:
            running.end()


def told(code: str, processor=Tell):
    """Run this in a worker, and return what it calls ``answer``."""
    task = processor(textwrap.dedent(code)).delay()
    wait_until(lambda: ended(task))
    task.refresh_from_db()
    assert task.status == "finished", task.errors
    return task.result
