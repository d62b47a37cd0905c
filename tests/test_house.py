"""The code stays in pieces that can be read at once: no file, class or function grows for ever."""

import ast
from statistics import median

from tests.imports import PACKAGE

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "migrations")

MOST_LINES = 300
MEDIAN_LINES = 100
MOST_LINES_OF_A_CLASS = 220
MOST_LINES_OF_A_FUNCTION = 50


def lines_of(path):
    return len(path.read_text().splitlines())


def too_long(kinds, most):
    """Return what of these kinds of definitions has more lines than that."""
    return [
        f"{path.relative_to(PACKAGE)}: {node.name} has {length} lines"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, kinds) and (length := node.end_lineno - node.lineno + 1) > most
    ]


def test_no_file_is_too_long_to_be_read():
    lengths = {str(path.relative_to(PACKAGE)): lines_of(path) for path in FILES}

    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_a_file_is_mostly_a_page():
    """Those that have but a docstring count for nothing."""
    lengths = [lines_of(path) for path in FILES if len(ast.parse(path.read_text()).body) > 1]

    assert median(lengths) <= MEDIAN_LINES


def test_no_class_has_two_lives_in_it():
    assert too_long(ast.ClassDef, MOST_LINES_OF_A_CLASS) == []


def test_no_function_does_more_than_one_thing():
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)

    assert too_long(functions, MOST_LINES_OF_A_FUNCTION) == []
