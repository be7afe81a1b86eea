"""Acceptance cases: migrators that die, stop, or meet a key that kills them or that they may not read. tests/acceptance.txt says what
must hold."""
import collections
import os
import re
import signal
import time

import pytest

from acceptance import at_rest, dead_letters, get, held, put, redis_key, release, site
from harness import eventually
from test_acceptance_writes import MATRIX_SECONDS, killer, leftovers, made_of

LEASES = dict(lease="1s", request_limit="1s")


def look(stack, key):
    """Somebody looks at the key: a hint in the queue, as a read that R2 could not serve leaves it."""
    stack.redis.call("XADD", redis_key(stack, "live"), "*", "k", key)


def copied(stack, key):
    eventually(lambda: stack.bucket.head(key) is not None, 30, f"{key} in R2", 0.005)


def lives(migrator):
    """SIGHUP makes it say a line, and no process says anything after SIGKILL: what was killed a moment ago may not be dead yet."""
    said = migrator.stderr().count("SIGHUP")
    migrator.signal(signal.SIGHUP)
    eventually(lambda: not migrator.alive() or migrator.stderr().count("SIGHUP") > said, 20, "an answer, or its death", 0.005)
    return migrator.stderr().count("SIGHUP") > said


def test_A24_R18_a_migrator_is_killed_at_every_system_call_of_an_upload(make_stack):
    """The next one begins at once with another key, and takes over what the dead ones left when their leases and last requests are over."""
    stack = site(make_stack, migrators=0, migrator="concurrency = 8; attempts = 100;", **LEASES).start()
    stack.proxy.set_phase("dual-write")
    for number in range(200):
        stack.write(f"k/{number}", b"%d\n" % number * 500)
    at_rest(stack)		# the proxy has copied them
    for key in stack.bucket.list("k/"):
        stack.bucket.delete(key)
    migrator = stack.add_migrator("m0").start()

    def copy_one(key):
        look(stack, key)
        copied(stack, key)
    copy_one("k/0")
    parts = made_of(stack, migrator, lambda: copy_one("k/1"))
    assert len(parts) >= 3, parts
    kills, number, n = collections.Counter(), 1, 0
    end, left = time.monotonic() + MATRIX_SECONDS, list(parts)
    while left and (n < 2 or time.monotonic() < end):		# the n-th of each, for n = 1, 2, ...
        n += 1
        for name in list(left):
            number += 1
            strace = killer(stack, migrator, name, n)
            look(stack, f"k/{number}")
            eventually(lambda: not strace.alive() or stack.bucket.head(f"k/{number}"), 30, "copied, or dead", 0.005)
            strace.detach()
            if lives(migrator):
                left.remove(name)		# passed untouched
                continue
            migrator.kill9()
            kills[name] += 1
            migrator = stack.add_migrator(f"m{sum(kills.values())}").start()
    print(f"{parts}: killed {sum(kills.values())} times: {dict(kills)}; not run to their end: {left}")
    assert sum(kills.values()) >= len(parts)
    for key in range(number + 1):
        copied(stack, f"k/{key}")
    assert stack.redis.call("HLEN", redis_key(stack, "attempts")) == 0 and dead_letters(stack) == {}
    eventually(lambda: stack.proxy.status()["queue"]["live"] == 0, 60, "nothing is left of the dead ones")
    r2 = stack.in_r2()
    assert all(r2[f"k/{key}"] == b"%d\n" % key * 500 for key in range(number + 1)) and leftovers(stack) == []


