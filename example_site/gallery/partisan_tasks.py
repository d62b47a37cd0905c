"""The tasks of the gallery. The way of a picture:

TakeIn → MakeThumbnail, MakeRendition (medium), MakeRendition (large) → Watermark
       → Publish, which waits for all of them → Announce, and a mail to the managers

A task may run twice, after a crash for one, so each finds the same files and rows the second time
and changes nothing. Each is passed its picture: stored by its key, and fetched anew for each run.
"""

import asyncio
from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from PIL import Image

from example_site.gallery import files, images, subscribers, watermark
from example_site.gallery.models import Kind, Picture, Rendition
from example_site.notices.tasks import tell_managers
from partisan_async import registry
from partisan_async.config import const
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig
from partisan_async.exceptions import PostponeTask
from partisan_async.limits import Limit
from partisan_async.task_processor import TaskProcessor

EMBARGO = timedelta(seconds=1)
LONGEST_SIDE = {Kind.THUMBNAIL: 160, Kind.MEDIUM: 1000, Kind.LARGE: 2000}  # in pixels


class OfPicture(TaskProcessor):
    """What all of them have in common: where the picture was deleted, there is nothing to do."""

    ON_MISSING = "finish"


@registry.register
class TakeIn(OfPicture):
    """Reads what is in a picture, and enqueues what is to be made of it."""

    UNIQUE_FOR_PARAMS = True  # as it is by default: the same picture twice waits as one task

    def run(self, picture: Picture) -> None:
        image = images.read(files.original(picture), picture.name)
        picture.width, picture.height = image.size
        picture.exif = images.exif(image)
        picture.colours = images.main_colours(image)
        # In one transaction: what is known and what is to be done are there together.
        with transaction.atomic():
            picture.save(update_fields=["width", "height", "exif", "colours"])
            MakeThumbnail(picture).delay()
            MakeRendition(picture, kind=Kind.MEDIUM).delay()
            MakeRendition(picture, kind=Kind.LARGE).delay()
            Publish(picture).delay(execute_after=timezone.now() + EMBARGO)


@registry.register
class MakeThumbnail(OfPicture):
    """Makes what lists show: before anything else, since people look at lists first."""

    PRIORITY = 1

    def run(self, picture: Picture) -> None:
        _keep(picture, Kind.THUMBNAIL, _fitted(picture, Kind.THUMBNAIL))


@registry.register
class MakeRendition(OfPicture):
    """Makes a larger one, when no thumbnail and no new picture waits.

    Each takes much memory, so two at most are made at once, however many workers there are. Uploads
    take turns: one of a thousand pictures does not keep the next one waiting.
    """

    PRIORITY = 20
    LIMIT = Limit(running=2, fair=True)

    def limit_key(self, picture: Picture) -> int | None:
        """Return the upload that a picture came with first."""
        return picture.uploads.order_by("pk").values_list("pk", flat=True).first()

    def run(self, picture: Picture, *, kind: Kind) -> None:
        fitted = _fitted(picture, kind)
        with transaction.atomic():
            _keep(picture, kind, fitted)
            if kind is Kind.LARGE:
                Watermark(picture).delay()


@registry.register
class Watermark(OfPicture):
    """Has a (simulated) service stamp the large rendition; the service times out now and then."""

    # Tried again after 0.5, 1 and 1.5 seconds. Any other error is final.
    RETRY_ON_ERROR_CONFIG = ErrorsHandleConfig(
        retry_on_errors=[TimeoutError],
        retries_count=3,
        retry_pause=0.5,
        retry_pause_strategy=const.DELAY_STRATEGY_INCREMENTAL,
    )

    def run(self, picture: Picture) -> None:
        assert self.task_obj is not None  # it is running
        image = images.read(files.rendition(picture, Kind.LARGE), picture.name)
        stamped = watermark.stamp(image, picture.name, tries=self.task_obj.tries)
        _keep(picture, Kind.WATERMARKED, stamped)


@registry.register
class Publish(OfPicture):
    """Publishes a picture, once all of its renditions are there."""

    POSTPONE_CONFIG = PostponeConfig(max_postpones=300)  # by the pauses below: for over an hour

    def run(self, picture: Picture) -> None:
        assert self.task_obj is not None  # it is running
        kinds = Rendition.objects.filter(picture=picture).values_list("kind", flat=True)
        if set(Kind) - set(kinds):
            # The longer it has waited, the less often it looks.
            raise PostponeTask(0.5 + self.task_obj.postpones / 10)
        with transaction.atomic():
            unpublished = Picture.objects.filter(pk=picture.pk, published_at=None)
            # Of two runs at the same time one changes the row, and that one announces it.
            if unpublished.update(published_at=timezone.now()):
                Announce(picture).delay()
                # One of Django's own tasks, from an app that knows nothing of this package.
                tell_managers.enqueue("A new picture", f"Picture {picture.pk} is published.")


@registry.register
class Announce(OfPicture):
    """Tells the (simulated) subscribers: nearly all of it is waiting, so it is ``async``."""

    QUEUE_NAME = "announcements"

    async def run(self, picture: Picture) -> None:
        async with asyncio.TaskGroup() as group:
            for address in subscribers.ADDRESSES:
                message = subscribers.tell(address, f"New: {picture}", key=f"new {picture.pk}")
                group.create_task(message)
        picture.announced_at = timezone.now()
        await picture.asave(update_fields=["announced_at"])


def _fitted(picture: Picture, kind: Kind) -> Image.Image:
    return images.fitted(images.read(files.original(picture), picture.name), LONGEST_SIDE[kind])


def _keep(picture: Picture, kind: Kind, image: Image.Image) -> None:
    """Write a rendition's file, then its row: whoever sees the row finds the file."""
    files.write(files.rendition(picture, kind), images.as_jpeg(image))
    size = {"width": image.width, "height": image.height}
    Rendition.objects.update_or_create(picture=picture, kind=kind, defaults=size)
