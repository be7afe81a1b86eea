"""Certificates of a test's own, made by openssl(1) as it runs: none is stored, so none ends."""
import select
import socketserver
import ssl
import subprocess
import threading

from web import dial

EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
RSA = ["-newkey", "rsa:2048"]


class Authority:
    """ca.pem in a folder, and what it signs."""

    def __init__(self, folder):
        self.dir = folder
        self.pem = folder / "ca.pem"
        openssl("req", "-x509", *EC, "-nodes", "-keyout", folder / "ca.key", "-out", self.pem, "-subj", "/CN=test authority")

    def sign(self, name, *hosts, days=30, key=EC):
        """NAME.pem and NAME.key (mode 0600), for the hosts ("DNS:a.example", "IP:127.0.0.1"); replaced if they are there, each at once."""
        new = {suffix: self.dir / f"{name}.{suffix}.new" for suffix in ("key", "pem")}
        openssl("req", "-x509", "-CA", self.pem, "-CAkey", self.dir / "ca.key", *key, "-nodes", "-keyout", new["key"],
                "-out", new["pem"], "-subj", f"/CN={name}", "-days", str(days), "-addext", "subjectAltName=" + ",".join(hosts),
                "-addext", "basicConstraints=critical,CA:false")
        new["key"].chmod(0o600)
        for suffix, path in new.items():
            path.rename(self.dir / f"{name}.{suffix}")
        return self.dir / f"{name}.pem", self.dir / f"{name}.key"

    def client(self):
        """A context for clients that believe this authority only."""
        context = ssl.create_default_context(cafile=self.pem)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def server(self, name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.dir / f"{name}.pem", self.dir / f"{name}.key")
        return context


class Terminator(socketserver.ThreadingTCPServer):
    """TLS in front of a server that speaks none. In a with block; https://localhost:PORT is its endpoint."""
    daemon_threads, allow_reuse_address = True, True

    def __init__(self, context, behind):
        super().__init__(("127.0.0.1", 0), None)
        self.context, self.behind = context, behind
        self.endpoint = f"https://localhost:{self.server_address[1]}"
        self.connections = 0

    def finish_request(self, request, client_address):
        """On the connection's own thread."""
        try:
            with self.context.wrap_socket(request, server_side=True) as front, dial(self.behind, 60) as back:
                self.connections += 1
                while not self.carry(front, back):
                    pass
        except OSError:		# whoever was refused, or went
            pass

    @staticmethod
    def carry(front, back):
        """What has come from either end, to the other; True: one has closed."""
        ready = [front] if front.pending() else select.select([front, back], [], [])[0]
        for end in ready:
            piece = end.recv(65536)
            if not piece:
                return True
            (back if end is front else front).sendall(piece)
        return False

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.shutdown()
        self.thread.join()
        self.server_close()


def openssl(*args):
    done = subprocess.run(["/usr/bin/openssl", *map(str, args)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 0, f"openssl {args[0]}: {done.stderr}"
    return done.stdout
