"""What is measured, and how: CPU time and memory from /proc, one bounded run of wrk, medians."""
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from harness import clean_env

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")
GUARD = ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--"]


def cpus():
    """(the CPU of the server under test, those of everything else); the same one if there is only one."""
    every = sorted(os.sched_getaffinity(0))
    return every[0], every[1:] or every


def pin(pid, where):
    """Binds all threads of a process to a CPU, or to several."""
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), {where} if isinstance(where, int) else set(where))


def cpu_seconds(pid):
    """utime + stime of a process, with its threads, dead ones too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_rss(pid):
    """Bytes."""
    return int(re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]) * 1024


def load_average():
    return float(Path("/proc/loadavg").read_text().split()[0])


def progress(text=None):
    """One line that is written over in a terminal, lines elsewhere. No text: its end."""
    if sys.stderr.isatty():
        print("\r\033[K" + (text or ""), end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def median(values):
    return statistics.median(values)


def wrk(url, seconds, connections, pids, where, script="wrk.lua", args=()):
    """One run of wrk, on the CPUs `where` (None: on any), and the CPU time that the servers took for it:
    {requests, seconds, rps, cpu_us (a request), busy (of a CPU), p50_ms, p99_ms, errors}."""
    before, began = [cpu_seconds(pid) for pid in pids], time.monotonic()
    bound = ["/usr/bin/taskset", "-c", ",".join(map(str, where))] if where else []
    command = [*GUARD, *bound, "/usr/bin/wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency", "-s",
               str(HERE / script), url, *(["--", *map(str, args)] if args else [])]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 30,
                          env=clean_env())
    elapsed = time.monotonic() - began
    cpu = sum(cpu_seconds(pid) for pid in pids) - sum(before)
    found = re.search(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
    if done.returncode != 0 or not found:
        raise RuntimeError(f"wrk {url}: {done.returncode}\n{done.stdout}{done.stderr}")
    requests, micros, errors, p50, p99 = map(int, found[1].split())
    if requests == 0:
        raise RuntimeError(f"wrk {url}: no answer in {seconds} s\n{done.stdout}{done.stderr}")
    return {"requests": requests, "seconds": micros / 1e6, "rps": requests / (micros / 1e6), "cpu_us": cpu * 1e6 / requests,
            "busy": cpu / elapsed, "p50_ms": p50 / 1e3, "p99_ms": p99 / 1e3, "errors": errors}


def client(command, timeout, env, folder):
    """Runs a client to its end: {seconds, cpu (seconds), rss (bytes)}; RuntimeError if it fails."""
    log = folder / "client.log"
    with open(log, "wb") as out:
        began = time.monotonic()
        child = subprocess.Popen([*GUARD, *map(str, command)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
                                 cwd=folder)
        try:
            status, usage = wait(child, began + timeout)
        except BaseException:
            child.kill()
            raise
    if status != 0:
        raise RuntimeError(f"{command[0]}: status {status}\n{log.read_text(errors='replace')[-4000:]}")
    return {"seconds": time.monotonic() - began, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * 1024}


def wait(child, deadline):
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode, usage
        if time.monotonic() > deadline:
            raise RuntimeError(f"{child.args} takes too long")
        time.sleep(0.002)
