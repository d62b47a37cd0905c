"""Commands that people copy into a shell: a row's name is a word of them, and no command."""

import io
import shlex
from datetime import timedelta

import pytest
from django.core.management import CommandParser, call_command
from django.core.management.base import CommandError
from django.utils import timezone

from partisan_async import steering
from partisan_async.management.commands import start_partisan
from partisan_async.management.commands.partisan import Command
from partisan_async.models import PausedQueue, Supervisor, Task
from partisan_async.operate import overview, to_copy
from partisan_async.operate.doctor import tasks as looks
from tests.testapp.partisan_tasks import Write

NAMES = ["imports", "x; touch /tmp/pwned", "$(id)", "it's", "-v", "--all", "a b", "--yes=`id`"]

ODD = "x; touch /tmp/pwned"
QUOTED = "'x; touch /tmp/pwned'"


def words(command):
    """What the shell makes of it, after ``manage.py`` and the command."""
    return shlex.split(command)[2:]


@pytest.mark.parametrize("name", NAMES)
class TestNames:
    def test_a_supervisor_is_started_of_that_queue(self, name):
        parser = CommandParser()
        start_partisan.Command().add_arguments(parser)

        options = parser.parse_args(words(to_copy.start(name)))

        assert (options.queue_name, options.listen) == ([name], True)

    def test_that_queue_is_resumed(self, name):
        parser = CommandParser()
        Command().add_arguments(parser)

        options = parser.parse_args(words(to_copy.resume(name)))

        assert [*options.queues, *options.queue] == [name]
        assert (options.all, options.yes) == (False, False)

    @pytest.mark.django_db
    def test_that_processor_is_resumed_there(self, name):
        steering.pause(name, processor=name)
        (pause,) = overview.pauses()

        call_command("partisan", *words(pause.way_out), "--yes", stdout=io.StringIO())

        assert [each.ending for each in overview.pauses()] == [True]


@pytest.mark.django_db
class TestWhereTheyAreTold:
    """Whoever may enqueue chooses the name; the operator runs what they are told."""

    @pytest.fixture
    def task(self):
        task = Write().delay()
        Task.objects.update(queue_name=ODD)
        return task

    def why(self, task):
        out = io.StringIO()
        call_command("partisan", "why", str(task.pk), stdout=out)
        return out.getvalue()

    def doctor(self):
        out = io.StringIO()
        with pytest.raises(CommandError):
            call_command("partisan", "doctor", stdout=out)
        return out.getvalue()

    def test_a_queue_that_nobody_serves(self, task):
        command = f"manage.py start_partisan --async --queue_name {QUOTED}"

        assert command in self.why(task)
        ((_, said),) = looks.unserved_queues()
        assert said.endswith(command)
        assert command in self.doctor()

    def test_a_queue_that_is_paused(self, task):
        PausedQueue.objects.create(queue_name=ODD)
        command = f"manage.py partisan resume {QUOTED}"

        assert command in self.why(task)
        ((_, said),) = looks.paused_queues()
        assert said.endswith(command)

    def test_a_supervisor_that_is_silent(self):
        Supervisor.objects.create(
            id="00000000-0000-0000-0000-00000000000a",
            hostname="here",
            process={"pid": 7},
            queue_name=ODD,
        )
        Supervisor.objects.update(last_seen_at=timezone.now() - timedelta(minutes=5))

        ((_, said),) = looks.silent_supervisors()
        assert said.endswith(f"manage.py start_partisan --async --queue_name {QUOTED}")
