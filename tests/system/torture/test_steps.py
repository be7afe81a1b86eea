"""A bounded run of the steps: lines of scenario, point and fault in the seed's order, as many as the time allows. scripts/torture runs
it for as long as one likes."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import torture
from torture.report import Report
from torture.steps import run_steps

SEED = int(os.environ.get("R2SHIM_TORTURE_SEED", "20261126"))


@pytest.mark.parametrize("phase", ["dual-write", "read-r2", "validate"])
def test_steps(phase):
    report = run_steps(Report("steps", SEED), [phase], 25)
    print(report.text())
    assert not report.violations, report.violations[:5]
    assert sum(report.faults.values()) > 10 and report.kills["proxy"] and report.counts["acknowledged"] > 20


def test_a_broken_promise_fails_the_run(tmp_path):
    """Exit code 1 and the violation in the report: with a proxy that serves what was deleted."""
    done = subprocess.run([sys.executable, "-B", str(Path(torture.__file__).with_name("__main__.py")), "--phases", "validate", "--scenarios",
                           "delete-dav", "--minutes", "0.2", "--seed", "1", "--json", "--keep", str(tmp_path), "--mutant", "ignore-tombstone"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=120)
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["violations"], report
    assert {violation["kind"] for violation in report["violation-list"]} == {"resurrected"}
    assert list(tmp_path.glob("*.jsonl"))
