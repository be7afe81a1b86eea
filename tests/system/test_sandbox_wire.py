"""The same raw requests to the sandbox and to Cloudflare's local R2: status and <Code> as R2 has them, and alike.

A row of CASES is a name, what is sent, and the status and code that R2 answers. OTHERWISE lists, with the reason, where
Cloudflare's local front end is known to differ from R2 itself; there its answer is fixed too, so that a new version of it
that behaves otherwise is noticed.
"""
import hashlib

import pytest

import harness
import s3
from sandbox_tools import Miniflare, Sandbox, Target, ago, code, md5, node_version, text

HELLO = b"hello, world"
EMPTY = hashlib.sha256(b"").hexdigest()
PART = 5 * 1024 * 1024


def serve_module(name, server):
    """Runs a server for all tests of this file; between them the harness does not know of it."""
    server.start()
    harness.running.remove(server)
    yield Target(name, server, keep_alive=name == "sandbox")
    harness.running.append(server)
    server.stop()


@pytest.fixture(scope="module")
def sandbox_target(tmp_path_factory):
    if harness.binary() is None:
        pytest.skip("no r2shim binary (build it, or set R2SHIM_BIN)")
    server = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield from serve_module("sandbox", server)


@pytest.fixture(scope="module")
def miniflare_target(tmp_path_factory):
    if node_version() < 20:
        pytest.skip("Node 20 or later is needed for Cloudflare's local R2")
    server = Miniflare(tmp_path_factory.mktemp("miniflare"))
    yield from serve_module("miniflare", server)


def header(**changes):
    """Changes headers after signing; None removes."""
    def change(headers, query):
        for name, value in changes.items():
            name = name.replace("_", "-")
            for old in [h for h in headers if h.lower() == name.lower()]:
                del headers[old]
            if value is not None:
                headers[name] = value
    return change


def authorization(old, new):
    def change(headers, query):
        assert old in headers["Authorization"]
        headers["Authorization"] = headers["Authorization"].replace(old, new)
    return change


def put(key, body=HELLO, headers=None, **more):
    return lambda t: t.send("PUT", key, body=body, headers=headers, **more)


def get(key, **more):
    return lambda t: t.send("GET", key, **more)


def changed_path(target):
    """Signed for one key, sent to another."""
    headers = s3.sign("GET", target.path("there"), [], {"Host": target.host}, EMPTY, target.server.key_id, target.server.secret)
    response = target.client.request("GET", target.path("empty"), None, headers)
    target.client.close()
    return response.status, code(response), response


def listing(**query):
    return lambda t: t.send("GET", query=[(k.replace("_", "-"), v) for k, v in query.items()])


def ranged(value, key="there"):
    return lambda t: t.send("GET", key, headers={"Range": value})


def presigned(method="GET", key="there", **more):
    return lambda t: t.send(method, key, query=t.presigned(method, key, **more), signed=False,
                            body=HELLO if method == "PUT" else b"")


def copy(source="{bucket}/there", key="copied", **headers):
    def send(t):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return t.send("PUT", key, headers={"x-amz-copy-source": source.format(bucket=t.server.bucket), **named})
    return send


def uploads(parts, listed=None, spoil=None):
    """Creates an upload, sends parts {number: size}, completes it with the listed numbers."""
    def send(t):
        upload = text(t.send("POST", "multi", query=[("uploads", "")])[2], "UploadId")
        etags = {}
        for number, size in parts.items():
            answer = t.send("PUT", "multi", query=[("partNumber", str(number)), ("uploadId", upload)], body=b"p" * size)
            assert answer[0] == 200, answer
            etags[number] = answer[2].headers["ETag"]
        if spoil:
            etags[spoil] = '"' + "0" * 32 + '"'
        items = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etags.get(n, etags[min(etags)])}</ETag></Part>"
                        for n in (listed or list(parts)))
        answer = t.send("POST", "multi", query=[("uploadId", upload)],
                        body=f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode())
        if answer[0] != 200:
            t.send("DELETE", "multi", query=[("uploadId", upload)])
        return answer
    return send


def deletion(*keys, extra=""):
    items = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    return lambda t: t.send("POST", query=[("delete", "")], body=f"<Delete>{items}{extra}</Delete>".encode())


CASES = [
    # the header's signature, in R2's order of checks
    ("unsigned", get("there", signed=False), 400, "InvalidArgument"),
    ("no payload hash", get("there", change=header(x_amz_content_sha256=None)), 400, "InvalidRequest"),
    ("no date", get("there", change=header(x_amz_date=None)), 400, "InvalidArgument"),
    ("date of another form", get("there", change=header(x_amz_date="Mon, 23 Nov 2026 02:00:00 GMT")), 400, "InvalidArgument"),
    ("stale date", get("there", now=ago(minutes=16)), 403, "RequestTimeTooSkewed"),
    ("date ahead", get("there", now=ago(minutes=-16)), 403, "RequestTimeTooSkewed"),
    ("date just within", get("there", now=ago(minutes=14)), 200, None),
    ("another algorithm", get("there", change=authorization("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512")), 400, "InvalidRequest"),
    ("no signature field", get("there", change=authorization("Signature=", "Sig=")), 400, "InvalidRequest"),
    ("short credential", get("there", change=authorization("/auto/", "/")), 400, "InvalidArgument"),
    ("another service", get("there", change=authorization("/s3/", "/ec2/")), 400, "InvalidArgument"),
    ("another terminator", get("there", change=authorization("aws4_request", "aws5_request")), 400, "InvalidArgument"),
    ("another day in the scope", get("there", change=lambda h, q: h.update(Authorization=h["Authorization"].replace(
        h["x-amz-date"][:8], "20200101", 1))), 400, "InvalidArgument"),
    ("unknown key", get("there", key_id="NOBODY"), 401, "Unauthorized"),
    ("host not signed", get("there", change=authorization("SignedHeaders=host;", "SignedHeaders=")), 401, "Unauthorized"),
    ("wrong secret", get("there", secret="wrong"), 403, "SignatureDoesNotMatch"),
    ("wrong secret, write", put("never", secret="wrong"), 403, "SignatureDoesNotMatch"),
    ("changed path", changed_path, 403, "SignatureDoesNotMatch"),
    ("changed query", get("there", change=lambda h, q: q.append(("x-id", "GetObject"))), 403, "SignatureDoesNotMatch"),
    ("changed signed header", put("never", headers={"x-amz-meta-a": "1"}, change=header(x_amz_meta_a="2")), 403,
     "SignatureDoesNotMatch"),
    ("another region", get("there", region="us-east-1"), 200, None),
    ("query to be sorted", lambda t: t.send("GET", query=[("prefix", "x y/+&="), ("list-type", "2"), ("delimiter", "/")]), 200,
     None),
    ("changed payload", put("never", payload=hashlib.sha256(b"other").hexdigest()), 400, "XAmzContentSHA256Mismatch"),
    ("unsigned payload", put("unsigned", payload="UNSIGNED-PAYLOAD"), 200, None),
    ("session token", get("there", headers={"x-amz-security-token": "t"}), 400, "InvalidArgument"),
    # presigned
    ("presigned get", presigned(), 200, None),
    ("presigned put", presigned("PUT", "presigned"), 200, None),
    ("presigned, expired", presigned(now=ago(minutes=5)), 403, "ExpiredRequest"),
    ("presigned, no expiry", presigned(X_Amz_Expires=None), 400, "InvalidArgument"),
    ("presigned, two missing", presigned(X_Amz_Expires=None, X_Amz_Date=None), 400, "InvalidArgument"),
    ("presigned, expiry no number", presigned(X_Amz_Expires="soon"), 400, "InvalidArgument"),
    ("presigned, too long", presigned(expires=604801), 400, "InvalidArgument"),
    ("presigned, wrong secret", presigned(secret="wrong"), 403, "SignatureDoesNotMatch"),
    ("presigned, other algorithm", presigned(X_Amz_Algorithm="AWS4"), 400, "InvalidRequest"),
    ("presigned form", lambda t: t.send("POST", signed=False, body=b"x"), 501, "NotImplemented"),
    # PutObject
    ("put", put("put"), 200, None),
    ("put, right md5", put("put", headers={"Content-MD5": md5(HELLO)}), 200, None),
    ("put, wrong md5", put("never", headers={"Content-MD5": md5(b"other")}), 400, "BadDigest"),
    ("put, md5 no base64", put("never", headers={"Content-MD5": "!!!!"}), 400, "InvalidDigest"),
    ("put, md5 too short", put("never", headers={"Content-MD5": "YWJj"}), 400, "InvalidDigest"),
    ("put if absent, it is there", put("there", headers={"If-None-Match": "*"}), 412, "PreconditionFailed"),
    ("put if absent, it is not", put("new", headers={"If-None-Match": "*"}), 200, None),
    ("put if match, it is not there", put("never", headers={"If-Match": '"0"'}), 412, "PreconditionFailed"),
    ("put if match", put("there", headers={"If-Match": '"%s"' % hashlib.md5(HELLO).hexdigest()}), 200, None),
    ("put if match of a list", put("there", headers={"If-Match": '"x", "%s"' % hashlib.md5(HELLO).hexdigest()}), 200, None),
    ("put if match, another", put("there", headers={"If-Match": '"%s"' % ("0" * 32)}), 412, "PreconditionFailed"),
    ("put if match, any", put("there", headers={"If-Match": "*"}), 200, None),
    ("put if modified since, it is not there", put("never", headers={"If-Modified-Since": "Mon, 23 Nov 2020 02:00:00 GMT"}), 412,
     "PreconditionFailed"),
    ("put if unmodified since long ago", put("there", headers={"If-Unmodified-Since": "Mon, 23 Nov 2020 02:00:00 GMT"}), 412,
     "PreconditionFailed"),
    ("put with tags", put("never", headers={"x-amz-tagging": "a=b"}), 501, "NotImplemented"),
    ("put with an owner", put("never", headers={"x-amz-expected-bucket-owner": "1"}), 501, "NotImplemented"),
    ("put with a canned acl", put("acl", headers={"x-amz-acl": "public-read"}), 200, None),
    ("put with an unknown acl", put("never", headers={"x-amz-acl": "everybody"}), 501, "NotImplemented"),
    ("put with kms", put("never", headers={"x-amz-server-side-encryption": "aws:kms"}), 501, "NotImplemented"),
    ("put with aes", put("aes", headers={"x-amz-server-side-encryption": "AES256"}), 200, None),
    ("put of an unknown class", put("never", headers={"x-amz-storage-class": "GLACIER"}), 400, "InvalidStorageClass"),
    ("put of an infrequent class", put("ia", headers={"x-amz-storage-class": "STANDARD_IA"}), 200, None),
    ("put of an acl", put("there", query=[("acl", "")]), 501, "NotImplemented"),
    ("post is put", lambda t: t.send("POST", "posted", body=HELLO), 200, None),
    ("put with an upload id only", put("plain", query=[("uploadId", "x")]), 200, None),
    ("odd names", put("a//b/%25 é+/"), 200, None),
    ("dots in a name", put("a/../b/./c"), 200, None),
    ("streaming, aws", put("never", payload="STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), 501, "NotImplemented"),
    # GetObject, HeadObject
    ("get", get("there"), 200, None),
    ("get, not there", get("nowhere"), 404, "NoSuchKey"),
    ("head, not there", lambda t: t.send("HEAD", "nowhere"), 404, None),
    ("head", lambda t: t.send("HEAD", "there"), 200, None),
    ("head, ranged", lambda t: t.send("HEAD", "there", headers={"Range": "bytes=0-1"}), 206, None),
    ("range", ranged("bytes=1-3"), 206, None),
    ("range, open", ranged("bytes=3-"), 206, None),
    ("range, suffix", ranged("bytes=-3"), 206, None),
    ("range, suffix longer than all", ranged("bytes=-300"), 206, None),
    ("range, end beyond", ranged("bytes=3-300"), 206, None),
    ("range, start beyond", ranged("bytes=300-"), 416, "InvalidRange"),
    ("range, empty suffix", ranged("bytes=-0"), 416, "InvalidRange"),
    ("range, of nothing", ranged("bytes=0-", "empty"), 416, "InvalidRange"),
    ("range, suffix of nothing", ranged("bytes=-1", "empty"), 416, "InvalidRange"),
    ("range, inverted", ranged("bytes=3-1"), 400, "InvalidArgument"),
    ("range, two", ranged("bytes=0-1,3-4"), 400, "InvalidArgument"),
    ("range, other unit", ranged("lines=0-1"), 400, "InvalidArgument"),
    ("range, no digits", ranged("bytes=a-b"), 400, "InvalidArgument"),
    ("range of what is not there", ranged("bytes=a-b", "nowhere"), 400, "InvalidArgument"),
    ("get if none match", get("there", headers={"If-None-Match": '"%s"' % hashlib.md5(HELLO).hexdigest()}), 304, None),
    ("get if none match, weak", get("there", headers={"If-None-Match": 'W/"%s"' % hashlib.md5(HELLO).hexdigest()}), 304, None),
    ("get if match fails", get("there", headers={"If-Match": '"x"'}), 412, "PreconditionFailed"),
    ("get if modified since", get("there", headers={"If-Modified-Since": "Mon, 23 Nov 2099 02:00:00 GMT"}), 304, None),
    ("get if unmodified since", get("there", headers={"If-Unmodified-Since": "Mon, 23 Nov 2020 02:00:00 GMT"}), 412,
     "PreconditionFailed"),
    ("get: match beats unmodified", get("there", headers={"If-Match": "*", "If-Unmodified-Since":
                                                         "Mon, 23 Nov 2020 02:00:00 GMT"}), 200, None),
    ("get: none match beats modified", get("there", headers={"If-None-Match": '"x"', "If-Modified-Since":
                                                            "Mon, 23 Nov 2099 02:00:00 GMT"}), 200, None),
    ("get of tags", get("there", query=[("tagging", "")]), 501, "NotImplemented"),
    ("get with a customer's key, no key", get("there", headers={"x-amz-server-side-encryption-customer-algorithm": "AES256"}),
     400, "InvalidArgument"),
    # DeleteObject, DeleteObjects
    ("delete", lambda t: t.send("DELETE", "put"), 204, None),
    ("delete, not there", lambda t: t.send("DELETE", "nowhere"), 204, None),
    ("delete with mfa", lambda t: t.send("DELETE", "nowhere", headers={"x-amz-mfa": "1"}), 501, "NotImplemented"),
    ("delete several", deletion("new", "nowhere"), 200, None),
    ("delete several, quietly", deletion("nowhere", extra="<Quiet>true</Quiet>"), 200, None),
    ("delete several, quiet of another word", deletion("nowhere", extra="<Quiet>yes</Quiet>"), 400, "MalformedXML"),
    ("delete none", deletion(), 400, "MalformedXML"),
    ("delete too many", deletion(*map(str, range(1001))), 400, "MalformedXML"),
    ("delete several, no document", lambda t: t.send("POST", query=[("delete", "")], body=b"<Delete"), 400, "MalformedXML"),
    ("delete several, wrong md5", lambda t: t.send("POST", query=[("delete", "")], headers={"Content-MD5": md5(b"x")},
                                                   body=b"<Delete><Object><Key>a</Key></Object></Delete>"), 400, "BadDigest"),
    # CopyObject
    ("copy", copy(), 200, None),
    ("copy of itself", copy(key="there", x_amz_metadata_directive="REPLACE", Content_Type="text/plain"), 200, None),
    ("copy with a slash", copy("/{bucket}/there"), 200, None),
    ("copy, no source", copy("{bucket}/nowhere"), 404, "NoSuchKey"),
    ("copy, no bucket", copy("nobucket/there"), 404, "NoSuchBucket"),
    ("copy, no key", copy("{bucket}"), 400, "InvalidArgument"),
    ("copy, unknown directive", copy(x_amz_metadata_directive="KEEP"), 400, "InvalidArgument"),
    ("copy if match fails", copy(x_amz_copy_source_if_match='"x"'), 412, "PreconditionFailed"),
    # lists
    ("list", listing(), 200, None),
    ("list 2", listing(list_type="2", prefix="t", delimiter="/", encoding_type="url", fetch_owner="true"), 200, None),
    ("list 3", listing(list_type="3"), 501, "NotImplemented"),
    ("list 1 with a token", listing(continuation_token="x"), 400, "InvalidArgument"),
    ("list, unknown parameter", listing(list_type="2", colour="red"), 501, "NotImplemented"),
    ("list, no number", listing(max_keys="x"), 400, "InvalidMaxKeys"),
    ("list, empty number", listing(max_keys=""), 400, "InvalidMaxKeys"),
    ("list, negative", listing(max_keys="-1"), 400, "InvalidMaxKeys"),
    ("list, fraction", listing(max_keys="1.5"), 200, None),
    ("list, none", listing(max_keys="0"), 200, None),
    ("list, more than 1000", listing(max_keys="5000"), 200, None),
    ("list, other encoding", listing(encoding_type="base64"), 501, "NotImplemented"),
    # the bucket
    ("head bucket", lambda t: t.send("HEAD"), 200, None),
    ("location", listing(location=""), 200, None),
    ("versioning", listing(versioning=""), 200, None),
    ("encryption", listing(encryption=""), 200, None),
    ("tags", listing(tagging=""), 404, "NoSuchTagSet"),
    ("object lock", listing(object_lock=""), 404, "ObjectLockConfigurationNotFoundError"),
    ("replication", listing(replication=""), 404, "ReplicationConfigurationNotFoundError"),
    ("versions", listing(versions=""), 501, "NotImplemented"),
    ("policy status", listing(policyStatus=""), 501, "NotImplemented"),
    ("bucket put, unknown parameters", lambda t: t.send("PUT", query=[("a", ""), ("b", "")]), 400, "InvalidArgument"),
    ("bucket delete, unknown parameter", lambda t: t.send("DELETE", query=[("a", "")]), 400, "InvalidArgument"),
    ("bucket put of an acl", lambda t: t.send("PUT", query=[("acl", "")]), 501, "NotImplemented"),
    ("bucket post", lambda t: t.send("POST", query=[("x", "")]), 200, None),
    ("unknown bucket", get("there", bucket="nobucket"), 404, "NoSuchBucket"),
    ("unknown bucket, wrong secret", get("there", bucket="nobucket", secret="wrong"), 403, "SignatureDoesNotMatch"),
    ("unknown method", lambda t: t.send("PATCH", "there"), 404, "RouteNotFound"),
    # multipart
    ("multipart", uploads({1: PART, 2: PART, 3: 7}), 200, None),
    ("multipart, one part", uploads({1: 7}), 200, None),
    ("multipart, out of order", uploads({2: 7, 1: PART}, [2, 1]), 200, None),
    ("multipart, small part", uploads({1: 7, 2: 7}), 400, "EntityTooSmall"),
    ("multipart, unequal parts", uploads({1: PART, 2: PART + 1, 3: 7}), 400, "InvalidPart"),
    ("multipart, larger last part", uploads({1: PART, 2: PART + 1}), 400, "InvalidPart"),
    ("multipart, part missing", uploads({1: 7}, [1, 2]), 400, "InvalidPart"),
    ("multipart, part of number 0", uploads({1: 7}, [0]), 400, "InvalidPart"),
    ("multipart, part no number", uploads({1: 7}, ["x"]), 400, "MalformedXML"),
    ("multipart, wrong etag", uploads({1: 7}, spoil=1), 400, "InvalidPart"),
    ("multipart, part twice", uploads({1: PART}, [1, 1]), 400, "InvalidPart"),
    ("complete, unknown upload", lambda t: t.send("POST", "m", query=[("uploadId", "x")], body=(
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>")), 404,
     "NoSuchUpload"),
    ("complete, no parts", lambda t: t.send("POST", "m", query=[("uploadId", "x")],
                                            body=b"<CompleteMultipartUpload></CompleteMultipartUpload>"), 400, "MalformedXML"),
    ("abort, unknown upload", lambda t: t.send("DELETE", "m", query=[("uploadId", "x")]), 404, "NoSuchUpload"),
    ("part, unknown upload", put("m", query=[("partNumber", "1"), ("uploadId", "x")]), 404, "NoSuchUpload"),
    ("part 0", put("m", query=[("partNumber", "0"), ("uploadId", "x")]), 400, "InvalidArgument"),
    ("part 10001", put("m", query=[("partNumber", "10001"), ("uploadId", "x")]), 400, "InvalidArgument"),
    ("part 1.0", put("m", query=[("partNumber", "1.0"), ("uploadId", "x")]), 404, "RouteNotFound"),
]

OTHERWISE = {
    "put of an infrequent class": (501, "NotImplemented", "it keeps no storage classes"),
    "streaming, aws": (200, None, "it stores the chunks' frames as they come"),
    "unknown bucket, wrong secret": (404, "NoSuchBucket", "its keys belong to a bucket, so it looks for the bucket first"),
    "multipart, unequal parts": (404, "NoSuchUpload", "its store reports them so"),
    "multipart, out of order": (400, "EntityTooSmall", "it takes the list's last part for the object's last"),
    "dots in a name": (403, "SignatureDoesNotMatch", "it resolves dots in the path, and so sees another request"),
    "multipart, larger last part": (404, "NoSuchUpload", "its store reports them so"),
}


def prepare(target):
    assert target.send("PUT", "there", body=HELLO, headers={"Content-Type": "text/plain"})[0] == 200
    assert target.send("PUT", "empty")[0] == 200


def outcome(target, send):
    return send(target)[:2]


@pytest.mark.parametrize("name,send,status,s3_code", CASES, ids=[case[0] for case in CASES])
def test_sandbox(sandbox_target, name, send, status, s3_code):
    prepare(sandbox_target)
    assert outcome(sandbox_target, send) == (status, s3_code)
    assert sandbox_target.send("HEAD", "never")[0] == 404, "a refused write left something"


@pytest.mark.parametrize("name,send,status,s3_code", CASES, ids=[case[0] for case in CASES])
def test_miniflare_answers_alike(miniflare_target, name, send, status, s3_code):
    prepare(miniflare_target)
    expected = OTHERWISE[name][:2] if name in OTHERWISE else (status, s3_code)
    assert outcome(miniflare_target, send) == expected


TEXTS = [
    ("unsigned", get("there", signed=False)),
    ("no payload hash", get("there", change=header(x_amz_content_sha256=None))),
    ("short credential", get("there", change=authorization("/auto/", "/"))),
    ("presigned, two missing", presigned(X_Amz_Expires=None, X_Amz_Date=None)),
    ("unknown key", get("there", key_id="NOBODY")),
    ("wrong md5", put("never", headers={"Content-MD5": md5(b"other")})),
    ("two ranges", ranged("bytes=0-1,3-4")),
    ("inverted range", ranged("bytes=3-1")),
    ("refused header", put("never", headers={"x-amz-tagging": "a=b"})),
    ("unknown parameters", lambda t: t.send("PUT", query=[("a", ""), ("b", "")])),
    ("list 3", listing(list_type="3")),
    ("list parameter", listing(list_type="2", colour="red")),
    ("max-keys", listing(max_keys="-1")),
    ("no key", get("nowhere")),
    ("tags", listing(tagging="")),
    ("policy status", listing(policyStatus="")),
    ("versioning", listing(versioning="")),
    ("part 0", put("m", query=[("partNumber", "0"), ("uploadId", "x")])),
    ("list", listing(list_type="2", prefix="no<&>such", delimiter="/", max_keys="7", encoding_type="url")),
    ("list 1", listing(prefix="nosuch", delimiter="/", marker="a")),
    ("delete", deletion("a &amp; &apos;b&apos; &lt;c>")),
]


@pytest.mark.parametrize("name,send", TEXTS, ids=[case[0] for case in TEXTS])
def test_documents_are_the_same(sandbox_target, miniflare_target, name, send):
    """Byte for byte, but for how a quote in a text is escaped."""
    bodies = [send(t)[2].body.replace(b"&apos;", b"'").replace(b"&quot;", b'"') for t in (sandbox_target, miniflare_target)]
    assert bodies[0] == bodies[1]


def test_deletion_keeps_blanks_of_a_name(sandbox_target):
    """The front end of Cloudflare trims them, R2 does not."""
    assert sandbox_target.send("PUT", "  blanks ", body=HELLO)[0] == 200
    answer = deletion("  blanks ")(sandbox_target)[2]
    assert text(answer, "Key") == "  blanks "
    assert sandbox_target.send("HEAD", "  blanks ")[0] == 404


def test_signature_mismatch_shows_what_was_signed(sandbox_target, miniflare_target):
    for target in (sandbox_target, miniflare_target):
        answer = target.send("GET", "there", secret="wrong")[2]
        assert text(answer, "CanonicalRequest").startswith(f"GET\n{target.path('there')}\n\nhost:{target.host}\n")
        assert text(answer, "StringToSign").startswith("AWS4-HMAC-SHA256\n")
        assert bytes.fromhex(text(answer, "StringToSignBytes")).decode() == text(answer, "StringToSign")
