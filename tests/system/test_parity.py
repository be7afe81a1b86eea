"""A site's nginx and r2shim before it are asked the same, in every phase that serves media otherwise than the last: the same answers.

The files lie below one nginx, which serves them by itself and is r2shim's upstream too: what an operator has before and after r2shim is
installed. Between our own phases nothing may differ, not even the order of the headers. What differs from nginx stands in DIFFERENCES and,
with the same reasons, in docs/parity.md; a row that explains nothing any more fails.
"""
import os
import re
import urllib.parse
from email.utils import formatdate

from harness import TOP
from history import content
from parity import ask, differences, etag, part, request

PHASES = ["dual-write", "read-r2", "r2-primary"]
MTIME = 1_700_000_000
BIG = "big.bin"		# more than one sendfile's or one R2 read's worth
FILES = {
    "a.txt": 5000, "empty.css": 0, "one.html": 1, "page.html": 700, "script.js": 300, "style.css": 40, "data.json": 17, "drawing.svg": 900,
    "photo.jpg": 20_000, "photo.JPG": 21_000, "film.mp4": 70_000, "book.pdf": 4000, "archive.tar.gz": 3000, "text.gz": 2000,
    "font.woff2": 2500, "feed.xml": 100, "no-extension": 60, ".hidden": 61, "unknown.r2s": 62, "dots...txt": 63, "t.": 64,
    "-dash.txt": 65, "a b.txt": 66, "a+b.txt": 67, "a%20b.txt": 68, "100%.txt": 69, "q?x=1.txt": 70, "h#f.txt": 71, "semi;v=1.txt": 72,
    "amp&.txt": 73, "back\\slash.txt": 74, "quote\"s'.txt": 75, "tab\tname.txt": 76, "line\nname.txt": 77, "star*.txt": 78,
    "caf\u00e9.txt": 79, "\u65e5\u672c.png": 80, "\U0001f600.webp": 81, "~tilde:.txt": 82, "br[ack]{et}.txt": 83, "pi|pe^`.txt": 84,
    "<tag>.html": 85, "a,b.txt": 86, "deep/er/and/deeper/file.txt": 87, "dir/index.html": 88, "x" * 200 + ".txt": 89, BIG: 700_000,
}
OLD = {"one.html": 0, "style.css": 1, "book.pdf": 4_102_444_800}		# mtimes at the edges: the epoch, and 2100


def make_tree(stack):
    for number, (key, size) in enumerate(FILES.items()):
        stack.write(key, content(key, size))
        seconds = OLD.get(key, MTIME + number)
        # Both sides cut fractions off.
        os.utime(stack.media / key, ns=(seconds * 10**9 + 999_999_999,) * 2)


def quoted(key):
    return "/media/" + urllib.parse.quote(key)


def cases():
    """(name, method, target, headers); some hundred."""
    for key in FILES:
        for method in ("GET", "HEAD"):
            yield request(f"{method} {key}", method, quoted(key))
        yield request(f"range of {key}", "GET", quoted(key), Range="bytes=3-40")
        yield request(f"unchanged {key}", "GET", quoted(key), If_None_Match=etag(OLD.get(key, MTIME + list(FILES).index(key)), FILES[key]))
    yield from ranges()
    yield from conditions()
    yield from encodings()
    yield from targets()
    for method in ("OPTIONS", "POST", "PATCH", "TRACE", "PROPFIND", "get", "FOO"):
        for target in ("/media/a.txt", "/media/not-there.txt", "/media/dir/"):
            yield request(f"{method} {target}", method, target)


