"""How far uploads have come, for people to look at: read from the rows of their tasks."""

from collections.abc import Iterable
from dataclasses import dataclass

from example_site.gallery.models import Kind, Picture, Upload
from partisan_async.models import Task

NEWEST = 8
"""So many uploads are shown."""

STEPS = {
    "TakeIn": "Read",
    "MakeThumbnail": "Thumbnail",
    f"MakeRendition {Kind.MEDIUM}": "Medium",
    f"MakeRendition {Kind.LARGE}": "Large",
    "Watermark": "Watermark",
    "Publish": "Publish",
    "Announce": "Announce",
}
"""The tasks on a picture's way, in its order, and what people call them."""

STATES = {
    "to-come": "to come",
    "waiting": "waiting",
    "limited": "waiting its turn",
    "scheduled": "scheduled",
    "in-process": "in process",
    "postponed": "postponed",
    "retrying": "to be tried again",
    "done": "done",
    "failed": "failed",
}


@dataclass(frozen=True)
class StepShown:
    """A task as people see it.

    :param note: what else there is to say, such as how long it took.
    """

    label: str
    state: str = "to-come"
    note: str = ""

    @property
    def state_label(self) -> str:
        return STATES[self.state]


@dataclass(frozen=True)
class PictureShown:
    """A picture as people see it."""

    upload_id: int
    id: int
    name: str
    width: int | None
    height: int | None
    colours: tuple[str, ...]
    kinds: frozenset[str]
    steps: tuple[StepShown, ...]

    @property
    def element_id(self) -> str:
        return f"upload-{self.upload_id}-picture-{self.id}"

    @property
    def reason(self) -> str:
        """Why it failed; empty if it did not."""
        return next((step.note for step in self.steps if step.state == "failed"), "")

    @property
    def state(self) -> str:
        if self.reason:
            return "failed"
        return "done" if self.done == len(self.steps) else "working"

    @property
    def done(self) -> int:
        return sum(step.state == "done" for step in self.steps)


@dataclass(frozen=True)
class UploadShown:
    """An upload as people see it."""

    id: int
    name: str
    pictures: tuple[PictureShown, ...]

    @property
    def element_id(self) -> str:
        return f"upload-{self.id}"

    @property
    def sums(self) -> tuple[int, ...]:
        """What is said of all of its pictures together."""
        return len(self.pictures), self.published, self.failed, self.done, self.most

    @property
    def failed(self) -> int:
        return sum(picture.state == "failed" for picture in self.pictures)

    @property
    def published(self) -> int:
        return sum(picture.state == "done" for picture in self.pictures)

    @property
    def ended(self) -> bool:
        return self.failed + self.published == len(self.pictures)

    @property
    def most(self) -> int:
        """How many tasks there are to do: a picture that failed has none any more."""
        return sum(len(each.steps) for each in self.pictures if each.state != "failed")

    @property
    def done(self) -> int:
        return sum(each.done for each in self.pictures if each.state != "failed")


def newest_uploads() -> list[UploadShown]:
    """Return the newest uploads with all that is shown of them, the newest first."""
    uploads = (
        Upload.objects.filter(pictures__isnull=False)
        .distinct()
        .order_by("-pk")
        .prefetch_related("pictures__renditions", "pictures__steps")[:NEWEST]
    )
    tasks = _tasks(uploads)
    return [
        UploadShown(
            upload.pk,
            str(upload),
            tuple(
                _picture(upload, picture, tasks)
                for picture in sorted(upload.pictures.all(), key=lambda each: each.pk)
            ),
        )
        for upload in uploads
    ]


def _tasks(uploads: Iterable[Upload]) -> dict[int, Task]:
    ids = [
        step.task_id
        for upload in uploads
        for picture in upload.pictures.all()
        for step in picture.steps.all()
    ]
    shown = ("status", "tries", "postpones", "errors", "last_attempted_at", "finished_at")
    return Task.objects.only(*shown).in_bulk(ids)


def _picture(upload: Upload, picture: Picture, tasks: dict[int, Task]) -> PictureShown:
    shown = {name: StepShown(label) for name, label in STEPS.items()}
    for step in sorted(picture.steps.all(), key=lambda each: each.task_id):
        shown[step.name] = _step(STEPS[step.name], tasks.get(step.task_id))
    return PictureShown(
        upload_id=upload.pk,
        id=picture.pk,
        name=picture.name,
        width=picture.width,
        height=picture.height,
        colours=tuple(picture.colours),
        kinds=frozenset(each.kind for each in picture.renditions.all()),
        steps=tuple(shown.values()),
    )


def _step(label: str, task: Task | None) -> StepShown:
    if task is None:
        return StepShown(label, "done")  # rows of tasks that have ended may be deleted
    match task.status:
        case Task.STATUS_NEW:
            return StepShown(label, "waiting")
        case Task.STATUS_LIMITED:
            return StepShown(label, "limited", "since two are made at once, and uploads take turns")
        case Task.STATUS_IN_PROCESS:
            return StepShown(label, "in-process")
        case Task.STATUS_FINISHED:
            return StepShown(label, "done", _how(task))
        case Task.STATUS_ERROR:
            return StepShown(label, "failed", task.errors[-1]["message"])
    if task.tries:
        return StepShown(label, "retrying", task.errors[-1]["message"])
    if task.postpones:
        return StepShown(label, "postponed", "until all the renditions are there")
    return StepShown(label, "scheduled", "for a second later: its embargo")


def _how(task: Task) -> str:
    assert task.finished_at is not None
    assert task.last_attempted_at is not None
    seconds = (task.finished_at - task.last_attempted_at).total_seconds()
    words = [f"in {seconds:.2f} s"]
    if task.tries > 1:
        words.append(f"after {task.tries} tries")
    if task.postpones:
        words.append(f"postponed {task.postpones} times before")
    return ", ".join(words)
