"""The tests' own signature, against the example in Amazon's documentation of Signature Version 4 for S3 (GET Object)."""
import datetime
import hashlib

from s3 import quote, sign


def test_signature_is_amazons():
    headers = sign("GET", "/test.txt", [], {"Host": "examplebucket.s3.amazonaws.com", "Range": "bytes=0-9"},
                   hashlib.sha256(b"").hexdigest(), "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                   "us-east-1", datetime.datetime(2013, 5, 24))
    assert headers["Authorization"].endswith(
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")


def test_list_signature_is_amazons():
    headers = sign("GET", "/", [("prefix", "J"), ("max-keys", "2")], {"Host": "examplebucket.s3.amazonaws.com"},
                   hashlib.sha256(b"").hexdigest(), "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                   "us-east-1", datetime.datetime(2013, 5, 24))
    assert headers["Authorization"].endswith("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")


def test_quoting():
    assert quote("a b/\u00e4+c~(1)'*!", "-_.~/") == "a%20b/%C3%A4%2Bc~%281%29%27%2A%21"
