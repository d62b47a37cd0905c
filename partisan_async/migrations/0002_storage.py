from django.db import migrations

from partisan_async.postgres.migration import PostgresMigration

# Each task leaves two dead rows behind, and claims walk over them until they are vacuumed: so
# vacuum by their number and not by a share of the table, and without pauses. fillfactor would buy
# nothing: the status is in every index's predicate, so no update of it is HOT.
VACUUM_SOON = """
ALTER TABLE partisan_async_task SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 1000)
"""
AS_THE_SERVER_SAYS = """
ALTER TABLE partisan_async_task RESET (
    autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
    autovacuum_vacuum_cost_delay,
    autovacuum_analyze_scale_factor, autovacuum_analyze_threshold)
"""


class Migration(PostgresMigration):
    dependencies = [("partisan_async", "0001_initial")]

    operations = [migrations.RunSQL(VACUUM_SOON, AS_THE_SERVER_SAYS)]
