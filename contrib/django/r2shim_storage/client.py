"""HTTP towards the proxy: over TCP or a Unix socket, a connection for each request, standard library only.

A connection costs little on a loopback or a socket, and an old one that the proxy has closed meanwhile is never met. What is tried
again: anything, while nothing was sent (the proxy is being restarted); after that only what changes nothing, and DELETE, which does no
more the second time. A PUT whose answer is lost is not repeated: nobody knows whether it was carried out, and the caller hears of it.
"""
import errno
import http.client
import socket
import time

PAUSES = (0.1, 0.3, 1.0)
BUSY = (502, 503, 504)
REPEATABLE = ("GET", "HEAD", "DELETE")
PIECE = 1 << 16


class ProxyError(OSError):
    """The proxy did not do it. status: its answer, None without one."""

    def __init__(self, code, text, status=None):
        super().__init__(code, text)
        self.status = status


class Denied(ProxyError, PermissionError):
    pass


class Missing(ProxyError, FileNotFoundError):
    pass


class InTheWay(ProxyError, FileExistsError):
    pass


class Taken(InTheWay):
    """412: there is such a file already."""


class Full(ProxyError):
    pass


ERRORS = {
    401: (Denied, errno.EACCES), 403: (Denied, errno.EACCES), 404: (Missing, errno.ENOENT), 405: (Denied, errno.EACCES),
    409: (InTheWay, errno.EEXIST), 412: (Taken, errno.EEXIST), 413: (ProxyError, errno.EFBIG), 507: (Full, errno.ENOSPC),
}


class Connection(http.client.HTTPConnection):
    """http.client's, over any address: ("host", port) or "/path/of/a/socket"."""

    def __init__(self, address, timeout):
        super().__init__("localhost", timeout=timeout)
        self.address = address

    def connect(self):
        if isinstance(self.address, str):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self.address)
        else:
            self.sock = socket.create_connection(self.address, self.timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Body:
    """What is sent: pieces of bytes. length None: unknown, sent in chunks."""

    def __init__(self, pieces, length=None):
        self.pieces, self.length = pieces, length

    def send(self, connection):
        sent = 0
        for piece in self.pieces:
            sent += len(piece)
            if self.length is None and piece:
                connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            elif piece:
                if sent > self.length:
                    break
                connection.send(piece)
        if self.length is None:
            connection.send(b"0\r\n\r\n")
        elif sent != self.length:
            # The proxy stores nothing of a body that is cut.
            raise ValueError(f"the content is not as long as it says: {self.length} bytes")


class Client:
    def __init__(self, address, token, host=None, timeout=60):
        self.address, self.token, self.host, self.timeout = address, token, host, timeout

    def request(self, method, target, body=None, headers=None, expect=(200,)):
        """The answer, whose status is one of `expect`; anything else raises. Close it."""
        for pause in (*PAUSES, None):
            try:
                answer = self.once(method, target, body, headers)
            except (OSError, http.client.HTTPException) as e:
                again = getattr(e, "unsent", False) or method in REPEATABLE
                if again and pause is not None:
                    time.sleep(pause)
                    continue
                if isinstance(e, ProxyError):
                    raise
                raise ProxyError(getattr(e, "errno", None) or errno.EIO, f"{method} {target}: {type(e).__name__}: {e}") from e
            if answer.status in expect:
                return answer
            error = self.error(method, target, answer)
            if answer.status in BUSY and method in REPEATABLE and pause is not None:
                time.sleep(pause)
                continue
            raise error
        raise AssertionError("not reached")

    def once(self, method, target, body, headers):
        connection = Connection(self.address, self.timeout)
        try:
            connection.connect()
        except OSError as e:
            connection.close()
            e.unsent = True
            raise
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", self.host or "localhost")
            connection.putheader("Connection", "close")
            if self.token:
                connection.putheader("Authorization", f"Bearer {self.token}")
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None and body.length is None:
                connection.putheader("Transfer-Encoding", "chunked")
            elif body is not None:
                connection.putheader("Content-Length", str(body.length))
            connection.endheaders()
            if body is not None:
                try:
                    body.send(connection)
                except (BrokenPipeError, ConnectionResetError):
                    pass	# it has answered already, and takes no more
            answer = connection.getresponse()
            answer.connection = connection
            return answer
        except BaseException:
            connection.close()
            raise

    @staticmethod
    def error(method, target, answer):
        try:
            text = answer.read(1000).decode("utf-8", "replace").strip()
        except (OSError, http.client.HTTPException):
            text = ""
        close(answer)
        kind, code = ERRORS.get(answer.status, (ProxyError, errno.EIO))
        return kind(code, f"{method} {target}: {text or answer.status}", answer.status)


def pieces(answer, length):
    """The body; an answer that was cut raises."""
    got = 0
    while True:
        try:
            piece = answer.read(PIECE)
        except (OSError, http.client.HTTPException) as e:
            raise ProxyError(errno.EIO, f"the answer was cut: {e}") from e
        if not piece:
            break
        got += len(piece)
        yield piece
    if length is not None and got != length:
        raise ProxyError(errno.EIO, f"the answer was cut after {got} of {length} bytes")


def close(answer):
    answer.close()
    answer.connection.close()
