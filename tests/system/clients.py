#!/usr/bin/python3
"""Background load: clients that read, upload, overwrite, replace and delete through the proxy, and check every answer.

Each client is a thread with one keep-alive connection. It owns its documents: nobody else writes them, all read them, and
the history (history.py) says which contents a read may see. Files that were there before the run are read as well.

As a program it prints one JSON object a line: {"event": "ready"}, {"event": "progress", ...} each --progress seconds,
{"event": "problem", ...} for the first wrong or failed answers, and {"event": "report", ...} at the end, which comes with
SIGTERM, SIGINT, end of --seconds, or "stop" on stdin (--stdin). Exit status 0 if nothing failed and nothing was wrong.
Other commands on stdin, one JSON object a line, tell of changes that somebody makes beside the clients, such as a script
that deletes files on the disk: {"op": "begin", "changes": {URL: PATH or null}} (PATH: a file with the new content) before
the change, answered by {"event": "begun"}; {"op": "end"} when every later read must see it.
"""
import argparse
import collections
import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
import urllib.parse

from history import ABSENT, History, content
from web import Cut, SiteClient

# name: weight. What a client does next is drawn from these.
MIX = {"read": 60, "upload": 10, "overwrite": 10, "replace": 6, "delete": 6, "reread": 8}
SIZES = [0, 1, 100, 1000, 5000, 20000, 65536, 65537, 200000]
HUGE = 16 << 20		# files from here on are read seldom
FOLDERS = ["documents", "documents/2026", "größe", "a b", "deep/er/still"]


def tree(root, url="/media/"):
    """{url: path} of the files below a media root; names that begin with .r2shim are not media."""
    found = {}
    for folder, dirs, files in os.walk(os.fsencode(root)):
        dirs[:] = [name for name in dirs if not name.startswith(b".r2shim")]
        for name in files:
            path = os.path.join(folder, name)
            if not name.startswith(b".r2shim") and os.path.isfile(path):
                found[url + urllib.parse.quote(os.path.relpath(path, os.fsencode(root)))] = path
    return found


