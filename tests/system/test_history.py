"""The checker must catch what it is there for, and nothing else."""
import http.server
import itertools
import threading
import time

from clients import Load
from harness import Gunicorn, temp_dir
from history import History, content
from web import Client, Response, SiteClient, dial

URL = "/media/x"


def seen(history, start, end, body, status=200, headers=None, method="GET"):
    return history.check(URL, start, end, Response(status, headers or {}, body), method)


def three_states():
    """v1 "one" sent 10 acked 11; v2 absent sent 20 acked 21; v3 "three" sent 30, no answer yet."""
    history = History()
    for body, sent, acked in ((b"one", 10, 11), (None, 20, 21), (b"three", 30, None)):
        version = history.begin(URL, body, seed="s")
        version.sent, version.acked = sent, acked
    return history


def test_what_a_read_may_see():
    history = three_states()
    nothing = (b"", 404)
    for start, end, allowed in ((1, 2, "-"), (1, 10.5, "-1"), (10.5, 12, "-1"), (11.5, 12, "1"), (11.5, 20.5, "1-"),
                                (20.5, 25, "1-"), (22, 25, "-"), (22, 31, "-3"), (40, 41, "-3"), (1, 50, "-1-3")):
        for body, status, letter in ((*nothing, "-"), (b"one", 200, "1"), (b"three", 200, "3")):
            wrong = seen(history, start, end, body, status)
            assert (wrong is None) == (letter in allowed), (start, end, letter, wrong)


def test_stale_and_resurrected_are_named():
    history = three_states()
    assert "stale: version 1" in seen(history, 22, 23, b"one")
    assert "nobody wrote" in seen(history, 22, 23, b"on")
    assert "404" in seen(history, 12, 13, b"", 404)


def test_parts_and_heads():
    history = History()
    body = content("seed", 1000)
    history.created(URL, body, "seed", 5)
    now = time.monotonic()
    part = {"Content-Range": "bytes 10-19/1000"}
    assert seen(history, now, now, body[10:20], 206, part) is None
    assert seen(history, now, now, body[11:21], 206, part)
    assert seen(history, now, now, body[10:19], 206, part)
    assert seen(history, now, now, body[10:20], 206, {"Content-Range": "bytes 10-19/1001"})
    assert seen(history, now, now, b"", 200, {"Content-Length": "1000"}, "HEAD") is None
    assert seen(history, now, now, b"", 200, {"Content-Length": "999"}, "HEAD")


def test_a_new_file_may_be_seen_half_written_until_it_is_answered():
    history, body = History(), content("seed", 1000)
    history.done(history.begin(URL))
    version = history.begin(URL, body, "seed")
    now = time.monotonic()
    head, part = {"Content-Length": "0"}, {"Content-Range": "bytes 10-19/20"}
    for look in ((b"", 200, head, "HEAD"), (b"", 200), (body[:500], 200), (body[10:20], 206, part)):
        assert seen(history, now, now, *look) is None, look
    assert seen(history, now, now, body[1:500])
    history.done(version)
    now = time.monotonic()
    for look in ((b"", 200, head, "HEAD"), (b"", 200), (body[:500], 200), (body[10:20], 206, part)):
        assert seen(history, now, now, *look), look
    version = history.begin(URL, content("later", 1000), "later")
    assert seen(history, now, version.sent + 1, b""), "an overwrite is a rename: never half"


def test_given_up_is_not_expected():
    history = History()
    version = history.begin("/media/a", b"a")
    history.done(version)
    history.begin("/media/b", b"b")
    history.give_up("/media/c")
    history.done(history.begin("/media/c", b"c"))
    assert list(history.expected()) == ["/media/a"]


class Liar(http.server.BaseHTTPRequestHandler):
    """A proxy before the site that plants mistakes: each `every`-th read of a url is answered as that url was first read."""
    protocol_version = "HTTP/1.1"

    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with Client(self.server.site) as upstream:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "range")}
            answer = upstream.request(self.command, self.path, body or None, headers)
        status, out = answer.status, answer.body
        if self.command == "GET" and self.path.startswith("/media/"):
            old = self.server.memory.setdefault(self.path, (status, out))
            if next(self.server.counter) % self.server.every == 0 and old != (status, out):
                status, out = old
                self.server.lies += 1
        self.send_response(status)
        self.send_header("Content-Length", answer.headers.get("Content-Length", 0) if self.command == "HEAD" else len(out))
        self.end_headers()
        self.wfile.write(out)

    do_GET = do_HEAD = do_POST = handle_one

    def log_message(self, *args):
        pass


def test_planted_stale_reads_are_caught():
    """The whole load against a proxy that now and then serves what was overwritten or deleted."""
    site = Gunicorn(temp_dir() / "site").start()
    liar = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    liar.daemon_threads = True
    liar.site, liar.memory, liar.counter, liar.every, liar.lies = site.address, {}, itertools.count(1), 10, 0
    threading.Thread(target=liar.serve_forever, daemon=True).start()
    try:
        load = Load("127.0.0.1:%d" % liar.server_port, clients=8, sizes=[10, 1000]).start()
        pause = threading.Event()
        while load.requests() < 20000 and (load.counts["wrong"] < 5 or liar.lies < 5) and not pause.wait(0.05):
            pass
        report = load.stop()
    finally:
        liar.shutdown()
        liar.server_close()
        site.stop()
    assert report["failed"] == 0 and liar.lies, report
    # Some lies fall into the span of a write, where the old state is allowed; no truth is taken for a lie.
    assert 5 <= report["wrong"] <= liar.lies, (report, liar.lies)
    assert any("stale" in problem["text"] for problem in report["problems"]), report


def test_dial_reads_every_form_of_address():
    site = Gunicorn(temp_dir() / "site", unix=True).start()
    with SiteClient(site.address) as client:
        assert client.get("/ping/").body == b"pong\n"
    dial(site.address, 5).close()
    assert site.stop() == 0
