"""The sample site by itself: what the other tests take for granted, without r2shim."""
import hashlib
import io
import json
import sys
import subprocess
import threading

import pytest

from clients import Load
from harness import Gunicorn, Nginx, PYTHON, clean_env, temp_dir
from web import SiteClient


@pytest.fixture(params=["gunicorn", "nginx"])
def site(request):
    """(address of the front server, the Gunicorn)."""
    folder = temp_dir()
    gunicorn = Gunicorn(folder / "site", unix=request.param == "nginx").start()
    if request.param == "nginx":
        nginx = Nginx(folder / "nginx", gunicorn.media_root, gunicorn.address).start()
        yield nginx.address, gunicorn
        nginx.stop()
    else:
        yield gunicorn.address, gunicorn
    gunicorn.stop()


def test_upload_replace_overwrite_delete(site):
    address, gunicorn = site
    with SiteClient(address) as http:
        first = http.upload("größe 1.txt", b"one", folder="a b")
        assert first.status == 201
        first = first.json()
        assert first["url"] == "/media/a%20b/gr%C3%B6%C3%9Fe_1.txt" and first["size"] == 3
        assert (gunicorn.media_root / first["name"]).read_bytes() == b"one"
        assert http.get(first["url"]).body == b"one"

        second = http.replace(first["id"], "größe 1.txt", b"two!").json()
        assert second["url"] != first["url"] and second["deleted"] == first["name"]
        assert http.get(first["url"]).status == 404 and http.get(second["url"]).body == b"two!"

        for mode in ("rename", "inplace", "recreate"):
            third = http.overwrite(first["id"], mode.encode(), mode)
            assert third.status == 200 and third.json()["url"] == second["url"]
            assert http.get(second["url"]).body == mode.encode()

        assert http.upload("big.bin", b"x" * 5_000_000).json()["size"] == 5_000_000
        assert http.remove(first["id"]).status == 200
        assert http.get(second["url"]).status == 404
        assert http.remove(first["id"]).status == 404
        assert http.connects == 1


def test_form_of_a_browser(site):
    from PIL import Image
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    with SiteClient(site[0]) as http:
        answer = http.upload("empty.txt", b"", picture=("red.png", picture.getvalue()), Accept="text/html")
        assert answer.status == 302 and answer.headers["Location"] == "/"
        page = http.get("/").body.decode()
        assert "/media/documents/empty.txt" in page and "/media/documents/pictures/red.png" in page
        assert http.get("/media/documents/pictures/red.png").body == picture.getvalue()
        assert http.upload("x.txt", b"x", picture=("fake.png", b"no picture")).status == 400
        assert http.upload("x.txt", b"x", folder="../out").status == 400


def test_make_files(site):
    _, gunicorn = site
    made = [json.loads(line) for line in gunicorn.manage("make_files", "--count", 3, "--dir", "cron").splitlines()]
    for entry in made:
        stored = (gunicorn.media_root / entry["name"]).read_bytes()
        assert hashlib.sha256(stored).hexdigest() == entry["sha256"] and len(stored) == entry["size"]
    gunicorn.manage("make_files", "--count", 0, "--dir", "cron", "--delete", made[0]["name"])
    assert sorted(p.name for p in (gunicorn.media_root / "cron").iterdir()) == ["made-00001.bin", "made-00002.bin"]


def test_many_clients_at_once(site):
    """64 connections, no pause: no request fails (SQLite is never locked) and nothing is served wrong."""
    address, gunicorn = site
    gunicorn.manage("make_files", "--count", 50, "--dir", "old")
    load = Load(address, clients=64, sizes=[0, 1, 1000, 20000], heads=address != gunicorn.address)
    load.add_tree(gunicorn.media_root)
    load.start()
    enough = threading.Event()
    while load.requests() < 4000 and not load.problems and not enough.wait(0.05):
        pass
    report = load.stop()
    print(report)
    assert report["requests"] >= 4000 and not report["failed"] and not report["wrong"] and not report["cut"], report
    assert "locked" not in gunicorn.stderr()
    for url, digest in load.history.expected().items():
        with SiteClient(address) as http:
            answer = http.get(url)
            assert (answer.status, answer.sha256) == (200, digest) if digest else answer.status == 404, url


def test_webdav_origin():
    folder = temp_dir()
    (folder / "media").mkdir()
    nginx = Nginx(folder / "nginx", folder / "media").start()
    with SiteClient(nginx.address) as http:
        assert http.put("/media/new/a.txt", b"one").status == 201
        assert http.put("/media/new/a.txt", b"two").status == 204
        assert (folder / "media" / "new" / "a.txt").read_bytes() == b"two"
        assert http.request("MOVE", "/media/new/a.txt", headers={"Destination": "/media/new/b.txt"}).status in (201, 204)
        assert http.delete("/media/new/b.txt").status == 204
        assert http.get("/media/new/b.txt").status == 404
    assert nginx.stop() == 0


def test_clients_as_a_program(site):
    """What the demo does: JSON lines, commands on stdin, exit status."""
    address, gunicorn = site
    gunicorn.manage("make_files", "--count", 5, "--dir", "old")
    program = subprocess.Popen([PYTHON, sys.modules["clients"].__file__, address, "--clients", "8", "--pause", "0.01",
                                "--media-root", gunicorn.media_root, "--stdin", "--progress", "0.1",
                                *(["--no-heads"] if address == gunicorn.address else [])], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_env())

    def event(name):
        for line in program.stdout:
            if (found := json.loads(line))["event"] == name:
                return found
        raise AssertionError(f"no {name}")

    def tell(text):
        program.stdin.write(text + "\n")
        program.stdin.flush()

    assert event("ready")["files"] == 5
    gone, new = gunicorn.media_root / "old/made-00000.bin", gunicorn.media_root / "old/new.bin"
    (gunicorn.dir / "content").write_bytes(b"new")
    tell(json.dumps({"op": "begin", "changes": {"/media/old/made-00000.bin": None,
                                                "/media/old/new.bin": str(gunicorn.dir / "content")}}))
    event("begun")
    gone.unlink()
    new.write_bytes(b"new")
    tell(json.dumps({"op": "end"}))
    event("ended")
    event("progress")
    tell("stop")
    report = event("report")
    assert program.wait(30) == 0 and report["requests"] > 0 and report["failed"] == report["wrong"] == 0, report
