"""The application behind the proxy in test_wire.py: it writes down each request that it was given, one JSON object a line, and answers.

gunicorn's own reader gives it the body; a body that ends early is `whole: false`.
"""
import hashlib
import json
import os


def application(environ, start_response):
    length = environ.get("CONTENT_LENGTH")
    try:
        body = environ["wsgi.input"].read()
        whole = length is None or int(length) == len(body)
    except OSError:
        body, whole = b"", False
    record = {"method": environ["REQUEST_METHOD"], "target": environ["RAW_URI"], "length": len(body), "whole": whole,
              "sha256": hashlib.sha256(body).hexdigest()}
    log = os.open(os.environ["WIRE_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, json.dumps(record).encode() + b"\n")
    os.close(log)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    # gunicorn 20.1 would send it, and nginx keeps a connection with bytes on it that nobody asked for.
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"ok\n"]
