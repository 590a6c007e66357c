"""Each example runs as a reader would run it, and prints what it promises."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


# TRL is installed apart from the rest: requirements/trl.txt says why.
TRL = Path(sys.prefix) / "only-trl"


def run(name, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, EXAMPLES / name], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def table(text):
    """Rows of a printed table: first word -> the numbers after it."""
    rows = {}
    for line in text.splitlines():
        name, *values = line.split()
        rows.setdefault(name, []).append([float(value) for value in values])
    return rows


def test_plain_rewards():
    printed = run("plain_rewards.py").split("\n\n")
    rows = table("\n".join(printed[0].splitlines()[1:]))
    # 4.40 for a MOS of 4.5: exp(-0.01 / 0.5).
    assert rows["sharp.mp4"][0][:2] == pytest.approx([4.4, math.exp(-0.02)], abs=1e-3)
    assert math.isnan(rows["sharp.mp4"][2][0])
    assert rows["sharp.mp4"][2][1:] == [0.0] * 5
    assert rows["noisy.mp4"][0][3] == 0.6  # 2.30 for 2.25 earns both bonuses
    logged = table("\n".join(printed[1].splitlines()[1:]))
    assert logged["parse_failure_rate"] == [[pytest.approx(1 / 6, abs=1e-3)]]
    assert "evaluation:" in printed[2]


def test_custom_reward():
    printed = run("custom_reward.py").split("\n\n")
    rows = table("\n".join(printed[0].splitlines()[1:]))
    assert [row[1] for row in rows["sharp.mp4"]] == [1.0, 0.2]  # 4 words; 180 of a limit of 100
    assert math.isnan(rows["fair.mp4"][1][1])
    assert rows["noisy.mp4"][0][2] > rows["noisy.mp4"][1][2]
    assert printed[1].startswith("logged: reward/brevity 0.840, reward/listwise 0.")


@pytest.mark.e2e
def test_verl_rewards():
    pytest.importorskip("verl")
    printed = run("verl_rewards.py")
    assert "pkg://vqathinker_verl.adapters.verl" in printed
    # 4.10 for 3.9: exp(-0.04 / 0.5) = 0.923, and half a format reward.
    assert "score 1.423, mos 3.900, pred_mos 4.100, regression 0.923, format 1.000, parse_failure 0.000" in printed
    assert "score 0.000, mos 3.900, pred_mos nan, regression 0.000, format 0.000, parse_failure 1.000" in printed


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_trl_rewards_train_a_model():
    if not TRL.is_dir():
        pytest.skip("TRL is not installed; `bash tests/run.sh` installs it")
    rows = table("\n".join(run("trl_rewards.py", PYTHONPATH=str(TRL)).strip().splitlines()[-5:]))
    assert set(rows) == {"reward", "regression_reward", "ranking_reward", "format_reward", "parse_failure_rate"}
    for name in ("regression_reward", "ranking_reward", "format_reward"):
        first, last = rows[name][0]
        assert 0 <= first < last
    assert rows["reward"][0][1] > rows["reward"][0][0] + 0.5
    assert rows["parse_failure_rate"][0][1] < rows["parse_failure_rate"][0][0]
