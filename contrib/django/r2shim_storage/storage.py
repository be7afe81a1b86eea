"""The storage class. README.md says how it is set up and what it promises."""
import errno
import json
import os
import posixpath
import tempfile
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, SuspiciousFileOperation
from django.core.files.base import File
from django.core.files.storage import Storage
from django.utils.deconstruct import deconstructible
from django.utils.encoding import filepath_to_uri
from django.utils.functional import cached_property

from r2shim_storage.client import Body, Client, Missing, ProxyError, Taken, close, pieces

IN_MEMORY = 1 << 20
NAMES_TRIED = 100


class ReadFile(File):
    """A file of the storage, whole: one version of it, which later writes do not touch."""

    def __init__(self, storage, name):
        super().__init__(storage.fetch(name), name)
        self.storage, self.mode = storage, "rb"

    def open(self, mode=None):
        if mode not in (None, "rb"):
            raise ValueError(f"mode {mode!r}: this file is open for reading")
        if self.closed:
            self.file = self.storage.fetch(self.name)
        self.seek(0)
        return self


class WriteFile(File):
    """What is written is stored when the file is closed, all at once; not at all if a `with` block ends in an exception."""

    def __init__(self, storage, name):
        super().__init__(storage.temporary(), name)
        self.storage, self.mode = storage, "wb"

    def close(self):
        if self.file is None or self.file.closed:
            return
        try:
            size = self.file.seek(0, os.SEEK_END)
            self.file.seek(0)
            self.storage.put(self.name, Body(iter(lambda: self.file.read(IN_MEMORY), b""), size))
        finally:
            self.file.close()

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            self.file.close()
        self.close()


