"""The watcher: a restart on a tree of 100,000 directories, and uploads while another process writes thousands of files a second."""
import os
import re
import subprocess
import sys
import threading
import time

import measure
from harness import PYTHON, clean_env, eventually, temp_dir
from stack import Stack

DIRECTORIES = 100_000
FLOOD = 5_000		# files a second
FLOOD_SECONDS = 8
GUARD = measure.GUARD
# Creates, writes and closes files at a rate, in 10 ms steps, until it is killed; says every second how many.
FLOODER = """
import os, sys, time
folder, rate = sys.argv[1], int(sys.argv[2])
os.makedirs(folder)
began, made = time.monotonic(), 0
print("begun", flush=True)
while True:
    due = int((time.monotonic() - began) * rate)
    while made < due:
        if made % 500 == 0:
            os.makedirs(f"{folder}/{made // 500}", exist_ok=True)
        with open(f"{folder}/{made // 500}/{made}.bin", "wb") as f:
            f.write(b"x" * 100)
        made += 1
    print(made, time.monotonic() - began, flush=True)
    time.sleep(0.01)
"""


def tree(root, directories):
    """YEAR/DAY/NUMBER, one file in each leaf."""
    made = 0
    for year in range(10):
        for day in range(100):
            os.makedirs(root / f"{2010 + year}/{day:02d}")
            made += 1
            for number in range(directories // 1000 - 1):
                folder = root / f"{2010 + year}/{day:02d}/{number}"
                os.mkdir(folder)
                (folder / "a.jpg").write_bytes(b"x")
                made += 1
    return made + 11	# the years and the root


def barrier(stack):
    """(seconds, answers) that waited so far."""
    metrics = stack.proxy.metrics()
    return metrics.get("r2shim_barrier_seconds_sum", 0), metrics.get("r2shim_barrier_seconds_count", 0)


def mean_barrier(stack, before):
    """ms an answer since then."""
    (s, n), (s0, n0) = barrier(stack), before
    return (s - s0) / max(1, n - n0) * 1000


def percentile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


class Reader(threading.Thread):
    """One client that reads a page again and again: what a crawl costs the others. Latencies in ms."""

    def __init__(self, stack):
        super().__init__(daemon=True)
        self.stack, self.latencies, self.stopping = stack, [], False

    def run(self):
        with self.stack.client() as http:
            while not self.stopping:
                began = time.monotonic()
                http.get("/ping/")
                self.latencies.append((time.monotonic() - began) * 1000)

    def stop(self):
        self.stopping = True
        self.join()
        return self.latencies


def since_start(text, pattern):
    found = re.findall(pattern, text)
    return int(found[-1]) if found else None


def crawl(stack):
    """A start on the tree, without a clean point, so that nothing is found to mirror: until the watches stand, until all is looked at;
    memory; what a reader feels meanwhile."""
    proxy = stack.proxy
    proxy.stop()
    for journal in (proxy.dir / "state").glob("journal*"):
        journal.unlink()
    crawls = proxy.stderr().count("crawl done")
    proxy.start()
    reader = Reader(stack)
    reader.start()
    upload_began = time.monotonic()
    with stack.client() as http:
        if http.upload("first.txt", b"x").status != 201:
            raise RuntimeError("the first upload failed")
    upload = time.monotonic() - upload_began
    eventually(lambda: proxy.stderr().count("crawl done") > crawls, 300, "the crawl's end", 0.05)
    latencies = reader.stop()
    log = proxy.stderr()
    return {"watched": int(re.findall(r"(\d+) directories watched after", log)[-1]),
            "watches_ms": since_start(log, r"directories watched after (\d+) ms"),
            "report_ms": since_start(log, r"crawl done after (\d+) ms"), "rss": measure.peak_rss(proxy.pid),
            "reads": len(latencies), "read_p50": percentile(latencies, 0.5), "read_max": max(latencies), "first_upload": upload * 1000}


def uploads(stack, seconds):
    """One client that uploads again and again: ms each."""
    found, until = [], time.monotonic() + seconds
    with stack.client() as http:
        while time.monotonic() < until:
            began = time.monotonic()
            if http.upload(f"u{len(found)}.txt", b"x" * 1000).status != 201:
                raise RuntimeError("an upload failed")
            found.append((time.monotonic() - began) * 1000)
    return found


def flooded(stack):
    """Uploads alone, then beside the flood."""
    before = barrier(stack)
    alone = uploads(stack, FLOOD_SECONDS / 2)
    barrier_alone = mean_barrier(stack, before)
    folder = stack.media / f"flood-{time.monotonic_ns()}"
    overflows = stack.proxy.metrics().get("r2shim_watch_overflows_total", 0)
    flood = subprocess.Popen([*GUARD, PYTHON, "-c", FLOODER, str(folder), str(FLOOD)], stdout=subprocess.PIPE, text=True, env=clean_env())
    try:
        flood.stdout.readline()
        drainer = threading.Thread(target=lambda: lines.extend(flood.stdout), daemon=True)
        lines = []
        drainer.start()
        before = barrier(stack)
        beside = uploads(stack, FLOOD_SECONDS)
        barrier_beside = mean_barrier(stack, before)
        made, took = lines[-1].split()
    finally:
        flood.kill()
        flood.wait()
    rss = measure.peak_rss(stack.proxy.pid)
    began = time.monotonic()
    stack.proxy.drained(300)
    return {"alone": alone, "beside": beside, "barrier_alone": barrier_alone, "barrier_beside": barrier_beside, "rate": int(made) / float(took), "overflows":
            stack.proxy.metrics().get("r2shim_watch_overflows_total", 0) - overflows, "rss": rss, "drained": time.monotonic() - began}


def row(floods, which):
    values = [value for one in floods for value in one[which]]
    return {"barrier": measure.median([one[f"barrier_{which}"] for one in floods]), "n": len(values), "p50": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": max(values)}


def run(options):
    result = {"flood": FLOOD, "floods": {}}
    stack = Stack(migrators=0, folder=temp_dir("r2shim-bench-"), policy="async", lease="10s", request_limit="10s")
    stack.start()
    stack.proxy.set_phase("dual-write")
    stack.proxy.watched()
    result["rss_empty"] = measure.peak_rss(stack.proxy.pid)
    stack.proxy.stop()
    measure.progress(f"watch: making {DIRECTORIES} directories")
    result["directories"] = tree(stack.media, DIRECTORIES)
    result["files"] = result["directories"] - 1011
    crawls = []
    for turn in range(options.rounds):
        measure.progress(f"watch: round {turn + 1} of {options.rounds}, restart")
        crawls.append(crawl(stack))
    result["crawl"] = {name: measure.median([one[name] for one in crawls]) for name in crawls[0]}
    stack.stop()
    for policy in ("async", "sync"):
        stack = Stack(migrators=0, folder=temp_dir("r2shim-bench-"), policy=policy, lease="10s", request_limit="10s")
        stack.start()
        stack.proxy.set_phase("dual-write")
        floods = []
        for turn in range(options.rounds):
            measure.progress(f"watch: round {turn + 1} of {options.rounds}, flood, {policy}")
            floods.append(flooded(stack))
        stack.stop()
        result["floods"][policy] = {"alone": row(floods, "alone"), "beside": row(floods, "beside"),
                                    **{name: measure.median([one[name] for one in floods]) for name in ("rate", "overflows", "rss", "drained")}}
    measure.progress()
    return result


if __name__ == "__main__":
    sys.exit("run scripts/bench watch")
