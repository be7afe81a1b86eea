"""Phase r2-primary: PUT and DELETE go to R2 first and to the disk behind the answer; the application goes on storing on the disk; and
the way back has every write."""
import hashlib
import threading
import time

import pytest

from harness import eventually
from history import content
from web import Client

TOKEN = "r2-primary-token"


@pytest.fixture
def primary(make_stack):
    """primary(topology, **options) -> a Stack in r2-primary whose media take PUT and DELETE with the token."""
    def make(topology="gunicorn", fill=(), **options):
        stack = make_stack(topology, **options)
        token = stack.dir / "writers.token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        stack.options["prefixes"] = f'{{ url = "/media/"; class = "public"; writes = "disk"; token-file = "{token}"; }}'
        for key, body in fill:
            stack.write(key, body)
        stack.start()
        stack.proxy.climb("validate")
        stack.proxy.set_phase("r2-primary")
        return stack
    return make


class Writer(Client):
    """PUT and DELETE with the token."""

    def put(self, target, body, **headers):
        return super().put(target, body, Authorization=f"Bearer {TOKEN}", **headers)

    def delete(self, target, **headers):
        return super().delete(target, Authorization=f"Bearer {TOKEN}", **headers)


def test_r2_first(primary):
    """R2 has it at the answer, the disk soon; both say the same of it."""
    stack = primary(fill=[("old.txt", b"old"), ("gone.txt", b"gone")])
    with Writer(stack.proxy.address) as http:
        for name, size in (("new.txt", 10), ("empty", 0), ("old.txt", 5000), ("gr%C3%B6%C3%9Fe/deep/er.bin", 3_000_000)):
            body = content(name, size)
            key = name.replace("%C3%B6", "ö").replace("%C3%9F", "ß")
            answer = http.put("/media/" + name, body)
            assert answer.status == (204 if name == "old.txt" else 201), answer
            assert stack.bucket.get(key) == body
            assert http.get("/media/" + name).body == body
        assert http.delete("/media/gone.txt").status == 204
        assert stack.bucket.head("gone.txt") is None
        assert http.get("/media/gone.txt").status == 404
        assert http.delete("/media/gone.txt").status == 404
        assert http.put("/media/new.txt", b"x", If_None_Match="*").status == 412
        assert http.put("/media/made.txt", b"made", If_None_Match="*").status == 201
        assert Client.put(http, "/media/new.txt", b"x").status == 401
    stack.proxy.drained()
    stack.assert_equal()
    head = stack.bucket.head("new.txt")
    nanoseconds = (stack.media / "new.txt").stat().st_mtime_ns
    assert head["x-amz-meta-mtime"] == f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
    assert not (stack.media / "gone.txt").exists()
    # Nothing of a swap is left, and nothing was copied back and forth by the events of our own renames.
    assert not [path for path in stack.media.rglob(".r2shim-*") if path.name != ".r2shim-root"]
    assert stack.proxy.verify()["clean"]


def test_our_own_renames_are_no_news(primary):
    """What the watcher sees of the file that we put there ourselves is not marked, looked at and compared with R2 again."""
    stack = primary(fill=[("a.txt", b"old")])
    stack.migrators[0].stop()		# what it carries to the disk the proxy does not count
    with Writer(stack.proxy.address) as http:
        before = stack.proxy.metrics()
        for number in range(5):
            assert http.put("/media/a.txt", b"%d" % number).status == 204
            assert http.put(f"/media/{number}.txt", b"%d" % number).status == 201
            stack.proxy.drained()
    stack.assert_equal()
    after = stack.proxy.metrics()
    restored, equal = (after[name] - before.get(name, 0) if name in after else 0 for name in
                       ('r2shim_mirrors_total{result="restored"}', 'r2shim_mirrors_total{result="equal"}'))
    assert restored == 10 and equal <= 1, (restored, equal)


