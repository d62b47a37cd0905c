"""Rows that somebody broke by hand, code that is gone, and outcomes that are hard to tell of."""

import datetime
import re
import uuid
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from partisan_async import store
from partisan_async.models import Task
from tests.faults.partisan_tasks import (
    AsyncNap,
    Break,
    Deposit,
    Nap,
    Narrow,
    Noop,
    Outcry,
    Snooze,
    StumbleForEver,
    Verify,
    fingerprint,
)
from tests.old_rows import before_the_constraints

MOST = 2**31 - 1
NOBODY = str(uuid.UUID(int=7))


def change(site, task, columns):
    """Change a row by hand: ``columns`` is what an UPDATE sets."""
    site.execute(f"UPDATE partisan_async_task SET {columns} WHERE id = {task.pk}")


def exempt(site, *tasks):
    """Take tasks out of the record: the checker cannot know of what was done by hand."""
    ids = [task.pk for task in tasks]
    for table, column in (
        ("partisan_async_task", "id"),
        ("faults_event", "task_id"),
        ("faults_change", "task_id"),
    ):
        site.execute(f"DELETE FROM {table} WHERE {column} = ANY(%s)", ids)


def found(tasks, *names):
    """Return the columns of these rows, by the name of what was done to each."""
    rows = {row["id"]: row for row in Task.objects.values("id", "status", *names)}
    return {
        done: tuple(rows[task.pk][name] for name in ("status", *names)) if task.pk in rows else None
        for done, task in tasks.items()
    }


def own_tracebacks(output):
    """The lines above the supervisor's own; those of tasks stand below their failures."""
    found, line = [], ""
    for each in output.splitlines():
        if re.match(r"\d{4}-\d\d-\d\d ", each):
            line = each
        elif each.startswith("Traceback") and not re.search(r" ERROR +failed \d+ ", line):
            found.append(line)
    return found


