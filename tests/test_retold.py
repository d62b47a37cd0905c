"""What log handlers see of an error that was raised in a worker."""

import json
import logging
import traceback

import pytest

from partisan_async import logs
from partisan_async.claim import Claim
from partisan_async.models import Task
from partisan_async.policy import Failed, Failure, Finished, Raised, Retried
from partisan_async.testing import perform
from partisan_async.text.retold import (
    MESSAGE_LENGTH,
    MOST_ERRORS,
    MOST_FRAMES,
    NAME_LENGTH,
    chain_of,
    message_of,
    rebuilt,
)
from partisan_async.worker import wire
from tests.testapp.partisan_tasks import Fail


class OwnError(Exception):
    pass


def innermost(message):
    raise OwnError(message)


def middle(message, way):
    try:
        innermost(message)
    except OwnError as error:
        if way == "cause":
            raise KeyError("behind") from error
        if way == "hidden":
            raise KeyError("alone") from None
        raise KeyError("while handling")  # noqa: B904  that is the case


def caught(function, *args):
    try:
        function(*args)
    except Exception as error:
        return error


def told(error):
    """The error after its way over the link."""
    chain = json.loads(json.dumps(chain_of(error, error.__traceback__)))
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return rebuilt(Failure(name, str(error), "", chain))


def frames(error):
    return [
        (each.filename, each.name, each.lineno)
        for each in traceback.extract_tb(error.__traceback__)
    ]


def test_it_looks_as_the_one_that_was_raised():
    """Its class, message, files, lines and functions are the same; only carets are not there."""
    error = caught(innermost, "boom")

    again = told(error)

    assert frames(again) == frames(error)
    assert type(again).__name__ == "OwnError"
    assert type(again).__module__ == OwnError.__module__
    shown = "".join(traceback.format_exception(again))
    assert shown.endswith("    raise OwnError(message)\ntests.test_retold.OwnError: boom\n")
    assert "^" not in shown


def test_a_frame_says_which_module_it_is_of_and_shows_no_variables():
    """By its module a tracker tells a site's own code from a library's."""
    last = list(traceback.walk_tb(told(caught(innermost, "secret")).__traceback__))[-1][0]

    assert last.f_globals["__name__"] == __name__
    assert last.f_code.co_qualname == "innermost"
    assert dict(last.f_locals) == {}


@pytest.mark.parametrize(
    ("way", "cause", "context"),
    [("cause", "OwnError", None), ("context", None, "OwnError"), ("hidden", None, None)],
)
def test_what_is_behind_it_is_told_too(way, cause, context):
    """And which of the two it was: the words between them differ."""
    again = told(caught(middle, "boom", way))

    assert type(again).__name__ == "KeyError"
    assert (again.__cause__ and type(again.__cause__).__name__) == cause
    if cause is None:
        assert (again.__context__ and type(again.__context__).__name__) == context
    behind = again.__cause__ or again.__context__
    assert behind is None or frames(behind)[-1][1] == "innermost"


def test_a_deep_one_is_cut():
    """It travels with each outcome, and a RecursionError has a thousand frames."""

    def dive():
        dive()

    def nest(depth):
        try:
            if depth:
                nest(depth - 1)
        finally:
            raise KeyError(depth)

    deep = told(caught(dive))
    many = told(caught(nest, 3 * MOST_ERRORS))

    assert len(frames(deep)) == MOST_FRAMES
    behind = []
    while many is not None:
        behind.append(many)
        many = many.__context__
    assert len(behind) == MOST_ERRORS


def test_what_is_long_of_it_is_cut():
    """A message may be a whole answer of a server, and goes with each outcome."""
    long = type("N" * 500, (Exception,), {})("m" * 5000)

    ((name, message, *_),) = chain_of(long, None)

    assert (len(name), len(message)) == (NAME_LENGTH, MESSAGE_LENGTH)


