"""The kernel loses events while the application deletes a file whose name only it knew."""
import errno

import pytest

from harness import eventually
from torture.site import Client, PHASES, Site
from torture.trips import FAIL


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase in ("validate", "r2-primary")])
def test_a_delete_that_nobody_saw_is_not_served_from_r2(phase):
    site = Site(1, 1).start(phase)
    try:
        proxy, key = site.proxy, "documents/gone.bin"
        with Client(site) as http:
            assert http.store("dav/there", b"there")
            ident = http.save("gone.bin", b"here")
            site.converge()
            assert http.see(key) == 200
            before = proxy.from_r2()
            assert http.see("dav/there") == 200 and proxy.from_r2() > before, "read from R2"
            proxy.trips.arm("watch.lose", FAIL, errno.EIO)
            assert http.erase(ident, key) and proxy.trips.fired("watch.lose")
            # All the time, until the census has found the object and it is deleted.
            eventually(lambda: http.see(key) == 404 and site.bucket.head(key) is None, 40, "its object is gone", 0.005)
            before = proxy.from_r2()
            eventually(lambda: http.see("dav/there") == 200 and proxy.from_r2() > before, 20, "R2 is read again", 0.05)
        site.converge()
        found, counts = site.judge()
        assert found == [] and counts["reads"] > 20
    finally:
        site.heal()
        site.stop()
