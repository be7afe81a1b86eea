"""What happens to the disk behind the proxy's back: renames, moves, locks, lost events, limits, hard links, symlinks; and a disk that goes
away or cannot be read. No migrator runs where the watcher alone has to know."""
import contextlib
import fcntl
import os
import re
import signal
import subprocess
import threading

import pytest

from harness import Strace, eventually
from history import content
from web import SiteClient



def dual_write(make_stack, **options):
    stack = make_stack(**{"migrators": 0, **options}).start()
    stack.proxy.set_phase("dual-write")
    stack.proxy.watched()
    return stack


def fence(stack, name="fence"):
    """A file that was written last and is in R2: whatever the watcher was told before it has been acted on."""
    stack.write(name, os.urandom(8))
    want = (stack.media / name).read_bytes()
    eventually(lambda: stack.bucket.head(name) is not None and stack.bucket.get(name) == want, 30, f"{name} in R2")


def requests(stack, operation):
    """How many such requests R2 has had, whatever it answered."""
    return sum(stack.sandbox.stats()["operations"].get(operation, {}).values())


# Renames and moves.

def test_R3_renames_of_files_and_folders(make_stack):
    stack = dual_write(make_stack)
    for key in ("a/1.txt", "a/deep/er/2.txt", "a/deep/3.txt", "b/4.txt", "5.txt"):
        stack.write(key, content(key, 1000))
    stack.assert_equal()
    media = stack.media
    (media / "5.txt").rename(media / "b/5.txt")
    (media / "a").rename(media / "c")			# a folder, with all below
    (media / "c/deep/er").rename(media / "b/er")	# a part of it, to elsewhere
    (media / "b/4.txt").replace(media / "c/1.txt")	# over another file
    stack.assert_equal()
    (media / "c").rename(media / "x")			# the watches went along
    (media / "x/deep/3.txt").write_bytes(b"written under the new name")
    stack.assert_equal()
    assert set(stack.in_r2()) == {"b/5.txt", "b/er/2.txt", "x/1.txt", "x/deep/3.txt"}
    stack.proxy.drained()


def test_R3_a_folder_moved_out_and_another_in(make_stack):
    stack = dual_write(make_stack)
    for number in range(30):
        stack.write(f"out/{number % 3}/{number}.txt", content("out", 100 + number))
    stack.write("stays.txt", b"stays")
    stack.assert_equal()
    ready = stack.dir / "ready"
    (ready / "sub").mkdir(parents=True)
    for number in range(30):
        (ready / "sub" / f"{number}.txt").write_bytes(content("in", 100 + number))
    (stack.media / "out").rename(stack.dir / "out")
    ready.rename(stack.media / "in")
    stack.assert_equal()
    assert len(stack.bucket.list("in/sub/")) == 30 and not stack.bucket.list("out/")
    stack.proxy.drained()


def test_R3_move_through_a_webdav_origin(make_stack):
    """MOVE names two keys, and the URL one of them; a collection is a folder."""
    stack = make_stack("webdav", migrators=0).start()
    stack.proxy.set_phase("dual-write")
    stack.proxy.watched()
    with SiteClient(stack.proxy.address) as http:
        for name in ("d/1.txt", "d/2.txt", "3.txt"):
            assert http.put(f"/media/{name}", content(name, 500)).status == 201
        assert http.request("MOVE", "/media/3.txt", headers={"Destination": "http://localhost/media/d/3.txt"}).status == 204
        assert http.request("MOVE", "/media/d/", headers={"Destination": "http://localhost/media/e/"}).status == 201
    stack.assert_equal()
    assert set(stack.in_r2()) == {"e/1.txt", "e/2.txt", "e/3.txt"}


# Unfinished files.

