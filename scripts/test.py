#!/usr/bin/python3
"""The test suites; scripts/test installs the packages and starts it.

A suite is a row of the table below: what it needs, what it runs, how its results are counted. Some run at a time, in the table's
order as far as their needs allow. Each writes its log to build/logs; what failed is shown.
"""
import collections
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / "build"
LOGS = BUILD / "logs"
CI = os.environ.get("CI") == "true"
SHOWN = 60		# lines of a failed suite's log
# Tests wait for most of their time: all suites together take about 40 CPU minutes, half an hour on two cores.
LANES = max(4, (os.cpu_count() or 2) * 2)
AT_ONCE = 3		# programs of a "make check"


class Counts:
    """passed, failed, skipped; and what to show of the failed ones."""

    def __init__(self, passed=0, failed=0, skipped=0, show=()):
        self.passed, self.failed, self.skipped, self.show = passed, failed, skipped, list(show)

    def __iadd__(self, other):
        self.passed, self.failed, self.skipped = (self.passed + other.passed, self.failed + other.failed,
                                                  self.skipped + other.skipped)
        self.show += other.show
        return self

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


class Unreadable(Exception):
    """A suite ended in a way that its results cannot be counted: that is one failed."""


# How results are read: parser(suite, exit code, output) -> Counts

def by_exit(suite, code, output):
    """The whole suite is one test."""
    return Counts(1) if code == 0 else Counts(0, 1)


def by_last_line(suite, code, output):
    found = re.search(r"^(\d+) passed, (\d+) failed, (\d+) skipped\s*\Z", output, re.MULTILINE)
    if not found or (code != 0) != (found[2] != "0"):
        raise Unreadable(f"exit code {code}")
    return Counts(*map(int, found.groups()))


def results_of(folder):
    """The .trs files of a build folder, without those of a distcheck in it."""
    return sorted(path for path in folder.rglob("*.trs") if not path.relative_to(folder).parts[0].startswith("r2shim-"))


def by_automake(suite, code, output):
    """Each program's .trs says how it ended; the log of a cmocka program, or of one that speaks TAP, has a line for each test."""
    total = Counts()
    results = results_of(suite.folder)
    if not results:
        raise Unreadable(f"make check ran no test, exit code {code}")
    for trs in results:
        result = re.search(r"^:global-test-result: (\w+)", trs.read_text(), re.MULTILINE)
        log = trs.with_suffix(".log")
        text = log.read_text(errors="replace") if log.exists() else ""
        counts = Counts(*(len(set(re.findall(rf"^\[ +{word} +\] (?!\d+ test)(.*)$", text, re.MULTILINE)))
                          for word in ("OK", "FAILED", "SKIPPED")))
        for word in re.findall(r"^(ok|not ok) \d+ ", text, re.MULTILINE):
            counts += Counts(1) if word == "ok" else Counts(0, 1)
        if re.search(r"^1\.\.0 .*SKIP", text, re.MULTILINE):
            counts += Counts(0, 0, 1)
        result = result[1] if result else "ERROR"
        if result == "SKIP":
            counts = Counts(0, 0, 1)
        elif result == "PASS":
            counts.passed += not (counts.passed or counts.skipped)
        else:
            counts.failed += not counts.failed
            counts.show.append(f"--- {log}\n" + "\n".join(text.splitlines()[-SHOWN:]))
        total += counts
    if code != 0 and not total.failed:
        raise Unreadable(f"make check: exit code {code}")
    return total


def by_junit(suite, code, output):
    try:
        tree = ElementTree.parse(suite.junit)
    except (OSError, ElementTree.ParseError):
        raise Unreadable(f"no results, exit code {code}") from None
    total, reasons = Counts(), collections.Counter()
    for case in tree.iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        if bad is not None:
            total.failed += 1
            total.show.append(f"FAILED {name}\n" + "\n".join((bad.text or bad.get("message") or "").splitlines()[:SHOWN]))
        elif case.find("skipped") is not None:
            total.skipped += 1
            reasons[case.find("skipped").get("message")] += 1
        else:
            total.passed += 1
    if code not in (0, 1) or (code == 1) != (total.failed > 0):
        raise Unreadable(f"pytest: exit code {code}")
    total.show += [f"{n} skipped: {reason}" for reason, n in reasons.items()]
    return total


