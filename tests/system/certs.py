"""Certificates of a test's own, made by openssl(1) as it runs: none is stored, so none ends."""
import ssl
import subprocess

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


def openssl(*args):
    done = subprocess.run(["/usr/bin/openssl", *map(str, args)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 0, f"openssl {args[0]}: {done.stderr}"
    return done.stdout
