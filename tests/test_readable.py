"""Columns that are read whatever they have: users' expressions see Django's fields, and nothing
that could not be read is written back."""

import copy
import json
import pickle
from datetime import UTC, datetime

import pytest
from django.db import connection, models, transaction
from django.db.models import Case, F, Max, Value, When
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce, Greatest, Now
from django.test.utils import isolate_apps
from django.utils import timezone

from partisan_async.models import Task
from partisan_async.models.readable import UNREADABLE, always_read
from tests.testapp.partisan_tasks import Write

pytestmark = pytest.mark.django_db

ODD = {"arguments": f"{'9' * 5000}", "execute_after": "infinity"}
"""By column, what Python cannot hold."""


@pytest.fixture
def task():
    return Write("x").delay()


def put(task, column):
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE partisan_async_task SET {column} = %s WHERE id = %s", [ODD[column], task.pk]
        )
    return Task.objects.get(pk=task.pk)


def stored(task, column):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column}::text FROM partisan_async_task WHERE id = %s", [task.pk])
        return cursor.fetchone()[0]


class TestExpressions:
    @pytest.mark.parametrize(
        "expression",
        [
            Greatest(Now(), "execute_after"),
            Greatest("execute_after", Now()),
            Coalesce(Now(), "started_at"),
            Case(When(status="new", then=Now()), default="execute_after"),
            Coalesce("started_at", Value(datetime(2026, 1, 1, tzinfo=UTC))),
            Coalesce("result", Value([], models.JSONField())),
            Coalesce(Value([], models.JSONField()), "result"),
            Case(When(status="new", then=Value([], models.JSONField())), default="errors"),
        ],
        ids=str,
    )
    def test_they_mix_columns_with_fields_of_django(self, task, expression):
        """It tells mixed types by their class."""
        (row,) = Task.objects.annotate(x=expression)
        assert row.x is not None

    def test_every_column_is_of_a_class_of_django(self):
        fields = Task._meta.get_fields()
        assert {type(field).__module__.split(".")[0] for field in fields} == {"django"}

    def test_a_moment_that_came_through_an_expression_is_read(self, task):
        put(task, "execute_after")
        latest = Task.objects.aggregate(x=Max("execute_after"))["x"]
        assert latest.year == Task.objects.values_list(F("execute_after")).get()[0].year == 9999

    def test_a_key_of_json_is_read(self, task):
        assert Task.objects.values_list("arguments__args__0").get() == ("x",)
        assert Task.objects.annotate(x=KT("arguments__args__0")).get().x == "x"


class TestCopiesOfTheField:
    """A field that is copied reads as the one that it was copied from."""

    @pytest.mark.parametrize("name", ODD)
    @pytest.mark.parametrize(
        "copied",
        [
            copy.deepcopy,
            copy.copy,
            lambda field: field.clone(),
            lambda field: field.clone().clone(),
            lambda field: copy.deepcopy(field).clone(),
            lambda field: pickle.loads(pickle.dumps(field.clone())),
            lambda field: pickle.loads(pickle.dumps(field)),
        ],
    )
    def test_it_reads_what_is_odd(self, task, name, copied):
        put(task, name)
        field = copied(Task._meta.get_field(name))
        assert type(field) is type(Task._meta.get_field(name))
        read = Task.objects.annotate(x=models.ExpressionWrapper(F(name), field)).get().x
        assert read == getattr(Task.objects.get(), name)

    def test_a_field_of_a_parent_reads_so_in_its_children(self):
        with isolate_apps("partisan_async"):

            class Parent(models.Model):
                at = always_read(models.DateTimeField())
                what = always_read(models.JSONField())

                class Meta:
                    app_label = "partisan_async"
                    abstract = True

            class Child(Parent):
                class Meta:
                    app_label = "partisan_async"
                    db_table = "odd_child"

            with connection.schema_editor() as editor:
                editor.create_model(Child)
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO odd_child (at, what) VALUES ('infinity', %s)", [ODD["arguments"]]
                )
            child = Child.objects.get()
            assert (child.at.year, child.what) == (9999, UNREADABLE)
            with pytest.raises(ValueError, match=r"partisan_async\.\w+\.at was read as"):
                child.save()

    def test_migrations_know_it_as_djangos(self):
        for name, plain in (
            ("arguments", models.JSONField),
            ("execute_after", models.DateTimeField),
        ):
            assert (
                Task._meta.get_field(name).deconstruct()[1] == f"django.db.models.{plain.__name__}"
            )


class TestWrittenBack:
    """It would overwrite what is stored there, and nobody would have asked for it."""

    @pytest.mark.parametrize("column", ODD)
    def test_saving_the_row_raises(self, task, column):
        odd = put(task, column)
        before = stored(task, column)
        odd.priority = 3
        complaint = rf"Task\.{column} was read as .*update_fields"
        with pytest.raises(ValueError, match=complaint), transaction.atomic():
            odd.save()
        odd.save(update_fields=["priority"])
        assert stored(task, column) == before
        assert Task.objects.get().priority == 3

    @pytest.mark.parametrize("column", ODD)
    def test_so_do_all_other_ways(self, task, column):
        odd = put(task, column)
        for write in (
            lambda: Task.objects.bulk_update([odd], [column]),
            lambda: Task.objects.update(**{column: getattr(odd, column)}),
            lambda: Task.objects.bulk_create([odd]),
        ):
            with pytest.raises(ValueError, match="was read as"):
                write()

    def test_what_was_read_is_written(self, task):
        task.refresh_from_db()
        task.arguments = {"args": ["?"], "kwargs": {}}
        task.execute_after = timezone.now().replace(year=9998)
        task.result = "?"
        task.save()
        assert json.loads(stored(task, "result")) == "?"

    def test_a_moment_is_told_without_time_zones(self, task, settings):
        settings.USE_TZ = False
        settings.TIME_ZONE = "America/New_York"
        odd = put(task, "execute_after")
        with pytest.raises(ValueError, match="was read as"):
            odd.save()

    def test_expressions_are_written(self, task):
        Task.objects.update(execute_after=Greatest(Now(), "execute_after"))
        assert stored(put(task, "execute_after"), "execute_after") == "infinity"
        Task.objects.update(parked_from=F("execute_after"))
        assert stored(task, "parked_from") == "infinity"
