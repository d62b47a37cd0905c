"""The way in: a file becomes a picture's row, and a row becomes a task."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from django.db import transaction

from example_site.gallery import files
from example_site.gallery.models import Picture
from example_site.gallery.partisan_tasks import TakeIn
from partisan_async.models import Task


def store(name: str, content: bytes) -> Picture:
    """Keep a file and return its row; the same content twice is one picture."""
    # A file's name may hold bytes that are no text, and then PostgreSQL cannot store it.
    name = name.encode(errors="replace").decode()
    picture = Picture(name=name, digest=hashlib.sha256(content).hexdigest())
    files.write(files.original(picture), content)
    stored, _ = Picture.objects.get_or_create(digest=picture.digest, defaults={"name": name})
    return stored


def take_in(paths: Iterable[Path]) -> list[Task]:
    """Take in files, all of them or none, and return a task for each.

    ``delay()`` is part of the transaction: no worker sees a task before it is committed. A picture
    that comes twice is one task, returned twice: see ``UNIQUE_FOR_PARAMS``.
    """
    with transaction.atomic():
        return [TakeIn(store(path.name, path.read_bytes()).pk).delay() for path in paths]
