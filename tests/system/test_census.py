"""Objects without a file: nothing is deleted without evidence, and what there is evidence for goes."""
from harness import eventually
from history import content
from test_backfill import fill


def census_of(stack):
    return stack.proxy.status()["census"]


def test_over_max_delete_nothing_goes_until_it_is_raised(make_stack):
    """As the census's own message says: raise it, run the backfill again."""
    stack = make_stack(migrator="concurrency = 4; batch-size = 20; max-delete = 1;").start()
    fill(stack, 30)
    stack.proxy.climb("backfill")
    stack.proxy.backfill()
    for number in range(3):
        stack.bucket.put(f"gone/{number}.txt", content("gone", 100))
    stack.proxy.backfill()
    eventually(lambda: census_of(stack)["found"] == 3, 20, "the census finds them")
    assert census_of(stack)["marked"] == 0 and len(stack.bucket.list("gone/")) == 3
    stack.proxy.write_conf(migrator="concurrency = 4; max-delete = 3;")
    stack.migrators[0].stop()
    stack.add_migrator("m2").start()
    stack.proxy.backfill()
    eventually(lambda: not stack.bucket.list("gone/"), 20, "deleted")
    stack.assert_equal()


def test_names_not_in_normal_form_are_no_deletes(make_stack):
    """R2 lists them in their normal form, under which the disk has no file: more of them than max-delete, and one true orphan."""
    stack = make_stack(migrator="concurrency = 4; max-delete = 1;").start()
    for number in range(5):
        stack.write(f"cafe\u0301-{number}.txt", content("nfd", 100 + number))
    stack.proxy.climb("backfill")
    stack.proxy.backfill()
    assert len(stack.bucket.list()) == 5
    stack.bucket.put("gone.txt", b"gone")
    stack.proxy.backfill()
    eventually(lambda: "gone.txt" not in stack.bucket.list(), 20, "the orphan goes")
    assert len(stack.bucket.list()) == 5
    assert stack.proxy.verify()["clean"]


def base_of(path):
    """As the writer of an R2-first object found its file."""
    stat = path.stat()
    return f"{stat.st_ino}.{stat.st_size}.{stat.st_mtime_ns}.{stat.st_ctime_ns}"


def test_verify_tells_what_r2_had_first(make_stack):
    """Written to R2 first, never carried to the disk: with a mark it is owed, without one (Redis and journal were lost) R2 is newer.
    Neither is called different, and a file that was changed since is."""
    stack = make_stack().start()
    for name in ("owed", "newer", "later", "equal"):
        stack.write(f"{name}.txt", name.encode())
    stack.proxy.climb("backfill")
    stack.proxy.backfill()
    stack.proxy.drained()
    stack.migrators[0].stop()
    for name in ("owed", "newer", "later"):
        stack.bucket.put(f"{name}.txt", b"first in R2", {"x-amz-meta-r2shim-base": base_of(stack.media / f"{name}.txt")})
    stack.bucket.put("only.txt", b"first in R2", {"x-amz-meta-r2shim-base": "-"})
    stack.proxy.stop()		# nobody mends
    stack.write("later.txt", b"and then the disk")
    epoch = stack.redis.call("GET", "r2shim:{test}:epoch")
    stack.redis.call("HSET", "r2shim:{test}:marks", "owed.txt", f"1 r p 1 {epoch} {base_of(stack.media / 'owed.txt')}")
    report = stack.proxy.verify("--full")
    found = {finding["key"]: finding["class"] for finding in report["findings"]}
    assert found == {"owed.txt": "owed", "newer.txt": "r2-newer", "only.txt": "r2-newer", "later.txt": "different"}, report
    assert not report["clean"] and report["owed"] == 1 and report["r2-newer"] == 2 and report["equal"] == 1, report
