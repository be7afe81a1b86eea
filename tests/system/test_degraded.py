"""Redis or R2 away: reads and uploads go on, the status says what is missing, and all heals by itself."""
import pytest

from clients import Load
from harness import eventually


def degraded(stack, word):
    return any(word in str(entry).lower() for entry in stack.proxy.status()["degraded"])


def use(stack, name):
    """An upload, an overwrite, and reads: all must go on."""
    with stack.client() as http:
        answer = http.upload(name, b"first")
        assert answer.status == 201
        url = answer.json()["url"]
        assert http.get(url).body == b"first"
        assert http.overwrite(answer.json()["id"], b"second").status == 200
        assert http.get(url).body == b"second"
        gone = http.upload("gone-" + name, b"gone").json()
        assert http.remove(gone["id"]).status == 200
        assert http.get(gone["url"]).status == 404


@pytest.mark.parametrize("phase", ["dual-write", "validate"])
def test_R14_redis_goes_and_comes_back(make_stack, phase):
    stack = make_stack(migrators=1).start()
    stack.write("old/file.txt", b"old")
    stack.proxy.climb(phase)
    use(stack, "before.txt")
    stack.redis.kill9()
    use(stack, "without.txt")
    with stack.client() as http:
        assert http.get("/media/old/file.txt").body == b"old"
    eventually(lambda: degraded(stack, "redis"), 15, "status: redis degraded")
    stack.redis.start()
    use(stack, "after.txt")
    eventually(lambda: not degraded(stack, "redis"), 30, "status: redis well again")
    stack.proxy.drained(60)
    stack.assert_equal(60)


def test_redis_is_down_at_start(make_stack):
    stack = make_stack(migrators=0).start()
    stack.proxy.set_phase("dual-write")
    stack.proxy.stop()
    stack.redis.stop()
    stack.proxy.start()
    use(stack, "without.txt")
    eventually(lambda: degraded(stack, "redis"), 15, "status: redis degraded")
    stack.redis.start()
    eventually(lambda: not degraded(stack, "redis"), 30, "status: redis well again")
    stack.add_migrator("m1").start()
    stack.proxy.drained(60)
    stack.assert_equal(60)


def test_R15_redis_flushed_under_load(make_stack):
    stack = make_stack(migrators=2).start()
    stack.proxy.climb("validate")
    load = Load(stack.proxy.address, clients=16, pause=0.02).start()
    for _ in range(3):
        goal = load.requests() + 300
        eventually(lambda: load.requests() >= goal or load.problems, 60, "requests")
        stack.redis.call("FLUSHALL")
    goal = load.requests() + 300
    eventually(lambda: load.requests() >= goal or load.problems, 60, "requests")
    report = load.stop()
    assert report["failed"] == report["wrong"] == 0, report
    stack.proxy.drained(60)
    stack.assert_equal(60)


@pytest.mark.parametrize("phase", ["dual-write", "validate"])
def test_r2_goes_and_comes_back(make_stack, phase):
    stack = make_stack(migrators=1, deadline="300ms").start()
    stack.proxy.climb(phase)
    use(stack, "before.txt")
    stack.sandbox.kill9()
    use(stack, "without.txt")
    with stack.client() as http:
        assert http.get("/media/documents/before.txt").body == b"second"
    eventually(lambda: degraded(stack, "r2"), 30, "status: R2 degraded")
    stack.sandbox.start()
    eventually(lambda: not degraded(stack, "r2"), 30, "status: R2 well again")
    stack.proxy.drained(60)
    stack.assert_equal(60)


def test_an_unmounted_media_root_deletes_nothing(make_stack):
    """The sentinel is gone and the root looks empty: not one object is deleted, and R2 still serves."""
    stack = make_stack(migrators=1).start()
    for number in range(20):
        stack.write(f"old/{number}.txt", b"%d" % number)
    stack.proxy.climb("validate")
    hidden = stack.media.with_name("hidden")
    stack.media.rename(hidden)
    stack.media.mkdir()
    with stack.client() as http:
        for number in range(20):
            assert http.get(f"/media/old/{number}.txt").body == b"%d" % number
    eventually(lambda: degraded(stack, "root") or degraded(stack, "sentinel"), 30, "status: the root is suspect")
    assert len(stack.bucket.list("old/")) == 20
    stack.media.rmdir()
    hidden.rename(stack.media)
    eventually(lambda: not (degraded(stack, "root") or degraded(stack, "sentinel")), 60, "status: the root is back")
    stack.assert_equal(30)
