"""The site under torture: nginx that takes PUT and DELETE (WebDAV) and hands the rest to the sample site, one or more proxies with
fault points, migrators, Redis, the sandbox; and clients whose every write and read goes into the record.

    /media/dav/...   writes = upstream      /media/own/...  writes = disk      all else: the application's uploads
"""
import hashlib
import os
import signal
import time
import urllib.parse

from harness import Gunicorn, Migrator, Nginx, RedisServer, Sandbox, Tool, eventually, temp_dir
from record import ABSENT, Op, Record, Violation, digest, limits
from s3 import Bucket
from stack import Proxy, Stack
from torture.trips import Trips
from web import Cut, SiteClient

PHASES = ["passthrough", "dual-write", "backfill", "read-r2", "validate", "r2-primary"]
TOKEN = "torture-token"
CONVERGE = 60		# seconds from healing to equal sides, at most
PREFIXES = ('{{ url = "/media/own/"; class = "public"; writes = "disk"; token-file = "{token}"; }},'
            '{{ url = "/media/dav/"; class = "public"; writes = "upstream"; token-file = "{token}"; }}, {{ url = "/media/"; class = "public"; }}')


def seconds(text):
    """Of a time in the configuration."""
    assert text[:-1].isdigit() and text[-1] == "s", text
    return int(text[:-1])


class Torn(Proxy):
    """A proxy with fault points."""

    def __init__(self, folder, mutant=None, prefix=(), **options):
        super().__init__(folder, **options)
        self.address, self.prefix = self.options["listen"], list(prefix)
        self.trips = Trips(self.dir / "trips")
        self.env = {**Tool.env, **self.trips.env(), **({"R2SHIM_MUTANT": mutant} if mutant else {})}

    def command(self):
        return [*self.prefix, *super().command()]

    def run(self, command, *args, **kwargs):
        """Commands are not the process under test: they are not to die of its faults."""
        env, self.env = self.env, Tool.env
        try:
            return super().run(command, *args, **kwargs)
        finally:
            self.env = env

    def from_r2(self):
        """How many reads were served from R2."""
        return self.metrics().get('r2shim_media_served_total{source="r2"}', 0)


class TornMigrator(Migrator):
    def __init__(self, folder, conf, name, mutant=None):
        super().__init__(folder, conf, name)
        self.trips = Trips(self.dir / "trips")
        self.env = {**Tool.env, **self.trips.env(), **({"R2SHIM_MUTANT": mutant} if mutant else {})}