RANGES = ["bytes=0-", "bytes=0-0", "bytes=10-19", "bytes=-1", "bytes=-7", "bytes=-5000", "bytes=-5001", "bytes=-99999", "bytes=4999-", "bytes=4999-4999",
          "bytes=4999-99999", "bytes=5000-", "bytes=9999-", "bytes=0-4999", "bytes=0-5000", "bytes=", "bytes=-", "bytes=-0", "bytes=5-4",
          "bytes=a-b", "bytes=1", "bytes=1-x", "bytes=--1", "bytes=1--2", "bytes=+1-2", "bytes=0x1-2", "bytes=18446744073709551615-",
          "bytes=18446744073709551616-", "bytes=0-18446744073709551616", "bytes=-18446744073709551616", "bytes=9223372036854775807-", "bytes=0-9223372036854775808",
          "bytes= 1-2", "bytes=1 - 2", "bytes=1-2 ", "bytes =1-2", "BYTES=1-2", "Bytes=1-2", "byte=1-2", "items=1-2", "bytes:1-2", "bytes", "none", "",
          "bytes=0-1,3-4", "bytes=0-1,9999-", "bytes=0-,0-,0-", "bytes=,1-2", "bytes=1-2,", "bytes=-1,-2", "bytes=9999-,8888-", "bytes=0-1, 3-4"]


def ranges():
    for value in RANGES:
        for method in ("GET", "HEAD"):
            yield request(f"{method} Range: {value}", method, "/media/a.txt", Range=value)
        yield request(f"empty Range: {value}", "GET", "/media/empty.css", Range=value)
    for value in ("bytes=0-699999", "bytes=100000-599999", "bytes=-650000", "bytes=699999-"):
        yield request(f"big Range: {value}", "GET", quoted(BIG), Range=value)


def conditions():
    good, modified = etag(MTIME, 5000), formatdate(MTIME, usegmt=True)
    earlier, later = formatdate(MTIME - 1, usegmt=True), formatdate(MTIME + 1, usegmt=True)
    tags = [good, f"W/{good}", '"other"', f'"other", {good}', f'{good},"other"', f'W/"other" , W/{good}', "*", "", "nonsense", good.strip('"'),
            good[:-1], f"{good}x", '""', f"w/{good}", f"{good} {good}", good.upper(), f" {good} ", ",", f",,{good}"]
    dates = [modified, earlier, later, "nonsense", "", "Sunday, 14-Nov-23 22:13:20 GMT", "Tuesday, 14-Nov-23 22:13:20 GMT", "Tue Nov 14 22:13:20 2023",
             modified.replace("GMT", "UTC"), modified.lower(), f"{modified}; length=5000", str(MTIME), "Thu, 01 Jan 1970 00:00:00 GMT",
             modified.replace("Tue", "Mon"), "Tue, 31 Feb 2023 00:00:00 GMT"]
    for value in tags:
        for name in ("If-None-Match", "If-Match"):
            for method in ("GET", "HEAD"):
                yield request(f"{method} {name}: {value}", method, "/media/a.txt", **{name: value})
        yield request(f"If-Range, a tag: {value}", "GET", "/media/a.txt", Range="bytes=1-2", If_Range=value)
    for value in dates:
        for name in ("If-Modified-Since", "If-Unmodified-Since"):
            for method in ("GET", "HEAD"):
                yield request(f"{method} {name}: {value}", method, "/media/a.txt", **{name: value})
        yield request(f"If-Range, a date: {value}", "GET", "/media/a.txt", Range="bytes=1-2", If_Range=value)
    both = {"match": {"If-Match": good}, "other match": {"If-Match": '"other"'}, "none": {"If-None-Match": good}, "other none": {"If-None-Match": '"other"'},
            "since": {"If-Modified-Since": modified}, "since later": {"If-Modified-Since": later}, "unmodified": {"If-Unmodified-Since": modified},
            "unmodified earlier": {"If-Unmodified-Since": earlier}, "range": {"Range": "bytes=1-2"}, "bad range": {"Range": "bytes=9999-"},
            "if-range": {"Range": "bytes=1-2", "If-Range": good}, "other if-range": {"Range": "bytes=1-2", "If-Range": '"other"'},
            "if-range without a range": {"If-Range": good}}
    for one, left in both.items():
        for two, right in both.items():
            if one < two and not left.keys() & right.keys():
                yield request(f"{one}, {two}", "GET", "/media/a.txt", **left, **right)
    for name in ("If-None-Match", "If-Match", "If-Modified-Since"):
        yield request(f"{name} of what is not there", "GET", "/media/not-there.txt", **{name: good if "Match" in name else modified})
    yield request("If-None-Match: * of what is not there", "GET", "/media/not-there.txt", If_None_Match="*")
    yield request("If-Match: * of what is not there", "GET", "/media/not-there.txt", If_Match="*")


