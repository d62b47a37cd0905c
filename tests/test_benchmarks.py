"""The benchmarks run, and measure something; how much it is, is theirs to say."""

import json
import subprocess
import sys

import pytest


@pytest.mark.timeout(400)
def test_a_quick_run_measures_us_and_the_floor(tmp_path):
    path = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--json", str(path)]

    names = ["drain", "pickup", "naps", "growth", "floor", "ours, default", "ours, async"]
    subprocess.run([*command, *names], check=True, timeout=380)

    rounds = json.loads(path.read_text())["rounds"]
    assert set(rounds) == {"drain", "pickup", "naps", "growth"}
    assert set(rounds["drain"]) == {"floor", "ours, default"}
    for measure in rounds.values():
        for figures in measure.values():
            assert all(len(each) == 1 and each[0] > 0 for each in figures.values())
