"""Private files: nobody reads one but with the application's leave, in no phase, by no spelling, from neither side, whatever fails.

A secret's bytes, its length and its ETag are such as stand nowhere else: a single one of them in an answer is a leak.
"""
import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor

from attacks import Attack, attacks, wire
from harness import eventually
from stack import ALL_PHASES
from web import raw

SIZE, MTIME = 7919, 1_755_555_555
BYTES = bytes(range(0xF5, 0xFF))		# in no UTF-8 text
FOLDERS = ["private", "asked", "Keys", "priv\u00e9"]
SIDES = ["both", "disk", "r2"]
PREFIXES = """{ url = "/media/"; class = "public"; cache-control = "public, max-age=60"; delivery = "redirect-signed"; },
    { url = "/media/private/"; class = "authorized"; }, { url = "/media/priv\u00e9/"; class = "authorized"; },
    { url = "/media/asked/"; class = "authorized"; read-auth = "/may-read/"; },
    { url = "/media/Keys/"; class = "authorized"; read-auth = "/may-read/"; }"""
INTERNAL = 'internal = ( { url = "/protected/"; } );'
KEYS = [f"{folder}/alice/{side}.bin" for folder in FOLDERS for side in SIDES]
# Of r2: only R2 has it; of disk: only the disk has it. In all other cases the owner gets it.
NOT_SERVED = {"r2": ALL_PHASES[:3], "disk": ALL_PHASES[5:]}


def secret(key):
    """Bytes of BYTES that differ from key to key."""
    out = b""
    while len(out) < SIZE:
        out += hashlib.sha256(out[-32:] + key.encode()).digest()
    return bytes(BYTES[b % len(BYTES)] for b in out[:SIZE])


class Site:
    """The sample site with secrets, behind a proxy."""

    def __init__(self, make_stack, **options):
        self.stack = make_stack("gunicorn", migrators=1, prefixes=PREFIXES, media_extra=INTERNAL, **options)
        for key in KEYS:
            if not key.endswith("r2.bin"):
                self.write(key)
        self.stack.write("public.txt", b"for everybody\n")
        self.stack.start()
        self.cookies = {user: sign_in(self.stack, user) for user in ("alice", "mallory")}
        self.address = self.stack.proxy.address
        self.table = list(attacks([f"/media/{folder}/alice/both.bin" for folder in FOLDERS], "/protected/private/alice/both.bin", self.stack.media))

    def write(self, key):
        self.stack.write(key, secret(key))
        os.utime(self.stack.media / key, (MTIME, MTIME))

    def place(self, phase):
        """Each secret is where its name says."""
        bucket = self.stack.bucket
        for key in KEYS:
            if key.endswith("r2.bin"):
                bucket.put(key, secret(key), {"x-amz-meta-mtime": f"{MTIME}.000000000"})
            elif key.endswith("disk.bin") and ALL_PHASES.index(phase) >= 3:
                bucket.delete(key)

    def unplace(self, phase):
        """Both sides are alike again, for the gate of the next phase."""
        for key in KEYS:
            if key.endswith("r2.bin"):
                self.stack.bucket.delete(key)
            elif ALL_PHASES.index(phase) >= 3:
                self.stack.bucket.put(key, secret(key), {"x-amz-meta-mtime": f"{MTIME}.000000000"})

    def ask(self, target, user=None, method="GET", **headers):
        """The whole answer."""
        cookie = {"Cookie": self.cookies[user]} if user else {}
        return raw(self.address, wire(method, target, {**cookie, **{name.replace("_", "-"): value for name, value in headers.items()}}), 30)

    def attack(self, table=None):
        return leaks_of(self.address, table or self.table, self.cookies["mallory"])


def leak(answer):
    """What an answer tells of a secret; None: nothing."""
    if any(byte in answer for byte in BYTES):
        return "bytes", answer[:300]
    if re.search(rf'(?i){MTIME:x}-{SIZE:x}"|content-length: {SIZE}\b|bytes [^\r]*/{SIZE}\b|{SIZE}\r\n', answer.decode("latin-1")):
        return "its size or time", answer[:300]
    if re.search(rb"(?i)\r\nlocation: [^\r]*alice[^\r]*x-amz-signature", answer):
        return "a way to it", answer[:600]
    if re.search(rb"(?i)\r\nx-(accel|sendfile|lighttpd)", answer.partition(b"\r\n\r\n")[0]):
        return "a command", answer[:300]
    return None


def leaks_of(address, table, cookie):
    """All attacks by somebody who is not signed in, some by somebody else, who has the cookie: what leaked."""
    def one(case):
        why = leak(raw(address, case.data, 30))
        return why and (case.name, why)
    line = f"\r\nCookie: {cookie}\r\n".encode()
    others = [Attack(f"mallory's {name}", data.replace(b"\r\n", line, 1)) for name, data in table[::2] if b"\r\nCookie:" not in data]
    with ThreadPoolExecutor(8) as pool:
        return [found for found in pool.map(one, [*table, *others]) if found]


def sign_in(stack, user):
    """The cookie."""
    with stack.client() as http:
        return http.form("/login/", {"user": user}, {}).headers["Set-Cookie"].partition(";")[0]


def status(answer):
    return int(answer.split(b" ", 2)[1])


def head_and_body(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode("latin-1"), body


def target(key):
    return "/media/" + key.replace("\u00e9", "%C3%A9")


def check_owner(site, phase):
    """Whoever may read it reads it: that the attacks find nothing means something."""
    for key in KEYS:
        side = key.rpartition("/")[2].partition(".")[0]
        want = 404 if phase in NOT_SERVED.get(side, ()) else 200
        for query in ("", "?by=sendfile"):
            answer = site.ask(target(key) + query, "alice")
            head, body = head_and_body(answer)
            assert status(answer) == want and (want != 200 or body == secret(key)), (phase, key, query, answer[:300])
            assert not re.search(r"(?i)\r\nx-(accel|sendfile)", head), head
        if want != 200:
            continue
        # asked and Keys: we asked, and the answer is ours; else the application's own lines come along. In passthrough they all are.
        asked = phase != "passthrough" and key.startswith(("asked/", "Keys/"))
        assert "\r\nCache-Control: private\r\n" in head and f'\r\nETag: "{MTIME:x}-{SIZE:x}"\r\n' in head, head
        assert ("\r\nContent-Disposition: attachment\r\n" in head) != asked and ("Set-Cookie: asked=1" in head) == asked, head
        assert "\r\nContent-Type: application/octet-stream\r\n" in head, head
        part = head_and_body(site.ask(target(key), "alice", Range="bytes=10-19"))
        assert part[0].startswith("HTTP/1.1 206") and part[1] == secret(key)[10:20], part
        unchanged = head_and_body(site.ask(target(key), "alice", If_None_Match=f'"{MTIME:x}-{SIZE:x}"'))
        assert unchanged[0].startswith("HTTP/1.1 304") and not unchanged[1], unchanged
        of_head = head_and_body(site.ask(target(key), "alice", "HEAD"))
        assert of_head[0].startswith("HTTP/1.1 200") and f"Content-Length: {SIZE}" in of_head[0] and not of_head[1], of_head


def check_no_oracle(site):
    """Who may not read it cannot tell whether it is there, nor on which side."""
    for folder in FOLDERS:
        for user in (None, "mallory"):
            for headers in ({}, {"Range": "bytes=0-1"}, {"If-None-Match": "*"}, {"If-Match": "*"}):
                for method in ("GET", "HEAD"):
                    seen = {side: re.sub(rb"\r\nDate: [^\r]*", b"", site.ask(target(f"{folder}/alice/{side}.bin"), user, method, **headers))
                            for side in (*SIDES, "not-there")}
                    assert len(set(seen.values())) == 1 and status(seen["r2"]) in (401, 403), seen


def test_A11_nobody_reads_what_is_not_his(make_stack):
    """Every attack in every phase; and the same with R2 ill, the disk away, and the application gone, in those where each matters."""
    site = Site(make_stack)
    stack, proxy = site.stack, site.stack.proxy
    assert len(site.table) > 1000
    few = site.table[::7]
    for phase in ALL_PHASES:
        if phase == "r2-only":
            proxy.verify()
            proxy.insist("phase", "set", phase, "--commit")
        else:
            proxy.climb(phase)
        site.place(phase)
        if phase not in NOT_SERVED["r2"]:		# the breaker may have to let R2 be asked again
            eventually(lambda: status(site.ask(target("private/alice/r2.bin"), "alice")) == 200, 20, "R2 is asked")
        check_owner(site, phase)
        check_no_oracle(site)
        public = site.ask("/media/public.txt")
        assert b"for everybody" in public or (phase in ALL_PHASES[3:] and b"X-Amz-Signature" in public), (phase, public)
        leaks = site.attack()
        assert not leaks, (phase, len(leaks), leaks[:5])
        if phase in ("read-r2", "r2-primary", "r2-only"):
            for fault in ("read 503", "read cut 100", "read 404"):
                stack.sandbox.faults(fault)
                leaks = site.attack(few)
                assert not leaks, (phase, fault, leaks[:5])
            stack.sandbox.faults()
        if phase in ("dual-write", "r2-only"):
            away = stack.media.with_name("away")
            stack.media.rename(away)
            leaks = site.attack(few)
            away.rename(stack.media)
            assert not leaks, (phase, "disk away", leaks[:5])
        if phase in ("passthrough", "read-r2", "r2-only"):
            stack.site.stop()
            leaks = site.attack(few)
            for key in KEYS:
                answer = site.ask(target(key), "alice")
                assert not leak(answer) and status(answer) in (502, 503), (phase, answer[:300])
            stack.site.start()
            assert not leaks, (phase, "application gone", leaks[:5])
        site.unplace(phase)


def test_an_nginx_behind(make_stack):
    """As conf/nginx/behind.conf has it: nginx passes the application's header on, and r2shim serves the file."""
    stack = make_stack("nginx", migrators=0, prefixes='{ url = "/media/"; class = "public"; }, { url = "/media/private/"; class = "authorized"; }',
                       media_extra=INTERNAL)
    key = "private/alice/a.bin"
    stack.write(key, secret(key))
    stack.start()
    alice, mallory = sign_in(stack, "alice"), sign_in(stack, "mallory")
    table = list(attacks([f"/media/{key}"], f"/protected/{key}", stack.media))
    for phase in ALL_PHASES[:3]:
        stack.proxy.climb(phase)
        with stack.client() as http:
            assert http.get(f"/media/{key}").status == 403
            answer = http.get(f"/media/{key}", Cookie=alice)
            assert answer.body == secret(key) and answer.headers["Cache-Control"] == "private" and "X-Accel-Redirect" not in answer.headers
        leaks = leaks_of(stack.proxy.address, table, mallory)
        assert not leaks, (phase, len(leaks), leaks[:5])
