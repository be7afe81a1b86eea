"""The servers to compare with, and what stands behind all of them."""
import datetime
import hashlib
import hmac
import os
import urllib.parse
from pathlib import Path

from harness import Proc, Sandbox, free_port, temp_dir
from measure import cpus, pin
from stack import Stack
from web import Client, Cut

NGINX = """\
daemon off;
master_process off;
{user}
pid {dir}/nginx.pid;
error_log {dir}/nginx.err warn;
events {{ worker_connections 19500; }}
http {{
	include /etc/nginx/mime.types;
	default_type application/octet-stream;
	access_log {log};
	sendfile on;
	keepalive_timeout 10m;
	tcp_nopush on;
	client_body_temp_path {dir}/body;
	proxy_temp_path {dir}/proxy;
	fastcgi_temp_path {dir}/fastcgi;
	uwsgi_temp_path {dir}/uwsgi;
	scgi_temp_path {dir}/scgi;
	{http}
	server {{
		listen {listen};
		{server}
	}}
}}
"""
PASS = """proxy_pass http://{name}{uri};
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host {host};
			proxy_request_buffering off;
			client_max_body_size 0;
			proxy_max_temp_file_size 0;"""
ORIGIN = """keepalive_requests 100000000;
		location /files/ {{ alias {root}/; }}
		location /media/ {{ alias {root}/; }}
		location = /ping {{ return 200 "pong\\n"; }}
		{more}"""
SWALLOW = """location = /swallow {{
			client_max_body_size 0;
			proxy_request_buffering off;
			proxy_http_version 1.1;
			proxy_pass http://{address};
		}}"""
VCL = """\
vcl 4.1;
backend origin {{ .host = "{host}"; .port = "{port}"; }}
sub vcl_backend_response {{ set beresp.ttl = 1h; }}
"""
HAPROXY = """\
global
	nbthread 1
	maxconn 19500
	no strict-limits
defaults
	mode http
	timeout connect 5s
	timeout client 10m
	timeout server 60s
	option splice-response
	http-reuse always
frontend front
	bind {listen}
	default_backend origin
backend origin
	server origin {origin}
"""


class Server(Proc):
    """A server whose answer to `path` says that it is ready. One process, one thread, alone on its CPU if it is measured."""
    path = "/"
    measured = True

    def __init__(self, folder):
        super().__init__(folder)
        self.address = f"127.0.0.1:{free_port()}"

    def ready(self):
        try:
            with Client(self.address, 10) as client:
                return client.get(self.path).status == 200
        except Cut:
            return False

    def start(self, wait=True):
        super().start(wait)
        pin(self.pid, cpus()[0] if self.measured else cpus()[1])
        return self


class Nginx(Server):
    """http, server: the insides of these blocks."""
    name = "nginx"

    def __init__(self, folder, server, http="", log=None):
        super().__init__(folder)
        self.conf = self.dir / "nginx.conf"
        self.conf.write_text(NGINX.format(dir=self.dir, user="user root;" if os.geteuid() == 0 else "", listen=self.address,
                                          http=http, server=server,
                                          log=log or f"{self.dir}/access.log combined buffer=64k flush=1s"))

    def command(self):
        return ["/usr/sbin/nginx", "-p", self.dir, "-e", self.dir / "nginx.err", "-c", self.conf]


class Origin(Nginx):
    """The upstream of all: the files of `root` below /files/ and /media/. swallow: where /swallow goes, if anywhere."""
    name = "origin"
    measured = False

    def __init__(self, folder, root, swallow=None):
        super().__init__(folder, ORIGIN.format(root=root, more=SWALLOW.format(address=swallow) if swallow else ""), log="off")
        self.path = "/ping"


