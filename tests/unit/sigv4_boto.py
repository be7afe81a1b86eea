#!/usr/bin/python3
"""Writes sigv4_boto.def: random S3 requests as botocore signs them (any botocore: Debian's awscli carries one).

Usage: sigv4_boto.py > sigv4_boto.def
Deterministic; the table is kept in the repository so that the test needs no Python.
"""
import datetime
import random
import urllib.parse

try:
    import awscli  # noqa: F401  Debian's brings its own botocore and makes it importable under that name
except ImportError:
    pass
from botocore import auth, awsrequest, credentials

KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
WHEN = datetime.datetime(2026, 11, 23, 1, 2, 3)
ALPHABET = "abcXYZ019-_.~/ !\"#$%&'()*+,:;<=>?@[\\]^`{|}\u00e9e\u0301\u00df\u4e16\u754c\U0001f600"


class FixedClock(datetime.datetime):
    @classmethod
    def utcnow(cls):
        return WHEN

    @classmethod
    def now(cls, tz=None):
        return WHEN.replace(tzinfo=tz)


def c_string(text):
    out = ""
    for byte in text.encode():
        char = chr(byte)
        if char in '"\\' or char == "?":
            out += "\\" + char
        elif 32 <= byte < 127:
            out += char
        else:
            out += "\\%03o" % byte
    return '"%s"' % out


def encode(text, safe):
    return urllib.parse.quote(text, safe=safe + "-_.~")


def main():
    rng = random.Random(20261123)
    auth.datetime.datetime = FixedClock
    creds = credentials.Credentials(KEY_ID, SECRET)
    print("/* Made by sigv4_boto.py: BOTO(method, path, query, value of x-amz-meta-test, payload, Authorization) */")
    for number in range(120):
        method = rng.choice(["GET", "PUT", "HEAD", "DELETE", "POST"])
        key = "".join(rng.choice(ALPHABET) for _ in range(rng.randint(1, 24)))
        query = "&".join(
            encode("".join(rng.choice("abAB-z.:") for _ in range(rng.randint(1, 4))), "") + "="
            + encode("".join(rng.choice(ALPHABET) for _ in range(rng.randint(0, 8))), "")
            for _ in range(rng.randint(0, 4)))
        path = "/bucket/" + encode(key, "/")
        meta = "  ".join("".join(rng.choice("abc,;=\"") for _ in range(rng.randint(1, 5))) for _ in range(rng.randint(1, 3)))
        payload = rng.choice(["UNSIGNED-PAYLOAD", "%064x" % rng.getrandbits(256)])
        request = awsrequest.AWSRequest(
            method=method, url="https://acc.r2.cloudflarestorage.com" + path + ("?" + query if query else ""),
            headers={"x-amz-meta-test": meta, "X-Amz-Content-SHA256": payload})
        signer = auth.S3SigV4Auth(creds, "s3", "auto")
        signer.payload = lambda _request, value=payload: value
        signer.add_auth(request)
        print("BOTO(%s)" % ", ".join(map(c_string, (
            method, path, query, meta, payload, request.headers["Authorization"]))))


if __name__ == "__main__":
    main()
