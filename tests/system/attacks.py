"""Requests of somebody who wants to read what is not his, some hundred of them, as they go over the wire."""
import urllib.parse
from collections import namedtuple

Attack = namedtuple("Attack", "name data")
METHODS = ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "REPORT", "SEARCH", "COPY", "MOVE", "LOCK",
           "MKCOL", "VIEW", "get", "Get", "GETX"]
INSTEAD_OF_A_SLASH = ["//", "/./", "/%2e/", "/x/../", "/x/%2e%2e/", "/x/..%2f", "%2f", "%2F", "%5c", "\\", "/;/", "/.;/", "/%20/../", "%252f", "%c0%af",
                      "%ef%bc%8f", "/%00/", "/..%00/", "/\t/", "/#/"]
BEHIND = ["/", "/.", "/..", "/x", "%00", "%00.jpg", ".", "%20", "%09", "%0a", "%0d%0aX-Accel-Redirect:%20/protected/x", "?", "?x=1", "?by=sendfile", "#", "#x",
          ";x=1", ";.jpg", "%3b", "%3f", "%23", "~", ".gz", ".br", "%", "%2", "::$DATA", "/.r2shim-root"]
RANGES = ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=1-9", "bytes=0-1,3-4", "bytes=99999-", "bytes="]
HEADERS = [
    *({"Range": value} for value in RANGES),
    {"If-None-Match": "*"}, {"If-Match": "*"}, {"If-Match": '"x"'}, {"If-Modified-Since": "Thu, 01 Jan 2099 00:00:00 GMT"},
    {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, {"Range": "bytes=0-9", "If-Range": '"x"'},
    {"X-Accel-Redirect": "{internal}"}, {"x-accel-redirect": "{internal}"}, {"X_Accel_Redirect": "{internal}"}, {"X-Accel-Internal": "{internal}"},
    {"X-Sendfile": "{file}"}, {"X_Sendfile": "{file}"}, {"X-Lighttpd-Send-File": "{file}"},
    {"X-Sendfile-Type": "X-Accel-Redirect", "X-Accel-Mapping": "/=/protected/"}, {"X-Sendfile-Type": "X-Sendfile"},
    {"X-Original-URI": "/media/public.txt"}, {"X-Original-URL": "{internal}"}, {"X-Rewrite-URL": "{internal}"}, {"X-Original-Method": "OPTIONS"},
    {"X_Original_URI": "/media/asked/mallory/x"}, {"X-Forwarded-URI": "/media/asked/mallory/x"}, {"X-Forwarded-Prefix": "/protected"},
    {"X-Http-Method-Override": "HEAD"}, {"X-Shim-Key": "{key}"}, {"X-Media-Stored": "{key}"}, {"X-Media-Deleted": "{key}"},
    {"Host": "127.0.0.1"}, {"Host": "localhost"}, {"Host": "admin"}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Real-IP": "127.0.0.1"},
    {"Forwarded": "for=127.0.0.1;by=unix"}, {"X-Forwarded-Host": "localhost"}, {"Via": "1.1 r2shim"},
    {"Authorization": "Bearer x"}, {"Authorization": "Basic YWxpY2U6"}, {"Authorization": "AWS4-HMAC-SHA256 Credential=x"},
    {"Cookie": "user=alice"}, {"Cookie": "user=alice:1:x"}, {"Cookie": 'user="alice"; user=alice'},
    {"Connection": "X-Original-URI"}, {"Connection": "X-Original-URI, X-Original-Method, X-Forwarded-For"}, {"Connection": "Cookie"},
    {"Connection": "Authorization"}, {"Connection": "Host"}, {"Connection": "X-Accel-Redirect"}, {"Upgrade": "h2c", "Connection": "Upgrade"},
    {"Expect": "100-continue"}, {"TE": "trailers"}, {"X-Amz-Date": "x", "X-Amz-Security-Token": "x"}, {"Accept-Encoding": "gzip, br"},
    {"Cache-Control": "only-if-cached"}, {"Destination": "/media/public.txt"},
]


def wire(method, target, headers=(), body=b""):
    lines = {"Host": "site", **dict(headers)}
    if lines.get("Connection") != "keep-alive":
        lines["Connection"] = ", ".join([*lines.get("Connection", "").split(", "), "close"]).removeprefix(", ")
    if body:
        lines["Content-Length"] = len(body)
    head = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
    return "\r\n".join([*head, "", ""]).encode("utf-8", "surrogateescape") + body


def spellings(url):
    """The path in other words; url: decoded, with a folder before the name."""
    plain = urllib.parse.quote(url)
    slashes = [i for i, c in enumerate(plain) if c == "/"]
    yield plain
    for at in slashes:
        for other in INSTEAD_OF_A_SLASH:
            yield plain[:at] + other + plain[at + 1:]
    for at, c in enumerate(plain):
        if c.isalnum() and "%" not in plain[max(0, at - 2):at]:
            yield plain[:at] + f"%{ord(c):02x}" + plain[at + 1:]
            yield plain[:at] + f"%25{ord(c):02x}" + plain[at + 1:]
    yield "".join(f"%{ord(c):02X}" if c != "/" else c for c in url if ord(c) < 0x80)
    yield "".join(f"%u{ord(c):04x}" if c != "/" else c for c in url)
    for changed in (url.upper(), url.title(), url.swapcase(), url.replace("K", "\u212a"), url.replace("\u00e9", "e\u0301"), url.replace("\u00e9", "e"),
                    url.replace("i", "\u0131"), url.replace("s", "\u017f"), url.replace(".", "\uff0e")):
        yield urllib.parse.quote(changed)
    for end in BEHIND:
        yield plain + end
    folder, name = plain.rsplit("/", 1)
    for target in (f"{folder}/x/../{name}", f"{folder}/../{folder.rsplit('/', 1)[1]}/{name}", f"/media/public.txt/..{plain.removeprefix('/media')}",
                   f"/x/..{plain}", f"/%2e%2e{plain}", f"/static/../..{plain}", f"//site{plain}", f"///{plain}", f"http://site{plain}", f"HTTP://SITE{plain}",
                   f"http://127.0.0.1{plain}", f"https://site{plain}", f"http://site@evil{plain}", f"http:{plain}", f"ftp://site{plain}", f"site{plain}",
                   plain[1:], f"*{plain}", f"{folder}/", folder, f"{folder}/.", f"{plain} HTTP/1.1\r\nX: ", f"/?{plain}", f"/media/?{plain}"):
        yield target


def attacks(urls, internal, media_root):
    """urls: of the files; internal: the URL path by which the application names the first; all decoded paths."""
    for url in [*urls, internal]:
        for target in dict.fromkeys(spellings(url)):
            yield Attack(f"GET {target!r}", wire("GET", target))
    for url in urls[:2]:
        plain, key = urllib.parse.quote(url), url.removeprefix("/media/")
        names = {"internal": urllib.parse.quote(internal), "key": urllib.parse.quote(key), "file": urllib.parse.quote(f"{media_root}/{key}")}
        for method in METHODS:
            for target in (plain, names["internal"]):
                body = b"x" if method in ("POST", "PUT", "PATCH", "PROPFIND") else b""
                yield Attack(f"{method} {target}", wire(method, target, {"Destination": "/media/taken.txt"} if method in ("COPY", "MOVE") else {}, body))
        for headers in HEADERS:
            lines = {name: value.format(**names) for name, value in headers.items()}
            for method, target in (("GET", plain), ("HEAD", plain), ("GET", names["internal"]), ("GET", "/media/public.txt")):
                yield Attack(f"{method} {target} {lines}", wire(method, target, lines))
        inner_request = wire("GET", names["internal"])
        for framing in ("Content-Length: 0\r\nContent-Length: {n}", "Content-Length: {n}\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked, identity",
                        "Transfer-Encoding : chunked", "Content-Length: +{n}", "Content-Length: {n}"):
            head = f"POST /ping/ HTTP/1.1\r\nHost: site\r\nConnection: close\r\n{framing.format(n=len(inner_request))}\r\n\r\n".encode()
            yield Attack(f"smuggled by {framing}", head + inner_request)
        yield Attack("pipelined", wire("GET", "/ping/", {"Connection": "keep-alive"}) + wire("GET", plain) + inner_request)
        yield Attack("HTTP/1.0", f"GET {plain} HTTP/1.0\r\n\r\n".encode())
        yield Attack("HTTP/0.9", f"GET {plain}\r\n\r\n".encode())
        yield Attack("two Hosts", f"GET {plain} HTTP/1.1\r\nHost: site\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
