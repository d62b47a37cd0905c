"""Chancy under measurement; see ``contender.py``."""

import asyncio
import os
import sys
import time

import chancy_jobs
from chancy import Chancy, Queue, Worker

URL = os.environ["DATABASE_URL"]
ON_LOOP = "TUNED" in os.environ
NOOP = (chancy_jobs.anoop if ON_LOOP else chancy_jobs.noop).job
ARRIVE = (chancy_jobs.aarrive if ON_LOOP else chancy_jobs.arrive).job


async def install():
    queue = Queue("default")
    if ON_LOOP:
        executor = "chancy.executors.asyncex.AsyncExecutor"
        queue = Queue("default", concurrency=100, executor=executor, eager_polling=True)
    async with Chancy(URL) as chancy:
        await chancy.migrate()
        await chancy.declare(queue)


async def work():
    async with Chancy(URL) as chancy, Worker(chancy) as worker:
        await worker.wait_for_shutdown()


async def fill(count):
    jobs = [NOOP.with_kwargs(number=number) for number in range(int(count))]
    async with Chancy(URL) as chancy:
        async for _ in chancy.push_many(jobs):
            pass


enqueue_bulk = fill


async def ping(pauses):
    async with Chancy(URL) as chancy:
        for pause in map(float, pauses.split(",")):
            await asyncio.sleep(pause)
            await chancy.push(ARRIVE.with_kwargs(sent=time.monotonic()))


async def enqueue_async(count):
    async with Chancy(URL) as chancy:
        for number in range(int(count)):
            await chancy.push(NOOP.with_kwargs(number=number))


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    began = time.perf_counter()
    asyncio.run(globals()[verb](*arguments))
    print(time.perf_counter() - began)
