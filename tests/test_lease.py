"""What is taken for dead, and what is not."""

import os
import subprocess
import sys

import pytest

from partisan_async.supervisor.host_process import identify_process, is_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the proof of death is /proc's")


@pytest.fixture
def me():
    return identify_process()


def test_a_running_process_is_not_gone(me):
    assert me["pid"] == os.getpid()
    assert not is_gone(me, me)


def test_a_process_that_endedis_gone(me):
    child = subprocess.Popen(["sleep", "60"])
    process = {**me, "pid": child.pid, "started": 1}
    child.kill()
    child.wait()

    assert is_gone(process, me)


def test_a_zombieis_gone(me):
    """It runs nothing, though its parent has not collected it yet."""
    child = subprocess.Popen(["sleep", "60"])
    os.kill(child.pid, 9)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert is_gone({**me, "pid": child.pid, "started": 1}, me)
    child.wait()


def test_a_pid_that_another_process_has_by_nowis_gone(me):
    assert is_gone({**me, "started": me["started"] - 1}, me)


@pytest.mark.parametrize("key", ["boot_id", "pid_namespace"])
def test_of_another_boot_or_namespace_nothing_is_proven(me, key):
    """There the pid is somebody else's number: the TTL decides."""
    elsewhere = {**me, "pid": 2**22, key: "another"}

    assert not is_gone(elsewhere, me)


@pytest.mark.parametrize(
    "process",
    [
        None,
        [],
        "x",
        {},
        {"pid": "1"},
        {"pid": None},
        {"pid": 1.5},
        {"pid": 10**30},
        {"pid": 0},
        {"pid": -(2**22)},
        {"started": "x"},
        {"started": []},
    ],
)
def test_of_a_row_that_was_broken_by_hand_nothing_is_proven(me, process):
    if isinstance(process, dict):
        process = {**me, **process} if process else process

    assert not is_gone(process, me)


def test_without_proc_nothing_is_proven():
    assert not is_gone({"pid": 2**22}, {"pid": 1})


def test_another_users_process_is_not_gone(me):
    """Signals to it are refused, and that proves that it is there."""
    assert not is_gone({**me, "pid": 1, "started": None}, me) or os.getpid() == 1
