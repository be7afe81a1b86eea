"""Real processes for the system tests: each in a temporary folder of its own, each gone when the test ends.

Every process runs in its own session, is killed by the kernel if the harness dies (PDEATHSIG), writes stdout and stderr
to files, and is waited for by its ready line or a successful request with a deadline, never by a sleep of a guessed
length. Call start() from the main thread: the kernel takes the death of the starting thread for the parent's.

Standard library only. R2SHIM_BIN names the binary (default: ./r2shim, then build/r2shim of the repository);
R2SHIM_KEEP=1 keeps the folders.
"""
import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from web import Client, Cut, dial

TOP = Path(__file__).resolve().parents[2]
SITE = TOP / "tests" / "site"
PYTHON = "/usr/bin/python3"
SANITIZER = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|LeakSanitizer: detected")
running = []		# every started Proc that was not stopped yet; conftest shows their logs


def binary():
    """The r2shim under test, or None."""
    named = os.environ.get("R2SHIM_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise FileNotFoundError(f"R2SHIM_BIN={named} is no program")
        return str(Path(named).resolve())
    for path in (Path("r2shim"), TOP / "build" / "r2shim"):
        if os.access(path, os.X_OK) and path.is_file():
            return str(path.resolve())
    return None


def clean_env(**extra):
    """The environment without what would lead an S3 client or libcurl elsewhere."""
    env = {name: value for name, value in os.environ.items()
           if not name.startswith(("AWS_", "RCLONE_", "R2SHIM_")) and not name.endswith("_CA_BUNDLE")
           and name.lower() not in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")}
    env.update({name: str(value) for name, value in extra.items()})
    return env


def temp_dir(prefix="r2shim-test-"):
    """A short path: Unix sockets live below it (108 bytes at most)."""
    path = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    if not os.environ.get("R2SHIM_KEEP"):
        atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def free_port(host="127.0.0.1"):
    with socket.socket() as sock:
        sock.bind((host, 0))
        return sock.getsockname()[1]


def eventually(condition, timeout=10, what="the condition", step=0.02):
    """Polls until condition() is true (and returns that); AssertionError with the last value or error after timeout."""
    deadline, last = time.monotonic() + timeout, None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (OSError, AssertionError, KeyError, ValueError) as e:
            last = e
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout} s (last: {last!r})")
        time.sleep(step)


class Proc:
    """One process. Subclasses set command() and ready()."""
    name = "process"
    ready_timeout = 20
    stop_timeout = 20
    env = {}
    pass_fds = ()

    def __init__(self, folder):
        self.dir = Path(folder)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.popen, self.runs, self.traces = None, 0, []
        self.out, self.err = self.dir / f"{self.name}.out", self.dir / f"{self.name}.err"

    def command(self):
        raise NotImplementedError

    def ready(self):
        raise NotImplementedError

    def start(self, wait=True):
        assert not self.alive(), f"{self.name} runs already"
        self.runs += 1
        self.mark = self.out.stat().st_size if self.out.exists() else 0
        with open(self.out, "ab") as out, open(self.err, "ab") as err:
            self.popen = subprocess.Popen(["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", *map(str, self.command())],
                                          stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.dir,
                                          env=clean_env(**self.env), start_new_session=True, pass_fds=self.pass_fds)
        running.append(self)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def settled():
            return not self.alive() or self.ready()
        try:
            eventually(settled, self.ready_timeout, f"{self.name} ready", 0.01)
        except AssertionError as e:
            self.kill9()
            raise AssertionError(f"{e}\n{self.logs()}") from None
        if not self.alive():
            code = self.forget()
            raise AssertionError(f"{self.name} ended with {code} before it was ready\n{self.logs()}")

    def alive(self):
        """Looks without reaping: as long as the process is not reaped nobody else can get its id."""
        return self.popen is not None and os.waitid(os.P_PID, self.popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    @property
    def pid(self):
        return self.popen.pid

    def signal(self, number):
        os.kill(self.pid, number)

    def stop(self):
        """SIGTERM, and the exit code; SIGKILL and AssertionError if it does not end in time. It may be stopped, or traced."""
        if self.popen is None:
            return None
        for trace in list(self.traces):
            trace.detach()
        # In this order: a SIGCONT takes away a SIGSTOP that is on its way, and LeakSanitizer's at the process's end would be waited for in vain.
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, timeout=None):
        """Waits for its end by itself, and returns the exit code."""
        timeout = timeout or self.stop_timeout
        try:
            eventually(lambda: not self.alive(), timeout, f"end of {self.name}", 0.005)
        except AssertionError as e:
            where = self.where()
            self.kill9()
            raise AssertionError(f"{e}\n{where}\n{self.logs()}") from None
        return self.forget()

    def where(self):
        """What each of its threads is doing: state, and where it sleeps; with gdb also the calls that led there."""
        lines = []
        for task in sorted(Path(f"/proc/{self.popen.pid}/task").glob("*")):
            try:
                status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
                lines.append(f"{task.name} {status['Name']}: {status['State']}, traced by {status['TracerPid']}, "
                             f"in {(task / 'wchan').read_text()}, system call {(task / 'syscall').read_text().split()[0]}")
            except (OSError, KeyError):
                pass		# it is ending
        if shutil.which("gdb"):
            lines.append(subprocess.run(["gdb", "-q", "-batch", "-p", str(self.popen.pid), "-ex", "thread apply all bt 12"], text=True, env=clean_env(),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60).stdout)
        return "\n".join(lines)

    def kill9(self):
        """SIGKILL for the process and all of its session."""
        if self.popen is not None:
            self.forget()

    def forget(self):
        """Kills what is left of the process's group, reaps it, and returns its exit code."""
        for trace in list(self.traces):
            trace.kill9()
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            return self.popen.wait(self.stop_timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} is still there {self.stop_timeout} s after SIGKILL") from None
        finally:
            running.remove(self)
            self.popen = None

    def forget_dead(self):
        """Reaps one that ended by itself or was killed, so that it can be started again."""
        if self.popen is not None and not self.alive():
            self.forget()

    def restart(self):
        self.stop()
        return self.start()

    def stdout(self):
        """What this run has printed so far."""
        if not self.out.exists():
            return ""
        with open(self.out, "rb") as f:
            f.seek(self.mark)
            return f.read().decode(errors="replace")

    def stderr(self):
        return self.err.read_text(errors="replace") if self.err.exists() else ""

    def logs(self, tail=4000):
        return "".join(f"--- {path}\n{path.read_text(errors='replace')[-tail:]}\n"
                       for path in sorted(self.dir.glob("*")) if path.suffix in (".out", ".err", ".log"))

    def sanitizer_reports(self):
        """Lines of ASan, UBSan, LSan and TSan reports in the logs."""
        return [line for path in (self.out, self.err) if path.exists()
                for line in path.read_text(errors="replace").splitlines() if SANITIZER.search(line)]


def stop_all():
    """Kills whatever still runs; newest first."""
    for proc in list(reversed(running)):
        proc.kill9()


atexit.register(stop_all)


class Strace(Proc):
    """strace on a running process and all its threads, until detach() or the process's end."""
    name = "strace"

    def __init__(self, folder, proc, *options):
        super().__init__(folder)
        self.proc, self.options, self.trace = proc, options, self.dir / "trace"

    def command(self):
        return ["/usr/bin/strace", "-f", "-qq", "-o", self.trace, *self.options, "-p", self.proc.pid]

    def start(self, wait=True):
        """When this returns it is attached to all threads; or the process is dead already, killed by what it does all the time."""
        super().start(wait=False)
        self.proc.traces.append(self)
        if wait:
            eventually(lambda: not self.alive() or self.ready(), self.ready_timeout, "strace attached", 0.002)
        return self

    def ready(self):
        tasks = Path(f"/proc/{self.proc.pid}/task")
        return all(re.search(rf"^TracerPid:\t{self.pid}$", (task / "status").read_text(), re.MULTILINE) for task in tasks.iterdir())

    def detach(self):
        """Of a process that dies meanwhile strace never lets go: it waits for the first thread, whose end is told after the others' ends,
        which are told to strace alone. Without strace nothing is in the way."""
        if self.alive():
            self.signal(signal.SIGTERM)
        eventually(lambda: not self.alive() or self.leader_is_dead(), self.stop_timeout, "strace lets go", 0.002)
        self.kill9()

    def leader_is_dead(self):
        return Path(f"/proc/{self.proc.pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"

    def forget(self):
        self.proc.traces.remove(self)
        return super().forget()


class RedisServer(Proc):
    """redis-server as r2shim wants it: append-only, no eviction. address is "unix:/..." or "host:port"."""
    name = "redis"

    def __init__(self, folder, tcp=False, options=(), host="127.0.0.1"):
        super().__init__(folder)
        self.tcp, self.options, self.host = tcp, list(options), host
        self.port = free_port(host) if tcp else 0
        self.socket = self.dir / "redis.sock"
        self.address = f"{host}:{self.port}" if tcp else f"unix:{self.socket}"

    def command(self):
        where = ["--bind", self.host, "--port", self.port] if self.tcp else \
            ["--port", 0, "--unixsocket", self.socket, "--unixsocketperm", "600"]
        return ["/usr/bin/redis-server", *where, "--dir", self.dir, "--appendonly", "yes", "--save", "",
                "--maxmemory-policy", "noeviction", *self.options]

    def ready(self):
        return self.call("PING") == "PONG"

    def call(self, *words):
        """One command over a connection of its own."""
        with dial(self.address, 10) as sock:
            words = [str(word).encode(errors="surrogateescape") for word in words]
            sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
            with sock.makefile("rb") as f:
                return self.reply(f)

    def reply(self, f):
        line = f.readline()
        if not line.endswith(b"\r\n"):
            raise Cut("redis: connection closed")
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"-":
            raise ValueError(f"redis: {rest}")
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == "-1" else f.read(int(rest) + 2)[:-2].decode(errors="surrogateescape")
        if kind == b"*":
            return None if rest == "-1" else [self.reply(f) for _ in range(int(rest))]
        return rest


class Gunicorn(Proc):
    """The sample site. media_root is MEDIA_ROOT; address "host:port", or "unix:/..."."""
    name = "gunicorn"

    def __init__(self, folder, media_root=None, unix=False):
        super().__init__(folder)
        self.media_root = Path(media_root) if media_root else self.dir / "media"
        self.media_root.mkdir(parents=True, exist_ok=True)
        (self.dir / "tmp").mkdir(exist_ok=True)
        self.address = f"unix:{self.dir / 'gunicorn.sock'}" if unix else f"127.0.0.1:{free_port()}"
        self.env = {"SITE_DIR": self.dir, "SITE_MEDIA_ROOT": self.media_root, "SITE_SECRET": "system-test",
                    "PYTHONPATH": SITE, "PYTHONDONTWRITEBYTECODE": "1", "DJANGO_SETTINGS_MODULE": "demosite.settings"}

    def command(self):
        return [PYTHON, "/usr/bin/gunicorn", "--config", SITE / "gunicorn.conf.py", "--bind", self.address,
                "--worker-tmp-dir", self.dir]

    def start(self, wait=True):
        if not (self.dir / "db.sqlite3").exists():
            self.manage("migrate", "--verbosity", "0")
        return super().start(wait)

    def ready(self):
        try:
            with Client(self.address, 10) as client:
                return client.get("/ping/").status == 200
        except Cut:
            return False

    def manage(self, *args):
        """Runs a management command and returns its stdout."""
        done = subprocess.run([PYTHON, SITE / "manage.py", *map(str, args)], env=clean_env(**self.env), text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        assert done.returncode == 0, f"manage.py {args}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout


NGINX = """\
daemon off;
master_process off;
{user}
pid {dir}/nginx.pid;
error_log {dir}/nginx.err warn;
events {{ worker_connections 1024; }}
http {{
	include /etc/nginx/mime.types;
	default_type application/octet-stream;
	access_log off;
	client_max_body_size 0;
	client_body_temp_path {dir}/body;
	proxy_temp_path {dir}/proxy;
	fastcgi_temp_path {dir}/fastcgi;
	uwsgi_temp_path {dir}/uwsgi;
	scgi_temp_path {dir}/scgi;
	keepalive_timeout 75s;
	keepalive_requests 1000000;
	{upstream}
	server {{
		listen {listen};
		location = /ping-nginx {{ return 200 "pong\\n"; }}
		{locations}
	}}
}}
"""
NGINX_SITE = """location /media/ {{ alias {media}/; }}
		location /media/private/ {{ proxy_pass http://site; }}
		location / {{ proxy_pass http://site; }}
		proxy_http_version 1.1;
		proxy_set_header Connection "";
		proxy_set_header Host $http_host;
		proxy_request_buffering off;
		proxy_ignore_headers X-Accel-Redirect;
		proxy_pass_header X-Accel-Redirect;"""
NGINX_DAV = """location {dav} {{
			alias {root}/;
			dav_methods PUT DELETE MKCOL MOVE COPY;
			create_full_put_path on;
			dav_access user:rw group:r all:r;
		}}"""


class Nginx(Proc):
    """nginx before the site (upstream given), or as a WebDAV origin of the media root (none given), or both: dav is then the part of
    the media URL that takes PUT and DELETE."""
    name = "nginx"

    def __init__(self, folder, media_root, upstream=None, unix=False, dav=None, host="127.0.0.1"):
        super().__init__(folder)
        self.address = f"unix:{self.dir / 'nginx.sock'}" if unix else f"{host}:{free_port(host)}"
        server = upstream if upstream is None or upstream.startswith("unix:") else f"{upstream}"
        (self.dir / "nginx.conf").write_text(NGINX.format(
            dir=self.dir, user="user root;" if os.geteuid() == 0 else "", listen=self.address,
            upstream=f"upstream site {{ server {server}; keepalive 32; keepalive_requests 1000000; }}" if server else "",
            locations=(NGINX_SITE.format(media=media_root) if server else "") + ("" if server and not dav else NGINX_DAV.format(
                dav=dav or "/media/", root=Path(media_root, (dav or "/media/").removeprefix("/media/")).as_posix().rstrip("/")))))

    def command(self):
        return ["/usr/sbin/nginx", "-p", self.dir, "-e", self.dir / "nginx.err", "-c", self.dir / "nginx.conf"]

    def start(self, wait=True):
        (self.dir / "nginx.sock").unlink(missing_ok=True)
        return super().start(wait)

    def ready(self):
        try:
            with Client(self.address, 10) as client:
                return client.get("/ping-nginx").status == 200
        except Cut:
            return False


class Tool(Proc):
    """A process of the r2shim binary. Sanitizers stop it at the first finding."""
    env = {"ASAN_OPTIONS": "detect_leaks=1:halt_on_error=1:exitcode=99", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
           "LSAN_OPTIONS": "exitcode=99",
           "TSAN_OPTIONS": f"halt_on_error=1:exitcode=99:second_deadlock_stack=1:suppressions={TOP / 'tests/tsan.supp'}"}

    def __init__(self, folder):
        super().__init__(folder)
        self.binary = binary()
        assert self.binary, "no r2shim binary: set R2SHIM_BIN"

    def ready_line(self, pattern):
        return re.search(pattern, self.stdout(), re.MULTILINE)


class Sandbox(Tool):
    """`r2shim sandbox`: the local R2. endpoint is http://127.0.0.1:PORT; the port stays over a restart."""
    name = "sandbox"

    def __init__(self, folder, bucket="media", key_id="AKIDSANDBOX", secret="sandbox-secret"):
        super().__init__(folder)
        self.bucket, self.key_id, self.secret = bucket, key_id, secret
        self.secret_file = self.dir / "r2.secret"
        self.secret_file.write_text(secret)
        self.secret_file.chmod(0o600)
        self.listen = "127.0.0.1:0"

    def command(self):
        return [self.binary, "sandbox", "--listen", self.listen, "--dir", self.dir / "objects", "--bucket", self.bucket,
                "--key-id", self.key_id, "--secret-file", self.secret_file]

    def ready(self):
        found = self.ready_line(r"^r2shim sandbox: ready on (http://([^/\s]+))")
        if found:
            self.endpoint, self.listen = found[1], found[2]
        return found

    def faults(self, rules=""):
        """Replaces the fault rules (see src/sandbox/faults.h), one a line; none clears them."""
        with Client(self.listen, 10) as client:
            response = client.request("POST", "/.sandbox/faults", f"clear\n{rules}".encode())
            assert response.status in (200, 204), response

    def stats(self):
        with Client(self.listen, 10) as client:
            return client.get("/.sandbox/stats").json()


class Migrator(Tool):
    """`r2shim migrator`, with the configuration of a Proxy."""
    ready_timeout = 30

    def __init__(self, folder, conf, name):
        self.name, self.conf = name, conf
        super().__init__(folder)

    def command(self):
        return [self.binary, "migrator", "-c", self.conf, "--name", self.name]

    def ready(self):
        return self.ready_line(r"^r2shim migrator: ready")
