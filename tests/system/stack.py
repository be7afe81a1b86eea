"""The whole site with r2shim before it: Redis, the sample site, the sandbox, a proxy, migrators."""
import json
import os
import re
import signal
import subprocess
import time

from harness import (Gunicorn, Migrator, Nginx, RedisServer, Sandbox, Tool, clean_env, eventually, free_port, temp_dir)
from s3 import Bucket
from web import Client, SiteClient

PHASES = ["passthrough", "dual-write", "backfill", "read-r2", "validate"]
ALL_PHASES = [*PHASES, "r2-primary", "r2-only"]		# in the last two R2 is written first
EXIT_REFUSED = 4

CONF = """\
site = "{site}";
state-dir = "state";
@include "phase.conf"
proxy: {{ listen = [ "{listen}" ]; access-log = "access.log"; {proxy} }};
upstream: {{ address = "{upstream}"; {upstream_extra} }};
media: {{ root = "{media}"; url = "/media/"; uploads = [ "/" ];
  prefixes = ( {prefixes} ); {media_extra} }};
mirror: {{ policy = "{policy}"; deadline = "{deadline}"; {mirror} }};
r2: {{ endpoint = "{endpoint}"; bucket = "{bucket}"; allow-http = true; access-key-id = "{key_id}";
  secret-access-key-file = "{secret_file}"; request-limit = "{request_limit}"; {r2} }};
redis: {{ address = "{redis}"; {redis_extra} }};
coord: {{ lease = "{lease}"; intent-deadline = "{intent_deadline}"; }};
migrator: {{ {migrator} }};
gate: {{ window = "0"; verify-age = "1h"; }};
admin: {{ listen = "unix:admin.sock"; }};
"""
DEFAULTS = dict(site="test", proxy="", upstream_extra="", prefixes='{ url = "/media/"; class = "public"; }', media_extra="", policy="sync",
                deadline="5s", mirror="", request_limit="2s", r2="", redis_extra="", lease="2s", intent_deadline="2s",
                migrator="concurrency = 8; max-delete = 1000000;")


