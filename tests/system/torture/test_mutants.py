"""Five builds, each of which breaks one rule of docs/protocol.md. The record must show what each does wrong, and nothing for the same
story with the rule kept. Who cannot see a broken rule proves nothing by finding none."""
import errno
import signal
import threading

import pytest

from harness import eventually
from torture.site import Client, Site
from torture.trips import FAIL, HOLD, NEVER

EITHER = pytest.mark.parametrize("broken", [False, True], ids=["kept", "broken"])


@pytest.fixture
def make_site():
    sites = []

    def make(proxies, migrators, mutant, phase, **options):
        site = Site(proxies, 1, mutant, **options)
        sites.append(site)
        site.start(phase)
        if not migrators:		# it was needed to climb
            site.migrators.pop().stop()
        return site
    yield make
    for site in sites:
        site.heal()
        site.stop()


def verdict(site, broken, must, *may):
    """A broken rule gives a violation of this kind, and perhaps of those; a kept one gives none."""
    found, counts = site.judge()
    print(*found, sep="\n")
    assert counts["acknowledged"], "nothing was checked"
    if broken:
        assert must in {violation.kind for violation in found} <= {must, *may}, found
    else:
        assert found == []


def watch_until_r2_serves(site, proxy, key, broken):
    """Noted reads of a key until one has come from R2 (it is believed clean); with the rule kept it may be that none does."""
    before = proxy.from_r2()
    with Client(site, proxy) as http:
        try:
            eventually(lambda: http.see(key) and proxy.from_r2() > before, 15 if broken else 3, "a read from R2", 0.05)
        except AssertionError:
            assert not broken


@EITHER
def test_intent_after_the_answer(make_site, broken):
    """The journal's disk is stuck. Redis is lost, and the proxy killed after it has answered a DELETE: what did it remember?"""
    site = make_site(1, 0, "late-intent" if broken else None, "validate")
    proxy, key = site.proxy, "dav/deleted"
    with Client(site) as http:
        assert http.store(key, b"here")
        site.converge()
        # The journal's note that the first mark is cleared goes to disk with the next write's.
        assert http.store("dav/another", b"here")
        site.converge()
        site.redis.kill9()
        proxy.trips.arm("journal.write", HOLD, until=NEVER)
        told = []
        thread = threading.Thread(target=lambda: told.append(http.discard(key)))
        thread.start()
        if broken:
            eventually(lambda: told, 10, "an answer before the intent is on disk")
        else:
            eventually(lambda: proxy.trips.fired("journal.write"), 10, "the intent is being written")
            assert not told and (site.media / key).exists(), "nothing is forwarded before it is written"
            proxy.trips.disarm()
            eventually(lambda: told, 10, "the answer")
        proxy.kill9()
        thread.join()
    assert told == [True]
    for path in (site.redis.dir / "appendonlydir").glob("*"):
        path.unlink()
    proxy.trips.disarm()
    site.redis.start()
    proxy.start()
    watch_until_r2_serves(site, proxy, key, broken)
    if not broken:
        site.converge()
    verdict(site, broken, "resurrected", "diverged")


@EITHER
def test_cleared_at_any_gen(make_site, broken):
    """A migrator has copied a file and looked at it again; before it clears the mark the file is written anew."""
    site = make_site(1, 1, "clear-any-gen" if broken else None, "validate")
    proxy, migrator, key = site.proxy, site.migrators[0], "dav/written-twice"
    with Client(site) as http:
        assert http.store(key, b"before")
        site.converge()
        # The migrator gets it by a backfill: R2 lacks it, and the proxy does not know.
        site.bucket.delete(key)
        migrator.trips.arm("reconcile.finish", HOLD, until=NEVER)
        proxy.run("backfill", "start")
        eventually(lambda: migrator.trips.fired("reconcile.finish"), 20, "the migrator at its last step")
        # The proxy's own mirror is kept from repairing it at once: it cannot get the lease before the migrator has let go of it.
        proxy.trips.arm("redis.lease.send", FAIL, errno.ETIMEDOUT, until=NEVER)
        assert http.store(key, b"after")
        migrator.trips.disarm()
        eventually(lambda: migrator.trips.hits().get("redis.finish.answer", 0) > 0, 20, "its last step is done")
        watch_until_r2_serves(site, proxy, key, broken)
        proxy.trips.disarm()
        if not broken:
            site.converge()
    verdict(site, broken, "stale", "lost", "diverged")


