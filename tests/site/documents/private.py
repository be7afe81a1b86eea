"""Files that only their owner may read: the first folder below a guarded one is a user's name, .../private/alice/a.pdf is alice's.

The site names the file in an X-Accel-Redirect, or with ?by=sendfile in an X-Sendfile, and leaves its bytes to the server before it. may_read
answers a server that asks for itself (nginx's auth_request, r2shim's read-auth).
"""
import posixpath
from urllib.parse import quote, unquote

from django.conf import settings
from django.http import HttpResponse, HttpResponseForbidden
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from django.utils._os import safe_join

GUARDED = ("private", "asked", "Keys", "priv\u00e9")


@csrf_exempt
@require_POST
def login(request):
    """No password: the tests' users are honest."""
    response = HttpResponse("welcome\n", content_type="text/plain")
    response.set_signed_cookie("user", request.POST["user"])
    return response


def user_of(request):
    return request.get_signed_cookie("user", None)


def owner_of(name):
    """None: anybody may read it. name: below MEDIA_ROOT, without dots and empty segments."""
    folder, _, rest = name.partition("/")
    return rest.partition("/")[0] if folder in GUARDED else None


def serve(request, name):
    if user_of(request) != owner_of(name):
        # gunicorn 20.1 sends a body after HEAD, too, and nginx takes that for the next answer's beginning.
        return HttpResponseForbidden("" if request.method == "HEAD" else "this is not for you\n", content_type="text/plain")
    response = HttpResponse()
    if request.GET.get("by") == "sendfile":
        response["X-Sendfile"] = quote(safe_join(settings.MEDIA_ROOT, name))
    else:
        response["X-Accel-Redirect"] = "/protected/" + quote(name)
    del response["Content-Type"]
    response["Content-Disposition"] = "attachment"
    response["Vary"] = "Cookie"
    response.set_cookie("seen", "1")
    return response


def may_read(request):
    user = user_of(request)
    path = unquote(request.headers["X-Original-URI"].partition("?")[0])
    if user is None:
        response = HttpResponse("who are you?\n", status=401, content_type="text/plain")
        response["WWW-Authenticate"] = 'Basic realm="site"'
        return response
    if user != owner_of(posixpath.normpath(path.removeprefix("/media/"))):
        return HttpResponseForbidden("this is not for you\n", content_type="text/plain")
    response = HttpResponse(status=204)
    response.set_cookie("asked", "1")
    return response
