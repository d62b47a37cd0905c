"""The jobs of Chancy: plain ones for its processes, async ones for its event loop."""

import marks
from chancy import job


@job(queue="default")
def noop(*, number: int):
    marks.begin()


@job(queue="default")
def arrive(*, sent: float):
    marks.arrive(sent)


@job(queue="default")
async def anoop(*, number: int):
    marks.begin()


@job(queue="default")
async def aarrive(*, sent: float):
    marks.arrive(sent)
