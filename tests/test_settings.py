import traceback

import pytest
from django.conf import settings as django_settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections
from django.test import override_settings

from partisan_async import registry
from partisan_async.processor import BaseTaskProcessor
from partisan_async.settings import queue_settings


def test_the_built_in_values(settings):
    del settings.WORKERS_COUNT

    resolved = queue_settings("anything")

    assert resolved.MIN_QUEUE_SIZE == 2
    assert resolved.MAX_QUEUE_SIZE == 10
    assert resolved.WORKERS_COUNT >= 1
    assert resolved.DEFAULT_POSTPONES_COUNT == 15
    assert resolved.TASKS_PER_WORKER_INSTANCE is None
    assert resolved.DELETE_TASKS_ON_COMPLETE is False


def test_a_key_is_looked_up_in_four_places(settings):
    """The queue's own dict, the default queue's, the flat setting, the built-in."""
    settings.PARTISAN_CONFIG = {"default": {"MAX_QUEUE_SIZE": 30}, "q": {"MIN_QUEUE_SIZE": 3}}
    settings.SLEEP_DELAY_SECONDS = 4

    resolved = queue_settings("q")

    assert resolved.MIN_QUEUE_SIZE == 3
    assert resolved.MAX_QUEUE_SIZE == 30
    assert resolved.SLEEP_DELAY_SECONDS == 4
    assert resolved.CHECKS_BEFORE_CLEANUP == 50


def test_a_queue_without_settings_takes_the_default_queues(settings):
    settings.PARTISAN_CONFIG = {"default": {"WORKERS_COUNT": 7}}

    assert queue_settings("unheard of").WORKERS_COUNT == 7


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DEFAULT_POSTPONES_COUNT", None),
        ("DEFAULT_POSTPONES_COUNT", 0),
        ("DEFAULT_POSTPONE_DELAY_SECONDS", 0),
        ("MIN_QUEUE_SIZE", 0),
        ("SHUTDOWN_GRACE_SECONDS", None),
    ],
)
def test_none_and_zero_of_the_queue_win_over_the_flat_setting(settings, key, value):
    """The ancestor's `x or default` swallowed both."""
    setattr(settings, key, 1)
    settings.PARTISAN_CONFIG = {"q": {key: value}}

    assert getattr(queue_settings("q"), key) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MIN_QUEUE_SIZE", -1),
        ("MAX_QUEUE_SIZE", 0),
        ("CHECKS_BEFORE_CLEANUP", 0),
        ("WORKERS_COUNT", 0),
        ("WORKERS_COUNT", "2"),
        ("WORKERS_COUNT", True),
        ("SLEEP_DELAY_SECONDS", 0),
        ("SLEEP_DELAY_SECONDS", float("inf")),
        ("TASKS_PER_WORKER_INSTANCE", 0),
        ("DELETE_TASKS_ON_COMPLETE", 1),
        ("KEEP_FAILED_SECONDS", -1),
        ("KEEP_FAILED_SECONDS", "3600"),
        ("KEEP_FAILED_SECONDS", float("inf")),
        ("KEEP_FAILED_SECONDS", True),
        ("DEFAULT_POSTPONE_DELAY_SECONDS", -1),
        ("DEFAULT_POSTPONES_COUNT", -1),
        ("ASYNC_CONCURRENCY", 0),
        ("SHUTDOWN_GRACE_SECONDS", -1),
    ],
)
def test_a_wrong_value_is_a_check_error_that_names_it(settings, key, value):
    settings.PARTISAN_CONFIG = {"q": {key: value}}

    with pytest.raises(SystemCheckError, match=rf"Queue 'q': {key}={value!r} must be"):
        call_command("check", "--tag", "partisan_async")
    with pytest.raises(ImproperlyConfigured, match=key):
        queue_settings("q")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ([], "must be a dict of queue names"),
        ({"q": 3}, "the value a dict"),
        ({"q": {"WORKER_COUNT": 3}}, "unknown key 'WORKER_COUNT'"),
        ({"": {}}, "has the key '', which must be a name"),
        ({"q" * 256: {}}, "which must be a name of 1 to 255 characters"),
        ({"a\x00b": {"WORKERS_COUNT": 1}}, "without NUL"),
        ({"q": {"MIN_QUEUE_SIZE": 11}}, "MIN_QUEUE_SIZE=11 must not be above"),
    ],
)
def test_a_wrong_config_is_a_check_error(settings, config, words):
    settings.PARTISAN_CONFIG = config

    with pytest.raises(SystemCheckError, match=words) as error:
        call_command("check", "--tag", "partisan_async")

    assert "partisan_async.E001" in str(error.value)


