"""Acceptance cases: writes that are cut, doubled, half done, or whose proxy dies at any system call. tests/acceptance.txt says what
must hold."""
import collections
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.parse

import pytest

from acceptance import BEARER, TOKEN, Later, at_rest, dead_letters, get, held, intents, put, release, site, url
from harness import Strace, eventually, temp_dir
from stack import ALL_PHASES
from web import Client, Cut, dial

PHASES = ALL_PHASES[:-1]		# r2-only has one side only
# What a write is made of, as the kernel sees it. Others, such as epoll_wait, change nothing.
SYSCALLS = ["openat", "openat2", "write", "writev", "pwrite64", "sendto", "sendmsg", "sendfile", "recvfrom", "recvmsg", "readv",
            "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlinkat", "linkat", "mkdirat"]
MATRIX_SECONDS = float(os.environ.get("R2SHIM_MATRIX_SECONDS", 45))


def killer(stack, proc, name, n):
    """Kills the process at its n-th system call of that name."""
    return Strace(stack.dir / "strace", proc, "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={n}").start()


def made_of(stack, proc, act):
    """{system call: how often} of what `act` makes the process do; never zero times."""
    strace = Strace(stack.dir / "strace", proc, "-e", "trace=" + ",".join(SYSCALLS)).start()
    act()
    strace.detach()
    names = re.findall(r"^\d+ +(\w+)\(", strace.trace.read_text(errors="replace"), re.MULTILINE)
    return {name: count for name, count in collections.Counter(names).items() if name in SYSCALLS}


def answers(proxy):
    """It lives: what was killed a moment ago may not be dead yet."""
    try:
        return get(proxy, "k/first") is not None
    except Cut:
        return False


def leftovers(stack):
    """Files of ours below the media root, but for its marker."""
    return [os.path.join(folder, name) for folder, _, names in os.walk(stack.media) for name in names
            if name.startswith(".r2shim") and name != ".r2shim-root"]


@pytest.mark.parametrize("writes", ["upstream", "disk"])
def test_A23_R9_R10_the_proxy_is_killed_at_every_system_call_of_a_put(make_stack, writes):
    """The answer waits for R2, so that the copy is among the calls. Keys that were acknowledged are there; of all, both sides agree."""
    folder = temp_dir()
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    stack = make_stack("webdav", folder=folder, policy="sync", lease="1s", request_limit="1s", intent_deadline="1s", prefixes=(
        f'{{ url = "/media/"; class = "public"; writes = "{writes}"; token-file = "{folder / "token"}"; }}')).start()
    stack.proxy.set_phase("dual-write")
    body = b"the body of a PUT\n" * 300
    assert put(stack.proxy, "k/first", body) == 201
    parts = made_of(stack, stack.proxy, lambda: put(stack.proxy, "k/learn", body))
    assert len(parts) >= 4, parts
    acknowledged, kills = ["k/first", "k/learn"], collections.Counter()
    end, left, n = time.monotonic() + MATRIX_SECONDS, list(parts), 0
    while left and (n < 2 or time.monotonic() < end):		# the n-th of each, for n = 1, 2, ...
        n += 1
        for name in list(left):
            key = f"k/{name}-{n}"
            strace = killer(stack, stack.proxy, name, n)
            try:
                if put(stack.proxy, key, body) in (201, 204):
                    acknowledged.append(key)
            except Cut:
                eventually(lambda: not stack.proxy.alive(), 20, "its death")
            strace.detach()
            if answers(stack.proxy):
                left.remove(name)		# passed untouched
                continue
            stack.proxy.kill9()
            stack.proxy.start()
            kills[name] += 1
    print(f"{parts}: not run to their end: {left}")
    print(f"killed {sum(kills.values())} times: {dict(kills)}; {len(acknowledged)} PUTs acknowledged")
    assert sum(kills.values()) >= len(parts)
    at_rest(stack)
    r2 = stack.in_r2()
    assert all(r2.get(key) == body for key in acknowledged)
    assert set(r2.values()) == {body} and leftovers(stack) == [] and dead_letters(stack) == {}
    assert intents(stack.proxy) == 0
    assert sorted(name for name in os.listdir(stack.proxy.dir / "state") if "tmp" in name or "new" in name) == []


