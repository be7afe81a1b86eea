"""A new process takes the listening sockets over while the old one drains, and reloads, both under load: no request fails, no
write is lost."""
import itertools
import signal
import socket
import sys
import threading

import pytest

from harness import eventually
from history import content
from stack import Proxy
from web import SiteClient, dial

# Passes a listening socket as systemd does: sd_listen_fds(3).
PASS = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); os.execv(sys.argv[2], sys.argv[2:])"


class Passed(Proxy):
    """A proxy that is given the socket."""

    def give(self, sock):
        self.pass_fds = (sock.fileno(),)
        return self

    def command(self):
        return [sys.executable, "-c", PASS, *self.pass_fds, *super().command()]


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=511) as sock:
        sock.set_inheritable(True)
        yield sock


class Load:
    """Readers and writers, by kept connections and by new ones. Whatever is no good answer is a failure, a cut connection too."""

    def __init__(self, address, files):
        self.address, self.files = address, files
        self.failures, self.stored, self.reads = [], {}, itertools.count()
        self.ended = threading.Event()
        self.crew = [threading.Thread(target=self.guarded, args=(work, kept, number))
                     for number, (work, kept) in enumerate(itertools.product((self.read, self.write), (True, True, False)))]

    def guarded(self, work, kept, number):
        turn = 0
        try:
            while not self.ended.is_set():
                with SiteClient(self.address, 30) as http:
                    work(http, number, turn := turn + 1)
                    while kept and not self.ended.is_set():
                        work(http, number, turn := turn + 1)
        except (AssertionError, OSError) as e:
            self.failures.append(repr(e))

    def read(self, http, number, turn):
        key = sorted(self.files)[turn % len(self.files)]
        answer = http.get(f"/media/{key}")
        assert (answer.status, answer.body) == (200, self.files[key]), answer
        next(self.reads)

    def write(self, http, number, turn):
        body = content(f"{number}-{turn}", 3000 + turn)
        answer = http.upload(f"{number}-{turn}.bin", body)
        assert answer.status == 201, answer
        self.stored[answer.json()["url"].removeprefix("/media/")] = body
        found = http.get(answer.json()["url"])
        assert (found.status, found.body) == (200, body), found

    def __enter__(self):
        for one in self.crew:
            one.start()
        self.more(20)
        return self

    def more(self, n):
        """Waits for n more reads and writes."""
        reads, writes = next(self.reads), len(self.stored)
        eventually(lambda: self.failures or (next(self.reads) > reads + 2 * n and len(self.stored) >= writes + n), 60, "the load goes on")
        assert not self.failures, self.failures

    def __exit__(self, *exc):
        self.ended.set()
        for one in self.crew:
            one.join()


def make(make_stack, **options):
    stack = make_stack(migrators=1, **options)
    files = {f"f{n}.bin": content(f"f{n}", size) for n, size in enumerate((10, 5000, 50_000, 300_000))}
    for key, body in files.items():
        stack.write(key, body)
    return stack, files


def check(stack, load):
    assert not load.failures, load.failures
    for proxy in (stack.proxy, *stack.more_proxies):
        if proxy.alive():
            proxy.drained()
    for side in (stack.on_disk(), stack.in_r2()):
        assert {key: side.get(key) for key in load.stored} == load.stored


@pytest.mark.parametrize("phase", ["dual-write", "validate"])
def test_takeover(make_stack, listener, phase):
    """The first process, the second beside it, then the first on its own state-dir again."""
    address = "127.0.0.1:%d" % listener.getsockname()[1]
    stack, files = make(make_stack, listen=address, proxy='drain-timeout = "4s";')
    stack.start(proxy=False)

    def member(name):
        proxy = Passed(stack.dir / name, **stack.proxy.options).give(listener)
        proxy.address = address
        return proxy
    first, second = member("first"), member("second")
    stack.proxy, stack.more_proxies = first, [second]
    first.run("init", check=True)
    first.start()
    stack.add_migrator("m1").start()
    first.climb(phase)
    second.write_phase(phase)
    # An upload whose end comes when its process no longer accepts anybody, and a connection that has not said anything yet.
    slow, body = dial(address, 30), content("slow", 100_000)
    slow.sendall(b"POST /upload/ HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n"
                 % (len(form := FORM % body)) + form[:50_000])
    quiet = dial(address, 30)
    with Load(address, files) as load:
        old, new = first, second
        for turn in range(2):
            new.start()
            load.more(10)
            old.signal(signal.SIGTERM)
            if turn == 0:
                eventually(lambda: old.admin("/ready").status == 503, 5, "the old one drains")
                slow.sendall(form[50_000:])
                assert slow.recv(4096).startswith(b"HTTP/1.1 201")
                quiet.sendall(b"GET /media/f0.bin HTTP/1.1\r\nHost: x\r\n\r\n")
                assert quiet.recv(4096).startswith(b"HTTP/1.1 200")
            assert old.wait() == 0
            load.more(10)
            old, new = new, old
        assert stack.on_disk()["documents/slow.bin"] == body
    slow.close()
    quiet.close()
    check(stack, load)
    assert set(old.cluster()[0]) == {old.member_id()}		# whoever went has left


FORM = (b'--b\r\nContent-Disposition: form-data; name="title"\r\n\r\nslow\r\n--b\r\nContent-Disposition: form-data; name="folder"\r\n\r\n'
        b'documents\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="slow.bin"\r\n'
        b'Content-Type: application/octet-stream\r\n\r\n%s\r\n--b--\r\n')


def test_passed_in_vain(make_stack, listener):
    """A socket that the configuration does not name: whoever connects to it would wait for ever."""
    stack = make_stack(migrators=0)
    stack.start(proxy=False)
    stack.proxy.run("init", check=True)
    proxy = Passed(stack.proxy.dir, **stack.proxy.options).give(listener)
    proxy.start(wait=False)
    assert proxy.wait() == 3
    assert "a socket on 127.0.0.1:%d was passed to us" % listener.getsockname()[1] in proxy.stderr()


@pytest.mark.parametrize("phase", ["dual-write", "validate"])
def test_reloads(make_stack, phase):
    stack, files = make(make_stack)
    stack.start()
    stack.proxy.climb(phase)
    with Load(stack.proxy.address, files) as load:
        for turn in range(20):
            stack.proxy.write_conf(proxy=f'idle-timeout = "{20 + turn}s";', r2=f"connections = {20 + turn};")
            before = stack.proxy.metrics()['r2shim_reloads_total{result="ok"}']
            stack.proxy.reload()
            eventually(lambda: stack.proxy.metrics()['r2shim_reloads_total{result="ok"}'] > before, 10, "reloaded")
            load.more(3)
    check(stack, load)