@EITHER
def test_deleted_on_any_error(make_site, broken):
    """The disk cannot be read for a while: that is no reason to delete an object."""
    site = make_site(1, 0, "delete-on-error" if broken else None, "dual-write")
    proxy, key = site.proxy, "dav/unreadable"
    with Client(site) as http:
        assert http.store(key, b"one")
        site.converge()
        site.sandbox.faults("write 503\n")
        assert http.store(key, b"two")
        proxy.trips.arm("disk.open", FAIL, errno.EIO, until=NEVER)
        proxy.trips.arm("disk.stat", FAIL, errno.EIO, until=NEVER)
        site.sandbox.faults()
        # Long enough for a reconcile to look, fail and decide: one that has failed looks again.
        eventually(lambda: proxy.trips.fired("disk.open") >= 2 or (broken and site.marks()[0] == 0), 20, "looks at the disk")
        eventually(lambda: site.bucket.head(key) is None, 5, "the object is gone") if broken else None
    gone = site.bucket.head(key) is None
    proxy.trips.disarm()
    if broken:
        site.record.lag = 0
        site.converge(5)
    else:
        assert not gone
        site.converge()
    verdict(site, broken, "lost", "diverged")


@EITHER
def test_taken_over_without_quarantine(make_site, broken):
    """A proxy stands still with its PUT on the wire. The file goes back to the bytes that R2 has, so that the PUT's condition holds
    again; another proxy takes the key over; then the PUT arrives, as late as it may."""
    mutant = "no-quarantine" if broken else None
    site = make_site(2, 0, mutant, "validate", lease="1s", request_limit="4s")
    first, second = site.proxies
    key = "dav/late"
    with Client(site, first) as one, Client(site, second) as two:
        assert one.store(key, b"old")
        site.converge()
        # Only the first one's mirror: the second's watcher sees the file too.
        second.trips.arm("redis.lease.send", FAIL, errno.ETIMEDOUT, until=NEVER)
        site.sandbox.faults("put hold-commit late next 1\n")
        assert one.store(key, b"new")
        eventually(lambda: site.sandbox.stats()["held"], 10, "its PUT is held")
        first.signal(signal.SIGSTOP)
        assert two.store(key, b"old")
        second.trips.disarm()
        # With a quarantine nobody gets the key while that PUT may still arrive: it arrives first.
        if broken:
            eventually(lambda: site.marks()[0] == 0, 20, "the key is taken over, and found equal or copied")
        else:
            eventually(lambda: second.trips.hits().get("redis.lease.answer", 0) >= 3, 20, "the lease is refused")
        site.sandbox.faults("release late\n")
        eventually(lambda: site.bucket.get(key) == b"new", 10, "the late PUT is carried out")
        if broken:
            watch_until_r2_serves(site, second, key, broken)
        first.signal(signal.SIGCONT)
        site.converge()
    verdict(site, broken, "stale", "lost", "diverged")


@EITHER
def test_fallback_that_ignores_tombstones(make_site, broken):
    """R2 cannot delete now; the key is gone all the same."""
    site = make_site(1, 0, "ignore-tombstone" if broken else None, "validate")
    key = "dav/gone"
    with Client(site) as http:
        assert http.store(key, b"here")
        site.converge()
        site.sandbox.faults("delete 503\n")
        assert http.discard(key)
        for _ in range(5):
            http.see(key)
        site.sandbox.faults()
        site.converge()
        assert http.see(key) == 404
    verdict(site, broken, "resurrected")
