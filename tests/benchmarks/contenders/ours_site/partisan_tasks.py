"""The jobs of partisan_async."""

import asyncio
import os

import marks

from partisan_async import registry
from partisan_async.processor import BaseTaskProcessor


@registry.register
class Noop(BaseTaskProcessor):
    def run(self):
        marks.begin()


if os.environ.get("JOB") == "TypedNoop":  # its types take memory, and no other figure is of them

    @registry.register
    class TypedNoop(BaseTaskProcessor):
        def run(self, number: int):
            marks.begin()


@registry.register
class Arrive(BaseTaskProcessor):
    def run(self):
        marks.arrive(self.args[0])


@registry.register
class Nap(BaseTaskProcessor):
    async def run(self):
        marks.begin()
        await asyncio.sleep(self.args[0])