def encodings():
    for value in ("gzip", "br", "gzip, br", "identity", "*;q=0", "identity;q=0", "gzip;q=0"):
        for key in ("a.txt", "text.gz", "archive.tar.gz", "page.html"):
            yield request(f"Accept-Encoding: {value} of {key}", "GET", quoted(key), Accept_Encoding=value)
    yield request("Accept of another type", "GET", "/media/a.txt", Accept="image/png")
    yield request("with a query", "GET", "/media/a.txt?v=1&response-content-type=text/html")
    yield request("with cookies and credentials", "GET", "/media/a.txt", Cookie="a=b", Authorization="Basic eDp5")
    yield request("TE: gzip", "GET", "/media/a.txt", TE="gzip")


def targets():
    for target in ("/media/dir", "/media/dir/", "/media/", "/media", "/media/not-there.txt", "/media/dir/not-there.txt", "/media/not/there/", "/media/a.txt/",
                   "/media/a.txt/x", "/media/./a.txt", "/media//a.txt", "//media/a.txt", "/media/dir/../a.txt", "/media/dir/%2e%2e/a.txt", "/media/dir%2findex.html",
                   "/%6dedia/a.txt", "/media/%61.txt", "/media/../media/a.txt", "/media/..", "/..", "/media/a%2Etxt", "/media/A.txt", "/media/a.txt%20", "/media/%",
                   "/media/%4", "/media/%zz.txt", "/media/a%00.txt", "/media/caf\u00e9.txt", "/media/a\x01.txt", "/media/a\x7f.txt", "/media/a.txt#b",
                   "/media/cafe%CC%81.txt", "/media/l%E9.txt", "/media/\\a.txt", "/media/a.txt?", "/media/a.txt??", "/media/a.txt?%zz", "/media/" + "y" * 256,
                   "/media/" + "y/" * 200, "http://site/media/a.txt", "http://site/media/dir/../a.txt", "http://site", "*", "media/a.txt", "/", "/ping-nginx",
                   "/media/100%25.txt", "/media/a%2520b.txt", "/media/a%20b.txt", "/media/a%2Bb.txt", "/media/q%3Fx=1.txt", "/media/h%23f.txt"):
        for method in ("GET", "HEAD"):
            yield request(f"{method} {target}", method, target)
    yield request("HTTP/1.0", "GET", "/media/a.txt", version="1.0")
    yield request("HTTP/1.0 without Host", "GET", "/media/a.txt", version="1.0", Host=None)
    yield request("HTTP/1.1 without Host", "GET", "/media/a.txt", Host=None)
    yield request("a body with GET", "GET", "/media/a.txt", body=b"12345", Content_Length="5")
    yield request("two ranges in two headers", "GET", "/media/a.txt", more=[("Range", "bytes=0-1"), ("Range", "bytes=3-4")])
    yield request("two If-None-Match", "GET", "/media/a.txt", more=[("If-None-Match", '"a"'), ("If-None-Match", etag(MTIME, 5000))])
    yield request("two If-Modified-Since", "GET", "/media/a.txt",
                      more=[("If-Modified-Since", formatdate(MTIME, usegmt=True)), ("If-Modified-Since", formatdate(0, usegmt=True))])


ERROR_PAGE = {"body", "content-type", "content-length"}
TYPES = {("application/javascript", "text/javascript"), ("text/xml", "application/xml"), ("application/octet-stream", "application/gzip"),
         ("application/octet-stream", "text/plain")}


def types(answer):
    return next((value for name, value in answer.headers if name == "Content-Type"), None)


def header(case, name):
    return [value for key, value in case.headers if key == name]


def statuses(theirs, ours, *pairs):
    return (theirs.status, ours.status) in pairs