@pytest.mark.parametrize("topology", ["gunicorn", "nginx"])
def test_the_application_goes_on(primary, topology):
    """An unmodified form stores on the disk: R2 has it before the answer; replaced, overwritten and removed likewise."""
    stack = primary(topology)
    with stack.client() as http:
        first = http.upload("a.txt", b"one").json()
        assert stack.bucket.get(first["name"]) == b"one" == http.get(first["url"]).body
        for mode in ("rename", "inplace", "recreate"):
            assert http.overwrite(first["id"], mode.encode(), mode).status == 200
            assert stack.bucket.get(first["name"]) == mode.encode() == http.get(first["url"]).body
        second = http.replace(first["id"], "b.txt", b"two").json()
        assert http.get(second["url"]).body == b"two" and http.get(first["url"]).status == 404
        assert http.remove(second["id"]).status == 200
        assert http.get(second["url"]).status == 404
        # What the application writes over a file that went to R2 first is the later write.
        with Writer(stack.proxy.address) as writer:
            third = http.upload("c.txt", b"three").json()
            assert writer.put(third["url"], b"four").status == 204
            assert http.get(third["url"]).body == b"four"
            stack.proxy.drained()
            assert http.overwrite(third["id"], b"five").status == 200
            assert http.get(third["url"]).body == b"five"
    stack.assert_equal()
    assert stack.in_r2()[third["name"]] == b"five"


def test_behind_the_proxys_back(primary):
    """Written straight to the disk: the file wins over what R2 got before, and is served at once."""
    stack = primary(fill=[("a.txt", b"old")])
    with Writer(stack.proxy.address) as http:
        stack.write("made/past.txt", b"past us")
        assert http.get("/media/made/past.txt").body == b"past us"
        eventually(lambda: stack.bucket.get("made/past.txt") == b"past us", 10, "the new file in R2")
        for number in range(10):
            assert http.put("/media/a.txt", b"r2 %d" % number).status == 204
            stack.write("a.txt", b"disk %d" % number)
            stack.proxy.drained()
            assert stack.on_disk()["a.txt"] == b"disk %d" % number == http.get("/media/a.txt").body
        (stack.media / "a.txt").unlink()
        eventually(lambda: stack.bucket.head("a.txt") is None, 10, "the delete in R2")
        assert http.get("/media/a.txt").status == 404
    stack.assert_equal()


def test_r2_is_down(primary):
    """Nothing is acknowledged that R2 did not take; the application's uploads are, by their durable mark; all ends equal."""
    stack = primary(request_limit="1s", deadline="200ms", fill=[("kept.txt", b"kept")])
    stack.sandbox.faults("* 503\n")
    with Writer(stack.proxy.address) as http, stack.client() as site:
        answer = http.put("/media/kept.txt", b"lost")
        assert answer.status in (503, 504) and b"it may have been written" in answer.body, answer
        assert http.get("/media/kept.txt").body == b"kept"
        upload = site.upload("a.txt", b"on the disk").json()
        assert http.get(upload["url"]).body == b"on the disk"
        stack.sandbox.faults("")
        stack.proxy.drained(60)
        assert http.get("/media/kept.txt").body in (b"kept", b"lost")
        assert http.put("/media/kept.txt", b"new").status == 204
    stack.proxy.drained()
    stack.assert_equal()


def test_redis_is_down(primary):
    """Reads go on from R2, PUT and DELETE wait and are refused, and after a restart within coord.write-wait they succeed."""
    stack = primary(fill=[("a.txt", b"a")])
    with Writer(stack.proxy.address) as http:
        stack.redis.kill9()
        assert http.get("/media/a.txt").body == b"a"
        answers = []
        def put():
            with Writer(stack.proxy.address, timeout=30) as other:
                answers.append(other.put("/media/b.txt", b"b").status)
        thread = threading.Thread(target=put)
        thread.start()
        eventually(lambda: stack.proxy.metrics().get("r2shim_client_connections_open", 0) >= 2, 10, "the write that waits")
        stack.redis.start()
        thread.join(30)
        assert answers == [201]
        assert http.get("/media/b.txt").body == b"b"
    stack.proxy.drained()
    stack.assert_equal()


