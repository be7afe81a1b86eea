"""The soak of scripts/bench soak, shortened."""
from harness import temp_dir
from soak import Front, Soak, broken

SECONDS = 15


def test_a_short_soak(make_stack):
    front = Front(temp_dir())
    stack = make_stack(migrators=1, proxy=front.options).start()
    for number in range(40):
        stack.write(f"old/{number}.bin", bytes([number]) * 3000 * number)
    stack.proxy.climb("validate")
    soak = Soak(stack, front, every=2.0)
    soak.load.add_tree(stack.media)
    result = soak.run(SECONDS)
    print(result)
    assert not broken(result)
    assert result["requests"] > 500 and result["reloads"] >= 6 and result["restarts"] >= 2
    assert result["fallbacks"] > 0		# R2 did fail
    assert result["handshakes"] >= result["clients"] // 2
    stack.proxy.drained(60)
    stack.assert_equal(60)


def test_what_a_soak_finds():
    good = {"failures": [], "wrong": 0, "sanitized": False, "rss": float(20 << 20), "rss_end": 21 << 20, "fds": 40, "fds_end": 44}
    assert broken(good) == []
    assert broken({**good, "failures": [{"kind": "failed", "at": 1.0, "text": "GET /media/a: 500"}]}) == ["failed after 1.0 s: GET /media/a: 500"]
    assert len(broken({**good, "wrong": 1, "rss_end": 30 << 20, "fds_end": 60})) == 3


def test_only_the_upstreams_failures_are_excused(make_stack):
    front = Front(temp_dir())
    soak = Soak(make_stack(migrators=0, proxy=front.options).start(), front)
    soak.away = [(10, 12)]

    def excused(at, text):
        return soak.excused({"at": at, "text": text})
    assert excused(11, "upload a.bin: <Response 502 20 bytes b'no'>")
    assert not excused(9, "upload a.bin: <Response 502 20 bytes b'no'>")
    assert not excused(14, "upload a.bin: <Response 502 20 bytes b'no'>")
    assert not excused(11, "upload a.bin: <Response 500 20 bytes b'no'>")
    assert not excused(11, "GET /media/a.bin: <Response 503 20 bytes b'no'>")