class TestBrokenWhileItWaits:
    """Each ends, or stays where it must; the supervisor lives, and the others are not harmed."""

    ENDS = {
        "arguments are a list": (Noop, "arguments = '[]'", "error"),
        "arguments are null": (Noop, "arguments = 'null'", "error"),
        "arguments are text": (Noop, """arguments = '"x"'""", "error"),
        "arguments are empty": (Noop, "arguments = '{}'", "error"),
        "args are a dict": (Noop, """arguments = '{"args": {}, "kwargs": {}}'""", "error"),
        "kwargs are a list": (Noop, """arguments = '{"args": [], "kwargs": []}'""", "error"),
        "kwargs name self": (
            Noop,
            """arguments = '{"args": [], "kwargs": {"self": 1}}'""",
            "error",
        ),
        "a number of 9000 digits": (
            Noop,
            f"""arguments = '{{"args": [{"9" * 9000}], "kwargs": {{}}}}'""",
            "error",
        ),
        "errors are text": (Break, """errors = '"x"'""", "error"),
        "errors are null": (Break, "errors = 'null'", "error"),
        "errors are many": (Break, "errors = to_jsonb(array_fill(1, ARRAY[50]))", "error"),
        "worker_ids are a dict": (Noop, "worker_ids = '{}'", "finished"),
        "worker_ids are text": (Break, """worker_ids = '"x"'""", "error"),
        "all are no lists": (Break, """errors = '{"a": 1}', worker_ids = '7'""", "error"),
        "tries at most": (Noop, f"tries = {MOST}", "finished"),
        "tries at most, and it fails": (StumbleForEver, f"tries = {MOST}", "error"),
        "tries below 0": (Noop, f"tries = {-MOST}", "finished"),
        "tries below 0, and it fails": (StumbleForEver, "tries = -2", "error"),
        "postpones at most": (Snooze, f"postpones = {MOST}", "finished"),
        "postpones below 0": (Snooze, "postpones = -2", "finished"),
        "lost at most": (Noop, f"lost = {MOST}", "finished"),
        "lost below 0": (Noop, "lost = -1", "finished"),
        "unrecognised at most": (Noop, f"unrecognised = {MOST}", "finished"),
        "unrecognised below 0": (Noop, f"unrecognised = {-MOST}", "finished"),
        "claim_seq at most": (Noop, f"claim_seq = {MOST}", "finished"),
        "claim_seq below 0": (Noop, f"claim_seq = {-MOST}", "finished"),
        "a suspect": (Noop, "suspect = true", "finished"),
        "the first of all": (Noop, f"priority = {-MOST - 1}", "finished"),
        "the last of all": (Noop, f"priority = {MOST}", "finished"),
        "ready, and its time is never": (Noop, "execute_after = 'infinity'", "finished"),
        "ready since ever": (Noop, "execute_after = '-infinity'", "finished"),
        "due since ever": (
            Noop,
            "status = 'scheduled', execute_after = '-infinity'",
            "finished",
        ),
        "due since Caesar": (
            Noop,
            "status = 'scheduled', execute_after = '0044-03-15 BC'",
            "finished",
        ),
        "put off for ever": (Noop, "status = 'scheduled', execute_after = 'infinity'", "scheduled"),
        "put off to the end of time": (
            Noop,
            "status = 'scheduled', execute_after = '294276-12-31'",
            "scheduled",
        ),
        "created never": (Noop, "created_at = 'infinity', started_at = 'infinity'", "finished"),
        "another's digest": (Noop, r"digest = '\x00'", "finished"),
        "a result before it ran": (Noop, """result = '{"x": 1}'""", "finished"),
        "held by nobody": (Noop, f"status = 'in_process', claimed_by = '{NOBODY}'", "finished"),
        "a status there is not": (Noop, "status = 'nonsense'", "nonsense"),
        "another queue": (Noop, "queue_name = 'elsewhere'", "new"),
        "no queue": (Noop, "queue_name = ''", "new"),
        "no processor": (Noop, "processor_class = ''", "scheduled"),
        "a long processor": (Noop, "processor_class = repeat('X', 255)", "scheduled"),
        "a processor of two lines": (Noop, r"processor_class = E'No\nop \x1b[31m\r'", "scheduled"),
        "the base class": (Noop, "processor_class = 'BaseTaskProcessor'", "scheduled"),
    }

    @pytest.mark.parametrize("running", [False, True], ids=["before the start", "under load"])
    def test_it_ends_or_stays_where_it_must(self, site, running):
        args = {Snooze: (1, 0)}
        tasks = {}
        supervisors = [site.start(), site.start()] if running else []
        with site.load(rate=30):
            for name, (processor, columns, _) in self.ENDS.items():
                is_refused = columns == "status = 'nonsense'"
                before = before_the_constraints() if is_refused else transaction.atomic()
                with before, connection.cursor() as cursor:
                    # Before anybody else sees it.
                    tasks[name] = task = processor(*args.get(processor, ())).delay(priority=5)
                    cursor.execute(f"UPDATE partisan_async_task SET {columns} WHERE id = {task.pk}")
            if not running:
                supervisors = [site.start()]
            expected = {name: (status,) for name, (_, _, status) in self.ENDS.items()}

            site.wait_until(lambda: not pending(tasks, expected), "as expected")
            site.wait_until_ended(Deposit().delay())
        lists = found(tasks, "worker_ids", "errors")
        exempt(site, *tasks.values())
        site.settle_down()

        for name, (status, worker_ids, errors) in lists.items():
            if status in ("finished", "error"):
                assert isinstance(worker_ids, list), name
            if status == "error":
                assert errors[-1]["message"], name
        for supervisor in supervisors:
            assert not own_tracebacks(supervisor.output)
            assert is_plain(supervisor.output)


