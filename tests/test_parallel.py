"""``manage.py test --parallel``: its processes are daemons, each with a database of its own."""

import subprocess
import sys

import pytest

from tests.process import ROOT, environment

TESTS = """
import multiprocessing

from django.test import TransactionTestCase

from partisan_async.models import Task
from partisan_async.testing import live_supervisor, wait_until_ended
from tests.testapp.models import Mark
from tests.testapp.partisan_tasks import AsyncSleep, Write


class OneTests(TransactionTestCase):
    text = "one"

    def test_a_supervisor_runs_beside_it(self):
        self.assertTrue(multiprocessing.current_process().daemon)
        with live_supervisor(WORKERS_COUNT=1):
            wait_until_ended(Write(self.text).delay(), AsyncSleep(0, self.text).delay())

        texts = set(Mark.objects.values_list("text", flat=True))
        self.assertEqual(texts, {self.text, f"start {self.text}", f"end {self.text}"})
        self.assertEqual(Task.objects.filter(status="finished").count(), 2)


class OtherTests(OneTests):
    text = "other"
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(sys.platform == "darwin", reason="Django runs tests there by spawn")
def test_live_supervisors_run_beside_tests_that_run_in_parallel(tmp_path):
    """Daemons may have no children by multiprocessing; ours are none of its."""
    (tmp_path / "parallel").mkdir()
    (tmp_path / "parallel" / "__init__.py").touch()
    (tmp_path / "parallel" / "tests.py").write_text(TESTS)

    ended = subprocess.run(
        [sys.executable, "-m", "django", "test", "parallel", "--parallel", "2", "--noinput"],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=tmp_path,
        env=environment(PYTHONPATH=f"{ROOT}:{tmp_path}"),
    )

    assert ended.returncode == 0, ended.stderr
    assert "Ran 2 tests" in ended.stderr
