"""Bad conditions at the start: a line that says what is wrong, an exit code, nothing done."""
import socket

import pytest

USAGE, CONFIG, REFUSED, UNREACHABLE = 2, 3, 4, 5


@pytest.fixture
def ready_to_start(make_stack):
    """All runs but the proxy, which is set up."""
    stack = make_stack(migrators=0).start(proxy=False)
    stack.proxy.run("init", check=True)
    return stack


def fails(stack, codes, *words, command="proxy", args=()):
    """The command ends by itself with one of the codes, and one line of stderr has all the words."""
    before = stack.on_disk()
    code, out, err = stack.proxy.run(command, *args, timeout=30)
    assert code in codes, (code, out, err)
    lines = (out + err).lower().splitlines()
    assert any(all(word.lower() in line for word in words) for line in lines), (words, out, err)
    assert "ready" not in out
    assert stack.on_disk() == before and stack.bucket.list() == {}


def test_port_in_use(ready_to_start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ready_to_start.proxy.write_conf(listen=address)
        fails(ready_to_start, (1,), address, "in use")


def test_root_missing(ready_to_start):
    missing = ready_to_start.dir / "no-such-folder"
    ready_to_start.proxy.write_conf(media=missing)
    fails(ready_to_start, (CONFIG,), "media.root", str(missing))
    assert not missing.exists()


def test_sentinel_missing(ready_to_start):
    (ready_to_start.media / ".r2shim-root").unlink()
    fails(ready_to_start, (1, CONFIG, REFUSED), ".r2shim-root")
    assert not (ready_to_start.media / ".r2shim-root").exists()


def test_sentinel_of_another_site(ready_to_start):
    sentinel = ready_to_start.media / ".r2shim-root"
    sentinel.write_text("somebody-else\n")
    fails(ready_to_start, (1, CONFIG, REFUSED), ".r2shim-root")
    assert sentinel.read_text() == "somebody-else\n"


def test_wrong_keys(ready_to_start):
    wrong = ready_to_start.dir / "wrong.secret"
    wrong.write_text("wrong")
    wrong.chmod(0o600)
    ready_to_start.proxy.write_conf(secret_file=wrong)
    fails(ready_to_start, (1, UNREACHABLE), "SignatureDoesNotMatch", command="check", args=("--online",))


def test_no_such_bucket(ready_to_start):
    ready_to_start.proxy.write_conf(bucket="not-there")
    fails(ready_to_start, (1, UNREACHABLE), "NoSuchBucket", command="check", args=("--online",))
    fails(ready_to_start, (1, UNREACHABLE), "not-there", command="check", args=("--online",))


def test_redis_down_is_named(ready_to_start):
    ready_to_start.redis.stop()
    fails(ready_to_start, (1, UNREACHABLE), "redis", ready_to_start.redis.address, command="check", args=("--online",))


def test_A29_R17_redis_that_may_lose_keys(ready_to_start):
    ready_to_start.redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    fails(ready_to_start, (1, REFUSED), "maxmemory-policy")
    ready_to_start.redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    ready_to_start.redis.call("CONFIG", "SET", "appendonly", "no")
    fails(ready_to_start, (1, REFUSED), "appendonly")
    # Whoever knows what that means may have it, and is told at each start.
    conf = ready_to_start.proxy.conf
    conf.write_text(conf.read_text().replace("redis: { address", "redis: { allow-unsafe = true; address"))
    ready_to_start.proxy.start()
    assert "redis.allow-unsafe is set" in ready_to_start.proxy.stderr()


def test_a_phase_skipped_by_hand(ready_to_start):
    """The phase file was edited while the proxy was down: one phase up is a move, two are none. Down is always open."""
    proxy = ready_to_start.proxy
    proxy.start()
    proxy.stop()
    proxy.write_phase("backfill")
    fails(ready_to_start, (1,), "backfill does not follow passthrough")
    for phase in ("dual-write", "backfill", "passthrough"):
        proxy.write_phase(phase)
        proxy.start()
        proxy.stop()


def test_all_mistakes_are_listed(ready_to_start):
    conf = ready_to_start.proxy.conf
    conf.write_text(conf.read_text().replace('policy = "sync"', 'policy = "maybe"').replace('lease = "2s"', 'lease = "2 weeks"')
                    + 'nonsense = 1;\nmirror-policy = "sync";\n')
    code, out, err = ready_to_start.proxy.run("check")
    assert code == CONFIG
    for word in ("mirror.policy", "coord.lease", "nonsense", "mirror-policy"):
        assert any(word in line and "r2shim.conf:" in line for line in err.splitlines()), (word, err)


def test_all_is_well(ready_to_start):
    code, out, err = ready_to_start.proxy.run("check", "--online")
    assert code == 0, (out, err)


def test_usage(ready_to_start):
    assert ready_to_start.proxy.run("nonsense")[0] == USAGE
    assert ready_to_start.proxy.run("phase", "set", "no-such-phase")[0] == USAGE


def test_nothing_can_make_it_fail(r2shim):
    """The fault points of --enable-faults are in no other build."""
    with open(r2shim, "rb") as f:
        program = f.read()
    for word in (b"R2SHIM_TRIP", b"R2SHIM_MUTANT", b"late-intent", b"no-quarantine"):
        assert word not in program, word
