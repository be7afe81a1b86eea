"""Several servers of one application: who is refused, hangs or is sick is left out and comes back; nothing that writes is sent twice."""
import re
import socket
import threading

import pytest

import harness
from test_wire import make_proxy
from web import Client, dial

BODY = bytes(range(256)) * 400		# more than is held back of an upload, and than fits the first read


class Server:
    """A scripted application. mode: well; hang, never answers; cut, closes instead; sick, answers /health with 503."""

    def __init__(self, name, mode="well"):
        self.name, self.mode, self.seen = name, mode, []
        self.port = harness.free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.socket = None

    def start(self):
        self.socket = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def accept(self):
        while True:
            try:
                sock, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        with sock, sock.makefile("rb") as stream:
            while line := stream.readline():
                method, target, _ = line.decode().split(" ")
                length = 0
                while (header := stream.readline()) != b"\r\n":
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                self.seen.append((method, target, stream.read(length)))
                if self.mode == "cut":
                    return
                if self.mode == "hang":
                    stream.read(1)		# until the proxy gives up
                    return
                status = "503 Sick" if self.mode == "sick" and target == "/health" else "200 OK"
                sock.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(self.name)}\r\n\r\n{self.name}".encode())

    def targets(self, method):
        return [target for was, target, _ in self.seen if was == method]

    def stop(self):
        if self.socket:
            self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()


class Site:
    def __init__(self, first, second, options):
        self.a, self.b = first, second
        self.proxy = make_proxy(harness.temp_dir(), first.address, f'more = [ "{second.address}" ]; {options}')
        self.client = Client(self.proxy.address, 10)

    def get(self, target):
        answer = self.client.request("GET", target)
        return answer.status, answer.body.decode()

    def up(self):
        shown = self.proxy.metrics()
        return [shown[f'r2shim_upstream_up{{server="{server.address}"}}'] for server in (self.a, self.b)]

    def count(self, what, server):
        return self.proxy.metrics()[f'r2shim_upstream_{what}_total{{server="{server.address}"}}']

    def stop(self):
        self.client.close()
        code = self.proxy.stop()
        assert code == 0 and not self.proxy.sanitizer_reports(), (code, self.proxy.logs())
        self.a.stop()
        self.b.stop()


@pytest.fixture
def site():
    made = []

    def make(first, second, options):
        made.append(Site(first, second, options))
        return made[-1]
    yield make
    for one in made:
        one.stop()


def test_one_is_refused_and_comes_back(site):
    """Nobody sees that a server is away, uploads included; one request at a time tries it."""
    s = site(Server("a"), Server("b").start(), 'fail-max = 2; fail-time = "500ms";')
    for i in range(6):
        assert s.get(f"/{i}") == (200, "b")
        answer = s.client.request("POST", f"/post/{i}", BODY)
        assert (answer.status, answer.body) == (200, b"b")
    assert s.b.targets("GET") == [f"/{i}" for i in range(6)] and s.b.targets("POST") == [f"/post/{i}" for i in range(6)]
    assert all(body == BODY for method, _, body in s.b.seen if method == "POST")
    assert s.up() == [0, 1] and s.count("failures", s.a) >= 2 and s.count("failures", s.b) == 0
    assert f"{s.a.address} is down" in s.proxy.stderr()
    shown = s.proxy.run("status")[1]
    assert f"{s.a.address}: down" in shown and f"{s.b.address}: up" in shown and re.search(rf"upstream: {s.a.address} is down", shown), shown
    s.a.start()
    harness.eventually(lambda: s.get("/again") == (200, "a"), what="the trial")
    assert s.up() == [1, 1] and f"{s.a.address} is up again" in s.proxy.stderr()
    assert {s.get("/turn")[1] for _ in range(4)} == {"a", "b"}
    listed = {one["address"]: one["up"] for one in s.proxy.status()["proxy"]["upstreams"]}
    assert listed == {s.a.address: True, s.b.address: True}


@pytest.mark.parametrize("mode, status", [("hang", 504), ("cut", 502)])
def test_a_write_is_sent_once(site, mode, status):
    """A server that has the request and says nothing: a read is asked of the other one, a write is not, with a body or without."""
    s = site(Server("a", mode).start(), Server("b").start(), 'fail-max = 100; timeout = "300ms";')
    assert s.client.request("POST", "/post", b"body").status == status
    assert s.b.seen == []
    assert s.get("/b") == (200, "b")
    assert s.client.request("DELETE", "/delete").status == status
    assert s.b.targets("DELETE") == []
    assert s.get("/b") == (200, "b")
    assert s.get("/both") == (200, "b")
    assert [seen[:2] for seen in s.a.seen] == [("POST", "/post"), ("DELETE", "/delete"), ("GET", "/both")]
    assert s.b.targets("GET") == ["/b", "/b", "/both"]
    assert s.up() == [1, 1] and s.count("failures", s.a) == 3


def test_hanging_is_left_out(site):
    s = site(Server("a", "hang").start(), Server("b").start(), 'fail-max = 2; fail-time = "1h"; timeout = "300ms";')
    for _ in range(6):
        assert s.get("/x") == (200, "b")
    assert len(s.a.seen) == 2 and s.up() == [0, 1]
    # What is left is asked, whatever it was: both are down then.
    s.b.mode = "hang"
    for _ in range(4):
        assert s.get("/y")[0] == 504
    assert s.up() == [0, 0]
    s.b.mode = "well"
    harness.eventually(lambda: s.get("/z") == (200, "b"), what="the one that is well")


def test_the_body_follows(site):
    """While a connect hangs the body comes; it goes whole to the server that takes it."""
    a = Server("a")
    full = socket.create_server(("127.0.0.1", a.port), backlog=0)
    fill = []
    try:
        while True:
            fill.append(dial(a.address, 0.3))
    except TimeoutError:
        pass		# the queue is full: the next ones hang
    s = site(a, Server("b").start(), 'fail-max = 100; connect-timeout = "300ms";')
    answer = s.client.request("POST", "/upload", BODY)
    assert (answer.status, answer.body) == (200, b"b")
    assert s.b.seen == [("POST", "/upload", BODY)] and s.count("failures", a) == 1
    for sock in (*fill, full):
        sock.close()


def test_checks(site):
    """A server that says it is sick gets nothing but checks until it is well."""
    s = site(Server("a", "sick").start(), Server("b").start(), 'fail-max = 2; health-path = "/health"; health-interval = "100ms";')
    harness.eventually(lambda: s.up() == [0, 1], what="a is sick")
    assert "health-path answered 503" in s.proxy.stderr()
    for _ in range(4):
        assert s.get("/x") == (200, "b")
    assert set(s.a.targets("GET")) == {"/health"}
    s.a.mode = "well"
    harness.eventually(lambda: s.up() == [1, 1], what="a is well")
    assert {s.get("/x")[1] for _ in range(4)} == {"a", "b"}
    # A reload takes the checks away, and with them what they said.
    s.a.mode = "sick"
    harness.eventually(lambda: s.up() == [0, 1], what="a is sick again")
    s.proxy.write_conf(upstream_extra=f'more = [ "{s.b.address}" ];')
    s.proxy.reload()
    harness.eventually(lambda: s.up() == [1, 1], what="the reload")
