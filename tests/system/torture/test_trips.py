"""The fault points themselves: they are counted, they kill, fail, delay and hold, at the n-th passage and at no other."""
import errno
import threading
import time

import pytest

from harness import eventually
from torture.site import Client, Site
from torture.trips import DELAY, FAIL, HOLD, KILL, NEVER, faults_of


@pytest.fixture
def site():
    site = Site(1, 0).start("dual-write")
    yield site
    site.heal()
    site.stop()


def test_counted_and_at_the_nth_only(site):
    trips = site.proxy.trips
    with Client(site) as http:
        trips.arm("step.STORE", FAIL, at=2)		# a step cannot fail: it is counted all the same
        trips.arm("disk.rename", FAIL, errno.ENOSPC, at=2)
        old = trips.hits()
        assert [http.store("own/a", b"%d" % n) for n in range(3)] == [True, False, True]
        new = trips.hits()
        assert new["step.STORE"] - old["step.STORE"] == new["disk.rename"] - old["disk.rename"] == 3
        assert trips.fired("disk.rename") == trips.fired("step.STORE") == 1
        trips.arm("disk.rename", FAIL, errno.ENOSPC, until=NEVER)
        assert [http.store("own/a", b"4"), http.status, http.store("own/a", b"5")] == [False, 507, False]
        trips.disarm()
        assert http.store("own/a", b"6")
    site.converge()
    assert site.judge()[0] == []


def test_kill(site):
    site.proxy.trips.arm("journal.sync", KILL)
    with Client(site) as http:
        assert not http.store("own/a", b"one")		# its intent's
    eventually(lambda: not site.proxy.alive(), 10, "its death")
    assert site.proxy.trips.fired("journal.sync") == 1
    site.heal()
    site.converge()
    assert site.judge()[0] == []


def test_hold_and_delay(site):
    trips, answers = site.proxy.trips, []
    trips.arm("disk.create", HOLD)
    with Client(site) as http:
        thread = threading.Thread(target=lambda: answers.append(http.store("own/a", b"one")))
        thread.start()
        eventually(lambda: trips.fired("disk.create"), 10, "the hold")
        assert not answers and not (site.media / "own/a").exists()
        trips.disarm("disk.create")
        thread.join(10)
        assert answers == [True]
        trips.arm("disk.create", DELAY, 300)
        began = time.monotonic()
        assert http.store("own/a", b"two") and time.monotonic() - began >= 0.3


def test_each_point_has_faults():
    for point in ("journal.sync", "redis.finish.send", "r2.put.answer", "disk.open", "upstream.read", "step.MARK", "watch.lose"):
        assert faults_of(point)