class Proxy(Tool):
    """`r2shim proxy`, its configuration, and the commands that an operator gives."""
    name = "proxy"
    ready_timeout = 30
    stop_timeout = 45

    def __init__(self, folder, **options):
        super().__init__(folder)
        self.conf, self.phase_conf = self.dir / "r2shim.conf", self.dir / "phase.conf"
        (self.dir / "state").mkdir(exist_ok=True)
        self.address = f"127.0.0.1:{free_port()}"
        self.options = {**DEFAULTS, "listen": self.address, **options}
        self.write_conf()
        self.write_phase("passthrough")

    def write_conf(self, **changes):
        self.options.update(changes)
        self.conf.write_text(CONF.format(**self.options))

    def write_phase(self, phase):
        """As an operator's editor would do it: a whole new file, renamed into place."""
        new = self.dir / "phase.conf.new"
        new.write_text(f'phase = "{phase}";\n')
        new.rename(self.phase_conf)

    def command(self):
        return [self.binary, "proxy", "-c", self.conf]

    def ready(self):
        return self.ready_line(r"^r2shim proxy: ready")

    def reload(self):
        self.signal(signal.SIGHUP)

    def admin(self, path, method="GET"):
        with Client(f"unix:{self.dir / 'state' / 'admin.sock'}", 10) as client:
            return client.request(method, path)

    def metrics(self):
        """{name or name{labels}: value}"""
        found = re.findall(r"^([^#\s]\S*(?:\{.*\})?) (\S+)$", self.admin("/metrics").body.decode(), re.MULTILINE)
        return {name: float(value) for name, value in found}

    def begin(self, command, *args):
        """`r2shim COMMAND ...` that waits for something: the process, its output in a pipe."""
        return subprocess.Popen([self.binary, command, "-c", self.conf, *map(str, args)], stdin=subprocess.DEVNULL, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_env(**self.env), cwd=self.dir)

    def cluster(self):
        """{id: member} of `cluster show --json`, and the whole of it."""
        shown = json.loads(self.run("cluster", "show", "--json", check=True)[1])
        return {member["id"]: member for member in shown["members"]}, shown

    def member_id(self):
        """As in Redis; of a proxy that runs."""
        return json.loads(self.admin("/status").body)["id"]

    def run(self, command, *args, timeout=120, check=False):
        """`r2shim COMMAND -c CONF ARGS`: (exit code, stdout, stderr)."""
        done = subprocess.run([self.binary, command, "-c", self.conf, *map(str, args)], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout, env=clean_env(**self.env), cwd=self.dir)
        assert not check or done.returncode == 0, f"{command} {args}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.returncode, done.stdout, done.stderr

    def status(self):
        """`status --json`, which may find something degraded (1) or out of reach (5)."""
        code, out, err = self.run("status", "--json")
        assert code in (0, 1, 5) and out.startswith("{"), f"status: {code}\n{out}{err}"
        return json.loads(out)

    def verify(self, *args):
        """verify's JSON; --full unless told otherwise."""
        code, out, err = self.run("verify", *(args or ("--full",)), "--json", timeout=300)
        assert code in (0, 1), f"verify: {code}\n{out}{err}"
        return json.loads(out)

    def insist(self, *command, timeout=60):
        """A command, again while a gate or a heartbeat that is not there yet refuses it; the reasons if it stays so."""
        deadline = time.monotonic() + timeout
        while True:
            code, out, err = self.run(*command)
            if code == 0:
                return
            assert code == EXIT_REFUSED and time.monotonic() < deadline, f"{command}: {code}\n{out}{err}"
            time.sleep(0.1)

    def set_phase(self, phase, timeout=60):
        self.insist("phase", "set", phase, timeout=timeout)
        self.wait_phase(phase)

    def reload_phase(self, phase):
        """The other way to switch: edit the phase file, SIGHUP."""
        self.write_phase(phase)
        self.reload()
        self.wait_phase(phase)

    def wait_phase(self, phase):
        eventually(lambda: self.status()["phase"] == phase, 15, f"phase {phase}")

    def watched(self, timeout=30):
        """Waits until the watcher's crawl is done."""
        def settled():
            status = self.admin("/status").json()
            return status["watching"] and not status["crawling"]
        eventually(settled, timeout, "the watcher's crawl is done")

    def backfill_start(self):
        self.insist("backfill", "start", timeout=20)

    def backfill(self, timeout=300):
        self.backfill_start()
        eventually(lambda: self.status()["backfill"]["state"] == "complete", timeout, "backfill complete", 0.1)

    def climb(self, target, timeout=300):
        """Walks up to the phase through all gates, as the operator's guide says."""
        at = ALL_PHASES.index(self.status()["phase"])
        for phase in ALL_PHASES[at + 1:ALL_PHASES.index(target) + 1]:
            if phase == "read-r2":
                self.backfill(timeout)
                eventually(lambda: self.verify()["clean"], 60, "verify clean", 0.2)
            self.set_phase(phase)

    def descend(self, target):
        """Walks down by reloads."""
        at = ALL_PHASES.index(self.status()["phase"])
        for phase in reversed(ALL_PHASES[ALL_PHASES.index(target):at]):
            self.reload_phase(phase)

    def drained(self, timeout=30):
        """Waits until no mark and no live work is left."""
        def none_left():
            status = self.status()
            return status["marks"] == 0 and status["queue"]["live"] == 0
        eventually(none_left, timeout, "marks drained", 0.05)


