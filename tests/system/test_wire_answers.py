"""tests/wire/answers.txt from a scripted upstream: a malformed answer is never passed on as a good one, and its connection never used again."""
import os
import re
import socket
import threading

import pytest

import harness
from test_wire import make_proxy
from wire import CLOSES, LATER, alphabet, cases, exchange, mutations, take_answer

CASES = cases("answers.txt")


class Script:
    """The upstream: to /ID it sends what the case says, to everything else a good answer. Each connection has a thread."""

    def __init__(self, path):
        self.address = f"unix:{path}"
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(64)
        self.answers = {f"/{case.id}": case.data for case in CASES}
        self.reused = {}		# probe's target: was its connection used before?
        self.late = {}			# /ID: the connection, and what it shall still send
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        count, got = 0, b""
        with sock:
            while True:
                while b"\r\n\r\n" not in got:
                    try:
                        piece = sock.recv(65536)
                    except OSError:
                        return
                    if not piece:
                        return
                    got += piece
                head, _, got = got.partition(b"\r\n\r\n")
                target = head.split(b" ")[1].decode()
                count += 1
                if not self.answer(sock, target, count):
                    return

    def answer(self, sock, target, count):
        """False: the connection is to be closed."""
        data = self.answers.get(target)
        if data is None:
            self.reused[target] = count > 1
            data = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nprobe"
        now, later, rest = data.partition(LATER)
        if later:
            self.late[target] = sock, rest
        try:
            sock.sendall(now.removesuffix(CLOSES))
        except OSError:
            return False		# the proxy has heard enough
        return not now.endswith(CLOSES)

    def send_late(self, target):
        sock, data = self.late.pop(target, (None, b""))
        try:
            if data.endswith(CLOSES):
                sock.shutdown(socket.SHUT_RDWR)
            elif sock:
                sock.sendall(data)
        except OSError:
            pass		# the proxy has closed it already


def get(proxy, target, method="GET"):
    return exchange(proxy.address, f"{method} {target} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n".encode())


def is_cut(data, end):
    """Does the client see that the answer is not whole?"""
    if end == "reset":
        return True
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        return False
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return len(body) < int(length[1]) if length else b"transfer-encoding: chunked" in head.lower() and not body.endswith(b"0\r\n\r\n")


def body_of(data, to_head):
    """Of an answer with a length or in chunks: the body, decoded."""
    head, _, body = data.partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" not in head.lower() or to_head:
        return take_answer(data, to_head)[0].body
    out = b""
    while (size := int(body.split(b"\r\n", 1)[0], 16)) > 0:
        body = body.split(b"\r\n", 1)[1]
        out, body = out + body[:size], body[size + 2:]
    assert body == b"0\r\n\r\n", body
    return out


def check_case(proxy, script, case):
    """The case's problem, as text; None if there is none."""
    method = "HEAD" if case.id.startswith("head-") and not case.verdict.startswith("50") else "GET"
    verdict, status, length = re.fullmatch(r"(cut|(\d+)(?::(\d+))?)\+?", case.verdict).groups()
    data, end = get(proxy, f"/{case.id}", method)
    if verdict == "cut":
        if not is_cut(data, end):
            return f"not visibly cut: {data}"
    elif not data.startswith(f"HTTP/1.1 {status} ".encode()):
        return f"expected {status}: {data[:200]}"
    elif length is not None and body_of(data, method == "HEAD") != alphabet(int(length)):
        return f"expected {length} bytes: {data[:200]}"
    script.send_late(f"/{case.id}")
    probe, _ = get(proxy, f"/probe-{case.id}")
    if not probe.endswith(b"\r\n\r\nprobe"):
        return f"the next request's answer: {probe[:200]}"
    reused = script.reused[f"/probe-{case.id}"]
    return None if reused == case.verdict.endswith("+") else f"connection used again: {reused}"


@pytest.fixture
def script_and_proxy(r2shim):
    """The upstream, and our proxy before it, which must end well."""
    folder = harness.temp_dir()
    script = Script(folder / "upstream.sock")
    proxy = make_proxy(folder, script.address, upstream_extra='timeout = "300ms";')
    yield script, proxy
    script.socket.close()
    assert proxy.stop() == 0 and not proxy.sanitizer_reports()


def test_A06_malformed_answers(script_and_proxy):
    script, proxy = script_and_proxy
    problems = {}
    for case in CASES:
        try:
            problem = check_case(proxy, script, case)
        except AssertionError as e:
            problem = str(e)
        if problem:
            problems[case.id] = problem
    assert problems == {}, "\n".join(f"{ident}: {problem}" for ident, problem in problems.items())


def test_A06_mutations(script_and_proxy):
    """R2SHIM_SEED=N: other ones. Whatever an answer is, and whatever comes behind it, nothing of it is the answer to another request. One
    after the other: bytes that come when the connection is in use again are the next answer's, for every proxy."""
    script, proxy = script_and_proxy
    seed = int(os.environ.get("R2SHIM_SEED", "6"))
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    ends = [CLOSES, evil, LATER + evil, CLOSES]
    script.answers = {f"/changed-{number}": data + ends[number % 4] for number, data in enumerate(mutations(seed, 400, "answers.txt"))}
    good = 0
    for target in script.answers:
        data, end = get(proxy, target)
        assert end == "reset" or (end == "closed" and data.startswith(b"HTTP/1.1 ")), (seed, target, end, data[:200])
        good += data.startswith(b"HTTP/1.1 200 ")
        script.send_late(target)
        probe, _ = get(proxy, f"/probe-{target[1:]}")
        assert probe.startswith(b"HTTP/1.1 200 ") and probe.endswith(b"\r\n\r\nprobe"), (seed, target, probe[:200])
    print(f"seed {seed}: {good} answers passed on")
    assert good > 50
