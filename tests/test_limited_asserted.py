"""``assert_enqueued(…, limit_key=…)``: how a test holds what ``limit_key()`` says."""

import uuid

import pytest

from partisan_async.limits import Limit
from partisan_async.testing import assert_enqueued, assert_not_enqueued
from tests import test_scheduled_functions, test_ticker
from tests.test_limited_enqueue import LATER
from tests.testapp import tasks
from tests.testapp.partisan_tasks import Write

pytestmark = pytest.mark.django_db

only = test_ticker.only
declared = test_scheduled_functions.declared


@pytest.fixture
def limited(monkeypatch):
    """Write has a limit, and its first argument is the key there."""
    monkeypatch.setattr(Write, "LIMIT", Limit(running_per_key=1))
    monkeypatch.setattr(Write, "limit_key", lambda self: self.args[0], raising=False)


@pytest.mark.usefixtures("limited")
class TestKey:
    @pytest.mark.parametrize("key", ["acme", "", 5, uuid.uuid4()])
    def test_it_is_that_of_the_task(self, key):
        other, task = Write("other").delay(), Write(str(key)).delay()

        assert assert_enqueued(Write, limit_key=key) == task != other
        assert assert_enqueued(Write, limit_key=str(key)) == task

    def test_with_another_one_none_matches(self):
        Write("acme").delay()

        assert_not_enqueued(Write, limit_key="other")
        with pytest.raises(AssertionError) as raised:
            assert_enqueued(Write, limit_key="other")
        assert str(raised.value).startswith("No task waits that is Write, limit_key='other'. The")
        assert str(raised.value).endswith(", limit_key='acme'")

    def test_one_that_is_there_is_told(self):
        Write("acme").delay()

        with pytest.raises(AssertionError, match=r"is Write, args=.'acme'., limit_key='acme'"):
            assert_not_enqueued(Write, args=["acme"], limit_key="acme")

    def test_without_it_any_matches(self):
        task = Write("acme").delay()

        assert assert_enqueued(Write, limit_key=None) == task

    def test_one_for_later_has_it_too(self):
        later = Write("acme").delay(execute_after=LATER)

        assert assert_enqueued(Write, limit_key="acme") == later

    @pytest.mark.parametrize(
        ("key", "error"), [(1.5, TypeError), (True, TypeError), ("k" * 256, ValueError)]
    )
    def test_what_cannot_be_one_is_refused(self, key, error):
        with pytest.raises(error, match=r"^limit_key "):
            assert_not_enqueued(Write, limit_key=key)


def test_where_tasks_have_none_it_is_refused(monkeypatch):
    """With ``assert_not_enqueued`` it would pass, whatever the code did."""
    with pytest.raises(
        TypeError, match=r"^limit_key='a': .* of Write has one, .* it has no LIMIT."
    ):
        assert_not_enqueued(Write, limit_key="a")
    monkeypatch.setattr(Write, "LIMIT", Limit(running=1))
    with pytest.raises(TypeError, match=r"since it has no limit_key\(\)\.$"):
        assert_not_enqueued(Write, limit_key="a")


@pytest.mark.django_db(transaction=True)
def test_one_of_djangos_own_tasks_has_the_key_of_its_options(declared):
    write = declared(tasks.write, limit=Limit(running_per_key=1), limit_key=lambda text: text)
    write.enqueue("acme")

    assert assert_enqueued(write, limit_key="acme").limit_key == "acme"
    assert_not_enqueued(write, limit_key="other")