def test_a_database_that_is_not_postgresql_is_a_check_error(monkeypatch):
    from django.db import connections

    monkeypatch.setattr(connections["default"], "vendor", "sqlite")

    with pytest.raises(SystemCheckError, match="which is sqlite, not PostgreSQL") as error:
        call_command("check", "--tag", "partisan_async")

    assert "partisan_async.E002" in str(error.value)


def test_the_ancestors_queue_attribute_is_a_check_error(monkeypatch):
    """QUEUE had no effect there either: delay() never stored it."""
    from tests.testapp.partisan_tasks import Nothing

    monkeypatch.setattr(Nothing, "QUEUE", "mail", raising=False)

    with pytest.raises(SystemCheckError, match="QUEUE_NAME = 'mail'") as error:
        call_command("check", "--tag", "partisan_async")

    assert "partisan_async.E003" in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PRIORITY", "high"),
        ("PRIORITY", 2**31),
        ("QUEUE_NAME", ""),
        ("QUEUE_NAME", "q" * 256),
        ("QUEUE_NAME", None),
        ("UNIQUE_FOR_PARAMS", "yes"),
    ],
)
def test_a_class_attribute_that_cannot_be_is_a_check_error(monkeypatch, name, value):
    from tests.testapp.partisan_tasks import Nothing

    monkeypatch.setattr(Nothing, name, value)

    with pytest.raises(SystemCheckError, match=rf"(?s)Nothing\.{name} is.*E004|E004.*Nothing"):
        call_command("check", "--tag", "partisan_async")


@pytest.mark.parametrize(
    "value",
    [
        "hunter2",
        "host=db.internal password=it's hunter2",
        "postgresql://keeper:hunter2/7@db.internal/app",
        "postgresql://keeper:7/hunter2@db.internal/app",
        "postgresql://keeper:7@hunter2@db.internal/app",
        "postgresql://keeper:hunter2%@db.internal/app",
        "host=db.internal port=hunter2",
        "host=db.internal connect_timeout=hunter2",
        "host=db.internal password=x\0hunter2",
        "host=hunter2..internal",
        {"host": "db.internal", "password": "hunter2"},
    ],
)
def test_a_wrong_listen_dsn_is_a_check_error_that_shows_nothing_of_it(settings, value, capsys):
    """Whatever is mistyped in it may be of the password: libpq's own messages quote it."""
    settings.PARTISAN_CONFIG = {"q": {"LISTEN_DSN": value}}

    with pytest.raises(SystemCheckError, match=r"Queue 'q': LISTEN_DSN=\*\*\* must be") as check:
        call_command("check", "--tag", "partisan_async")
    with pytest.raises(ImproperlyConfigured, match=r"LISTEN_DSN=\*\*\*") as lookup:
        queue_settings("q")

    for error in (check.value, lookup.value):
        assert "hunter2" not in "".join(traceback.format_exception(error))
    assert "hunter2" not in str(capsys.readouterr())


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "host=db.internal port=5432",
        "host=/run/postgresql",
        "host=a,b port=5432,5433 password='two words'",
        "postgresql://keeper:%40%2F@db.internal:5432/app?sslmode=require",
        "service=direct",
    ],
)
def test_a_listen_dsn_may_be_a_connection_string_or_a_uri(settings, value):
    settings.LISTEN_DSN = value

    call_command("check", "--tag", "partisan_async")

    assert value == queue_settings().LISTEN_DSN


def test_a_queues_settings_show_no_listen_dsn(settings):
    """They are printed where an error is shown with the values around it."""
    settings.LISTEN_DSN = "host=db.internal password=hunter2"

    assert "hunter2" not in repr(queue_settings())


def test_a_setting_that_took_the_place_of_a_queue_is_not_shown(settings):
    settings.PARTISAN_CONFIG = {"LISTEN_DSN": "host=db.internal password=hunter2"}

    with pytest.raises(SystemCheckError, match="is of type str; the key must be") as error:
        call_command("check", "--tag", "partisan_async")

    assert "hunter2" not in str(error.value)


def errors_of(*tags):
    return {each.id: each for each in run_checks(tags=["partisan_async", *tags])}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETRY_ON_ERROR_CONFIG", {"retry_on_errors": [ValueError]}),
        ("POSTPONE_CONFIG", 5),
        ("STORE_RESULT", "yes"),
        ("ATOMIC", 1),
        ("SCHEDULE", 60),
        ("SCHEDULE", "61 * * * *"),
    ],
)
def test_a_config_of_the_wrong_type_is_a_check_error(monkeypatch, name, value):
    from tests.testapp.partisan_tasks import Nothing

    monkeypatch.setattr(Nothing, name, value)

    assert errors_of()["partisan_async.E004"].msg == f"Nothing.{name} is {value!r}."