@pytest.mark.parametrize("policy", ["async", "sync"])
def test_R4_A34_half_a_file_under_a_lock_is_not_sent(make_stack, policy):
    """As Django writes small uploads: into the final name, under an exclusive flock."""
    stack = dual_write(make_stack, policy=policy, deadline="1s")
    path, whole = stack.media / "half.bin", content("half", 100_000)
    puts = requests(stack, "PutObject")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.write(fd, whole[:50_000])
    fence(stack, "fence1")		# created, not closed
    os.close(os.open(path, os.O_WRONLY))	# closed after writing, by another; the lock stands
    fence(stack, "fence2")
    with stack.client() as http:	# an upload's answer does not wait for it
        assert http.upload("other.txt", b"other").status == 201
    assert stack.bucket.head("half.bin") is None
    os.write(fd, whole[50_000:])
    os.close(fd)
    eventually(lambda: stack.bucket.head("half.bin") is not None, 30, "the finished file in R2")
    assert stack.bucket.get("half.bin") == whole
    stack.proxy.drained()
    assert requests(stack, "PutObject") - puts == 4	# each file once


# The same size and time.

def rewrite(path, body):
    """Other bytes, the old size and mtime: only the ctime tells."""
    before = path.stat()
    assert before.st_size == len(body)
    path.write_bytes(body)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_R29_the_mtime_does_not_tell(make_stack):
    stack = dual_write(make_stack)
    path = stack.media / "same.txt"
    stack.write("same.txt", b"one")
    os.utime(path, (1, 1))	# long past
    stack.assert_equal()
    stack.proxy.drained()
    rewrite(path, b"two")
    stack.assert_equal()
    # And while nobody watches: found by the crawl after the start.
    stack.proxy.drained()
    stack.proxy.stop()
    rewrite(path, b"six")
    stack.proxy.start()
    stack.assert_equal()


# Lost events, too few watches.

def queue_limit():
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as f:
        return int(f.read())