class HalfServer(threading.Thread):
    """An upstream that writes half of a PUT's body to its place, says 500 or nothing at all, and is done."""

    def __init__(self, media, answer):
        super().__init__(daemon=True)
        self.media, self.answer = media, answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                sock = self.listener.accept()[0]
            except OSError:
                return
            with sock:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += sock.recv(65536)
                head, _, body = head.partition(b"\r\n\r\n")
                length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
                while len(body) < length:
                    body += sock.recv(65536)
                path = self.media / urllib.parse.unquote(head.split()[1].decode()).removeprefix("/media/")
                path.write_bytes(body[:length // 2])
                sock.sendall(self.answer)

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.mark.parametrize("answer,status", [(b"HTTP/1.1 500 Oh no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 500), (b"", 502)],
                         ids=["says 500", "says nothing"])
def test_R11_an_upstream_that_fails_after_it_has_written(make_stack, answer, status):
    """The request's body is never taken for what was stored: what is on the disk is."""
    stack = site(make_stack, migrators=0)
    stack.start(proxy=False)
    upstream = HalfServer(stack.media, answer)
    stack.proxy.write_conf(upstream=upstream.address)
    stack.proxy.run("init", check=True)
    stack.proxy.start()
    stack.proxy.set_phase("dual-write")
    body = b"0123456789" * 1000
    assert put(stack.proxy, "k", body) == status
    at_rest(stack)
    assert stack.bucket.get("k") == body[:5000] == get(stack.proxy, "k")
    upstream.stop()


@pytest.mark.parametrize("writes", ["upstream", "disk", "application"])
def test_R12_a_client_that_goes_away_within_its_upload(make_stack, writes):
    folder = temp_dir()
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    rule = f'writes = "{writes}"; token-file = "{folder / "token"}";' if writes != "application" else ""
    stack = make_stack("gunicorn" if writes == "application" else "webdav", folder=folder, policy="async",
                       prefixes=f'{{ url = "/media/"; class = "public"; {rule} }}').start()
    stack.proxy.set_phase("dual-write")
    target, boundary = ("/upload/", "b") if writes == "application" else (url("k"), None)
    head = f"{'POST' if boundary else 'PUT'} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER['Authorization']}\r\nContent-Length: 300000\r\n"
    if boundary:
        head += f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="k"\r\n\r\n' if boundary else ""
    for number in range(5):
        with dial(stack.proxy.address, 20) as sock:
            sock.sendall((head + "\r\n" + part).encode() + b"x" * 150_000)
            eventually(lambda: intents(stack.proxy) > 0, 20, "it has begun")
        eventually(lambda: intents(stack.proxy) == 0, 20, f"its outcome is known, {number}")
    at_rest(stack)
    assert stack.in_r2() == {} == stack.on_disk() and leftovers(stack) == []


def test_R13_what_nobody_has_told_is_found_by_a_scan(make_stack):
    """The application stores a file while no proxy runs: no client's word, no hint, no event. The crawl at the next start finds it; and a
    backfill finds what was there before all, and what somebody took away from R2."""
    stack = site(make_stack).start()
    stack.write("before", b"before")
    stack.proxy.set_phase("dual-write")
    assert put(stack.proxy, "known", b"known") == 201
    eventually(lambda: set(stack.bucket.list()) >= {"known"}, 20, "what went through the proxy")
    stack.proxy.kill9()
    stack.write("new/folder/nobody told", b"new")
    stack.write("known", b"written past all")
    stack.proxy.start()
    eventually(lambda: stack.bucket.list().keys() >= {"known", "new/folder/nobody told"}, 20, "found by the crawl")
    eventually(lambda: stack.bucket.get("known") == b"written past all", 20, "and the newer bytes")
    stack.proxy.set_phase("backfill")
    stack.bucket.delete("known")
    stack.proxy.backfill()
    at_rest(stack)
    assert stack.bucket.list().keys() >= {"known", "before"}


def half_put(stack, key, body):
    """A PUT that has sent half of its body; finish() sends the rest and returns the status."""
    sock = dial(stack.proxy.address, 30)
    sock.sendall(f"PUT {url(key)} HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER['Authorization']}\r\nConnection: close\r\n"
                 f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:len(body) // 2])

    def finish():
        with sock:
            sock.sendall(body[len(body) // 2:])
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        return int(answer.split()[1])
    return finish


@pytest.mark.parametrize("phase", PHASES[1:])
def test_R47_two_writers_of_one_key_at_a_time(make_stack, phase):
    """Both bodies half sent; then either ends first, or both at once, while R2 holds what it gets. In r2-primary and where a key's lease
    is needed one of them waits for the other; in all phases both sides end with the same one, whole."""
    stack = site(make_stack).start()
    stack.proxy.climb(phase)
    one, two = b"1" * 60_000, b"2" * 50_000
    for number, order in enumerate(("12", "21", "both")):
        key = f"k{number}"
        if phase != "r2-primary":
            stack.sandbox.faults(f"put hold x next 1 key={key}")
        finish = [half_put(stack, key, body) for body in (one, two)]
        if order == "both":
            statuses = [later.result() for later in [Later(call) for call in finish]]
        elif phase == "r2-primary":
            statuses = [later.result() for later in [Later(call) for call in (finish if order == "12" else reversed(finish))]]
        else:
            statuses = [finish[int(digit) - 1]() for digit in order]
        assert set(statuses) <= {200, 201, 204}, statuses
        if phase != "r2-primary":
            held(stack)
            release(stack)
        last = get(stack.proxy, key)
        assert last in (one, two)
        if order in ("12", "21") and phase != "r2-primary":
            assert last == (two if order == "12" else one)
        at_rest(stack)
        assert stack.bucket.get(key) == last == get(stack.proxy, key)


def test_A32_R30_one_name_in_two_spellings(make_stack):
    """R2 holds both as one object, which bears the spelling of its file: whoever asks for the other one finds it on the disk."""
    nfc, nfd = "caf\u00e9.txt", "cafe\u0301.txt"
    stack = site(make_stack, proxy='drain-timeout = "1s";').start()
    stack.write(nfc, b"composed")
    stack.write(nfd, b"decomposed, and longer")
    stack.proxy.climb("backfill")
    stack.proxy.backfill()

    def own_bytes():
        return get(stack.proxy, nfc) == b"composed" and get(stack.proxy, nfd) == b"decomposed, and longer"
    assert own_bytes()
    assert stack.on_disk() == {nfc: b"composed", nfd: b"decomposed, and longer"}
    assert len(stack.bucket.list()) == 1

    def refused():
        code, out, err = stack.proxy.run("phase", "set", "read-r2")
        assert code == 4, (out, err)
        return "marks-drain" in out + err
    eventually(refused, 30, "the key without an object of its own keeps its mark, and the gate closed")
    for phase in ("read-r2", "validate"):
        stack.proxy.reload_phase(phase)
        for _ in range(3):
            assert own_bytes(), phase
    assert stack.on_disk() == {nfc: b"composed", nfd: b"decomposed, and longer"}


def test_A33_R43_R44_names_that_r2_cannot_hold(make_stack):
    bad = [b"l\xe9.txt".decode(errors="surrogateescape"), "/".join(["n" * 219] * 5) + "/" + "n" * 10]
    assert len(bad[1]) > 1100
    stack = site(make_stack).start()
    for key in bad:
        stack.write(key, b"only here")
    stack.write("good", b"good")
    stack.proxy.climb("read-r2")
    targets = ["/media/" + urllib.parse.quote(os.fsencode(key)) for key in bad]
    for phase in ("read-r2", "validate"):
        if phase == "validate":
            stack.proxy.set_phase(phase)
        with Client(stack.proxy.address) as http:
            for target in targets:
                answer = http.get(target)
                assert (answer.status, answer.body) == (200, b"only here"), (phase, target, answer)
    report = stack.proxy.verify()
    print(report)
    assert report["unmigratable"] == 2 if "unmigratable" in report else report["unholdable"] == 2, report
    assert set(stack.bucket.list()) == {"good"} and dead_letters(stack) == {}
    # Written through the proxy: no trouble, no mark that stays.
    with Client(stack.proxy.address) as http:
        assert http.put(targets[0], b"again", **BEARER).status == 204
        assert http.get(targets[0]).body == b"again"
    stack.proxy.drained()
    code, out, err = stack.proxy.run("phase", "set", "r2-primary")
    assert code != 0, (out, err)
    assert set(stack.bucket.list()) == {"good"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("options", ["size=64k", "nr_inodes=8"])
def test_R35_R34_no_room_below_the_state_folder(make_stack, options):
    """A file system that is full, in bytes or in files: the write is refused before anything is forwarded, or it is done whole."""
    stack = site(make_stack, migrators=0, media_extra='min-free = "0";')
    stack.start(proxy=False)
    state = stack.proxy.dir / "state"
    subprocess.run(["/usr/bin/mount", "-t", "tmpfs", "-o", options, "r2shim-test", state], check=True)
    try:
        stack.proxy.run("init", check=True)
        stack.proxy.start()
        stack.proxy.set_phase("dual-write")
        assert put(stack.proxy, "before", b"1") == 201
        at_rest(stack)
        with open(state / "filler", "wb", buffering=0) as filler:
            try:
                for number in range(100):
                    if options.startswith("nr_inodes"):
                        (state / f"filler{number}").touch()
                    filler.write(b"x" * 4096)
            except OSError:
                pass
        stack.sandbox.faults("write 503\n")		# nothing can be cleared: the journal grows
        statuses = collections.Counter()
        for number in range(300):
            key = f"k{number}"
            try:
                status = put(stack.proxy, key, b"%d" % number)
            except Cut:
                status = "cut"
            statuses[status] += 1
            if status in (503, 507):
                assert get(stack.proxy, key) is None and not (stack.media / key).exists(), f"{key}: refused, and yet there"
            elif status in (201, 204):
                assert get(stack.proxy, key) == b"%d" % number
        print(dict(statuses))
        assert set(statuses) <= {201, 503, 507}, statuses
        if options.startswith("size"):
            assert statuses[507] + statuses[503] > 0, "it was never full"
            assert any("journal" in text or "disk" in text for text in stack.proxy.status()["degraded"])
        for path in state.glob("filler*"):
            path.unlink()
        stack.sandbox.faults()
        eventually(lambda: put(stack.proxy, "after", b"2") == 201 or put(stack.proxy, "after", b"2") == 204, 30, "there is room again")
        at_rest(stack)
        stack.proxy.restart()
        at_rest(stack)
    finally:
        stack.proxy.kill9()
        subprocess.run(["/usr/bin/umount", "-l", state], check=True)


def test_R48_a_bad_file_under_a_hundred_connections(make_stack):
    """Reloads with good and bad files under load on kept connections: none is closed, none fails."""
    stack = site(make_stack).start()
    stack.proxy.set_phase("dual-write")
    assert put(stack.proxy, "k", b"x" * 1000) == 201
    clients = [Client(stack.proxy.address) for _ in range(100)]
    good, stop, failed = stack.proxy.conf.read_text(), threading.Event(), []

    def use(some):
        while not stop.is_set():
            for client in some:
                answer = client.get(url("k"))
                if answer.status != 200 or answer.length != 1000:
                    failed.append(answer)
    threads = [threading.Thread(target=use, args=(clients[n::5],)) for n in range(5)]
    for thread in threads:
        thread.start()
    for text in ("nonsense = 1;\n", 'phase = "validate";\n', "{{{", 'mirror: { policy = "maybe"; };\n'):
        seen = stack.proxy.stderr().count("reload")
        stack.proxy.conf.write_text(good + text)
        stack.proxy.reload()
        eventually(lambda: stack.proxy.stderr().count("reload") > seen, 10, "the mistake in the log")
        stack.proxy.conf.write_text(good)
        assert stack.proxy.status()["phase"] == "dual-write"
    for phase in ("backfill", "dual-write"):
        stack.proxy.reload_phase(phase)
    stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not failed and {client.connects for client in clients} == {1}
    for client in clients:
        client.close()
