"""The states of tasks: what the table refuses, and rows from before it did."""

import io
import pickle
import uuid

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from partisan_async import models
from partisan_async.models import KNOWN, Status, Task
from partisan_async.operate.doctor import states
from partisan_async.testing import live_supervisor
from tests.conftest import ended, wait_until
from tests.old_rows import NAMES, before_the_constraints
from tests.old_tables import migrated_back
from tests.testapp.partisan_tasks import AsyncSleep, Write

pytestmark = pytest.mark.django_db(transaction=True)


def execute(sql, params=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


def validated():
    return dict(
        execute(
            "SELECT conname, convalidated FROM pg_constraint WHERE conname = ANY(%s)", [[*NAMES]]
        )
    )


@pytest.fixture
def not_validated():
    """As a migration leaves the constraints, also after the test."""
    with before_the_constraints():
        pass
    yield
    with before_the_constraints():
        Task.objects.all().delete()


def doctor(*words):
    out = io.StringIO()
    try:
        call_command("partisan", "doctor", *words, stdout=out)
    except CommandError as error:
        out.write(str(error))
    return out.getvalue()


class TestStatus:
    def test_its_members_are_their_words_in_sql_text(self):
        assert f"{Status.IN_PROCESS}" == "in_process" == Task.STATUS_IN_PROCESS
        assert type(Task.STATUS_NEW) is str
        assert list(Status) == [value for value, _ in Task.STATUS_CHOICES]

    def test_a_task_is_pickled_as_ever(self):
        task = pickle.loads(pickle.dumps(Write().delay()))

        assert type(task) is models.Task
        assert task == Task.objects.get()


class TestTheTable:
    @pytest.mark.parametrize(
        "columns",
        [
            "status = 'odd'",
            "status = ''",
            "status = 'finished'",
            "status = 'error'",
            "finished_at = now()",
        ],
    )
    def test_it_refuses_a_state_that_nobody_knows_and_an_end_without_a_time(self, columns):
        Write().delay()

        with pytest.raises(IntegrityError), transaction.atomic():
            execute(f"UPDATE partisan_async_task SET {columns}")

    @pytest.mark.parametrize("status", KNOWN)
    def test_it_takes_the_states_of_this_release_and_of_the_next(self, status):
        Write().delay()

        Task.objects.update(
            status=status,
            claimed_by=uuid.uuid4() if status == "in_process" else None,
            finished_at=timezone.now() if status in ("finished", "error") else None,
        )

        assert Task.objects.get().status == status

    def test_its_migration_looks_at_no_row_that_is_there(self):
        """The table may be large, and what is odd in it must not keep a site from migrating."""
        call_command("migrate", "partisan_async", "0010", verbosity=0)
        try:
            odd = Write().delay()
            Task.objects.filter(pk=odd.pk).update(status="odd")
        finally:
            call_command("migrate", "partisan_async", verbosity=0)

        assert validated() == dict.fromkeys(NAMES, False)
        assert Task.objects.get().status == "odd"
        call_command("migrate", "partisan_async", "0010", verbosity=0)
        assert validated() == {}
        call_command("migrate", "partisan_async", verbosity=0)


@pytest.mark.usefixtures("not_validated")
class TestRowsFromBefore:
    def test_one_that_cannot_be_claimed_holds_up_none_behind_it(self):
        odd = Write("odd").delay(priority=0)
        with before_the_constraints():
            Task.objects.filter(pk=odd.pk).update(finished_at=timezone.now())
        others = Write.bulk_delay([Write(str(n)) for n in range(20)])

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: ended(*others))

        assert Task.objects.get(pk=odd.pk).status == "new"

    def test_one_that_runs_is_settled_with_its_batch(self):
        """Its row was read before: the settle itself sets the state right."""
        tasks = AsyncSleep.bulk_delay([AsyncSleep(1, n) for n in range(10)])
        with live_supervisor(WORKERS_COUNT=1):
            running = Task.objects.filter(status="in_process", pk__in=[task.pk for task in tasks])
            wait_until(lambda: running.count() == len(tasks))
            with before_the_constraints():
                running.filter(pk=tasks[3].pk).update(finished_at=timezone.now())
            wait_until(lambda: ended(*tasks))

        assert set(Task.objects.values_list("status", flat=True)) == {"finished"}

    def test_one_whose_settle_is_refused_fails_no_other_of_its_batch(self):
        tasks = AsyncSleep.bulk_delay([AsyncSleep(1, n) for n in range(10)])
        odd, others = tasks[3], [*tasks[:3], *tasks[4:]]
        execute(
            "ALTER TABLE partisan_async_task ADD CONSTRAINT odd"
            f" CHECK (id <> {odd.pk} OR status <> 'finished')"
        )
        try:
            with live_supervisor(WORKERS_COUNT=1):
                wait_until(lambda: ended(*others))
        finally:
            execute("ALTER TABLE partisan_async_task DROP CONSTRAINT odd")

        assert {Task.objects.get(pk=task.pk).status for task in others} == {"finished"}
        assert Task.objects.get(pk=odd.pk).status != "finished"


