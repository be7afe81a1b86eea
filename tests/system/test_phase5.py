"""Several proxies of one site, each with a configuration of its own: members, arming, and the phases in which R2 is written first."""
import signal

from harness import eventually


def two(make_stack, **options):
    """A site with two proxies."""
    stack = make_stack(migrators=1, **options).start()
    other = stack.add_proxy("other").start()
    return stack, stack.proxy, other


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
