"""Where the files lie. Their names come from the content, so to write one twice changes nothing."""

import os
import tempfile
from pathlib import Path

from django.conf import settings

from example_site.gallery.models import Kind, Picture


def original(picture: Picture) -> Path:
    """Return the place of the file as it was taken in."""
    return Path(settings.MEDIA_ROOT, "originals", picture.digest)


def rendition(picture: Picture, kind: Kind) -> Path:
    """Return the place of a rendition."""
    return Path(settings.MEDIA_ROOT, "renditions", picture.digest, f"{kind.value}.jpg")


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, whoever writes or reads it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, half_written = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(half_written).replace(path)
    except BaseException:
        Path(half_written).unlink()
        raise
