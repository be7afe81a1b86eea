"""The sandbox's own behaviour: what it keeps, its limits, its lists, its faults, its counters."""
import hashlib
import re
import socket
import threading
import time
import unicodedata
import urllib.parse
import xml.etree.ElementTree as ElementTree

import pytest

import s3
from harness import eventually
from sandbox_tools import Sandbox, Target, code, md5, text
from web import Client, Cut

MIB = 1024 * 1024


@pytest.fixture
def start(r2shim, tmp_path):
    """start(*options) -> (server, target), started."""
    def begin(*options):
        server = Sandbox(tmp_path / "r2", *options).start()
        return server, Target("sandbox", server)
    return begin


@pytest.fixture
def pair(start):
    return start()


def raw(server, data, until_close=True, timeout=10):
    """Sends bytes as they are, and returns what comes back."""
    host, port = server.listen.split(":")
    with socket.create_connection((host, int(port)), timeout) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        got = b""
        while piece := sock.recv(65536):
            got += piece
        return got


def signed_head(target, method, key, body, length=None, extra=""):
    headers = s3.sign(method, target.path(key), [], {"Host": target.host}, hashlib.sha256(body).hexdigest(),
                      target.server.key_id, target.server.secret)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target.path(key)} HTTP/1.1\r\n{lines}{extra}" + (
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n" if length != "none" else "\r\n")


def keys_of(response):
    tree = ElementTree.fromstring(response.body)
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
    return ([item.findtext("Key") for item in tree.findall("Contents")],
            [item.findtext("Prefix") for item in tree.findall("CommonPrefixes")], tree)


def test_a_restart_keeps_everything(pair):
    server, target = pair
    odd = ["a", "a/", "a//b", "/lead", ".", "..", "a/../b", " blank ", "ünï", "日本", "x" * 1024, "\u007f", "100%", "new\nline", "q?&=#"]
    for name in odd:
        assert target.send("PUT", name, body=name.encode(), headers={"Content-Type": "text/x", "x-amz-meta-a": "1",
                                                                     "Cache-Control": "no-cache"})[0] == 200, name
    upload = text(target.send("POST", "multi", query=[("uploads", "")], headers={"x-amz-meta-b": "2"})[2], "UploadId")
    etag = target.send("PUT", "multi", query=[("partNumber", "1"), ("uploadId", upload)], body=b"part")[2].headers["ETag"]
    server.kill9()
    server.start()
    for name in odd:
        status, _, answer = target.send("GET", name)
        assert (status, answer.body) == (200, name.encode())
        assert answer.headers["Content-Type"] == "text/x" and answer.headers["x-amz-meta-a"] == "1"
        assert answer.headers["Cache-Control"] == "no-cache"
    listed, _, _ = keys_of(target.send("GET", query=[("list-type", "2")])[2])
    assert listed == sorted(odd, key=lambda name: name.encode())
    assert text(target.send("GET", query=[("uploads", "")])[2], "UploadId") == upload
    assert text(target.send("GET", "multi", query=[("uploadId", upload)])[2], "ETag") == etag
    body = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    assert target.send("POST", "multi", query=[("uploadId", upload)], body=body.encode())[0] == 200
    answer = target.send("GET", "multi")[2]
    assert answer.body == b"part" and answer.headers["x-amz-meta-b"] == "2"
    assert answer.headers["ETag"] == '"%s-1"' % hashlib.md5(hashlib.md5(b"part").digest()).hexdigest()


def test_one_key_whatever_its_spelling(pair):
    _, target = pair
    nfc, nfd = (unicodedata.normalize(form, "Ménü/é.jpg") for form in ("NFC", "NFD"))
    target.send("PUT", nfc, body=b"1")
    target.send("PUT", nfd, body=b"2")
    assert target.send("GET", nfc)[2].body == b"2"
    assert keys_of(target.send("GET")[2])[0] == [nfd]       # the last spelling is shown
    assert target.send("PUT", nfc, body=b"3", headers={"If-None-Match": "*"})[1] == "PreconditionFailed"
    for form in (nfc[:4], nfd[:6]):
        assert keys_of(target.send("GET", query=[("prefix", form)])[2])[0] == [nfd]
    assert target.send("DELETE", nfc)[0] == 204
    assert target.send("GET", nfd)[1] == "NoSuchKey"


