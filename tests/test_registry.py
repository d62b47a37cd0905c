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
