"""TLS towards clients, the upstream and R2: a real proxy, curl and openssl s_client, certificates that are swapped under load."""
import http.server
import socket
import ssl
import subprocess
import threading
import time

import pytest

from certs import EC, RSA, Authority, Terminator
from harness import eventually, free_port, temp_dir
from history import content
from stack import Proxy
from web import Client, Cut

REQUESTS_MAX = 1000		# of a connection
CERTIFICATES = ", ".join('{{ certificate = "{0}.pem"; key = "{0}.key"; }}'.format(name) for name in ("site", "shop"))


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the request's head."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Upstream(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Echo)
        self.address = f"127.0.0.1:{self.server_port}"
        self.context = None		# with TLS if there is one
        self.connections = 0

    def finish_request(self, request, client_address):
        """On the connection's own thread: the handshake holds nobody up."""
        self.connections += 1
        try:
            super().finish_request(self.context.wrap_socket(request, server_side=True) if self.context else request, client_address)
        except (ssl.SSLError, ConnectionError):
            pass


@pytest.fixture
def upstream():
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Front(Proxy):
    """A proxy with TLS and nothing behind it but an upstream; neither Redis nor R2 is there."""

    def __init__(self, folder, upstream, more=""):
        media = folder / "media"
        media.mkdir()
        (media / ".r2shim-root").write_text("test\n")
        self.secret = folder / "secret"
        self.secret.write_text("nothing")
        self.secret.chmod(0o600)
        self.media = media
        self.tls = f"127.0.0.1:{free_port()}"
        super().__init__(folder / "proxy", upstream=upstream.address, media=media, endpoint="http://127.0.0.1:1", bucket="media", key_id="AKID",
                         secret_file=self.secret, redis="127.0.0.1:1",
                         proxy=f'tls-listen = [ "{self.tls}" ]; certificates = ( {CERTIFICATES} );')
        self.authority = Authority(self.dir)
        self.context = self.authority.client()
        self.authority.sign("site", "DNS:site.example", "DNS:*.site.example")
        self.authority.sign("shop", "DNS:shop.example", key=RSA)
        self.write_phase("dual-write")

    def client(self, name="site.example"):
        return Client(self.tls, 30, tls=(self.context, name))

    def certificate(self, name="site.example"):
        """The serial number that new connections are shown."""
        with socket.create_connection(("127.0.0.1", int(self.tls.split(":")[1])), 10) as sock:
            with self.context.wrap_socket(sock, server_hostname=name) as tls:
                return tls.getpeercert()["serialNumber"]

    def s_client(self, *args, text=""):
        done = subprocess.run(["/usr/bin/openssl", "s_client", "-connect", self.tls, "-CAfile", self.authority.pem, *args], input=text,
                              capture_output=True, text=True, timeout=30)
        return done.returncode, done.stdout + done.stderr

    def reloads(self, result):
        return self.metrics().get(f'r2shim_reloads_total{{result="{result}"}}', 0)


@pytest.fixture
def front(r2shim, upstream):
    proxy = Front(temp_dir(), upstream)
    proxy.start()
    yield proxy
    assert proxy.stop() == 0, proxy.logs()
    assert not proxy.sanitizer_reports(), proxy.logs()


def curl(front, host, path, *args):
    port = front.tls.split(":")[1]
    done = subprocess.run(["/usr/bin/curl", "-sS", "--cacert", front.authority.pem, "--resolve", f"{host}:{port}:127.0.0.1", *args,
                           f"https://{host}:{port}{path}"], capture_output=True, timeout=60)
    return done.returncode, done.stdout, done.stderr.decode()