class Stack:
    """topology: "gunicorn" (r2shim -> gunicorn, over TCP), "nginx" (r2shim -> nginx -> gunicorn, Unix sockets) or
    "webdav" (r2shim -> nginx that takes PUT and DELETE on media URLs). options fill CONF."""

    def __init__(self, topology="gunicorn", migrators=1, folder=None, redis_tcp=True, **options):
        self.dir = folder or temp_dir()
        self.media = self.dir / "media"
        self.media.mkdir(exist_ok=True)
        self.redis = RedisServer(self.dir / "redis", tcp=redis_tcp)
        self.site = self.nginx = None
        if topology == "webdav":
            self.nginx = Nginx(self.dir / "nginx", self.media)
            options.setdefault("prefixes", '{ url = "/media/"; class = "public"; writes = "upstream"; }')
        else:
            self.site = Gunicorn(self.dir / "site", self.media, unix=topology == "nginx")
        if topology == "nginx":
            self.nginx = Nginx(self.dir / "nginx", self.media, self.site.address, unix=True)
        self.sandbox = Sandbox(self.dir / "r2")
        self.options, self.proxy, self.migrators, self.wanted = options, None, [], migrators
        self.more_proxies = []

    def start(self, proxy=True):
        self.redis.start()
        for proc in (self.site, self.nginx, self.sandbox):
            if proc:
                proc.start()
        self.bucket = Bucket(self.sandbox.endpoint, self.sandbox.bucket, self.sandbox.key_id, self.sandbox.secret)
        self.proxy = self.make_proxy("proxy")
        if proxy:
            self.proxy.run("init", check=True)
            self.proxy.start()
            for number in range(self.wanted):
                self.add_migrator(f"m{number + 1}").start()
        return self

    def make_proxy(self, name):
        return Proxy(self.dir / name, upstream=(self.nginx or self.site).address, media=self.media, endpoint=self.sandbox.endpoint,
                     bucket=self.sandbox.bucket, key_id=self.sandbox.key_id, secret_file=self.sandbox.secret_file,
                     redis=self.redis.address, **self.options)

    def add_proxy(self, name, phase="passthrough"):
        """Another proxy of the site, with a configuration of its own; not started."""
        proxy = self.make_proxy(name)
        proxy.write_phase(phase)
        self.more_proxies.append(proxy)
        return proxy

    def add_migrator(self, name):
        migrator = Migrator(self.dir / name, self.proxy.conf, name)
        self.migrators.append(migrator)
        return migrator

    def procs(self):
        return [p for p in (*self.migrators, *self.more_proxies, self.proxy, self.sandbox, self.nginx, self.site, self.redis) if p]

    def stop(self):
        """Stops all, clients of a server before the server; every r2shim process must end with 0 and a clean log."""
        problems = []
        for proc in self.procs():
            try:
                code = proc.stop()
                if isinstance(proc, Tool) and code not in (0, None):
                    problems.append(f"{proc.name} ended with {code} after SIGTERM\n{proc.logs()}")
            except AssertionError as e:
                problems.append(str(e))
            problems += [f"{proc.name}: {line}\n{proc.logs(20000)}" for line in proc.sanitizer_reports()[:1]]
        assert not problems, "\n".join(problems)

    def client(self, timeout=60):
        return SiteClient(self.proxy.address, timeout)

    def logs(self):
        return "".join(proc.logs() for proc in self.procs())

    def write(self, key, content):
        """A file on the disk, written as a careful program does."""
        path = self.media / key
        path.parent.mkdir(parents=True, exist_ok=True)
        new = self.dir / "new"
        new.write_bytes(content)
        new.rename(path)

    def on_disk(self):
        """{key: bytes} of the media root, without our own names."""
        found = {}
        for folder, dirs, files in os.walk(self.media):
            dirs[:] = [d for d in dirs if not d.startswith(".r2shim")]
            for file in files:
                path = os.path.join(folder, file)
                if not file.startswith(".r2shim"):
                    with open(path, "rb") as f:
                        found[os.path.relpath(path, self.media)] = f.read()
        return found

    def in_r2(self):
        """{key: bytes} of the bucket, without our own names."""
        return {key: self.bucket.get(key) for key in self.bucket.list() if not key.split("/")[-1].startswith(".r2shim")}

    def differences(self):
        """Sorted keys whose bytes are not the same on both sides: (key, what)."""
        disk, r2 = self.on_disk(), self.in_r2()
        return sorted([(k, "not in R2") for k in disk.keys() - r2.keys()] + [(k, "only in R2") for k in r2.keys() - disk.keys()]
                      + [(k, "differs") for k in disk.keys() & r2.keys() if disk[k] != r2[k]])

    def assert_equal(self, timeout=20):
        def same():
            differences = self.differences()
            assert not differences, f"{len(differences)} keys: {differences[:5]}"
            return True
        eventually(same, timeout, "disk and R2 equal", 0.1)

    def rclone_check(self, *args):
        """`rclone check` of disk and bucket: (exit code, its whole report)."""
        env = clean_env(RCLONE_CONFIG="/dev/null", RCLONE_CONFIG_R2_TYPE="s3", RCLONE_CONFIG_R2_PROVIDER="Other",
                        RCLONE_CONFIG_R2_ENDPOINT=self.sandbox.endpoint, RCLONE_CONFIG_R2_REGION="auto",
                        RCLONE_CONFIG_R2_ACCESS_KEY_ID=self.sandbox.key_id,
                        RCLONE_CONFIG_R2_SECRET_ACCESS_KEY=self.sandbox.secret, HOME=self.dir)
        done = subprocess.run(["/usr/bin/rclone", "check", *args, "--exclude", "/.r2shim*", str(self.media),
                               f"r2:{self.sandbox.bucket}"], env=env, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr
