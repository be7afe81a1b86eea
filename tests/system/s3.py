"""An S3 client of few lines (Signature Version 4, path style), to look into the bucket and to prepare it.

It shares no code with r2shim, so that a mistake in r2shim's signing cannot hide behind the same mistake here.
"""
import datetime
import hashlib
import hmac
import urllib.parse
import xml.etree.ElementTree as ElementTree

from web import Client


class S3Error(OSError):
    """A refused request; code is the <Code> of the answer."""

    def __init__(self, response, what):
        self.status, self.code = response.status, None
        if response.body.lstrip().startswith(b"<"):
            self.code = ElementTree.fromstring(response.body).findtext("Code")
        super().__init__(f"{what}: {response.status} {self.code} {response.body[:300]!r}")


def quote(text, safe="-_.~"):
    return urllib.parse.quote(text, safe=safe)


def sign(method, path, query, headers, payload_hash, key_id, secret, region="auto", now=None):
    """Adds the headers of an AWS4-HMAC-SHA256 signature. path is percent-encoded, query a list of pairs."""
    now = now or datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {**headers, "x-amz-date": stamp, "x-amz-content-sha256": payload_hash}
    signed = sorted((name.lower(), str(value).strip()) for name, value in headers.items())
    names = ";".join(name for name, _ in signed)
    canonical = "\n".join([
        method, path, "&".join(f"{quote(k)}={quote(v)}" for k, v in sorted(query)),
        "".join(f"{name}:{value}\n" for name, value in signed), names, payload_hash])
    scope = f"{day}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + secret.encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers["Authorization"] = (f"AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={names}, "
                                f"Signature={signature}")
    return headers


class Bucket:
    """endpoint: "http://host:port[/path]"; the path stands before the bucket, as with miniflare."""

    def __init__(self, endpoint, bucket, key_id, secret, region="auto"):
        url = urllib.parse.urlsplit(endpoint)
        self.host, self.prefix = url.netloc, url.path.rstrip("/")
        self.bucket, self.key_id, self.secret, self.region = bucket, key_id, secret, region
        self.client = Client((url.hostname, url.port or 80))

    def request(self, method, key="", query=(), body=b"", headers=None, ok=(200, 204, 206)):
        """The Response, or S3Error if its status is not in ok (ok=None: any)."""
        path = f"{self.prefix}/{self.bucket}" + (f"/{quote(key, '-_.~/')}" if key else "")
        query = list(query)
        headers = sign(method, path, query, {"Host": self.host, **(headers or {})},
                       hashlib.sha256(body).hexdigest(), self.key_id, self.secret, self.region)
        target = path + ("?" + "&".join(f"{quote(k)}={quote(v)}" for k, v in query) if query else "")
        response = self.client.request(method, target, body or None, headers)
        if ok is not None and response.status not in ok:
            raise S3Error(response, f"{method} {target}")
        return response

    def get(self, key, **headers):
        return self.request("GET", key, headers=headers).body

    def head(self, key):
        """The headers, or None if there is no such object."""
        response = self.request("HEAD", key, ok=(200, 404))
        return response.headers if response.status == 200 else None

    def put(self, key, body, headers=None):
        return self.request("PUT", key, body=body, headers=headers)

    def delete(self, key):
        return self.request("DELETE", key)

    def list(self, prefix=""):
        """{key: (size, etag)} of the whole bucket, page by page."""
        found, token = {}, None
        while True:
            query = [("list-type", "2"), ("encoding-type", "url"), ("prefix", prefix)]
            if token:
                query.append(("continuation-token", token))
            tree = ElementTree.fromstring(self.request("GET", query=query).body)
            for element in tree.iter():
                element.tag = element.tag.rpartition("}")[2]
            for item in tree.findall("Contents"):
                key = urllib.parse.unquote(item.findtext("Key"))
                found[key] = (int(item.findtext("Size")), item.findtext("ETag").strip('"'))
            if tree.findtext("IsTruncated") != "true":
                return found
            token = tree.findtext("NextContinuationToken")

    def digests(self, prefix=""):
        """{key: sha256} of what is really stored."""
        return {key: hashlib.sha256(self.get(key)).hexdigest() for key in self.list(prefix)}
