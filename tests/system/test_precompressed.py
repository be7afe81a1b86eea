"""precompressed: x.br and x.gz in place of x, alike from both sides."""
import pytest

from history import content

PREFIXES = """{ url = "/media/"; class = "public"; },
  { url = "/media/c/"; class = "public"; cache-control = "max-age=9"; precompressed = [ "br", "gzip" ]; }"""
NAMES = ("Content-Type", "Content-Encoding", "Content-Length", "Content-Range", "ETag", "Last-Modified", "Vary", "Cache-Control", "Accept-Ranges")
LONG = "c/" + "n" * 253		# with ".br" no name that a file system takes


@pytest.mark.parametrize("last", ["validate", "r2-primary"])
def test_siblings(make_stack, last):
    stack = make_stack(migrators=1, prefixes=PREFIXES, media_extra='types = [ "odd text/x-odd" ];')
    files = {key: content(key, size) for key, size in (("c/a.odd", 30_000), ("c/a.odd.gz", 9000), ("c/a.odd.br", 7000), ("c/gz.css", 5000),
                                                       ("c/gz.css.gz", 3000), ("c/bare.css", 4000), ("d.css", 1000), ("d.css.gz", 500),
                                                       (LONG, 100))}
    for key, body in files.items():
        stack.write(key, body)
    stack.start()

    def ask():
        answers = []

        def get(key, accept, method="GET", **headers):
            answer = http.request(method, f"/media/{key}", headers={**({"Accept-Encoding": accept} if accept is not None else {}), **headers})
            answers.append((answer.status, answer.sha256, *(answer.headers[name] for name in NAMES)))
            return answer
        with stack.client() as http:
            for accept, end in ((None, ""), ("gzip, br", ".br"), ("gzip", ".gz"), ("br;q=0, *", ".gz"), ("gzip;q=0.3, br;q=0.2", ".gz"),
                                ("identity, gzip;q=0.5", "")):
                answer = get("c/a.odd", accept)
                assert (answer.status, answer.body) == (200, files["c/a.odd" + end]), accept
                assert answer.headers["Content-Encoding"] == {"": None, ".br": "br", ".gz": "gzip"}[end]
                assert answer.headers["Content-Type"] == "text/x-odd" and answer.headers["Vary"] == "Accept-Encoding"
            assert get("c/a.odd", "br", Range="bytes=10-19").body == files["c/a.odd.br"][10:20]
            etag = get("c/a.odd", "br", "HEAD").headers["ETag"]
            same = get("c/a.odd", "br", **{"If-None-Match": etag})
            assert (same.status, same.headers["Vary"], same.headers["Content-Encoding"]) == (304, "Accept-Encoding", None)
            assert get("c/a.odd", "gzip", **{"If-None-Match": etag}).body == files["c/a.odd.gz"]
            assert get("c/a.odd", "gzip", Range="bytes=1-2", **{"If-Range": etag}).status == 200
            assert get("c/gz.css", "br, gzip").body == files["c/gz.css.gz"]
            assert get("c/bare.css", "br, gzip").body == files["c/bare.css"]
            assert get(LONG, "br, gzip").body == files[LONG]
            # Asked for by its own name it is what it is.
            itself = get("c/a.odd.gz", "br, gzip")
            assert (itself.body, itself.headers["Content-Encoding"], itself.headers["Content-Type"]) == (files["c/a.odd.gz"], None, "application/gzip")
            # Another prefix.
            other = get("d.css", "gzip")
            assert (other.body, other.headers["Vary"]) == (files["d.css"], None)
            assert get("c/no.css", "br, gzip").status == 404
        return answers
    stack.proxy.climb("dual-write")
    from_disk = ask()
    stack.proxy.climb(last)
    assert ask() == from_disk
    metrics = stack.proxy.metrics()
    assert metrics["r2shim_validate_violations_total"] == 0
    # The one file that is nowhere; in r2-primary R2's word is final.
    assert metrics.get('r2shim_media_fallbacks_total{reason="NOTFOUND"}', 0) == (1 if last == "validate" else 0)
    assert metrics['r2shim_media_served_total{source="r2"}'] == len(from_disk) - 1
