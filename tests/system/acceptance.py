"""What the tests of the acceptance cases (tests/acceptance.txt) have in common: a site whose media URLs take PUT and DELETE, writers,
faults that are waited for, and the last question, which is always the same: do both sides agree?"""
import json
import os
import threading
import time
import urllib.parse

from harness import eventually, temp_dir
from web import Client


TOKEN = "acceptance-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def site(make_stack, **options):
    """A site that takes PUT and DELETE on media URLs, from whoever bears the token (without one there is no r2-primary). A write does not
    wait for R2, unless told otherwise."""
    folder = temp_dir()
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    prefixes = f'{{ url = "/media/"; class = "public"; writes = "upstream"; token-file = "{token}"; }}'
    return make_stack("webdav", folder=folder, **{"policy": "async", "prefixes": prefixes, **options})


def url(key):
    return "/media/" + urllib.parse.quote(key)


def put(proxy, key, body, timeout=60):
    """A PUT over a connection of its own: its status."""
    with Client(proxy.address, timeout) as http:
        return http.put(url(key), body, **BEARER).status


def delete(proxy, key, timeout=60):
    with Client(proxy.address, timeout) as http:
        return http.delete(url(key), **BEARER).status


def get(proxy, key):
    """The body, or None if there is no such file."""
    with Client(proxy.address) as http:
        answer = http.get(url(key))
        assert answer.status in (200, 404), answer
        return answer.body if answer.status == 200 else None


class Later(threading.Thread):
    """A call in a thread of its own; result() waits for it."""

    def __init__(self, call, *args):
        super().__init__(daemon=True)
        self.call, self.args, self.value, self.error = call, args, None, None
        self.start()

    def run(self):
        try:
            self.value = self.call(*self.args)
        except BaseException as e:
            self.error = e

    def result(self, timeout=60):
        self.join(timeout)
        assert not self.is_alive(), f"{self.call} does not come back"
        if self.error:
            raise self.error
        return self.value


def held(stack, tag="x", count=1, timeout=20):
    """Waits until so many requests are held by the sandbox at that tag."""
    eventually(lambda: stack.sandbox.stats()["held"].get(tag, 0) >= count, timeout, f"{count} requests held at {tag}")


def release(stack):
    """Takes all rules away, and lets the held ones go."""
    stack.sandbox.faults()


def operations(stack, name):
    """{status: count} of an operation that the sandbox has answered."""
    return stack.sandbox.stats()["operations"].get(name, {})


def intents(proxy):
    """How many writes are open, as the proxy itself says."""
    return json.loads(proxy.admin("/status").body)["intents"]


def redis_key(stack, name):
    return f"r2shim:{{{stack.proxy.options['site']}}}:{name}"


def dead_letters(stack):
    """{key: why}"""
    flat = stack.redis.call("HGETALL", redis_key(stack, "dead"))
    return {key: json.loads(text)["why"] for key, text in zip(flat[::2], flat[1::2])}


def at_rest(stack, timeout=60):
    """Everything healed: no mark, no work, equal sides, and rclone agrees."""
    stack.proxy.drained(timeout)
    stack.assert_equal(timeout)
    code, report = stack.rclone_check("--download")
    assert code == 0, report


def cpu_seconds(proc):
    """Processor time that a process has used."""
    with open(f"/proc/{proc.pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def during(seconds):
    """Lets time pass: for what must not happen meanwhile, never for what must."""
    threading.Event().wait(seconds)


class Writers:
    """PUTs from several threads: keys "k/0" to "k/COUNT-1"; each answer's status and time is kept."""

    def __init__(self, proxy, count, threads=8, folder="k", version="1"):
        self.proxy, self.folder, self.version = proxy, folder, version
        self.numbers, self.lock = iter(range(count)), threading.Lock()
        self.statuses, self.seconds, self.problems = {}, [], []
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def body(self, number):
        return f"{self.folder} {number} version {self.version}\n".encode() * (1 + number % 50)

    def work(self):
        with Client(self.proxy.address) as http:
            while True:
                with self.lock:
                    number = next(self.numbers, None)
                if number is None:
                    return
                began = time.monotonic()
                try:
                    status = http.put(url(f"{self.folder}/{number}"), self.body(number), **BEARER).status
                except OSError as e:
                    self.problems.append(f"{number}: {e}")
                    continue
                with self.lock:
                    self.statuses[status] = self.statuses.get(status, 0) + 1
                    self.seconds.append(time.monotonic() - began)

    def done(self):
        return len(self.seconds) + len(self.problems)

    def finish(self, timeout=120):
        for thread in self.threads:
            thread.join(timeout)
            assert not thread.is_alive(), "a writer hangs"
        assert not self.problems and set(self.statuses) <= {201, 204}, (self.statuses, self.problems[:5])
        return self

