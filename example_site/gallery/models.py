"""Pictures, what is made of them, and by which tasks."""

from django.db import models


class Kind(models.TextChoices):
    """The renditions that each picture has before it is published."""

    THUMBNAIL = "thumbnail"
    MEDIUM = "medium"
    LARGE = "large"
    WATERMARKED = "watermarked"


class Picture(models.Model):
    """A file that was taken in. It may turn out to be no picture; its task's row then says why."""

    name = models.CharField(max_length=255, help_text="the file's, when it came first")
    digest = models.CharField(max_length=64, unique=True, help_text="sha256 of the file")
    width = models.IntegerField(null=True, blank=True)
    height = models.IntegerField(null=True, blank=True)
    exif = models.JSONField(default=dict, blank=True)
    colours = models.JSONField(default=list, blank=True, help_text="the main ones, as #rrggbb")
    created_at = models.DateTimeField(auto_now_add=True)
    published_at = models.DateTimeField(null=True, blank=True)
    announced_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name


class Upload(models.Model):
    """Pictures that came together."""

    name = models.CharField(max_length=255, blank=True, help_text="the folder's, if it was one")
    pictures = models.ManyToManyField(Picture, related_name="uploads")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name or f"Upload {self.pk}"


class Step(models.Model):
    """A task on a picture's way."""

    picture = models.ForeignKey(Picture, on_delete=models.CASCADE, related_name="steps")
    name = models.CharField(max_length=255, help_text="its processor and, of several, which")
    # No foreign key: whoever runs the site may delete the rows of tasks that have ended.
    task_id = models.BigIntegerField(unique=True)

    def __str__(self) -> str:
        return f"{self.name} of {self.picture}"


class Rendition(models.Model):
    """A smaller or stamped copy of a picture."""

    picture = models.ForeignKey(Picture, on_delete=models.CASCADE, related_name="renditions")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    width = models.IntegerField()
    height = models.IntegerField()

    class Meta:
        constraints = [
            # A task may run twice: the second time it finds the row of the first.
            models.UniqueConstraint(fields=["picture", "kind"], name="gallery_one_of_each_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.picture} ({self.kind})"
