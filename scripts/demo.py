#!/usr/bin/python3
"""The demo itself; scripts/demo installs, builds and starts it.

A site of real processes on free ports: redis-server, the Django site under gunicorn, the sandbox as R2, a proxy, two migrators,
each in a folder of its own. MEDIA_ROOT is filled with files of this machine. Then the operator's way from phase 0 to 5, in which R2
is written first, back to 0, where files change behind the proxy's back, and to 5 again, through all gates, while clients read, upload,
replace and delete, and check what they get by its digest; two of them are programs that PUT and DELETE. With --commit it ends in
phase 6, from which there is no way back.
"""
import argparse
import collections
import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import textwrap
import time
import traceback
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tests" / "system"))
os.environ.setdefault("R2SHIM_BIN", str(TOP / "build" / "demo" / "r2shim"))

import clients  # noqa: E402
import harness  # noqa: E402
from stack import ALL_PHASES, Stack  # noqa: E402

FILES = 3000			# of the machine, at least, if it has so many
BIG = 300 << 20			# the one big file: it goes to R2 in parts
LARGEST = 3 << 20		# of the others
NEEDED = 3 << 30		# free disk space
LOGS = TOP / "build" / "demo-logs"	# what is kept of a failed run
PHASES = ALL_PHASES[:6]		# up and down
TOKEN = "demo"			# of the programs
CHANGES = {"deleted": 60, "replaced": 60, "added": 40}		# behind the proxy's back, in phase 0

# What to take: folder in MEDIA_ROOT, at most how many, where from, which names. The last one fills up.
SOURCES = (
    ("certificates", 300, ["/usr/share/ca-certificates"], r"\.crt$"),
    ("fonts", 200, ["/usr/share/fonts", "/usr/share"], r"\.(ttf|otf|pfb|afm|t1|woff2?|pcf\.gz)$"),
    ("pictures", 1200, ["/usr/share/icons", "/usr/share", "/usr/lib/python3"], r"\.(png|jpe?g|gif|svg|ico|webp|xpm)$"),
    ("documents", 1000, ["/usr/share/doc", "/usr/share"], r"\.(txt|html|pdf|ps|md|rst|odt|tex|css|csv|gz)$|/(copyright|README)$"),
    ("others", None, ["/usr/share/zoneinfo", "/usr/share", "/usr/lib/python3", "/usr/include"], r""),
)


