"""The examples in conf/nginx and conf/gunicorn, started as they are written: only addresses, folders and certificates are replaced by this
machine's, and each replacement must find its text."""
import json
import subprocess

import harness
from certs import Authority
from history import content
from stack import Stack
from web import dial

CONF = harness.TOP / "conf"
MAIN = """\
daemon off;
master_process off;
{user}
pid {dir}/nginx.pid;
error_log {dir}/nginx.err warn;
events {{ }}
http {{
	include /etc/nginx/mime.types;
	default_type application/octet-stream;
	access_log off;
	client_body_temp_path {dir}/body;
	proxy_temp_path {dir}/proxy;
	fastcgi_temp_path {dir}/fastcgi;
	uwsgi_temp_path {dir}/uwsgi;
	scgi_temp_path {dir}/scgi;
	include {dir}/example.conf;
}}
"""
# What the example's "mysite.wsgi" is here: the sample site, a view that tells what it was told, and one that names a file.
WSGI = """\
import json
from demosite.wsgi import application as site


def application(environ, start_response):
    if environ["PATH_INFO"] == "/about":
        told = {name: value for name, value in environ.items() if name.startswith(("HTTP_", "REMOTE_")) or name == "wsgi.url_scheme"}
        body = json.dumps(told).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]
    if environ["PATH_INFO"].startswith("/guarded/"):
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "0"),
                                  ("X-Accel-Redirect", environ["PATH_INFO"].replace("/guarded/", "/protected/"))])
        return []
    return site(environ, start_response)
"""


def replaced(path, table):
    text = path.read_text()
    for old, new in table.items():
        assert old in text, f"{path}: {old} is not in it"
        text = text.replace(old, str(new))
    return text


class ExampleGunicorn(harness.Gunicorn):
    """conf/gunicorn/gunicorn.conf.py; the address alone is another."""

    def __init__(self, folder, media_root, unix):
        super().__init__(folder, media_root, unix)
        package = self.dir / "mysite"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "wsgi.py").write_text(WSGI)
        self.env = {**self.env, "PYTHONPATH": f"{self.dir}:{self.env['PYTHONPATH']}"}

    def command(self):
        return [harness.PYTHON, "/usr/bin/gunicorn", "--config", CONF / "gunicorn" / "gunicorn.conf.py", "--bind", self.address]


class ExampleNginx(harness.Proc):
    name = "nginx"

    def __init__(self, folder, example, table, address):
        super().__init__(folder)
        self.address = address
        (self.dir / "example.conf").write_text(replaced(CONF / "nginx" / example, table))
        (self.dir / "nginx.conf").write_text(MAIN.format(dir=self.dir, user="user root;" if harness.os.geteuid() == 0 else ""))

    def command(self):
        return ["/usr/sbin/nginx", "-p", self.dir, "-e", self.dir / "nginx.err", "-c", self.dir / "nginx.conf"]

    def ready(self):
        try:
            with dial(self.address, 5):
                return True
        except OSError:
            return False


def example_stack(topology, **options):
    """A Stack whose gunicorn is the example's; nothing is started."""
    stack = Stack(topology, migrators=0, **options)
    stack.site = ExampleGunicorn(stack.dir / "example-site", stack.media, unix=topology == "nginx")
    return stack


def check_site(get, put):
    """Pages, uploads small and big, and the media by the same way. get(target, **headers), put(name, body): the URL of the upload."""
    assert get("/ping/").body == b"pong\n"
    for name, size in (("a.txt", 5000), ("empty.txt", 0), ("big.bin", 20_000_000)):
        body = content(name, size)
        url = put(name, body)
        answer = get(url)
        assert answer.status == 200 and answer.body == body, (name, answer)
    part = get(url, Range="bytes=1000000-1999999")
    assert part.status == 206 and part.body == body[1_000_000:2_000_000]
    assert get(url, If_None_Match=answer.headers["ETag"]).status == 304
    assert get("/media/not-there.txt").status == 404


