"""The jobs of procrastinate."""

import marks
from procrastinate.contrib.django import app


@app.task
async def noop(number):
    marks.begin()


@app.task
async def arrive(sent):
    marks.arrive(sent)
