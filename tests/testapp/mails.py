"""Tasks by Django's own API that are in no ``tasks.py``: one imports this module."""

from tests.conformance.api import task


@task
def send(address):
    return address
