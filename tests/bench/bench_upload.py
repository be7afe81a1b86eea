"""What the mirror costs an upload: through a proxy in dual-write (policy async) and through one in passthrough, before the sample
site (a form, Django behind gunicorn) and before a WebDAV origin (PUT, nginx)."""
import os
import signal

import measure
import peers
from stack import Stack

SIZE = 20000
WRITERS = (1, 16, 64)
SITES = {"form": ("sample site, POST of a form", "gunicorn"), "put": ("WebDAV origin, PUT", "webdav")}
# The target: a tenth more, or so many ms more where that is more.
FACTOR, MORE_MS = 1.1, {"p50_ms": 0.5, "p99_ms": 2.0}
JOURNAL = {"records": "r2shim_journal_records_total", "syncs": "r2shim_journal_syncs_total"}


# The columns: which stack, and whether R2 answers meanwhile.
PLAIN, STILL, COPYING = "plain", "still", "copying"


def start(topology, phase):
    stack = Stack(topology, migrators=0, folder=peers.temp_dir("r2shim-bench-"), policy="async", lease="30s", request_limit="60s")
    stack.sandbox = peers.Sink(stack.dir / "r2")
    stack.start()
    if phase == "dual-write":
        # The sink gives nothing back of what the preflight puts.
        stack.proxy.run("phase", "set", phase, "--waive", "preflight", "--reason", "bench", check=True)
        stack.proxy.wait_phase(phase)
    return stack


def upload(stack, kind, writers, seconds, tag, still=False):
    """One run, from a disk with nothing left to write; then the copies that are owed."""
    stack.proxy.drained(300)
    os.sync()
    before = stack.proxy.metrics()
    if still:
        stack.sandbox.signal(signal.SIGSTOP)
    try:
        run = measure.wrk(f"http://{stack.proxy.address}/", seconds, writers, [stack.proxy.pid], None, "wrk_upload.lua",
                          [kind, SIZE, tag])
    finally:
        if still:
            stack.sandbox.signal(signal.SIGCONT)
    after = stack.proxy.metrics()
    run.update({name: after.get(metric, 0) - before.get(metric, 0) for name, metric in JOURNAL.items()})
    stack.proxy.drained(300)
    return run


def compare(kind, options):
    title, topology = SITES[kind]
    plain, dual = (start(topology, phase) for phase in ("passthrough", "dual-write"))
    for stack in (plain, dual):
        upload(stack, kind, 4, 1, "warm")
    rows = []
    for writers in WRITERS:
        runs = {PLAIN: [], STILL: [], COPYING: []}
        for turn in range(options.rounds):
            measure.progress(f"upload: {title}, {writers} writers, round {turn + 1} of {options.rounds}")
            for column in runs:
                runs[column].append(upload(plain if column == PLAIN else dual, kind, writers, options.seconds,
                                           f"{column}-w{writers}r{turn}", column == STILL))
        rows.append({"writers": writers, **{column: summary(of) for column, of in runs.items()}})
    measure.progress()
    for stack in (plain, dual):
        stack.stop()
    return {"title": title, "rows": rows}


def summary(runs):
    row = {name: measure.median([run[name] for run in runs]) for name in ("rps", "cpu_us", "p50_ms", "p99_ms")}
    records, syncs = (sum(run[name] for run in runs) for name in JOURNAL)
    requests = sum(run["requests"] for run in runs)
    return {**row, "errors": sum(run["errors"] for run in runs), "records_sync": records / syncs if syncs else 0,
            "syncs_upload": syncs / requests, "rounds": runs}


def limit(plain, name):
    return max(plain[name] * FACTOR, plain[name] + MORE_MS[name])


def missed(result):
    """The targets that the answers missed, as text. What the copying takes of the same CPUs is shown, not judged."""
    return [f"{section['title']}, {row['writers']} at once: {name[:3]} {row[STILL][name]:.2f} ms, "
            f"allowed {limit(row[PLAIN], name):.2f} ms"
            for section in result["sites"] for row in section["rows"] for name in MORE_MS
            if row[STILL][name] > limit(row[PLAIN], name)]


def run(options):
    return {"size": SIZE, "sites": [compare(kind, options) for kind in SITES]}