def test_names_that_are_none(pair):
    _, target = pair
    assert target.send("PUT", "x" * 1025, body=b"x")[1] == "InvalidObjectName"
    assert target.send("PUT", path=target.path() + "/%ff", body=b"x")[1] == "InvalidObjectName"
    assert target.send("PUT", path=target.path() + "/a%00b", body=b"x")[1] in ("InvalidObjectName", None)


def test_bodies_that_are_not_whole(pair):
    server, target = pair
    body = b"x" * 1000
    answer = raw(server, (signed_head(target, "PUT", "cut", body)).encode() + body[:500])
    assert answer.startswith(b"HTTP/1.1 400 ") and b"<Code>IncompleteBody<" in answer and b"Connection: close" in answer
    assert target.send("HEAD", "cut")[0] == 404
    answer = raw(server, signed_head(target, "PUT", "none", b"", "none").encode())
    assert answer.startswith(b"HTTP/1.1 411 ") and b"<Code>MissingContentLength<" in answer
    answer = raw(server, signed_head(target, "PUT", "none", b"", "none", "Transfer-Encoding: chunked\r\n").encode() + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 411 ")
    assert server.stats()["buckets"]["media"]["objects"] == 0
    assert not list((server.dir / "objects" / "tmp").iterdir())


def test_a_repeated_part_that_fails_is_lost(pair):
    _, target = pair
    upload = text(target.send("POST", "m", query=[("uploads", "")])[2], "UploadId")
    query = [("partNumber", "1"), ("uploadId", upload)]
    assert target.send("PUT", "m", query=query, body=b"one")[0] == 200
    assert target.send("PUT", "m", query=query, body=b"two", headers={"Content-MD5": md5(b"x")})[1] == "BadDigest"
    assert text(target.send("GET", "m", query=[("uploadId", upload)])[2], "PartNumber") is None


def test_metadata(pair):
    _, target = pair
    assert target.send("PUT", "much", body=b"x", headers={f"x-amz-meta-{i}": "v" * 800 for i in range(11)})[1] == "MetadataTooLarge"
    assert target.send("PUT", "some", body=b"x", headers={f"x-amz-meta-{i}": "v" * 800 for i in range(10)})[0] == 200
    assert target.send("PUT", "plain", body=b"x")[0] == 200
    answer = target.send("HEAD", "plain")[2]
    assert answer.headers["Content-Type"] == "application/octet-stream" and answer.headers["Accept-Ranges"] == "bytes"
    assert target.send("PUT", "merged", headers={"x-amz-copy-source": "media/some", "x-amz-metadata-directive": "MERGE",
                                                 "x-amz-meta-0": "new", "Content-Type": "text/plain"})[0] == 200
    answer = target.send("HEAD", "merged")[2]
    assert (answer.headers["x-amz-meta-0"], answer.headers["x-amz-meta-1"]) == ("new", "v" * 800)
    assert answer.headers.get_all("Content-Type") == ["text/plain"]


def listed(target, **query):
    return keys_of(target.send("GET", query=[(k.replace("_", "-"), str(v)) for k, v in query.items()])[2])


def pages(target, v2, **query):
    """All keys and groups, page by page."""
    keys, groups, more = [], [], {}
    while True:
        k, g, tree = listed(target, **({"list_type": 2} if v2 else {}), **query, **more)
        assert len(k) + len(g) <= int(query["max_keys"])
        keys += k
        groups += g
        if tree.findtext("IsTruncated") == "false":
            return keys, groups
        more = {"continuation_token": tree.findtext("NextContinuationToken")} if v2 else {"marker": tree.findtext("NextMarker")}


@pytest.mark.parametrize("v2", [False, True])
def test_lists(pair, v2):
    _, target = pair
    names = ["a", "a/1", "a/2", "a/b/3", "a0", "b", "b/", "b//", "c/1", "d\uffee", "d\U0001f600", "z/z/z"]
    for name in names:
        target.send("PUT", name, body=b"x")
    for size in (1, 2, 3, 5, 1000):
        assert pages(target, v2, max_keys=size) == (names, [])
        keys, groups = pages(target, v2, max_keys=size, delimiter="/")
        assert keys == [n for n in names if "/" not in n]
        assert groups == ["a/", "b/", "c/", "z/"]
        assert pages(target, v2, max_keys=size, delimiter="/", prefix="a/") == (["a/1", "a/2"], ["a/b/"])
        assert pages(target, v2, max_keys=size, prefix="b") == (["b", "b/", "b//"], [])
    after = "start_after" if v2 else "marker"
    more = {"list_type": 2} if v2 else {}
    assert listed(target, **more, **{after: "b"})[0] == names[names.index("b") + 1:]
    assert listed(target, **more, **{after: "bb"})[0] == names[names.index("c/1"):]
    keys, groups, tree = listed(target, **more, max_keys=0)
    assert (keys, groups, tree.findtext("IsTruncated")) == ([], [], "true")
    assert listed(target, **more, max_keys=0, prefix="nothing")[2].findtext("IsTruncated") == "false"
    keys, _, tree = listed(target, **more, encoding_type="url", prefix="a/")
    assert keys[0] == "a%2F1" and tree.findtext("Prefix") == "a%2F"
    if v2:
        assert target.send("GET", query=[("list-type", "2"), ("continuation-token", "!")])[1] == "InvalidArgument"


def test_upload_lists(pair):
    _, target = pair
    made = []
    for name in ("u/b", "u/a", "v", "u/a"):
        answer = target.send("POST", name, query=[("uploads", "")])[2]
        made.append((name, text(answer, "UploadId")))
        assert len(made[-1][1]) > 300
    found, more = [], {}
    while True:
        tree = keys_of(target.send("GET", query=[("uploads", ""), ("prefix", "u/"), ("max-uploads", "1"), *more.items()])[2])[2]
        found += [(u.findtext("Key"), u.findtext("UploadId")) for u in tree.findall("Upload")]
        if tree.findtext("IsTruncated") == "false":
            break
        more = {"key-marker": tree.findtext("NextKeyMarker"), "upload-id-marker": tree.findtext("NextUploadIdMarker")}
    assert sorted(found) == sorted(x for x in made if x[0] != "v") and [n for n, _ in found] == ["u/a", "u/a", "u/b"]
    assert target.send("DELETE", "u/b", query=[("uploadId", made[1][1])])[1] == "NoSuchUpload"      # of another key
    for name, upload in made:
        assert target.send("DELETE", name, query=[("uploadId", upload)])[0] == 204
    assert text(target.send("GET", query=[("uploads", "")])[2], "Key") is None


def test_big_objects_are_not_held_in_memory(pair):
    server, target = pair
    size, piece = 300 * MIB, b"0123456789abcdef" * 65536
    headers = s3.sign("PUT", target.path("big"), [], {"Host": target.host, "Content-Length": str(size)}, "UNSIGNED-PAYLOAD",
                      server.key_id, server.secret)

    def rss():
        return int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{server.pid}/status").read())[1])
    before = rss()
    body = (piece for _ in range(size // len(piece)))
    with Client(server.listen) as client:
        assert client.request("PUT", target.path("big"), body, headers).status == 200
        digest = hashlib.sha256()
        for _ in range(size // len(piece)):
            digest.update(piece)
        headers = s3.sign("GET", target.path("big"), [], {"Host": target.host}, "UNSIGNED-PAYLOAD", server.key_id, server.secret)
        answer = client.request("GET", target.path("big"), None, headers, digest_only=True)
        assert (answer.length, answer.sha256) == (size, digest.hexdigest())
    assert rss() - before < 32 * 1024


def test_one_write_a_second_and_key(start):
    server, target = start("--key-rate", "on")
    statuses = [target.send("PUT", "hot", body=b"%d" % i)[:2] for i in range(20)]
    assert statuses[:5] == [(200, None)] * 5 and (429, "ServiceUnavailable") in statuses
    assert target.send("PUT", "cold", body=b"x")[0] == 200
    assert target.send("GET", "hot")[0] == 200
    assert server.stats()["operations"]["PutObject"]["429"] == statuses.count((429, "ServiceUnavailable"))


def test_only_one_of_many_makes_it_first(pair):
    _, target = pair
    results = []

    def race(n):
        mine = Target("sandbox", target.server)
        results.append(mine.send("PUT", "one", body=b"%d" % n, headers={"If-None-Match": "*"})[0])
    threads = [threading.Thread(target=race, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [200] + [412] * 15


def test_host_style(pair):
    server, target = pair
    target.send("PUT", "a/b", body=b"x")
    host = f"media.localhost:{server.listen.split(':')[1]}"
    headers = s3.sign("GET", "/a/b", [], {"Host": host}, "UNSIGNED-PAYLOAD", server.key_id, server.secret)
    with Client(server.listen) as client:
        assert client.request("GET", "/a/b", None, headers).body == b"x"


def test_discarded_content(start):
    server, target = start("--discard", "--key-rate", "off")
    assert target.send("PUT", "a", body=b"hello", headers={"x-amz-meta-a": "1"})[2].headers["ETag"] == (
        '"%s"' % hashlib.md5(b"hello").hexdigest())
    answer = target.send("HEAD", "a")[2]
    assert answer.headers["Content-Length"] == "5" and answer.headers["x-amz-meta-a"] == "1"
    assert target.send("GET", "a")[1] == "NotImplemented"
    upload = text(target.send("POST", "m", query=[("uploads", "")])[2], "UploadId")
    etag = target.send("PUT", "m", query=[("partNumber", "1"), ("uploadId", upload)], body=b"part")[2].headers["ETag"]
    body = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    assert target.send("POST", "m", query=[("uploadId", upload)], body=body.encode())[0] == 200
    assert target.send("HEAD", "m")[2].headers["Content-Length"] == "4"
    assert not [p for p in (server.dir / "objects" / "buckets" / "media").rglob("*") if p.is_file()]


# ---- faults ----

def test_faults_answer(pair):
    server, target = pair
    target.send("PUT", "a", body=b"x")
    server.faults("put 503 next 2\nget 429 key=a*\nlist 500\ncopy 502")
    assert [target.send("PUT", "b", body=b"x")[:2] for _ in range(3)] == [(503, "ServiceUnavailable")] * 2 + [(200, None)]
    answer = target.send("GET", "a")
    assert answer[:2] == (429, "ServiceUnavailable") and "simultaneous reads" in text(answer[2], "Message")
    assert target.send("GET", "b")[0] == 200
    assert target.send("GET")[:2] == (500, "InternalError")
    server.faults()
    assert target.send("GET", "a")[0] == 200
    server.faults("* down")
    assert {target.send("GET", "a")[0], target.send("PUT", "c", body=b"x")[0], target.send("HEAD")[0]} == {503}
    server.faults("clear")
    assert target.send("HEAD", "c")[0] == 404


def test_faults_by_percentage_repeat_themselves(pair):
    server, target = pair
    target.send("PUT", "a", body=b"x")

    def draw():
        server.faults("clear\nseed 7\nget 503 30%")
        return [target.send("GET", "a")[0] for _ in range(60)]
    first = draw()
    assert first == draw() and 5 < first.count(503) < 35


def test_faults_cut_and_lose(pair):
    server, target = pair
    target.send("PUT", "a", body=b"x" * 5000)
    server.faults("get cut 1000 next 1\nput lost next 1 key=lost\nput drop 10 next 1 key=drop")
    with pytest.raises(Cut):
        target.send("GET", "a")
    assert target.send("GET", "a")[2].body == b"x" * 5000
    with pytest.raises(Cut):
        target.send("PUT", "lost", body=b"there")
    assert target.send("GET", "lost")[2].body == b"there"
    with pytest.raises(Cut):
        target.send("PUT", "drop", body=b"y" * 100)
    assert target.send("HEAD", "drop")[0] == 404
    assert server.stats()["faults"] == 3


def test_faults_delay(pair):
    server, target = pair
    for stage in ("delay", "delay-commit", "delay-answer"):
        server.faults(f"clear\nput {stage} 150ms")
        begun = time.monotonic()
        assert target.send("PUT", "a", body=b"x")[0] == 200
        assert 0.14 < time.monotonic() - begun < 5


@pytest.mark.parametrize("stage,there", [("hold", False), ("hold-commit", False), ("hold-answer", True)])
def test_faults_hold(pair, stage, there):
    server, target = pair
    server.faults(f"put {stage} gate")
    results = []
    thread = threading.Thread(target=lambda: results.append(Target("sandbox", server).send("PUT", "a", body=b"x")[0]))
    thread.start()
    eventually(lambda: server.stats()["held"] == {"gate": 1}, what="a held request")
    assert (target.send("HEAD", "a")[0] == 200) == there
    server.faults("release gate")
    thread.join(10)
    assert results == [200] and server.stats()["held"] == {}
    assert target.send("PUT", "b", body=b"x")[0] == 200     # released for good


def test_faults_refuse_what_they_do_not_know(pair):
    server, _ = pair
    with Client(server.listen) as client:
        for line in ("put", "put 200", "fly 503", "put delay", "put delay soon", "put 503 5", "put 503 next", "put cut", "put 503 101%"):
            answer = client.request("POST", "/.sandbox/faults", f"get 503\n{line}".encode())
            assert answer.status == 400 and b"line 2" in answer.body, line
        assert client.get("/.sandbox/faults").body == b""
        assert client.request("POST", "/.sandbox/faults", b"# a remark\n\n put 503 next 3\n").status == 200
        assert client.get("/.sandbox/faults").body.startswith(b" put 503 next 3")
        assert client.get("/.sandbox/other").status == 404


def test_faults_from_the_start(start, tmp_path):
    (tmp_path / "rules").write_text("get 503\n")
    _, target = start("--faults", str(tmp_path / "rules"))
    assert target.send("GET", "a")[1] == "ServiceUnavailable"


def test_counters(pair):
    server, target = pair
    target.send("PUT", "a", body=b"12345")
    target.send("GET", "a")
    target.send("GET", "b")
    stats = server.stats()
    assert stats["operations"] == {"PutObject": {"200": 1}, "GetObject": {"200": 1, "404": 1}}
    assert stats["buckets"] == {"media": {"objects": 1, "bytes": 5, "uploads": 0}}
    assert stats["bytes_in"] == 5
    server.faults("reset")
    assert server.stats()["operations"] == {}


def test_buckets(pair):
    server, target = pair
    assert target.send("PUT", bucket="second")[0] == 200
    assert target.send("PUT", bucket="second")[0] == 409
    assert target.send("PUT", bucket="Not_A_Name")[1] == "InvalidBucketName"
    assert target.send("PUT", "a", bucket="second", body=b"x")[0] == 200
    assert target.send("DELETE", bucket="second")[1] == "BucketNotEmpty"
    server.kill9()
    server.start()
    assert target.send("GET", "a", bucket="second")[2].body == b"x"
    target.send("DELETE", "a", bucket="second")
    assert target.send("DELETE", bucket="second")[0] == 204
    assert target.send("HEAD", bucket="second")[0] == 404
    assert target.send("PUT", "a", bucket="third", body=b"x")[1] == "NoSuchBucket"
    assert target.send("PUT", "a", bucket="third", body=b"x", headers={"cf-create-bucket-if-missing": "true"})[0] == 200
    answer = target.send("GET", path="/")[2]
    assert re.findall(rb"<Name>([^<]+)", answer.body) == [b"media", b"third"]


def test_a_folder_belongs_to_one(pair, tmp_path):
    server, _ = pair
    other = Sandbox(tmp_path / "r2")
    with pytest.raises(AssertionError, match="in use by another sandbox"):
        other.start()


def test_command_line(r2shim, tmp_path):
    import subprocess

    def run(*args):
        done = subprocess.run([r2shim, *args], capture_output=True, text=True, timeout=20)
        return done.returncode, done.stdout, done.stderr
    (tmp_path / "secret").write_text("s\n")
    good = ["sandbox", "--dir", str(tmp_path / "d"), "--key-id", "K", "--secret-file", str(tmp_path / "secret")]
    assert run("--version")[:2] == (0, "r2shim 0.1.0\n")
    assert run()[0] == 2 and run("nonsense")[0] == 2
    assert run("sandbox", "--help")[0] == 0 and "--key-rate" in run("sandbox", "--help")[1]
    assert run("sandbox")[0] == 2 and "--dir" in run("sandbox")[2]
    assert run(*good, "--nonsense")[0] == 2 and run(*good, "extra")[0] == 2 and run(*good, "--key-rate", "maybe")[0] == 2
    assert run(*good[:-1], str(tmp_path / "nothing"))[0] == 1
    assert run(*good, "--bucket", "Not_A_Name")[0] == 1 and "no bucket name" in run(*good, "--bucket", "Not_A_Name")[2]
    assert run(*good, "--listen", "nowhere")[0] == 1