# What may differ from nginx: in a case for which the condition holds, so much (None: the whole answer), and why, as docs/parity.md says.
DIFFERENCES = [
    ("error pages", ERROR_PAGE, lambda c, n, r: n.status == r.status >= 400,
     "nginx's error pages are HTML with its name; ours are a line of text, or nothing"),
    ("no-store", {"cache-control"}, lambda c, n, r: n.status == r.status and ("Cache-Control", "no-store") in r.headers and r.status in (400, 404),
     "no cache may remember that a file is missing: it may be uploaded the next second"),
    ("types", {"content-type"}, lambda c, n, r: n.status == r.status and (types(n), types(r)) in TYPES,
     "nginx has a table of its own; ours is the system's, so that objects in R2 have the types that other programs give them"),
    ("several ranges", None, lambda c, n, r: "," in "".join(header(c, "Range")) and statuses(n, r, (206, 200), (416, 200)),
     "R2 takes a single range; RFC 9110 14.2 lets a server ignore the header, and range bombs come to nothing"),
    ("Range twice", None, lambda c, n, r: len(header(c, "Range")) == 2 and statuses(n, r, (206, 200)),
     "nginx takes the first; two are several ranges"),
    ("an empty range", None, lambda c, n, r: header(c, "Range") == ["bytes="] and statuses(n, r, (200, 416)),
     "nginx ignores `bytes=`; it is malformed, as all that it answers with 416"),
    ("spaces in a range", None, lambda c, n, r: " - " in "".join(header(c, "Range")) and statuses(n, r, (206, 416)),
     "RFC 9110 14.1.1 has none within a range"),
    ("HEAD with a range", None, lambda c, n, r: c.method == "HEAD" and header(c, "Range") and r.status == 200 and n.status in (206, 416),
     "RFC 9110 14.2: Range means something for GET only"),
    ("ranges of an empty file", None, lambda c, n, r: "/empty." in c.target and header(c, "Range") and statuses(n, r, (200, 416)),
     "no range of nothing is satisfiable (RFC 9110 14.1.2); nginx answers so too, unless the range begins at 0"),
    ("two conditions", None, lambda c, n, r: header(c, "If-None-Match") and header(c, "If-Modified-Since") and statuses(n, r, (200, 304)),
     "RFC 9110 13.1.3: If-None-Match decides, If-Modified-Since is not looked at; nginx asks for both"),
    ("two preconditions", None, lambda c, n, r: header(c, "If-Match") and header(c, "If-Unmodified-Since") and statuses(n, r, (412, 200)),
     "RFC 9110 13.1.4: If-Match decides, If-Unmodified-Since is not looked at; nginx asks for both"),
    ("malformed dates", None, lambda c, n, r: header(c, "If-Unmodified-Since") and statuses(n, r, (412, 200)),
     "RFC 9110 13.1.4: a condition that is no date is ignored; for nginx it does not hold"),
    ("nearly dates", None, lambda c, n, r: header(c, "If-Modified-Since") and statuses(n, r, (304, 200)) or header(c, "If-Range") and statuses(n, r, (206, 200)),
     "nginx takes a date with another zone, a wrong day or something behind it; ours must be one of the three forms of RFC 9110 5.6.7"),
    ("a condition twice", None, lambda c, n, r: c.name.startswith("two If-") and statuses(n, r, (400, 304), (400, 200)),
     "nginx refuses repeated headers; RFC 9110 5.3 makes one list of If-None-Match, two dates are none"),
    ("folders", None, lambda c, n, r: statuses(n, r, (301, 404)),
     "R2 has no folders: without its slash a folder's name is no file's; with it, it goes to the upstream"),
    ("malformed targets", None, lambda c, n, r: statuses(n, r, (200, 400)) and any(char == "#" or ord(char) > 126 for char in c.target),
     "bytes that may not stand in a request target (RFC 9112 3.2) are read differently by each server"),
]


def check_sound(case, answer):
    """What can be said of an answer without nginx."""
    key = urllib.parse.unquote(case.target[len("/media/"):])
    length = header(answer, "Content-Length")
    if case.method == "HEAD" or answer.status == 304:
        assert answer.body == b"", (case, answer)
    elif length:
        assert length == [str(len(answer.body))], (case, answer)
    if case.method == "GET" and answer.status in (200, 206) and key in FILES:
        body = content(key, FILES[key])
        assert answer.body == (body if answer.status == 200 else part(answer, body)), (case, answer)


def explain(case, nginx, ours, used):
    """The names of what differs and is not in the table."""
    found = differences(nginx, ours)
    for name, fields, condition, _ in DIFFERENCES if found else ():
        if condition(case, nginx, ours):
            used.add(name)
            found = set() if fields is None else found - fields
    return found


