"""What a site may lay on the package's tables: triggers, constraints, and fewer rights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

TABLE = "partisan_async_task"


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def trigger(does: str, when: str, *, on: str = "UPDATE", table: str = TABLE) -> Iterator[None]:
    """Have a trigger do something before rows are changed, where a condition holds."""
    execute(
        f"""
        CREATE FUNCTION site_rule() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN {does}; RETURN COALESCE(NEW, OLD); END $$;
        CREATE TRIGGER site_rule BEFORE {on} ON {table}
        FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION site_rule()
        """
    )
    try:
        yield
    finally:
        execute(f"DROP TRIGGER site_rule ON {table}", "DROP FUNCTION site_rule()")


def refusal(when: str, **how: str):
    """Have rows refused."""
    return trigger("RAISE EXCEPTION 'the site refuses it'", when, **how)


@contextmanager
def constraint(check: str) -> Iterator[None]:
    execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT site_rule CHECK ({check}) NOT VALID")
    try:
        yield
    finally:
        execute(f"ALTER TABLE {TABLE} DROP CONSTRAINT site_rule")


@contextmanager
def role() -> Iterator[str]:
    """Have supervisors that start now use a role that has what they need; its name."""
    # Roles belong to the whole server, and tests may run beside each other in their databases.
    name = f"{connection.settings_dict['NAME']}_rules"
    options = connection.settings_dict["OPTIONS"]
    execute(
        f"CREATE ROLE {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}",
    )
    connection.close()
    options["assume_role"] = name
    connection.settings_dict["OPTIONS"] = options
    try:
        yield name
    finally:
        options.pop("assume_role")
        connection.close()
        execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")
