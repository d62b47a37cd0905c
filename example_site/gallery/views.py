"""Pictures in by POST, a list of them by GET: JSON alone."""

from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import View

from example_site.gallery import intake
from example_site.gallery.models import Picture
from example_site.gallery.partisan_tasks import TakeIn

INDEX = """\
The example site of partisan_async: a gallery, whose pictures are worked on by background tasks.

/pictures/   the pictures, as JSON
/admin/      the pictures, and the tasks ("Background tasks") with what became of each

Take one in:  curl -F picture=@FILE {site}pictures/
"""


async def index(request: HttpRequest) -> HttpResponse:
    """Say in plain text what there is."""
    text = INDEX.format(site=request.build_absolute_uri("/"))
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


class Pictures(View):
    """All the pictures."""

    async def get(self, request: HttpRequest) -> JsonResponse:
        """List them, the newest first."""
        pictures = Picture.objects.prefetch_related("renditions").order_by("-pk")
        return JsonResponse({"pictures": [_described(picture) async for picture in pictures]})

    async def post(self, request: HttpRequest) -> JsonResponse:
        """Keep the uploaded file, and leave the work to a task: the answer does not wait for it."""
        upload = request.FILES.get("picture")
        if upload is None:
            wrong = "There is no file; send one as the form field 'picture'."
            return JsonResponse({"error": wrong}, status=400)
        picture = await sync_to_async(intake.store)(upload.name or "unnamed", upload.read())
        task = await TakeIn(picture.pk).adelay()
        return JsonResponse({"picture": picture.pk, "task": task.pk}, status=202)


def _described(picture: Picture) -> dict[str, Any]:
    return {
        "id": picture.pk,
        "name": picture.name,
        "width": picture.width,
        "height": picture.height,
        "colours": picture.colours,
        "exif": picture.exif,
        "renditions": sorted(rendition.kind for rendition in picture.renditions.all()),
        "published_at": picture.published_at,
        "announced_at": picture.announced_at,
    }
