"""The cases of tests/wire: bytes on the wire, and what must become of them."""
import re
from collections import namedtuple
from random import Random

from harness import TOP
from web import dial

FOLDER = TOP / "tests" / "wire"
Case = namedtuple("Case", "id verdict section data")
Answer = namedtuple("Answer", "status headers body")
ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "s": b" ", "0": b"\0", "\\": b"\\", "{": b"{", "}": b"}"}
PIECE = re.compile(rb"\\x([0-9a-f]{2})|\\(.)|\{(\d+)\*((?:[^{}\\]|\\.)*)\}|\$([A-Z])|([^\\${]+)|([${])", re.DOTALL)
CLOSES, LATER = b"\xffclose\xff", b"\xfflater\xff"		# marks within an answer's bytes
ALPHABET = b"abcdefghijklmnopqrstuvwxyz"


def unescape(text, macros):
    """The bytes that a case's last field stands for."""
    out, at = [], 0
    while at < len(text):
        found = PIECE.match(text, at)
        assert found, text[at:at + 40]
        byte, escape, times, repeated, macro, plain, lone = found.groups()
        at = found.end()
        out.append(bytes.fromhex(byte.decode()) if byte else ESCAPES[escape.decode()] if escape else unescape(repeated, macros) * int(times) if times
                   else macros[macro.decode()] if macro else plain or lone)
    return b"".join(out)


def cases(name):
    """All of a file, in its order."""
    found = []
    for line in (FOLDER / name).read_bytes().splitlines():
        if not line or line.startswith(b"#"):
            continue
        ident, verdict, section, text = re.fullmatch(rb"(\S+) +(\S+) +(\S+) *(.*)", line).groups()
        macros = {"H": b"Host: site\r\n", "V": b" HTTP/1.1\r\n", "T": b"/" + ident, "S": b"HTTP/1.1 200 OK\r\n", "Z": CLOSES, "L": LATER}
        found.append(Case(ident.decode(), unescape(verdict, macros).decode("latin-1"), section.decode(), unescape(text, macros)))
    assert len({case.id for case in found}) == len(found)
    return found


def alphabet(length):
    """The body that a case sends."""
    return (ALPHABET * (length // 26 + 1))[:length]


def exchange(address, data):
    """Sends all, whatever comes back meanwhile: what came until the server ended it, and how that was: "closed", "reset" or, after 5 s, "open"."""
    got = b""
    with dial(address, 5) as sock:
        try:
            sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass		# refused before it was read to its end
        try:
            while piece := sock.recv(65536):
                got += piece
        except ConnectionResetError:
            return got, "reset"
        except TimeoutError:
            return got, "open"
    return got, "closed"


TOKENS = [b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b",", b";", b"0", b"00", b"-", b"+", b"_", b"\x0b", b"\x80", b"\xff", b"HTTP/1.0", b"chunked", b"gzip, ",
          b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Connection: close\r\n", b"Host: other\r\n",
          b"Expect: 100-continue\r\n", b"0\r\n\r\n", b"\r\n\r\n", b"GET /smuggled HTTP/1.1\r\nHost: site\r\n\r\n", b"3\r\nabc\r\n"]


def mutate(random, data, others):
    """Some changes of a message by chance; at most 4 KB."""
    for _ in range(random.randint(1, 2)):
        at, what = random.randrange(len(data) + 1), random.randrange(6)
        end = min(len(data), at + random.randint(1, 12))
        if what == 0:
            data = data[:at] + random.choice(TOKENS) + data[at:]
        elif what == 1:
            data = data[:at] + random.choice(TOKENS) + data[end:]
        elif what == 2:
            data = data[:at] + data[end:]
        elif what == 3:
            data = data[:at] + bytes([random.randrange(256)]) + data[at + 1:]
        elif what == 4:		# a line twice, or at another place
            lines = data.splitlines(True)
            if lines:
                lines.insert(random.randrange(len(lines) + 1), random.choice(lines))
            data = b"".join(lines)
        else:			# the beginning of one, the end of another
            other = random.choice(others)
            data = data[:at] + other[random.randrange(len(other) + 1):]
    return data[:4096]


def mutations(seed, count, name="requests.txt"):
    """count messages made of the cases; the same seed gives the same ones."""
    random = Random(seed)
    every = [case for case in cases(name) if len(case.data) <= 4096]
    # Of a malformed one a sound one seldom comes.
    good = [case.data for case in every if ":" in case.verdict]
    seeds = [case.data for case in every]
    return [mutate(random, random.choice(good if random.random() < 0.8 else seeds), seeds) for _ in range(count)]


def take_answer(data, to_head):
    """The first answer of the bytes, and what is behind it. Interim ones are left out. AssertionError if it is none, or not whole."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    assert separator and head.startswith(b"HTTP/1.1 "), data[:200]
    first, *lines = head.decode("latin-1").split("\r\n")
    status, headers = int(first.split()[1]), [tuple(line.split(": ", 1)) for line in lines]
    if status < 200:
        return take_answer(rest, to_head)
    length = [int(value) for name, value in headers if name.lower() == "content-length"]
    bodyless = to_head or status in (204, 304)
    assert len(length) == 1 or bodyless, head
    size = 0 if bodyless else length[0]
    assert len(rest) >= size, (head, rest[:200])
    return Answer(status, headers, rest[:size]), rest[size:]