class Site(Stack):
    """proxies, migrators: how many. net: a netns.Net, if each proxy is to live in a network namespace of its own."""

    def __init__(self, proxies=1, migrators=1, mutant=None, lag=1.0, folder=None, net=None, **options):
        self.dir = folder or temp_dir()
        self.media = self.dir / "media"
        self.media.mkdir(exist_ok=True)
        self.net, hosts = net, net.hosts if net else {}
        self.redis = RedisServer(self.dir / "redis", tcp=True, host=hosts.get("redis", "127.0.0.1"),
                                 options=["--protected-mode", "no"] if net else ())
        self.site = Gunicorn(self.dir / "site", self.media, unix=True)
        self.nginx = Nginx(self.dir / "nginx", self.media, self.site.address, dav="/media/dav/",
                           host=hosts.get("front", "127.0.0.1"))
        self.sandbox = Sandbox(self.dir / "r2")
        self.sandbox.listen = f"{hosts.get('r2', '127.0.0.1')}:0"
        self.mutant, self.count, self.wanted = mutant, proxies, migrators
        (self.dir / "token").write_text(TOKEN)
        (self.dir / "token").chmod(0o600)
        self.options = {"policy": "async", "lease": "1s", "request_limit": "1s", "intent_deadline": "1s",
                        "prefixes": PREFIXES.format(token=self.dir / "token"), "media_extra": 'min-free = "0";', **options}
        self.proxies, self.migrators = [], []
        self.record, self.last = Record(lag, **limits(*(seconds(self.options[name]) for name in ("lease", "request_limit", "intent_deadline")))), None
        self.lates = []			# writes without an answer that must have happened once all has converged
        self.wait_backfill = False	# a backfill was started: it belongs to the run
        self.serial = 0			# of runs: part of their keys' names
        self.known = {}			# {key: digest} as the last judgements found it
        self.phase = PHASES[0]

    @property
    def proxy(self):
        return self.proxies[0] if self.proxies else None

    def start(self, phase="passthrough"):
        self.redis.start()
        for proc in (self.site, self.nginx, self.sandbox):
            proc.start()
        self.bucket = Bucket(self.sandbox.endpoint, self.sandbox.bucket, self.sandbox.key_id, self.sandbox.secret)
        for number in range(self.count):
            where = self.net.proxy(number) if self.net else {}
            proxy = Torn(self.dir / f"proxy{number + 1}", self.mutant, **where, upstream=self.nginx.address, media=self.media,
                         endpoint=self.sandbox.endpoint, bucket=self.sandbox.bucket, key_id=self.sandbox.key_id,
                         secret_file=self.sandbox.secret_file, redis=self.redis.address, **self.options)
            proxy.name = f"proxy{number + 1}"
            proxy.out, proxy.err = proxy.dir / f"{proxy.name}.out", proxy.dir / f"{proxy.name}.err"
            self.proxies.append(proxy)
            if number == 0:
                proxy.run("init", check=True)
            proxy.start()
        for number in range(self.wanted):
            name = f"m{number + 1}"
            self.migrators.append(TornMigrator(self.dir / name, self.proxy.conf, name, self.mutant).start())
        self.climb(phase)
        return self

    def procs(self):
        return [*self.migrators, *self.proxies, self.sandbox, self.nginx, self.site, self.redis]

    def climb(self, target):
        """All proxies, phase after phase: nobody is ahead by more than one."""
        for phase in PHASES[PHASES.index(self.phase) + 1:PHASES.index(target) + 1]:
            for proxy in self.proxies:
                self.raise_one(proxy, phase)
            self.phase = phase
        return self

    def raise_one(self, proxy, phase):
        """One proxy enters the next phase, through its gates."""
        if phase != "r2-primary":
            proxy.climb(phase)
            return
        self.converge()
        eventually(lambda: proxy.verify()["clean"], 60, "verify clean", 0.2)
        proxy.set_phase(phase)

    def needs(self, victim):
        """Is this process one without which no write can be taken in this phase?"""
        return victim in ("redis", "sandbox") and self.phase == "r2-primary"

    def descend(self, target):
        for phase in reversed(PHASES[PHASES.index(target):PHASES.index(self.phase)]):
            for proxy in self.proxies:
                proxy.reload_phase(phase)
            self.phase = phase

    # Healing

    def revive(self, proc):
        """Starts what died. A proxy that died below r2-primary, on its way there, is told to enter it again, as its refusal says."""
        try:
            proc.start()
        except AssertionError as e:
            if "start it in validate" not in str(e):
                raise
            proc.write_phase("validate")
            proc.start()
            proc.set_phase("r2-primary")

    def heal(self):
        """Faults off, what died is started again, what was stopped goes on."""
        for proc in (*self.proxies, *self.migrators):
            if proc.trips.disarm():
                eventually(lambda: not proc.alive(), 10, f"death of {proc.name}", 0.005)
        for proc in (self.redis, self.site, self.nginx, self.sandbox, *self.proxies, *self.migrators):
            if proc.alive():
                proc.signal(signal.SIGCONT)
            else:
                proc.forget_dead()
                self.revive(proc)
        self.sandbox.faults()
        for proxy in self.proxies:
            assert proxy.admin("/health").status == 200

    def differences(self):
        """By what the sandbox's listing and the disk's bytes say; both are read whole only if they do not agree."""
        disk = self.on_disk()
        etags = {key: hashlib.md5(body).hexdigest() for key, body in disk.items()}
        listed = {key: etag for key, (_, etag) in self.bucket.list().items() if not key.split("/")[-1].startswith(".r2shim")}
        return sorted([(k, "not in R2") for k in etags.keys() - listed.keys()] + [(k, "only in R2") for k in listed.keys() - etags.keys()]
                      + [(k, "differs") for k in etags.keys() & listed.keys() if etags[k] != listed[k]])

    def marks(self):
        """Keys with a mark or an open intent, as Redis has them."""
        prefix = f"r2shim:{{{self.proxy.options['site']}}}:"
        return [self.redis.call("HLEN", prefix + name) for name in ("marks", "open", "dead")]

    def converge(self, limit=CONVERGE):
        """Waits for equal sides and no mark, intent or dead letter; what is missing after the limit goes into the record.
        Returns the seconds that it took."""
        began = time.monotonic()

        def settled():
            assert self.marks() == [0, 0, 0], f"marks, open intents, dead letters: {self.marks()}"
            differences = self.differences()
            assert not differences, f"{len(differences)} keys: {differences[:5]}"
            return True
        try:
            eventually(settled, limit, "convergence", 0.03)
        except AssertionError as e:
            self.record.diverged(str(e))
        return time.monotonic() - began

    def late(self, op):
        """A write that nobody answers: it is done when the sides have converged."""
        self.lates.append(op)

    def is_quiet(self):
        """No mark, no open intent, equal sides, no backfill that still runs."""
        if self.marks() != [0, 0, 0] or self.differences():
            return False
        return not self.wait_backfill or self.proxy.status()["backfill"]["state"] == "complete"

    def looks(self, proxy, keys):
        """{key: body} of what a proxy serves."""
        found = {}
        with Client(self, proxy) as http:
            for key in keys:
                status, body = http.look(key)
                if status == 200:
                    found[key] = body
                elif status != 404:
                    self.record.diverged(f"{key} through {proxy.name}: {status}")
        return found

    def judge(self, keys=None):
        """What both sides and each proxy show at the end goes into the record; returns (violations, counts) and begins a new record.
        keys: only these, and all others must be as they were; None: all that was ever judged."""
        for op in self.lates:
            self.record.acknowledged(op)
        disk = self.on_disk()
        # What was there when this record began.
        for key, value in self.known.items():
            if keys is None or key in self.record.ops:
                self.record.add(Op("write", key, value, float("-inf"), float("-inf"), note="before"))
        if keys is None:
            r2, looked = self.in_r2(), set(self.known) | set(self.record.ops)
        else:
            r2 = {key: self.bucket.get(key) for key in keys if self.bucket.head(key) is not None}
            looked = set(keys)
        self.record.final("disk", disk, looked)
        self.record.final("r2", r2, looked)
        for proxy in self.proxies:
            self.record.final(proxy.name, self.looks(proxy, sorted(looked)), looked)
        now = {key: digest(body) for key, body in disk.items()}
        for key in self.known.keys() - looked:
            if now.get(key) != self.known[key]:
                self.record.trouble.append(Violation("lost", key, "another key's run changed it"))
        self.known.update({key: now.get(key) for key in looked})
        found, counts = self.record.check(), self.record.counts()
        self.last, self.record, self.lates = self.record, self.record.again(), []
        return found, counts