def test_clients(front):
    """Answers as over a plain connection, names as the certificates bear them, and what is refused."""
    big = content("big", 3_000_000)
    (front.media / "big.bin").write_bytes(big)
    (front.media / "small.txt").write_bytes(b"small")
    with front.client() as tls, Client(front.address, 30) as plain:
        for target, headers in (("/media/small.txt", {}), ("/media/big.bin", {}), ("/media/big.bin", {"Range": "bytes=100000-2000000"}),
                                ("/media/none.txt", {}), ("/media/small.txt", {"If-None-Match": "*"})):
            a, b = tls.request("GET", target, headers=headers), plain.request("GET", target, headers=headers)
            assert (a.status, a.body, a.headers["ETag"]) == (b.status, b.body, b.headers["ETag"]), target
        assert tls.get("/media/big.bin").body == big
        head = tls.get("/", X_Forwarded_Proto="http").body.decode()
        assert "X-Forwarded-Proto: https\n" in head and "proto=https" in head and "X-Forwarded-Proto: http\n" not in head
        assert "X-Forwarded-Proto: http\n" in plain.get("/").body.decode()
        assert tls.connects == 1
    for host, want in (("site.example", 0), ("a.site.example", 0), ("shop.example", 0), ("a.b.site.example", 60), ("other.example", 60)):
        code, out, err = curl(front, host, "/media/small.txt", "--http1.1")
        assert code == want and (code != 0 or out == b"small"), (host, code, err)
    code, out, err = curl(front, "shop.example", "/media/big.bin", "--tls-max", "1.2", "--http2")
    assert code == 0 and out == big, err
    for args, said in ((("-tls1_1", "-cipher", "ALL@SECLEVEL=0"), "alert protocol version"),
                       (("-tls1_2", "-cipher", "AES128-GCM-SHA256", "-servername", "shop.example"), "alert handshake failure"),
                       (("-alpn", "h2"), "alert no application protocol")):
        code, text = front.s_client(*args)
        assert code != 0 and said in text, (args, text)
    code, text = front.s_client("-tls1_2", "-no_ign_eof", text="R\n")
    assert "RENEGOTIATING" in text and "no renegotiation" in text, text
    metrics = front.metrics()
    assert metrics['r2shim_tls_handshakes_total{result="failed"}'] == 3, metrics
    assert metrics['r2shim_client_closes_total{reason="TLS_HANDSHAKE"}'] == 3
    assert metrics["r2shim_tls_certificates_end_timestamp_seconds"] == pytest.approx(time.time() + 30 * 86400, abs=3600)


def test_slow_handshake(front):
    """Who stops within it is gone when the time of a head is over; others are served meanwhile."""
    with front.client() as http:
        assert http.get("/").status == 200
        front.write_conf(proxy=front.options["proxy"] + ' header-timeout = "300ms";')
        front.reload()
        eventually(lambda: front.reloads("ok") == 1, 10, "reloaded")
        with socket.create_connection(("127.0.0.1", int(front.tls.split(":")[1])), 10) as slow:
            slow.sendall(bytes.fromhex("160301020001"))
            assert http.get("/").status == 200 and http.connects == 1
            assert slow.recv(100) == b""
    eventually(lambda: front.metrics().get('r2shim_client_closes_total{reason="TLS_TIMEOUT"}') == 1, 5, "the reason is counted")


class Asker(threading.Thread):
    """GETs one after the other, on a connection that is kept or on a new one each time."""

    def __init__(self, front, want, keep):
        super().__init__()
        self.front, self.want, self.keep = front, want, keep
        self.asked, self.connects, self.failed, self.stopping = 0, 0, [], threading.Event()

    def run(self):
        http = self.front.client()
        while not self.stopping.is_set():
            try:
                if http.get("/media/a.bin").body != self.want:
                    self.failed.append("wrong bytes")
            except (Cut, ssl.SSLError, OSError) as e:
                self.failed.append(repr(e))
            self.asked += 1
            if not self.keep:
                http.close()
        self.connects = http.connects
        http.close()


