"""What an operator's tools read: the metrics and the access log, and its rotation under load."""
import json
import re
import signal
import threading
from collections import Counter

from harness import eventually
from history import content
from web import Client, raw, raw_status

SAMPLE = re.compile(r'([a-z_][a-z0-9_]*)(?:\{((?:[a-z_]+="[^"\\\n]*",?)+)\})? (-?[0-9.]+)')


def read_exposition(text):
    """{family: (type, {(sample's name, labels): value})} of text format 0.0.4, by its rules: HELP and TYPE once and before the
    samples of a family, which stand together; no series twice; a histogram's buckets grow with le, +Inf is its count."""
    families, name = {}, None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert name not in families, line
            families[name] = (None, {})
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == name and families[name][0] is None and not families[name][1], line
            families[name] = (line.split(" ")[3], {})
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            kind, samples = families[name]
            assert found[1] in ([name + s for s in ("_bucket", "_sum", "_count")] if kind == "histogram" else [name]), line
            labels = tuple(re.findall(r'([a-z_]+)="([^"]*)"', found[2] or ""))
            assert len(dict(labels)) == len(labels) and (found[1], labels) not in samples, line
            samples[found[1], labels] = float(found[3])
    for name, (kind, samples) in families.items():
        assert kind in ("counter", "gauge", "histogram") and (kind == "counter") == name.endswith("_total"), name
        for (sample, labels), value in samples.items():
            assert kind == "gauge" or value >= 0
            if sample == name + "_count":
                buckets = [(float(own["le"].replace("+Inf", "inf")), n) for (other, theirs), n in samples.items()
                           if other == name + "_bucket" and (own := dict(theirs)) and theirs[:-1] == labels]
                assert buckets == sorted(buckets) and [n for _, n in buckets] == sorted(n for _, n in buckets), name
                assert buckets[-1] == (float("inf"), value) and len(buckets) > 10, name
    return families


def test_metrics(make_stack):
    """Every route, result and source is counted, in a form that Prometheus takes."""
    stack = make_stack(migrators=0)
    stack.write("a.txt", content("a", 5000))
    stack.start()
    stack.proxy.climb("dual-write")
    with stack.client() as http:
        for _ in range(3):
            assert http.get("/media/a.txt").status == 200
        assert http.get("/media/a.txt", Range="bytes=9999-").status == 416
        assert http.get("/media/no.txt").status == 404
        assert http.get("/ping/").status == 200
        http.upload("b.txt", b"b")
    assert raw_status(stack.proxy.address, "GET", "/media/%zz") == 400
    assert raw(stack.proxy.address, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
    answer = stack.proxy.admin("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = read_exposition(answer.body.decode())
    requests = {tuple(value for _, value in labels): n for (_, labels), n in families["r2shim_requests_total"][1].items()}
    assert requests == {("read", "disk", "2xx"): 3, ("read", "disk", "4xx"): 1, ("read", "self", "4xx"): 1,
                        ("pass", "upstream", "2xx"): 1, ("write", "upstream", "2xx"): 1, ("refuse", "self", "4xx"): 1,
                        ("malformed", "self", "4xx"): 1}
    seconds = families["r2shim_request_seconds"][1]
    assert seconds["r2shim_request_seconds_count", (("route", "read"), ("source", "disk"))] == 4
    assert 0 < seconds["r2shim_request_seconds_sum", (("route", "read"), ("source", "disk"))] < 10
    assert families["r2shim_sent_bytes_total"][1]["r2shim_sent_bytes_total", (("source", "disk"),)] == 15000
    eventually(lambda: stack.proxy.metrics().get('r2shim_client_closes_total{reason="BAD_REQUEST"}') == 1, 5, "the close is counted")


def log_objects(stack):
    return [json.loads(line) for line in (stack.proxy.dir / "access.log").read_text().splitlines()]


def test_access_log_json(make_stack):
    """Each line is an object; a reload changes the form."""
    stack = make_stack(migrators=0)
    stack.write("a b.txt", b"12345")
    stack.start()
    stack.proxy.climb("dual-write")
    (stack.proxy.dir / "access.log").write_text("")
    stack.proxy.write_conf(proxy='access-log-format = "json";')
    assert stack.proxy.admin("/reload", "POST").status == 200
    agent = 'a"g\\ent \u00e9'.encode().decode("latin-1")
    with stack.client() as http:
        http.request("GET", "/media/a%20b.txt?x=1", headers={"Referer": "http://r/", "User-Agent": agent})
        http.head("/media/no.txt?X-Amz-Signature=secret")
    raw(stack.proxy.address, b"nonsense\r\n\r\n")
    eventually(lambda: len(log_objects(stack)) == 3, 5, "three lines")
    first, second, third = log_objects(stack)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert 0 < first.pop("seconds") < 10
    assert first == {"client": "127.0.0.1", "method": "GET", "target": "/media/a%20b.txt?x=1", "protocol": "HTTP/1.1",
                     "status": 200, "bytes": 5, "referer": "http://r/", "agent": 'a"g\\ent \u00e9', "phase": "dual-write",
                     "route": "read", "source": "disk", "complete": True}
    assert (second["method"], second["target"], second["status"], second["source"]) == ("HEAD", "/media/no.txt?-", 404, "self")
    assert "referer" not in second
    assert (third["route"], third["status"]) == ("malformed", 400) and "target" not in third


def test_rotation_under_load(make_stack):
    """rename, then SIGUSR1 or SIGHUP, again and again: each request is in one file, once and whole."""
    stack = make_stack(migrators=0).start()
    log = stack.proxy.dir / "access.log"
    sent, ended = [[] for _ in range(4)], threading.Event()

    def load(number):
        with Client(stack.proxy.address) as http:
            while not ended.is_set():
                target = f"/ping/?{number}-{len(sent[number])}"
                assert http.get(target).status == 200
                sent[number].append(target)
    crew = [threading.Thread(target=load, args=(number,)) for number in range(len(sent))]
    for one in crew:
        one.start()
    for turn in range(20):
        log.rename(log.with_name(f"access.log.{turn}"))
        stack.proxy.signal(signal.SIGUSR1 if turn % 2 else signal.SIGHUP)
        eventually(lambda: log.exists() and log.stat().st_size > 0, 10, "a new file with lines")
    ended.set()
    for one in crew:
        one.join()
    wanted = Counter(target for targets in sent for target in targets)

    def seen():
        lines = [line for file in stack.proxy.dir.glob("access.log*") for line in file.read_text().splitlines()]
        return Counter(re.fullmatch(r'\S+ - - \[[^]]+\] "GET (\S+) HTTP/1.1" 200 5 "-" "-" passthrough upstream [0-9.]+', line)[1]
                       for line in lines)
    eventually(lambda: seen() == wanted, 5, "every request, once")
    assert len(wanted) > 100
