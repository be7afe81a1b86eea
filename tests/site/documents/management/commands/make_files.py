"""Writes files below MEDIA_ROOT, as cron jobs and importers do: no request, no form, no database row."""
import hashlib
import json
import random

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Write, or delete, files below MEDIA_ROOT behind the proxy's back; prints one JSON object a line."

    def add_arguments(self, parser):
        parser.add_argument("--count", type=int, default=1, help="how many files to write")
        parser.add_argument("--dir", default="made", help="folder below MEDIA_ROOT")
        parser.add_argument("--size", type=int, default=2000, help="size of a file in bytes")
        parser.add_argument("--seed", type=int, default=None, help="same seed, same contents")
        parser.add_argument("--prefix", default="made-", help="file names begin with it")
        parser.add_argument("--delete", nargs="*", metavar="NAME", default=[],
                            help="delete these names (as printed) first; \"*\" for all of --dir")

    def handle(self, *args, **options):
        folder = options["dir"].strip("/")
        for name in self.names_to_delete(folder, options["delete"]):
            if not default_storage.exists(name):
                raise CommandError(f"{name}: no such file")
            default_storage.delete(name)
            self.say({"deleted": name})
        rng = random.Random(options["seed"])
        for number in range(options["count"]):
            content = rng.randbytes(options["size"])
            name = default_storage.save(f"{folder}/{options['prefix']}{number:05d}.bin", ContentFile(content))
            self.say({"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()})

    def names_to_delete(self, folder, names):
        if names != ["*"]:
            return names
        return [f"{folder}/{name}" for name in default_storage.listdir(folder)[1]]

    def say(self, data):
        self.stdout.write(json.dumps(data))
