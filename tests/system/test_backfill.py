"""Moving what was there before: shared by migrators, whole after a kill, equal for rclone."""
import random
import time

from harness import eventually
from history import content


def fill(stack, count, seed=1):
    """Small files in a few folders, some with names that are hard; returns the number of bytes."""
    rng = random.Random(seed)
    total = 0
    for number in range(count):
        folder = rng.choice(["old", "old/2019", "old/größe", "old/a b", "x+y", "Ünï/cödé/deep/er"])
        body = content(f"{seed}-{number}", rng.choice([0, 1, 300, 2000, 9000, 70000]))
        stack.write(f"{folder}/{number:05d} {rng.choice(['plain', 'ß', '日本', '%20', 'q?#', '&;'])}.bin", body)
        total += len(body)
    return total


def done_keys(stack):
    return {m["name"]: m["keys"] for m in stack.proxy.status()["migrators"]}


def test_two_migrators_share_the_work(make_stack):
    stack = make_stack(migrators=2, migrator="concurrency = 4; batch-size = 20; max-delete = 100;").start()
    total = fill(stack, 600)
    stack.sandbox.faults("put delay 30ms\n")
    stack.proxy.climb("backfill")
    stack.proxy.backfill()
    eventually(lambda: sum(done_keys(stack).values()) == 600, 10, "both have told of all keys")
    shares = done_keys(stack)
    assert set(shares) == {"m1", "m2"} and min(shares.values()) > 0, shares
    assert stack.differences() == []
    status = stack.proxy.status()
    assert status["backfill"]["files"] == 600 and status["backfill"]["bytes"] == total and status["backfill"]["failed"] == 0
    assert status["queue"]["dead"] == 0
    assert stack.proxy.verify()["clean"]


def test_a_migrator_killed_in_the_middle(make_stack):
    stack = make_stack(migrators=2, migrator="concurrency = 4; batch-size = 20; max-delete = 100;").start()
    fill(stack, 600)
    stack.sandbox.faults("put delay 100ms\n")
    stack.proxy.climb("backfill")
    stack.proxy.backfill_start()
    eventually(lambda: min([*done_keys(stack).values(), 0][:2]) > 0, 60, "both migrators at work")
    stack.migrators[0].kill9()
    there = len(stack.bucket.list())
    assert 0 < there < 600, "killed too late for this test"
    eventually(lambda: stack.proxy.status()["backfill"]["state"] == "complete", 120, "backfill complete", 0.1)
    assert stack.differences() == []
    assert stack.proxy.verify()["clean"]


def test_both_migrators_killed_and_new_ones(make_stack):
    """Nobody is left for a while; whoever comes next ends the work."""
    stack = make_stack(migrators=2, migrator="concurrency = 4; batch-size = 20; max-delete = 100;").start()
    fill(stack, 300)
    stack.sandbox.faults("put delay 20ms\n")
    stack.proxy.climb("backfill")
    stack.proxy.backfill_start()
    eventually(lambda: len(stack.bucket.list()) > 50, 60, "some work done")
    for migrator in stack.migrators:
        migrator.kill9()
    stack.add_migrator("m3").start()
    eventually(lambda: stack.proxy.status()["backfill"]["state"] == "complete", 120, "backfill complete", 0.1)
    assert stack.differences() == []


def test_rclone_finds_no_difference(make_stack):
    """With a multipart object, an empty one, and names of all kinds."""
    stack = make_stack(migrators=2, r2='multipart-threshold = "5MiB"; part-size = "5MiB";').start()
    fill(stack, 200)
    stack.write("big/parts.bin", content("parts", 12_345_678))
    stack.proxy.climb("backfill")
    stack.proxy.backfill()
    code, report = stack.rclone_check()
    assert code == 0 and "0 differences found" in report and "could not be checked" not in report, report
    assert stack.bucket.list("big/")["big/parts.bin"][1].endswith("-3")
    # The check would have seen one.
    stack.bucket.put("big/extra", b"x")
    code, report = stack.rclone_check()
    assert code != 0 and "1 differences found" in report, report
    stack.bucket.delete("big/extra")


def test_verify_finds_what_is_planted(make_stack):
    stack = make_stack().start()
    fill(stack, 30)
    stack.proxy.climb("backfill")
    stack.proxy.backfill()
    keys = sorted(stack.bucket.list())
    stack.bucket.put(keys[0], b"other")
    stack.bucket.delete(keys[1])
    stack.bucket.put("extra/object", b"x")
    report = stack.proxy.verify()
    assert not report["clean"]
    assert (report["different"], report["missing"], report["extra"]) == (1, 1, 1), report
    assert stack.proxy.run("phase", "set", "read-r2")[0] == 4


def test_headers_of_another_program_are_mended(make_stack):
    """Equal bytes: the listing says that nothing is to do, verify says otherwise."""
    stack = make_stack().start()
    fill(stack, 30)
    stack.proxy.climb("backfill")
    stack.proxy.backfill()
    key = sorted(stack.bucket.list())[0]
    seen = (stack.media / key).stat().st_ctime
    eventually(lambda: time.time() > seen + 3, 10, "the object is surely younger than the file")
    stack.bucket.put(key, (stack.media / key).read_bytes())
    stack.proxy.backfill()
    assert stack.proxy.verify()["metadata"] == 1
    stack.proxy.insist("backfill", "start", "--all", timeout=20)
    eventually(lambda: stack.proxy.status()["backfill"]["state"] == "complete", 60, "backfill complete", 0.1)
    assert stack.proxy.verify()["clean"]


def test_backfill_does_not_disturb_writes(make_stack):
    """Uploads and overwrites while the copiers run: never older bytes over newer ones."""
    from clients import Load
    stack = make_stack(migrators=2).start()
    fill(stack, 300)
    stack.sandbox.faults("put delay 5ms\n")
    load = Load(stack.proxy.address, clients=16, pause=0.02)
    load.add_tree(stack.media)
    stack.proxy.climb("dual-write")
    load.start()
    stack.proxy.climb("backfill")
    stack.proxy.backfill()
    report = load.stop()
    assert not report["failed"] and not report["wrong"], report
    stack.proxy.drained()
    assert stack.differences() == []
