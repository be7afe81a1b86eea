"""URLs of the sample site."""
from django.urls import path

from documents import media, private, views

urlpatterns = [
    path("", views.index, name="index"),
    path("ping/", views.ping, name="ping"),
    path("upload/", views.upload, name="upload"),
    path("replace/<int:pk>/", views.replace, name="replace"),
    path("overwrite/<int:pk>/", views.overwrite, name="overwrite"),
    path("delete/<int:pk>/", views.delete, name="delete"),
    path("login/", private.login),
    path("may-read/", private.may_read),
    # Without nginx the media is served by Django itself.
    path("media/<path:path>", media.serve),
]
