"""pgqueuer under measurement; see ``contender.py``."""

import asyncio
import contextlib
import os
import sys
import time
from datetime import timedelta

import marks
import uvloop
from pgqueuer import PgQueuer, Queries

URL = os.environ["DATABASE_URL"]
BATCH = int(os.environ.get("BATCH", "10"))


@contextlib.asynccontextmanager
async def driver():
    if os.environ.get("DRIVER") == "asyncpg":
        import asyncpg
        from pgqueuer.db import AsyncpgDriver

        connection = await asyncpg.connect(URL)
        try:
            yield AsyncpgDriver(connection)
        finally:
            await connection.close()
        return
    import psycopg
    from pgqueuer.db import PsycopgDriver

    async with await psycopg.AsyncConnection.connect(URL, autocommit=True) as connection:
        yield PsycopgDriver(connection)


async def install():
    async with driver() as connected:
        await Queries(connected).install()


async def work():
    async with driver() as connected:
        queuer = PgQueuer(connected)

        @queuer.entrypoint("noop")
        async def noop(job):
            marks.begin()

        @queuer.entrypoint("arrive")
        async def arrive(job):
            marks.arrive(float(job.payload))

        await queuer.run(batch_size=BATCH, dequeue_timeout=timedelta(seconds=30))


async def fill(count):
    async with driver() as connected:
        queries = Queries(connected)
        for first in range(0, int(count), 1000):
            numbers = range(first, min(first + 1000, int(count)))
            await queries.enqueue(
                ["noop"] * len(numbers), [str(n).encode() for n in numbers], [0] * len(numbers)
            )


enqueue_bulk = fill


async def ping(pauses):
    async with driver() as connected:
        queries = Queries(connected)
        for pause in map(float, pauses.split(",")):
            await asyncio.sleep(pause)
            await queries.enqueue("arrive", str(time.monotonic()).encode())


async def enqueue_async(count):
    async with driver() as connected:
        queries = Queries(connected)
        for number in range(int(count)):
            await queries.enqueue("noop", str(number).encode())


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    began = time.perf_counter()
    uvloop.run(globals()[verb](*arguments))
    print(time.perf_counter() - began)
