"""tests/wire/requests.txt before gunicorn and nginx: whatever the proxy lets through, they understand as it did, and nothing else reaches them."""
import hashlib
import json
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import harness
from stack import Proxy
from web import dial
from wire import alphabet, cases, exchange, mutations, take_answer

CASES = cases("requests.txt")


class Recorder(harness.Proc):
    """gunicorn with wire_app, on a Unix socket. Connections are kept: what is left on one would be taken for the next request."""
    name = "gunicorn"

    def __init__(self, folder):
        super().__init__(folder)
        self.log = self.dir / "requests.json"
        self.address = f"unix:{self.dir / 'gunicorn.sock'}"
        self.env = {"WIRE_LOG": self.log, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.path.dirname(__file__)}

    def command(self):
        return [harness.PYTHON, "/usr/bin/gunicorn", "--bind", self.address, "--worker-class", "gthread", "--threads", "4", "--keep-alive", "60",
                "--limit-request-line", "0", "--limit-request-fields", "1000", "--worker-tmp-dir", self.dir, "wire_app:application"]

    def ready(self):
        try:
            with dial(self.address, 1):
                return True
        except OSError:
            return False

    def records(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


class LoggingNginx(harness.Nginx):
    """Writes down the line of each request that it understood."""

    def __init__(self, folder, media, upstream):
        super().__init__(folder, media, upstream, unix=True)
        self.log = self.dir / "access.log"
        conf = self.dir / "nginx.conf"
        conf.write_text(conf.read_text().replace("access_log off;", f"log_format line escape=none '$status $request_method $request_uri'; access_log {self.log} line;"))


def make_proxy(folder, upstream, upstream_extra="", proxy='header-timeout = "300ms"; body-timeout = "300ms";'):
    """Our proxy, in dual-write, without Redis and R2; started."""
    media, secret = folder / "media", folder / "secret"
    media.mkdir()
    (media / ".r2shim-root").write_text("test")
    (media / "file.txt").write_bytes(b"a file")
    secret.write_text("nothing")
    secret.chmod(0o600)
    made = Proxy(folder / "proxy", upstream=upstream, upstream_extra=upstream_extra, media=media, endpoint="http://127.0.0.1:1", bucket="media",
                  key_id="AKID", secret_file=secret, redis="127.0.0.1:1", policy="async", proxy=proxy)
    made.write_phase("dual-write")
    return made.start()


class Wire:
    """Our proxy before gunicorn, or before nginx before gunicorn."""

    def __init__(self, upstream):
        folder = harness.temp_dir()
        self.app = Recorder(folder / "app").start()
        self.nginx = LoggingNginx(folder / "nginx", folder / "media", self.app.address).start() if upstream == "nginx" else None
        self.proxy = make_proxy(folder, (self.nginx or self.app).address)

    def stop(self):
        code = self.proxy.stop()
        assert code == 0 and not self.proxy.sanitizer_reports(), (code, self.proxy.logs())
        for proc in (self.nginx, self.app):
            if proc:
                proc.stop()


class Expected:
    """What a case's verdict says: the answers' statuses, and what the upstream understands."""

    def __init__(self, case):
        self.answers, self.requests, self.partly, count = [], [], False, 0
        for item in case.verdict.split(","):
            self.open = bool(re.match(r"[?=a-zA-Z]", item)) and item != "end"
            found = re.fullmatch(r"(\??)([A-Za-z-]+):(\d+)(?::(.*))?", item)
            if found:
                count += 1
                optional, method, length, target = found.groups()
                target = target or f"/{case.id}" + (f"/{count}" if count > 1 else "")
                self.answers.append(((200, 400, 405, 501) if optional else (200,), method == "HEAD"))
                self.requests.append((bool(optional), method, target, int(length)))
            elif item != "end":
                self.answers.append(((int(item.lstrip("=-")),), case.data.startswith(b"HEAD ")))
                self.partly = item.startswith("-")
        if self.open:
            self.answers.append(((200,), False))
            self.requests.append((False, "GET", f"/end-of-{case.id}", 0))


def check_case(wire, case):
    """The case's problems, as text; None if there is none."""
    expected = Expected(case)
    before = len(wire.app.records())
    data, end = exchange(wire.proxy.address, case.data + (f"GET /end-of-{case.id} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n".encode() if expected.open else b""))
    got, rest = [], data
    try:
        while rest:
            answer, rest = take_answer(rest, len(got) < len(expected.answers) and expected.answers[len(got)][1])
            got.append(answer.status)
    except AssertionError as e:
        return f"answers {got}, then {e}"
    if end != "closed":
        return f"answers {got}, and the connection is {end}"
    if len(got) != len(expected.answers) or any(status not in allowed for status, (allowed, _) in zip(got, expected.answers)):
        return f"answers {got}, expected {[allowed for allowed, _ in expected.answers]}"
    understood = [(r["method"], r["target"], r["length"], r["sha256"]) for r in wire.app.records()[before:] if r["whole"]]
    wanted = [(method, target, length, hashlib.sha256(alphabet(length)).hexdigest())
              for (optional, method, target, length), status in zip(expected.requests, [s for s in got if s < 300 or not expected.partly])
              if not (optional and status != 200)]
    return None if understood == wanted else f"understood {understood}, expected {wanted}"


@pytest.mark.parametrize("upstream", ["gunicorn", "nginx"])
def test_A04_what_is_let_through_is_understood_alike(r2shim, upstream):
    wire = Wire(upstream)
    try:
        problems = {case.id: problem for case in CASES if (problem := check_case(wire, case))}
        assert problems == {}, "\n".join(f"{ident}: {problem}" for ident, problem in problems.items())
    finally:
        wire.stop()
    partly = {case.id for case in CASES if Expected(case).partly}
    cut = {record["target"].split("/")[1] for record in wire.app.records() if not record["whole"]}
    assert cut <= partly
    if wire.nginx:
        check_nginx(wire)


def check_nginx(wire):
    """Each request that nginx understood is one that the application was given, but for those that it refused or whose body broke off."""
    lines = [line.split(" ", 2) for line in wire.nginx.log.read_text().splitlines()]
    given = [(r["method"], r["target"]) for r in wire.app.records() if r["whole"]]
    assert [(method, target) for status, method, target in lines if status == "200" and target != "/ping-nginx"] == given


LOGGED = re.compile(r'"(\S+) (?:(?i:https?)://[^/? ]*)?(\S*) HTTP/1\.\d" (\d+) .* dual-write (\w+) \S+$', re.MULTILINE)


def as_logged(target):
    return target.replace("\\", "\\x5C").replace('"', "\\x22")


@pytest.mark.parametrize("upstream", ["gunicorn", "nginx"])
def test_A04_mutations(r2shim, upstream):
    """R2SHIM_SEED=N: other ones. What our access log says was answered by the upstream is what the application was given."""
    seed, wire = int(os.environ.get("R2SHIM_SEED", "4")), Wire(upstream)
    behind = b"GET /behind HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n"
    with ThreadPoolExecutor(24) as pool:
        ends = list(pool.map(lambda data: exchange(wire.proxy.address, data + behind)[1], mutations(seed, 1000)))
    assert "open" not in ends
    wire.stop()
    lines = LOGGED.findall((wire.proxy.dir / "access.log").read_text())
    ours = Counter((method, target if target.startswith("/") or target == "*" else "/" + target)
                   for method, target, status, source in lines if (source, status) == ("upstream", "200"))
    theirs = Counter((r["method"], as_logged(r["target"])) for r in wire.app.records() if r["whole"])
    print(f"seed {seed}: {sum(theirs.values())} requests let through")
    assert ours == theirs, (seed, ours - theirs, theirs - ours)
    assert sum(theirs.values()) > 100


def test_enough_cases():
    assert len(CASES) >= 150 and all(re.fullmatch(r"(9110|9112|9113|3986):[A0-9.]+", case.section) for case in CASES)
