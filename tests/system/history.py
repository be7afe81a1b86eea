"""What a read may see: the checker behind the background load.

Every document (a URL) has one writer, so its states form one line: version after version, each a content or "absent".
A version can be seen from the moment its write was sent. Once a write is acknowledged, no read that starts later may
see anything older. So a read from t0 to t1 may see version v if v was sent before t1, and no later version was
acknowledged before t0. A write whose outcome is unknown (cut connection) may show or not, from then on, until a later
write is acknowledged; its document is given up and written no more, for it might still come to pass.
"""
import hashlib
import random
import re
import threading
import time

ABSENT = None


def content(seed, size):
    """Reproducible bytes that name themselves: a wrong body tells where it came from."""
    head = f"r2shim load {seed} {size}\n".encode()[:size]
    return head + random.Random(seed).randbytes(size - len(head))


class Version:
    """One state of a document. acked is None while the write runs, and for ever if its outcome is unknown."""
    __slots__ = ("digest", "size", "seed", "sent", "acked", "number")

    def __init__(self, number, digest, size, seed, sent, acked=None):
        self.number, self.digest, self.size, self.seed = number, digest, size, seed
        self.sent, self.acked = sent, acked

    def __repr__(self):
        what = "absent" if self.digest is ABSENT else f"{self.digest[:12]} ({self.size} bytes)"
        return f"v{self.number} {what} sent {self.sent:.4f} acked {self.acked and format(self.acked, '.4f')}"


class History:
    """All documents of a run. Safe to call from any thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.documents = {}		# url -> [Version, ...], oldest first
        self.given_up = set()		# urls with a write of unknown outcome
        self.origin = {}		# digest -> (url, version number): tells whose bytes a wrong body is

    def begin(self, url, body=ABSENT, seed=None, digest=None, size=None):
        """A write of this url is about to be sent: its new content, or ABSENT. Returns its ticket."""
        if body is not ABSENT:
            digest, size = hashlib.sha256(body).hexdigest(), len(body)
        with self.lock:
            return self.append(url, digest, size, seed, time.monotonic(), None)

    def append(self, url, digest, size, seed, sent, acked):
        versions = self.documents.setdefault(url, [])
        if not versions:
            # Before its first write nothing was there.
            versions.append(Version(0, ABSENT, 0, None, float("-inf"), float("-inf")))
        version = Version(len(versions), digest, size, seed, sent, acked)
        versions.append(version)
        if digest is not ABSENT:
            self.origin[digest] = (url, version.number)
        return version

    def done(self, version):
        """The write was acknowledged just now."""
        version.acked = time.monotonic()

    def created(self, url, body, seed, sent):
        """An upload that began at `sent` was acknowledged just now; its url came with the answer."""
        with self.lock:
            return self.append(url, hashlib.sha256(body).hexdigest(), len(body), seed, sent, time.monotonic())

    def exists(self, url, digest, size):
        """A file that was there before the run."""
        with self.lock:
            self.documents[url] = [Version(0, digest, size, None, float("-inf"), float("-inf"))]
            self.origin[digest] = (url, 0)

    def give_up(self, url):
        """The outcome of this url's last write is not known."""
        with self.lock:
            self.given_up.add(url)

    def refused(self, url, version):
        """The write did not take place, for sure: the state is the one before."""
        with self.lock:
            self.documents[url].remove(version)

    def allowed(self, url, start, end):
        """The versions that a read of this span may see, newest last."""
        with self.lock:
            versions = self.documents[url]
            floor = 0
            for index, version in enumerate(versions):
                if version.acked is not None and version.acked < start:
                    floor = index
            return [version for version in versions[floor:] if version.sent <= end]

    def check(self, url, start, end, response, method="GET"):
        """None if the answer (200, 206 or 404; see web.Response) is one that the history allows, else what is wrong."""
        allowed = self.allowed(url, start, end)
        if response.status == 404:
            if any(version.digest is ABSENT for version in allowed):
                return None
            return f"404, but {url} has {allowed}"
        present = [version for version in allowed if version.digest is not ABSENT]
        if any(self.half_written(url, version, start, response, method) for version in present):
            return None
        if method == "HEAD":
            size = int(response.headers.get("Content-Length", -1))
            return None if any(version.size == size for version in present) else \
                f"{url}: Content-Length {size}, allowed {allowed}"
        if response.status == 206:
            span = response.headers["Content-Range"]
            if any(slice_fits(version, response.body, span) for version in present):
                return None
            return f"{url}: wrong part {span}, {response.length} bytes, allowed {allowed}"
        if any(version.digest == response.sha256 for version in present):
            return None
        return (f"{url}: {response.length} bytes, {self.whose(url, response)}; read {start:.4f}-{end:.4f}, "
                f"allowed {allowed}")

    def half_written(self, url, version, start, response, method):
        """Is this the first part of a new file? Django writes it in place, and until its upload is answered it may be seen so."""
        with self.lock:
            versions = self.documents[url]
            index = versions.index(version)
            new = index > 0 and versions[index - 1].digest is ABSENT
        if not new or version.seed is None or (version.acked is not None and version.acked < start):
            return False
        if method == "HEAD":
            return 0 <= int(response.headers.get("Content-Length", -1)) < version.size
        if response.status == 206:
            found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers["Content-Range"])
            return bool(found) and int(found[3]) < version.size and \
                content(version.seed, version.size)[int(found[1]):int(found[2]) + 1] == response.body
        return response.length < version.size and \
            hashlib.sha256(content(version.seed, version.size)[:response.length]).hexdigest() == response.sha256

    def whose(self, url, response):
        owner, number = self.origin.get(response.sha256, (None, None))
        if owner is None:
            return f"bytes that nobody wrote, they begin with {response.body[:60]!r}"
        return f"stale: version {number}" if owner == url else f"version {number} of {owner}"

    def expected(self):
        """{url: digest, or None for absent} of every document whose state is known for certain."""
        with self.lock:
            return {url: versions[-1].digest for url, versions in self.documents.items()
                    if url not in self.given_up and versions[-1].acked is not None}


def slice_fits(version, body, span):
    """Is body this Content-Range of this version? Of files that are not ours only the numbers are looked at."""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", span or "")
    if not found:
        return False
    first, last, size = map(int, found.groups())
    if size != version.size or len(body) != last - first + 1:
        return False
    return version.seed is None or content(version.seed, version.size)[first:last + 1] == body
