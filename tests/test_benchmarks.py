"""The benchmarks run, and measure something; how much it is, is theirs to say."""

import json
import subprocess
import sys

import pytest

from tests.benchmarks.verdict import judge, middle, order


@pytest.mark.timeout(1200)  # minutes, where other processes are busy
def test_a_quick_run_measures_us_and_the_floor(tmp_path):
    path = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--json", str(path)]

    names = ["drain", "pickup", "naps", "growth", "floor", "ours, default", "ours, async"]
    subprocess.run([*command, *names], check=True, timeout=1180)

    rounds = json.loads(path.read_text())["rounds"]
    assert set(rounds) == {"drain", "pickup", "naps", "growth"}
    assert set(rounds["drain"]) == {"floor", "ours, default"}
    for measure in rounds.values():
        for figures in measure.values():
            assert all(len(each) == 1 and each[0] > 0 for each in figures.values())


CONTROLS = [0.9, 0.95, 0.98, 0.99, 1.0, 1.0, 1.0, 1.01, 1.01, 1.02, 1.05, 1.1]


class TestVerdict:
    """The same measured twice is never quite the same: worse is what that does not explain."""

    def test_the_middle_leaves_out_a_twentieth_on_each_side(self):
        assert middle([float(number) for number in range(101)]) == pytest.approx((5, 95))
        assert middle([1.0, 3.0], share=0.5) == pytest.approx((1.5, 2.5))

    @pytest.mark.parametrize(
        ("pairs", "more_is_better", "worse"),
        [
            ([0.8, 0.85, 0.9], True, True),
            ([0.8, 0.85, 0.9], False, False),
            ([1.1, 1.2, 1.3], False, True),
            ([1.1, 1.2, 1.3], True, False),
            ([0.1, 1.0, 1.0], True, False),  # one bad run is no verdict
            ([0.95, 0.96, 0.97], True, False),  # no further off than the old from itself
            ([1.0, 1.06, 1.07], False, False),
        ],
    )
    def test_worse_is_a_median_out_of_the_middle_on_the_bad_side(
        self, pairs, more_is_better, worse
    ):
        assert judge(pairs, CONTROLS, more_is_better=more_is_better).is_worse == worse

    def test_who_comes_second_changes_from_pair_to_pair(self):
        """What is measured second finds a warmer machine, or a busier one."""
        turns = order(4)

        roles = [role for kind, _, role in turns if kind == "pair"]
        assert roles == ["old", "new", "new", "old"] * 2
        assert [role for kind, _, role in turns if kind == "control"] == roles
