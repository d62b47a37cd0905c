"""Nothing imports this, but a row names it."""

from tests.conformance.api import task


@task
def evil():
    raise AssertionError("It was run.")
