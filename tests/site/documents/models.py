"""A document: one file, perhaps a picture of it, in a folder of the user's choice."""
from django.db import models


def folder_path(document, filename):
    return f"{document.folder}/{filename}"


def picture_path(document, filename):
    return f"{document.folder}/pictures/{filename}"


class Document(models.Model):
    title = models.CharField(max_length=200, blank=True)
    folder = models.CharField(max_length=200, default="documents")
    file = models.FileField(upload_to=folder_path, max_length=500)
    picture = models.ImageField(upload_to=picture_path, max_length=500, blank=True)
    changed = models.DateTimeField(auto_now=True, db_index=True)

    def __str__(self):
        return self.title or self.file.name
