"""Requests through the proxy, beside nginx, haproxy and varnish: media from the disk, pass-through, media from R2; then what
bench_extras measures. The short form has 64 connections; --full has 1, 64 and 512, and files of 100 MB."""
import random

import bench_extras
import measure
import peers

SIZES = {"1 KB": 1000, "10 KB": 10000, "100 KB": 100000, "1 MB": 1000000}
LARGE = {"100 MB": 100000000}		# --full only
SHORT, FULL = (64,), (1, 64, 512)	# connections
# The targets: CPU a request against the better of these peers at most, requests/s at least.
LOCAL, PASS, R2 = "local", "pass", "r2"
PEERS = {LOCAL: ["nginx static"], PASS: ["nginx proxy_pass", "haproxy"], R2: ["nginx, presigned URL"]}
CPU = {LOCAL: {"1 KB": 0.85, "10 KB": 0.85, "100 KB": 0.9, "1 MB": 0.7, "100 MB": 0.7},
       PASS: {"1 KB": 0.9, "10 KB": 0.9, "100 KB": 1.0, "1 MB": 0.75, "100 MB": 0.75},
       R2: dict.fromkeys([*SIZES, *LARGE], 1.0)}
RATE = {LOCAL: 1.0, PASS: 1.2}
LIMIT = 0.9		# of a CPU: from here on a server is what limits the rate; the target of PASS is for such rows


def name_of(size):
    return size.replace(" ", "").lower() + ".bin"


def compare(kind, title, servers, folder, options):
    """Every size, round by round, one server after the other: A B A B. servers: {name: (address, pid)}."""
    rows = []
    others = measure.cpus()[1]
    for connections in FULL if options.full else SHORT:
        for size in {**SIZES, **LARGE} if options.full else SIZES:
            runs = {name: [] for name in servers}
            for turn in range(options.rounds):
                measure.progress(f"{title}: {size}, {connections} connections, round {turn + 1} of {options.rounds}")
                for name, (address, pid) in servers.items():
                    url = f"http://{address}/{folder}/{name_of(size)}"
                    runs[name].append(measure.wrk(url, options.seconds, connections, [pid], others))
            rows.append({"size": size, "connections": connections, "servers": {name: summary(of) for name, of in runs.items()}})
    measure.progress()
    return {"kind": kind, "title": title, "rows": rows}


def summary(runs):
    """Medians, with all rounds beside them; errors are added up."""
    return {**{name: measure.median([run[name] for run in runs]) for name in ("rps", "cpu_us", "busy", "p50_ms", "p99_ms")},
            "errors": sum(run["errors"] for run in runs), "rounds": runs}


def fill(media, sizes):
    draw = random.Random(1)
    for size, n in sizes.items():
        (media / name_of(size)).write_bytes(draw.randbytes(n))


def from_r2(proxy):
    return proxy.metrics().get('r2shim_media_served_total{source="r2"}', 0)


def run(options):
    stack = peers.BenchStack()
    sizes = {**SIZES, **LARGE} if options.full else SIZES
    fill(stack.media, sizes)
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
    varnish = peers.Varnish(stack.dir / "varnish", stack.site.address, f"/media/{first}").start()
    tables = []
    proxy.set_phase("dual-write")
    tables.append(compare(LOCAL, "Local media read (class public, phase dual-write)",
                          {"r2shim": ours, "nginx static": (static.address, static.pid),
                           "varnish, hit": (varnish.address, varnish.worker)}, "media", options))
    tables.append(compare(PASS, "Pass-through to the upstream (nginx on TCP)",
                          {"r2shim": ours, "nginx proxy_pass": (passing.address, passing.pid),
                           "haproxy": (haproxy.address, haproxy.pid)}, "files", options))
    proxy.climb("validate")
    for migrator in stack.migrators:
        migrator.stop()
    names = [name_of(size) for size in sizes]
    stored = peers.nginx_r2(stack.dir / "nginx-r2", stack.sandbox, names, f"/media/{first}").start()
    before = from_r2(proxy)
    tables.append(compare(R2, "R2 read (phase validate, signed; the sandbox)",
                          {"r2shim": ours, "nginx, presigned URL": (stored.address, stored.pid)}, "media", options))
    answered = sum(run["requests"] for row in tables[-1]["rows"] for run in row["servers"]["r2shim"]["rounds"])
    if from_r2(proxy) - before < answered:
        raise RuntimeError(f"R2 read: only {from_r2(proxy) - before:.0f} of {answered} requests were answered from R2")
    result = {"tables": tables, "rss": measure.peak_rss(proxy.pid)}
    for peer in (stored, varnish, haproxy, passing, static):
        peer.stop()
    stack.stop()
    result["extras"] = bench_extras.run(options)
    return result


def judge(kind, row):
    """[what was missed], each with its ratio."""
    ours, peers_of = row["servers"]["r2shim"], [row["servers"][name] for name in PEERS[kind]]
    where = f"{row['size']}, {row['connections']} connection{'s' if row['connections'] > 1 else ''}"
    found, cpu, best = [], min(p["cpu_us"] for p in peers_of), max(peers_of, key=lambda p: p["rps"])
    if ours["cpu_us"] > CPU[kind][row["size"]] * cpu:
        found.append(f"{where}: {ours['cpu_us'] / cpu:.2f} x the CPU time, target {CPU[kind][row['size']]:.2f}")
    limited = kind != PASS or min(ours["busy"], best["busy"]) >= LIMIT
    if kind in RATE and limited and ours["rps"] < RATE[kind] * best["rps"]:
        found.append(f"{where}: {ours['rps'] / best['rps']:.2f} x the requests/s, target {RATE[kind]:.2f}")
    return found + [f"{where}: {s['errors']} requests to {name} failed" for name, s in row["servers"].items() if s["errors"]]


def missed(result):
    return [f"{table['title']}: {line}" for table in result["tables"] for row in table["rows"] for line in judge(table["kind"], row)] + \
        bench_extras.missed(result["extras"])