def test_a_wrong_schedule_is_told_why(monkeypatch):
    from tests.testapp.partisan_tasks import Nothing

    monkeypatch.setattr(Nothing, "SCHEDULE", "61 * * * *")

    assert errors_of()["partisan_async.E004"].hint == (
        "It cannot be: '61 * * * *' is no cron expression (Bad minute); write minute, hour, day of"
        " month, month and day of week, such as '*/5 * * * *' for every five minutes."
    )


@pytest.fixture
def registered():
    """Processors that are known until the end of the test."""
    names = set(registry._processors)
    yield registry.register
    for name in set(registry._processors) - names:
        del registry._processors[name]


def test_a_processor_without_run_is_a_check_error(registered):
    @registered
    class Forgetful(BaseTaskProcessor):
        def ran(self): ...

    assert errors_of()["partisan_async.E005"].msg == "Forgetful has no run()."


def test_an_atomic_async_run_is_a_check_error(registered):
    @registered
    class Wishful(BaseTaskProcessor):
        ATOMIC = True

        async def run(self): ...

    assert "Wishful is ATOMIC, and its run() is async" in errors_of()["partisan_async.E005"].msg


@pytest.fixture
def app(tmp_path, monkeypatch):
    """Installs an app that has these modules, and returns its folder."""
    apps = []

    def install(name, **modules):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").touch()
        for module, source in modules.items():
            (folder / f"{module}.py").write_text(source)
        apps.append(name)
        installed = override_settings(INSTALLED_APPS=[*django_settings.INSTALLED_APPS, name])
        installed.enable()
        undo.append(installed.disable)
        return folder

    undo = []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_processors", dict(registry._processors))
    yield install
    for each in reversed(undo):
        each()


PROCESSOR = """
from partisan_async import registry
from partisan_async.processor import BaseTaskProcessor

@registry.register
class Send(BaseTaskProcessor):
    def run(self): ...
"""


def test_two_processors_of_one_name_are_a_check_error(app):
    app("firstapp", partisan_tasks=PROCESSOR)
    app("secondapp", partisan_tasks=PROCESSOR)

    error = errors_of()["partisan_async.E006"]

    assert "registered already, as firstapp.partisan_tasks.Send; secondapp" in error.msg
    assert error.hint


@pytest.mark.parametrize("module", ["partisan_tasks", "tasks"])
def test_tasks_that_cannot_be_imported_are_a_check_error(app, module):
    folder = app(f"broken_{module}", **{module: "import nothing_of_this_name\n"})

    error = errors_of()["partisan_async.E007"]

    assert "ModuleNotFoundError: No module named 'nothing_of_this_name'" in error.msg
    assert f"{folder / module}.py, line 1" in error.hint


def test_what_is_wrong_below_a_registered_class_is_told_each_time(app):
    """Each check imports the tasks by itself, and so comes upon the class once more."""
    folder = app("half", partisan_tasks=PROCESSOR + "\nimport nothing_of_this_name\n")

    for _ in range(2):
        errors = errors_of()

        assert "partisan_async.E006" not in errors
        assert f"{folder}/partisan_tasks.py, line 9" in errors["partisan_async.E007"].hint


def test_a_class_that_is_registered_twice_in_its_module_is_refused(app):
    app("twice", partisan_tasks=PROCESSOR + PROCESSOR)

    assert "twice.partisan_tasks.Send" in errors_of()["partisan_async.E006"].msg


def test_anothers_tasks_are_not_imported(settings, app):  # the one set up last is undone first
    """They may be Celery's, or anything."""
    settings.TASKS = {"default": {"BACKEND": "elsewhere.Backend"}}
    app("celeryapp", tasks="import nothing_of_this_name\n")

    assert errors_of() == {}


def test_a_pooler_without_a_way_around_is_a_check_warning(settings, monkeypatch):
    monkeypatch.setitem(connections["default"].settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)

    assert "queues are polled: default" in errors_of()["partisan_async.W010"].msg
    settings.LISTEN_DSN = "port=5432"
    assert errors_of() == {}


def test_a_backend_without_an_api_is_a_check_error(settings, monkeypatch):
    settings.TASKS = {"default": {"BACKEND": "partisan_async.tasks_backend.PartisanBackend"}}
    assert "partisan_async.E009" not in errors_of()
    monkeypatch.setattr("partisan_async.checks.configuration.find_spec", lambda name: None)

    assert "pip install django-tasks" in errors_of()["partisan_async.E009"].hint


@pytest.mark.parametrize("tasks", [None, [], {"default": None}, {}])
def test_a_setting_of_djangos_that_cannot_be_is_left_to_django(settings, tasks):
    settings.TASKS = tasks

    assert errors_of() == {}