@pytest.mark.parametrize("by", ["live", "batch"])
def test_R20_a_key_that_kills_its_worker(make_stack, by):
    """Whoever reads that file dies. How often it was handed out is counted before the work; beyond `attempts` it is set aside, with the
    reason; of a batch, each key is tried by itself, and the others are copied."""
    stack = site(make_stack, migrators=0, migrator="concurrency = 4; attempts = 2;", **LEASES).start()
    stack.proxy.climb("backfill")
    keys = [f"k/{number}" for number in range(6)]
    for key in keys:
        stack.write(key, key.encode() * 100)
    at_rest(stack)
    for key in keys:
        stack.bucket.delete(key)
    bad = "k/3"
    migrator = stack.add_migrator("m1")
    plain = migrator.command
    migrator.command = lambda: ["/usr/bin/strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", stack.media / bad, "-e", "trace=pread64",
                                "-e", "inject=pread64:signal=KILL", "--", *plain()]
    deaths = 0
    if by == "live":
        look(stack, bad)
    else:
        migrator.start()		# somebody has to cut the tree into batches
        stack.proxy.backfill_start()
    while bad not in dead_letters(stack):
        if not migrator.alive():
            migrator.forget_dead()
            migrator.start(wait=False)
        eventually(lambda: not migrator.alive() or bad in dead_letters(stack), 30, "dead, or set aside")
        deaths += not migrator.alive()
        assert deaths < 12, "it kills on and on"
    why = dead_letters(stack)[bad]
    print(f"{deaths} deaths: {why}")
    assert "died" in why and deaths >= (2 if by == "live" else 4)
    for key in keys:
        if key != bad:
            look(stack, key) if by == "live" else None
            copied(stack, key)
    assert stack.bucket.head(bad) is None and set(dead_letters(stack)) == {bad} and migrator.alive()
    assert bad in stack.proxy.run("status")[1]
    migrator.kill9()		# LeakSanitizer does not work in a traced process


@pytest.mark.parametrize("written", ["by a PUT", "past the proxy"])
def test_A25_R19_a_migrator_is_stopped_beyond_its_lease(make_stack, written):
    """Its PUT is held in R2, its lease and the quarantine run out, others copy the newer bytes; then it goes on, and so does its PUT."""
    stack = site(make_stack, migrators=1, **LEASES).start()
    stack.proxy.climb("backfill")
    stack.write("k", b"version 1")
    at_rest(stack)
    stack.bucket.delete("k")
    stack.sandbox.faults("put hold x next 1 key=k")
    look(stack, "k")
    held(stack)
    first = stack.migrators[0]
    first.signal(signal.SIGSTOP)
    stack.add_migrator("m2").start()
    if written == "by a PUT":
        assert put(stack.proxy, "k", b"version 2") == 204
    else:
        stack.write("k", b"version 2")
    eventually(lambda: stack.bucket.head("k") and stack.bucket.get("k") == b"version 2", 30, "the newer bytes are there")
    first.signal(signal.SIGCONT)
    release(stack)
    at_rest(stack)
    assert stack.bucket.get("k") == b"version 2" == get(stack.proxy, "k")
    assert dead_letters(stack) == {}


def test_R41_a_file_that_may_not_be_read(make_stack):
    """Proxy and migrator run without the right to read everything, as they should. What they may not read is set aside, and named; it does
    not hold up the others, and is copied when it may be read."""
    stack = site(make_stack, migrators=0, migrator="concurrency = 4; attempts = 2;")
    stack.start(proxy=False)

    def weaken(proc):
        plain = proc.command
        proc.command = lambda: ["/usr/bin/setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--", *plain()]
        return proc
    stack.proxy.run("init", check=True)
    if os.geteuid() == 0:
        weaken(stack.proxy)
    stack.proxy.start()
    stack.proxy.set_phase("dual-write")
    stack.write("good", b"good")
    stack.write("bad", b"bad")
    os.chmod(stack.media / "bad", 0)
    migrator = stack.add_migrator("m1")
    (weaken(migrator) if os.geteuid() == 0 else migrator).start()
    look(stack, "bad")
    eventually(lambda: "bad" in dead_letters(stack), 60, "it is set aside")
    assert re.search("denied|permission", dead_letters(stack)["bad"], re.IGNORECASE), dead_letters(stack)
    copied(stack, "good")
    assert stack.bucket.head("bad") is None
    code, out, err = stack.proxy.run("phase", "set", "backfill")
    assert code == 4 and "dead-letters" in out + err, (code, out, err)
    assert "bad" in stack.proxy.run("status")[1]
    os.chmod(stack.media / "bad", 0o644)
    stack.proxy.run("backfill", "retry-dead", check=False)
    look(stack, "bad")
    copied(stack, "bad")
    at_rest(stack)