def file_digest(path):
    """(sha256, size) of a file, read in pieces."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as f:
        for piece in iter(lambda: f.read(1 << 20), b""):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size


class Document:
    """One of a client's own: its row's id and its url."""
    __slots__ = ("ident", "url", "name")

    def __init__(self, answer, name):
        self.ident, self.url, self.name = answer["id"], answer["url"], name


class Load:
    """address: of the proxy. clients: connections. cuts_expected: the proxy is going to be killed, so cut connections
    are no failures. programs: connections that PUT and DELETE below /media/programs/ with the token. pause: mean time between two
    requests of a client. big: share of uploads of several MB. problems_max: how many are kept. tls: (address, ssl context,
    server's name): every second client goes there. heads: send HEAD too; not to gunicorn 20.1 itself, which answers HEAD of a file with
    the whole body."""

    def __init__(self, address, clients=64, seed=1, pause=0.0, cuts_expected=False, mix=None, sizes=None, documents=4,
                 timeout=60, big=0.002, heads=True, on_problem=None, programs=0, token=None, problems_max=200, tls=None):
        self.address, self.seed, self.pause, self.cuts_expected = address, seed, pause, cuts_expected
        self.mix, self.sizes, self.documents = dict(MIX, **(mix or {})), sizes or SIZES, documents
        self.timeout, self.big, self.heads, self.on_problem, self.problems_max = timeout, big, heads, on_problem, problems_max
        self.tls = tls
        self.history = History()
        self.live, self.dead, self.static, self.huge = [], collections.deque(maxlen=2000), [], []
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.statuses = collections.Counter()
        self.problems = []
        self.latency_max = 0.0
        self.stopping = threading.Event()
        self.started = None
        self.token = token
        self.threads = [threading.Thread(target=self.client, args=(number,), name=f"client{number}", daemon=True)
                        for number in range(clients)]
        self.threads += [threading.Thread(target=self.program, args=(number,), name=f"program{number}", daemon=True)
                         for number in range(programs)]

    # running

    def add_tree(self, root, url="/media/"):
        """Files that are there already: read and checked, never written by us."""
        for where, path in tree(root, url).items():
            self.add_file(where, *file_digest(path))

    def add_file(self, url, digest, size):
        self.history.exists(url, digest, size)
        with self.lock:
            (self.huge if size > HUGE else self.static).append(url)

    def start(self):
        self.started = time.monotonic()
        for thread in self.threads:
            thread.start()
        return self

    def stop(self, timeout=120):
        """Lets every client finish its request, and returns the report."""
        self.stopping.set()
        deadline = time.monotonic() + timeout
        for thread in self.threads:
            thread.join(max(0.1, deadline - time.monotonic()))
            if thread.is_alive():
                self.problem("failed", f"{thread.name} hangs")
        return self.report()

    def report(self):
        with self.lock:
            counts = dict(self.counts)
            names = ("requests", "bytes", "read", "head", "upload", "overwrite", "replace", "delete", "put", "erase", "failed", "wrong",
                     "cut")
            return {**{name: counts.get(name, 0) for name in names}, "clients": len(self.threads),
                    "seconds": round(time.monotonic() - self.started, 3), "slowest": round(self.latency_max, 3),
                    "statuses": {str(k): v for k, v in sorted(self.statuses.items())}, "problems": self.problems[:20]}

    def requests(self):
        return self.counts["requests"]

    # bookkeeping

    def count(self, name, amount=1):
        with self.lock:
            self.counts[name] += amount

    def problem(self, kind, text):
        """kind: "failed" (no good answer) or "wrong" (an answer that the history forbids)."""
        with self.lock:
            self.counts[kind] += 1
            if len(self.problems) < self.problems_max:
                self.problems.append({"kind": kind, "at": round(time.monotonic() - self.started, 3), "text": text})
                if self.on_problem:
                    self.on_problem(self.problems[-1])

    def finished(self, what, response, start):
        took = time.monotonic() - start
        with self.lock:
            self.counts["requests"] += 1
            self.counts[what] += 1
            self.counts["bytes"] += response.length
            self.statuses[response.status] += 1
            self.latency_max = max(self.latency_max, took)

    def cut(self, error):
        """A request without an answer."""
        self.count("cut")
        if not self.cuts_expected:
            self.problem("failed", str(error))
        else:
            self.stopping.wait(0.02)

    # one client

    def client(self, number):
        rng = random.Random(f"{self.seed}/{number}")
        own, serial = [], 0
        kinds, weights = zip(*self.mix.items())
        address, tls = (self.tls[0], self.tls[1:]) if self.tls and number % 2 else (self.address, None)
        with SiteClient(address, self.timeout, tls) as http:
            while not self.stopping.is_set():
                kind = rng.choices(kinds, weights)[0]
                if kind == "upload" and len(own) >= self.documents:
                    kind = "read"
                elif kind in ("overwrite", "replace", "delete") and not own:
                    kind = "upload"
                serial += 1
                try:
                    if kind in ("read", "reread"):
                        self.read(http, rng, own, kind == "reread")
                    else:
                        getattr(self, "do_" + kind)(http, rng, own, f"{self.seed}-c{number}", serial)
                except Cut as e:
                    self.cut(e)
                except Exception as e:		# a bug of ours, or an answer that cannot be read: count it, go on
                    self.problem("failed", f"{kind}: {type(e).__name__}: {e}")
                if self.pause:
                    self.stopping.wait(rng.expovariate(1 / self.pause))

    def program(self, number):
        """One that knows of the proxy: it stores and removes its files by PUT and DELETE, and reads them back at once."""
        rng = random.Random(f"{self.seed}/program{number}")
        urls = [f"/media/programs/{self.seed}-p{number}-{k}.bin" for k in range(self.documents)]
        there, serial = set(), 0
        with SiteClient(self.address, self.timeout) as http:
            while not self.stopping.is_set():
                url, serial = rng.choice(urls), serial + 1
                if url in self.history.given_up:
                    urls.remove(url)
                    urls.append(f"/media/programs/{self.seed}-p{number}-s{serial}.bin")
                    continue
                try:
                    self.program_write(http, rng, url, there, f"{self.seed}-p{number}", serial)
                    self.program_read(http, url)
                except Cut as e:
                    self.history.give_up(url)
                    self.cut(e)
                except Exception as e:
                    self.problem("failed", f"{url}: {type(e).__name__}: {e}")
                if self.pause:
                    self.stopping.wait(rng.expovariate(1 / self.pause))

    def program_write(self, http, rng, url, there, who, serial):
        erase = url in there and rng.random() < 0.3
        seed, body = self.new_content(rng, who, serial)
        version = self.history.begin(url, ABSENT) if erase else self.history.begin(url, body, seed)
        start = time.monotonic()
        response = http.request("DELETE" if erase else "PUT", url, None if erase else body, {"Authorization": f"Bearer {self.token}"})
        self.finished("erase" if erase else "put", response, start)
        if response.status not in (201, 204):
            self.history.give_up(url)
            self.problem("failed", f"{'DELETE' if erase else 'PUT'} {url}: {response!r}")
            return
        self.history.done(version)
        (there.discard if erase else there.add)(url)

    def program_read(self, http, url):
        start = time.monotonic()
        response = http.request("GET", url, digest_only=True)
        end = time.monotonic()
        self.finished("read", response, start)
        if response.status not in (200, 404):
            self.problem("failed", f"GET {url}: {response!r}")
            return
        wrong = self.history.check(url, start, end, response)
        if wrong:
            self.problem("wrong", f"GET {wrong}")

    def pick(self, rng, own, reread):
        """The url to read next: a deleted one, one of our own, another client's, or a file of old."""
        with self.lock:
            if reread and self.dead:
                return rng.choice(self.dead)
            dice = rng.random()
            if self.huge and rng.random() < 0.0005:
                return rng.choice(self.huge)
            if own and dice < 0.3:
                return rng.choice(own).url
            if self.static and (dice < 0.6 or not self.live):
                return rng.choice(self.static)
            return rng.choice(self.live) if self.live else None

    def read(self, http, rng, own, reread):
        url = self.pick(rng, own, reread)
        if url is None:
            return
        method, headers = "GET", {}
        dice = rng.random()
        if dice < 0.1 and self.heads:
            method = "HEAD"
        elif dice < 0.2:
            first = rng.randrange(0, 1000)
            headers["Range"] = f"bytes={first}-{first + rng.randrange(0, 70000)}"
        start = time.monotonic()
        response = http.request(method, url, headers=headers, digest_only=not headers)
        end = time.monotonic()
        self.finished("head" if method == "HEAD" else "read", response, start)
        if response.status == 416 and headers:
            return
        if response.status not in (200, 206, 404) or (response.status == 206 and not headers):
            self.problem("failed", f"{method} {url}: {response!r}")
            return
        wrong = self.history.check(url, start, end, response, method)
        if wrong:
            self.problem("wrong", f"{method} {headers or ''} {wrong}")

    def new_content(self, rng, who, serial):
        size = rng.choice(self.sizes)
        if rng.random() < self.big:
            size = rng.randrange(2_000_000, 6_000_000)
        seed = f"{who}-{serial}"
        return seed, content(seed, size)

    def add(self, own, document):
        own.append(document)
        with self.lock:
            self.live.append(document.url)

    def drop(self, own, document, deleted):
        own.remove(document)
        with self.lock:
            if document.url in self.live:
                self.live.remove(document.url)
            if deleted:
                self.dead.append(document.url)

    def do_upload(self, http, rng, own, who, serial):
        seed, body = self.new_content(rng, who, serial)
        # Only a few names a client: most uploads take up the name of a deleted document again.
        used = {document.name for document in own}
        name = rng.choice([n for n in (f"{who}-{k}.bin" for k in range(self.documents + 2)) if n not in used])
        folder = rng.choice(FOLDERS)
        hoped = "/media/" + urllib.parse.quote(f"{folder}/{name}")
        if hoped in self.history.given_up:
            name = f"{who}-u{serial}.bin"
            hoped = "/media/" + urllib.parse.quote(f"{folder}/{name}")
        start = time.monotonic()
        # The name may be one that was deleted before: from now on its new content can show.
        guess = self.history.begin(hoped, body, seed) if hoped in self.history.documents else None
        try:
            response = http.upload(name, body, folder)
        except Cut as e:
            if e.sent:
                self.history.give_up(hoped)
            elif guess is not None:
                self.history.refused(hoped, guess)
            raise
        self.finished("upload", response, start)
        if response.status != 201:
            self.history.give_up(hoped)
            self.problem("failed", f"upload {name}: {response!r}")
            return
        document = Document(response.json(), name)
        if guess is not None and document.url == hoped:
            self.history.done(guess)
        else:
            if guess is not None:
                self.history.refused(hoped, guess)
            self.history.created(document.url, body, seed, start)
        self.add(own, document)

    def do_overwrite(self, http, rng, own, who, serial):
        document = rng.choice(own)
        seed, body = self.new_content(rng, who, serial)
        version = self.history.begin(document.url, body, seed)
        if self.write(own, document, version, "overwrite", lambda: http.overwrite(document.ident, body)):
            self.history.done(version)

    def do_replace(self, http, rng, own, who, serial):
        document = rng.choice(own)
        seed, body = self.new_content(rng, who, serial)
        start = time.monotonic()
        gone = self.history.begin(document.url, ABSENT)
        name = f"{who}-r{serial}.bin"
        response = self.write(own, document, gone, "replace", lambda: http.replace(document.ident, name, body))
        if response:
            self.history.done(gone)
            new = Document(response.json(), name)
            self.history.created(new.url, body, seed, start)
            self.drop(own, document, True)
            self.add(own, new)

    def do_delete(self, http, rng, own, who, serial):
        document = rng.choice(own)
        gone = self.history.begin(document.url, ABSENT)
        if self.write(own, document, gone, "delete", lambda: http.remove(document.ident)):
            self.history.done(gone)
            self.drop(own, document, True)

    def write(self, own, document, version, what, send):
        """Sends a write to one of our own; a document whose write has no clear outcome is given up."""
        start = time.monotonic()
        try:
            response = send()
        except Cut as e:
            if e.sent:
                self.history.give_up(document.url)
                self.drop(own, document, False)
            else:
                self.history.refused(document.url, version)
            raise
        self.finished(what, response, start)
        if response.status == 200:
            return response
        self.history.give_up(document.url)
        self.drop(own, document, False)
        self.problem("failed", f"{what} {document.url}: {response!r}")
        return None


class Outside:
    """Changes that somebody else makes, told on stdin."""

    def __init__(self, load):
        self.load, self.tickets = load, []

    def begin(self, changes):
        for url, path in changes.items():
            digest, size = (ABSENT, 0) if path is None else file_digest(path)
            if digest is not ABSENT and url not in self.load.history.documents:
                with self.load.lock:
                    self.load.static.append(url)
            self.tickets.append(self.load.history.begin(url, digest=digest, size=size))

    def end(self):
        for ticket in self.tickets:
            self.load.history.done(ticket)
        self.tickets = []


def say(event, **data):
    print(json.dumps({"event": event, **data}), flush=True)


def listen(load, done):
    """Commands from stdin; its end means stop."""
    outside = Outside(load)
    for line in sys.stdin:
        line = line.strip()
        if line == "stop":
            break
        try:
            command = json.loads(line)
            if command["op"] == "begin":
                outside.begin(command["changes"])
                say("begun")
            elif command["op"] == "end":
                outside.end()
                say("ended")
            else:
                say("error", text=f"unknown op {command['op']}")
        except (ValueError, KeyError, TypeError, OSError) as e:
            say("error", text=f"{type(e).__name__}: {e}")
    done.set()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("address", help="of the proxy: HOST:PORT or unix:/PATH")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=None, help="stop after this time (default: when told)")
    parser.add_argument("--pause", type=float, default=0.05, help="mean time between two requests of a client")
    parser.add_argument("--seed", default=None, help="same seed, same choices; part of the file names (default: random)")
    parser.add_argument("--media-root", help="read the files below this folder too (as they are at the start)")
    parser.add_argument("--media-url", default="/media/")
    parser.add_argument("--documents", type=int, default=4, help="documents that a client owns at most")
    parser.add_argument("--big", type=float, default=0.002, help="share of uploads of several MB")
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--no-heads", action="store_true", help="send no HEAD")
    parser.add_argument("--cuts-expected", action="store_true", help="cut connections are no failures")
    parser.add_argument("--progress", type=float, default=1.0, help="seconds between two progress lines")
    parser.add_argument("--stdin", action="store_true", help="take commands from stdin")
    parser.add_argument("--expected", metavar="FILE", help="at the end write {url: sha256 or null} there")
    args = parser.parse_args()

    mix = {name: 0 for name in ("upload", "overwrite", "replace", "delete")} if args.read_only else None
    load = Load(args.address, args.clients, args.seed or random.randrange(1 << 32), args.pause, args.cuts_expected, mix,
                documents=args.documents, big=args.big, heads=not args.no_heads,
                on_problem=lambda problem: say("problem", **problem))
    if args.media_root:
        load.add_tree(args.media_root, args.media_url)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    load.start()
    say("ready", clients=args.clients, seed=load.seed, files=len(load.static) + len(load.huge))
    if args.stdin:
        threading.Thread(target=listen, args=(load, done), daemon=True).start()
    end = None if args.seconds is None else time.monotonic() + args.seconds
    while not done.wait(args.progress if end is None else max(0, min(args.progress, end - time.monotonic()))):
        report = load.report()
        say("progress", **{k: report[k] for k in ("seconds", "requests", "bytes", "failed", "wrong", "cut")})
        if end is not None and time.monotonic() >= end:
            break
    report = load.stop()
    if args.expected:
        with open(args.expected, "w", encoding="utf-8") as f:
            json.dump(load.history.expected(), f)
    say("report", **report)
    return 1 if report["failed"] or report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
