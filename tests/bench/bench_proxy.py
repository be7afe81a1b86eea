"""Requests through the proxy, beside nginx and haproxy: media from the disk, pass-through, media from R2."""
import random

import measure
import peers

SIZES = {"1 KB": 1000, "10 KB": 10000, "100 KB": 100000, "1 MB": 1000000}
CONNECTIONS = 64


def name_of(size):
    return size.replace(" ", "").lower() + ".bin"


def compare(title, servers, folder, options):
    """Every size, round by round, one server after the other: A B A B. servers: {name: (address, pid)}."""
    rows = []
    server_cpu, others = measure.cpus()
    for size in SIZES:
        runs = {name: [] for name in servers}
        for turn in range(options.rounds):
            measure.progress(f"{title}: {size}, round {turn + 1} of {options.rounds}")
            for name, (address, pid) in servers.items():
                url = f"http://{address}/{folder}/{name_of(size)}"
                runs[name].append(measure.wrk(url, options.seconds, CONNECTIONS, [pid], others))
        rows.append({"size": size, "servers": {name: summary(of) for name, of in runs.items()}})
    measure.progress()
    return {"title": title, "rows": rows}


def summary(runs):
    """Medians, with all rounds beside them; errors are added up."""
    return {**{name: measure.median([run[name] for run in runs]) for name in ("rps", "cpu_us", "busy", "p50_ms", "p99_ms")},
            "errors": sum(run["errors"] for run in runs), "rounds": runs}


def fill(media):
    draw = random.Random(1)
    for size, n in SIZES.items():
        (media / name_of(size)).write_bytes(draw.randbytes(n))


def from_r2(proxy):
    return proxy.metrics().get('r2shim_media_served_total{source="r2"}', 0)


def run(options):
    stack = peers.BenchStack()
    fill(stack.media)
    first = name_of("1 KB")
    stack.start()
    host, proxy = measure.cpus()[1], stack.proxy
    for proc in (stack.redis, stack.sandbox, *stack.migrators):
        measure.pin(proc.pid, host)
    measure.pin(proxy.pid, measure.cpus()[0])
    ours = (proxy.address, proxy.pid)
    static = peers.nginx_static(stack.dir / "nginx-static", stack.media, f"/media/{first}").start()
    passing = peers.nginx_pass(stack.dir / "nginx-pass", stack.site.address, f"/files/{first}").start()
    haproxy = peers.Haproxy(stack.dir / "haproxy", stack.site.address, f"/files/{first}").start()
    tables = []
    proxy.set_phase("dual-write")
    tables.append(compare("Local media read (class public, phase dual-write)",
                          {"r2shim": ours, "nginx static": (static.address, static.pid)}, "media", options))
    tables.append(compare("Pass-through to the upstream (nginx on TCP)",
                          {"r2shim": ours, "nginx proxy_pass": (passing.address, passing.pid),
                           "haproxy": (haproxy.address, haproxy.pid)}, "files", options))
    proxy.climb("validate")
    for migrator in stack.migrators:
        migrator.stop()
    names = [name_of(size) for size in SIZES]
    stored = peers.nginx_r2(stack.dir / "nginx-r2", stack.sandbox, names, f"/media/{first}").start()
    before = from_r2(proxy)
    tables.append(compare("R2 read (phase validate, signed; the sandbox)",
                          {"r2shim": ours, "nginx, presigned URL": (stored.address, stored.pid)}, "media", options))
    answered = sum(run["requests"] for row in tables[-1]["rows"] for run in row["servers"]["r2shim"]["rounds"])
    if from_r2(proxy) - before < answered:
        raise RuntimeError(f"R2 read: only {from_r2(proxy) - before:.0f} of {answered} requests were answered from R2")
    result = {"tables": tables, "rss": measure.peak_rss(proxy.pid), "connections": CONNECTIONS}
    for peer in (stored, haproxy, passing, static):
        peer.stop()
    stack.stop()
    return result
