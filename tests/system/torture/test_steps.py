"""A bounded run of the steps: some lines of scenario, point and fault in the seed's order. scripts/torture runs it for as long as one
likes."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import torture
from torture.report import Report
from torture.scenarios import SCENARIOS
from torture.steps import run_steps

SEED = int(os.environ.get("R2SHIM_TORTURE_SEED", "20261126"))


PHASES = ["dual-write", "read-r2", "validate", "r2-primary"]


@pytest.mark.parametrize("phase", PHASES)
def test_steps(phase):
    """Each phase takes a fourth of the scenarios."""
    only = [scenario.name for scenario in SCENARIOS[PHASES.index(phase)::len(PHASES)]]
    report = run_steps(Report("steps", SEED), [phase], 300, only=only, most=25)
    print(report.text())
    assert not report.violations, report.violations[:5]
    assert sum(report.faults.values()) >= 10 and report.counts["acknowledged"] > 20


def test_a_broken_promise_fails_the_run(tmp_path):
    """Exit code 1 and the violation in the report: with a proxy that serves what was deleted."""
    done = subprocess.run([sys.executable, "-B", str(Path(torture.__file__).with_name("__main__.py")), "--phases", "validate", "--scenarios",
                           "delete-dav", "--minutes", "3", "--first", "--seed", "1", "--json", "--keep", str(tmp_path), "--mutant", "ignore-tombstone"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=300)
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["violations"], report
    assert {violation["kind"] for violation in report["violation-list"]} == {"resurrected"}
    assert list(tmp_path.glob("*.jsonl"))