SOURCES = {"passthrough": {"upstream"}, "dual-write": {"disk"}, "read-r2": {"r2"}, "r2-primary": {"r2"}}


def ask_all(stack, every, phase):
    """All answers in this phase; and each came from the side that the phase reads."""
    served = 'r2shim_media_served_total{source="%s"}'
    before = stack.proxy.metrics()
    answers = [ask(stack.proxy.address, case) for case in every]
    after = stack.proxy.metrics()
    sources = {name for name in ("disk", "r2") if after.get(served % name, 0) > before.get(served % name, 0)}
    assert sources == SOURCES[phase] - {"upstream"}, phase
    return answers


def check_passthrough(every, nginx, answers):
    """Only what is malformed is answered by us, and nginx numbers the parts' boundaries."""
    def plain(answer):
        return re.sub(r"\b\d{20}\b", "boundary", repr((answer.status, sorted(answer.headers), answer.body)))
    for case, theirs, ours in zip(every, nginx, answers):
        assert ours.status == 400 or plain(theirs) == plain(ours), (case, theirs, ours)
        if ours.status == 400 != theirs.status:
            assert not case.target.isascii() or "#" in case.target, case


def check_our_phases(every, answers):
    for phase in PHASES:
        apart = [(case.name, one.status, other.status, one.headers, other.headers)
                 for case, one, other in zip(every, answers[PHASES[0]], answers[phase]) if one != other]
        assert apart == [], (phase, len(apart))


def check_plainly(answers):
    """Said without nginx."""
    for target in ("/media/not-there.txt", "/media/dir"):
        assert answers[f"GET {target}"].status == 404 and ("Cache-Control", "no-store") in answers[f"GET {target}"].headers
    assert answers["GET Range: bytes=0-1,3-4"] == answers["GET a.txt"] and answers["GET Range: bytes="].status == 416
    for name, value in {"ETag": etag(MTIME, 5000), "Last-Modified": formatdate(MTIME, usegmt=True), "Content-Type": "text/plain", "Accept-Ranges": "bytes"}.items():
        assert header(answers["GET a.txt"], name) == [value]


def store_with_encoding(bucket, key):
    """As another program might have stored it: the same object, and a Content-Encoding."""
    kept = {name: value for name, value in bucket.head(key).items() if name.lower().startswith("x-amz-meta-") or name == "Content-Type"}
    bucket.put(key, bucket.get(key), {**kept, "Content-Encoding": "gzip"})
    assert bucket.head(key)["Content-Encoding"] == "gzip"


def test_A07_alike_in_every_phase_and_as_nginx(make_stack):
    stack = make_stack("webdav", migrators=1, prefixes='{ url = "/media/"; class = "public"; }')
    make_tree(stack)
    stack.start()
    every, used, answers = list(cases()), set(), {}
    assert len(every) > 600 and len({case.name for case in every}) == len(every)
    nginx = [ask(stack.nginx.address, case) for case in every]
    check_passthrough(every, nginx, ask_all(stack, every, "passthrough"))
    for phase in PHASES:
        stack.proxy.climb(phase)
        answers[phase] = ask_all(stack, every, phase)
    check_our_phases(every, answers)
    ours = answers[PHASES[0]]
    check_plainly({case.name: answer for case, answer in zip(every, ours)})
    for case, answer in zip(every, ours):
        check_sound(case, answer)
    unexplained = [(case.name, theirs.status, answer.status, sorted(found)) for case, theirs, answer in zip(every, nginx, ours)
                   if (found := explain(case, theirs, answer, used))]
    assert unexplained == [], "\n".join(map(str, unexplained))
    assert used == {row[0] for row in DIFFERENCES}
    for key in ("a.txt", "text.gz"):
        store_with_encoding(stack.bucket, key)
    assert ask_all(stack, every, "r2-primary") == ours


def test_what_differs_is_written_down():
    text = " ".join((TOP / "docs" / "parity.md").read_text().split())
    for name, _, _, reason in DIFFERENCES:
        assert f"| {name} |" in text and reason in text, name
