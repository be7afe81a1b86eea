"""The Django storage class (contrib/django), with real Django, against a running proxy; and PUT and DELETE as it sends them."""
import errno
import hashlib
import io
import os
import socket
import sys
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest

from harness import TOP, eventually, free_port, temp_dir
from history import content
from stack import PHASES
from web import SiteClient

django = pytest.importorskip("django")
sys.path.insert(0, str(TOP / "contrib" / "django"))

from django.conf import settings  # noqa: E402

if not settings.configured:
    settings.configure(USE_TZ=True, MEDIA_URL="/media/", SECRET_KEY="system-test")

from django.core.exceptions import ImproperlyConfigured, SuspiciousFileOperation  # noqa: E402
from django.core.files.base import ContentFile, File  # noqa: E402
from r2shim_storage import ProxyError, R2shimStorage  # noqa: E402

TOKEN = "storage-test-token"
# As R42 of the acceptance list has them; "/" and NUL no name can hold, "\\" Django makes a "/".
ODD = ["a b", "a+b", "a%20b", "a;b", "a?b=c", "a#b", "-a", "a..b", "...", "new\nline", "cr\r", "tab\t", "größe",
       "\U0001f600", "'\"<>&", "~!*()", "\x01\x7f", "a:b@c", "%2e%2e", "x" * 200]


class Storages:
    """A stack whose media the proxy writes itself, and storages towards it over TCP and a Unix socket."""

    def __init__(self, make_stack, topology="gunicorn", site=False, prefix='class = "public";', **options):
        folder = temp_dir()
        self.token_file = folder / "writers.token"
        self.token_file.write_text(TOKEN + "\n")
        self.token_file.chmod(0o600)
        port, self.socket = free_port(), folder / "p.sock"
        self.stack = make_stack(topology, folder=folder, listen=f'127.0.0.1:{port}", "unix:{self.socket}',
                                prefixes=f'{{ url = "/media/"; {prefix} writes = "disk"; token-file = "{self.token_file}"; }}', **options)
        if site:	# with the Django that this test has
            path = (self.stack.site.env["PYTHONPATH"], TOP / "contrib" / "django", os.path.dirname(django.__path__[0]))
            self.stack.site.env.update(SITE_STORAGE=f"unix:{self.socket}", SITE_TOKEN_FILE=self.token_file,
                                       PYTHONPATH=":".join(map(str, path)))
        self.stack.start()
        self.proxy = self.stack.proxy
        self.proxy.address = f"127.0.0.1:{port}"
        self.tcp = R2shimStorage(address=f"http://127.0.0.1:{port}", token=TOKEN)
        self.unix = R2shimStorage(address=f"unix:{self.socket}", token_file=str(self.token_file))


@pytest.fixture
def made(make_stack):
    """A Storages in dual-write."""
    storages = Storages(make_stack)
    storages.proxy.set_phase("dual-write")
    return storages


@pytest.fixture
def settings_of():
    """settings_of(NAME=value): settings for one test."""
    from django.test.utils import override_settings
    used = []

    def use(**values):
        used.append(override_settings(**values))
        used[-1].enable()
    yield use
    for one in reversed(used):
        one.disable()


