"""Acceptance cases: Redis goes, lies, forgets, fails over, or is filled with rubbish. tests/acceptance.txt says what must hold."""
import base64
import os
import signal

import pytest

from acceptance import (Writers, at_rest, cpu_seconds, dead_letters, during, get, operations, put, redis_key)
from harness import RedisServer, eventually
from web import dial


def marks(stack):
    return stack.redis.call("HLEN", redis_key(stack, "marks"))


def test_A26_R14_redis_killed_during_a_thousand_puts(make_stack):
    stack = make_stack("webdav", policy="async").start()
    stack.proxy.set_phase("dual-write")
    writers = Writers(stack.proxy, 1000)
    eventually(lambda: writers.done() >= 300, 60, "300 PUTs")
    stack.redis.kill9()
    eventually(lambda: writers.done() >= 500, 60, "200 more without Redis")
    stack.redis.start()
    writers.finish()
    assert sum(writers.statuses.values()) == 1000
    at_rest(stack)
    assert len(stack.bucket.list("k/")) == 1000


def test_A27_R15_flushed_while_clients_write_and_read(make_stack):
    """Where the case speaks of a state of its own, the protocol says: a new epoch, with a quarantine, in which reads are cautious."""
    stack = make_stack("webdav", policy="async", deadline="200ms").start()
    other = stack.add_proxy("other").start()
    for phase in ("dual-write", "backfill", "read-r2"):
        for proxy in (stack.proxy, other):
            proxy.climb(phase)
    assert put(stack.proxy, "known", b"1") == 201
    at_rest(stack)
    before = operations(stack, "PutObject")
    stack.sandbox.faults("write 503\n")
    writers = Writers(stack.proxy, 200, folder="w")
    eventually(lambda: writers.done() >= 100, 60, "100 PUTs")
    epoch = stack.proxy.status()["epoch"]
    # One of them cannot tell what it knows: until it has, the others cannot know what is dirty.
    other.signal(signal.SIGSTOP)
    put(stack.proxy, "known", b"2")
    stack.redis.call("FLUSHALL")
    eventually(lambda: "Redis is not in epoch" in stack.proxy.stderr(), 2, "the alarm")
    eventually(lambda: stack.proxy.status()["epoch"] > epoch, 5, "the new epoch")
    code, out, err = stack.proxy.run("phase", "set", "validate")
    assert code == 4, (out, err)
    assert get(stack.proxy, "known") == b"2"
    writers.finish()
    other.signal(signal.SIGCONT)
    eventually(lambda: other.status()["epoch"] == stack.proxy.status()["epoch"], 10, "the other one hears of it")
    assert get(other, "known") == b"2"
    eventually(lambda: marks(stack) == 201, 20, "all marks are there again")
    assert operations(stack, "PutObject").get("200") == before["200"]
    stack.sandbox.faults()
    at_rest(stack)
    assert stack.bucket.get("known") == b"2" and len(stack.bucket.list("w/")) == 200
    eventually(lambda: stack.proxy.status()["degraded"] == [], 20, "all is well again")


def test_A28_R16_failover_to_a_replica_that_lacks_the_last_writes(make_stack):
    """The link to the replica breaks, 500 writes follow, the first Redis dies, the replica takes its address."""
    stack = make_stack("webdav", policy="async").start()
    stack.proxy.set_phase("dual-write")
    Writers(stack.proxy, 20, folder="before").finish()
    at_rest(stack)
    replica = RedisServer(stack.dir / "replica", tcp=True, options=["--replicaof", "127.0.0.1", stack.redis.port]).start()
    eventually(lambda: "master_link_status:up" in replica.call("INFO", "replication"), 20, "the replica is in step")
    replica.call("REPLICAOF", "NO", "ONE")
    epoch = stack.proxy.status()["epoch"]
    stack.sandbox.faults("write 503\n")
    Writers(stack.proxy, 500, folder="lost").finish()
    assert marks(stack) == 500
    stack.redis.kill9()
    assert replica.call("HLEN", redis_key(stack, "marks")) == 0
    replica.call("CONFIG", "SET", "port", stack.redis.port)
    replica.port, replica.address = stack.redis.port, stack.redis.address
    stack.redis = replica
    eventually(lambda: stack.proxy.status()["epoch"] > epoch, 20, "a new epoch")
    eventually(lambda: marks(stack) == 500, 20, "all marks are there again")
    stack.sandbox.faults()
    at_rest(stack)
    assert len(stack.bucket.list("lost/")) == 500