def test_one_that_cannot_say_what_it_is_is_told():
    """Whatever it raises of its own ends no worker."""

    class Mute(Exception):
        def __str__(self):
            raise SystemExit

    assert message_of(Mute()) == "(its __str__ raised)"


def test_a_name_that_no_class_can_have_is_made_one():
    again = rebuilt(Failure("a.B\0\ud800", "boom"))

    assert type(again).__name__ == "B\\x00\\ud800"


def test_one_that_is_behind_itself_has_an_end():
    """Python lets a chain be a ring."""
    first, second = caught(innermost, "1"), caught(innermost, "2")
    first.__cause__, second.__cause__ = second, first

    again = told(first)

    assert str(again.__cause__) == "2"
    assert again.__cause__.__cause__ is None


@pytest.mark.parametrize(
    "chain",
    [
        ["x"],
        [1],
        [["a.B", "x", True, "frames"]],
        [["a.B", "x", True, [["f", "no line", "g", "m"]]]],
        [["a.B", "x", True, [[None, 1, "g", "m"]]]],
        [["a.B", "x", True, []], ["\0", "x", True, []]],
    ],
)
def test_a_chain_that_is_none_costs_the_frames_alone(chain):
    """It came from another process, and the supervisor goes on."""
    again = rebuilt(Failure("a.B", "boom", "", chain))

    assert (type(again).__name__, str(again)) == ("B", "boom")
    assert again.__traceback__ is None


def test_no_text_of_it_can_be_taken_for_a_line_of_the_log():
    """A message may come from a request, and traceback texts are not on one line."""
    again = rebuilt(Failure("a.B", "boom\nINFO    done 7 Pay\x1b[2J", ""))

    assert str(again) == "boom\n    INFO    done 7 Pay\\x1b[2J"


def test_it_gets_over_the_link():
    """And what the row keeps is without it."""
    error = caught(innermost, "boom")
    failure = Failure("a.B", "boom", "text", chain_of(error, error.__traceback__))

    (done,) = wire.Decoder().feed(wire.encode(wire.Done(1, 2, False, Raised(failure))))

    assert done.outcome.failure.chain[0][3][-1][2] == "innermost"


CLAIM = Claim(**dict.fromkeys(Claim._fields, 0) | {"processor_class": "Pay", "queue_name": "q"})


class TestTheLine:
    @pytest.fixture
    def line(self, caplog):
        def said(decision):
            with caplog.at_level(logging.INFO, "partisan_async"):
                logs.tasks.settled(CLAIM, decision, 0.1)
            (record,) = caplog.records
            return record

        return said

    def test_of_a_final_failure_has_the_exception(self, line):
        error = caught(innermost, "boom")
        chain = chain_of(error, error.__traceback__)

        record = line(Failed(Failure("tests.test_retold.OwnError", "boom", "", chain)))

        assert record.exception == "tests.test_retold.OwnError"
        assert frames(record.exc_info[1]) == frames(error)

    def test_of_one_that_nobody_saw_raised_has_it_without_frames(self, line):
        record = line(Failed(Failure("partisan_async.exceptions.WorkerLost", "gone")))

        assert type(record.exc_info[1]).__name__ == "WorkerLost"
        assert record.exc_info[2] is None

    def test_of_a_try_that_runs_again_names_it_alone(self, line, settings):
        """A tracker takes what has an exception for something to look at."""
        from datetime import timedelta

        record = line(Retried(timedelta(0), Failure("a.B", "boom")))

        assert (record.exception, record.exc_info) == ("a.B", None)

    def test_of_a_success_names_none(self, line):
        assert not hasattr(line(Finished()), "exception")


@pytest.mark.django_db
def test_the_row_has_the_text_alone():
    """Frames as data would double what each error takes."""
    ran = perform(Fail, ["ValueError", "boom"])

    assert {"exception_class", "message", "traceback"} < set(ran.task.errors[0])
    assert "chain" not in ran.task.errors[0]
    assert ran.decision.failure.chain[0][3][-1][2] == "Fail.run"
    assert not Task.objects.exists()