class Client(SiteClient):
    """Writes and reads through one proxy, each noted in the record as it happens. Every method returns True if the client was
    told that its write is done. A connection that breaks means: outcome unknown."""

    def __init__(self, site, proxy=None, timeout=15):
        self.site, self.proxy = site, proxy or site.proxy
        super().__init__(self.proxy.address, timeout)

    def url(self, key):
        return "/media/" + urllib.parse.quote(key)

    def tell(self, ops, send, good=(200, 201, 204)):
        """ops: the writes that this one request is to do."""
        record = self.site.record

        def all_are(become, **how):
            for op in ops if isinstance(ops, list) else [ops]:
                become(op, **how)
        try:
            answer = send()
        except Cut as e:
            if e.sent:
                all_are(record.unanswered, given_up=isinstance(e.__cause__, TimeoutError))
            else:
                all_are(record.refused)
            return False
        self.status = answer.status
        if answer.status in good:
            all_are(record.acknowledged)
            return answer
        if answer.status in (503, 507) and b"nothing was forwarded" in answer.body:
            all_are(record.refused)
        else:
            all_are(record.unanswered)
        return False

    def headers(self, key):
        return {"Authorization": f"Bearer {TOKEN}"} if key.startswith(("own/", "dav/")) else {}

    def store(self, key, body):
        """PUT: below dav/ the origin writes, below own/ the proxy."""
        op = self.site.record.write(key, body, self.proxy.name)
        return bool(self.tell(op, lambda: self.request("PUT", self.url(key), body, self.headers(key))))

    def discard(self, key):
        """DELETE. 404 says that nothing is there: a read. It may have been this one that removed it: a proxy that lost an origin's answer
        on a kept connection asks again."""
        start = time.monotonic()
        op = self.site.record.write(key, ABSENT, self.proxy.name)
        answer = self.tell(op, lambda: self.request("DELETE", self.url(key), headers=self.headers(key)), (200, 204, 404))
        if answer and answer.status == 404:
            op.end = None
            self.site.record.unanswered(op)
            self.site.record.read(key, start, ABSENT, self.proxy.name, "DELETE said 404")
        return bool(answer)

    def save(self, name, body, folder="documents"):
        """A form upload to the application, which chooses the name; the name is new, so it is the one asked for."""
        key = f"{folder}/{name}"
        op = self.site.record.write(key, body, self.proxy.name, in_place=True)
        answer = self.tell(op, lambda: self.upload(name, body, folder), (201,))
        if not answer:
            return None
        assert answer.json()["name"] == key, answer
        return answer.json()["id"]

    def renew(self, ident, key, body):
        """The application renames a new file over the document's."""
        op = self.site.record.write(key, body, self.proxy.name)
        return bool(self.tell(op, lambda: self.overwrite(ident, body)))

    def swap(self, ident, key, name, body, folder="documents"):
        """The application stores the document's new file under another name and deletes the old one."""
        gone = self.site.record.write(key, ABSENT, self.proxy.name)
        new = self.site.record.write(f"{folder}/{name}", body, self.proxy.name, in_place=True)
        return bool(self.tell([gone, new], lambda: self.replace(ident, name, body)))

    def erase(self, ident, key):
        op = self.site.record.write(key, ABSENT, self.proxy.name)
        return bool(self.tell(op, lambda: self.remove(ident)))

    def look(self, key):
        """A read that is not noted: (status, body), or (0, None) without an answer."""
        try:
            answer = self.get(self.url(key))
        except Cut:
            return 0, None
        return answer.status, answer.body

    def see(self, key, note=""):
        """A noted read; what is no answer about the file (503, cut) says nothing. Returns the status."""
        start = time.monotonic()
        status, body = self.look(key)
        if status in (200, 404):
            self.site.record.read(key, start, body if status == 200 else ABSENT, self.proxy.name, note)
        return status


def past_the_proxy(site, key, body):
    """A file written by somebody else, as a careful program does; the watcher sees it. Noted when it is in place."""
    path = site.media / key
    path.parent.mkdir(parents=True, exist_ok=True)
    if body is ABSENT:
        os.unlink(path)
    else:
        new = site.dir / "new"
        new.write_bytes(body)
        new.rename(path)
