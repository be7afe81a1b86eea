"""The ways in which a site's media changes, each as something that a fault can hit at any of its steps.

prepare(site, name) makes what has to be there before, without faults, and returns a context; act(site, context) is the change
itself, under the fault; both note every write in the record. keys(context): what the change touches. victim: whose points are armed.
"""
from harness import eventually
from record import ABSENT
from torture.crew import Crew
from torture.site import Client, PHASES, TOKEN, past_the_proxy
from web import Cut, dial

BODY = 3000		# bytes, usually


def body(name, version, size=BODY):
    return (f"{name} version {version}\n".encode() * (size // 8 + 1))[:size]


def insist(send):
    """Until it is done: a journal that failed is tried again each second, and until then no write is taken."""
    return eventually(send, 15, "an untroubled write")


class Scenario:
    victim = "proxy"
    phases = PHASES[1:]		# in which it makes sense

    def __init__(self, name, text):
        self.name, self.text = name, text

    def prepare(self, site, name):
        return {"name": name}

    def keys(self, context):
        raise NotImplementedError

    def act(self, site, context):
        raise NotImplementedError


class Put(Scenario):
    """PUT below dav/ or own/: versions 1..before stand already, then some more, one after the other."""

    def __init__(self, name, text, folder, existing, sizes=(BODY,)):
        super().__init__(name, text)
        self.folder, self.existing, self.sizes = folder, existing, sizes

    def keys(self, context):
        return [f"{self.folder}/{context['name']}"]

    def prepare(self, site, name):
        context = {"name": name}
        if self.existing:
            with Client(site) as http:
                insist(lambda: http.store(self.keys(context)[0], body(name, 0)))
        return context

    def act(self, site, context):
        with Client(site) as http:
            for number, size in enumerate(self.sizes):
                http.store(self.keys(context)[0], body(context["name"], number + 1, size))


class Delete(Put):
    """DELETE of an existing key; then, perhaps, it comes back."""

    def __init__(self, name, text, folder, again=False):
        super().__init__(name, text, folder, True)
        self.again = again

    def act(self, site, context):
        with Client(site) as http:
            http.discard(self.keys(context)[0])
            if self.again:
                http.store(self.keys(context)[0], body(context["name"], 1))


class Upload(Scenario):
    """A form upload: only the application knows the name."""

    def keys(self, context):
        return [f"documents/{context['name']}"]

    def act(self, site, context):
        with Client(site) as http:
            http.save(context["name"], body(context["name"], 1))


class Document(Upload):
    """What else the application does to a document that it has: overwrite, replace, delete."""

    def __init__(self, name, text, verb):
        super().__init__(name, text)
        self.verb = verb

    def prepare(self, site, name):
        with Client(site) as http:
            ident = insist(lambda: http.save(name, body(name, 0)))
        return {"name": name, "ident": ident}

    def keys(self, context):
        own = f"documents/{context['name']}"
        return [own, f"documents/new-{context['name']}"] if self.verb == "replace" else [own]

    def act(self, site, context):
        ident, key = context["ident"], self.keys(context)[0]
        with Client(site) as http:
            if self.verb == "overwrite":
                http.renew(ident, key, body(key, 1))
            elif self.verb == "replace":
                http.swap(ident, key, f"new-{context['name']}", body(key, 1))
            else:
                http.erase(ident, key)


class Past(Scenario):
    """Somebody else writes the file, and another one removes his; nobody is answered, but in the end both sides know."""

    def keys(self, context):
        return [f"past/{context['name']}", f"past/old-{context['name']}"]

    def prepare(self, site, name):
        context = {"name": name}
        new, old = self.keys(context)
        op = site.record.write(old, body(old, 0))
        past_the_proxy(site, old, body(old, 0))
        site.late(op)
        return context

    def act(self, site, context):
        new, old = self.keys(context)
        for key, content in ((new, body(new, 1)), (old, ABSENT), (new, body(new, 2))):
            op = site.record.write(key, content)
            past_the_proxy(site, key, content)
            site.late(op)


class Both(Put):
    """One key is written through the proxy and, in between, straight to the disk; which of two that overlap is the last is open, but both
    sides agree on it."""

    def __init__(self, name, text):
        super().__init__(name, text, "own", True)

    def act(self, site, context):
        key = self.keys(context)[0]
        with Client(site) as http:
            for number in (1, 3):
                http.store(key, body(key, number))
                op = site.record.write(key, body(key, number + 1))
                past_the_proxy(site, key, body(key, number + 1))
                site.late(op)
            http.store(key, body(key, 5))
            http.discard(key)
            http.store(key, body(key, 6))


class Backfill(Scenario):
    """A migrator copies the whole site, while a key is written and another one deleted. The migrator has the key in its hands: its
    object was taken away behind everybody's back."""
    phases = [phase for phase in PHASES[2:5]]

    def __init__(self, name, text, victim):
        super().__init__(name, text)
        self.victim = victim

    def keys(self, context):
        return [f"dav/{context['name']}", f"dav/gone-{context['name']}"]

    def prepare(self, site, name):
        context = {"name": name}
        with Client(site) as http:
            for key in self.keys(context):
                insist(lambda: http.store(key, body(key, 0)))
        site.converge()
        for key in self.keys(context):
            site.bucket.delete(key)
        return context

    def act(self, site, context):
        key, gone = self.keys(context)
        site.proxy.run("backfill", "start")
        with Client(site) as http:
            http.store(key, body(key, 1))
            http.discard(gone)
            http.store(key, body(key, 2))
        site.wait_backfill = True


class Switch(Scenario):
    """The phase changes while a write is open, half of its body sent; then it goes back."""
    phases = PHASES[2:]

    def keys(self, context):
        return [f"own/{context['name']}"]

    def act(self, site, context):
        key, proxy = self.keys(context)[0], site.proxy
        content = body(key, 1, 20000)
        head = (f"PUT /media/{key} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
                f"Content-Length: {len(content)}\r\n\r\n").encode()
        down = PHASES[PHASES.index(site.phase) - 1]
        op = site.record.write(key, content, proxy.name)
        try:
            with dial(proxy.address, 10) as sock:
                sock.sendall(head + content[:9000])
                for phase in (down, site.phase):
                    proxy.write_phase(phase)
                    if proxy.alive():
                        proxy.reload()
                sock.sendall(content[9000:])
                answer = b"".join(iter(lambda: sock.recv(65536), b""))
        except (OSError, Cut) as e:
            site.record.unanswered(op, given_up=isinstance(e, TimeoutError))
            return
        if answer.startswith((b"HTTP/1.1 201", b"HTTP/1.1 204")):
            site.record.acknowledged(op)
        else:
            site.record.unanswered(op)


class Start(Put):
    """The proxy died with marks that R2 has not seen, and starts: replay of the journal, announcements, crawl, mirror."""

    def __init__(self, name, text):
        super().__init__(name, text, "dav", True)

    def prepare(self, site, name):
        context = super().prepare(site, name)
        site.converge()
        site.sandbox.faults("write 503\n")
        with Client(site) as http:
            http.store(self.keys(context)[0], body(name, 1))
            http.discard(self.keys(context)[0])
            http.store(self.keys(context)[0], body(name, 2))
        site.proxy.kill9()
        site.sandbox.faults()
        return context

    def act(self, site, context):
        try:
            site.proxy.start()
        except AssertionError:
            return		# it died: that is what it was armed for
        with Client(site) as http:
            http.store(self.keys(context)[0], body(context["name"], 3))


SCENARIOS = [
    Put("put-own", "PUT of a new file, writes = disk", "own", False),
    Put("replace-own", "PUT over a file, twice, writes = disk", "own", True, (BODY, 200_000)),
    Delete("delete-own", "DELETE, writes = disk", "own"),
    Put("put-dav", "PUT of a new file, a WebDAV origin writes", "dav", False),
    Put("replace-dav", "PUT over a file, twice, a WebDAV origin writes", "dav", True, (200_000, BODY)),
    Delete("delete-dav", "DELETE, a WebDAV origin removes", "dav"),
    Delete("delete-put-dav", "DELETE, then PUT of the same key", "dav", True),
    Upload("post", "POST through the unmodified application"),
    Document("post-overwrite", "POST that renames new bytes over a document", "overwrite"),
    Document("post-replace", "POST that stores a new name and deletes the old one", "replace"),
    Document("post-delete", "POST that deletes a document", "delete"),
    Past("past", "files written and removed past the proxy"),
    Both("both", "one key, through the proxy and past it"),
    Backfill("backfill", "a backfill copies a key while it is written", "migrator"),
    Backfill("backfill-proxy", "the same, the proxy is hit", "proxy"),
    Switch("switch", "the phase changes while a write is open"),
    Start("start", "a proxy starts that died with marks"),
]


class Readers(Crew):
    """Threads that read some keys through each proxy all the time, and note it."""

    def __init__(self, site, keys, pause=0.004):
        super().__init__(site, pause)
        self.keys = keys
        for proxy in site.proxies:
            self.add(self.read, proxy, f"reader of {proxy.name}")

    def read(self, http):
        while not self.over.is_set():
            for key in self.keys:
                http.see(key)
            self.over.wait(self.pause)
