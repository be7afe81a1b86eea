"""Mixed load for the kills and the partitions: writers on the same few keys through every proxy, uploads by the application, readers.
Everything that is sent and seen goes into the site's record."""
import collections
import random
import threading
import time

from torture.crew import Crew
from torture.scenarios import body
from torture.site import Client
from web import Cut

SHARED = 10		# keys below dav/ and below own/ each, that all writers write
SIZES = [0, 10, 1000, 4000, 70_000]


class Load(Crew):
    """writers, readers: threads for each proxy."""

    def __init__(self, site, seed, writers=2, readers=2, pause=0.01):
        super().__init__(site, pause)
        self.lock, self.acknowledged = threading.Lock(), 0
        self.written = collections.deque(maxlen=60)		# keys that readers look at, beside the shared ones
        self.shared = [f"{folder}/shared-{number}" for folder in ("dav", "own") for number in range(SHARED)]
        for proxy in site.proxies:
            for work, letter, count in ((self.writer, "w", writers), (self.reader, "r", readers)):
                for number in range(count):
                    own = f"{seed}/{proxy.name}/{letter}{number}"
                    self.add(work, proxy, own, random.Random(own))

    def name(self):
        with self.lock:
            self.site.serial += 1
            return f"l{self.site.serial}.bin"

    def wait(self, rng, factor=1.0):
        self.over.wait(rng.expovariate(1 / (self.pause * factor)))

    def done(self, key, answer):
        self.written.append(key)
        if answer:
            with self.lock:
                self.acknowledged += 1
        return answer

    def writer(self, http, rng):
        documents = {}		# id -> key
        while not self.over.is_set():
            name, dice = self.name(), rng.random()
            content = body(name, 1, rng.choice(SIZES))
            ident = rng.choice(list(documents)) if documents else None
            if dice < 0.45:
                key = rng.choice(self.shared)
                self.done(key, http.store(key, content))
            elif dice < 0.6:
                key = rng.choice(self.shared)
                self.done(key, http.discard(key))
            elif dice < 0.75 or ident is None:
                ident = self.done(f"documents/{name}", http.save(name, content))
                if ident:
                    documents[ident] = f"documents/{name}"
            elif dice < 0.87:
                if not self.done(documents[ident], http.renew(ident, documents[ident], content)):
                    del documents[ident]		# of unknown state
            elif dice < 0.93:
                old = documents.pop(ident)
                if self.done(old, http.swap(ident, old, name, content)):
                    documents[ident] = f"documents/{name}"
            else:
                key = documents.pop(ident)
                self.done(key, http.erase(ident, key))
            self.wait(rng)

    def reader(self, http, rng):
        while not self.over.is_set():
            try:
                recent = rng.choice(self.written) if self.written and rng.random() < 0.6 else None
            except (RuntimeError, IndexError):		# it was appended to just now
                continue
            http.see(recent or rng.choice(self.shared))
            self.wait(rng, 0.5)


def measure_lag(site, rounds=20):
    """Seconds until the slowest of some writes through one proxy was seen through another one; None with one proxy."""
    if len(site.proxies) < 2:
        return None
    slowest, key = 0.0, "dav/lag"
    with Client(site, site.proxies[0]) as writer, Client(site, site.proxies[1]) as reader:
        for number in range(rounds):
            content = body("lag", number)
            try:
                if not writer.store(key, content):
                    continue
                began = time.monotonic()
                while reader.look(key)[1] != content and time.monotonic() < began + 10:
                    pass
                slowest = max(slowest, time.monotonic() - began)
            except Cut:
                continue
    return slowest
