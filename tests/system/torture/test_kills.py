"""Three kills of each process under load; scripts/torture --kills 100 does more."""
import os

from torture.kills import run_kills
from torture.report import Report

SEED = int(os.environ.get("R2SHIM_TORTURE_SEED", "20261126"))


def test_A40_kills_under_load():
    report = run_kills(Report("kills", SEED), ["dual-write", "validate", "r2-primary"], 3, proxies=2, migrators=2)
    print(report.text())
    assert not report.violations, report.violations[:5]
    assert sum(report.kills.values()) == 15 and report.counts["acknowledged"] > 200