def read(storage, name):
    with storage.open(name) as f:
        return f.read()


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_every_method(made, way):
    storage, stack = getattr(made, way), made.stack
    began = datetime.now(timezone.utc)
    name = storage.save("docs/a.txt", ContentFile(b"one"))
    assert name == "docs/a.txt" and stack.bucket.get(name) == b"one" == (stack.media / name).read_bytes()
    assert storage.exists(name) and not storage.exists("docs/b.txt")
    assert storage.size(name) == 3 and read(storage, name) == b"one"
    assert storage.url(name) == "/media/docs/a.txt" and storage.url("ä b?.txt") == "/media/%C3%A4%20b%3F.txt"
    modified = storage.get_modified_time(name)
    assert modified.tzinfo is not None and began - timedelta(seconds=2) < modified < datetime.now(timezone.utc) + timedelta(seconds=2)
    assert abs(modified.timestamp() - (stack.media / name).stat().st_mtime) < 1
    # A taken name is not overwritten, and Django's own rule finds another.
    second = storage.save("docs/a.txt", ContentFile(b"two"))
    assert second != name and second.startswith("docs/a_") and second.endswith(".txt")
    assert read(storage, name) == b"one" and read(storage, second) == b"two"
    storage.save("docs/new/c.txt", ContentFile("text, ä"))
    assert read(storage, "docs/new/c.txt").decode() == "text, ä"
    assert storage.listdir("docs") == (["new"], sorted(["a.txt", second[5:]])) == storage.listdir("docs/")
    assert storage.listdir("") == (["docs"], []) == storage.listdir(".")
    with pytest.raises(FileNotFoundError):
        storage.listdir("none")
    storage.delete(name)
    storage.delete(name)
    assert not storage.exists(name) and not (stack.media / name).exists() and stack.bucket.head(name) is None
    for missing in (storage.open, storage.size, storage.get_modified_time):
        with pytest.raises(FileNotFoundError):
            missing(name)
    for impossible in (storage.path, storage.get_created_time, storage.get_accessed_time):
        with pytest.raises(NotImplementedError):
            impossible(second)
    with pytest.raises(ValueError):
        storage.delete("")
    stack.assert_equal()


def test_as_the_settings_have_it(made, settings_of):
    """By its dotted name, with its options in STORAGES (Django 4.2) or in a dict of its own (before)."""
    options = {"address": f"unix:{made.socket}", "token_file": str(made.token_file), "location": "configured"}
    if django.VERSION >= (4, 2):
        from django.core.files.storage.handler import StorageHandler
        storage = StorageHandler({"default": {"BACKEND": "r2shim_storage.R2shimStorage", "OPTIONS": options}})["default"]
    else:
        from django.core.files.storage import get_storage_class
        settings_of(R2SHIM_STORAGE=options)
        storage = get_storage_class("r2shim_storage.R2shimStorage")()
    assert storage.save("x.txt", ContentFile(b"x")) == "x.txt"
    assert (made.stack.media / "configured/x.txt").read_bytes() == b"x"
    # In a migration it is written as it was made.
    path, args, kwargs = R2shimStorage(location="a").deconstruct()
    assert (path, args, kwargs) == ("r2shim_storage.R2shimStorage", (), {"location": "a"})


def test_times_without_time_zones(made, settings_of):
    name = made.unix.save("t.txt", ContentFile(b"x"))
    settings_of(USE_TZ=False)
    modified = made.unix.get_modified_time(name)
    assert modified.tzinfo is None and modified.timestamp() == int((made.stack.media / name).stat().st_mtime)


def test_open_for_writing(made):
    storage = made.unix
    with storage.open("w.bin", "wb") as f:
        f.write(b"one")
        f.write(b"two")
        assert not storage.exists("w.bin")
    assert read(storage, "w.bin") == b"onetwo"
    with pytest.raises(RuntimeError):
        with storage.open("w.bin", "wb") as f:
            f.write(b"half")
            raise RuntimeError
    assert read(storage, "w.bin") == b"onetwo"
    f = storage.open("w.bin")
    f.close()
    assert f.open().read() == b"onetwo" and f.size == 6		# as FieldFile.open() does
    f.close()
    with pytest.raises(ValueError):
        storage.open("w.bin", "r+b")


