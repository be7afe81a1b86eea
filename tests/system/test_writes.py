"""What is uploaded, replaced, overwritten or deleted through the proxy, or behind its back, is the same on both sides."""
import hashlib
import json
import time

import pytest

from harness import eventually
from history import content
from web import SiteClient


def key_of(answer):
    return answer["name"]


def test_upload_is_in_r2_when_the_client_has_its_answer(stack):
    stack.proxy.set_phase("dual-write")
    with stack.client() as http:
        for name, folder, size in (("a.txt", "documents", 10), ("empty", "documents", 0), ("größe.bin", "a b/ä+c", 70000),
                                   ("big.bin", "documents/new/folders", 6_000_000)):
            body = content(name, size)
            answer = http.upload(name, body, folder)
            stored = answer.status == 201 and stack.bucket.get(key_of(answer.json()))
            assert answer.status == 201 and stored == body, answer
            assert http.get(answer.json()["url"]).body == body


def test_an_object_says_what_the_file_is(stack):
    """Type and time are there, the time in rclone's form."""
    stack.proxy.set_phase("dual-write")
    with stack.client() as http:
        key = key_of(http.upload("page.html", b"<p>x</p>").json())
    head = stack.bucket.head(key)
    assert head["Content-Type"].startswith("text/html")
    nanoseconds = (stack.media / key).stat().st_mtime_ns
    assert head["x-amz-meta-mtime"] == f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
    assert head["ETag"] == '"%s"' % hashlib.md5(b"<p>x</p>").hexdigest()


def test_form_of_a_browser(stack):
    """302 instead of JSON, and two files in one request."""
    image = pytest.importorskip("PIL.Image")
    picture = stack.dir / "red.png"
    image.new("RGB", (9, 9), "red").save(picture)
    stack.proxy.set_phase("dual-write")
    with stack.client() as http:
        answer = http.upload("doc.pdf", b"%PDF", picture=("red.png", picture.read_bytes()), Accept="text/html")
        assert answer.status == 302
        assert stack.in_r2() == {"documents/doc.pdf": b"%PDF", "documents/pictures/red.png": picture.read_bytes()}


def test_replaced_and_deleted_end_equal(stack):
    stack.proxy.set_phase("dual-write")
    with stack.client() as http:
        kept = http.upload("kept.txt", b"kept").json()
        first = http.upload("x.txt", b"one").json()
        second = http.replace(first["id"], "x.txt", b"two").json()
        assert http.get(first["url"]).status == 404 and http.get(second["url"]).body == b"two"
        for mode in ("rename", "inplace", "recreate"):
            assert http.overwrite(first["id"], mode.encode(), mode).status == 200
            assert http.get(second["url"]).body == mode.encode()
            assert stack.bucket.get(key_of(second)) == mode.encode()
        gone = http.upload("gone.txt", b"gone").json()
        assert http.remove(gone["id"]).status == 200
        assert http.get(gone["url"]).status == 404
    stack.assert_equal()
    assert set(stack.in_r2()) == {key_of(kept), key_of(second)}
    stack.proxy.drained()


def test_name_taken_up_again_after_a_delete(stack):
    """Django gives a freed name to the next upload: delete and put of one key, close together, end in order."""
    stack.proxy.set_phase("dual-write")
    with stack.client() as http:
        for number in range(10):
            body = b"%d" % number
            answer = http.upload("same.txt", body).json()
            assert answer["name"] == "documents/same.txt"
            assert http.get(answer["url"]).body == body
            if number < 9:
                assert http.remove(answer["id"]).status == 200
                assert http.get(answer["url"]).status == 404
    stack.assert_equal()
    assert stack.in_r2() == {"documents/same.txt": b"9"}


def test_written_behind_the_proxys_back(stack):
    """A management command's files reach R2 within two seconds of its end; its deletes and renames too."""
    stack.proxy.set_phase("dual-write")
    made = [json.loads(line) for line in
            stack.site.manage("make_files", "--count", 20, "--dir", "cron/new folder").splitlines()]
    written = time.monotonic()
    eventually(lambda: len(stack.bucket.list("cron/")) == 20, 2, "20 files in R2")
    print(f"{time.monotonic() - written:.3f} s after the command's end")
    for entry in made:
        assert hashlib.sha256(stack.bucket.get(entry["name"])).hexdigest() == entry["sha256"]
    stack.site.manage("make_files", "--count", 0, "--dir", "cron/new folder", "--delete", made[0]["name"])
    eventually(lambda: stack.bucket.head(made[0]["name"]) is None, 5, "the delete in R2")
    (stack.media / "cron" / "new folder").rename(stack.media / "cron" / "renamed")
    stack.assert_equal(30)


def test_async_policy(make_stack):
    stack = make_stack(policy="async").start()
    stack.proxy.set_phase("dual-write")
    with stack.client() as http:
        for number in range(50):
            assert http.upload(f"{number}.txt", b"x" * number).status == 201
    stack.proxy.drained()
    assert stack.differences() == []


def test_r2_refuses_for_a_while(stack):
    """The upload is acknowledged (it is durable on the disk), read back at once, and reaches R2 when R2 is well again."""
    stack.proxy.write_conf(deadline="200ms")
    stack.proxy.reload()
    stack.proxy.set_phase("dual-write")
    stack.sandbox.faults("put 503\n")
    with stack.client() as http:
        answer = http.upload("late.txt", b"late")
        assert answer.status == 201 and http.get(answer.json()["url"]).body == b"late"
    assert stack.bucket.head("documents/late.txt") is None
    stack.sandbox.faults()
    stack.assert_equal(30)


def test_put_and_delete_on_a_webdav_origin(make_stack):
    stack = make_stack("webdav").start()
    stack.proxy.set_phase("dual-write")
    with SiteClient(stack.proxy.address) as http:
        assert http.put("/media/dav/new/a.txt", b"one").status == 201
        assert stack.bucket.get("dav/new/a.txt") == b"one" == http.get("/media/dav/new/a.txt").body
        assert http.put("/media/dav/new/a.txt", b"two").status == 204
        assert stack.bucket.get("dav/new/a.txt") == b"two" == http.get("/media/dav/new/a.txt").body
        assert http.delete("/media/dav/new/a.txt").status == 204
        assert http.get("/media/dav/new/a.txt").status == 404
    stack.assert_equal()
    assert stack.in_r2() == {}


def test_put_and_delete_that_do_nothing(make_stack):
    """Django's static view answers 200 to PUT and DELETE and changes nothing: that is what ends up on both sides."""
    stack = make_stack("gunicorn", prefixes='{ url = "/media/"; class = "public"; writes = "upstream"; }').start()
    stack.proxy.set_phase("dual-write")
    with stack.client() as http:
        url = http.upload("a.txt", b"stays").json()["url"]
        assert http.put(url, b"ignored").status == 200
        assert http.delete(url).status == 200
        assert http.get(url).body == b"stays"
    stack.proxy.drained()
    assert stack.in_r2() == {"documents/a.txt": b"stays"}


def test_explain_and_show(stack):
    stack.proxy.set_phase("dual-write")
    with stack.client() as http:
        http.upload("a.txt", b"x")
    code, out, _ = stack.proxy.run("explain", "documents/a.txt")
    assert code == 0 and "documents/a.txt" in out
    code, out, _ = stack.proxy.run("phase", "show")
    assert code == 0 and "dual-write" in out
    status = stack.proxy.status()
    assert status["phase"] == "dual-write" and status["site"] == "test" and status["degraded"] == []
    assert len(status["proxies"]) == 1 and [m["name"] for m in status["migrators"]] == ["m1"]
