"""Every log line of the package is a function in ``logs/``, with an event that the docs name."""

import ast
from pathlib import Path

import partisan_async
from partisan_async.logs import tasks

PACKAGE = Path(partisan_async.__file__).parent
DOCS = (PACKAGE.parent / "docs/howto/signals-and-logs.md").read_text()

LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def lines(tree):
    """Return the calls that write log lines."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
            and ast.unparse(node.func.value) in ("logging", "logger", "_in_worker")
        ):
            yield node


def trees(folder):
    return {path: ast.parse(path.read_text()) for path in folder.rglob("*.py")}


def test_no_line_is_written_elsewhere():
    """Who changes a line's text finds all that is said of the same thing beside it."""
    found = [
        f"{path}:{line.lineno}"
        for path, tree in trees(PACKAGE).items()
        if path.parent != PACKAGE / "logs"
        for line in lines(tree)
    ]

    assert found == []


def test_each_line_says_its_event_to_programs():
    found = [line for tree in trees(PACKAGE / "logs").values() for line in lines(tree)]

    assert len(found) > 40
    assert [
        ast.unparse(each) for each in found if "extra" not in {k.arg for k in each.keywords}
    ] == []


def events():
    """Return each event that the lines say, as the code has it."""
    yield from (*tasks._EVENTS.values(), "claimed", "rescued", "found")
    for tree in trees(PACKAGE / "logs").values():
        for node in ast.walk(tree):
            match node:
                case ast.Dict(keys=[ast.Constant("event"), *_], values=[ast.Constant(event), *_]):
                    yield event
                case ast.Call(func=ast.Name("about" | "about_all"), args=[_, ast.Constant(event)]):
                    yield event


def test_the_docs_name_each_event():
    """Alerts are written by them."""
    missing = {event for event in events() if f"`{event}`" not in DOCS}

    assert missing == set()