def test_R42_names(made):
    storage, stack = made.unix, made.stack
    for number, odd in enumerate(ODD):
        for name in (odd, f"in {odd}/x", f"{odd}.d/{odd}"):
            body = f"{number} {name}".encode()
            assert storage.save(name, ContentFile(body)) == name
            assert (stack.media / name).read_bytes() == body == read(storage, name), name
            assert storage.exists(name)
    folders, files = storage.listdir("")
    assert sorted(files) == sorted(ODD) and sorted(folders) == sorted([f"in {o}" for o in ODD] + [f"{o}.d" for o in ODD])
    with SiteClient(made.proxy.address) as http:		# what url() says is what a browser gets
        for number, odd in enumerate(ODD):
            assert http.get(storage.url(odd)).body == f"{number} {odd}".encode()
    stack.proxy.drained()
    assert stack.differences() == []
    # Another spelling of a name is another file, though not for R2.
    other = "gro\u0308ße"
    assert not storage.exists(other) and storage.save(other, ContentFile(b"nfd")) == other
    assert read(storage, other) == b"nfd" and read(storage, "größe") == f"{ODD.index('größe')} größe".encode()
    storage.delete(other)
    assert not storage.exists(other) and storage.exists("größe")
    stack.proxy.drained()
    assert stack.differences() == []
    for bad in ("../x", "a/../../x", "/etc/passwd", "..", "a\0b"):
        with pytest.raises(SuspiciousFileOperation):
            storage.exists(bad)
    latin = os.fsencode(stack.media) + b"/caf\xe9"
    with open(latin, "wb") as f:
        f.write(b"latin")
    name = next(n for n in storage.listdir("")[1] if n.startswith("caf"))
    assert os.fsencode(name) == b"caf\xe9" and read(storage, name) == b"latin"
    storage.delete(name)
    assert not os.path.exists(latin)