class TestBrokenWhileItRuns:
    HELD = {
        "other arguments": "arguments = '7'",
        "another queue": "queue_name = 'elsewhere'",
        "another processor": "processor_class = 'Nowhere'",
        "tries at most": f"tries = {MOST}",
        "lists are none": "errors = '1', worker_ids = 'null'",
        "never": "execute_after = 'infinity', claimed_at = '-infinity'",
        "a suspect": "suspect = true, lost = 2",
    }
    TAKEN = {
        "finished by hand": "status = 'finished', finished_at = now(), claimed_by = NULL",
        "made ready again": "status = 'new', claimed_by = NULL",
        "put off": "status = 'scheduled', claimed_by = NULL, execute_after = now()",
        "given to nobody": f"claimed_by = '{NOBODY}'",
    }

    def test_what_is_still_held_ends_as_if_nobody_had_changed_it(self, site):
        supervisor = site.start(WORKERS_COUNT=2)
        tasks = self.running(site, self.HELD)
        for name, columns in self.HELD.items():
            change(site, tasks[name], columns)

        with site.load(rate=30):
            expected = dict.fromkeys(self.HELD, ("finished", 1))
            site.wait_until(lambda: not pending(tasks, expected), "as expected")
            site.wait_until_ended(Deposit().delay())
        exempt(site, *tasks.values())

        site.settle_down()
        assert not own_tracebacks(supervisor.output)

    def test_what_was_taken_from_its_holder_is_killed_and_runs_where_it_waits(self, site):
        """A beat tells. What ran beside it in its worker goes back, and runs again."""
        supervisor = site.start(WORKERS_COUNT=2)
        tasks = self.running(site, self.TAKEN)
        gone = AsyncNap(3).delay()
        site.running(gone)
        for name, columns in self.TAKEN.items():
            change(site, tasks[name], columns)
        site.execute("DELETE FROM partisan_async_task WHERE id = %s", gone.pk)

        with site.load(rate=30):
            supervisor.wait_for(
                "killed: cancelled, or taken over by another supervisor", seconds=60
            )
            expected = dict.fromkeys(self.TAKEN, ("finished",))
            site.wait_until(lambda: not pending(tasks, expected), "as expected")
            site.wait_until_ended(Deposit().delay())
        claims = found(tasks, "claim_seq")
        exempt(site, *tasks.values(), gone)

        site.settle_down()
        assert claims["finished by hand"][-1] == 1
        assert all(seq > 1 for name, (*_, seq) in claims.items() if name != "finished by hand")
        assert not own_tracebacks(supervisor.output)

    def running(self, site, names):
        tasks = {name: AsyncNap(3).delay() for name in names}
        for task in tasks.values():
            site.running(task)
        return tasks

    @pytest.mark.parametrize("what", ["another claim", "another holder who lives"])
    def test_what_its_holder_does_not_know_of_is_not_held_for_ever(self, site, what):
        """The holder lives, so that nobody rescues it: it has to see that it holds the row."""
        for _ in range(2):
            site.start(WORKERS_COUNT=1)
        task = Nap(2).delay()
        site.running(task)
        ((other,),) = site.execute(
            "SELECT id FROM partisan_async_supervisor WHERE id <>"
            " (SELECT claimed_by FROM partisan_async_task)"
        )
        columns = {
            "another claim": "claim_seq = claim_seq + 1",
            "another holder who lives": f"claimed_by = '{other}'",
        }
        change(site, task, columns[what])

        site.wait_until_ended(task, seconds=30)
        exempt(site, task)
        site.settle_down()


def pending(tasks, expected):
    """Return what is not yet as it is expected."""
    rows = found(tasks, *(["claim_seq"] if len(next(iter(expected.values()))) > 1 else []))
    return {name: row for name, row in rows.items() if row != expected[name]}


def is_plain(output):
    """Tell whether it is lines of printable characters, and nothing else."""
    return all(char == "\n" or char.isprintable() for char in output)


