"""Arguments that are too large for their queue, and those that do not pass through a supervisor."""

import os
import uuid

import pytest
from django.db import connection

from partisan_async import store
from partisan_async.claim import Call
from partisan_async.enqueue.insert import enqueue
from partisan_async.exceptions import ArgumentsTooLarge, PartisanException
from partisan_async.models import Task
from partisan_async.store.claiming import LARGE_BYTES, SURELY_SMALL_BYTES
from partisan_async.testing import live_supervisor, run_pending
from tests.conftest import ended, marks, wait_until
from tests.test_store import TTL, beat, execute
from tests.testapp.partisan_tasks import AsyncSleep, Write, WriteElsewhere
from tests.testapp.tasks import write

pytestmark = pytest.mark.django_db(transaction=True)

FRAME = len('{"args":[""],"kwargs":{}}')
COMPRESSIBLE = "x" * (LARGE_BYTES + 1)


def insert(text, processor="Write"):
    """A row as an older release, or a hand, may have put it there."""
    call = Call(
        "default", processor, f'{{"args": ["large", "{text}"], "kwargs": {{}}}}', 10, None, None
    )
    return enqueue(call)


def store_numbers(numbers):
    """Have the row have them; the bytes that they take, as they are stored and as text."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE partisan_async_task SET arguments = %s", [f"[{','.join(numbers)}]"])
        cursor.execute(
            "SELECT pg_column_size(arguments), octet_length(arguments::text)"
            " FROM partisan_async_task"
        )
        return cursor.fetchone()


class TestAtTheDoor:
    def test_more_than_the_queue_takes_is_refused_in_words(self):
        """A supervisor would hold them, with those of many others."""
        Write("x" * (2**20 - FRAME)).delay()

        with pytest.raises(ArgumentsTooLarge) as raised:
            Write("x" * (2**20 - FRAME + 1)).delay()

        assert str(raised.value) == (
            "The arguments are 1,048,577 bytes of JSON, and MAX_ARGUMENTS_BYTES of queue 'default'"
            " is 1,048,576. Write them to a file or to a table of yours and pass the key, or raise"
            " the setting."
        )
        assert isinstance(raised.value, ValueError)
        assert isinstance(raised.value, PartisanException)
        assert Task.objects.count() == 1

    def test_of_many_it_says_which_one(self):
        with pytest.raises(ArgumentsTooLarge, match=r"^Call 1: The arguments are 1,048,601 "):
            Write.bulk_delay([Write(1), Write("x" * 2**20)])

        assert not Task.objects.exists()

    def test_of_djangos_own_tasks(self):
        with pytest.raises(ArgumentsTooLarge, match="MAX_ARGUMENTS_BYTES of queue 'default'"):
            write.enqueue("x" * 2**20)

    def test_each_queue_has_its_own(self, settings):
        settings.PARTISAN_CONFIG = {"default": {"MAX_ARGUMENTS_BYTES": 5000}, "elsewhere": {}}
        settings.MAX_ARGUMENTS_BYTES = 50_000
        with pytest.raises(ArgumentsTooLarge, match="of queue 'default' is 5,000"):
            Write("x" * 5000).delay()
        settings.PARTISAN_CONFIG = {"elsewhere": {"MAX_ARGUMENTS_BYTES": 5000}}
        with pytest.raises(ArgumentsTooLarge, match="of queue 'elsewhere' is 5,000"):
            WriteElsewhere("x" * 5000).delay()

        Write("x" * 5000).delay()


class TestClaimed:
    @pytest.mark.parametrize(
        ("text", "comes"),
        [
            ("x", True),
            ("x" * (LARGE_BYTES - 100), True),
            (COMPRESSIBLE, False),
            ("x" * 40 * 2**20, False),
            (os.urandom(LARGE_BYTES).hex(), False),
        ],
        ids=["small", "nearly large", "compressed", "large and compressed", "large as stored"],
    )
    def test_a_row_comes_without_its_arguments_where_they_are_large(self, text, comes):
        """A buffer of them would be the supervisor's memory."""
        insert(text)
        me = uuid.uuid4()
        beat(me)

        (claim,) = store.claims(execute(store.claim(me, "default", 1, TTL)))

        assert (claim.arguments is not None) == comes

    @pytest.mark.parametrize(
        ("numbers", "filler"),
        [
            (["1e308"] * 20_000, 0),
            (["1e308"] * 20_000, 8000),
            (["1e131071"] * 20, 0),
            (["1e131071"] * 1000, 8000),
            ([f"1{'0' * 131_071}.{'0' * 16_383}"] * 15, 0),
        ],
        ids=["of floats", "of floats, in a wide row", "few", "many", "the longest"],
    )
    def test_numbers_are_longer_than_as_they_are_stored(self, numbers, filler):
        """A few bytes of them, and fewer where they are compressed, are megabytes of text."""
        insert("x")
        Task.objects.update(errors=[os.urandom(filler).hex()])  # compresses the rest
        stored, length = store_numbers(numbers)
        assert stored < 8000 < LARGE_BYTES < length
        me = uuid.uuid4()
        beat(me)

        (claim,) = store.claims(execute(store.claim(me, "default", 1, TTL)))

        assert claim.arguments is None

    def test_what_is_taken_for_small_is_so(self):
        """As many of the longest numbers as it is taken for small without a look at its text."""
        insert("x")
        longest = f"-1{'0' * 131_071}.{'0' * 16_383}"
        for count in range(1, 30):
            stored, length = store_numbers([longest] * count)
            if stored < SURELY_SMALL_BYTES:
                assert length <= LARGE_BYTES
        assert stored > SURELY_SMALL_BYTES

    @pytest.mark.parametrize("processor", ["Write", "AtomicWrite"])
    def test_its_worker_reads_them(self, processor):
        task = insert(COMPRESSIBLE, processor)
        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: ended(task))

        assert marks() == ["large"]

    def test_and_so_does_an_async_run(self, settings):
        settings.MAX_ARGUMENTS_BYTES = 10 * 2**20
        task = AsyncSleep(0, "large", COMPRESSIBLE).delay()
        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: ended(task))

        assert marks() == ["start large", "end large"]

    def test_and_so_does_the_testing_kit(self):
        insert(COMPRESSIBLE)

        run_pending()

        assert marks() == ["large"]

    def test_one_that_is_another_supervisors_by_then_is_not_run(self):
        insert(COMPRESSIBLE)
        me = uuid.uuid4()
        beat(me)
        (claim,) = store.claims(execute(store.claim(me, "default", 1, TTL)))

        assert execute(store.arguments_of(me, claim))
        assert not execute(store.arguments_of(uuid.uuid4(), claim))
        assert not execute(store.arguments_of(me, claim._replace(claim_seq=claim.claim_seq + 1)))