class Fault:
    """A way in which Redis answers with an error, and what heals it. word: how the answer begins."""
    word = ""

    def __init__(self, stack):
        self.stack, self.redis = stack, stack.redis


class NoScript(Fault):
    word = None		# nothing is wrong: the script is sent again

    def apply(self):
        self.redis.call("SCRIPT", "FLUSH")

    def heal(self):
        pass


class ReadOnly(Fault):
    word = "READONLY"

    def apply(self):
        self.redis.call("REPLICAOF", "127.0.0.1", 1)

    def heal(self):
        self.redis.call("REPLICAOF", "NO", "ONE")


class OutOfMemory(Fault):
    word = "OOM"

    def apply(self):
        self.redis.call("CONFIG", "SET", "maxmemory", "1")

    def heal(self):
        self.redis.call("CONFIG", "SET", "maxmemory", "0")


class NoReplicas(Fault):
    word = "NOREPLICAS"

    def apply(self):
        self.redis.call("CONFIG", "SET", "min-replicas-to-write", "1")

    def heal(self):
        self.redis.call("CONFIG", "SET", "min-replicas-to-write", "0")


class Misconf(Fault):
    """It cannot write its snapshot: where the file should go a folder stands."""
    word = "MISCONF"

    def snapshot(self, status):
        self.redis.call("BGSAVE")
        eventually(lambda: f"rdb_last_bgsave_status:{status}" in self.redis.call("INFO", "persistence"), 10, f"a snapshot: {status}")

    def apply(self):
        (self.redis.dir / "dump.rdb" / "x").mkdir(parents=True)
        self.redis.call("CONFIG", "SET", "save", "3600 1000000")
        self.snapshot("err")

    def heal(self):
        (self.redis.dir / "dump.rdb" / "x").rmdir()
        (self.redis.dir / "dump.rdb").rmdir()
        self.snapshot("ok")


class Busy(Fault):
    """Somebody's script does not end."""
    word = "BUSY"

    def apply(self):
        self.redis.call("CONFIG", "SET", "busy-reply-threshold", "50")
        self.socket = dial(self.redis.address, 60)
        self.socket.sendall(b"*3\r\n$4\r\nEVAL\r\n$17\r\nwhile true do end\r\n$1\r\n0\r\n")

    def heal(self):
        self.redis.call("SCRIPT", "KILL")
        self.socket.close()


class Loading(Fault):
    """It was started again, and takes its time to read what it had."""
    word = "LOADING"

    def apply(self):
        for _ in range(6):
            self.redis.call("EVAL", "for i = 1, 1000 do redis.call('SADD', 'padding', i + ARGV[1]) end", 0, str(os.getpid()))
        for first in range(0, 6000, 1000):
            self.redis.call("EVAL", "for i = 1, 1000 do redis.call('SET', 'padding' .. (i + ARGV[1]), 'x') end", 0, str(first))
        self.redis.kill9()
        self.redis.options += ["--key-load-delay", "1000"]
        self.redis.start(wait=False)

    def heal(self):
        eventually(self.redis.ready, 60, "it has loaded")


FAULTS = [NoScript, ReadOnly, OutOfMemory, NoReplicas, Misconf, Busy, Loading]


def answers_with(stack, word):
    """A write to Redis by anybody is refused with that word."""
    try:
        stack.redis.call("SET", "probe", "x")
    except ValueError as e:
        return str(e).startswith(f"redis: {word}")
    return False


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.lower())
def test_R17_errors_of_redis_cost_nothing(make_stack, fault):
    stack = make_stack("webdav", policy="async").start()
    stack.proxy.set_phase("dual-write")
    assert put(stack.proxy, "a", b"1") == 201
    at_rest(stack)
    fault = fault(stack)
    fault.apply()
    if fault.word:
        eventually(lambda: answers_with(stack, fault.word), 20, f"Redis says {fault.word}")
    assert put(stack.proxy, "a", b"2") == 204 and put(stack.proxy, "b", b"new") == 201
    assert get(stack.proxy, "a") == b"2" and get(stack.proxy, "b") == b"new"
    procs = [stack.proxy, *stack.migrators]
    before = [cpu_seconds(proc) for proc in procs]
    during(1.5)
    used = [after - then for after, then in zip([cpu_seconds(proc) for proc in procs], before)]
    assert max(used) < 0.5, f"{used} s of 1.5: somebody runs in circles"
    assert get(stack.proxy, "a") == b"2"
    fault.heal()
    at_rest(stack)
    assert stack.bucket.get("a") == b"2" and stack.bucket.get("b") == b"new"


