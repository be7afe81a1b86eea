"""What test_parity.py compares: one request as it goes over the wire, its answer as it comes back, and where two answers differ."""
import re
from collections import namedtuple

from web import raw

Request = namedtuple("Request", "name method target headers data")
Answer = namedtuple("Answer", "status headers body raw")
CHANGING = ("date", "server", "connection")		# the clock's, the program's name, and the hop's


def etag(mtime, size):
    """nginx's form."""
    return f'"{mtime:x}-{size:x}"'


def request(name, method, target, *, version="1.1", body=b"", more=(), Host="site", **headers):
    """One request, for a connection of its own. Host=None leaves it out."""
    lines = ([("Host", Host)] if Host else []) + [(key.replace("_", "-"), value) for key, value in headers.items()] + list(more)
    head = f"{method} {target} HTTP/{version}\r\n" + "".join(f"{key}: {value}\r\n" for key, value in lines) + "Connection: close\r\n\r\n"
    return Request(name, method, target, lines, head.encode() + body)


def ask(address, case):
    data = raw(address, case.data)
    head, separator, body = data.partition(b"\r\n\r\n")
    assert separator and head.startswith(b"HTTP/1.1 "), (case, data[:200])
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = [tuple(line.split(": ", 1)) for line in lines]
    return Answer(int(status.split()[1]), [(name, value) for name, value in headers if name.lower() not in CHANGING], body, status)


def differences(one, other):
    """What differs between two answers: "status", "body", or a header's name in lower case; neither order nor case of the names counts."""
    found = {"status"} if one.status != other.status else set()
    if one.body != other.body:
        found.add("body")
    lists = [sorted((name.lower(), value) for name, value in answer.headers) for answer in (one, other)]
    return found | {name for name, _ in set(lists[0]) ^ set(lists[1])}


def part(answer, body):
    """The part of the body that the Content-Range of a 206 names."""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", dict(answer.headers)["Content-Range"])
    assert found and int(found[3]) == len(body), answer.headers
    return body[int(found[1]):int(found[2]) + 1]
