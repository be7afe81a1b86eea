"""r2.hedge-after: what R2 is late with the disk gives, where both may."""
from harness import eventually
from history import content


def test_hedged_reads(make_stack):
    stack = make_stack(migrators=1, r2='hedge-after = "50ms";')
    body = content("a", 200_000)
    stack.write("a.bin", body)
    stack.start()
    stack.proxy.climb("validate")
    with stack.client() as http:
        assert http.get("/media/a.bin").body == body
        # R2 says nothing at all: only the disk can have answered.
        stack.sandbox.faults("get hold a\nhead hold a")
        for _ in range(3):
            answer = http.get("/media/a.bin")
            assert (answer.status, answer.body) == (200, body)
        assert http.get("/media/a.bin", Range="bytes=7-9").body == body[7:10]
        assert http.head("/media/a.bin").headers["Content-Length"] == "200000"
        # R2 is late, and the disk has nothing: R2's word, and then the disk's.
        stack.sandbox.faults("get delay 200ms")
        assert http.get("/media/no.bin").status == 404
        # The answer has begun in time: it is not given up.
        stack.sandbox.faults()
        assert http.get("/media/a.bin").body == body
    metrics = stack.proxy.metrics()
    assert metrics['r2shim_media_hedges_total{result="disk"}'] == 5 and metrics['r2shim_media_hedges_total{result="none"}'] == 1
    assert metrics['r2shim_media_served_total{source="disk"}'] == 5 and metrics['r2shim_media_served_total{source="r2"}'] == 2
    assert metrics["r2shim_validate_violations_total"] == 0
    assert set(label for label in metrics if "fallbacks" in label) == {'r2shim_media_fallbacks_total{reason="NOTFOUND"}'}
    # In r2-primary R2 alone decides.
    stack.proxy.climb("r2-primary")
    stack.sandbox.faults("get delay 200ms")
    with stack.client() as http:
        assert http.get("/media/a.bin").body == body
    eventually(lambda: stack.proxy.metrics()['r2shim_media_served_total{source="r2"}'] == 3, 5, "R2 has served it")