def test_swap(front):
    """New certificates by reload while requests run: none fails, none of the kept connections is dropped, and new ones see them. One
    that cannot be used changes nothing."""
    body = content("a", 40_000)
    (front.media / "a.bin").write_bytes(body)
    askers = [Asker(front, body, keep) for keep in (True, True, False, False)]
    for asker in askers:
        asker.start()
    try:
        seen = {front.certificate()}
        for turn in range(1, 6):
            front.authority.sign("site", "DNS:site.example", key=RSA if turn % 2 else EC)
            front.reload()
            eventually(lambda turn=turn: front.reloads("ok") == turn, 10, "reloaded")
            seen.add(front.certificate())
            before = [asker.asked for asker in askers]
            eventually(lambda before=before: all(a.asked > n for a, n in zip(askers, before)), 10, "requests go on")
        assert len(seen) == 6
        last = front.certificate()
        (front.dir / "site.key").write_bytes((front.dir / "shop.key").read_bytes())
        front.reload()
        eventually(lambda: front.reloads("refused") == 1, 10, "refused")
        assert front.certificate() == last
    finally:
        for asker in askers:
            asker.stopping.set()
        for asker in askers:
            asker.join()
    assert [asker.failed for asker in askers] == [[]] * 4
    assert all(asker.connects == 1 + (asker.asked - 1) // REQUESTS_MAX for asker in askers[:2])
    code, _, err = front.run("check")
    assert code == 3 and "site.pem: the key is not that of the certificate" in err and "r2shim.conf:4: certificate: " in err, (code, err)


def test_check(front):
    """What will end soon is said, and is no mistake."""
    front.authority.sign("shop", "DNS:shop.example", days=5)
    code, out, err = front.run("check")
    assert code == 0 and "shop.pem: the certificate, or one of its chain, ends on " in out and "site.pem" not in out, (code, out, err)


def test_upstream(front, upstream):
    """An upstream with TLS is asked if it is who it must be, and else never."""
    front.authority.sign("app", "DNS:app.example")
    upstream.context = front.authority.server("app")
    right = f'tls = true; ca-file = "{front.authority.pem}"; server-name = "app.example";'
    (front.dir / "other").mkdir()
    with front.client() as http:
        assert http.get("/").status == 502		# it does not answer plain requests any more
        for turn, (extra, said) in enumerate((
                (right, None), (right.replace("app.example", "other.example"), 'the certificate of "app" is not for other.example'),
                (f'tls = true; ca-file = "{Authority(front.dir / "other").pem}"; server-name = "app.example";', "leads to none of"),
                ("tls = true;", "none of the system's authorities"), (right, None)), 1):
            front.write_conf(upstream_extra=extra)
            front.reload()
            eventually(lambda turn=turn: front.reloads("ok") == turn, 10, "reloaded")
            before, answers = upstream.connections, [http.get("/") for _ in range(3)]
            if said is None:
                assert [answer.status for answer in answers] == [200] * 3 and b"X-Forwarded-Proto: https" in answers[0].body
                assert upstream.connections == before + 1
            else:
                assert [answer.status for answer in answers] == [502] * 3, answers
                assert said in front.err.read_text(), said
        assert http.connects == 1


def test_r2(make_stack):
    """R2 behind https: read and written with its certificate verified; without that nothing is sent, and the disk serves."""
    stack = make_stack(migrators=1).start()
    for number in range(20):
        stack.write(f"{number}.bin", content(str(number), 30_000))
    stack.proxy.climb("read-r2")
    authority = Authority(stack.dir)
    authority.sign("r2", "DNS:localhost")
    (stack.dir / "other").mkdir()

    with Terminator(authority.server("r2"), stack.sandbox.listen) as terminator:
        def read_all(pem):
            reloads = stack.proxy.metrics()['r2shim_reloads_total{result="ok"}']
            stack.proxy.write_conf(endpoint=terminator.endpoint, r2=f'ca-file = "{pem}";')
            stack.proxy.reload()
            eventually(lambda: stack.proxy.metrics()['r2shim_reloads_total{result="ok"}'] > reloads, 10, "reloaded")
            before = stack.proxy.metrics()
            with stack.client() as http:
                for number in range(20):
                    assert http.get(f"/media/{number}.bin").body == content(str(number), 30_000)
            after = stack.proxy.metrics()
            return {source: after.get(f'r2shim_media_served_total{{source="{source}"}}', 0) - before.get(f'r2shim_media_served_total{{source="{source}"}}', 0)
                    for source in ("r2", "disk")}

        assert read_all(authority.pem) == {"r2": 20, "disk": 0}
        assert terminator.connections <= 4		# of both pools, the probe's among them
        with stack.client() as http:
            assert http.upload("new.bin", b"new").status == 201
        stack.proxy.drained()
        assert stack.bucket.get("documents/new.bin") == b"new"
        assert read_all(Authority(stack.dir / "other").pem) == {"r2": 0, "disk": 20}
        assert stack.proxy.metrics()['r2shim_r2_errors_total{error="CONNECT"}'] > 0
        code, out, _ = stack.proxy.run("check", "--online")
        assert code == 5 and "R2         FAILED" in out and "certificate" in out, out
