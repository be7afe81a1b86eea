"""What a proxy takes besides requests: memory of idle connections and of a large upload, time to start, and a reload under load."""
import contextlib
import os
import re
import socket
import threading
import time
from pathlib import Path

import measure
import peers
from web import dial

IDLE = 18000
UPLOAD = 1 << 30
PIECE = 1 << 20
# The targets.
IDLE_BYTES, UPLOAD_BYTES, START_MS, RELOAD = 300, 4 << 20, 50, 2.0


def rss(pid):
    """Bytes."""
    return int(re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]) * 1024


def ask(sock, path, body=0):
    """One request on a connection that is kept; its answer, head and body, is read."""
    sock.sendall(f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: bench\r\n"
                 f"{f'Content-Length: {body}' if body else 'Accept: */*'}\r\n\r\n".encode())
    piece = memoryview(bytes(PIECE))
    while body > 0:
        body -= sock.send(piece[:min(PIECE, body)])
    got = b""
    while b"\r\n\r\n" not in got:
        got += more(sock)
    head, _, rest = got.partition(b"\r\n\r\n")
    left = int(re.search(rb"(?i)content-length: (\d+)", head)[1]) - len(rest)
    while left > 0:
        left -= len(more(sock))
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise RuntimeError(f"{path}: {head.decode(errors='replace')}")


def more(sock):
    data = sock.recv(65536)
    if not data:
        raise RuntimeError("an answer was cut")
    return data


def idle(address, pid, path):
    """Bytes of memory for each connection that has had an answer and waits. The first hundred warm the server up."""
    with contextlib.ExitStack() as stack:
        before = 0
        for number in range(100 + IDLE):
            sock = stack.enter_context(contextlib.closing(dial(address, 30)))
            ask(sock, path)
            if number == 99:
                before = rss(pid)
        return (rss(pid) - before) / IDLE


class Swallow:
    """An HTTP server that takes one body after the other as fast as it comes, and keeps nothing."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        buf = bytearray(PIECE)
        while True:
            try:
                sock = self.listener.accept()[0]
            except OSError:
                return
            with sock, contextlib.suppress(RuntimeError, OSError):
                while True:
                    self.answer(sock, buf)

    @staticmethod
    def answer(sock, buf):
        got = b""
        while b"\r\n\r\n" not in got:
            got += more(sock)
        head, _, rest = got.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        left = int(length[1]) - len(rest) if length else 0
        while left > 0:
            n = sock.recv_into(buf)
            if n == 0:
                return
            left -= n
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def close(self):
        self.listener.close()


def upload(address, pid):
    """How far the memory grows above what it was, in bytes."""
    with contextlib.closing(dial(address, 120)) as sock:
        ask(sock, "/swallow", 1000)
        Path(f"/proc/{pid}/clear_refs").write_text("5")		# the peak begins anew
        before = rss(pid)
        ask(sock, "/swallow", UPLOAD)
        return max(0, measure.peak_rss(pid) - before)


def start(server, path):
    """Milliseconds from the start of the process to the first byte of an answer."""
    server.stop()
    began = time.monotonic()
    server.start(wait=False)
    while True:
        try:
            with contextlib.closing(dial(server.address, 10)) as sock:
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
                if sock.recv(1):
                    break
        except OSError:
            pass
        if time.monotonic() - began > 30:
            raise RuntimeError(f"{server.name} does not start")
        time.sleep(0.0005)
    took = (time.monotonic() - began) * 1000
    server.wait_ready()
    return took


def reload(proxy, path, options):
    """p99 (ms) of a second of load, and of a second in which the configuration is loaded again."""
    url, others = f"http://{proxy.address}{path}", measure.cpus()[1]
    calm = measure.wrk(url, 1, 64, [proxy.pid], others)
    timer = threading.Timer(0.4, proxy.reload)
    timer.start()
    loaded = measure.wrk(url, 1, 64, [proxy.pid], others)
    timer.join()
    return {"before": calm["p99_ms"], "during": loaded["p99_ms"], "errors": calm["errors"] + loaded["errors"]}


def over(rounds, what, one):
    values = []
    for turn in range(rounds):
        measure.progress(f"{what}, round {turn + 1} of {rounds}")
        values.append(one())
    return values


def median(rounds, what, servers, one):
    """{server: median}, in turns. servers: {name: argument of one}."""
    turns = over(rounds, what, lambda: {name: one(server) for name, server in servers.items()})
    return {name: measure.median([turn[name] for turn in turns]) for name in servers}


def run(options):
    """In fresh processes: what earlier load left in their memory is not theirs to count."""
    stack = peers.BenchStack(proxy=f"connections-max = {IDLE + 1000}; idle-timeout = \"10m\";")
    (stack.media / "small.bin").write_bytes(os.urandom(1000))
    swallow = Swallow()
    stack.site = peers.Origin(stack.dir / "origin", stack.media, swallow.address)
    stack.start()
    for proc in (stack.redis, stack.sandbox, *stack.migrators):
        measure.pin(proc.pid, measure.cpus()[1])
    stack.proxy.set_phase("dual-write")
    measure.pin(stack.proxy.pid, measure.cpus()[0])
    nginx = peers.nginx_pass(stack.dir / "nginx-pass", stack.site.address, "/files/small.bin").start()
    haproxy = peers.Haproxy(stack.dir / "haproxy", stack.site.address, "/files/small.bin").start()
    servers = {"r2shim": stack.proxy, "nginx": nginx, "haproxy": haproxy}
    measure.progress(f"memory of {IDLE:,} idle connections")
    result = {"connections": IDLE, "upload": UPLOAD,
              "idle": {name: idle(server.address, server.pid, "/files/small.bin") for name, server in servers.items()}}
    result["grown"] = median(options.rounds, "memory of an upload of 1 GB", servers, lambda s: upload(s.address, s.pid))
    turns = over(options.rounds, "reload under load", lambda: reload(stack.proxy, "/media/small.bin", options))
    result["reload"] = {name: measure.median([turn[name] for turn in turns]) for name in ("before", "during")}
    result["reload"]["errors"] = sum(turn["errors"] for turn in turns)
    result["start"] = median(max(5, options.rounds), "start", servers, lambda s: start(s, "/files/small.bin"))
    measure.progress()
    for peer in (haproxy, nginx):
        peer.stop()
    stack.stop()
    swallow.close()
    return result


def missed(result):
    """[(what, ours, the most that is allowed, unit)]"""
    reloads = result["reload"]
    rows = [("an idle connection", result["idle"]["r2shim"], IDLE_BYTES, "bytes"),
            ("memory growth of an upload of 1 GB", result["grown"]["r2shim"], UPLOAD_BYTES, "bytes"),
            ("start to the first byte", result["start"]["r2shim"], START_MS, "ms"),
            ("p99 of a second with a reload", reloads["during"], RELOAD * reloads["before"], "ms")]
    found = [f"{what}: {ours:,.1f} {unit}, target {most:,.1f}: {ours / most:.2f} x" for what, ours, most, unit in rows if ours > most]
    if reloads["errors"]:
        found.append(f"reload under load: {reloads['errors']} requests failed")
    return found