@pytest.mark.usefixtures("not_validated")
class TestMend:
    @pytest.fixture
    def odd(self):
        """One of each kind, and one that is well."""
        unknown, endless, early, well = Write.bulk_delay([Write(str(n)) for n in range(4)])
        with before_the_constraints():
            Task.objects.filter(pk=unknown.pk).update(status="it's odd")
            Task.objects.filter(pk=endless.pk).update(status="finished")
            Task.objects.filter(pk=early.pk).update(finished_at=timezone.now())
        return [each.pk for each in (unknown, endless, early, well)]

    def test_the_doctor_counts_them_and_names_the_command(self, odd):
        ((well, said),) = states.constraints()

        assert not well
        assert said.startswith("3 task(s) have a status that no release knows")
        assert f"such as {odd[0]}, {odd[1]}, {odd[2]}:" in said
        assert "manage.py partisan doctor --mend sets them right" in said

    def test_it_sets_them_right_and_has_the_rest_checked(self, odd):
        said = doctor("--mend")

        rows = Task.objects.in_bulk(odd)
        unknown, endless, early, well = (rows[pk] for pk in odd)
        assert unknown.status == "error"
        assert "'it''s odd'" in unknown.errors[-1]["message"]
        assert unknown.finished_at
        assert (endless.status, bool(endless.finished_at)) == ("finished", True)
        assert (early.status, early.finished_at) == ("new", None)
        assert (well.status, well.errors) == ("new", [])
        assert f"3 task(s) set right: {odd[0]}, {odd[1]}, {odd[2]}" in said
        assert "constraint partisan_async_status: all rows keep it" in said
        assert validated() == dict.fromkeys(NAMES, True)
        assert [found.well for found in states.constraints()] == [True]

    def test_what_it_set_right_is_run(self, odd):
        doctor("--mend")
        call_command("partisan", "retry", str(odd[0]), stdout=io.StringIO())

        with live_supervisor(WORKERS_COUNT=1):
            wait_until(lambda: not Task.objects.exclude(status="finished").exists())

    def test_one_that_is_locked_is_left_and_told_of(self, odd):
        other = connection.copy()
        try:
            with other.cursor() as cursor:
                cursor.execute("BEGIN")
                cursor.execute(f"SELECT FROM partisan_async_task WHERE id = {odd[0]} FOR UPDATE")
                said = doctor("--mend")
        finally:
            other.close()

        assert "2 task(s) set right" in said
        assert f"task {odd[0]} is as it was: another transaction has it locked" in said
        assert "constraint partisan_async_status is not checked" in said
        assert "ALTER TABLE partisan_async_task VALIDATE CONSTRAINT" in said
        assert "3 task(s) set right" not in said
        assert "1 task(s) set right" in doctor("--mend")

    def test_where_all_is_well_it_only_has_the_rows_checked(self):
        Write().delay()

        assert "0 task(s) set right" in doctor("--mend")

        assert validated() == dict.fromkeys(NAMES, True)

    def test_a_constraint_that_is_missing_is_told_with_what_makes_it(self):
        execute("ALTER TABLE partisan_async_task DROP CONSTRAINT partisan_async_status")
        try:
            ((well, said),) = states.constraints()
            assert not well
            made = said.partition(": ")[2].removesuffix(".")
            execute(made.replace("%", "%%"))
            assert validated()["partisan_async_status"] is False
        finally:
            execute(
                "ALTER TABLE partisan_async_task DROP CONSTRAINT IF EXISTS partisan_async_status"
            )
            with_state = [each for each in Task._meta.constraints if each.name == NAMES[0]]
            with connection.schema_editor() as editor:
                editor.execute(f"{with_state[0].create_sql(Task, editor)} NOT VALID")


class TestBeforeTheMigration:
    @pytest.fixture(autouse=True)
    def _migrated_back(self):
        with migrated_back("0010"):
            yield
            Task.objects.all().delete()

    def test_the_doctor_has_no_constraint_added_that_the_migration_adds(self):
        """It would fail then: the name is taken."""
        ((well, said),) = states.constraints()

        assert well
        assert said == "2 come with the migration 0011_states, and all rows would keep them"

    def test_odd_rows_are_counted_and_set_right(self):
        """A supervisor of a release that passes over none would end of one, once it is refused."""
        odd = Write().delay()
        Task.objects.filter(pk=odd.pk).update(finished_at=timezone.now())

        ((well, said),) = states.constraints()
        assert (well, said.startswith("1 task(s) have a status")) == (False, True)
        assert f"1 task(s) set right: {odd.pk}" in doctor("--mend")

        assert Task.objects.values_list("finished_at", flat=True).get() is None
        assert [found.well for found in states.constraints()] == [True]