def test_two_threads_one_name(made, monkeypatch):
    """Both have looked, and neither has found the name taken: each keeps its own file."""
    storage, both = made.tcp, threading.Barrier(2)
    looked = threading.local()
    exists = R2shimStorage.exists

    def look(self, name):
        if not getattr(looked, "done", False):
            looked.done = True
            assert not exists(self, name)
            both.wait(30)
            return False
        return exists(self, name)
    monkeypatch.setattr(R2shimStorage, "exists", look)
    bodies, names = [content("one", 300_000), content("two", 300_001)], {}

    def save(number):
        names[number] = storage.save("same/name.tar.gz", ContentFile(bodies[number]))
    threads = [threading.Thread(target=save, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(names) == 2 and names[0] != names[1] and "same/name.tar.gz" in names.values()
    for number in (0, 1):
        assert read(storage, names[number]) == bodies[number] == made.stack.bucket.get(names[number])
    assert made.stack.in_r2().keys() == set(names.values())


def test_a_folder_in_the_way(made):
    storage = made.unix
    storage.save("a/b", ContentFile(b"x"))
    name = storage.save("a", ContentFile(b"y"))		# the folder has the name: 412, and another is found
    assert name.startswith("a_") and read(storage, name) == b"y"
    with pytest.raises(FileExistsError):
        storage.save("a/b/c", ContentFile(b"z"))


def test_overwrite(made):
    storage = R2shimStorage(address=f"unix:{made.socket}", token=TOKEN, overwrite=True)
    assert storage.save("o.txt", ContentFile(b"one")) == "o.txt" == storage.save("o.txt", ContentFile(b"two"))
    assert read(storage, "o.txt") == b"two" == made.stack.bucket.get("o.txt")


def test_location(made):
    storage = R2shimStorage(address=f"unix:{made.socket}", token=TOKEN, location="/tenant/7", base_url="https://cdn.example/m/")
    assert storage.save("x.txt", ContentFile(b"x")) == "x.txt"
    assert (made.stack.media / "tenant/7/x.txt").read_bytes() == b"x"
    assert storage.url("x.txt") == "https://cdn.example/m/tenant/7/x.txt" and storage.listdir("") == ([], ["x.txt"])
    with pytest.raises(SuspiciousFileOperation):
        storage.open("../8/x.txt")


def test_large_and_of_unknown_length(made):
    """Streamed both ways; a stream whose length nobody knows is sent in chunks."""
    class Stream:
        def __init__(self, size):
            self.left, self.digest = size, hashlib.sha256()

        def chunks(self):
            while self.left:
                piece = content(f"{self.left}", min(self.left, 1 << 20))
                self.left -= len(piece)
                self.digest.update(piece)
                yield piece
    storage = made.unix
    stream = Stream(30_000_001)
    name = storage.save("unknown.bin", stream)
    with storage.open(name) as f:
        got = hashlib.sha256()
        for piece in f.chunks():
            got.update(piece)
        assert f.size == 30_000_001 and got.digest() == stream.digest.digest()
    assert hashlib.sha256(made.stack.bucket.get(name)).digest() == stream.digest.digest()
    known = made.stack.dir / "known"
    known.write_bytes(content("known", 60_000_000))
    with open(known, "rb") as f:
        name = storage.save("known.bin", File(f))
    assert (made.stack.media / name).read_bytes() == known.read_bytes()
    assert storage.save("empty", ContentFile(b"")) == "empty" and read(storage, "empty") == b"" and storage.size("empty") == 0
    made.stack.assert_equal()


def test_R12_a_body_that_is_cut_stores_nothing(made):
    for body in (b"four", b"sixsix"):
        liar = ContentFile(body)
        liar.size = 5
        with pytest.raises(ValueError):
            made.tcp.save("liar.txt", liar)
        assert not made.tcp.exists("liar.txt")
    assert made.tcp.listdir("") == ([], [])
    made.proxy.drained()
    assert made.stack.in_r2() == {}


def test_listing_in_pages(made):
    names = [f"{n:05}" for n in range(2345)]
    (made.stack.media / "many").mkdir()
    for name in names:
        (made.stack.media / "many" / name).touch()
    assert made.unix.listdir("many") == ([], names)


def test_errors(made):
    wrong = R2shimStorage(address=f"unix:{made.socket}", token="wrong")
    with pytest.raises(PermissionError) as e:
        wrong.save("x", ContentFile(b"x"))
    assert e.value.status == 401 and isinstance(e.value, ProxyError)
    with pytest.raises(PermissionError):
        wrong.delete("x")
    with pytest.raises(OSError):		# the application answers instead of us, and has no listing
        wrong.listdir("")
    made.proxy.write_conf(media_extra='min-free = "1TiB";')
    made.proxy.reload()

    def full():
        with pytest.raises(OSError) as e:
            made.unix.save("full.txt", ContentFile(b"x"))
        return e.value.errno == errno.ENOSPC
    eventually(full, 10, "507")
    made.proxy.write_conf(media_extra="")
    made.proxy.reload()
    for options in ({}, {"address": "https://x"}, {"address": "unix:/x"}):
        with pytest.raises(ImproperlyConfigured):
            R2shimStorage(**options).exists("x")


def answering(*answers):
    """A server that gives each connection one answer (None: closes without one); (address, requests it has read)."""
    listener, requests = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                requests.append(connection.recv(65536))
                if answer:
                    connection.sendall(answer)
    threading.Thread(target=serve, daemon=True).start()
    return R2shimStorage(address="http://127.0.0.1:%d" % listener.getsockname()[1], token=TOKEN), requests


def test_only_what_is_safe_is_tried_again(monkeypatch):
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    storage, requests = answering(None, b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", ok)
    assert read(storage, "x") == b"abc" and len(requests) == 3
    storage, requests = answering(None, b"HTTP/1.1 204 x\r\n\r\n")
    storage.delete("x")
    assert len(requests) == 2
    for lost in (None, b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n"):
        storage, requests = answering(lost, b"HTTP/1.1 201 x\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(ProxyError):
            storage.put("x", r2shim_body(b"abc"))
        assert len(requests) == 1
    # A server that answers anything else than "stored" has not stored.
    storage, requests = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(ProxyError):
        storage.put("x", r2shim_body(b"abc"))
    # Cut in the middle: an error, never a short file.
    storage, requests = answering(*[b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nabc"])
    with pytest.raises(ProxyError):
        read(storage, "x")


def r2shim_body(data):
    from r2shim_storage.client import Body
    return Body(iter([data]), len(data))


def test_a_proxy_that_restarts(made):
    """What finds no proxy is tried again, whatever it is: nothing was sent."""
    saved, errors, deadline = [], [], time.monotonic() + 60
    refused = threading.Event()

    def save():
        while not saved and time.monotonic() < deadline:
            try:
                saved.append(made.tcp.save("restart.txt", ContentFile(b"x")))
            except ProxyError as e:		# it took longer than the tries
                errors.append(e.status)
                refused.set()
    made.proxy.stop()
    saver = threading.Thread(target=save)
    saver.start()
    assert refused.wait(30)
    made.proxy.start()
    saver.join(60)
    assert saved == ["restart.txt"] and set(errors) == {None}
    assert read(made.tcp, "restart.txt") == b"x"


def test_through_the_sample_site(make_stack):
    """Django's own FileField and ImageField: forms, models and views know nothing of it."""
    image = pytest.importorskip("PIL.Image")
    made = Storages(make_stack, site=True)
    made.proxy.set_phase("dual-write")
    picture = io.BytesIO()
    image.new("RGB", (9, 9), "red").save(picture, "PNG")
    with SiteClient(made.proxy.address) as http:
        first = http.upload("größe 1.txt", b"one", folder="a b", picture=("red.png", picture.getvalue())).json()
        assert first["url"] == "/media/a%20b/gr%C3%B6%C3%9Fe_1.txt" and first["size"] == 3
        assert http.get(first["url"]).body == b"one" == made.stack.bucket.get(first["name"])
        assert http.get(first["picture"]["url"]).body == picture.getvalue()
        again = http.upload("größe 1.txt", b"other", folder="a b").json()
        assert again["name"] != first["name"] and http.get(first["url"]).body == b"one"
        second = http.replace(first["id"], "big.bin", content("big", 5_000_000)).json()
        assert http.get(first["url"]).status == 404 and http.get(second["url"]).body == content("big", 5_000_000)
        for mode in ("inplace", "recreate"):
            assert http.overwrite(first["id"], mode.encode(), mode).status == 200
            assert http.get(second["url"]).body == mode.encode() == made.stack.bucket.get(second["name"])
        assert http.remove(first["id"]).status == 200 and http.get(second["url"]).status == 404
    made.stack.assert_equal()
    assert made.stack.in_r2() == {again["name"]: b"other"}


@pytest.mark.parametrize("kind", ["public", "authorized"])
def test_in_every_phase(make_stack, kind):
    """Up and down again, whoever may read: the storage does not notice. What the application guards it may still ask for itself."""
    made = Storages(make_stack, prefix=f'class = "{kind}";')
    storage, stack, kept = made.unix, made.stack, {}

    def once(phase):
        name = storage.save(f"{phase}.txt", ContentFile(phase.encode()))
        kept[name] = phase.encode()
        gone = storage.save(f"gone/{phase}.txt", ContentFile(b"x"))
        storage.delete(gone)
        assert not storage.exists(gone) and read(storage, name) == phase.encode() and storage.size(name) == len(phase)
        assert sorted(storage.listdir("")[1]) == sorted(kept)
    once("passthrough")
    assert stack.in_r2() == {}		# in phase 0 nothing is copied
    for phase in PHASES[1:]:
        made.proxy.climb(phase)
        once(phase)
    made.proxy.drained()
    assert stack.in_r2() == stack.on_disk() == kept
    made.proxy.descend("passthrough")
    once("back")
    storage.delete("validate.txt")
    del kept["validate.txt"]
    made.proxy.climb("backfill")
    made.proxy.backfill()
    stack.assert_equal(30)
    assert stack.in_r2() == kept


def test_in_r2_primary(make_stack):
    """R2 first: what is saved is there at once, listed too, whether or not the disk has it yet; and the way back has it all."""
    made = Storages(make_stack)
    storage, stack = made.unix, made.stack
    made.proxy.climb("validate")
    storage.save("old.txt", ContentFile(b"old"))
    made.proxy.drained()
    assert made.proxy.verify()["clean"]
    made.proxy.set_phase("r2-primary")
    stack.sandbox.faults("get 503\n")		# nothing is carried to the disk
    name = storage.save("p/a.txt", ContentFile(b"one"))
    assert not (stack.media / name).exists() and stack.bucket.head(name) is not None
    assert storage.exists(name) and storage.size(name) == 3
    assert storage.listdir("") == (["p"], ["old.txt"]) and storage.listdir("p") == ([], ["a.txt"])
    second = storage.save("p/a.txt", ContentFile(b"two"))
    assert second != name and sorted(storage.listdir("p")[1]) == sorted([name[2:], second[2:]])
    stack.sandbox.faults()
    assert read(storage, name) == b"one" and read(storage, second) == b"two"
    made.proxy.drained()
    storage.delete("old.txt")
    assert not storage.exists("old.txt") and storage.listdir("")[1] == []
    with storage.open(second, "wb") as f:
        f.write(b"three")
    assert read(storage, second) == b"three"
    for phase in ("validate", "read-r2", "backfill", "dual-write", "passthrough"):
        made.proxy.reload_phase(phase)
        assert read(storage, second) == b"three" and not storage.exists("old.txt")
    made.proxy.drained()
    assert stack.on_disk() == stack.in_r2() == {name: b"one", second: b"three"}


def test_A18_put_of_every_size_and_name(make_stack):
    """Of known and unknown length, through the proxy's own PUT: equal in R2, in parts of equal size."""
    made = Storages(make_stack, r2='multipart-threshold = "5MiB"; part-size = "8MiB";', request_limit="20s", deadline="60s")
    made.proxy.set_phase("dual-write")
    sizes = {"1": 1, "0": 0, "8MiB-1": (8 << 20) - 1, "8MiB": 8 << 20, "40MiB": 40 << 20, "100MiB": 100 << 20}
    for label, size in sizes.items():
        body = content(label, size)
        for chunked in (False, True) if size < 20 << 20 else (size > 50 << 20,):
            name = f"{label} {chunked}"
            made.tcp.put(name, r2shim_pieces(body, chunked))
            assert hashlib.sha256(made.stack.bucket.get(name)).digest() == hashlib.sha256(body).digest()
    etags = {name: made.stack.bucket.head(name)["ETag"].strip('"') for name in ("8MiB-1 True", "40MiB False", "100MiB True")}
    assert [e.partition("-")[2] for e in etags.values()] == ["1", "5", "13"], etags
    for number, name in enumerate(ODD):
        made.tcp.put("names/" + name, r2shim_pieces(name.encode(), number % 2 == 0))
    made.proxy.drained()
    assert made.stack.differences() == []
    assert made.stack.rclone_check("--download")[0] == 0


def r2shim_pieces(body, chunked):
    from r2shim_storage.client import Body
    return Body((body[at:at + 100_000] for at in range(0, len(body), 100_000)), None if chunked else len(body))


def test_A18_through_a_webdav_origin(make_stack):
    """The origin decides: what it takes of known and unknown length is equal in R2, what it refuses is relayed and changes nothing."""
    stack = make_stack("webdav").start()
    stack.proxy.set_phase("dual-write")
    through = R2shimStorage(address="http://" + stack.proxy.address, token="none")
    direct = R2shimStorage(address="http://" + stack.nginx.address, token="none")
    for size in (0, 1, (8 << 20) - 1, 40 << 20):
        for chunked in (False, True):
            name, body = f"dav/{size}-{chunked}", content(str(size), size)
            outcome = []
            for storage, where in ((direct, "direct/"), (through, "")):
                try:
                    storage.put(where + name, r2shim_pieces(body, chunked))
                    outcome.append(201)
                except ProxyError as e:
                    outcome.append(e.status)
            assert outcome[0] == outcome[1], f"{name}: nginx answers {outcome[0]}, through us {outcome[1]}"
            if outcome[1] == 201:
                assert stack.bucket.get(name) == body
            else:
                assert outcome[1] == 411 and stack.bucket.head(name) is None
    through.delete("dav/1-False")
    assert stack.bucket.head("dav/1-False") is None and not (stack.media / "dav/1-False").exists()
    through.delete("dav/none")
    stack.assert_equal(30)
