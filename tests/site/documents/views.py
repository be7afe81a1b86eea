"""Upload, replace, overwrite, delete. Nothing here knows that a proxy mirrors the media.

A program gets JSON (201 for an upload, 200 otherwise); a browser that posted the form is sent back to the list (302).
The views take no CSRF token: the sample site has no users.
"""
import os
import tempfile

from django.conf import settings
from django.core.files.storage import default_storage
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from documents.forms import DocumentForm, FileForm
from documents.models import Document


@require_GET
def ping(request):
    return HttpResponse("pong\n", content_type="text/plain")


@require_GET
def index(request):
    newest = Document.objects.order_by("-changed")[:100]
    return render(request, "documents/index.html", {"documents": newest, "form": DocumentForm()})


def answer(request, data, status=200):
    if "text/html" in request.headers.get("Accept", ""):
        return redirect("index")
    return JsonResponse(data, status=status)


def describe(document):
    data = {"id": document.pk, "name": document.file.name, "url": document.file.url, "size": document.file.size}
    if document.picture:
        data["picture"] = {"name": document.picture.name, "url": document.picture.url}
    return data


@csrf_exempt
@require_POST
def upload(request):
    form = DocumentForm(request.POST, request.FILES)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    return answer(request, describe(form.save()), 201)


@csrf_exempt
@require_POST
def replace(request, pk):
    """The way most sites do it: the new file gets a name of its own, the old one is deleted."""
    document = get_object_or_404(Document, pk=pk)
    form = FileForm(request.POST, request.FILES)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    storage, old = document.file.storage, document.file.name
    document.file = form.cleaned_data["file"]
    document.save()
    storage.delete(old)
    return answer(request, {**describe(document), "deleted": old})


@csrf_exempt
@require_POST
def overwrite(request, pk):
    """The file keeps its name. mode=rename (default) renames the new bytes over it: a reader sees the old or the new
    file, never a part. mode=inplace truncates and writes the file itself; mode=recreate is the wide-spread
    OverwriteStorage: delete, then save under the same name."""
    document = get_object_or_404(Document, pk=pk)
    form = FileForm(request.POST, request.FILES)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    name, content = document.file.name, form.cleaned_data["file"]
    mode = request.POST.get("mode", "rename")
    if mode == "inplace":
        with default_storage.open(name, "wb") as target:
            for chunk in content.chunks():
                target.write(chunk)
    elif mode == "recreate":
        default_storage.delete(name)
        if default_storage.save(name, content) != name:
            return JsonResponse({"errors": {"file": ["the name was taken"]}}, status=409)
    elif mode == "rename":
        with tempfile.NamedTemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR, delete=False) as target:
            for chunk in content.chunks():
                target.write(chunk)
        os.chmod(target.name, 0o644)
        os.replace(target.name, default_storage.path(name))
    else:
        return JsonResponse({"errors": {"mode": ["unknown"]}}, status=400)
    document.save(update_fields=["changed"])
    return answer(request, describe(document))


@csrf_exempt
@require_POST
def delete(request, pk):
    document = get_object_or_404(Document, pk=pk)
    names = [field.name for field in (document.file, document.picture) if field]
    document.delete()
    for name in names:
        default_storage.delete(name)
    return answer(request, {"id": pk, "deleted": names})