class Varnish(Server):
    """varnish before the origin: what it was asked for once comes from its memory. The process that serves is a child of the first."""
    name = "varnish"
    ready_timeout = 60		# it compiles its configuration

    def __init__(self, folder, origin, path):
        super().__init__(folder)
        self.path, self.conf = path, self.dir / "bench.vcl"
        host, _, port = origin.rpartition(":")
        self.conf.write_text(VCL.format(host=host, port=port))

    def command(self):
        return ["/usr/sbin/varnishd", "-F", "-j", "none", "-n", self.dir / "work", "-a", self.address, "-f", self.conf, "-s", "malloc,1g"]

    def start(self, wait=True):
        super().start(wait)
        pin(self.worker, cpus()[0])
        return self

    @property
    def worker(self):
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])


class Haproxy(Server):
    """haproxy before the origin. It can log over syslog only: it does not."""
    name = "haproxy"

    def __init__(self, folder, origin, path):
        super().__init__(folder)
        self.path, self.conf = path, self.dir / "haproxy.cfg"
        self.conf.write_text(HAPROXY.format(listen=self.address, origin=origin))

    def command(self):
        return ["/usr/sbin/haproxy", "-db", "-f", self.conf]


def nginx_static(folder, root, path):
    """nginx serving the same files from the disk."""
    server = Nginx(folder, f"location /media/ {{ alias {root}/; }}")
    server.path = path
    return server


def nginx_pass(folder, origin, path):
    """nginx before the origin, with kept connections. Bodies are passed on as they come, as r2shim and haproxy do it."""
    server = Nginx(folder, "location / {{\n\t\t\t{}\n\t\t}}".format(PASS.format(name="origin", uri="", host="$http_host")),
                   f"upstream origin {{ server {origin}; keepalive 64; keepalive_requests 100000000; }}")
    server.path = path
    return server


def nginx_r2(folder, sandbox, keys, path):
    """nginx before the sandbox: a location for each key, with a presigned URL."""
    host = sandbox.endpoint.partition("//")[2]
    places = []
    for key in keys:
        uri = presigned(sandbox, key).removeprefix(sandbox.endpoint)
        places.append("location = /media/{} {{\n\t\t\t{}\n\t\t}}".format(key, PASS.format(name="r2", uri=uri, host=host)))
    server = Nginx(folder, "\n\t\t".join(places), f"upstream r2 {{ server {host}; keepalive 64; keepalive_requests 100000000; }}")
    server.path = path
    return server


def presigned(sandbox, key, seconds=86400):
    """A URL that reads one object without further signature (Signature Version 4 in the query)."""
    now = datetime.datetime.now(datetime.timezone.utc)
    host, day = sandbox.endpoint.partition("//")[2], now.strftime("%Y%m%d")
    scope = f"{day}/auto/s3/aws4_request"
    path = "/" + urllib.parse.quote(f"{sandbox.bucket}/{key}", "/-_.~")
    query = "&".join(f"{name}={urllib.parse.quote(value, '-_.~')}" for name, value in [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"), ("X-Amz-Credential", f"{sandbox.key_id}/{scope}"),
        ("X-Amz-Date", now.strftime("%Y%m%dT%H%M%SZ")), ("X-Amz-Expires", str(seconds)), ("X-Amz-SignedHeaders", "host")])
    canonical = f"GET\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    text = f"AWS4-HMAC-SHA256\n{now.strftime('%Y%m%dT%H%M%SZ')}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    secret = b"AWS4" + sandbox.secret.encode()
    for part in (day, "auto", "s3", "aws4_request"):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    return f"{sandbox.endpoint}{path}?{query}&X-Amz-Signature={hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()}"


class Sink(Sandbox):
    """The sandbox that hashes what it gets and keeps nothing of it but what a listing tells."""

    def command(self):
        return [*super().command(), "--discard"]


class BenchStack(Stack):
    """Redis, the sandbox, the proxy and a migrator, with nginx as the upstream instead of the sample site."""

    def __init__(self, media=None, sandbox=Sandbox, **options):
        super().__init__(migrators=1, folder=temp_dir("r2shim-bench-"), **options)
        if media:
            self.media = media
        self.site = Origin(self.dir / "origin", self.media)
        self.sandbox = sandbox(self.dir / "r2")
