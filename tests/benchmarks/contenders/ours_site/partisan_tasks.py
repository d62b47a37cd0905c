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


if keys := int(os.environ.get("LIMITED_KEYS", "0")):  # a limit that never bites
    from partisan_async.limits import Limit

    Noop.LIMIT = Arrive.LIMIT = Limit(running_per_key=10**6)
    Noop.limit_key = lambda self: self.args[0] % keys
    Arrive.limit_key = lambda self: 0
