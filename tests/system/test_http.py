"""Requests that are not what they seem: targets that climb out, bodies that look like answers."""
import pytest

from history import content
from web import raw, raw_status


@pytest.fixture(params=["dual-write", "validate"])
def phase(request):
    return request.param


def test_odd_targets(make_stack, phase):
    """Never served by us: to the upstream as they came, or 400. The site answers 404 or 400 to all of these."""
    stack = make_stack(migrators=1)
    stack.write("a/b.txt", b"inside")
    stack.start()
    (stack.dir / "secret.txt").write_bytes(b"outside")
    (stack.media / "link.txt").symlink_to(stack.dir / "secret.txt")
    stack.proxy.climb(phase)
    address = stack.proxy.address
    for target in ("/media/../secret.txt", "/media/%2e%2e/secret.txt", "/media/a/../../secret.txt", "/media/..%2fsecret.txt",
                   "/media/a/%2e%2e/%2e%2e/secret.txt", "/media/.r2shim-root", "/media/a/.r2shim-x", "/media/link.txt"):
        answer = raw(address, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")) and b"outside" not in answer, (target, answer)
    assert raw_status(address, "GET", "/media/link.txt") == 404
    for target in (b"/media/a%00b", b"/media/%zz", b"/media/%4", b"/media/\x80", b"/media/a\x01b", b"/media/a\x7fb"):
        assert raw_status(address, "GET", target) == 400, target
    assert raw_status(address, "GET", "/media/a/b.txt") == 200
    assert raw_status(address, "GET", "/media/a/%62.txt") == 200


def test_an_answer_in_a_file(make_stack):
    """gunicorn 20.1 answers HEAD of a file with its body. A file that looks like an answer must not become the answer to
    whoever uses the upstream connection next."""
    stack = make_stack("gunicorn", migrators=0).start()
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged" * 3000
    with stack.client() as http, stack.client() as other:
        url = http.upload("forged.txt", forged).json()["url"]
        for _ in range(30):
            answer = http.head(url)
            assert answer.status == 200 and answer.headers["Content-Length"] == str(len(forged))
            assert http.get("/ping/").body == b"pong\n"
            assert other.get("/ping/").body == b"pong\n"


def test_both_sides_answer_alike(make_stack):
    """ETag, Last-Modified, type, ranges and conditions are the same from the disk and from R2."""
    stack = make_stack(migrators=1)
    stack.write("a.txt", content("a", 5000))
    stack.write("empty.css", b"")
    stack.start()
    seen = {}
    for phase in ("dual-write", "validate"):
        stack.proxy.climb(phase)
        with stack.client() as http:
            whole = http.get("/media/a.txt")
            etag, modified = whole.headers["ETag"], whole.headers["Last-Modified"]
            answers = [whole, http.head("/media/a.txt"), http.get("/media/a.txt", Range="bytes=10-19"),
                       http.get("/media/a.txt", Range="bytes=-7"), http.get("/media/a.txt", Range="bytes=9999-"),
                       http.get("/media/a.txt", If_None_Match=etag), http.get("/media/a.txt", If_Modified_Since=modified),
                       http.get("/media/a.txt", Range="bytes=1-2", If_Range=etag),
                       http.get("/media/a.txt", Range="bytes=1-2", If_Range='"other"'),
                       http.get("/media/empty.css"), http.get("/media/not-there.txt")]
        assert [a.status for a in answers] == [200, 200, 206, 206, 416, 304, 304, 206, 200, 200, 404], (phase, answers)
        seen[phase] = [(a.status, a.sha256, *(a.headers[name] for name in ("ETag", "Last-Modified", "Content-Type",
                        "Content-Length", "Content-Range", "Accept-Ranges"))) for a in answers[:-1]]
    assert seen["dual-write"] == seen["validate"]


def test_types(make_stack):
    """media.types holds for both sides, and for what is written to R2."""
    stack = make_stack(migrators=1, media_extra='types = [ "txt text/plain; charset=utf-8", "own application/x-own" ];')
    for key in ("a.txt", "a.own", "a.css"):
        stack.write(key, b"x")
    stack.start()
    wanted = ["text/plain; charset=utf-8", "application/x-own", "text/css"]
    for phase in ("dual-write", "validate"):
        stack.proxy.climb(phase)
        with stack.client() as http:
            assert [http.get(f"/media/a.{end}").headers["Content-Type"] for end in ("txt", "own", "css")] == wanted
    assert [stack.bucket.head(f"a.{end}")["Content-Type"] for end in ("txt", "own", "css")] == wanted


def test_keep_alive_and_streaming(stack):
    """One connection for many requests, a chunked upload, a big download, in pass-through."""
    with stack.client() as http:
        for _ in range(50):
            assert http.get("/ping/").status == 200
        body = content("big", 20_000_000)
        url = http.upload("big.bin", body).json()["url"]
        assert http.get(url).body == body
        assert http.connects == 1