def size(count):
    """1234567 -> "1.2 MB"."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return None


class Screen:
    """Lines that stay, and in a terminal one line below them that is drawn again and again."""
    WIDTH = 79

    def __init__(self):
        self.tty, self.began, self.drawn, self.last = sys.stdout.isatty(), time.monotonic(), False, 0.0
        self.closed = False		# the terminal belongs to the shell again

    def clock(self):
        seconds = int(time.monotonic() - self.began)
        return f"{seconds // 60:02}:{seconds % 60:02}"

    def say(self, text="", clock=True):
        if self.drawn:
            sys.stdout.write("\r\033[K")
            self.drawn = False
        print(f"{self.clock()}  {text}" if clock and text else text, flush=True)
        self.last = time.monotonic()

    def live(self, text):
        """In a terminal at most ten times a second; in a pipe a line every five seconds."""
        now = time.monotonic()
        if now - self.last < (0.1 if self.tty else 5):
            return
        text = f"{self.clock()}    {text}"[:self.WIDTH]
        if self.tty:
            sys.stdout.write("\r\033[K" + text)
            sys.stdout.flush()
            self.drawn, self.last = True, now
        else:
            print(text, flush=True)
            self.last = now


class Interrupted(BaseException):
    """A signal asked us to end."""


def on_signal(number, _frame):
    raise Interrupted(number)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# The media

def candidates(roots, pattern):
    """Regular files below the roots, in a fixed order."""
    wanted = re.compile(os.fsencode(pattern))
    for root in roots:
        for folder, dirs, names in os.walk(os.fsencode(root)):
            dirs.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if wanted.search(path) and not os.path.islink(path) and os.path.isfile(path):
                    yield path


def fill(media, screen):
    """Copies files of this machine to MEDIA_ROOT, and makes the big one: {folder: files}, bytes."""
    counts, total, seen = collections.Counter(), 0, set()
    for category, most, roots, pattern in SOURCES:
        most = max(0, FILES - sum(counts.values())) if most is None else most
        for path in candidates(roots, pattern):
            if counts[category] >= most:
                break
            length = os.stat(path).st_size
            target = media / category / os.fsdecode(b"/".join(path.split(b"/")[-2:]))
            if length > LARGEST or path in seen or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(os.fsdecode(path), target)
            target.chmod(0o644)
            seen.add(path)
            counts[category] += 1
            total += length
            screen.live(f"filling MEDIA_ROOT: {sum(counts.values()):,} files, {size(total)}")
    rng = random.Random("r2shim demo")
    (media / "video").mkdir()
    with open(media / "video" / "holiday.mov", "wb") as f:
        for _ in range(BIG >> 20):
            f.write(rng.randbytes(1 << 20))
            screen.live(f"filling MEDIA_ROOT: the big file, {size(f.tell())}")
    counts["video"] = 1
    return counts, total + BIG


# The story

class Demo:
    def __init__(self, args, screen):
        self.args, self.screen = args, screen
        self.stack = self.load = None
        self.times = []			# (phase, "up" | "down" | "", seconds, requests)
        self.dwell = args.seconds
        self.left = None		# how it was entered, since when, requests then
        self.shares = {}		# backfill -> {migrator: keys}

    def run(self):
        say = self.screen.say
        self.start()
        self.enter("passthrough", "")
        self.stay()
        self.up("first")
        self.down()
        self.behind_the_back()
        self.stay()
        self.up("second")
        if self.args.commit:
            self.commit()
        say("the clients stop; the last look at everything")
        self.leave()
        report = self.load.stop()
        return self.finish(report)

    # building it up

    def start(self):
        folder = harness.temp_dir("r2shim-demo-")
        free = shutil.disk_usage(folder).free
        if free < NEEDED:
            raise AssertionError(f"{folder} has {size(free)} free, the demo needs {size(NEEDED)}")
        self.folder = folder
        self.stack = Stack("gunicorn", migrators=2, folder=folder, site="demo", lease="5s", request_limit="10s",
                           intent_deadline="10s", deadline="10s", migrator="concurrency = 8; max-delete = 300;",
                           prefixes=self.prefixes())
        self.media = self.stack.media
        counts, total = fill(self.media, self.screen)
        self.screen.say(f"MEDIA_ROOT: {sum(counts.values()):,} files, {size(total)}")
        for line in textwrap.wrap(", ".join(f"{n:,} {name}" for name, n in counts.items()), 73):
            self.screen.say("       " + line, clock=False)
        self.stack.start()
        self.screen.say(f"in {folder}:")
        self.screen.say("       redis-server, gunicorn, the sandbox as R2, a proxy, two migrators", clock=False)
        self.load = clients.Load(self.stack.proxy.address, self.args.clients, seed="demo", pause=self.args.clients / 240,
                                 heads=False, big=0.001, programs=2, token=TOKEN)
        self.load.add_tree(self.media)
        self.load.start()
        self.screen.say(f"{self.args.clients} clients read, upload, replace and delete, two programs PUT and DELETE;")
        self.screen.say("       all check every answer", clock=False)

    def prefixes(self):
        """Anybody may read; programs write below /media/programs/."""
        token = self.folder / "programs.token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        return (f'{{ url = "/media/programs/"; class = "public"; writes = "disk"; token-file = "{token}"; }}, '
                '{ url = "/media/"; class = "public"; }')

    # phases

    def leave(self):
        if self.left:
            phase, way, since, requests = self.left
            self.times.append((phase, way, time.monotonic() - since, self.load.requests() - requests))
        self.left = None

    def enter(self, phase, way):
        self.leave()
        self.left = (phase, way, time.monotonic(), self.load.requests())
        self.screen.say(f"phase {ALL_PHASES.index(phase)} {phase}")

    def now(self, text=""):
        counts = self.load.counts
        bad = counts["failed"] + counts["wrong"]
        self.screen.live(f"{counts['requests']:,} requests, {bad} failed" + (f"; {text}" if text else ""))

    def stay(self):
        """Time in a phase, with requests in it."""
        end = time.monotonic() + self.dwell
        goal = self.load.requests() + 100
        while time.monotonic() < end or (self.load.requests() < goal and time.monotonic() < end + 30):
            self.now()
            time.sleep(0.1)

    def set_phase(self, phase, way, *more):
        """`phase set`, as an operator does it: again while a gate refuses. No gate is waived."""
        deadline, proxy = time.monotonic() + 90, self.stack.proxy
        while True:
            code, out, err = proxy.run("phase", "set", phase, *more)
            if code == 0:
                break
            if code != 4 or time.monotonic() > deadline:
                raise AssertionError(f"phase set {phase}: exit code {code}\n{out}{err}")
            self.now(f"a gate to {phase} is shut")
            time.sleep(0.2)
        proxy.wait_phase(phase)
        self.enter(phase, way)
        for line in out.splitlines():
            if "owed" in line:
                self.screen.say(line)

    def commit(self):
        """Phase 6: from here on the disk gets nothing."""
        self.verify_under_load()
        self.set_phase("r2-only", "up", "--commit")
        while not self.stack.proxy.status()["committed"]:
            self.now("the way back is open for some seconds more")
            time.sleep(0.2)
        code, _, err = self.stack.proxy.run("phase", "set", "r2-primary")
        if code != 4:
            raise AssertionError(f"back from r2-only: exit code {code}\n{err}")
        self.screen.say("the way back is closed: " + err.strip().rpartition("phase: ")[2])
        self.stay()

    def up(self, which):
        for phase in PHASES[1:]:
            if phase == "read-r2":
                self.backfill(which)
                self.verify_under_load()
            self.set_phase(phase, "up")
            self.stay()

    def down(self):
        for phase in reversed(PHASES[:-1]):
            self.set_phase(phase, "down")
            self.stay()

    def backfill(self, which):
        proxy, began, before = self.stack.proxy, time.monotonic(), self.worked()
        proxy.run("backfill", "start", check=True)
        while True:
            status = proxy.status()
            run = status["backfill"]
            if run["state"] == "complete":
                break
            if time.monotonic() - began > 300:
                raise AssertionError(f"the backfill is not complete after 300 s: {run}")
            self.now(f"backfill: {run['done']:,} of {run['queued']:,} queued, {run['files']:,} walked")
            time.sleep(0.3)
        self.screen.say(f"the {which} backfill took {time.monotonic() - began:.1f} s: {run['copied']:,} copied "
                        f"({size(run['copied_bytes'])}), {run['deleted']:,} deleted")
        self.shares[which] = {name: keys - before.get(name, 0) for name, keys in self.worked().items()}

    def worked(self):
        """{migrator: keys that it has looked at}"""
        return {migrator["name"]: migrator["keys"] for migrator in self.stack.proxy.status()["migrators"]}

    def verify_under_load(self):
        """While clients write a verify can meet a key in the middle of its write twice: it is asked again."""
        began = time.monotonic()
        while True:
            self.now("verify --full")
            report = self.stack.proxy.verify("--full")
            if report["clean"]:
                break
            if time.monotonic() - began > 120:
                raise AssertionError(f"verify does not become clean: {report}")
        self.screen.say(f"verify --full under load: clean, {report['files']:,} files, {time.monotonic() - began:.1f} s")

    def behind_the_back(self):
        """In phase 0 nobody mirrors. What happens on the disk now must be found by the way up alone."""
        rng = random.Random(1)
        files = sorted((url, os.fsdecode(path)) for url, path in clients.tree(self.media).items()
                       if url.split("/")[2] in ("certificates", "fonts", "pictures", "others"))
        chosen = rng.sample(files, CHANGES["deleted"] + CHANGES["replaced"])
        gone, changed = chosen[:CHANGES["deleted"]], chosen[CHANGES["deleted"]:]
        spare = self.folder / "spare"
        spare.mkdir()
        new, added = {}, {}
        for number, (url, path) in enumerate(changed):
            new[path] = spare / f"r{number}"
            new[path].write_bytes(clients.content(f"replaced {path}", rng.randrange(1, 100000)))
        for number in range(CHANGES["added"]):
            path = self.media / "später" / f"neu {number}.bin"
            added[path] = spare / f"a{number}"
            added[path].write_bytes(clients.content(f"added {path}", rng.randrange(1, 100000)))
        (self.media / "später").mkdir()
        urls = {str(path): url for path, url in ((p, u) for u, p in changed)}
        outside = clients.Outside(self.load)
        outside.begin({**{url: None for url, _ in gone}, **{urls[path]: source for path, source in new.items()},
                       **{"/media/sp%C3%A4ter/" + f"neu%20{n}.bin": source for n, source in enumerate(added.values())}})
        for _, path in gone:
            os.unlink(path)
        for path, source in {**new, **added}.items():
            os.rename(source, path)
        outside.end()
        self.screen.say("behind the proxy's back, on the disk: " + ", ".join(f"{n} {what}" for what, n in CHANGES.items()))

    # the end

    def finish(self, report):
        proxy, stack, problems = self.stack.proxy, self.stack, []
        proxy.drained(60)
        verify = proxy.verify("--full")
        if not self.args.commit and not verify["clean"]:
            problems.append(f"verify is not clean: {verify}")
        expected = self.load.history.expected()
        absent = [url for url, digest in expected.items() if digest is None]
        wrong = self.look(expected)
        problems += wrong[:5]
        rclone, text = (0, " 0 differences found") if self.args.commit else stack.rclone_check()
        if rclone != 0 or " 0 differences found" not in text or "hashes could not be checked" in text:
            problems.append(f"rclone check: {rclone}\n{text[-2000:]}")
        metrics = proxy.metrics()
        problems += [f"{p['kind']}: {p['text']}" for p in report["problems"]]
        self.tell(report, verify, absent, wrong, metrics, rclone)
        if report["failed"] or report["wrong"] or problems:
            for problem in problems[:10]:
                self.screen.say(problem, clock=False)
            return 1
        return 0

    def look(self, expected):
        """Every document whose state is known: what the proxy says of it now."""
        wrong = []
        with self.stack.client() as http:
            for number, (url, digest) in enumerate(sorted(expected.items())):
                answer = http.get(url, digest_only=True)
                if digest is None and answer.status != 404:
                    wrong.append(f"deleted, but served: {url} {answer!r}")
                elif digest is not None and (answer.status, answer.sha256) != (200, digest):
                    wrong.append(f"wrong: {url} {answer!r}, not {digest}")
                self.screen.live(f"reading everything once more: {number:,} of {len(expected):,}")
        return wrong

    def tell(self, report, verify, absent, wrong, metrics, rclone):
        say = self.screen.say
        fallbacks = {found[1]: int(value) for name, value in metrics.items()
                     if value and (found := re.fullmatch(r'r2shim_media_fallbacks_total\{reason="(.*)"\}', name))}
        violations = int(metrics.get("r2shim_validate_violations_total", 0))
        served_again = len([line for line in wrong if line.startswith("deleted")]) + report["wrong"]

        def row(name, text):
            say(f"  {name:<13}{text}", clock=False)
        say("", clock=False)
        say("Report", clock=False)
        row("files", f"{verify['files']:,} in MEDIA_ROOT, {size(verify['bytes'])}; {verify['objects']:,} objects in R2")
        row("requests", f"{report['requests']:,} of {report['clients']} clients, {size(report['bytes'])} read, checked by digest")
        row("", f"{report['upload']:,} uploads, {report['overwrite']:,} overwrites, {report['replace']:,} replaces,")
        row("", f"{report['delete']:,} deletes; {report['put']:,} PUT, {report['erase']:,} DELETE")
        row("failures", f"{report['failed']} failed, {report['wrong']} wrong, slowest answer {report['slowest']:.1f} s")
        row("fallbacks", f"{sum(fallbacks.values()):,} reads looked at the other side"
            + (f" ({', '.join(f'{reason.lower()} {n:,}' for reason, n in fallbacks.items())})" if fallbacks else ""))
        row("", f"{violations} of them a violation in validate")
        row("deleted", f"{len(absent):,} URLs answer 404; {served_again} served again")
        for which, share in self.shares.items():
            if share:
                row("migrators", f"{which} backfill: " + ", ".join(f"{name} {keys:,} keys" for name, keys in share.items()))
        row("verify", f"full, {'clean' if verify['clean'] else 'the disk is behind' if self.args.commit else 'NOT CLEAN'}: "
            f"{verify['equal']:,} equal, {verify['different'] + verify['metadata'] + verify['owed'] + verify['r2-newer']} different")
        row("", f"{verify['missing']} files without an object, {verify['extra']} objects without a file")
        if not self.args.commit:
            row("rclone check", "0 differences" if rclone == 0 else f"exit code {rclone}")
        for phase, way, seconds, requests in self.times:
            row("time", f"phase {ALL_PHASES.index(phase)} {phase:<12} {way:<5}{seconds:6.1f} s {requests:>8,} requests")


# --keep

def keep_running(demo, screen, tell_parent):
    """Prints where everything is, lets the shell go on, and waits for the stop."""
    stack = demo.stack
    conf = stack.proxy.conf
    for line in ("", "It goes on running:",
                 f"  site           http://{stack.proxy.address}/",
                 f"  without r2shim http://{stack.site.address}/",
                 f"  R2 (sandbox)   {stack.sandbox.endpoint}/{stack.sandbox.bucket}",
                 f"    key id       {stack.sandbox.key_id}, secret in {stack.sandbox.secret_file}",
                 f"  MEDIA_ROOT     {stack.media}",
                 f"  look at it     {stack.proxy.binary} status --watch",
                 f"                   -c {conf}",
                 f"  stop it        kill {os.getpid()}"):
        screen.say(line, clock=False)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    screen.closed = True
    os.write(tell_parent, b"k")
    while True:
        signal.pause()


@contextlib.contextmanager
def folder_gone(demo):
    """Whatever happens, nothing is left: no process, no port, no folder. A second Ctrl-C does not stop that."""
    for number in SIGNALS:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if demo.load:
            demo.load.stopping.set()
        harness.stop_all()


def save_logs(demo, screen):
    """What the processes have said, for whoever looks for the reason."""
    if demo.stack:
        shutil.rmtree(LOGS, ignore_errors=True)
        for proc in demo.stack.procs():
            for path in proc.dir.glob("*.*"):
                if path.suffix in (".out", ".err", ".log", ".conf", ".jsonl"):
                    (LOGS / proc.dir.name).mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, LOGS / proc.dir.name)
        screen.say(f"the logs are in {LOGS}", clock=False)


def play(args, tell_parent=None):
    """The whole demo; the exit code."""
    screen = Screen()
    demo = Demo(args, screen)
    try:
        with folder_gone(demo):
            try:
                code = demo.run()
            except Exception as e:
                screen.say(str(e) if isinstance(e, AssertionError) else traceback.format_exc().rstrip())
                if demo.load:
                    for problem in demo.load.problems[:10]:
                        screen.say(json.dumps(problem, ensure_ascii=False))
                code = 1
            if code:
                save_logs(demo, screen)
            if args.keep and code == 0:
                keep_running(demo, screen, tell_parent)
            if code == 0:
                demo.stack.stop()
    except Interrupted as e:
        if not screen.closed:
            screen.say(f"stopped by {signal.Signals(e.args[0]).name}; nothing is left running")
        return 128 + e.args[0]
    except AssertionError as e:
        screen.say(str(e))
        code = 1
    screen.say("", clock=False)
    screen.say("the demo passed" if code == 0 else "THE DEMO FAILED")
    return code


def play_and_keep(args):
    """With --keep the demo is a process of its own, in a session of its own: it stays when the shell has its prompt again."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.setsid()
        return play(args, writing)
    os.close(writing)
    for number in SIGNALS:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    if os.read(reading, 1):
        return 0
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo", description="A Django site moves its media from disk to R2, and back.")
    parser.add_argument("--keep", action="store_true", help="leave it running at the end, and print the URLs")
    parser.add_argument("--commit", action="store_true", help="end in phase 6, r2-only")
    parser.add_argument("--clients", type=int, default=24, help="clients that read and write all the time (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="time in each phase, at least (%(default)s)")
    args = parser.parse_args()
    return play_and_keep(args) if args.keep else play(args)


if __name__ == "__main__":
    sys.exit(main())
