"""Campaigns of faults under load, judged operation by operation (campaign.py)."""

import subprocess
import sys
from pathlib import Path

CAMPAIGN = Path(__file__).resolve().parent / "campaign.py"


def run(directory, *arguments):
    return subprocess.run([sys.executable, str(CAMPAIGN), "--dir", str(directory), *arguments],
                          capture_output=True, text=True, timeout=400, check=False)


def test_every_history_is_linearizable_while_all_kinds_of_faults_strike(own_networks, tmp_path):
    done = run(tmp_path, "--seconds", "120", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "linearizable; equal databases" in done.stdout


def test_a_campaign_notices_old_values(own_networks, tmp_path):
    """Such as those of a node that answers at once although the others have gone on without it.

    Seed 1 isolates the tail. (At a head, reads wait for the commit of what they show.)
    """
    done = run(tmp_path, "--seconds", "1", "--seed", "1", "--faults", "isolate", "--set",
               "chain.consistency=eventual")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "is not linearizable" in done.stdout and "WRONG" in done.stdout
    assert '"GET"' in (tmp_path / "history.jsonl").read_text(encoding="utf-8")
