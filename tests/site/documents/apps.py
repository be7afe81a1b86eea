"""The one app of the sample site."""
from django.apps import AppConfig
from django.db.backends.signals import connection_created


def tune(sender, connection, **kwargs):
    """Readers and the writer of an SQLite file do not block each other in WAL mode."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")


class DocumentsConfig(AppConfig):
    name = "documents"

    def ready(self):
        connection_created.connect(tune, dispatch_uid="documents.tune")