class Suite:
    """One row. limit: seconds, after which it is killed and has failed."""

    def __init__(self, name, command, count=by_exit, needs=(), limit=600, folder=None, env=None, what=""):
        self.name, self.command, self.count, self.needs = name, [str(word) for word in command], count, list(needs)
        self.limit, self.folder, self.env, self.what = limit, folder, env or {}, what
        self.log = LOGS / (name.replace("/", "-") + ".log")
        self.junit = self.log.with_suffix(".xml")
        self.state = "waiting"		# running, done
        self.popen = None

    def run(self):
        """Counts, and how long it took."""
        began = time.monotonic()
        self.junit.unlink(missing_ok=True)
        if self.count is by_automake:
            for old in results_of(self.folder):
                old.unlink()
        env = {**os.environ, **{name: str(value) for name, value in self.env.items()}}
        with open(self.log, "wb") as log:
            # In a session of its own, so that all of it can be killed; killed by the kernel if we are.
            self.popen = subprocess.Popen(["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", *self.command], cwd=TOP, env=env,
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                code = self.popen.wait(self.limit)
            except subprocess.TimeoutExpired:
                code = None
            self.kill()
        output = self.log.read_text(errors="replace")
        try:
            if code is None:
                raise Unreadable(f"not done after {self.limit} s")
            counts = self.count(self, code, output)
        except Unreadable as e:
            counts = Counts(0, 1, 0, [f"{self.name}: {e}", f"--- {self.log}\n" + "\n".join(output.splitlines()[-SHOWN:])])
        if counts.failed and not counts.show:
            counts.show.append(f"--- {self.log}\n" + "\n".join(output.splitlines()[-SHOWN:]))
        return counts, time.monotonic() - began

    def kill(self):
        if self.popen:
            try:
                os.killpg(self.popen.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.popen.wait()


# The table

GCC, ASAN, TSAN, CLANG, FAULTS = (BUILD / name for name in ("test", "asan", "tsan", "clang", "faults"))
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=1:halt_on_error=1", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
              "TSAN_OPTIONS": f"halt_on_error=1:second_deadlock_stack=1:suppressions={TOP / 'tests/tsan.supp'}"}
# System tests that are left out under the sanitizers, and why.
NOT_SANITIZED = {
    "test_history": "Python's only: what the histories of the other tests are judged by",
    "test_record": "Python's only: the torture's judge",
    "test_site": "the sample site alone, without r2shim",
}
# And only under ThreadSanitizer: no thread of ours runs in them. The sandbox has one (/proc/PID/task), and no pool.
NOT_THREADED = {
    "test_harness": "Python's only: processes that the tests start",
    "test_s3": "Python's only: the tests' own signature",
    "test_sandbox": "the sandbox alone",
    "test_sandbox_clients": "the sandbox alone",
    "test_sandbox_wire": "the sandbox alone",
}
# Seconds that a file takes, to begin with the long ones; a file that is not here is thought to be short.
LONG = {"test_storage": 155, "test_acceptance_disk": 150, "test_kills": 145, "test_r2_primary": 140, "test_acceptance_r2": 130, "test_steps": 130,
        "test_phases": 105, "test_writes": 95, "test_acceptance_redis": 80, "test_phase5": 75, "test_mutants": 70, "test_degraded": 70,
        "test_acceptance_writes": 60, "test_partitions": 60, "test_backfill": 45, "test_acceptance_workers": 35, "test_census": 30,
        "test_kill": 30, "test_start": 25, "test_site": 25, "test_lost_events": 25, "test_hot_keys": 20, "test_takeover": 25, "test_sandbox_clients": 15,
        "test_http": 15}


def build(name, folder, options, what, **env):
    env = {"MAKE_TARGETS": "all check-programs", **env}
    return Suite(name, ["scripts/build", folder, "--enable-werror", *options], env=env, what=what)


def check(name, folder, needs, what, **env):
    return Suite(name, ["make", "-C", folder, "-s", f"-j{AT_ONCE}", "check"], by_automake, [needs], folder=folder, env=env, what=what)


def system(name, folder, needs, leave_out=(), where="tests/system", **env):
    """A suite for each file, so that they run side by side, and a crash costs one file."""
    found = sorted((TOP / where).glob("test_*.py"), key=lambda path: (-LONG.get(path.stem, 0), path.stem))
    rows = []
    for path in found:
        if path.stem in leave_out:
            continue
        suite = Suite(f"{name}/{path.stem[5:]}", [], by_junit, [needs], limit=900, what=f"pytest {path.name}",
                      env={"R2SHIM_BIN": folder / "r2shim", "R2SHIM_NODE_CACHE": BUILD / "node", **env})
        # A test that hangs shows where, before the suite is killed.
        suite.command = ["/usr/bin/python3", "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short",
                         "-o", f"faulthandler_timeout={suite.limit * 2 // 3}", f"--junitxml={suite.junit}", str(path)]
        rows.append(suite)
    return rows


def table():
    return [
        build("gcc", GCC, [], "gcc, warnings are errors"),
        build("asan", ASAN, ["--enable-asan", "--enable-ubsan"], "gcc with ASan and UBSan", CFLAGS="-O1 -g"),
        build("tsan", TSAN, ["--enable-tsan"], "gcc with ThreadSanitizer", CFLAGS="-O1 -g"),
        build("faults", FAULTS, ["--enable-faults"], "gcc, with points at which tests make it fail", MAKE_TARGETS="r2shim"),
        *system("torture", FAULTS, "faults", where="tests/system/torture"),
        Suite("distcheck", ["make", "-C", GCC, "-s", f"-j{AT_ONCE}", "distcheck"], needs=["gcc"], limit=900, what="make distcheck"),
        *system("system", GCC, "gcc"),
        # These keep a core busy each: among those that wait.
        Suite("model", ["make", "-s", "-C", "tests/model", "check"], by_last_line, limit=900,
              what="the protocol's model, explored by spin"),
        Suite("fuzz", ["scripts/fuzz", "--seconds", "10", "--jobs", "2"], by_last_line, what="scripts/fuzz: 10 s for each parser"),
        Suite("valgrind", ["scripts/valgrind", "-j", "2", GCC], by_last_line, ["gcc"], what="scripts/valgrind: unit tests under memcheck"),
        *system("system-asan", ASAN, "asan", NOT_SANITIZED),
        *system("system-tsan", TSAN, "tsan", NOT_SANITIZED | NOT_THREADED),
        check("check", GCC, "gcc", "make check: unit tests, fuzz corpus, include check, scenarios"),
        check("check-asan", ASAN, "asan", "the same under ASan and UBSan", **SANITIZERS),
        check("check-tsan", TSAN, "tsan", "the same under ThreadSanitizer", **SANITIZERS),
        Suite("lint", ["scripts/lint", "-j", "1", GCC], by_last_line, ["gcc"], what="scripts/lint"),
        build("clang", CLANG, [], "clang, warnings are errors", CC="clang"),
    ]


class Runner:
    """Takes rows from the table with a few threads."""

    def __init__(self, suites):
        self.suites, self.lock, self.total = suites, threading.Condition(), Counts()
        self.broken = set()		# names of suites that failed: what needs them is not run
        self.stopping = False

    def next(self):
        """The first row whose needs are met; None if nothing is left."""
        with self.lock:
            while not self.stopping:
                names = {suite.name: suite for suite in self.suites}
                waiting = [suite for suite in self.suites if suite.state == "waiting"]
                if not waiting:
                    return None
                for suite in waiting:
                    if all(need not in names or names[need].state == "done" for need in suite.needs):
                        suite.state = "running"
                        return suite
                self.lock.wait()
            return None

    def work(self):
        while (suite := self.next()) is not None:
            if self.broken & set(suite.needs):
                counts, seconds = Counts(0, 1, 0, [f"{suite.name}: not run, for {', '.join(suite.needs)} failed"]), 0
            else:
                counts, seconds = suite.run()
            with self.lock:
                suite.state = "done"
                if self.stopping:
                    return
                if CI and counts.skipped:
                    counts.failed, counts.skipped = counts.failed + counts.skipped, 0
                    counts.show.append(f"{suite.name}: in CI nothing may be skipped")
                if counts.failed:
                    self.broken.add(suite.name)
                self.total += counts
                print(f"{suite.name:<28}{str(counts):<34}{seconds:6.1f} s", flush=True)
                for text in counts.show:
                    print("    " + text.replace("\n", "\n    "), flush=True)
                self.lock.notify_all()

    def run(self):
        threads = [threading.Thread(target=self.work) for _ in range(LANES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.total

    def stop(self):
        self.stopping = True
        for suite in self.suites:
            if suite.state == "running":
                suite.kill()


class Interrupted(BaseException):
    """A signal asked us to end."""


def on_signal(number, _frame):
    raise Interrupted(number)


def chosen(words):
    """The suites that the words name (system: all of system/*), and what these need."""
    suites = table()
    if not words:
        return suites
    names = {suite.name for suite in suites if any(suite.name == word or suite.name.startswith(word + "/") for word in words)}
    unknown = [word for word in words if not any(name == word or name.startswith(word + "/") for name in names)]
    if unknown:
        sys.exit(f"scripts/test: no suite {', '.join(unknown)}; scripts/test --list shows them")
    names |= {need for suite in suites if suite.name in names for need in suite.needs}
    return [suite for suite in suites if suite.name in names]


def main():
    words = sys.argv[1:]
    if "--list" in words:
        for suite in table():
            print(f"{suite.name:<28}{suite.what}")
        return 0
    suites = chosen(words)
    LOGS.mkdir(parents=True, exist_ok=True)
    began, runner = time.monotonic(), Runner(suites)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    try:
        total = runner.run()
    except Interrupted as e:
        runner.stop()
        print(f"stopped by {signal.Signals(e.args[0]).name}", flush=True)
        os._exit(128 + e.args[0])
    seconds = int(time.monotonic() - began)
    print(f"{seconds // 60} min {seconds % 60} s; logs in {LOGS.relative_to(TOP)}")
    print(total, flush=True)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
