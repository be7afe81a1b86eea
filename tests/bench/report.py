"""From figures to text: tables that fit a terminal and are Markdown as well, and the marked parts of docs/performance.md."""
import datetime
import os
import re
import subprocess

import bench_proxy
import bench_upload
from harness import TOP, clean_env
from measure import load_average

VERSIONS = {"nginx": ["/usr/sbin/nginx", "-v"], "haproxy": ["/usr/sbin/haproxy", "-v"], "varnish": ["/usr/sbin/varnishd", "-V"],
            "wrk": ["/usr/bin/wrk", "-v"],
            "rclone": ["/usr/bin/rclone", "version"], "redis": ["/usr/bin/redis-server", "--version"]}


def output(*command):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, env=clean_env(),
                              cwd=TOP)
    except OSError:
        return ""
    return (done.stdout + done.stderr).strip()


def commit():
    """What was measured; the figures' own file does not count as a change."""
    changed = output("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/performance.md")
    return output("git", "rev-parse", "--short=10", "HEAD") + (" with changes" if changed else "")


def environment(options, binary):
    """Where, when and with what it was measured."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", open("/proc/cpuinfo", encoding="utf-8").read(), re.MULTILINE)
    versions = {"r2shim": (re.search(r"\d+\.\d+\S*", output(binary, "--version")) or [""])[0]}
    for name, command in VERSIONS.items():
        found = re.search(r"\d+\.\d+[\w.+~-]*", output(*command))
        versions[name] = found[0] if found else "?"
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "commit": commit(), "kernel": os.uname().release,
            "cpu": cpu[1] if cpu else os.uname().machine, "cpus": len(os.sched_getaffinity(0)), "versions": versions,
            "load_before": load_average(), "rounds": options.rounds, "seconds": options.seconds}


def table(head, rows):
    """A Markdown table whose columns are padded, so that it is read as well without Markdown. The first column is text."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells):
        return "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))) + " |"
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def number(value):
    """Three digits that matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(ours, theirs):
    return f"{ours / theirs:.2f}" if theirs else "-"


def ratios(ours, theirs):
    return f"{times(ours['files_s'], theirs['files_s'])} x the files/s, {times(ours['cpu_ms'], theirs['cpu_ms'])} x the CPU"


def preamble(env, names, how=None):
    versions = ", ".join(f"{name} {env['versions'][name]}" for name in ["r2shim", *names])
    how = how or f"Medians of {env['rounds']} rounds, taken in turns"
    return (f"Measured {env['date']} at commit {env['commit']}; {env['cpu']}, {env['cpus']} CPUs, Linux {env['kernel']}.\n"
            f"{versions}.\n{how}; load average before the start {env['load_before']:.2f}.")


def proxy_text(env, result):
    parts = [preamble(env, ["nginx", "haproxy", "varnish", "wrk"], f"Medians of {env['rounds']} rounds of {env['seconds']} s, taken in turns")]
    for section in result["tables"]:
        names = list(section["rows"][0]["servers"])
        rows, failed = [], {}
        for row in section["rows"]:
            servers = row["servers"]
            ours, peers = servers[names[0]], [servers[name] for name in names[1:]]
            rows.append([f"{row['size']}, {row['connections']} c.", *(f"{number(s['rps'])} ({number(s['cpu_us'])})" for s in servers.values()),
                         times(ours["rps"], max(p["rps"] for p in peers)), times(ours["cpu_us"], min(p["cpu_us"] for p in peers)),
                         "no" if bench_proxy.judge(section["kind"], row) else "yes"])
            for name, s in servers.items():
                failed[name] = failed.get(name, 0) + s["errors"]
        parts.append(f"{section['title']}, requests/s (CPU microseconds a request):")
        parts.append(table(["", *names, "rate x", "CPU x", "met"], rows))
        parts += [f"{count} requests to {name} failed: its figures are not to be trusted." for name, count in failed.items() if count]
    parts.append(f"Peak memory of the proxy over all of it: {result['rss'] / 1e6:.1f} MB.")
    return "\n\n".join(parts + extras_text(result["extras"]))


def extras_text(extras):
    names, reloads = list(extras["idle"]), extras["reload"]
    return ["Beside requests, in fresh processes:",
            table(["", *names], [
                [f"an idle connection of {extras['connections']:,}, bytes", *(number(extras["idle"][name]) for name in names)],
                ["growth by an upload of 1 GB, MB", *(f"{extras['grown'][name] / 1e6:.1f}" for name in names)],
                ["start to the first byte, ms", *(number(extras["start"][name]) for name in names)]]),
            f"Reload under load (64 connections): p99 {reloads['before']:.2f} ms in the second before, {reloads['during']:.2f} ms in the second "
            f"with it; {reloads['errors']} requests failed."]


def backfill_text(env, result):
    ours, rclone = result["r2shim"], result["rclone"]

    def row(name, s):
        return [name, number(s["files_s"]), f"{s['cpu_ms']:.3f}", f"{s['rss'] / 1e6:.0f} MB"]
    rows = [row("r2shim migrator", ours["first"]), row("rclone copy", rclone["first"]),
            row("again: r2shim, by digest", ours["again"]), row("again: rclone copy, by size and time", rclone["again"]),
            row("again: rclone copy --checksum", rclone["digests"])]
    return "\n\n".join([
        preamble(env, ["rclone", "redis"]),
        f"{result['files']:,} files of 4 to 40 KB, {result['bytes'] / 1e6:.0f} MB, in the page cache; {result['at_once']} at once;"
        " into the sandbox with `--discard`:",
        table(["", "files/s", "client CPU, ms a file", "peak RSS"], rows),
        f"r2shim against rclone: {ratios(ours['first'], rclone['first'])};\n"
        f"nothing to do, by digest: {ratios(ours['again'], rclone['digests'])}.\n"
        f"Redis took {ours['first']['redis_ms']:.3f} ms a file beside the migrator."])


def upload_text(env, result):
    parts = [preamble(env, ["nginx", "redis", "wrk"]).replace("rounds,", f"rounds of {env['seconds']} s,")]
    columns = (bench_upload.STILL, bench_upload.COPYING)

    def who(row):
        return f"{row['writers']} writer{'s' if row['writers'] > 1 else ''}"
    for section in result["sites"]:
        latency, work = [], []
        for row in section["rows"]:
            plain = row[bench_upload.PLAIN]
            for name in bench_upload.MORE_MS:
                line = [f"{who(row)}, {name[:3]}", f"{plain[name]:.2f}"]
                for column in columns:
                    ours = row[column][name]
                    line += [f"{ours:.2f}", f"{ours - plain[name]:+.2f}", f"{times(ours, plain[name])} x",
                             "yes" if ours <= bench_upload.limit(plain, name) else "no"]
                latency.append(line)
            still, copying = (row[column] for column in columns)
            work.append([who(row), *(number(s["rps"]) for s in (plain, still, copying)),
                         *(number(s["cpu_us"]) for s in (plain, still, copying)), f"{still['syncs_upload']:.2f}",
                         f"{still['records_sync']:.1f}"])
        parts.append(f"{section['title']}, files of {result['size'] // 1000} KB; latency in ms:")
        parts.append(table(["", "plain", "answer", "more", "x", "met", "with copying", "more", "x", "met"], latency))
        parts.append("Uploads a second and the proxy's CPU microseconds for each (plain, answer, with copying), and the journal's syncs:")
        parts.append(table(["", "plain/s", "answer/s", "copying/s", "CPU", "CPU", "CPU", "syncs an upload", "records a sync"], work))
        parts += [f"{row[column]['errors']} uploads failed at {who(row)} ({column}): the figures are not to be trusted."
                  for row in section["rows"] for column in (bench_upload.PLAIN, *columns) if row[column]["errors"]]
    return "\n\n".join(parts)


def watch_text(env, result):
    crawl, floods = result["crawl"], result["floods"]

    def row(name, s):
        return [name, f"{s['n']:,}", f"{s['p50']:.1f}", f"{s['p99']:.1f}", f"{s['max']:.1f}", f"{s['barrier']:.1f}"]
    rows = [row(f"{policy}, {beside}", floods[policy][key]) for policy in floods for beside, key in
            (("alone", "alone"), ("beside the flood", "beside"))]
    return "\n\n".join([
        preamble(env, ["redis"]),
        f"A restart on {result['directories']:,} directories with {result['files']:,} files, in the page cache:",
        table(["", "median"], [
            ["until the watches stand", f"{crawl['watches_ms']:,.0f} ms"],
            ["from there until all files are looked at", f"{crawl['report_ms'] - crawl['watches_ms']:,.0f} ms"],
            ["directories a second, both", f"{result['directories'] / crawl['report_ms'] * 1000:,.0f}"],
            ["the proxy's memory (peak RSS)", f"{crawl['rss'] / 1e6:.1f} MB"],
            ["a directory's share of it", f"{(crawl['rss'] - result['rss_empty']) / result['directories']:.0f} bytes"],
            ["an upload sent as soon as it is ready", f"{crawl['first_upload']:,.0f} ms"],
            ["a page read meanwhile, p50", f"{crawl['read_p50']:.1f} ms"],
            ["a page read meanwhile, longest", f"{crawl['read_max']:.1f} ms"]]),
        "One client that uploads, alone and beside a process that writes files of 100 bytes into the media root,\n"
        f"{' and '.join(number(f['rate']) for f in floods.values())} a second (of {result['flood']:,} wanted, on the same CPUs); "
        "ms an upload,\nand of that the mean wait for watcher, marks and mirror:",
        table(["mirror.policy", "uploads", "p50", "p99", "longest", "barrier"], rows),
        "Peak memory beside the flood: " + ", ".join(f"{policy} {f['rss'] / 1e6:.1f} MB" for policy, f in floods.items()) +
        ";\nuntil all of it was in R2: " + ", ".join(f"{policy} {f['drained']:.1f} s" for policy, f in floods.items()) +
        f"; overflows of the kernel's queue: {sum(f['overflows'] for f in floods.values()):.0f}."])


def soak_text(env, result):
    failed = len(result["failures"])
    return "\n\n".join([
        preamble(env, ["redis"], "One run"),
        table(["", "figure"], [
            ["seconds", f"{result['seconds']:,.0f}"],
            ["requests, of how many clients", f"{result['requests']:,}, {result['clients']}"],
            ["reloads", f"{result['reloads']:,}"],
            ["restarts of the upstream, seconds away", f"{result['restarts']}, {result['away']:.1f}"],
            ["failed while it was away, and needed it", f"{result['upstreams_failures']:,}"],
            ["failed otherwise", f"{failed:,}"],
            ["wrong answers", f"{result['wrong']:,}"],
            ["reads that R2 could not serve and the disk did", f"{result['fallbacks']:,.0f}"],
            ["slowest request", f"{result['slowest']:.2f} s"],
            ["memory (RSS), second quarter and last", f"{result['rss'] / 1e6:.1f} MB, {result['rss_end'] / 1e6:.1f} MB"],
            ["descriptors, second quarter and last", f"{result['fds']:.0f}, {result['fds_end']:.0f}"],
            ["keys that differ between disk and R2 in the end", f"{result['differences']}"]])])


def rewrite(path, part, text):
    """Replaces what stands between the part's marks; the rest of the file stays as it is."""
    begin, end = f"<!-- begin {part}: written by scripts/bench -->", f"<!-- end {part} -->"
    before = path.read_text(encoding="utf-8")
    if begin not in before or end not in before:
        raise RuntimeError(f"{path} has no marks of {part}")
    head, _, rest = before.partition(begin)
    tail = rest.partition(end)[2]
    new = path.with_suffix(".new")
    new.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")
    new.rename(path)
