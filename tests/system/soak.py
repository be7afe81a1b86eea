"""A soak: mixed load on the whole site while an operator and the world do what they do in a month: reloads with new certificates, an
upstream that is restarted, an R2 that is slow and fails now and then. What is judged:

- no request fails that the upstream or both stores did not make fail: an answer 502 or 503, or a cut one, to a request that needed the
  upstream while it was away is the upstream's; nothing else is excused, and no read of media at all;
- no answer is wrong (history.py);
- memory and descriptors of the proxy are flat.
"""
import re
import statistics
import threading
import time
from pathlib import Path

from certs import Authority
from clients import Load
from harness import eventually, free_port

R2_RULES = "read 503 5%\nwrite 503 5%\n* delay 50ms"
AWAY = re.compile(r"<Response 50[234] |^(POST|PUT|DELETE) ")		# the second: a cut answer
SLACK_RSS = 4 << 20		# bytes, above which and above a tenth memory has grown
SLACK_FDS = 8


class Front:
    """TLS for a proxy to be: `options` for its configuration, `tls` for the load's clients; new certificates at will."""

    def __init__(self, folder):
        self.authority = Authority(folder)
        self.renew()
        address = f"127.0.0.1:{free_port()}"
        self.options = (f'tls-listen = [ "{address}" ]; '
                        f'certificates = ( {{ certificate = "{folder}/site.pem"; key = "{folder}/site.key"; }} );')
        self.tls = (address, self.authority.client(), "site.example")

    def renew(self):
        self.authority.sign("site", "DNS:site.example")


class Samples(threading.Thread):
    """RSS in bytes and descriptors of a process, each second."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.rss, self.fds, self.stopping = pid, [], [], threading.Event()

    def take(self):
        status = Path(f"/proc/{self.pid}/status").read_text()
        self.rss.append(int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024)
        self.fds.append(len(list(Path(f"/proc/{self.pid}/fd").iterdir())))

    def run(self):
        while not self.stopping.wait(1):
            self.take()

    def stop(self):
        self.stopping.set()
        self.join()
        self.take()


def quarters(values):
    """(median of the second quarter, of the last): the first one warms up."""
    n = len(values) // 4
    return statistics.median(values[n:2 * n] or values), statistics.median(values[-n:] if n else values)


class Soak:
    """On a stack that runs with a Front's options, in a phase in which R2 is read; every second client speaks TLS. Every `every` seconds
    one reload, with a new certificate; each third one the upstream is restarted."""

    def __init__(self, stack, front, clients=24, every=5.0, seed=1):
        self.stack, self.front, self.every = stack, front, every
        self.load = Load(stack.proxy.address, clients=clients, seed=seed, pause=0.02, problems_max=1 << 20, tls=front.tls)
        self.reloads = self.restarts = 0
        self.away = []		# (from, to) of the upstream, as the load's problems count time

    def now(self):
        return time.monotonic() - self.load.started

    def reload(self):
        """Not the same file again: the largest body is another one each time."""
        self.reloads += 1
        proxy = self.stack.proxy
        self.front.renew()
        proxy.write_conf(proxy=f'{self.front.options} body-max = "{1000 + self.reloads}MiB";')
        proxy.reload()
        eventually(lambda: proxy.metrics().get('r2shim_reloads_total{result="ok"}', 0) >= self.reloads, 10, f"reload {self.reloads}")

    def restart_upstream(self):
        self.restarts += 1
        begun = self.now()
        self.stack.site.restart()
        self.away.append((begun, self.now()))

    def excused(self, problem):
        """A request that needs the application, and failed as it does without one. It may have begun before, and be seen after."""
        text = problem["text"]
        return not text.startswith(("GET ", "HEAD ")) and AWAY.search(text) is not None and any(a <= problem["at"] <= b + 1 for a, b in self.away)

    def run(self, seconds, progress=None):
        proxy = self.stack.proxy
        self.stack.sandbox.faults(R2_RULES)
        samples = Samples(proxy.pid)
        self.load.start()
        samples.start()
        turn, moment = 0, threading.Event()
        while self.now() < seconds:
            moment.wait(max(0, min((turn + 1) * self.every, seconds) - self.now()))
            turn += 1
            self.reload()
            if turn % 3 == 0:
                self.restart_upstream()
            if progress:
                progress(f"soak: {self.now():.0f} of {seconds:.0f} s, {self.load.requests()} requests, {self.reloads} reloads, "
                         f"{self.restarts} restarts of the upstream, {len(self.load.problems)} failed")
        report = self.load.stop()
        samples.stop()
        self.stack.sandbox.faults()
        problems = self.load.problems
        blamed = [p for p in problems if not self.excused(p)]
        (rss, rss_end), (fds, fds_end) = quarters(samples.rss), quarters(samples.fds)
        return {"seconds": report["seconds"], "requests": report["requests"], "clients": report["clients"], "slowest": report["slowest"],
                "handshakes": sum(v for name, v in proxy.metrics().items() if name.startswith("r2shim_tls_handshakes_total")),
                "reloads": self.reloads, "restarts": self.restarts, "away": round(sum(b - a for a, b in self.away), 3),
                "upstreams_failures": len(problems) - len(blamed), "failures": blamed, "wrong": report["wrong"],
                "fallbacks": sum(v for name, v in proxy.metrics().items() if name.startswith("r2shim_media_fallbacks_total")),
                "sanitized": re.search("lib[at]san", Path(f"/proc/{proxy.pid}/maps").read_text()) is not None,
                "rss": rss, "rss_end": rss_end, "rss_max": max(samples.rss), "fds": fds, "fds_end": fds_end, "fds_max": max(samples.fds)}


def broken(result):
    """What a result has that it must not have, a line each."""
    found = [f"{p['kind']} after {p['at']} s: {p['text']}" for p in result["failures"]]
    if result["wrong"]:
        found.append(f"{result['wrong']} wrong answers")
    # A sanitizer keeps what was freed.
    if not result["sanitized"] and result["rss_end"] > max(result["rss"] * 1.1, result["rss"] + SLACK_RSS):
        found.append(f"memory grew from {result['rss'] / 1024:.0f} to {result['rss_end'] / 1024:.0f} KiB")
    if result["fds_end"] > result["fds"] + SLACK_FDS:
        found.append(f"descriptors grew from {result['fds']} to {result['fds_end']}")
    return found
