"""What the gallery promises, by the testing kit: no supervisor runs, and nothing sleeps."""

import io
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import TestCase, override_settings
from django.utils import timezone
from PIL import Image

from example_site.gallery import intake
from example_site.gallery.models import Kind, Picture
from example_site.gallery.partisan_tasks import Announce, MakeRendition, Publish, TakeIn
from example_site.notices.tasks import tell_managers
from partisan_async.policy import Failed, Postponed
from partisan_async.testing import assert_enqueued, assert_not_enqueued, perform, run_pending

HOUR = timedelta(hours=1)


class GalleryTests(TestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.enterContext(override_settings(MEDIA_ROOT=Path(folder.name)))

    def test_an_upload_is_answered_before_it_is_worked_on(self) -> None:
        upload = SimpleUploadedFile("blue.png", drawn("blue"))

        answer = self.client.post("/pictures/", {"picture": upload})

        self.assertEqual(answer.status_code, 202)
        assert_enqueued(TakeIn, args=[answer.json()["picture"]])

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

        self.assertIsInstance(perform(Publish, [picture.pk]).decision, Postponed)
        assert_not_enqueued(Announce)

    def test_the_managers_get_a_mail(self) -> None:
        taken_in("blue")

        run_pending(until=timezone.now() + HOUR)

        self.assertEqual([each.subject for each in mail.outbox], ["[Django] A new picture"])
        assert_not_enqueued(tell_managers)

    def test_a_broken_file_says_why(self) -> None:
        picture = intake.store("cut.png", drawn("blue")[:50])

        ran = perform(TakeIn, [picture.pk])

        assert isinstance(ran.decision, Failed)
        self.assertIn("cut.png is not a picture", ran.decision.failure.message)
        assert_not_enqueued(MakeRendition)


def drawn(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG")
    return file.getvalue()


def taken_in(colour: str) -> Picture:
    picture = intake.store(f"{colour}.png", drawn(colour))
    TakeIn(picture.pk).delay()
    return picture
