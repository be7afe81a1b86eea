"""kill -9 of the proxy in the middle of uploads: what was acknowledged is on the disk and reaches R2."""
import hashlib
import os
import random
import threading
import urllib.parse

from clients import Load
from harness import eventually

KILLS = {"dual-write": 30, "validate": 20}
# Mostly uploads; the documents pile up, so that little is lost by deletes.
MIX = {"read": 15, "upload": 50, "overwrite": 15, "replace": 8, "delete": 4, "reread": 8}


def acknowledged(load):
    return load.counts["upload"] + load.counts["overwrite"] + load.counts["replace"]


def key(url):
    return urllib.parse.unquote(url.removeprefix("/media/"))


def test_fifty_kills_in_the_middle_of_uploads(make_stack):
    stack = make_stack(migrators=1).start()
    rng, moment = random.Random(50), threading.Event()
    load = Load(stack.proxy.address, clients=12, pause=0.01, cuts_expected=True, mix=MIX, documents=60,
                sizes=[0, 100, 5000, 60000])
    load.start()
    kills = 0
    for phase, count in KILLS.items():
        stack.proxy.climb(phase)
        for _ in range(count):
            goal = acknowledged(load) + 5
            eventually(lambda: acknowledged(load) >= goal, 60, "uploads acknowledged")
            # The moment of the kill, not a wait for anything: anywhere within a few uploads.
            moment.wait(rng.random() * 0.05)
            cuts = load.counts["cut"]
            stack.proxy.kill9()
            eventually(lambda: load.counts["cut"] > cuts, 30, "a cut request")
            stack.proxy.start()
            kills += 1
    report = load.stop()
    print(report)
    assert kills == 50
    assert report["failed"] == report["wrong"] == 0, report
    # The intents that were open when it died run out, then all is looked at.
    stack.proxy.drained(60)
    stack.assert_equal(60)
    expected = {key(url): digest for url, digest in load.history.expected().items()}
    assert sum(1 for digest in expected.values() if digest) > 50
    disk = {name: hashlib.sha256(body).hexdigest() for name, body in stack.on_disk().items()}
    r2 = stack.bucket.digests()
    for name, digest in expected.items():
        assert disk.get(name) == digest, f"{name} on the disk"
        assert r2.get(name) == digest, f"{name} in R2"


def test_a_second_proxy_on_the_same_state_is_refused(make_stack):
    """The journal belongs to one process; a lock left by a killed one does not matter."""
    stack = make_stack(migrators=0).start()
    code, out, err = stack.proxy.run("proxy", timeout=20)
    assert code not in (0, -9) and ("lock" in err or "in use" in err or "already" in err), (code, out, err)
    stack.proxy.kill9()
    stack.proxy.start()


def test_R49_sigterm_drains(make_stack):
    """A request that runs is finished, and the process ends by itself with 0."""
    from web import dial, multipart
    stack = make_stack(migrators=0).start()
    stack.proxy.set_phase("dual-write")
    body, content_type = multipart({"folder": "documents"}, {"file": ("held.bin", os.urandom(50000))})
    with dial(stack.proxy.address, 30) as sock:
        sock.sendall(f"POST /upload/ HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
                     f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:20000])
        with stack.client() as http:
            assert http.get("/ping/").status == 200		# so it has read what came before
        stack.proxy.signal(15)
        sock.sendall(body[20000:])
        answer = sock.recv(65536)
    assert answer.startswith(b"HTTP/1.1 201"), answer
    assert stack.proxy.wait() == 0
    assert list(stack.bucket.list()) == ["documents/held.bin"]
