"""Small HTTP clients: keep-alive over TCP or a Unix socket, the sample site's forms, and raw bytes for odd requests.

Standard library only: the demo uses this file too.
"""
import hashlib
import http.client
import json
import select
import socket
import time
import uuid


def dial(address, timeout):
    """Connects to (host, port), "host:port", or "unix:/path"."""
    if isinstance(address, str) and address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect(address[5:])
        except BaseException:
            sock.close()
            raise
        return sock
    if isinstance(address, str):
        host, _, port = address.rpartition(":")
        address = (host.strip("[]"), int(port))
    sock = socket.create_connection(address, timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Connection(http.client.HTTPConnection):
    """http.client's connection, over any address that dial() takes. tls: (an ssl.SSLContext, the server's name), or None."""

    def __init__(self, address, timeout, tls=None):
        super().__init__(tls[1] if tls else "localhost", timeout=timeout)
        self.address, self.tls = address, tls

    def connect(self):
        self.sock = dial(self.address, self.timeout)
        if self.tls:
            context, name = self.tls
            self.sock = context.wrap_socket(self.sock, server_hostname=name)


class Response:
    """A whole answer; headers is case-insensitive (email.message.Message). Of a body that was only to be digested,
    body holds the first bytes."""

    def __init__(self, status, headers, body, length=None, sha256=None):
        self.status, self.headers, self.body = status, headers, body
        self.length = len(body) if length is None else length
        self.sha256 = sha256 or hashlib.sha256(body).hexdigest()

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<Response {self.status} {self.length} bytes {self.body[:200]!r}>"


class Cut(OSError):
    """The connection was refused, cut, timed out, or the answer was not whole HTTP. sent tells whether anything of the
    request can have arrived; if so its outcome is unknown."""

    def __init__(self, text, sent=True):
        super().__init__(text)
        self.sent = sent


class Client:
    """One keep-alive connection. A connection that the server closed while it was idle is opened anew; one that
    breaks after the first byte was sent raises Cut, never a silent second try."""

    def __init__(self, address, timeout=60, tls=None):
        self.address, self.timeout, self.tls = address, timeout, tls
        self.conn = None
        self.connects = 0

    def request(self, method, target, body=None, headers=None, digest_only=False):
        if self.conn is not None and self.stale():
            self.close()
        sent = False
        try:
            if self.conn is None:
                self.conn = Connection(self.address, self.timeout, self.tls)
                self.conn.connect()
                self.connects += 1
            sent = True
            self.conn.request(method, target, body, headers or {})
            answer = self.conn.getresponse()
            result = self.digested(answer) if digest_only else Response(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException) as e:
            self.close()
            raise Cut(f"{method} {target}: {type(e).__name__}: {e}", sent) from e
        if answer.will_close:
            self.close()
        return result

    @staticmethod
    def digested(answer):
        """Big bodies are not held in memory."""
        digest, length, first = hashlib.sha256(), 0, b""
        while piece := answer.read(1 << 18):
            first = first or piece[:256]
            digest.update(piece)
            length += len(piece)
        if answer.length:		# http.client says so only when read() has no size
            raise http.client.IncompleteRead(first, answer.length)
        return Response(answer.status, answer.headers, first, length, digest.hexdigest())

    def stale(self):
        return bool(self.conn.sock is None or select.select([self.conn.sock], [], [], 0)[0])

    def close(self):
        if self.conn is not None:
            self.conn.close()
            self.conn = None

    def get(self, target, **headers):
        return self.request("GET", target, headers=named(headers))

    def head(self, target, **headers):
        return self.request("HEAD", target, headers=named(headers))

    def put(self, target, body, **headers):
        return self.request("PUT", target, body, named(headers))

    def delete(self, target, **headers):
        return self.request("DELETE", target, headers=named(headers))

    def form(self, target, fields, files, **headers):
        """POST as a browser's form does; files: {field: (file name, bytes)}."""
        body, content_type = multipart(fields, files)
        return self.request("POST", target, body, {"Content-Type": content_type, **named(headers)})

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class SiteClient(Client):
    """The sample site's requests. Each returns the Response; .json() of a good one has id, name, url, size."""

    def upload(self, name, content, folder="documents", picture=None, **headers):
        files = {"file": (name, content)}
        if picture is not None:
            files["picture"] = picture
        return self.form("/upload/", {"title": name, "folder": folder}, files, **headers)

    def replace(self, ident, name, content):
        return self.form(f"/replace/{ident}/", {}, {"file": (name, content)})

    def overwrite(self, ident, content, mode="rename"):
        return self.form(f"/overwrite/{ident}/", {"mode": mode}, {"file": ("new.bin", content)})

    def remove(self, ident):
        return self.form(f"/delete/{ident}/", {}, {})


def named(headers):
    """Content_Type=... -> {"Content-Type": ...}"""
    return {name.replace("_", "-"): value for name, value in headers.items()}


def multipart(fields, files):
    """A multipart/form-data body and its Content-Type."""
    boundary = uuid.uuid4().hex
    parts = []
    for name, value in fields.items():
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    for name, (filename, content) in files.items():
        quoted = filename.replace("\\", "\\\\").replace('"', "%22")
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{quoted}"\r\n'
                     "Content-Type: application/octet-stream\r\n\r\n".encode())
        parts += [content, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


def raw(address, data, timeout=10, until_close=True):
    """Sends bytes as they are and returns what comes back: up to the close, or the first chunk."""
    with dial(address, timeout) as sock:
        sock.sendall(data)
        got, deadline = b"", time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                chunk = sock.recv(65536)
            except ConnectionResetError:
                break
            got += chunk
            if not chunk or not until_close:
                break
        return got


def raw_status(address, method, target, headers=b"", timeout=10):
    """The status of a request whose target is sent byte for byte."""
    if isinstance(target, str):
        target = target.encode()
    answer = raw(address, method.encode() + b" " + target + b" HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
                 + headers + b"\r\n", timeout)
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else None
