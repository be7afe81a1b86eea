"""Settings of the sample site. All that differs between two runs comes from the environment:

SITE_DIR         folder of the database, of the temporary uploads and, by default, of the media (required)
SITE_MEDIA_ROOT  MEDIA_ROOT, if it is not SITE_DIR/media
SITE_SECRET      Django's secret key (required)
SITE_DEBUG       1: Django's debug pages
SITE_STORAGE     address of an r2shim proxy: the media are stored through it (contrib/django), with the token in SITE_TOKEN_FILE
"""
import os
from pathlib import Path

import django
from django.core.exceptions import ImproperlyConfigured


def need(name):
    try:
        return os.environ[name]
    except KeyError:
        raise ImproperlyConfigured(f"the environment variable {name} is not set") from None


SITE_DIR = Path(need("SITE_DIR"))
SECRET_KEY = need("SITE_SECRET")
DEBUG = os.environ.get("SITE_DEBUG") == "1"
ALLOWED_HOSTS = ["*"]

INSTALLED_APPS = ["documents"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "demosite.urls"
WSGI_APPLICATION = "demosite.wsgi.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

# SQLite under many clients: writers wait for each other (timeout), readers never wait (WAL, see documents.apps).
# No ATOMIC_REQUESTS: a transaction that begins with a read cannot wait for the write lock, it fails at once.
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": str(SITE_DIR / "db.sqlite3"),
    "OPTIONS": {"timeout": 30},
    "CONN_MAX_AGE": None,
}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

MEDIA_ROOT = os.environ.get("SITE_MEDIA_ROOT") or str(SITE_DIR / "media")
MEDIA_URL = "/media/"
if "SITE_STORAGE" in os.environ:
    R2SHIM_STORAGE = {"address": os.environ["SITE_STORAGE"], "token_file": need("SITE_TOKEN_FILE")}
    if django.VERSION >= (4, 2):
        STORAGES = {"default": {"BACKEND": "r2shim_storage.R2shimStorage"}}
    else:
        DEFAULT_FILE_STORAGE = "r2shim_storage.R2shimStorage"
# On the media's own file system, so that big uploads are renamed into place.
FILE_UPLOAD_TEMP_DIR = str(SITE_DIR / "tmp")

USE_TZ = True
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"django.request": {"handlers": ["stderr"], "level": "ERROR", "propagate": False}},
}
