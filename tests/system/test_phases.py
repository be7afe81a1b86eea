"""Up and down through all phases under load: no request fails, none is answered with what the history forbids.

R2SHIM_ROUNDS=N in the environment: so many times up and down (2 if it is not set).
"""
import hashlib
import os

import pytest

from clients import Load, Outside, tree
from harness import eventually
from stack import ALL_PHASES
from test_backfill import fill

PHASES = ALL_PHASES[:6]
CLIENTS = 64
ROUNDS = int(os.environ.get("R2SHIM_ROUNDS", "2"))
TOKEN = "phases"


def progress(load, requests=200):
    """Some requests happen in this phase before the next switch."""
    goal = load.requests() + requests
    eventually(lambda: load.requests() >= goal or load.problems, 60, "requests")
    assert not load.problems, load.problems[:5]


def check_expected(stack, load):
    """What the clients know is so on the disk, in R2, and through the proxy."""
    stack.proxy.drained()
    assert stack.differences() == []
    disk = {key: hashlib.sha256(body).hexdigest() for key, body in stack.on_disk().items()}
    urls = {url: path for url, path in tree(stack.media).items()}
    with stack.client() as http:
        for url, digest in load.history.expected().items():
            if digest is None:
                assert url not in urls and http.get(url).status == 404, url
            else:
                key = urls[url].decode()[len(str(stack.media)) + 1:]
                assert disk[key] == digest == http.get(url).sha256, url


@pytest.mark.parametrize("topology", ["gunicorn", "nginx"])
def test_switches_under_load(make_stack, topology):
    """0 to 5 and back, under load, in rounds, and up again. Two of the clients PUT and DELETE."""
    stack = make_stack(topology, migrators=2, prefixes='{{ url = "/media/programs/"; class = "public"; writes = "disk"; '
                       'token-file = "{token}"; }}, {{ url = "/media/"; class = "public"; }}')
    token = stack.dir / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    stack.options["prefixes"] = stack.options["prefixes"].format(token=token)
    fill(stack, 300)
    stack.start()
    load = Load(stack.proxy.address, CLIENTS, pause=0.1, programs=2, token=TOKEN)
    load.add_tree(stack.media)
    load.start()
    switches = 0
    for way in ("up", "down") * ROUNDS + ("up",):
        for phase in PHASES[1:] if way == "up" else PHASES[-2::-1]:
            (stack.proxy.climb if way == "up" else stack.proxy.set_phase)(phase)
            switches += 1
            progress(load)
        if way == "down":
            change_in_passthrough(stack, load)
    report = load.stop()
    print(report)
    assert switches == 10 * ROUNDS + 5
    assert report["failed"] == report["wrong"] == report["cut"] == 0, report
    check_expected(stack, load)
    assert stack.proxy.verify()["clean"]


def change_in_passthrough(stack, load):
    """In phase 0 nobody mirrors: files deleted and replaced on the disk now must not come back on the way up."""
    urls = [(url, path.decode()) for url, path in sorted(tree(stack.media).items()) if "/old/" in url]
    gone, changed = urls[:20], urls[20:40]
    new = stack.dir / "changed"
    new.write_bytes(b"changed in passthrough")
    outside = Outside(load)
    outside.begin({**{url: None for url, _ in gone}, **{url: new for url, _ in changed}})
    for _, path in gone:
        (stack.media / path).unlink()
    for _, path in changed:
        stack.write((stack.media / path).relative_to(stack.media), b"changed in passthrough")
    outside.end()
    progress(load)


def test_R48_reload_with_a_bad_file_changes_nothing(make_stack):
    stack = make_stack().start()
    stack.proxy.set_phase("dual-write")
    with stack.client() as http:
        good = stack.proxy.conf.read_text()
        stack.proxy.conf.write_text(good + "nonsense = 1;\n")
        stack.proxy.reload()
        eventually(lambda: "nonsense" in stack.proxy.stderr(), 10, "the mistake in the log")
        assert http.upload("a.txt", b"x").status == 201
        stack.proxy.conf.write_text(good)
        assert stack.proxy.status()["phase"] == "dual-write"
        assert http.connects == 1


def test_only_neighbours_follow_each_other(make_stack):
    stack = make_stack().start()
    code, out, err = stack.proxy.run("phase", "set", "read-r2")
    assert code == 4 and "dual-write" in out + err, (code, out, err)
    assert stack.proxy.status()["phase"] == "passthrough"
    code, out, err = stack.proxy.run("phase", "set", "r2-primary")
    assert code in (2, 4), (code, out, err)


def test_an_upload_held_over_a_switch(make_stack):
    """A request keeps the phase it began with; the switch does not wait for it, and it does not fail."""
    from web import dial, multipart
    stack = make_stack().start()
    stack.proxy.set_phase("dual-write")
    body, content_type = multipart({"title": "t", "folder": "documents"}, {"file": ("held.bin", b"h" * 100000)})
    with dial(stack.proxy.address, 30) as sock:
        sock.sendall(f"POST /upload/ HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
                     f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body[:50000])
        stack.proxy.reload_phase("backfill")
        sock.sendall(body[50000:])
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 201"), answer
    assert stack.bucket.get("documents/held.bin") == b"h" * 100000
