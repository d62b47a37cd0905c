"""What the tests' processors leave behind, for the tests to find."""

from django.db import connection, models
from django.db.models.functions import Now


class Mark(models.Model):
    """One line per start or end of a run."""

    text = models.CharField(max_length=255)
    pid = models.IntegerField(default=0)
    at = models.DateTimeField(db_default=Now())

    @classmethod
    def from_db(cls, *args, **kwargs):
        found = super().from_db(*args, **kwargs)
        found.fetched_in_atomic = connection.in_atomic_block
        return found