class TestCodeThatIsGone:
    def test_its_tasks_wait_for_it_and_end_in_error_saying_so(self, site):
        """After 15 meetings with a supervisor that does not know it; each puts it off."""
        supervisor = site.start()
        task = Noop().delay(execute_after=timezone.now() + timedelta(hours=1))
        change(site, task, "processor_class = 'Removed'")
        with site.load(rate=30):
            for times in range(16):
                site.wait_until(
                    lambda n=times: found({"": task}, "unrecognised")[""] == ("scheduled", n)
                )
                change(site, task, "execute_after = now()")
                site.execute("SELECT pg_notify(%s, '')", store.channel("default"))
            site.wait_until_ended(task)

        site.settle_down()

        task.refresh_from_db()
        assert (task.status, task.tries, task.claim_seq) == ("error", 0, 16)
        (error,) = task.errors
        assert error["exception_class"] == "partisan_async.exceptions.ProcessorClassNotFound"
        assert "'Removed' is not registered" in error["message"]
        assert supervisor.output.count(f"deferred {task.pk} Removed by 60 s") == 15

    def test_old_code_leaves_it_to_new_code(self, site):
        """A rolling deploy: the name is known to the supervisor that comes next."""
        old = site.start()
        task = Noop().delay(execute_after=timezone.now() + timedelta(hours=1))
        change(site, task, "processor_class = 'Coming', execute_after = now()")
        site.execute("SELECT pg_notify(%s, '')", store.channel("default"))
        old.wait_for(f"deferred {task.pk} Coming by 60 s", seconds=60)
        site.wait_until(lambda: found({"": task})[""] == ("scheduled",))
        old.stop()
        change(site, task, "processor_class = 'Noop', execute_after = now()")

        site.start()

        site.settle_down()
        task.refresh_from_db()
        assert (task.status, task.unrecognised, task.tries) == ("finished", 1, 1)


class TestArguments:
    def test_20_megabytes_arrive(self, site, settings):
        settings.MAX_ARGUMENTS_BYTES = 2**26
        site.start()
        payload = "x\n" * 10_000_000
        with site.load(rate=20):
            task = Verify(payload, fingerprint(payload)).delay()
            site.wait_until_ended(task)

        site.settle_down()

        assert found({"": task})[""] == ("finished",)

    def test_that_do_not_fit_the_processor_end_the_task_and_not_the_worker(self, site):
        """Its ``__init__`` refuses them, or ``run()`` misses them."""
        supervisor = site.start(WORKERS_COUNT=1)
        soon = timezone.now() + timedelta(seconds=1)
        tasks = [Outcry("say", 1, 2), Narrow("one"), Outcry("no such")]
        tasks = [call.delay(execute_after=soon) for call in tasks]
        change(site, tasks[1], """arguments = '{"args": [1, 2, 3], "kwargs": {"x": 1}}'""")

        site.settle_down()

        classes = [
            row[1][-1]["exception_class"]
            for row in found(dict(enumerate(tasks)), "errors").values()
        ]
        assert classes == ["builtins.ValueError", "builtins.TypeError", "builtins.KeyError"]
        assert "died" not in supervisor.output

    @pytest.mark.parametrize(
        ("argument", "reason"),
        [("a\x00b", "NUL"), ("\ud800", "surrogate"), (float("nan"), "nan")],
        ids=["NUL", "surrogate", "NaN"],
    )
    def test_that_cannot_be_stored_are_refused_and_the_callers_transaction_goes_on(
        self, site, argument, reason
    ):
        """Refused before the database is asked: else nothing more could be done in it."""
        site.start()

        with transaction.atomic():
            Noop("before").delay()
            with pytest.raises(ValueError, match=reason):
                Noop([{"deep": argument}]).delay()
            Noop("after").delay()

        site.settle_down()
        assert [task.args for task in Task.objects.order_by("id")] == [["before"], ["after"]]


class TestTimes:
    def test_the_past_is_at_once_the_far_future_waits_and_beyond_it_is_refused(self, site):
        utc = datetime.UTC
        site.start()
        past = Noop("past").delay(execute_after=datetime.datetime(2, 1, 1, tzinfo=utc))
        future = Noop("future").delay(execute_after=datetime.datetime(9000, 12, 31, tzinfo=utc))
        for refused in (
            datetime.datetime(2030, 1, 1),
            datetime.datetime(9001, 1, 1, tzinfo=utc),
            datetime.datetime.max.replace(tzinfo=utc),
            datetime.datetime.min.replace(tzinfo=utc),
        ):
            with pytest.raises(ValueError, match="execute_after="):
                Noop("refused").delay(execute_after=refused)

        with site.load(rate=30):
            site.wait_until_ended(past, Deposit().delay())

        assert found({"past": past, "future": future}) == {
            "past": ("finished",),
            "future": ("scheduled",),
        }
        assert not Task.objects.filter(arguments__args=["refused"]).exists()
        exempt(site, future)
        site.settle_down()