def test_R36_A36_the_queue_overflows(make_stack):
    """The watcher's reader stands still until the kernel drops events; then a hundred files, a filled folder, a removed one."""
    stack = dual_write(make_stack)
    stack.write("gone/old.txt", b"old")
    stack.write("noise", b"x")
    stack.assert_equal()
    folder = stack.dir / "filled"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file.txt").write_bytes(b"filled")
    stack.proxy.signal(signal.SIGSTOP)
    try:
        for number in range(queue_limit() // 4 + 100):	# four events each
            (stack.media / "noise").rename(stack.media / "noise2")
            (stack.media / "noise2").rename(stack.media / "noise")
        for number in range(100):
            (stack.media / f"{number}.txt").write_bytes(content(f"{number}", 100))
        folder.rename(stack.media / "in")
        (stack.media / "new").mkdir()
        (stack.media / "new" / "file.txt").write_bytes(b"new")
    finally:
        stack.proxy.signal(signal.SIGCONT)
    eventually(lambda: stack.proxy.metrics().get("r2shim_watch_overflows_total", 0) == 1, 20, "the overflow is counted")
    stack.assert_equal(60)
    assert stack.bucket.get("in/deep/file.txt") == b"filled"
    # The new folders are watched.
    (stack.media / "new" / "later.txt").write_bytes(b"later")
    (stack.media / "in" / "deep" / "later.txt").write_bytes(b"later")
    stack.assert_equal()
    with stack.client() as http:
        assert http.upload("after.txt", b"after").status == 201 and stack.bucket.get("documents/after.txt") == b"after"


def test_R36_an_upload_during_the_overflow_is_not_lost(make_stack):
    stack = dual_write(make_stack)
    stack.write("noise", b"x")
    stack.assert_equal()
    answers = []
    with stack.client() as http:
        assert http.upload("warm.txt", b"warm").status == 201
        stack.proxy.signal(signal.SIGSTOP)
        try:
            for number in range(queue_limit() // 4 + 100):
                (stack.media / "noise").rename(stack.media / "noise2")
                (stack.media / "noise2").rename(stack.media / "noise")
            thread = threading.Thread(target=lambda: answers.append(http.upload("lost.txt", b"lost")))
            thread.start()
        finally:
            stack.proxy.signal(signal.SIGCONT)
        thread.join()
    assert answers[0].status == 201 and stack.bucket.get("documents/lost.txt") == b"lost"


LIMITED = 'echo 40 > /proc/sys/user/max_inotify_watches && exec "$@"'


def test_R36_more_folders_than_watches(make_stack):
    """In a user namespace with 40 watches: said by check and by status, and a rescan finds what was not seen."""
    stack = make_stack(migrators=0).start(proxy=False)
    for number in range(60):
        stack.write(f"{number}/old.txt", b"old")
    proxy = stack.proxy
    proxy.run("init", check=True)
    unlimited = proxy.command()
    command = ["/usr/bin/unshare", "-Ur", "/bin/sh", "-c", LIMITED, "sh"]
    proxy.command = lambda: [*command, *unlimited]
    proxy.start()
    done = subprocess.run([*command, proxy.binary, "check", "-c", proxy.conf, "--online"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and re.search(r"^watcher +FAILED: 61 directories, but user.max_inotify_watches = 40: "
                                              r"sysctl -w user.max_inotify_watches=122$", done.stdout, re.MULTILINE), done.stdout
    code, out, _ = proxy.run("check", "--online")
    assert code == 0 and re.search(r"^watcher +ok: 61 directories", out, re.MULTILINE), out
    proxy.set_phase("dual-write")
    proxy.watched()
    status = proxy.status()
    assert any("40 of 61 directories are watched" in text and "sysctl -w" in text for text in status["degraded"]), status["degraded"]
    for number in range(60):
        stack.write(f"{number}/new.txt", b"new")
    (stack.media / "30").rename(stack.media / "thirty")
    eventually(lambda: sum("new.txt" in key for key in stack.bucket.list()) == 60, 90, "the rescan finds what no event told", 0.2)


# Links.

def test_R39_hard_links(make_stack):
    """Objects of their own; a write through one name has an event under that name only, and both are right in the end."""
    stack = dual_write(make_stack)
    stack.write("one.txt", b"first")
    (stack.media / "d").mkdir()
    os.link(stack.media / "one.txt", stack.media / "d/two.txt")
    stack.assert_equal()
    assert set(stack.in_r2()) == {"one.txt", "d/two.txt"}
    (stack.media / "one.txt").write_bytes(b"through one name")	# in place: the inode stays
    stack.assert_equal(30)
    assert stack.bucket.get("d/two.txt") == b"through one name"
    (stack.media / "one.txt").unlink()
    stack.assert_equal()
    assert stack.in_r2() == {"d/two.txt": b"through one name"}


def test_R40_symlinks(make_stack):
    """In, out, dangling, to a folder: none is followed, copied or watched; a removed link deletes nothing."""
    stack = make_stack().start()
    media = stack.media
    stack.write("real/file.txt", b"real")
    outside = stack.dir / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(b"secret")
    for name, target in (("in.txt", "real/file.txt"), ("out.txt", outside / "secret.txt"), ("dangling", "nowhere"),
                         ("folder", "real"), ("outfolder", outside)):
        (media / name).symlink_to(target)
    stack.proxy.climb("backfill")
    stack.proxy.backfill()
    assert stack.in_r2() == {"real/file.txt": b"real"}
    assert stack.proxy.admin("/status").json()["watched_dirs"] == 2
    (outside / "secret.txt").write_bytes(b"more")
    (media / "late.txt").symlink_to("real/file.txt")
    (media / "in.txt").unlink()
    (media / "folder").unlink()
    fence(stack)
    assert set(stack.in_r2()) == {"real/file.txt", "fence"}
    with stack.client() as http:
        assert http.get("/media/out.txt").status == 404 and http.get("/media/folder/file.txt").status == 404


# A disk that goes away.

@contextlib.contextmanager
def mounted(image, folder):
    subprocess.run(["/usr/bin/mount", "-o", "loop", str(image), str(folder)], check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run(["/usr/bin/umount", "-l", str(folder)], check=False, timeout=60)


def suspect(stack):
    return stack.proxy.metrics()["r2shim_media_root_suspect"] == 1


def assert_alert(stack):
    """Log, metric, status and readiness say it."""
    eventually(lambda: suspect(stack), 15, "the metric")
    status = stack.proxy.status()
    assert any("media root" in text for text in status["degraded"]), status["degraded"]
    assert stack.proxy.admin("/ready").status == 503
    assert "nothing is deleted" in stack.proxy.stderr()


def assert_well(stack):
    eventually(lambda: not suspect(stack) and stack.proxy.admin("/ready").status == 200, 15, "the media root is there again")
    assert stack.proxy.status()["degraded"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_A30_R21_the_volume_is_unmounted(make_stack):
    """A thousand keys; umount -l in the middle of backfill and verify: no delete, an alert, reads from R2; mounted again all is well."""
    stack = make_stack(migrator="concurrency = 4; batch-size = 50; max-delete = 1000000;", media_extra='min-free = "1MiB";')
    image = stack.dir / "disk.img"
    image.touch()
    os.truncate(image, 64 << 20)
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", str(image)], check=True, timeout=60)
    with contextlib.ExitStack() as mounts:
        mounts.enter_context(mounted(image, stack.media))
        stack.start()
        for number in range(1000):
            stack.media.joinpath(f"{number % 10}").mkdir(exist_ok=True)
            (stack.media / f"{number % 10}/{number}.txt").write_bytes(content(f"{number}", 200))
        stack.proxy.climb("read-r2")
        deletes = requests(stack, "DeleteObject")
        stack.proxy.backfill_start()
        verify = threading.Thread(target=lambda: stack.proxy.run("verify", "--full"))
        verify.start()
        subprocess.run(["/usr/bin/umount", "-l", str(stack.media)], check=True, timeout=60)
        assert not list(stack.media.iterdir())
        assert_alert(stack)
        verify.join()
        eventually(lambda: stack.migrators[0].stderr().count("does not show its sentinel; it goes on") > 1, 60, "the backfill stands still")
        with stack.client() as http:
            for number in range(0, 1000, 50):
                assert http.get(f"/media/{number % 10}/{number}.txt").body == content(f"{number}", 200)
        assert len(stack.bucket.list()) == 1000 and requests(stack, "DeleteObject") == deletes
        mounts.enter_context(mounted(image, stack.media))
        assert_well(stack)
        eventually(lambda: stack.proxy.status()["backfill"]["state"] == "complete", 60, "the backfill goes on")
        (stack.media / "again.txt").write_bytes(b"again")
        eventually(lambda: stack.bucket.head("again.txt") is not None, 30, "a write after the return")
        assert requests(stack, "DeleteObject") == deletes
        stack.assert_equal()
        stack.stop()


@pytest.mark.parametrize("what", ["emptied", "another site's", "replaced"])
def test_R21_another_root(make_stack, what):
    """The root's marker is gone, or the folder is another one: nothing is absent, nothing is deleted, and it is said."""
    stack = make_stack().start()
    for number in range(40):
        stack.write(f"{number}.txt", content(f"{number}", 100))
    stack.proxy.climb("backfill")
    stack.proxy.backfill()
    deletes, aside = requests(stack, "DeleteObject"), stack.dir / "aside"
    marker = stack.media / ".r2shim-root"
    if what == "emptied":	# as a copy that was not finished
        marker.rename(stack.dir / "marker")
        for number in range(40):
            (stack.media / f"{number}.txt").rename(stack.dir / f"{number}.txt")
    elif what == "another site's":
        text = marker.read_text()
        marker.write_text("another\n")
    else:
        stack.media.rename(aside)
        stack.media.mkdir()
        marker.write_text((aside / ".r2shim-root").read_text())
    assert_alert(stack)
    stack.proxy.run("backfill", "start")
    stack.proxy.run("verify", "--full")
    with stack.client() as http:
        assert http.upload("refused.txt", b"x").status == 503
    assert len(stack.bucket.list()) == 40 and requests(stack, "DeleteObject") == deletes
    if what == "emptied":
        for number in range(40):
            (stack.dir / f"{number}.txt").rename(stack.media / f"{number}.txt")
        (stack.dir / "marker").rename(marker)
    elif what == "another site's":
        marker.write_text(text)
    else:
        for path in stack.media.iterdir():
            path.unlink()
        stack.media.rmdir()
        aside.rename(stack.media)
    assert_well(stack)
    stack.assert_equal(30)
    assert requests(stack, "DeleteObject") == deletes


# Errors are not absence.

def unopenable(stack, proc, path, error):
    """Makes the opening of one file fail in a running process."""
    return Strace(stack.dir / f"strace-{proc.name}", proc, "-e", "trace=openat2", "-e", f"inject=openat2:error={error}", "-P", path).start()


@pytest.mark.parametrize("error", ["EIO", "EACCES", "ESTALE", "EMFILE"])
def test_R22_an_error_is_not_absence(make_stack, error):
    """A file that R2 has cannot be opened when its write is looked at: no delete, the old object stays, and it goes on afterwards."""
    stack = dual_write(make_stack)
    stack.write("d/file.txt", b"one")
    stack.assert_equal()
    stack.proxy.drained()
    deletes = requests(stack, "DeleteObject")
    strace = unopenable(stack, stack.proxy, "d/file.txt", error)
    stack.write("d/file.txt", b"two")
    eventually(lambda: "d/file.txt cannot be looked at" in stack.proxy.stderr(), 20, "the error is said")
    fence(stack)
    assert stack.bucket.get("d/file.txt") == b"one"
    strace.detach()
    stack.assert_equal()
    assert requests(stack, "DeleteObject") == deletes


def test_A31_a_file_that_cannot_be_read(make_stack):
    """Its job fails again and again and is set aside; no delete; the gate to read-r2 counts it."""
    stack = make_stack(migrator="concurrency = 4; attempts = 2; max-delete = 1000000;")
    stack.write("d/bad.txt", b"bad")
    stack.write("d/good.txt", b"good")
    stack.start()
    straces = [unopenable(stack, tool, "d/bad.txt", "EIO") for tool in (stack.proxy, *stack.migrators)]
    stack.proxy.climb("backfill")
    deletes = requests(stack, "DeleteObject")	# the preflight's
    stack.proxy.backfill_start()
    eventually(lambda: stack.proxy.status()["queue"]["dead"] == 1, 60, "the file is set aside")
    assert stack.in_r2() == {"d/good.txt": b"good"}
    assert requests(stack, "DeleteObject") == deletes
    code, out, err = stack.proxy.run("phase", "set", "read-r2")
    assert code == 4 and "dead" in out + err, out + err
    for strace in straces:
        strace.detach()


# A scan beside writers.

def test_R53_no_false_alarm_while_files_are_written(make_stack):
    """Ten keys are written all the time, through the proxy and behind its back, while verify compares everything, again and again."""
    stack = make_stack().start()
    for number in range(100):
        stack.write(f"{number}.txt", content(f"{number}", 100))
    stack.proxy.climb("backfill")
    stack.proxy.backfill()
    stopping, written = threading.Event(), []

    def through():
        with stack.client() as http:
            ident = http.upload("hot.txt", b"0").json()["id"]
            while not stopping.is_set():
                assert http.overwrite(ident, os.urandom(20)).status == 200
                written.append(1)

    def behind():
        number = 0
        while not stopping.wait(0.02):
            number += 1
            new = stack.dir / "behind"
            new.write_bytes(os.urandom(30))
            new.rename(stack.media / f"{number % 10}.txt")
    threads = [threading.Thread(target=through), threading.Thread(target=behind)]
    for thread in threads:
        thread.start()
    try:
        reports = []
        while len(reports) < 4 or len(written) <= 10:		# R2 takes a write a second
            reports.append(stack.proxy.verify())
            assert len(reports) < 100, written
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert all(report["clean"] for report in reports), reports
    stack.proxy.drained(60)
    stack.assert_equal()