def test_A16_a_redis_full_of_rubbish(make_stack):
    """Keys that are none are set aside with a reason, those that R2 cannot hold are passed over, a batch that is none is passed over with
    a line in the log. Entries bear no signature: the protocol has hints only, and a hint can do no more than make somebody look."""
    stack = make_stack("webdav", migrators=0, migrator="concurrency = 4; attempts = 2;").start()
    stack.proxy.set_phase("dual-write")
    assert put(stack.proxy, "a", b"1") == 201
    at_rest(stack)
    outside = stack.dir / "outside"
    outside.write_text("not for R2")
    (stack.media / "link").symlink_to(outside)
    (stack.media / "folder").symlink_to(stack.dir)
    bad = ["../../etc/passwd", "../outside", "/etc/passwd", "a/../../outside", "a\0b", ".r2shim-root", "x/.r2shim-tmp", "", "a//b", "a/./b"]
    unholdable = ["long/" + "/".join(["n" * 200] * 9), b"\xff\xfe".decode(errors="surrogateescape")]
    for key in (*bad, *unholdable, "link", "folder/outside", "none"):
        stack.redis.call("XADD", redis_key(stack, "live"), "*", "k", key)
    passwd = base64.b64encode(b"../../etc/passwd").decode()
    for text in ("", "{", "[]", '{"v":1}', '{"v":2,"keys":[]}', '{"v":1,"keys":[1,{},{"k":"!"},{"k":"%s"}]}' % passwd, "\0\1\2"):
        stack.redis.call("XADD", redis_key(stack, "backfill"), "*", "b", text)
    stack.redis.call("XADD", redis_key(stack, "live"), "*", "other", "field", "and", "more")
    stack.redis.call("HSET", redis_key(stack, "marks"), "../../etc/shadow", "no mark at all")
    before = stack.sandbox.stats()["operations"]
    trace = stack.dir / "trace"
    migrator = stack.add_migrator("m1")
    plain = migrator.command
    migrator.command = lambda: ["/usr/bin/strace", "-D", "-f", "-qq", "-y", "-o", trace, "-e", "trace=openat,open,openat2", "--", *plain()]
    migrator.start()
    eventually(lambda: set(bad) <= set(dead_letters(stack)), 60, "all are set aside")
    assert all(dead_letters(stack).values()), dead_letters(stack)
    eventually(lambda: stack.proxy.status()["queue"]["live"] == stack.proxy.status()["queue"]["backfill"] == 0, 30, "nothing is left")
    lines = trace.read_text().splitlines()
    assert any(f"<{stack.media}>, " in line and '"link"' in line for line in lines), "the trace shows what was opened below the root"
    for line in lines:
        assert f"<{outside}>" not in line and '"..' not in line and "/.." not in line, line
    after = stack.sandbox.stats()["operations"]
    assert before.get("PutObject") == after.get("PutObject") and before.get("DeleteObject") == after.get("DeleteObject")
    assert set(stack.bucket.list()) == {"a"}
    assert "not understood" in migrator.stderr() and "malformed entry" in migrator.stderr()
    # And it works as before.
    (stack.media / "link").unlink()
    (stack.media / "folder").unlink()
    stack.redis.call("DEL", redis_key(stack, "marks"))
    stack.redis.call("XADD", redis_key(stack, "live"), "*", "k", "a")
    stack.write("b", b"2")
    stack.redis.call("XADD", redis_key(stack, "live"), "*", "k", "b")
    eventually(lambda: stack.bucket.head("b"), 20, "the next key is copied")
    migrator.kill9()		# LeakSanitizer does not work in a traced process


def test_R51_not_found_is_not_remembered(make_stack):
    stack = make_stack("webdav").start()
    other = stack.add_proxy("other").start()
    for phase in ("dual-write", "backfill", "read-r2"):
        for proxy in (stack.proxy, other):
            proxy.climb(phase)
    for number in range(20):
        key = f"new/{number}"
        assert get(other, key) is None and get(stack.proxy, key) is None
        assert put(stack.proxy, key, b"there") == 201
        assert get(stack.proxy, key) == b"there"
        assert get(other, key) == b"there"