class TestOutcomes:
    CRIES = {
        ("a huge message",): ("error", "builtins.ValueError"),
        ("many huge arguments",): ("error", "builtins.ValueError"),
        ("unpicklable",): ("error", "tests.faults.partisan_tasks._Unpicklable"),
        ("speechless",): ("error", "tests.faults.partisan_tasks._Speechless"),
        ("nameless",): ("error", None),
        ("oddly named", "two\\nlines \\x1b[31m"): ("error", None),
        ("oddly named", "N\\x00L \\ud800"): ("error", None),
        ("lengthily named",): ("error", None),
        ("a group",): ("error", "builtins.ExceptionGroup"),
        ("leave", 3): ("error", "builtins.SystemExit"),
        ("interrupt",): ("error", "builtins.KeyboardInterrupt"),
        ("a huge result",): ("finished", None),
        ("an unpicklable result",): ("finished", None),
        ("postpone", "-1"): ("error", "builtins.ValueError"),
        ("postpone", "1e300"): ("error", "builtins.ValueError"),
        ("postpone", "inf"): ("error", "builtins.ValueError"),
        ("postpone", "nan"): ("error", "builtins.ValueError"),
        ("postpone", "1e8"): ("scheduled", None),
    }
    TAMPERED = {"-5": "error", "1e13": "error", "1e300": "error", "nan": "error", "text": "error"}
    """An exception whose seconds were changed after it was made."""

    def test_whatever_is_raised_or_returned_the_row_tells_and_the_worker_lives(self, site):
        supervisor = site.start(WORKERS_COUNT=2)
        with site.load(rate=20):
            tasks = {cry: Outcry(*cry).delay() for cry in self.CRIES}
            expected = {cry: (status,) for cry, (status, _) in self.CRIES.items()}
            site.wait_until(lambda: not pending(tasks, expected), "as expected")
            site.wait_until_ended(Deposit().delay())
        rows = found(tasks, "errors", "lost", "tries")
        exempt(site, *[task for cry, task in tasks.items() if cry == ("postpone", "1e8")])
        verdict = site.settle_down()

        assert verdict.duplicates == {}
        for cry, (_, error_class) in self.CRIES.items():
            status, errors, lost, _ = rows[cry]
            assert lost == 0
            if status == "error":
                (error,) = errors
                assert error_class in (None, error["exception_class"])
                assert len(error["message"]) <= 4000
                assert len(error["traceback"]) <= 21_000
                assert len(error["exception_class"]) <= 4000, cry
        assert rows["speechless",][1][0]["message"] == "(its __str__ raised)"
        assert len(supervisor.output) < 2_000_000
        assert is_plain("".join(headlines(supervisor)))

    def test_a_postpone_that_was_tampered_with_ends_the_task(self, site):
        """The supervisor does the sum, and must not go down with it."""
        supervisor = site.start(WORKERS_COUNT=1)
        with site.load(rate=20):
            tasks = {how: Outcry("postpone, tampered with", how).delay() for how in self.TAMPERED}
            site.wait_until_ended(*tasks.values(), Deposit().delay())
        rows = found(tasks, "errors")
        exempt(site, *tasks.values())

        site.settle_down()

        assert {how: row[0] for how, row in rows.items()} == self.TAMPERED
        assert all(row[1][-1]["message"] for row in rows.values())
        assert supervisor.process.returncode == 0


def headlines(supervisor):
    """Return its log lines, without the tracebacks below them."""
    return [line for line in supervisor.output.splitlines() if "failed " in line]
