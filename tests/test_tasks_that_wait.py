"""What waits for others holds up nobody, as `docs/explanation/tasks-that-wait.md` has it."""

import pytest

from tests.conftest import ended, marks, wait_until
from tests.process import partisan
from tests.testapp.partisan_tasks import AsyncWait, Wait, Write

pytestmark = pytest.mark.django_db(transaction=True)


def test_two_hanging_payments_hold_up_no_twenty_mails(tmp_path):
    """They are async, so they share a worker with what is not; here they share the only one."""
    bank = tmp_path / "answers"
    with partisan("--async", "--workers_count", "1"):
        payments = [AsyncWait(str(bank), number).delay() for number in range(2)]
        wait_until(lambda: marks() == ["waits"] * 2)

        mails = [Write(f"mail {number}").delay() for number in range(20)]

        wait_until(lambda: ended(*mails))
        assert "goes on" not in marks()
        bank.touch()
        wait_until(lambda: ended(*payments))


def test_plain_ones_in_a_queue_of_their_own_hold_up_no_other(tmp_path):
    bank = tmp_path / "answers"
    queues = ("--queue_name", "default", "--queue_name", "payments")
    with partisan("--async", *queues, "--workers_count", "1"):
        payments = [Wait(str(bank), n).delay(queue_name="payments") for n in range(2)]
        wait_until(lambda: marks() == ["waits"])

        mails = [Write(f"mail {number}").delay() for number in range(20)]

        wait_until(lambda: ended(*mails))
        assert "goes on" not in marks()
        bank.touch()
        wait_until(lambda: ended(*payments))
