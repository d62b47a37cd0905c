"""The site of the fault tests: see ``tests/faults/site.py`` for how a test is written."""

from pathlib import Path

import pytest

from tests.faults.site import Site

TIMEOUT_SECONDS = 300
"""The site's own deadlines come first, and say more."""


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def _site():
    with Site() as site:
        yield site


@pytest.fixture
def site(_site, django_db_blocker):
    """An empty site, with no supervisor yet."""
    with django_db_blocker.unblock(), _site.in_use():
        try:
            yield _site
        finally:
            _site.end_supervisors()
            _site.empty()