@deconstructible(path="r2shim_storage.R2shimStorage")
class R2shimStorage(Storage):
    """Stores, reads, lists and removes below a prefix of the proxy with writes = "disk". What is not given here is taken from
    settings.R2SHIM_STORAGE, a dict with the same names."""

    def __init__(self, address=None, token=None, token_file=None, media_url=None, base_url=None, location=None, timeout=None, host=None,
                 overwrite=None):
        self.given = {"address": address, "token": token, "token_file": token_file, "media_url": media_url, "base_url": base_url,
                      "location": location, "timeout": timeout, "host": host, "overwrite": overwrite}

    def option(self, name, default=None):
        value = self.given[name]
        if value is None:
            value = getattr(settings, "R2SHIM_STORAGE", {}).get(name)
        return default if value is None else value

    # Settings are read when they are needed first: a storage is often made while Django still loads.

    @cached_property
    def client(self):
        address = self.option("address")
        if not address:
            raise ImproperlyConfigured("R2shimStorage needs an address: \"http://127.0.0.1:8080\" or \"unix:/run/r2shim/http.sock\"")
        if address.startswith("unix:"):
            place = address[len("unix:"):]
        else:
            url = urlsplit(address)
            if url.scheme != "http" or not url.hostname or url.path not in ("", "/") or url.query:
                raise ImproperlyConfigured(f"R2shimStorage: {address} is neither http://HOST:PORT nor unix:/PATH")
            place = (url.hostname, url.port or 80)
        return Client(place, self.token, self.option("host"), self.option("timeout", 60))

    @cached_property
    def token(self):
        token, path = self.option("token"), self.option("token_file")
        if token is None and path is not None:
            with open(path, encoding="ascii") as f:
                token = f.read().strip()
        if not token:
            raise ImproperlyConfigured("R2shimStorage needs a token or a token_file: the prefix's, as in r2shim.conf")
        return token

    @cached_property
    def location(self):
        """Names are relative to this folder below the media root; "" or ending in /."""
        location = self.option("location", "").strip("/")
        return location + "/" if location else ""

    @cached_property
    def media_url(self):
        return folder(self.option("media_url", "/media/"))

    @cached_property
    def base_url(self):
        return folder(self.option("base_url", settings.MEDIA_URL))

    def clean(self, name):
        """The name below the media root. None of these gets out of the location."""
        name = str(name).replace("\\", "/")
        clean = posixpath.normpath(name)
        if name.startswith("/") or clean in (".", "..") or clean.startswith("../") or "\0" in name:
            raise SuspiciousFileOperation(f"{name!r} is no name below the storage's location")
        return self.location + clean

    def target(self, name):
        return self.media_url + quote(self.clean(name).encode("utf-8", "surrogateescape"), safe="/")

    def temporary(self):
        return tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=settings.FILE_UPLOAD_TEMP_DIR)

    def fetch(self, name):
        """The file's bytes, in a temporary file."""
        answer = self.client.request("GET", self.target(name))
        got = self.temporary()
        try:
            length = answer.headers.get("Content-Length")
            for piece in pieces(answer, None if length is None else int(length)):
                got.write(piece)
        except BaseException:
            got.close()
            raise
        finally:
            close(answer)
        got.seek(0)
        return got

    def put(self, name, body, new=False):
        """new: never over a file that is there; raises Taken."""
        # Only these two say that the proxy, and not somebody behind it, has stored the file.
        close(self.client.request("PUT", self.target(name), body, {"If-None-Match": "*"} if new else None, expect=(201, 204)))

    def look(self, name):
        answer = self.client.request("HEAD", self.target(name))
        close(answer)
        return answer.headers

    # Django's storage API

    def _open(self, name, mode="rb"):
        if mode == "rb":
            return ReadFile(self, name)
        if mode == "wb":
            return WriteFile(self, name)
        raise ValueError(f"mode {mode!r}: R2shimStorage opens files with \"rb\" or \"wb\"")

    def _save(self, name, content):
        name = str(name).replace("\\", "/")
        for _ in range(NAMES_TRIED):
            try:
                self.put(name, body_of(content), new=not self.option("overwrite", False))
                return name
            except Taken:
                # Somebody was faster. Another name, whatever exists() thinks of this one: it may be a folder's.
                root, extension = posixpath.splitext(name)
                name = self.get_available_name(self.get_alternative_name(root, extension))
        raise Taken(errno.EEXIST, f"no free name for {name} in {NAMES_TRIED} attempts")

    def get_available_name(self, name, max_length=None):
        if self.option("overwrite", False):
            return str(name).replace("\\", "/")
        return super().get_available_name(name, max_length)

    def delete(self, name):
        if not name:
            raise ValueError("The name must be given to delete().")
        close(self.client.request("DELETE", self.target(name), expect=(204, 404)))

    def exists(self, name):
        try:
            self.look(name)
        except Missing:
            return False
        return True

    def size(self, name):
        return int(self.look(name)["Content-Length"])

    def url(self, name):
        return urljoin(self.base_url, filepath_to_uri(self.location + str(name).lstrip("/")))

    def listdir(self, path):
        where = "" if str(path) in ("", ".", "/") else str(path).rstrip("/")
        target = (self.target(where) + "/") if where else self.media_url + quote(self.location, safe="/")
        folders, files, after = [], [], ""
        while after is not None:
            answer = self.client.request("GET", target + "?limit=1000" + (f"&after={after}" if after else ""))
            try:
                page = json.loads(b"".join(pieces(answer, None)))
            except ValueError:
                raise ProxyError(errno.EIO, f"{target}: no listing; is the prefix of the proxy writes = \"disk\"?") from None
            finally:
                close(answer)
            for entry in page["entries"]:
                name = unquote_to_bytes(entry["name"]).decode("utf-8", "surrogateescape")
                (folders if entry["type"] == "folder" else files).append(name)
            after = page["next"]
        return folders, files

    def get_modified_time(self, name):
        """When the file was stored, to the second."""
        modified = parsedate_to_datetime(self.look(name)["Last-Modified"])
        if settings.USE_TZ:
            return modified.astimezone(timezone.utc)
        return datetime.fromtimestamp(modified.timestamp())


def folder(url):
    return url if url.endswith("/") else url + "/"


def body_of(content):
    """A Django File as a body, from its beginning. Text is sent as UTF-8; only of bytes is the length known before."""
    chunks = iter(content.chunks())
    first = next(chunks, b"")
    try:
        length = content.size if isinstance(first, bytes) else None
    except AttributeError:
        length = None

    def everything():
        yield first if isinstance(first, bytes) else first.encode()
        for chunk in chunks:
            yield chunk if isinstance(chunk, bytes) else chunk.encode()
    return Body(everything(), length)
