"""A call that its function cannot take is refused where it is made."""

import functools

import pytest

from partisan_async.django_tasks.fits import refuse_misfit
from partisan_async.models import Task
from partisan_async.testing import perform
from tests.testapp import tasks


def plain(name, size=1):
    pass


def keyword(name, *, size):
    pass


def anything(*args, **kwargs):
    pass


def by_place(name, /, size):
    pass


def injects(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        return function("a client", *args, **kwargs)

    return call


@injects
def injected(client, name):
    pass


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (plain, [1], {}),
        (plain, [1, 2], {}),
        (plain, [1], {"size": 2}),
        (plain, [], {"name": 1}),
        (keyword, [1], {"size": 1}),
        (anything, [1, 2, 3], {"a": 1}),
        (by_place, [1, 2], {}),
        (injected, [1], {}),
        (dict, [], {}),
    ],
)
def test_what_it_takes_passes(function, args, kwargs):
    """A decorator may pass the first argument; and not every callable tells what it takes."""
    refuse_misfit(function, args, kwargs, "It")


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "words"),
    [
        (plain, [1, 2, 3], {}, r"It takes \(name, size=1\), .*too many positional arguments"),
        (plain, [], {}, "missing a required argument: 'name'"),
        (plain, [1], {"seize": 2}, "unexpected keyword argument 'seize'"),
        (plain, [1], {"name": 2}, "multiple values for argument 'name'"),
        (keyword, [1, 2], {}, "too many positional|missing a required"),
        (keyword, [1], {}, "missing a required"),
        (by_place, [], {"name": 1, "size": 2}, "'name' parameter is positional only|missing"),
    ],
)
def test_what_it_does_not_take_is_refused_in_words(function, args, kwargs, words):
    with pytest.raises(TypeError, match=words):
        refuse_misfit(function, args, kwargs, "It")


def test_the_context_is_none_of_the_callers():
    """Neither to be passed nor shown."""
    refuse_misfit(plain, [1], {}, "It", given=1)
    with pytest.raises(TypeError, match=r"It takes \(size=1\), "):
        refuse_misfit(plain, [1, 2], {}, "It", given=1)


@pytest.mark.django_db
class TestDjangosTasks:
    def test_enqueue_refuses_it(self):
        """A worker would, too late for who called."""
        with pytest.raises(TypeError, match=r"Task tests.testapp.tasks.write takes \(text\), "):
            tasks.write.enqueue("a", "b")

        assert not Task.objects.exists()

    def test_the_testing_kit_refuses_it_too(self):
        with pytest.raises(TypeError, match="cannot be called with what is enqueued"):
            perform(tasks.write, ["a", "b"])
