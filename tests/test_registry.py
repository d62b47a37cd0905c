import pytest

from partisan_async import registry
from partisan_async.exceptions import ProcessorClassAlreadyRegistered, ProcessorClassNotFound
from partisan_async.processor import BaseTaskProcessor
from tests.testapp.partisan_tasks import Write


def test_a_registered_processor_is_found_by_its_bare_name():
    assert registry.get("Write") is Write
    assert Write in registry.processors()


def test_to_register_twice_is_to_register_once():
    """A module that is imported again by a reload."""
    assert registry.register(Write) is Write


def test_two_processors_cannot_share_a_name():
    other = type("Write", (BaseTaskProcessor,), {"run": lambda self: None})

    with pytest.raises(ProcessorClassAlreadyRegistered, match="rename one of them"):
        registry.register(other)


@pytest.mark.parametrize("name", ["Nobody", "os.system", "tests.testapp.partisan_tasks.Write", ""])
def test_a_name_from_a_row_imports_nothing(name):
    with pytest.raises(ProcessorClassNotFound, match="not registered"):
        registry.get(name)


def function():
    pass


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (function, "belongs above a class, and function is a function: write a subclass"),
        (dict, "dict is no processor; make it a subclass of partisan_async.processor"),
        (Write(), "pass the class Write, not an object of it"),
        ("mail", "and got 'mail': write it without"),
        (None, "and got None"),
    ],
)
def test_what_is_no_processor_is_refused_where_it_is_written(found, words):
    """Else the check fails on it, or its worker, far from there."""
    with pytest.raises(TypeError, match=words):
        registry.register(found)
