"""Serves MEDIA_ROOT, as django.views.static.serve does, without its two races.

Django 3.2's view opens the file, then asks the *path* for its size: a file deleted in between is a 500, and one that was
renamed over it gives the new length with the old bytes. Here size and time are those of the open file. All else is as
there: any method gets the file (a PUT or DELETE is answered with 200 and changes nothing), no Range, no ETag. What is somebody's
own goes through private.py, however its path is written.
"""
import mimetypes
import os
import posixpath

from django.conf import settings
from django.http import Http404, HttpResponseNotModified, StreamingHttpResponse
from django.utils._os import safe_join
from django.utils.http import http_date
from django.views.static import was_modified_since

from documents import private


def pieces(opened):
    with opened:
        while piece := opened.read(1 << 16):
            yield piece


def serve(request, path):
    path = posixpath.normpath(path).lstrip("/")
    if private.owner_of(path) is not None:
        return private.serve(request, path)
    try:
        opened = open(safe_join(settings.MEDIA_ROOT, path), "rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
        raise Http404(f"{path} does not exist") from None
    stat = os.fstat(opened.fileno())
    if not was_modified_since(request.META.get("HTTP_IF_MODIFIED_SINCE"), stat.st_mtime, stat.st_size):
        opened.close()
        return HttpResponseNotModified()
    content_type, encoding = mimetypes.guess_type(path)
    response = StreamingHttpResponse(pieces(opened), content_type=content_type or "application/octet-stream")
    response["Content-Length"] = stat.st_size
    response["Last-Modified"] = http_date(stat.st_mtime)
    if encoding:
        response["Content-Encoding"] = encoding
    return response
