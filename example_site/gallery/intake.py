"""The way in: a file becomes a picture's row, and a row becomes a task."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from django.db import transaction

from example_site.gallery import files
from example_site.gallery.models import Picture, Upload
from example_site.gallery.partisan_tasks import TakeIn
from partisan_async.models import Task

MAX_MEGABYTES = 20
"""Of one file; the whole request is for the web server to bound."""

MAX_FILES = 200
"""Of one upload."""


def refusal(name: str, size: int, already: int) -> str | None:
    """Say why a file is not even stored; ``None`` if it may be.

    :param size: in bytes.
    :param already: how many pictures its upload has.
    """
    if already >= MAX_FILES:
        return f"{name} is one too many: an upload takes {MAX_FILES} pictures."
    if not size:
        return f"{name} is empty."
    megabytes = size / 2**20
    if megabytes > MAX_MEGABYTES:
        return f"{name} has {megabytes:.1f} MB; the most that is taken is {MAX_MEGABYTES} MB."
    return None


def store(upload: Upload, name: str, content: bytes) -> Picture:
    """Keep a file and return its row; the same content twice is one picture."""
    # A file's name may hold bytes that are no text, and then PostgreSQL cannot store it.
    name = name.encode(errors="replace").decode()
    picture = Picture(name=name, digest=hashlib.sha256(content).hexdigest())
    files.write(files.original(picture), content)
    stored, _ = Picture.objects.get_or_create(digest=picture.digest, defaults={"name": name})
    upload.pictures.add(stored)
    return stored


def take_in(paths: Iterable[Path], name: str) -> list[Task]:
    """Take in files as one upload, all of them or none, and return a task for each.

    ``delay()`` is part of the transaction: no worker sees a task before it is committed. A picture
    that comes twice is one task, returned twice: see ``UNIQUE_FOR_PARAMS``.
    """
    with transaction.atomic():
        upload = Upload.objects.create(name=name)
        return [TakeIn(store(upload, path.name, path.read_bytes())).delay() for path in paths]
