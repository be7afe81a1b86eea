"""delivery = "redirect-...": readers are sent to R2 for what it has and nobody has overwritten; everything else comes through us."""
import urllib.parse

from harness import eventually
from history import content
from web import Client

PREFIXES = """{{ url = "/media/"; class = "public"; delivery = "redirect-signed"; }},
  {{ url = "/media/pub/"; class = "public"; delivery = "redirect-public"; }},
  {{ url = "/media/put/"; class = "public"; delivery = "redirect-signed"; writes = "disk"; token-file = "{token}"; }}"""
ODD = "a b+\u00fc%~(1)'.bin"


def follow(answer, method="GET", **headers):
    """Where the answer sends: to R2, without anything of ours."""
    assert (answer.status, answer.body, answer.headers["Cache-Control"]) == (302, b"", "no-store"), answer
    url = urllib.parse.urlsplit(answer.headers["Location"])
    with Client(url.netloc) as r2:
        return r2.request(method, f"{url.path}?{url.query}", headers={"Host": url.netloc, **headers})


def path_of(key):
    return "/media/" + urllib.parse.quote(key)


def test_redirects(make_stack, tmp_path):
    token = tmp_path / "token"
    token.write_text("let-me-in")
    token.chmod(0o600)
    stack = make_stack(migrators=1, policy="async", prefixes=PREFIXES.format(token=token),
                       media_extra='public-url = "https://media.example.com/x/"; redirect-lifetime = "90s";')
    files = {key: content(key, 5000) for key in (ODD, f"pub/{ODD}", "disk-only.bin", "put/f.bin", "over.bin")}
    for key, body in files.items():
        stack.write(key, body)
    stack.start()
    stack.proxy.climb("dual-write")
    with stack.client() as http:
        for key, body in files.items():
            answer = http.get(path_of(key))
            assert (answer.status, answer.body) == (200, body)
        stack.proxy.climb("validate")
        stack.proxy.drained()
        stack.bucket.delete("disk-only.bin")

        answer = http.get(path_of(ODD))
        assert "X-Amz-Expires=90&" in answer.headers["Location"]
        assert follow(answer).body == files[ODD]
        part = follow(answer, Range="bytes=10-19")
        assert (part.status, part.body) == (206, files[ODD][10:20])
        assert follow(answer, "HEAD").status == 403 and follow(answer, "DELETE").status == 403
        assert follow(http.head(path_of(ODD)), "HEAD").headers["Content-Length"] == "5000"

        answer = http.get(path_of(f"pub/{ODD}"))
        assert answer.status == 302
        assert answer.headers["Location"] == "https://media.example.com/x/pub/a%20b%2B%C3%BC%25~%281%29%27.bin"

        # Not in R2: the disk, as ever. Nowhere: our 404. A program with the token: through us.
        answer = http.get("/media/disk-only.bin")
        assert (answer.status, answer.body) == (200, files["disk-only.bin"])
        assert http.get("/media/nowhere.bin").status == 404
        answer = http.get("/media/put/f.bin", Authorization="Bearer let-me-in")
        assert (answer.status, answer.body) == (200, files["put/f.bin"])
        assert http.get("/media/put/f.bin").status == 302

        # Written anew, and R2 does not take it: whoever reads gets the new bytes.
        assert http.get("/media/over.bin").status == 302
        stack.sandbox.faults("put 503")
        stack.write("over.bin", b"newer")
        eventually(lambda: http.get("/media/over.bin").body == b"newer", 10, "the new bytes")
        stack.sandbox.faults()
        stack.proxy.drained()
        assert follow(http.get("/media/over.bin")).body == b"newer"

        # R2 cannot say: no redirect.
        stack.sandbox.faults("head 503")
        answer = http.get("/media/over.bin")
        assert (answer.status, answer.body) == (200, b"newer")
    metrics = stack.proxy.metrics()
    assert metrics['r2shim_media_redirects_total{to="signed"}'] >= 5 and metrics['r2shim_media_redirects_total{to="public"}'] == 1
