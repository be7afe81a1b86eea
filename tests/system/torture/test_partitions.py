"""One proxy of two cut off from Redis, from R2, from both, in network namespaces; scripts/torture --netns does it for longer."""
import json
import os
from pathlib import Path

import pytest

from torture import netns

SEED = int(os.environ.get("R2SHIM_TORTURE_SEED", "20261126"))


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
@pytest.mark.parametrize("phases", ["read-r2,validate", "validate,r2-primary"])
def test_partitions(phases):
    """One is in the later phase already, the other in the earlier one; three migrators."""
    code, out = netns.run_isolated([Path(netns.__file__).with_name("__main__.py"), "--netns", "--rounds", "1", "--phases", phases,
                                    "--seed", SEED, "--json"])
    report = json.loads(out)
    print(report)
    assert code == 0 and report["violations"] == 0, report["violation-list"][:5]
    assert report["faults-injected"] == 3 and report["acknowledged-writes-checked"] > 100
