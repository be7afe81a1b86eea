"""What the sandbox's own tests need: the sandbox with further options, Cloudflare's local R2, and single signed requests.

A `Target` is a server that speaks R2's S3 interface, so that one request can be sent to both.
"""
import base64
import datetime
import fcntl
import hashlib
import hmac
import os
import re
import shutil
import subprocess
import urllib.parse
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import harness
import s3
from web import Client

FOLDER = Path(__file__).resolve().parent / "miniflare"


class Sandbox(harness.Sandbox):
    """harness.Sandbox with options. The limit of writes to a key is off unless it is what is tested."""

    def __init__(self, folder, *options, bucket="media"):
        super().__init__(folder, bucket)
        self.options = list(options) or ["--key-rate", "off"]

    def command(self):
        return super().command() + self.options


def node_version():
    try:
        out = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=20).stdout
    except OSError:
        return 0
    found = re.match(r"v(\d+)\.", out)
    return int(found[1]) if found else 0


def node_modules():
    """The folder in which miniflare is installed: R2SHIM_NODE_CACHE, or below the build folder. Installed once."""
    folder = Path(os.environ.get("R2SHIM_NODE_CACHE") or harness.TOP / "build" / "node")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (FOLDER / "package.json").read_text()
        version = re.search(r'"miniflare": "([^"]+)"', wanted)[1]
        installed = folder / "node_modules" / "miniflare" / "package.json"
        if not installed.exists() or f'"version": "{version}"' not in installed.read_text():
            shutil.copyfile(FOLDER / "package.json", folder / "package.json")
            subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"], cwd=folder,
                           check=True, timeout=300, capture_output=True)
    return folder


class Miniflare(harness.Proc):
    """Cloudflare's own local front end of R2."""
    name = "miniflare"
    ready_timeout = 60

    def __init__(self, folder, bucket="media", key_id="AKIDSANDBOX", secret="sandbox-secret"):
        super().__init__(folder)
        self.bucket, self.key_id, self.secret = bucket, key_id, secret

    def command(self):
        return ["/usr/bin/env", "node", FOLDER / "run.mjs", node_modules(), self.bucket, self.key_id, self.secret]

    def ready(self):
        found = re.search(r"^miniflare: ready on (\S+)", self.stdout(), re.MULTILINE)
        if found:
            self.endpoint = found[1]
        return found


class Target:
    """Sends one request, signed well or badly. send() returns (status, code, response)."""

    def __init__(self, name, server, keep_alive=True):
        """keep_alive: may a connection be used again? miniflare closes some without having said so."""
        self.name, self.server, self.keep_alive = name, server, keep_alive
        url = urllib.parse.urlsplit(server.endpoint)
        self.host, self.prefix = url.netloc, url.path.rstrip("/")
        self.client = Client((url.hostname, url.port))

    def path(self, key="", bucket=None):
        path = f"{self.prefix}/{bucket or self.server.bucket}"
        return path + (f"/{s3.quote(key, '-_.~/')}" if key else "")

    def send(self, method, key="", query=(), body=b"", headers=None, *, bucket=None, secret=None, key_id=None, payload=None,
             now=None, region="auto", signed=True, change=None, path=None):
        """payload: x-amz-content-sha256, by default the body's; change(headers, query): what is done after signing."""
        path = path or self.path(key, bucket)
        query, headers = list(query), {"Host": self.host, **(headers or {})}
        if signed:
            payload = hashlib.sha256(body).hexdigest() if payload is None else payload
            headers = s3.sign(method, path, query, headers, payload, key_id or self.server.key_id,
                              secret or self.server.secret, region, now)
        if change:
            change(headers, query)
        target = path + ("?" + "&".join(f"{s3.quote(k)}={s3.quote(v)}" for k, v in query) if query else "")
        response = self.client.request(method, target, body or None, headers)
        if not self.keep_alive:
            self.client.close()
        return response.status, code(response), response

    def presigned(self, method, key, expires=60, now=None, secret=None, **changes):
        """The query of a presigned request, as pairs; changes replace or (None) remove a parameter after signing."""
        now = now or datetime.datetime.now(datetime.timezone.utc)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        scope = f"{day}/auto/s3/aws4_request"
        query = {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{self.server.key_id}/{scope}",
                 "X-Amz-Date": stamp, "X-Amz-Expires": str(expires), "X-Amz-SignedHeaders": "host"}
        canonical = "\n".join([method, self.path(key), "&".join(f"{s3.quote(k)}={s3.quote(v)}" for k, v in sorted(query.items())),
                               f"host:{self.host}\n", "host", "UNSIGNED-PAYLOAD"])
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        secret_key = b"AWS4" + (secret or self.server.secret).encode()
        for part in (day, "auto", "s3", "aws4_request"):
            secret_key = hmac.new(secret_key, part.encode(), hashlib.sha256).digest()
        query["X-Amz-Signature"] = hmac.new(secret_key, text.encode(), hashlib.sha256).hexdigest()
        for name, value in changes.items():
            name = name.replace("_", "-")
            query.pop(name, None)
            if value is not None:
                query[name] = value
        return list(query.items())


def code(response):
    """The <Code> of an error's document, None of anything else."""
    if b"<Error>" not in response.body[:200]:
        return None
    return ElementTree.fromstring(response.body).findtext("Code")


def text(response, name):
    """The first element of that name, whatever its namespace."""
    for element in ElementTree.fromstring(response.body).iter():
        if element.tag.rpartition("}")[2] == name:
            return element.text
    return None


def md5(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def ago(**delta):
    return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(**delta)
