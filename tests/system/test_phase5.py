"""Several proxies of one site, each with a configuration of its own: members, arming, and the phases in which R2 is written first."""
import signal

from harness import eventually
from web import Client, dial, multipart

TOKEN = "phase-five"


def two(make_stack, **options):
    """A site with two proxies."""
    stack = make_stack(migrators=1, **options).start()
    other = stack.add_proxy("other").start()
    return stack, stack.proxy, other


def with_token(make_stack, **options):
    """Programs may PUT and DELETE below /media/ with a token."""
    stack = make_stack(migrators=1, prefixes='{{ url = "/media/"; class = "public"; writes = "disk"; token-file = "{token}"; }}', **options)
    token = stack.dir / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    stack.options["prefixes"] = stack.options["prefixes"].format(token=token)
    return stack


class Writer(Client):
    """PUT and DELETE with the token."""

    def write(self, method, path, body=None):
        return self.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"})


def all_in(proxies, *phases):
    """The operator's way with several proxies: each phase on all of them before the next."""
    for phase in phases:
        if phase == "read-r2":
            proxies[0].backfill()
            eventually(lambda: proxies[0].verify()["clean"], 60, "verify clean", 0.2)
        for proxy in proxies:
            proxy.set_phase(phase)


TO_VALIDATE = ("dual-write", "backfill", "read-r2", "validate")


def ids(proxy):
    return set(proxy.cluster()[0])


def test_members_come_and_go(make_stack):
    """Registered from the start to a clean end; a killed one stays, also over a flush of Redis, until it is forgotten."""
    stack, a, b = two(make_stack)
    name_a, name_b = a.member_id(), b.member_id()
    eventually(lambda: ids(a) == {name_a, name_b}, 10, "both are members")
    members, shown = a.cluster()
    assert members[name_b]["phase"] == "passthrough" and members[name_b]["announced"] and not members[name_b]["waiting"], shown
    assert shown["armed_ms"] == 0 and shown["committed_ms"] == 0 and shown["owed_to_disk"] == 0
    b.stop()
    eventually(lambda: ids(a) == {name_a}, 10, "who ends cleanly has left")
    b.start()
    eventually(lambda: ids(a) == {name_a, name_b}, 10, "and is back")
    eventually(lambda: name_b in (a.dir / "state" / "members").read_text(), 10, "a knows of b")
    code, _, err = a.run("cluster", "forget", name_b)
    assert code == 4 and "heard" in err, err
    b.kill9()
    stack.redis.call("FLUSHALL")
    eventually(lambda: name_b in ids(a), 15, "the dead one is a member after a flush")
    member = a.cluster()[0][name_b]
    assert member["phase"] is None and member["silent_ms"] == -1 and not member["announced"] and member["waiting"], member
    code, out, err = a.run("phase", "set", "backfill")
    assert code == 4, (out, err)
    code, _, err = a.run("cluster", "forget", "nobody")
    assert code == 4 and "nobody" in err
    a.run("cluster", "forget", name_b, check=True)
    assert "cluster-forget" in (a.dir / "state" / "audit.jsonl").read_text()
    assert ids(a) == {name_a}
    text = a.run("cluster", "show", check=True)[1]
    assert name_a in text and name_b not in text
    eventually(lambda: name_b not in (a.dir / "state" / "members").read_text(), 10, "forgotten by a, too")


def test_the_way_down_waits_for_the_others(make_stack):
    """No proxy goes two phases below another: `phase set` says whom it waits for; Ctrl-C leaves all well."""
    stack, a, b = two(make_stack)
    for proxy in (a, b):
        proxy.set_phase("dual-write")
    for proxy in (a, b):
        proxy.set_phase("backfill")
    walk = a.begin("phase", "set", "passthrough")
    a.wait_phase("dual-write")
    line = walk.stdout.readline() + walk.stdout.readline()
    assert b.member_id() in line and "is in backfill: r2shim phase set dual-write there" in line, line
    walk.send_signal(signal.SIGINT)
    walk.wait(10)
    assert a.status()["phase"] == "dual-write"
    walk = a.begin("phase", "set", "passthrough")
    b.run("phase", "set", "dual-write", check=True)
    assert walk.wait(20) == 0, walk.stdout.read()
    assert a.status()["phase"] == "passthrough"
    walk.stdout.close()


def test_a_new_proxy_needs_redis_above_read_r2(make_stack):
    """Nobody has asked it whether the site be armed: in validate it does not serve before Redis has said it."""
    stack = make_stack(migrators=1).start()
    stack.proxy.climb("validate")
    other = stack.add_proxy("other", "validate")
    stack.redis.kill9()
    code, _, err = other.run("proxy", timeout=30)
    assert code == 5 and "no member" in err, (code, err)
    stack.redis.start()
    other.start()
    # Killed, it is a member still, and needs nobody.
    eventually(lambda: "self" in (other.dir / "state" / "members").read_text(), 10, "it is registered")
    other.kill9()
    stack.redis.kill9()
    other.start()
    stack.redis.start()


def hold_upload(proxy, name, body):
    """An upload whose body stays half sent: (socket, what is left)."""
    whole, content_type = multipart({"title": "t", "folder": "documents"}, {"file": (name, body)})
    sock = dial(proxy.address, 60)
    sock.sendall(f"POST /upload/ HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
                 f"Content-Length: {len(whole)}\r\nConnection: close\r\n\r\n".encode() + whole[:len(whole) // 2])
    return sock, whole[len(whole) // 2:]


def test_R8_A37_armed_by_all_before_the_first(make_stack):
    """An upload held on one proxy; the other is refused r2-primary, also by an edited file and SIGHUP, until the first has
    acknowledged that the site is armed; nothing fails."""
    stack = with_token(make_stack).start()
    a, b = stack.proxy, stack.add_proxy("other").start()
    all_in((a, b), *TO_VALIDATE)
    name_a = a.member_id()
    # By hand, without anybody having been asked.
    b.write_phase("r2-primary")
    b.reload()
    eventually(lambda: "the site is not armed" in b.stderr(), 10, "b refuses by itself")
    b.write_phase("validate")
    with Writer(a.address) as http:
        assert http.write("PUT", "/media/a.txt", b"a").status == 201
    # A write that began without a lease runs on a.
    with dial(a.address, 60) as held:
        held.sendall(b"PUT /media/held.bin HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN.encode() +
                     b"\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n" + b"h" * 50000)
        eventually(lambda: a.status()["proxy"]["intents"] == 1, 10, "a has begun it")
        move = b.begin("phase", "set", "r2-primary")
        line = move.stdout.readline()
        assert f"{name_a} has not acknowledged that the site is armed" in line, line + move.stdout.read()
        b.write_phase("r2-primary")
        eventually(lambda: b.reload() or f"the site is armed, but not acknowledged by: {name_a}" in b.stderr(), 10,
                   "b refuses by itself, again", 0.2)
        b.write_phase("validate")
        assert b.status()["phase"] == "validate" and a.status()["phase"] == "validate" and b.status()["armed"]
        held.sendall(b"h" * 50000)
        answer = b"".join(iter(lambda: held.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 201"), answer
    assert move.wait(30) == 0, move.stdout.read()
    move.stdout.close()
    assert b.status()["phase"] == "r2-primary"
    assert all(member["armed"] for member in a.cluster()[0].values())
    with Writer(b.address) as through_b, Writer(a.address) as through_a:
        assert through_b.write("PUT", "/media/b.txt", b"first in R2").status == 201
        assert stack.bucket.get("b.txt") == b"first in R2"
        eventually(lambda: through_a.get("/media/b.txt").body == b"first in R2", 5, "through the other")
        # The upstream's answer: 204 if b's file has been carried to the disk by now.
        assert through_a.write("PUT", "/media/b.txt", b"first on the disk").status in (201, 204)
        eventually(lambda: through_b.get("/media/b.txt").body == b"first on the disk", 5, "through the other")
    a.drained()
    stack.assert_equal()


def test_R7_requests_keep_their_phase_over_the_switch(make_stack):
    """Uploads and PUTs held mid-body over 4 -> 5 and 5 -> 4 end well, and both sides have them."""
    stack = with_token(make_stack).start()
    proxy = stack.proxy
    proxy.climb("validate")
    for phase in ("r2-primary", "validate"):
        sock, rest = hold_upload(proxy, f"held-{phase}.bin", phase.encode() * 10000)
        with sock:
            proxy.set_phase(phase)
            sock.sendall(rest)
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 201"), answer
    proxy.drained()
    stack.assert_equal()
    for phase in ("r2-primary", "validate"):
        assert stack.bucket.get(f"documents/held-{phase}.bin") == phase.encode() * 10000


def test_R46_A38_the_way_back_with_debt(make_stack):
    """50 PUTs and 10 DELETEs that only R2 has; back to read-r2 at once, never refused, the debt is shown, owed keys are
    served from R2 until they are on the disk; then the sides are equal, and passthrough is entered with no debt."""
    stack = with_token(make_stack)
    for number in range(10):
        stack.write(f"old/{number}.txt", b"old %d" % number)
    stack.write("new", b"a file where a folder is to be")
    stack.start()
    proxy = stack.proxy
    proxy.climb("r2-primary")
    stack.migrators[0].stop()		# it would set them aside
    # Nothing can be carried: files that somebody has open for writing are not taken away, and a file stands in a folder's way.
    busy = [open(stack.media / f"old/{number}.txt", "r+b") for number in range(10)]
    with Writer(proxy.address) as http:
        for number in range(50):
            assert http.write("PUT", f"/media/new/{number}.txt", b"new %d" % number).status == 201
        for number in range(10):
            assert http.write("DELETE", f"/media/old/{number}.txt").status == 204
        assert proxy.status()["owed_to_disk"] == 60
        walk = proxy.begin("phase", "set", "read-r2")
        out = walk.communicate(timeout=30)[0]
        assert walk.returncode == 0 and "the disk is owed 60 keys" in out, out
        assert proxy.status()["phase"] == "read-r2"

        def check():
            for number in range(50):
                assert http.get(f"/media/new/{number}.txt").body == b"new %d" % number
            for number in range(10):
                assert http.get(f"/media/old/{number}.txt").status == 404
        check()
        assert proxy.status()["owed_to_disk"] == 60 and proxy.status()["armed"]
        walk = proxy.begin("phase", "set", "passthrough")
        proxy.wait_phase("dual-write")
        check()
        assert walk.poll() is None
        for file in busy:
            file.close()
        (stack.media / "new").unlink()
        out = walk.communicate(timeout=60)[0]
        assert walk.returncode == 0 and "keys still" in out, out
        assert proxy.status()["phase"] == "passthrough" and proxy.status()["owed_to_disk"] == 0
        check()
    stack.assert_equal()
    eventually(lambda: not proxy.status()["armed"], 10, "disarmed")


def test_r2_only_is_one_way_when_all_are_there(make_stack):
    """Not without --commit; back as long as one proxy has not come; then refused, by command and by SIGHUP, and after a restart."""
    stack = with_token(make_stack).start()
    a, b = stack.proxy, stack.add_proxy("other").start()
    all_in((a, b), *TO_VALIDATE, "r2-primary")
    code, _, err = a.run("phase", "set", "r2-only")
    assert code == 4 and "--commit" in err, err
    code, _, err = a.run("phase", "set", "r2-only", "--commit")
    assert code == 4 and "full-verify" in err, err		# the last one was before R2 was written first
    assert a.verify()["clean"]
    a.insist("phase", "set", "r2-only", "--commit")
    with Writer(a.address) as http:
        assert http.write("PUT", "/media/six.txt", b"six").status == 201
        eventually(lambda: (stack.media / "six.txt").exists(), 10, "the disk gets it: b is in r2-primary")
    a.insist("phase", "set", "r2-primary")
    assert a.status()["phase"] == "r2-primary"
    for proxy in (a, b):
        proxy.insist("phase", "set", "r2-only", "--commit")
    eventually(lambda: a.status()["committed"] and b.status()["proxy"]["committed"], 20, "committed")
    code, _, err = a.run("phase", "set", "r2-primary")
    assert code == 4 and "no way back" in err, err
    b.write_phase("r2-primary")
    b.reload()
    eventually(lambda: "there is no way back" in b.stderr(), 10, "b refuses by itself")
    b.stop()
    code, _, err = b.run("proxy", timeout=30)
    assert code == 3 and "no way back" in err, (code, err)
    b.write_phase("r2-only")
    b.start()
    with Writer(b.address) as http:
        assert http.write("PUT", "/media/only.txt", b"only").status == 201
        assert http.get("/media/only.txt").body == b"only"
        b.drained()
        assert http.get("/media/only.txt").body == b"only" and not (stack.media / "only.txt").exists()
        assert http.write("DELETE", "/media/six.txt").status == 204
        assert http.get("/media/six.txt").status == 404


def test_after_a_flush_an_armed_site_waits_for_the_dead(make_stack):
    """R2-first writes are held, then refused, until the killed proxy has announced its journal, or is forgotten. Reads go on."""
    stack = with_token(make_stack).start()
    a, b = stack.proxy, stack.add_proxy("other").start()
    all_in((a, b), *TO_VALIDATE, "r2-primary")
    name_b = b.member_id()
    with Writer(a.address) as http:
        assert http.write("PUT", "/media/x.txt", b"before").status == 201
        eventually(lambda: name_b in (a.dir / "state" / "members").read_text(), 10, "a knows of b")
        a.drained()
        b.kill9()
        stack.redis.call("FLUSHALL")
        eventually(lambda: any(name_b in text for text in a.status()["degraded"]), 15, "status names b")
        assert http.write("PUT", "/media/x.txt", b"refused").status == 503
        assert http.get("/media/x.txt").body == b"before"
        member = a.cluster()[0][name_b]
        assert any("no lease is given" in text for text in member["waiting"]), member
        b.start()
        eventually(lambda: http.write("PUT", "/media/x.txt", b"after").status == 204, 30, "b is back", 0.2)
        a.drained()
        b.kill9()
        stack.redis.call("FLUSHALL")
        eventually(lambda: name_b in a.cluster()[0], 15, "b is known")
        a.run("cluster", "forget", name_b, check=True)
        eventually(lambda: http.write("PUT", "/media/x.txt", b"forgotten").status == 204, 30, "b is forgotten", 0.2)
        assert a.status()["armed"]
        a.drained()
    stack.assert_equal()