def test_nginx_behind(r2shim):
    """client -> r2shim -> nginx -> gunicorn"""
    stack = example_stack("nginx", prefixes='{ url = "/media/private/"; class = "authorized"; }, { url = "/media/"; class = "public"; }')
    stack.options["media_extra"] = f'internal = ( {{ url = "/protected/"; alias = "{stack.media}/private/"; }} );'
    address = f"127.0.0.1:{harness.free_port()}"
    stack.nginx = ExampleNginx(stack.dir / "example", "behind.conf", {
        "unix:/run/gunicorn.sock": stack.site.address, "listen 127.0.0.1:8081": f"listen {address}", "/srv/mysite/media": stack.media}, address)
    stack.write("private/letter.txt", b"a letter")
    stack.start()
    with stack.client() as http:
        for phase in ("passthrough", "dual-write"):
            stack.proxy.climb(phase)
            check_site(http.get, lambda name, body: http.upload(f"{phase}-{name}", body).json()["url"])
            told = http.get("/about", X_Forwarded_For="6.6.6.6", X_Real_IP="6.6.6.6", X_Forwarded_Proto="https").json()
            assert told["HTTP_X_REAL_IP"] == "127.0.0.1" and told["HTTP_X_FORWARDED_PROTO"] == "http", told
            assert told["HTTP_X_FORWARDED_FOR"] == "6.6.6.6, 127.0.0.1" and told["HTTP_HOST"] == "localhost", told
            letter = http.get("/guarded/letter.txt")
            assert (letter.status, letter.body) == (200, b"a letter") and letter.headers["X-Accel-Redirect"] is None
            assert http.get("/protected/letter.txt").status == 404
    stack.stop()


def curl(nginx, ca, target, *options):
    """Over TLS, as HTTP/2; curl's exit code is looked at."""
    done = subprocess.run(["curl", "-sS", "--fail-with-body", "--http2", "--cacert", ca, "--resolve", f"www.example.org:{nginx.address.split(':')[1]}:127.0.0.1",
                           "-w", "%{stderr}%{http_version} %{http_code}", *options, f"https://www.example.org:{nginx.address.split(':')[1]}{target}"],
                          capture_output=True, timeout=60, env=harness.clean_env())
    return done.stderr.decode(), done.stdout


def test_nginx_in_front(r2shim):
    """client -> nginx, TLS and HTTP/2 -> r2shim -> gunicorn"""
    stack = example_stack("gunicorn", proxy='trusted-proxies = [ "127.0.0.1" ];')
    stack.start()
    address = f"127.0.0.1:{harness.free_port()}"
    authority = Authority(stack.dir)
    certificate, key = authority.sign("server", "DNS:www.example.org")
    nginx = ExampleNginx(stack.dir / "example", "in-front.conf", {
        "server 127.0.0.1:8080": f"server {stack.proxy.address}", "listen 443 ssl http2": f"listen {address} ssl http2",
        "/etc/ssl/example.org.pem": certificate, "/etc/ssl/example.org.key": key}, address).start()
    stack.proxy.climb("dual-write")
    said, body = curl(nginx, authority.pem, "/about", "-H", "X-Forwarded-Proto: http", "-H", "X-Forwarded-Host: evil",
                      "-H", "Forwarded: for=6.6.6.6")
    told = json.loads(body)
    assert "6.6.6.6" not in told["HTTP_FORWARDED"], told
    assert said == "2 200" and told["wsgi.url_scheme"] == told["HTTP_X_FORWARDED_PROTO"] == "https", (said, told)
    assert told["HTTP_X_FORWARDED_HOST"] == told["HTTP_HOST"] == "www.example.org" and told["HTTP_X_REAL_IP"] == "127.0.0.1", told
    upload = stack.dir / "upload.bin"
    upload.write_bytes(content("upload", 20_000_000))
    said, body = curl(nginx, authority.pem, "/upload/", "-F", "title=t", "-F", "folder=documents", "-F", f"file=@{upload}")
    assert said == "2 201", (said, body)
    url = json.loads(body)["url"]
    assert curl(nginx, authority.pem, url) == ("2 200", upload.read_bytes())
    assert curl(nginx, authority.pem, url, "-r", "10-19") == ("2 206", upload.read_bytes()[10:20])
    assert curl(nginx, authority.pem, "/media/not-there.txt")[0].endswith("2 404")
    assert stack.bucket.get(url.removeprefix("/media/")) == upload.read_bytes()
    assert nginx.stop() == 0
    stack.stop()