@pytest.mark.parametrize("flush", [False, True])
def test_killed_with_debts(primary, flush):
    """The proxy dies with writes that only R2 has (the disk's folder cannot be written); Redis may forget everything meanwhile."""
    stack = primary(fill=[(f"d/{n}.txt", b"old") for n in range(20)])
    stack.migrators[0].stop()
    acknowledged = {}
    with Writer(stack.proxy.address) as http:
        for number in range(20):
            body = b"new %d" % number
            if number % 4 == 3:
                assert http.delete(f"/media/d/{number}.txt").status == 204
                acknowledged[f"d/{number}.txt"] = None
            else:
                assert http.put(f"/media/d/{number}.txt", body).status == 204
                acknowledged[f"d/{number}.txt"] = body
    stack.proxy.kill9()
    if flush:
        stack.redis.call("FLUSHALL")
    stack.proxy.start()
    stack.migrators[0].start()
    with Client(stack.proxy.address) as http:
        for key, body in acknowledged.items():
            answer = http.get("/media/" + key)
            assert (answer.status == 404 if body is None else answer.body == body), (key, answer)
    stack.proxy.drained(60)
    stack.assert_equal()
    disk = stack.on_disk()
    assert {key: disk.get(key) for key in acknowledged} == acknowledged


def test_the_way_back_under_writes(primary):
    """From r2-primary to passthrough while clients write: every acknowledged write is there, on the disk that the site serves."""
    stack = primary(fill=[(f"w/{n}.txt", b"old") for n in range(8)])
    expected, stop, problems, turns = {}, threading.Event(), [], [0] * 8

    def client(number):
        with Writer(stack.proxy.address, timeout=30) as http:
            turn = 0
            while not stop.is_set():
                turns[number] = turn = turn + 1
                url, body = f"/media/w/{number}.txt", b"%d turn %d" % (number, turn)
                answer = http.delete(url) if turn % 5 == 0 else http.put(url, body)
                if answer.status not in (201, 204):
                    problems.append((url, answer.status, turn))
                    return
                expected[url] = None if turn % 5 == 0 else body
                read = http.get(url)
                seen = None if read.status == 404 else read.body
                if read.status not in (200, 404) or seen != expected[url]:
                    problems.append((url, read.status, seen, expected[url]))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        for phase in ("validate", "read-r2", "backfill", "dual-write", "passthrough"):
            stack.proxy.set_phase(phase, timeout=120)
            goal = [turn + 3 for turn in turns]
            eventually(lambda: problems or all(turn >= want for turn, want in zip(turns, goal)), 60, "writes in this phase")
            assert not problems, problems[:5]
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not problems, problems[:5]
    with Client(stack.site.address) as http:
        for url, body in expected.items():
            answer = http.get(url)
            assert (answer.status == 404 if body is None else answer.body == body), (url, answer, body)


def test_hot_key(primary):
    """A key written fifty times a second ends right, and R2 sees one PUT of it a second."""
    stack = primary()
    bodies, done = [], []
    began = time.monotonic()

    def client(number):
        with Writer(stack.proxy.address, timeout=60) as http:
            while time.monotonic() - began < 4:
                body = hashlib.sha256(b"%d %f" % (number, time.monotonic())).digest()
                bodies.append(body)
                done.append(http.put("/media/hot.bin", body).status)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) >= 100 and set(done) <= {201, 204}, (len(done), set(done))
    with Client(stack.proxy.address) as http:
        last = http.get("/media/hot.bin").body
        assert last in bodies and stack.bucket.get("hot.bin") == last
    metrics = stack.proxy.metrics()
    carried_out = metrics['r2shim_r2_first_writes_total{result="OK"}']
    assert carried_out <= time.monotonic() - began + 2
    stack.proxy.drained()
    stack.assert_equal()
