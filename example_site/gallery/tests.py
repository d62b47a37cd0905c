"""What the gallery promises, by the testing kit: no supervisor runs, and nothing sleeps."""

import asyncio
import io
import json
import os
import struct
import zlib
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from unittest import mock

from asgiref.sync import async_to_sync, sync_to_async
from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import StreamingHttpResponse
from django.test import Client, SimpleTestCase, TestCase, TransactionTestCase, override_settings
from django.utils import timezone
from PIL import Image

from example_site.gallery import images, intake, live, progress
from example_site.gallery.models import Kind, Picture, Upload
from example_site.gallery.partisan_tasks import Announce, MakeRendition, Publish, TakeIn
from example_site.notices.tasks import tell_managers
from partisan_async.models import Task
from partisan_async.policy import Failed, Finished, Postponed
from partisan_async.testing import (
    assert_enqueued,
    assert_not_enqueued,
    perform,
    run_pending,
)

HOUR = timedelta(hours=1)
PATIENCE_SECONDS = 10


class WithMedia(SimpleTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.enterContext(override_settings(MEDIA_ROOT=Path(folder.name)))


class TaskTests(WithMedia, TestCase):
    def test_the_same_picture_twice_is_taken_in_once(self) -> None:
        first, second = taken_in("blue"), taken_in("blue")

        self.assertEqual(first, second)
        ran = [each.task.processor_class for each in run_pending()]
        self.assertEqual(ran.count("TakeIn"), 1)

    def test_a_picture_is_published_when_all_of_it_is_there(self) -> None:
        picture = taken_in("blue")

        run_pending(until=timezone.now() + HOUR)

        picture.refresh_from_db()
        self.assertIsNotNone(picture.published_at)
        self.assertIsNotNone(picture.announced_at)
        self.assertEqual({each.kind for each in picture.renditions.all()}, set(Kind))

    def test_until_then_it_waits(self) -> None:
        picture = taken_in("blue")

        self.assertIsInstance(perform(Publish, [picture]).decision, Postponed)
        assert_not_enqueued(Announce)

    def test_larger_ones_wait_for_the_turn_of_their_upload(self) -> None:
        """Of a picture that comes again with another upload, for that of the first."""
        first, second = stored("blue.png", drawn("blue")), stored("red.png", drawn("red"))
        intake.store(Upload.objects.create(), "blue.png", drawn("blue"))
        for picture in (first, second):
            perform(TakeIn, [picture])

        for picture in (first, second):
            upload = picture.uploads.earliest("pk")
            for kind in (Kind.MEDIUM, Kind.LARGE):
                assert_enqueued(MakeRendition, picture=picture, kind=kind, limit_key=upload.pk)

    def test_the_managers_get_a_mail(self) -> None:
        taken_in("blue")

        run_pending(until=timezone.now() + HOUR)

        self.assertEqual([each.subject for each in mail.outbox], ["[Django] A new picture"])
        assert_not_enqueued(tell_managers)

    def test_a_broken_file_says_why(self) -> None:
        picture = stored("cut.png", drawn("blue")[:50])

        ran = perform(TakeIn, [picture])

        assert isinstance(ran.decision, Failed)
        self.assertIn("cut.png is not a picture", ran.decision.failure.message)
        assert_not_enqueued(MakeRendition)

    def test_of_a_picture_that_was_deleted_nothing_is_left_to_do(self) -> None:
        """Whoever runs the site may delete it while its tasks wait."""
        taken_in("blue").delete()

        with self.assertLogs("partisan_async", "INFO") as logged:
            (ran,) = run_pending()

        self.assertEqual(ran.decision, Finished())
        self.assertIn("the gallery.Picture that was passed is gone", "".join(logged.output))


class FileTests(SimpleTestCase):
    """Whoever may upload decides what is in a file, and not what it costs."""

    def test_a_picture_too_large_is_refused_by_its_size(self) -> None:
        """Before it is decoded: of this one there are no pixels at all."""
        for width, height in ((13_300, 13_300), (1, 60_000_000)):
            refused = self.refused("huge.png", header(width, height))

            self.assertIn(f"it has {width:,} × {height:,} pixels", refused)

    def test_one_of_the_most_that_is_taken_is_taken(self) -> None:
        with mock.patch.object(images, "MAX_PIXELS", 40 * 30):
            self.assertEqual(self.read("blue.png", drawn("blue")).size, (40, 30))
        with mock.patch.object(images, "MAX_PIXELS", 40 * 30 - 1):
            self.refused("blue.png", drawn("blue"))

    def test_postscript_runs_no_program(self) -> None:
        """Ghostscript would be run, on what anybody sent."""
        with TemporaryDirectory() as folder:
            program = Path(folder, "gs")
            program.write_text("#!/bin/sh\ntouch $(dirname $0)/ran\n")
            program.chmod(0o755)
            with mock.patch.dict(os.environ, {"PATH": folder + os.pathsep + os.environ["PATH"]}):
                refused = self.refused("fine.eps", EPS)

            self.assertIn("its content is none of JPEG, PNG, GIF, WEBP", refused)
            self.assertFalse(Path(folder, "ran").exists())

    def test_others_that_pillow_knows_are_refused_whatever_their_name(self) -> None:
        for kind in ("TIFF", "BMP", "PCX", "PDF", "ICO", "TGA", "PPM"):
            content = io.BytesIO()
            Image.new("RGB", (40, 30)).save(content, kind)

            self.assertIn("is none of", self.refused(f"{kind}.png", content.getvalue()))

    def test_each_format_that_is_named_is_read(self) -> None:
        for kind in images.FORMATS:
            content = io.BytesIO()
            Image.new("RGB", (40, 30)).save(content, kind)

            self.assertEqual(self.read(kind, content.getvalue()).size, (40, 30))

    def read(self, name: str, content: bytes) -> Image.Image:
        with TemporaryDirectory() as folder:
            path = Path(folder, "content")
            path.write_bytes(content)
            return images.read(path, name)

    def refused(self, name: str, content: bytes) -> str:
        with self.assertRaises(images.NotAPicture) as raised:
            self.read(name, content)
        return str(raised.exception)


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 100 100
%%EndComments
(exploit) run
%%EOF
"""


def header(width: int, height: int) -> bytes:
    """Return the beginning of a PNG of this size, and none of its pixels."""
    size = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = b"IDAT" + zlib.compress(b"")
    chunks = [struct.pack(">I", len(each) - 4) + each for each in (size, end, b"IEND")]
    signed = [each + struct.pack(">I", zlib.crc32(each[4:])) for each in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(signed)


class UploadTests(WithMedia, TestCase):
    def test_it_is_answered_before_it_is_worked_on(self) -> None:
        answer = self.send(file("blue.png", drawn("blue")), file("red.png", drawn("red")))

        self.assertEqual(answer.status_code, 202)
        for picture in Upload.objects.get(pk=answer.json()["upload"]).pictures.all():
            assert_enqueued(TakeIn, picture=picture)

    def test_the_files_of_a_folder_come_one_by_one(self) -> None:
        first = self.send(file("blue.png", drawn("blue")), name="Holiday")
        self.send(file("red.png", drawn("red")), to=first.json()["more"])

        (upload,) = progress.newest_uploads()
        self.assertEqual(upload.name, "Holiday")
        self.assertEqual([each.name for each in upload.pictures], ["blue.png", "red.png"])

    def test_what_is_too_large_or_empty_is_refused_by_name(self) -> None:
        large = file("large.png", bytes(21 * 2**20))

        answer = self.send(large, file("empty.png", b""))

        self.assertEqual(
            answer.json()["refused"],
            ["large.png has 21.0 MB; the most that is taken is 20 MB.", "empty.png is empty."],
        )
        assert_not_enqueued(TakeIn)

    def test_an_upload_takes_so_many_pictures(self) -> None:
        with mock.patch("example_site.gallery.intake.MAX_FILES", 1):
            answer = self.send(file("blue.png", drawn("blue")), file("red.png", drawn("red")))

        refused = ["red.png is one too many: an upload takes 1 pictures."]
        self.assertEqual(answer.json()["refused"], refused)

    def test_a_name_leads_nowhere(self) -> None:
        self.send(file("../../<b>.png", drawn("blue")), name="\0")

        self.assertEqual(Picture.objects.get().name, "<b>.png")
        self.assertContains(self.client.get("/"), "&lt;b&gt;.png")

    def test_a_form_is_led_back_to_the_page(self) -> None:
        data = {"pictures": [file("blue.png", drawn("blue")), file("empty.png", b"")]}

        answer = self.client.post("/uploads/", data, headers={"accept": "text/html"}, follow=True)

        self.assertContains(answer, "blue.png")
        self.assertContains(answer, "empty.png is empty.")

    def test_another_site_cannot_upload(self) -> None:
        client = Client(enforce_csrf_checks=True)

        answer = client.post("/uploads/", {"pictures": file("blue.png", drawn("blue"))})

        self.assertEqual(answer.status_code, 403)

    def send(self, *files: SimpleUploadedFile, name: str = "", to: str = "/uploads/") -> Any:
        data = {"pictures": files, "name": name}
        return self.client.post(to, data, headers={"accept": "application/json"})


class ProgressTests(WithMedia, TestCase):
    def test_it_goes_from_waiting_to_done(self) -> None:
        picture = taken_in("blue")

        self.assertEqual(states()["Read"], "waiting")
        self.assertEqual(states()["Thumbnail"], "to-come")
        perform(TakeIn, [picture])
        self.assertEqual(states()["Thumbnail"], "waiting")
        self.assertEqual(states()["Large"], "limited")
        self.assertContains(self.client.get("/"), "Large: waiting its turn since two are made")
        run_pending()
        self.assertEqual(states()["Read"], "done")
        self.assertIn(states()["Publish"], {"scheduled", "postponed"})
        self.assertEqual(states()["Announce"], "to-come")
        run_pending(until=timezone.now() + HOUR)
        self.assertEqual(set(states().values()), {"done"})
        self.assertContains(self.client.get("/"), "1 published")
        answer = self.client.get(f"/pictures/{picture.pk}/medium.jpg")
        self.assertEqual(Image.open(io.BytesIO(answer.content)).size, (40, 30))

    def test_a_broken_file_says_why(self) -> None:
        TakeIn(stored("cut.png", drawn("blue")[:50])).delay()

        with self.assertLogs("partisan_async", "ERROR"):
            run_pending(errors="keep")

        self.assertEqual(states()["Read"], "failed")
        page = self.client.get("/")
        self.assertContains(page, "cut.png is not a picture that can be read: ")
        self.assertContains(page, "1 failed")

    def test_what_timed_out_is_to_be_tried_again(self) -> None:
        taken_in("blue")

        late = mock.patch("example_site.gallery.watermark.stamp", side_effect=TimeoutError("late"))
        with late, self.assertLogs("partisan_async", "WARNING"):
            run_pending()

        self.assertEqual(states()["Watermark"], "retrying")

    def test_more_pictures_need_no_more_queries(self) -> None:
        upload = Upload.objects.create()
        for colour in ("blue", "red", "green"):
            TakeIn(intake.store(upload, f"{colour}.png", drawn(colour))).delay()
        run_pending()

        with self.assertNumQueries(5):
            progress.newest_uploads()

    def test_rows_of_tasks_may_be_deleted(self) -> None:
        taken_in("blue")
        run_pending(until=timezone.now() + HOUR)

        Task.objects.all().delete()

        self.assertEqual(set(states().values()), {"done"})


class PageTests(WithMedia, TestCase):
    def test_it_is_told_what_changes_and_nothing_else(self) -> None:
        upload = Upload.objects.create()
        blue, _ = (intake.store(upload, f"{each}.png", drawn(each)) for each in ("blue", "red"))
        look = live.Page().look

        self.assertEqual(told(look()), [f"upload-{upload.pk}"])
        self.assertEqual(told(look()), [])
        TakeIn(blue).delay()
        self.assertEqual(told(look()), [f"upload-{upload.pk}-picture-{blue.pk}"])
        run_pending()
        self.assertEqual(
            told(look()), [f"upload-{upload.pk}-head", f"upload-{upload.pk}-picture-{blue.pk}"]
        )

    def test_one_page_too_many_is_told_once_and_asks_again(self) -> None:
        taken_in("blue")

        with mock.patch("example_site.gallery.live.MAX_PAGES", 0):
            stream = cast("StreamingHttpResponse", self.client.get("/events/"))
            text = async_to_sync(read)(stream)

        self.assertTrue(text.startswith("retry: 5000\n"))
        self.assertIn("blue.png", text)


class BellTests(WithMedia, TransactionTestCase):
    async def test_a_page_is_woken_when_a_task_is_committed(self) -> None:
        """It looks by itself, too: too late for this test."""
        picture = await sync_to_async(stored)("blue.png", drawn("blue"))
        with mock.patch("example_site.gallery.live.LOOK_SECONDS", live.IDLE_SECONDS):
            async with asyncio.timeout(PATIENCE_SECONDS), aclosing(live.changes()) as parts:
                await anext(parts)
                await anext(parts)  # woken, since it is listened from now on
                await TakeIn(picture).adelay()
                part = await anext(parts)

        self.assertIn("waiting", part)


async def read(stream: StreamingHttpResponse) -> str:
    return b"".join([part async for part in stream]).decode()


def told(events: str) -> list[str]:
    """Return the ids of the parts of the page that these events are about."""
    lines = events.splitlines()
    return [json.loads(line[len("data: ") :])["id"] for line in lines if line.startswith("data:")]


def states() -> dict[str, str]:
    """Return the state of each step of the one picture."""
    ((picture,),) = (upload.pictures for upload in progress.newest_uploads())
    return {step.label: step.state for step in picture.steps}


def file(name: str, content: bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def drawn(colour: str) -> bytes:
    image = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(image, "PNG")
    return image.getvalue()


def stored(name: str, content: bytes) -> Picture:
    return intake.store(Upload.objects.create(), name, content)


def taken_in(colour: str) -> Picture:
    picture = stored(f"{colour}.png", drawn(colour))
    TakeIn(picture).delay()
    return picture
