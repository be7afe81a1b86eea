"""Large answers move from the upstream's socket to the client's by splice: every byte in its place, whoever is slow, cuts or goes away."""
import contextlib
import hashlib
import os
import re
import socket
import threading
from pathlib import Path

import harness
import pytest
from test_wire import make_proxy
from web import dial

# Around the first read (16 KB with the head), a pipe (256 KB), a turn (1 MB).
SIZES = [1, 16_000, 16_384, 32_768, 40_000, 65_300, 65_536, 70_000, 262_144, 262_145, 1_048_576, 1_100_001, 5_000_001]
# The bytes are asked for by number: no piece of them is like another.
NOISE = hashlib.shake_128(b"splice").digest(5_000_001)


class Upstream:
    """GET /N sends N bytes, /N/much a multiple of NOISE; /N/cut half of them, and closes; /N/slow in pieces, each when the test lets it go; /N/more a byte more than it said."""

    def __init__(self, address):
        self.listener = socket.create_server(address) if isinstance(address, tuple) else self.unix(address)
        self.go, self.connections = threading.Semaphore(0), 0
        threading.Thread(target=self.accept, daemon=True).start()

    @staticmethod
    def unix(path):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen(16)
        return sock

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        got = b""
        with sock, contextlib.suppress(OSError):		# the proxy may have closed it
            while True:
                while b"\r\n\r\n" not in got:
                    piece = sock.recv(65536)
                    if not piece:
                        return
                    got += piece
                head, _, got = got.partition(b"\r\n\r\n")
                method, target = head.split(b" ")[:2]
                if not self.answer(sock, method, target.decode().split("/")[1:]):
                    return

    def answer(self, sock, method, target):
        size, how = int(target[0]), target[1] if len(target) > 1 else ""
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        if method == b"HEAD":
            return True
        if how == "slow":
            for at in range(0, size, 100_000):
                self.go.acquire()
                sock.sendall(NOISE[at:min(size, at + 100_000)])
            return True
        if how == "much":
            for _ in range(size // len(NOISE)):
                sock.sendall(NOISE)
            return True
        sock.sendall(NOISE[:size // 2 if how == "cut" else size] + (b"!" if how == "more" else b""))
        return how != "cut"


@pytest.fixture(params=["tcp", "unix"])
def proxy(request):
    folder = harness.temp_dir()
    path = folder / "u.sock"
    upstream = Upstream(("127.0.0.1", 0) if request.param == "tcp" else path)
    address = "127.0.0.1:%d" % upstream.listener.getsockname()[1] if request.param == "tcp" else f"unix:{path}"
    made = make_proxy(folder, address, proxy="")
    made.others = pipes(made)
    made.upstream = upstream
    yield made
    made.stop()
    upstream.listener.close()


def read_answer(sock, got=b""):
    """(head, body, what follows); the body is short if the connection ends."""
    while b"\r\n\r\n" not in got:
        piece = sock.recv(65536)
        assert piece, got
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    size, body = int(re.search(rb"(?i)content-length: (\d+)", head)[1]), bytearray(body)
    while len(body) < size:
        try:
            piece = sock.recv(1 << 20)
        except ConnectionResetError:
            piece = b""
        if not piece:
            break
        body += piece
    return head, bytes(body[:size]), bytes(body[size:])


def ask(sock, target, method="GET"):
    sock.sendall(f"{method} {target} HTTP/1.1\r\nHost: site\r\n\r\n".encode())


def pipes(proxy):
    return sum("pipe:" in os.readlink(link) for link in Path(f"/proc/{proxy.pid}/fd").iterdir() if link.is_symlink())


def test_every_byte(proxy):
    """On one connection, in turns with HEAD; then all of it pipelined."""
    with dial(proxy.address, 20) as sock:
        for size in SIZES:
            ask(sock, f"/{size}")
            head, body, rest = read_answer(sock)
            assert head.startswith(b"HTTP/1.1 200") and body == NOISE[:size] and not rest, size
            ask(sock, f"/{size}", "HEAD")
            got = sock.recv(65536)
            assert got.endswith(b"\r\n\r\n") and b"Content-Length: %d" % size in got
    with dial(proxy.address, 20) as sock:
        sock.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: site\r\n\r\n" % size for size in SIZES))
        rest = b""
        for size in SIZES:
            head, body, rest = read_answer(sock, rest)
            assert body == NOISE[:size], size
    assert proxy.upstream.connections <= 2 + len(SIZES)		# an answer to HEAD that announces a body ends its connection
    assert pipes(proxy) > proxy.others, "nothing was spliced"


def test_slow_ones(proxy):
    """A client that does not read for a while, and a server whose bytes come late; others are served meanwhile."""
    with dial(proxy.address, 20) as slow, dial(proxy.address, 20) as other:
        ask(slow, "/5000001")
        ask(other, "/1100001/slow")
        for at in range(0, 1_100_001, 100_000):
            proxy.upstream.go.release()
            with dial(proxy.address, 20) as third:
                ask(third, "/40000")
                assert read_answer(third)[1] == NOISE[:40_000], at
        assert read_answer(other)[1] == NOISE[:1_100_001]
        assert read_answer(slow)[1] == NOISE[:5_000_001]
        ask(slow, "/262145")
        assert read_answer(slow)[1] == NOISE[:262_145]


def peak(proxy):
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{proxy.pid}/status").read_text())[1]) << 10


def test_memory(proxy):
    """Of an answer that nobody reads only what the sockets hold is taken."""
    with dial(proxy.address, 20) as idle, dial(proxy.address, 20) as sock:
        before = peak(proxy)
        ask(idle, f"/{20 * len(NOISE)}/much")
        assert idle.recv(1000)
        for _ in range(10):
            ask(sock, "/5000001")
            assert read_answer(sock)[1] == NOISE
        assert peak(proxy) - before < 2 << 20 and pipes(proxy) <= proxy.others + 4


def test_ends_too_early(proxy):
    """The upstream's end, and the client's: neither is taken for the whole, and what was in a pipe reaches nobody else."""
    for _ in range(3):
        with dial(proxy.address, 20) as sock:
            ask(sock, "/5000001/cut")
            _, body, _ = read_answer(sock)
            assert len(body) < 5_000_001 and body == NOISE[:len(body)]
        with dial(proxy.address, 20) as sock:
            ask(sock, "/5000001")
            assert sock.recv(1000)
        with dial(proxy.address, 20) as sock:
            ask(sock, "/1048576")
            assert read_answer(sock)[1:] == (NOISE[:1_048_576], b"")
    harness.eventually(lambda: pipes(proxy) <= proxy.others + 4, 5, "the pipes are closed, or empty and kept")
    with dial(proxy.address, 20) as sock:
        ask(sock, "/1048576/more")
        assert read_answer(sock)[1:] == (NOISE[:1_048_576], b"")
        ask(sock, "/40000")
        assert read_answer(sock)[1:] == (NOISE[:40_000], b"")
